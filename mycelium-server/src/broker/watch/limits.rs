//! What all watches together may take beside what waits for them in their queues.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::budget::{Budget, Charge};
use crate::broker::CallError;

/// How many bytes the messages on their way to watchers may take, and the buffers they leave behind.
const MESSAGE_BYTES_MAX: usize = 12 * 1024 * 1024;
/// How many bytes the ids of jobs that are watched one by one may take.
const JOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// About what it takes to watch one job, in the tables of the watch and of the owner of the core.
const JOB_BYTES: usize = 192;
/// How many watches read the store at once.
const READS_MAX: usize = 4;

/// See the module.
pub(crate) struct WatchLimits {
    messages: Arc<Budget>,
    jobs: Arc<Budget>,
    reads: Semaphore,
}

impl WatchLimits {
    pub(crate) fn new() -> Self {
        Self {
            messages: Budget::new(MESSAGE_BYTES_MAX),
            jobs: Budget::new(JOB_BYTES_MAX),
            reads: Semaphore::new(READS_MAX),
        }
    }

    /// For messages on their way.
    pub(crate) fn messages(&self) -> Arc<Budget> {
        Arc::clone(&self.messages)
    }

    /// Counts jobs in that are watched one by one, for as long as the charge lives.
    pub(crate) fn admit_jobs(&self, n: usize) -> Result<Charge, CallError> {
        self.jobs.try_take(n.saturating_mul(JOB_BYTES), 0).ok_or(CallError::Busy)
    }

    /// Waits for leave to read the store. Not to be held while the watcher is waited for.
    pub(crate) async fn reading(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.reads.acquire().await.ok()
    }
}
