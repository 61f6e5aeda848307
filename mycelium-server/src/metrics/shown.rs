//! What the owner of a core shows of it to whoever looks, without being asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mycelium_core::Counts;
use tokio::sync::Notify;

/// How a mycelium stands, as of the newest batch.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pending: AtomicU64,
    ready: AtomicU64,
    assigned: AtomicU64,
    running: AtomicU64,
    unsealed: AtomicU64,
    sessions: AtomicU64,
    sizes: Mutex<Sizes>,
    /// Told when somebody wants to know the sizes.
    wanted: Notify,
}

/// How much room a mycelium takes, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sizes {
    /// On disk, with its large values.
    pub(crate) store_bytes: Option<u64>,
    /// How many large values there are, and how many bytes these have.
    pub(crate) blobs: Option<(u64, u64)>,
}

impl Shown {
    pub(super) fn set(&self, counts: &Counts) {
        let Counts { pending, ready, assigned, running, unsealed, sessions, outcomes_stale: _, counters: _ } =
            counts;
        for (place, value) in [
            (&self.pending, pending),
            (&self.ready, ready),
            (&self.assigned, assigned),
            (&self.running, running),
            (&self.unsealed, unsealed),
            (&self.sessions, sessions),
        ] {
            place.store(*value, Ordering::Relaxed);
        }
    }

    /// Unfinished jobs by where they stand.
    pub(super) fn jobs(&self) -> [(&'static str, u64); 5] {
        [
            ("pending", &self.pending),
            ("ready", &self.ready),
            ("assigned", &self.assigned),
            ("running", &self.running),
            ("unsealed", &self.unsealed),
        ]
        .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
    }

    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Sets the sizes that were found.
    pub(crate) fn set_sizes(&self, sizes: Sizes) {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }

    /// The sizes as they were found last, which are looked for anew before long.
    pub(super) fn sizes(&self) -> Sizes {
        self.wanted.notify_one();
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody wants to know the sizes.
    pub(crate) async fn sizes_wanted(&self) {
        self.wanted.notified().await;
    }
}
