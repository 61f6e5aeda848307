//! The contract between those who orchestrate jobs, the broker, and the elves: package `mycelium.v1`.
//!
//! The `.proto` files beside this crate are the reference; their comments are the documentation of every
//! service, message and field, and appear here as rustdoc. The code is generated at build time, without
//! `protoc`. [`FILE_DESCRIPTOR_SET`] is what gRPC reflection serves and what other languages can generate
//! from.

/// Messages, clients and servers of `mycelium.v1`.
pub use generated::v1;

/// The encoded `google.protobuf.FileDescriptorSet` of `mycelium.v1`, with imports and source comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("mycelium.v1");

pub mod limits;
pub mod reason;

mod generated {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::str_to_string,
        clippy::large_futures,
        rustdoc::invalid_html_tags,
        rustdoc::bare_urls,
        unreachable_pub,
        missing_debug_implementations,
        reason = "generated code follows its generator's style"
    )]
    pub mod v1 {
        tonic::include_proto!("mycelium.v1");
    }
}
