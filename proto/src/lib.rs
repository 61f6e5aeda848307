//! The contract between those who orchestrate jobs, the broker, and the elves: package `mycelium.v1`.
//!
//! The `.proto` files beside this crate are the reference; their comments are the documentation of every
//! service, message and field, and appear here as rustdoc. The code is generated at build time, without
//! `protoc`. [`FILE_DESCRIPTOR_SET`] is what gRPC reflection serves, and [`FILES`] what other languages can generate
//! from.

/// Messages, clients and servers of `mycelium.v1`.
pub use generated::v1;

/// The encoded `google.protobuf.FileDescriptorSet` of `mycelium.v1` and of what the details of errors are made of
/// (`google.rpc`), with imports and source comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("mycelium.v1");

/// The `.proto` files: the path under which each is imported, and its text. Beside the contract those of `google.rpc` that
/// the details of errors are made of; the well-known types of `google.protobuf` come with every compiler.
pub const FILES: [(&str, &str); 12] = [
    ("google/rpc/error_details.proto", include_str!("../google/rpc/error_details.proto")),
    ("google/rpc/status.proto", include_str!("../google/rpc/status.proto")),
    ("mycelium/v1/action.proto", include_str!("../mycelium/v1/action.proto")),
    ("mycelium/v1/blob_service.proto", include_str!("../mycelium/v1/blob_service.proto")),
    ("mycelium/v1/elf.proto", include_str!("../mycelium/v1/elf.proto")),
    ("mycelium/v1/elf_service.proto", include_str!("../mycelium/v1/elf_service.proto")),
    ("mycelium/v1/failure.proto", include_str!("../mycelium/v1/failure.proto")),
    ("mycelium/v1/job.proto", include_str!("../mycelium/v1/job.proto")),
    ("mycelium/v1/mycelium_service.proto", include_str!("../mycelium/v1/mycelium_service.proto")),
    ("mycelium/v1/pause.proto", include_str!("../mycelium/v1/pause.proto")),
    ("mycelium/v1/store_service.proto", include_str!("../mycelium/v1/store_service.proto")),
    ("mycelium/v1/value.proto", include_str!("../mycelium/v1/value.proto")),
];

pub mod limits;
pub mod notation;
pub mod reason;
pub mod trace;

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
