//! What is stored beside what the core does.

use mycelium_core::ids::{FailureId, JobId};

use crate::store::{Batch, BlobUse, Erased, SweptElf};

/// What is stored beside what the core does: uses of blobs that begin and end beside those that come and go with jobs, and
/// what is deleted.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) blob_uses_begun: Vec<BlobUse>,
    pub(crate) blob_uses_ended: Vec<BlobUse>,
    pub(crate) erased: Vec<Erased>,
    /// As failure, job and number.
    pub(crate) occurrences_removed: Vec<(FailureId, JobId, u64)>,
    /// With how often they were seen.
    pub(crate) failures_removed: Vec<(FailureId, u64)>,
    pub(crate) elves_swept: Vec<SweptElf>,
}

impl Beside {
    pub(super) fn weight(&self) -> usize {
        let revisions: usize = self.elves_swept.iter().map(|swept| 1 + swept.revisions.len()).sum();
        let small = self.blob_uses_begun.len() + self.blob_uses_ended.len() + self.occurrences_removed.len();
        1 + self.erased.len() + self.failures_removed.len() + revisions + small / 8
    }

    /// Adds it to a batch.
    pub(in super::super) fn add_to(&mut self, batch: &mut Batch) {
        let Self {
            blob_uses_begun,
            blob_uses_ended,
            erased,
            occurrences_removed,
            failures_removed,
            elves_swept,
        } = self;
        batch.blob_uses_begun.append(blob_uses_begun);
        batch.blob_uses_ended.append(blob_uses_ended);
        batch.erased.append(erased);
        batch.occurrences_removed.append(occurrences_removed);
        batch.failures_removed.append(failures_removed);
        batch.elves_swept.append(elves_swept);
    }
}
