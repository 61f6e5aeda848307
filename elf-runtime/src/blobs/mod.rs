//! Values too large to travel inline: written to the broker and read from it beside the calls that name them.
//!
//! Blobs have a connection of their own, so that the calls and beats of this process never wait behind them. At most
//! [`TRANSFERS_MAX`](transfer::TRANSFERS_MAX) are on their way at once. What that takes in memory beside the values
//! themselves is what the windows of the connection let in (see `transport/endpoint.rs`), and
//! [`CACHE_BYTES_MAX`](handle::CACHE_BYTES_MAX) for values that may be needed again.

mod blob;
mod cache;
mod confirmed;
mod handle;
mod transfer;
mod values;

pub(crate) use self::blob::{Blob, Digest};
pub(crate) use self::handle::Blobs;
