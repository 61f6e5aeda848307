//! What has happened and waits for a watcher to take it: bounded in bytes, for each peer and for all together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mycelium_core::ids::{Commit, JobId};
use tokio::sync::Notify;

use super::WatchedChange;
use super::budget::{Budget, Charge};

/// How many commits a watcher may lie behind.
const EVENTS_MAX: usize = 1_024;
/// About what an event takes in the queue of each watcher that waits for it.
const PLACE_BYTES: usize = 64;

/// What one commit changed of what is watched. Shared by those who watch the same.
#[derive(Debug)]
pub(crate) struct WatchEvent {
    pub(crate) commit: Commit,
    pub(crate) changes: Vec<WatchedChange>,
    /// How many jobs of the watched flow are unfinished after it, and 0 for a watch of jobs; `None` if the core knows of no
    /// such flow.
    pub(crate) flow_unfinished: Option<u64>,
    bytes: usize,
    _charge: Charge,
}

impl WatchEvent {
    /// An event that is charged on a budget as it may be.
    pub(super) fn new(
        commit: Commit,
        changes: Vec<WatchedChange>,
        flow_unfinished: Option<u64>,
        charge: impl FnOnce(usize) -> Option<Charge>,
    ) -> Option<Arc<Self>> {
        let bytes = changes.iter().map(WatchedChange::bytes).sum();
        Some(Arc::new(Self { commit, changes, flow_unfinished, bytes, _charge: charge(bytes)? }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn bytes_in_queue(&self) -> usize {
        self.bytes + PLACE_BYTES
    }
}

/// The events that wait for one watcher: the driver's end.
#[derive(Debug)]
pub(super) struct WatchQueue {
    /// What its peer may take of the budget for what waits.
    part: Arc<Budget>,
    state: Mutex<State>,
    news: Notify,
}

/// An event in the queue of a watcher.
#[derive(Debug)]
struct Waiting {
    event: Arc<WatchEvent>,
    /// What the peer was charged for it, once for all of its watchers; `None` if the event's own charge is the peer's.
    _held: Option<Arc<Charge>>,
    _place: Charge,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Waiting>,
    /// How many changes of the first event have been told.
    told: usize,
    bytes: usize,
    /// The watcher has fallen behind, or the core was rebuilt: nothing will come any more.
    is_cut_off: bool,
    /// The watcher has gone.
    is_closed: bool,
}

impl State {
    fn clear(&mut self) {
        self.events = VecDeque::new();
        (self.told, self.bytes) = (0, 0);
    }

    fn pop(&mut self) {
        let Some(Waiting { event, .. }) = self.events.pop_front() else { return };
        self.told = 0;
        self.bytes -= event.bytes_in_queue();
    }
}

impl WatchQueue {
    pub(super) fn new(part: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { part, state: Mutex::default(), news: Notify::new() })
    }

    /// What its peer may take of the budget for what waits.
    pub(super) fn part(&self) -> &Arc<Budget> {
        &self.part
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has left at worst a wrong count.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody takes events from it any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.is_closed || state.is_cut_off
    }

    /// How much waits in it.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Adds an event, with what the peer was charged for it. `false`: the watcher has gone, or is cut off, by this event
    /// perhaps.
    pub(super) fn push(&self, event: &Arc<WatchEvent>, held: &Arc<Charge>) -> bool {
        let mut state = self.state();
        if state.is_closed || state.is_cut_off {
            return false;
        }
        let is_full = state.events.len() >= EVENTS_MAX;
        if is_full {
            state.is_cut_off = true;
            state.clear();
        } else {
            let waiting = self.waiting(event, Some(held));
            state.bytes += event.bytes_in_queue();
            state.events.push_back(waiting);
        }
        drop(state);
        self.news.notify_one();
        !is_full
    }

    fn waiting(&self, event: &Arc<WatchEvent>, held: Option<&Arc<Charge>>) -> Waiting {
        Waiting { event: Arc::clone(event), _held: held.cloned(), _place: self.part.take(PLACE_BYTES) }
    }

    /// Lets the watcher begin again; what waits for it goes.
    pub(super) fn cut_off(&self) {
        let mut state = self.state();
        state.is_cut_off = true;
        state.clear();
        drop(state);
        self.news.notify_one();
    }
}

/// The events that wait for one watcher: the watcher's end.
#[derive(Debug)]
pub(crate) struct WatchEvents {
    queue: Arc<WatchQueue>,
}

/// Some of the changes of an event.
#[derive(Debug)]
pub(crate) struct WatchPiece {
    event: Arc<WatchEvent>,
    from: usize,
}

impl WatchPiece {
    pub(crate) fn event(&self) -> &WatchEvent {
        &self.event
    }

    /// What has not been told of it.
    pub(crate) fn changes(&self) -> &[WatchedChange] {
        self.event.changes.get(self.from..).unwrap_or_default()
    }
}

impl WatchEvents {
    pub(super) fn new(queue: Arc<WatchQueue>) -> Self {
        Self { queue }
    }

    #[cfg(test)]
    pub(super) fn queue(&self) -> &WatchQueue {
        &self.queue
    }

    /// What is to be told next of the oldest event. It stays until [`told`](Self::told). `None`: the watcher was cut off.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&self) -> Option<WatchPiece> {
        loop {
            {
                let state = self.queue.state();
                if state.is_cut_off {
                    return None;
                }
                if let Some(Waiting { event, .. }) = state.events.front() {
                    return Some(WatchPiece { event: Arc::clone(event), from: state.told });
                }
            }
            self.queue.news.notified().await;
        }
    }

    /// So many of the changes of `piece` have been told; its event goes once all have.
    pub(crate) fn told(&self, piece: &WatchPiece, n: usize) {
        let mut state = self.queue.state();
        // If the watcher was cut off meanwhile, there is nothing to forget.
        if state.events.front().is_some_and(|waiting| Arc::ptr_eq(&waiting.event, &piece.event)) {
            state.told = piece.from + n;
            if state.told >= piece.event.changes.len() {
                state.pop();
            }
        }
    }

    /// Makes one event of all that wait: what happened while a snapshot was taken, each job's last change. `commit` and
    /// `unfinished` are what was true when the snapshot had been taken.
    ///
    /// The queue may hold what was committed since, too: its word on the flow is the later one, and if that was the
    /// flow's last change, no other will come.
    pub(crate) fn merge(&self, mut commit: Commit, mut unfinished: Option<u64>) {
        let events = {
            let mut state = self.queue.state();
            let events = std::mem::take(&mut state.events);
            state.clear();
            events
        };
        let mut changes = Vec::new();
        for Waiting { event, .. } in &events {
            commit = commit.max(event.commit);
            unfinished = event.flow_unfinished;
            changes.extend(event.changes.iter().cloned());
        }
        drop(events);
        // What was charged before is charged again.
        let charge = |bytes| Some(self.queue.part.take(bytes));
        let Some(merged) = WatchEvent::new(commit, coalesce(changes), unfinished, charge) else { return };
        let waiting = self.queue.waiting(&merged, None);
        let mut state = self.queue.state();
        if !state.is_cut_off {
            state.bytes += merged.bytes_in_queue();
            state.events.push_front(waiting);
        }
    }
}

impl Drop for WatchEvents {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.is_closed = true;
        state.clear();
    }
}

/// Keeps the last change of each job, in the order of first changes.
pub(super) fn coalesce(changes: Vec<WatchedChange>) -> Vec<WatchedChange> {
    let mut places: HashMap<JobId, usize> = HashMap::with_capacity(changes.len());
    let mut kept: Vec<WatchedChange> = Vec::with_capacity(changes.len());
    for change in changes {
        match places.get(&change.job) {
            Some(place) => kept[*place] = change,
            None => {
                places.insert(change.job, kept.len());
                kept.push(change);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests;
