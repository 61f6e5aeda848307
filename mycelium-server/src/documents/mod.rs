//! Documents: what clients and elves have sent and is stored as it came, encoded. It is decoded here and nowhere else.
//!
//! Each type wraps the message that a document is, so that nothing is copied, and says what readers need to know of it.
//! The message itself is for those who compute with it or send it on.

mod declaration;
mod failure;
mod outputs;
pub(crate) mod policy;
mod spec;
mod text;

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;
use prost::{DecodeError, Message};

use crate::store::BlobDigest;

pub(crate) use declaration::{Declaration, RevisionDocument};
pub(crate) use failure::{Failure, cut_words};
pub(crate) use outputs::Outputs;
pub use spec::Destination;
pub(crate) use spec::{Nodes, Spec};
pub(crate) use text::{cut, cut_message};

/// Bytes that were stored as a document and are none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {error}")]
pub(crate) struct Undecodable {
    /// What they were.
    what: String,
    /// What is wrong with them.
    pub(crate) error: DecodeError,
}

/// The blob that a value stands in.
fn blob_of(payload: &v1::Payload) -> Option<BlobDigest> {
    match &payload.content {
        Some(v1::payload::Content::Blob(blob)) => BlobDigest::from_slice(&blob.digest),
        Some(v1::payload::Content::Inline(_)) | None => None,
    }
}

/// What an attempt of a job has left for those that come after it.
///
/// # Errors
/// If it is none.
pub(crate) fn checkpoint(job: JobId, encoded: Bytes) -> Result<v1::Payload, Undecodable> {
    decode(encoded, || format!("the checkpoint of job {job}"))
}

fn decode<M: Message + Default>(encoded: Bytes, what: impl FnOnce() -> String) -> Result<M, Undecodable> {
    M::decode(encoded).map_err(|error| Undecodable { what: what(), error })
}
