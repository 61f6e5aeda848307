//! One call, from its first bytes until the last of its answer is taken or given up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Taken;
use super::peers::Peer;
use super::{Refusal, Shared};

/// What is known of a call. It ends when all who work for it have let go.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    /// What its request takes.
    request: Mutex<Option<Taken>>,
    is_worked_on: AtomicBool,
    /// Whether anybody may make it.
    is_open: bool,
}

impl Call {
    /// `is_open`: anybody may make it. Those have a place of their own, so that they take none from others, and a connection
    /// that has nothing else under way gives way to new ones.
    ///
    /// # Errors
    /// If as many calls are under way as there may be.
    pub(super) fn begin(shared: &Arc<Shared>, peer: &Arc<Peer>, is_open: bool) -> Result<Arc<Self>, Refusal> {
        let (under_way, max) = shared.calls(is_open);
        let one_more = |calls| (calls < max).then_some(calls + 1);
        let began = under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        began.map_err(|_full| Refusal::TooManyCalls)?;
        if !is_open {
            peer.begin_call();
        }
        Ok(Arc::new(Self {
            shared: Arc::clone(shared),
            peer: Arc::clone(peer),
            request: Mutex::default(),
            is_worked_on: AtomicBool::new(false),
            is_open,
        }))
    }

    /// What the message takes that is being received; none when it is dealt with.
    pub(super) fn holds(&self, taken: Option<Taken>) {
        // What was held before is given back after the lock.
        let _before =
            std::mem::replace(&mut *self.request.lock().unwrap_or_else(PoisonError::into_inner), taken);
    }

    /// The request is here.
    pub(super) fn begin_work(&self) {
        if !self.is_worked_on.swap(true, Ordering::Relaxed) {
            self.peer.begin_work();
        }
    }

    /// The answer is there.
    pub(super) fn end_work(&self) {
        if self.is_worked_on.swap(false, Ordering::Relaxed) {
            self.peer.end_work();
        }
    }

    /// Counts bytes of the answer that are there.
    pub(super) fn count_answer(&self, bytes: usize) -> Taken {
        let (taken, fits) = self.shared.answers.count(self.peer.id, bytes);
        if !fits {
            // If nobody can be cut, it goes on: what is there is there.
            let _gives_way = self.shared.peers.cut_for(&self.shared.answers);
        }
        taken
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end_work();
        if !self.is_open {
            self.peer.end_call();
        }
        self.shared.calls(self.is_open).0.fetch_sub(1, Ordering::Relaxed);
    }
}
