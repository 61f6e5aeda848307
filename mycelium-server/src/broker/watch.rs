//! Who watches jobs, and what they are told after each commit.
//!
//! What waits for watchers is bounded in bytes, for each peer and for all together. Outputs are only kept for them while
//! there is room; later ones are read from the store when they are sent. A watcher for whom too much waits all the same is
//! cut off, and begins with a snapshot again: one of the peer that has taken its part, or else of the one for which most
//! waits.

mod budget;
mod limits;
mod queue;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::Core;
use mycelium_core::effects::{Change, End};
use mycelium_core::ids::{Attempt, Commit, FailureId, FlowId, JobId};
use mycelium_core::status::Status;
use tokio::sync::oneshot;

use self::budget::Fill;
pub(crate) use self::budget::{Budget, Charge, Parts};
pub(crate) use self::limits::WatchLimits;
use self::queue::WatchQueue;
pub(crate) use self::queue::{WatchEvent, WatchEvents};
use super::batch::EndedBy;
use super::limits::Peer;
use super::message::Body;
use crate::documents::cut_message;

/// How many bytes of events may wait for all watchers together.
const QUEUED_BYTES_MAX: usize = 12 * 1024 * 1024;
/// How many changes are remembered for watches that resume, and how many bytes of them.
const REMEMBERED_CHANGES_MAX: usize = 131_072;
const REMEMBERED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// How much of a failure's message a change carries, in bytes.
const FAILURE_MESSAGE_SHOWN: usize = 1_024;

#[derive(Debug, Clone)]
pub(crate) enum WatchScope {
    Flow(FlowId),
    Jobs(Arc<HashSet<JobId>>),
}

/// A caller who wants to watch.
pub(crate) struct WatchStart {
    /// Who watches.
    pub(crate) peer: Peer,
    pub(crate) scope: WatchScope,
    /// Resume after this commit, if it is still remembered.
    pub(crate) from: Option<Commit>,
    pub(crate) wants: WatchWants,
    pub(crate) reply: oneshot::Sender<WatchStarted>,
}

/// What of the changes a watcher wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WatchWants {
    /// Whether it wants outputs.
    pub(crate) outputs: bool,
    /// Whether it wants final statuses alone. Only watches of flows are spared the others here.
    pub(crate) final_only: bool,
}

/// A watch that has begun.
pub(crate) struct WatchStarted {
    /// Whether `events` begins with what happened since the commit to resume from; if not, a snapshot is needed.
    pub(crate) is_resumed: bool,
    pub(crate) events: WatchEvents,
}

#[derive(Debug, Clone)]
pub(crate) struct WatchedChange {
    pub(crate) job: JobId,
    pub(crate) status: Status,
    pub(crate) attempt: Attempt,
    pub(crate) cause: Option<JobId>,
    pub(crate) failure: Option<FailureId>,
    /// The first part of it.
    pub(crate) failure_message: Option<Arc<str>>,
    /// The outputs as they are stored, if they are at hand.
    pub(crate) outputs: Option<Bytes>,
}

impl WatchedChange {
    fn bare_bytes(&self) -> usize {
        size_of::<Self>() + self.failure_message.as_ref().map_or(0, |message| message.len())
    }

    fn bytes(&self) -> usize {
        self.bare_bytes() + self.outputs.as_ref().map_or(0, Bytes::len)
    }

    fn without_outputs(&self) -> Self {
        Self { outputs: None, ..self.clone() }
    }
}

/// What a batch has changed.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The newest commit.
    pub(crate) commit: Commit,
    /// Whether it is the batch's own. Starts of attempts cause none.
    pub(crate) is_stored: bool,
    pub(crate) changes: &'a [Change],
}

#[derive(Clone)]
struct Watcher {
    id: u64,
    queue: Arc<WatchQueue>,
    wants: WatchWants,
}

struct Remembered {
    commit: Commit,
    changes: Vec<(FlowId, WatchedChange)>,
}

impl Remembered {
    fn bytes(&self) -> usize {
        self.changes.iter().map(|(flow, change)| size_of_val(flow) + change.bare_bytes()).sum()
    }
}

/// All watches of a mycelium.
pub(crate) struct Watches {
    next_id: u64,
    queues: HashMap<u64, Arc<WatchQueue>>,
    by_flow: HashMap<FlowId, Vec<Watcher>>,
    by_job: HashMap<JobId, Vec<Watcher>>,
    /// For what waits in the queues.
    queued: Parts,
    /// The latest changes, oldest first, without outputs.
    remembered: VecDeque<Remembered>,
    remembered_changes: usize,
    remembered_bytes: usize,
    /// Everything after this commit is remembered.
    remembered_since: Commit,
}

impl Watches {
    /// No watches; nothing before `commit` is remembered.
    pub(crate) fn new(commit: Commit) -> Self {
        Self {
            next_id: 0,
            queues: HashMap::new(),
            by_flow: HashMap::new(),
            by_job: HashMap::new(),
            queued: Parts::new(QUEUED_BYTES_MAX),
            remembered: VecDeque::new(),
            remembered_changes: 0,
            remembered_bytes: 0,
            remembered_since: commit,
        }
    }

    /// Begins a watch as of `commit`, the newest.
    pub(crate) fn start(&mut self, start: WatchStart, commit: Commit, core: &Core) {
        let part = self.queued.of(start.peer);
        let mut queue = WatchQueue::new(Arc::clone(&part));
        let is_resumed = self.missed(&start, commit).is_some_and(|missed| {
            let unfinished = match &start.scope {
                WatchScope::Flow(flow) => flow_unfinished(core, *flow),
                WatchScope::Jobs(_) => Some(0),
            };
            let event = self.event(commit, queue::coalesce(missed), unfinished, Fill::All);
            let held = event.as_ref().and_then(|event| self.hold(&part, event, Fill::All));
            event.zip(held).is_some_and(|(event, held)| queue.push(&event, &held))
        });
        if !is_resumed {
            // What was missed may have been more than fits.
            queue = WatchQueue::new(part);
        }
        let events = WatchEvents::new(Arc::clone(&queue));
        let id = self.next_id;
        self.next_id += 1;
        let watcher = Watcher { id, queue: Arc::clone(&queue), wants: start.wants };
        self.queues.insert(id, queue);
        match &start.scope {
            WatchScope::Flow(flow) => self.by_flow.entry(*flow).or_default().push(watcher),
            WatchScope::Jobs(jobs) => {
                // That a job is unfinished again is to be known, if not told.
                let watcher = Watcher { wants: WatchWants { final_only: false, ..watcher.wants }, ..watcher };
                for job in jobs.iter() {
                    self.by_job.entry(*job).or_default().push(watcher.clone());
                }
            }
        }
        // If the caller has gone, the events go too, and the watcher with the next change.
        let _gone = start.reply.send(WatchStarted { is_resumed, events });
    }

    fn missed(&self, start: &WatchStart, commit: Commit) -> Option<Vec<WatchedChange>> {
        let from = start.from.filter(|from| *from >= self.remembered_since && *from <= commit)?;
        let watched = |flow: &FlowId, job: &JobId| match &start.scope {
            WatchScope::Flow(watched) => watched == flow,
            WatchScope::Jobs(jobs) => jobs.contains(job),
        };
        let later = self.remembered.iter().filter(|remembered| remembered.commit > from);
        let changes = later.flat_map(|remembered| &remembered.changes);
        Some(
            changes
                .filter(|(flow, change)| watched(flow, &change.job))
                .map(|(_, change)| change.clone())
                .collect(),
        )
    }

    /// Tells what a batch has changed.
    pub(crate) fn tell(
        &mut self,
        told: Told<'_>,
        bodies: &[Body],
        failures: &HashMap<JobId, EndedBy>,
        core: &Core,
    ) {
        let Told { commit, is_stored, changes } = told;
        if changes.is_empty() {
            return;
        }
        let mut remembered = Vec::with_capacity(changes.len());
        let mut of_flows: HashMap<FlowId, Vec<WatchedChange>> = HashMap::new();
        let mut of_watchers: HashMap<u64, (Watcher, Vec<WatchedChange>)> = HashMap::new();
        for change in changes {
            let watched = watched_change(change, failures);
            let with_outputs = || WatchedChange { outputs: outputs_of(change, bodies), ..watched.clone() };
            if self.by_flow.contains_key(&change.flow) {
                of_flows.entry(change.flow).or_default().push(with_outputs());
            }
            for watcher in self.by_job.get(&change.job).into_iter().flatten() {
                let (_, changes) =
                    of_watchers.entry(watcher.id).or_insert_with(|| (watcher.clone(), Vec::new()));
                changes.push(with_outputs());
            }
            remembered.push((change.flow, watched));
        }
        for (flow, changes) in of_flows {
            let unfinished = Some(flow_unfinished(core, flow).unwrap_or(0));
            let Some(mut watchers) = self.by_flow.remove(&flow) else { continue };
            self.tell_all(&mut watchers, commit, &changes, unfinished);
            if !watchers.is_empty() {
                self.by_flow.insert(flow, watchers);
            }
        }
        for (_, (watcher, changes)) in of_watchers {
            // One that is over is let go of with the next watch that begins.
            self.tell_all(&mut vec![watcher], commit, &changes, Some(0));
        }
        // Who has seen the commit before may not have seen what came after it without one, and is told again.
        let commit = if is_stored { commit } else { Commit(commit.0 + 1) };
        self.remember(Remembered { commit, changes: remembered });
    }

    /// Tells the same changes to several watchers. Those that are over go out of the list.
    fn tell_all(
        &mut self,
        watchers: &mut Vec<Watcher>,
        commit: Commit,
        changes: &[WatchedChange],
        unfinished: Option<u64>,
    ) {
        let is_flow_done = unfinished == Some(0);
        let has_outputs = changes.iter().any(|change| change.outputs.is_some());
        // Made once for all, and charged once for each peer.
        let mut made: HashMap<(bool, Fill), Option<Arc<WatchEvent>>> = HashMap::new();
        let mut held: HashMap<(*const Budget, bool, Fill), Option<Arc<Charge>>> = HashMap::new();
        watchers.retain(|watcher| {
            let WatchWants { outputs, final_only } = watcher.wants;
            let wanted = || changes.iter().filter(|change| !final_only || is_final(change));
            if wanted().next().is_none() && !is_flow_done {
                return !watcher.queue.is_over();
            }
            // With outputs while there is half of all room for them, and without them as long as there is any.
            let fills = if outputs && has_outputs { &[Fill::Half, Fill::All][..] } else { &[Fill::All] };
            for fill in fills.iter().copied() {
                let event = made.entry((final_only, fill)).or_insert_with(|| {
                    let changes = match fill {
                        Fill::Half => wanted().cloned().collect(),
                        Fill::All => wanted().map(WatchedChange::without_outputs).collect(),
                    };
                    self.event(commit, changes, unfinished, fill)
                });
                let Some(event) = event else { continue };
                let part = watcher.queue.part();
                let held = held
                    .entry((Arc::as_ptr(part), final_only, fill))
                    .or_insert_with(|| self.hold(part, event, fill));
                if let Some(held) = held {
                    return watcher.queue.push(event, held);
                }
            }
            watcher.queue.cut_off();
            false
        });
    }

    /// An event, if there is room for it. If it is to be made in any case, those for whom most waits are cut off until
    /// there is; `None` if that is of no help.
    fn event(
        &self,
        commit: Commit,
        changes: Vec<WatchedChange>,
        flow_unfinished: Option<u64>,
        fill: Fill,
    ) -> Option<Arc<WatchEvent>> {
        WatchEvent::new(commit, changes, flow_unfinished, |bytes| {
            let whole = self.queued.whole();
            until_room(fill, || whole.try_take_here(bytes, fill), || self.cut_off_heaviest())
        })
    }

    /// Charges a peer for an event that was made for all. As with the event itself, its own watchers make room.
    fn hold(&self, part: &Arc<Budget>, event: &WatchEvent, fill: Fill) -> Option<Arc<Charge>> {
        let take = || part.try_take_here(event.bytes(), fill);
        until_room(fill, take, || self.cut_off_most_of(part)).map(Arc::new)
    }

    /// Cuts off watchers of the peer for which most waits. `false`: nothing waits for any.
    fn cut_off_heaviest(&self) -> bool {
        let waiting = self.queues.values().filter(|queue| queue.bytes() > 0);
        let heaviest = waiting.max_by_key(|queue| queue.part().used());
        heaviest.is_some_and(|queue| self.cut_off_most_of(queue.part()))
    }

    /// Cuts off those of a peer's watchers for which most waits. `false`: nothing waits for any.
    fn cut_off_most_of(&self, part: &Arc<Budget>) -> bool {
        let of_peer = || self.queues.values().filter(|queue| Arc::ptr_eq(queue.part(), part));
        let most = of_peer().map(|queue| queue.bytes()).max().unwrap_or(0);
        if most == 0 {
            return false;
        }
        of_peer().filter(|queue| queue.bytes() >= most.div_ceil(2)).for_each(|queue| queue.cut_off());
        true
    }

    /// Lets go of watchers whose callers have gone, and of those that were cut off.
    pub(crate) fn forget_closed(&mut self) {
        let before = self.queues.len();
        self.queues.retain(|_, queue| !queue.is_over());
        if self.queues.len() == before {
            return;
        }
        let queues = &self.queues;
        let keep = |watchers: &mut Vec<Watcher>| {
            watchers.retain(|watcher| queues.contains_key(&watcher.id));
            !watchers.is_empty()
        };
        self.by_flow.retain(|_, watchers| keep(watchers));
        self.by_job.retain(|_, watchers| keep(watchers));
    }

    fn remember(&mut self, remembered: Remembered) {
        self.remembered_changes += remembered.changes.len();
        self.remembered_bytes += remembered.bytes();
        self.remembered.push_back(remembered);
        while self.remembered_changes > REMEMBERED_CHANGES_MAX || self.remembered_bytes > REMEMBERED_BYTES_MAX
        {
            let Some(oldest) = self.remembered.pop_front() else { break };
            self.remembered_changes -= oldest.changes.len();
            self.remembered_bytes -= oldest.bytes();
            self.remembered_since = oldest.commit;
        }
    }
}

impl Drop for Watches {
    /// The core that they watched is no more: whoever goes on watching begins again.
    fn drop(&mut self) {
        self.queues.values().for_each(|queue| queue.cut_off());
    }
}

/// Takes room. For what can be done without ([`Fill::Half`]) none is made; for all else it is, as long as that helps.
fn until_room(fill: Fill, take: impl Fn() -> Option<Charge>, make_room: impl Fn() -> bool) -> Option<Charge> {
    loop {
        match take() {
            None if fill == Fill::All && make_room() => {}
            taken => return taken,
        }
    }
}

fn flow_unfinished(core: &Core, flow: FlowId) -> Option<u64> {
    core.flow(flow).map(|view| view.n_unfinished())
}

fn is_final(change: &WatchedChange) -> bool {
    matches!(change.status, Status::Final(_))
}

fn watched_change(change: &Change, failures: &HashMap<JobId, EndedBy>) -> WatchedChange {
    let (cause, failure) = match change.end {
        Some(End::UpstreamFailed(cause)) => (Some(cause), None),
        Some(End::Failed(_)) => (None, failures.get(&change.job)),
        Some(End::Done(_) | End::Cancelled | End::Expired(_) | End::Skipped) | None => (None, None),
    };
    WatchedChange {
        job: change.job,
        status: change.status,
        attempt: change.attempt,
        cause,
        failure: failure.map(|ended| ended.failure),
        failure_message: failure.map(|ended| shown(&ended.message)),
        outputs: None,
    }
}

fn shown(message: &Arc<str>) -> Arc<str> {
    if message.len() <= FAILURE_MESSAGE_SHOWN {
        return Arc::clone(message);
    }
    let mut shown = message.as_ref().to_owned();
    cut_message(&mut shown, FAILURE_MESSAGE_SHOWN);
    Arc::from(shown)
}

fn outputs_of(change: &Change, bodies: &[Body]) -> Option<Bytes> {
    match change.end {
        Some(End::Done(attachment)) => match bodies.get(attachment.0 as usize) {
            Some(Body::Outputs { encoded, .. }) => Some(encoded.clone()),
            Some(Body::Spec { .. } | Body::Failure(_)) | None => None,
        },
        Some(End::Failed(_) | End::UpstreamFailed(_) | End::Cancelled | End::Expired(_) | End::Skipped)
        | None => None,
    }
}

#[cfg(test)]
mod tests;
