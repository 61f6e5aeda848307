//! What a job returned.

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;

use super::{Undecodable, blob_of, decode};
use crate::store::BlobDigest;

/// What a job returned, by name.
#[derive(Debug, Default)]
pub(crate) struct Outputs(v1::Outputs);

impl Outputs {
    /// Decodes those of `job`; of no bytes, there are none.
    ///
    /// # Errors
    /// If they are damaged.
    pub(crate) fn decode(job: JobId, encoded: Bytes) -> Result<Self, Undecodable> {
        decode(encoded, || format!("the outputs of job {job}")).map(Self)
    }

    /// Each, in the order in which its task declares them.
    pub(crate) fn all(&self) -> &[v1::NamedOutput] {
        &self.0.outputs
    }

    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&v1::NamedOutput> {
        self.0.outputs.iter().find(|output| output.name == name)
    }

    /// The blobs that they name.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobDigest> {
        self.0.outputs.iter().filter_map(|output| blob_of(output.payload.as_ref()?))
    }

    /// Their names, for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.0.outputs.iter().map(|output| output.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

impl From<v1::Outputs> for Outputs {
    fn from(message: v1::Outputs) -> Self {
        Self(message)
    }
}

impl From<Outputs> for v1::Outputs {
    fn from(Outputs(message): Outputs) -> Self {
        message
    }
}
