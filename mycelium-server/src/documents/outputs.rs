//! What a job returned.

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;

use super::{Undecodable, decode};

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

    /// Their names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.outputs.iter().map(|output| output.name.as_str())
    }
}

impl From<Outputs> for v1::Outputs {
    fn from(Outputs(message): Outputs) -> Self {
        message
    }
}
