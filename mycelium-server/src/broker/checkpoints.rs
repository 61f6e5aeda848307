//! Which jobs have a checkpoint, so that of all others nothing is looked up and nothing removed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mycelium_core::effects::End;
use mycelium_core::ids::JobId;

use crate::store::{self, Batch, JobAfter, JobChange, Reads};

/// How many jobs are read at once.
const PAGE: usize = 4_096;

/// The jobs that have a checkpoint in the store.
#[derive(Debug)]
pub(crate) struct Checkpointed {
    /// Whether there is none.
    is_empty: AtomicBool,
    jobs: RwLock<HashSet<JobId>>,
}

impl Checkpointed {
    pub(crate) fn new() -> Self {
        Self { is_empty: AtomicBool::new(true), jobs: RwLock::default() }
    }

    /// Reads them from the store, in place of what was known.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn load(&self, store: &dyn Reads) -> Result<(), store::Error> {
        let mut jobs = HashSet::new();
        let mut after = None;
        loop {
            let page = store.list_checkpoints(after, PAGE).await?;
            after = page.last().copied();
            let is_last = page.len() < PAGE;
            jobs.extend(page);
            if is_last {
                break;
            }
        }
        let mut known = self.write();
        *known = jobs;
        self.is_empty.store(known.is_empty(), Ordering::Release);
        Ok(())
    }

    /// Those of some jobs that have one.
    pub(crate) fn among(&self, jobs: impl Iterator<Item = JobId>) -> Vec<JobId> {
        if self.is_empty.load(Ordering::Acquire) {
            return Vec::new();
        }
        let known = self.read();
        jobs.filter(|job| known.contains(job)).collect()
    }

    /// Adds to a batch that no checkpoint is kept of jobs that end DONE in it, or are deleted.
    pub(super) fn settle(&self, batch: &mut Batch) {
        if batch.checkpoints.is_empty() && self.is_empty.load(Ordering::Acquire) {
            return;
        }
        let mut over: HashSet<JobId> = batch.erased.iter().map(|erased| erased.head.id).collect();
        let is_done = |change: &&JobChange| match &change.after {
            JobAfter::Finished(finished) => matches!(finished.end, End::Done(_)),
            JobAfter::Live(_) | JobAfter::Evaluate | JobAfter::Dropped => false,
        };
        over.extend(batch.jobs.iter().filter(is_done).map(|change| change.id));
        batch.checkpoints.retain(|record| !over.contains(&record.job));
        batch.checkpoints_removed = self.among(over.into_iter());
    }

    /// A batch was stored.
    pub(super) fn stored(&self, batch: &Batch) {
        if batch.checkpoints.is_empty() && batch.checkpoints_removed.is_empty() {
            return;
        }
        let mut known = self.write();
        known.extend(batch.checkpoints.iter().map(|record| record.job));
        for job in &batch.checkpoints_removed {
            known.remove(job);
        }
        self.is_empty.store(known.is_empty(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashSet<JobId>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<JobId>> {
        self.jobs.write().unwrap_or_else(PoisonError::into_inner)
    }
}
