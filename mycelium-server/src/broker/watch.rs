//! Who watches jobs, and what they are told after each commit.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use mycelium_core::Core;
use mycelium_core::effects::{Change, End};
use mycelium_core::ids::{Attempt, Commit, FailureId, FlowId, JobId};
use mycelium_core::status::Status;
use mycelium_proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::batch::EndedBy;
use super::message::Body;

/// How many batches a watcher may lie behind before it is cut off and has to begin with a snapshot again.
const WATCH_QUEUE_BATCHES: usize = 1_024;
/// How many changes are remembered for watches that resume.
const REMEMBERED_CHANGES_MAX: usize = 131_072;

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) enum WatchScope {
    Flow(FlowId),
    Jobs(Arc<HashSet<JobId>>),
}

/// A caller who wants to watch.
pub(crate) struct WatchStart {
    pub(crate) scope: WatchScope,
    /// Resume after this commit, if it is still remembered.
    pub(crate) from: Option<Commit>,
    pub(crate) outputs: bool,
    pub(crate) reply: oneshot::Sender<WatchStarted>,
}

/// A watch that has begun.
pub(crate) struct WatchStarted {
    /// The commit as of which it has begun: `events` brings all that comes after it.
    pub(crate) as_of: Commit,
    /// What happened since the commit to resume from; `None` if a snapshot is needed.
    pub(crate) missed: Option<Vec<WatchedChange>>,
    pub(crate) events: mpsc::Receiver<WatchEvent>,
}

/// What one commit changed of what is watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchEvent {
    pub(crate) commit: Commit,
    pub(crate) changes: Vec<WatchedChange>,
    /// How many jobs of the watched flow are unfinished after it; 0 for a watch of jobs.
    pub(crate) flow_unfinished: u64,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct WatchedChange {
    pub(crate) job: JobId,
    pub(crate) status: Status,
    pub(crate) attempt: Attempt,
    pub(crate) cause: Option<JobId>,
    pub(crate) failure: Option<FailureId>,
    pub(crate) failure_message: Option<Arc<str>>,
    /// The outputs, if they were at hand and asked for.
    pub(crate) outputs: Option<Arc<v1::Outputs>>,
}

struct Watcher {
    id: u64,
    events: mpsc::Sender<WatchEvent>,
    outputs: bool,
}

struct Remembered {
    commit: Commit,
    changes: Vec<(FlowId, WatchedChange)>,
}

/// All watches of a mycelium.
pub(crate) struct Watches {
    next_id: u64,
    by_flow: HashMap<FlowId, Vec<Watcher>>,
    by_job: HashMap<JobId, Vec<Watcher>>,
    /// The latest changes, oldest first, without outputs.
    remembered: VecDeque<Remembered>,
    remembered_changes: usize,
    /// Everything after this commit is remembered.
    remembered_since: Commit,
}

impl Watches {
    /// No watches; nothing before `commit` is remembered.
    pub(crate) fn new(commit: Commit) -> Self {
        Self {
            next_id: 0,
            by_flow: HashMap::new(),
            by_job: HashMap::new(),
            remembered: VecDeque::new(),
            remembered_changes: 0,
            remembered_since: commit,
        }
    }

    /// Begins a watch as of `commit`, the newest.
    pub(crate) fn start(&mut self, start: WatchStart, commit: Commit) {
        let (events, receiver) = mpsc::channel(WATCH_QUEUE_BATCHES);
        let missed = self.missed(&start, commit);
        let id = self.next_id;
        self.next_id += 1;
        let watcher = |events| Watcher { id, events, outputs: start.outputs };
        match &start.scope {
            WatchScope::Flow(flow) => self.by_flow.entry(*flow).or_default().push(watcher(events)),
            WatchScope::Jobs(jobs) => {
                for job in jobs.iter() {
                    let watchers = self.by_job.entry(*job).or_default();
                    watchers.retain(|watcher| !watcher.events.is_closed());
                    watchers.push(watcher(events.clone()));
                }
            }
        }
        // If the caller has gone, the receiver goes too, and the watcher with the next event.
        let _gone = start.reply.send(WatchStarted { as_of: commit, missed, events: receiver });
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

    /// Tells what a commit has changed.
    pub(crate) fn tell(
        &mut self,
        commit: Commit,
        changes: &[Change],
        bodies: &[Body],
        failures: &HashMap<JobId, EndedBy>,
        core: &Core,
    ) {
        if changes.is_empty() {
            return;
        }
        let mut remembered = Vec::with_capacity(changes.len());
        let mut flow_events: HashMap<FlowId, (Vec<WatchedChange>, bool)> = HashMap::new();
        let mut job_events: HashMap<u64, (mpsc::Sender<WatchEvent>, Vec<WatchedChange>)> = HashMap::new();
        for change in changes {
            let watched = watched_change(change, failures);
            let outputs = || outputs_of(change, bodies);
            if !self.by_flow.is_empty() {
                match flow_events.get_mut(&change.flow) {
                    Some((events, wants_outputs)) => {
                        let outputs = if *wants_outputs { outputs() } else { None };
                        events.push(WatchedChange { outputs, ..watched.clone() });
                    }
                    None => {
                        if let Some(watchers) = self.by_flow.get(&change.flow) {
                            let wants_outputs = watchers.iter().any(|watcher| watcher.outputs);
                            let outputs = if wants_outputs { outputs() } else { None };
                            let first = WatchedChange { outputs, ..watched.clone() };
                            flow_events.insert(change.flow, (vec![first], wants_outputs));
                        }
                    }
                }
            }
            if !self.by_job.is_empty()
                && let Some(watchers) = self.by_job.get(&change.job)
            {
                for watcher in watchers {
                    let outputs = if watcher.outputs { outputs() } else { None };
                    let (_, events) =
                        job_events.entry(watcher.id).or_insert_with(|| (watcher.events.clone(), Vec::new()));
                    events.push(WatchedChange { outputs, ..watched.clone() });
                }
            }
            remembered.push((change.flow, watched));
        }
        for (flow, (changes, _)) in flow_events {
            let flow_unfinished = core.flow(flow).map_or(0, |view| view.pending + view.ready + view.running);
            self.tell_flow(flow, &WatchEvent { commit, changes, flow_unfinished });
        }
        for (_, (events, changes)) in job_events {
            // A watcher that is full is cut off by `forget_closed` below: its receiver sees the end of the channel.
            let event = WatchEvent { commit, changes, flow_unfinished: 0 };
            if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event) {
                self.cut_off(&events);
            }
        }
        self.remember(commit, remembered);
    }

    fn tell_flow(&mut self, flow: FlowId, event: &WatchEvent) {
        if let Some(watchers) = self.by_flow.get_mut(&flow) {
            watchers.retain(|watcher| watcher.events.try_send(event.clone()).is_ok());
            if watchers.is_empty() {
                self.by_flow.remove(&flow);
            }
        }
    }

    fn cut_off(&mut self, events: &mpsc::Sender<WatchEvent>) {
        self.by_job.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.events.same_channel(events));
            !watchers.is_empty()
        });
    }

    /// Lets go of watchers whose callers have gone.
    pub(crate) fn forget_closed(&mut self) {
        let keep = |watchers: &mut Vec<Watcher>| {
            watchers.retain(|watcher| !watcher.events.is_closed());
            !watchers.is_empty()
        };
        self.by_flow.retain(|_, watchers| keep(watchers));
        self.by_job.retain(|_, watchers| keep(watchers));
    }

    fn remember(&mut self, commit: Commit, changes: Vec<(FlowId, WatchedChange)>) {
        self.remembered_changes += changes.len();
        self.remembered.push_back(Remembered { commit, changes });
        while self.remembered_changes > REMEMBERED_CHANGES_MAX {
            let Some(oldest) = self.remembered.pop_front() else { break };
            self.remembered_changes -= oldest.changes.len();
            self.remembered_since = oldest.commit;
        }
    }
}

fn watched_change(change: &Change, failures: &HashMap<JobId, EndedBy>) -> WatchedChange {
    let (cause, failure) = match change.end {
        Some(End::UpstreamFailed(cause)) => (Some(cause), None),
        Some(End::Failed(_)) => (None, failures.get(&change.job)),
        Some(End::Done(_) | End::Cancelled | End::Skipped) | None => (None, None),
    };
    WatchedChange {
        job: change.job,
        status: change.status,
        attempt: change.attempt,
        cause,
        failure: failure.map(|ended| ended.failure),
        failure_message: failure.map(|ended| Arc::clone(&ended.message)),
        outputs: None,
    }
}

fn outputs_of(change: &Change, bodies: &[Body]) -> Option<Arc<v1::Outputs>> {
    match change.end {
        Some(End::Done(attachment)) => match bodies.get(attachment.0 as usize) {
            Some(Body::Outputs { outputs, .. }) => Some(Arc::clone(outputs)),
            Some(Body::Spec { .. } | Body::Failure(_)) | None => None,
        },
        Some(End::Failed(_) | End::UpstreamFailed(_) | End::Cancelled | End::Skipped) | None => None,
    }
}
