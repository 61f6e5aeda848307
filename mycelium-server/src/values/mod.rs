//! Value graphs: checked when a job is submitted, computed when it is dispatched, or before if a value decides how the
//! job goes on.
//!
//! Nothing here recurses: graphs come from outside, and may be as deep as their limits allow.

mod check;
mod decide;
mod derive;
mod edges;
mod expand;
#[cfg(test)]
mod fuzz;
mod preview;

pub(crate) use check::{Located, SpecError, check_name, check_spec, locate_payload, refuse_labels};
pub(crate) use decide::{Decision, decide, jobs_computed, jobs_named};
pub(crate) use derive::{
    Derived, DerivedValue, OutputsByJob, ReadBlob, derive_arguments, has_operations, splice_whole,
};
pub(crate) use edges::Edge;
pub(crate) use expand::{ElementsTooLarge, Template, element_digest, element_id};
pub(crate) use preview::{Preview, PreviewError};

/// What tests share.
#[cfg(test)]
mod testing {
    use bytes::Bytes;
    use mycelium_proto::v1;

    use super::ReadBlob;

    /// No blob is there.
    pub(super) struct NoBlobs;

    impl ReadBlob for NoBlobs {
        fn read(&self, _blob: &v1::BlobRef) -> Result<Bytes, mycelium_values::Failure> {
            Err(mycelium_values::Failure::invalid("there is none"))
        }

        fn begin(&self, blob: &v1::BlobRef, _max: usize) -> Result<Bytes, mycelium_values::Failure> {
            self.read(blob)
        }
    }
}
