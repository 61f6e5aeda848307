//! What watches may take beside what waits for them in their queues: all together, and those of each peer.

use std::sync::Arc;

use super::budget::{Budget, Charge, Parts};
use crate::broker::{CallError, Peer};
use crate::fair::{Turn, Turns};

/// How many bytes the messages on their way to watchers may take, and the buffers they leave behind.
const MESSAGE_BYTES_MAX: usize = 12 * 1024 * 1024;
/// How many bytes the ids of jobs that are watched one by one may take.
const JOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// About what it takes to watch one job, in the tables of the watch and of the owner of the core.
const JOB_BYTES: usize = 192;
/// How many watches read the store at once.
const READS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct WatchLimits {
    messages: Parts,
    jobs: Parts,
    reads: Turns<Peer>,
}

impl WatchLimits {
    pub(crate) fn new() -> Self {
        Self {
            messages: Parts::new(MESSAGE_BYTES_MAX),
            jobs: Parts::new(JOB_BYTES_MAX),
            reads: Turns::new(READS_MAX),
        }
    }

    /// What is taken of each budget, and how much there is of it.
    pub(crate) fn usage(&self) -> [(&'static str, (u64, u64)); 2] {
        let of = |parts: &Parts, max: usize| (parts.whole().used() as u64, max as u64);
        [
            ("watch_messages", of(&self.messages, MESSAGE_BYTES_MAX)),
            ("watched_jobs", of(&self.jobs, JOB_BYTES_MAX)),
        ]
    }

    /// For messages on their way to a peer.
    pub(crate) fn messages(&self, peer: Peer) -> Arc<Budget> {
        self.messages.of(peer)
    }

    /// Counts jobs in that a peer watches one by one, for as long as the charge lives.
    pub(crate) fn admit_jobs(&self, peer: Peer, n: usize) -> Result<Charge, CallError> {
        self.jobs.of(peer).try_take(n.saturating_mul(JOB_BYTES)).ok_or(CallError::Busy)
    }

    /// Waits for a turn at reading the store. Not to be held while the watcher is waited for.
    pub(crate) async fn reading(&self, peer: Peer) -> Turn<Peer> {
        self.reads.turn(peer, 1).await
    }
}
