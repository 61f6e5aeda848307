//! Jobs: the unfinished ones with their flows, elves, tasks and queues, and those that finished not long ago.
//!
//! How a job goes from one state to the next, its counts, its queue and its record: all that changes here and nowhere
//! else. What follows from it for other jobs is not known here.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::NewFlow;
use crate::config::Config;
use crate::effects::{End, FailedAttempt, Revived, SpecRecord};
use crate::ids::{
    AssignNumber, Attempt, Commit, FlowId, FlowNumber, JobId, JobNumber, SessionId, Timestamp, Token,
};
use crate::image::{Counters, FlowRecord, JobHead, PastAttempt, Running};
use crate::index::{ElfIdx, FlowIdx, SessionIdx, Slot};
use crate::policy::{Policies, Policy};
use crate::signature::Judged;
use crate::status::FinalCounts;
use crate::suspicion::Suspicion;

mod attempts;
mod check;
mod deadlines;
mod delays;
mod endings;
mod flows;
mod losses;
mod names;
mod pauses;
mod recents;
mod slab;
mod states;
mod touched;
mod traits;

pub(crate) use attempts::Attempts;
use deadlines::Deadlines;
pub(crate) use deadlines::Silence;
use delays::Delays;
pub(crate) use flows::{Flow, Flows};
use losses::Losses;
pub(crate) use names::{Declaration, Elf, FreeSlot, Laden, Names, Queue, Task};
pub(crate) use recents::{Recent, Recents};
pub(crate) use slab::{Edge, Job, Named, Rank, Slab, State, UNTOUCHED};
pub(crate) use touched::{Now, ToStore, Touched};
pub(crate) use traits::TraitSets;

/// A wait for one's own ancestors is told when it is seen so often in a row.
const WAITS_TOLD: u8 = 2;

/// Unfinished jobs by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unfinished {
    pub(crate) pending: u64,
    pub(crate) ready: u64,
    pub(crate) assigned: u64,
    pub(crate) running: u64,
    /// Those whose submission is not sealed.
    pub(crate) unsealed: u64,
}

impl Unfinished {
    /// The count of jobs in this state; none of a slot without a job.
    fn count_of(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Vacant => None,
            State::Unsealed { .. } => Some(&mut self.unsealed),
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::UpstreamFailing => {
                Some(&mut self.pending)
            }
            State::Ready { .. } => Some(&mut self.ready),
            State::Running { is_started: false, .. } => Some(&mut self.assigned),
            State::Running { is_started: true, .. } => Some(&mut self.running),
        }
    }

    /// Counts one more job in this state.
    fn enter(&mut self, state: State) {
        self.count_of(state).into_iter().for_each(|count| *count += 1);
    }

    /// Counts one job less in this state.
    fn leave(&mut self, state: State) {
        self.count_of(state).into_iter().for_each(|count| *count -= 1);
    }
}

/// Why a job ends, with what the record needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) end: End,
    /// Who held it when it ended.
    pub(crate) ran: Option<Running>,
    /// The session whose report ended it; 0 if none did.
    pub(crate) settled_by: SessionId,
}

impl Ending {
    /// Not by a report.
    pub(crate) fn unreported(end: End, ran: Option<Running>) -> Self {
        Self { end, ran, settled_by: SessionId(0) }
    }

    /// The job to name in those that end because of this one.
    fn cause(&self, id: JobId) -> JobId {
        self.end.cause().unwrap_or(id)
    }
}

/// What it takes to take in a job.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) job: Job,
    /// Set if it is new.
    pub(crate) created: Option<SpecRecord>,
    /// Set if it was finished before.
    pub(crate) revived: Option<Revived>,
    /// The jobs to be written as those it waits for.
    pub(crate) waits_for: Vec<JobId>,
    /// Its attempts that are over.
    pub(crate) attempts: Vec<PastAttempt>,
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: JobId,
    /// The jobs that wait for it.
    pub(crate) dependents: Vec<Edge>,
}

/// All jobs in memory.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    slab: Slab,
    flows: Flows,
    names: Names,
    recents: Recents,
    attempts: Attempts,
    losses: Losses,
    deadlines: Deadlines,
    delays: Delays,
    /// The attempts that have failed in the batch, and whose jobs are tried again.
    failed: Vec<FailedAttempt>,
    /// The jobs that the batch has ended because they were lost with their elves, and what ran beside each.
    blamed: Vec<(JobId, Vec<JobId>)>,
    counts: Unfinished,
    /// The numbers given out. The one of sessions is not kept here.
    counters: Counters,
    /// The newest commit that changed something which is forgotten since: what is read from the store must not be
    /// older.
    forgotten: Commit,
    /// The jobs that the batch has changed, each once.
    touched: Vec<Touched>,
    /// Jobs that were started since the last commit.
    starts: Vec<Edge>,
    /// How often unfinished jobs were recalled since the core was made. Most never are.
    recalls: BTreeMap<Slot, u32>,
}

impl std::ops::Index<Slot> for Jobs {
    type Output = Job;

    fn index(&self, slot: Slot) -> &Job {
        &self.slab[slot]
    }
}

/// What is there.
impl Jobs {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self { slab: Slab::new(hash_seed), recents: Recents::new(hash_seed), ..Self::default() }
    }

    /// If nothing is known yet: goes on from these numbers.
    pub(crate) fn begin_at(&mut self, counters: Counters) {
        self.counters = Counters { session: SessionId(0), ..counters };
        self.forgotten = counters.commit;
    }

    pub(crate) fn find(&self, id: &JobId) -> Option<Slot> {
        self.slab.find(id)
    }

    /// The job an edge leads to, if it is still unfinished.
    pub(crate) fn follow(&self, edge: Edge) -> Option<&Job> {
        self.slab.follow(edge)
    }

    /// The edge that leads to a job.
    pub(crate) fn edge_to(&self, slot: Slot) -> Edge {
        self.slab.edge_to(slot)
    }

    /// The attempt a session holds, if it does: its job runs there now under that number.
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "it has the bugs that are planted")
    )]
    pub(crate) fn held_by(
        &self,
        config: &Config,
        session: SessionIdx,
        token: Token,
    ) -> Option<(Slot, AssignNumber)> {
        let slot = self.find(&token.job)?;
        let job = &self.slab[slot];
        let State::Running { session: holder, assign, .. } = job.state else { return None };
        #[cfg(feature = "planted-bugs")]
        if config.leaves_out(crate::config::PlantedBug::OutcomeNotFenced) {
            return (holder == session).then_some((slot, assign));
        }
        (holder == session && job.attempt == token.attempt && token.attempt > Attempt(0))
            .then_some((slot, assign))
    }

    /// How many are unfinished.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Job)> {
        self.slab.iter()
    }

    /// The unfinished ones by where they stand.
    pub(crate) fn counts(&self) -> Unfinished {
        self.counts
    }

    /// The job to name as the cause in those that depend on `failed`, which ended because of `cause`. That one may have
    /// been brought back since, while `failed` was not, because it depends on another that did not end done: then it
    /// is `failed` itself.
    pub(crate) fn cause_to_name(&self, failed: JobId, cause: JobId) -> JobId {
        let is_still_true =
            self.recents.get(&cause).is_some_and(|recent| !recent.status.lets_dependents_go_on());
        if is_still_true { cause } else { failed }
    }

    pub(crate) fn recents(&self) -> &Recents {
        &self.recents
    }

    /// Jobs that can have been running beside an unfinished job when it was lost with its elf.
    pub(crate) fn beside(&self, slot: Slot) -> &[JobId] {
        self.losses.beside(slot)
    }

    pub(crate) fn flows(&self) -> &Flows {
        &self.flows
    }

    pub(crate) fn flow(&self, flow: FlowIdx) -> &Flow {
        self.flows.get(flow)
    }

    pub(crate) fn flow_of(&self, job: &Job) -> &Flow {
        self.flows.get(job.flow)
    }

    /// Whether a job will be cancelled with its flow, and is not assigned.
    pub(crate) fn is_cancelling(&self, job: &Job) -> bool {
        self.flow_of(job).is_cancelling(job.number)
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn elf(&self, elf: ElfIdx) -> &Elf {
        self.names.elf(elf)
    }

    pub(crate) fn queue_of(&self, job: &Job) -> &Queue {
        self.names.queue(job.queue)
    }

    pub(crate) fn task_of(&self, job: &Job) -> &Task {
        self.names.task(self.queue_of(job).task)
    }

    pub(crate) fn head(&self, job: &Job) -> JobHead {
        let (task, traits) = (self.task_of(job), self.names.traits());
        JobHead {
            id: job.id,
            flow: self.flow_of(job).id,
            elf: self.elf(task.elf).name.clone(),
            task: task.name.clone(),
            priority: job.priority,
            labels: traits.labels(job.traits).clone(),
            policy: traits.policy(job.traits),
            number: job.number,
            submitted_at: job.submitted_at,
            shape: self.queue_of(job).kind.shape.clone(),
        }
    }

    /// The numbers given out; that of sessions is 0.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// The commit that will store what is changed now.
    pub(crate) fn commit_next(&self) -> Commit {
        Commit(self.counters.commit.0 + 1)
    }

    /// Whether what the store said then may lack something that is forgotten here.
    pub(crate) fn is_stale(&self, as_of: Commit) -> bool {
        as_of < self.forgotten
    }
}

/// Flows.
impl Jobs {
    pub(crate) fn find_flow(&self, id: FlowId) -> Option<FlowIdx> {
        self.flows.find(id)
    }

    /// Takes in a flow as the store had it at that commit.
    pub(crate) fn insert_flow(&mut self, record: FlowRecord, changed: Commit) -> FlowIdx {
        let id = record.id;
        let flow = self.flows.insert(record, changed);
        self.mark_flow(flow, id)
    }

    /// The index of a flow that is to be [inserted](Self::insert_flow) before anything else is done with it.
    pub(crate) fn expect_flow(&mut self, id: FlowId) -> FlowIdx {
        self.flows.expect(id)
    }

    /// Makes a flow.
    pub(crate) fn new_flow(&mut self, id: FlowId, made: NewFlow, created_at: Timestamp) -> FlowIdx {
        let number = FlowNumber(self.counters.flow.0 + 1);
        self.counters.flow = number;
        let finished = FinalCounts::default();
        let commit = self.commit_next();
        let NewFlow { name, labels, on_behalf_of } = made;
        let (pinned, deleted_at) = (false, None);
        let record =
            FlowRecord { id, name, labels, number, created_at, finished, on_behalf_of, pinned, deleted_at };
        let flow = self.flows.insert(record, commit);
        self.flows.touch(flow, commit);
        self.mark_flow(flow, id)
    }

    /// Sets whether a flow, which the store has so, is kept from being deleted. Returns whether that is new.
    pub(crate) fn pin_flow(&mut self, record: FlowRecord, pinned: bool) -> bool {
        let flow = self.find_flow(record.id).unwrap_or_else(|| self.insert_flow(record, Commit(0)));
        let entry = self.flows.get_mut(flow);
        let is_new = std::mem::replace(&mut entry.pinned, pinned) != pinned;
        if is_new {
            self.flows.touch(flow, self.commit_next());
        }
        is_new
    }

    /// Of a flow, which the store has so, a stub is left.
    pub(crate) fn stub_flow(&mut self, record: FlowRecord, at: Timestamp) {
        let flow = self.find_flow(record.id).unwrap_or_else(|| self.insert_flow(record, Commit(0)));
        self.flows.get_mut(flow).deleted_at = Some(at);
        self.flows.touch(flow, self.commit_next());
    }

    /// Forgets the finished jobs of flows that were deleted, and what was read of them before this batch.
    pub(crate) fn forget_jobs_of(&mut self, flows: &BTreeSet<FlowId>) {
        let flows: BTreeSet<FlowIdx> = flows.iter().filter_map(|id| self.find_flow(*id)).collect();
        if !flows.is_empty() {
            for recent in self.recents.remove_all(|recent| flows.contains(&recent.flow)) {
                self.flows.get_mut(recent.flow).recent -= 1;
            }
            flows.into_iter().for_each(|flow| self.flows.may_be_idle(flow));
        }
        self.forgotten = self.forgotten.max(self.commit_next());
    }

    /// A job of a flow was seen, or not, to wait for a place that its own ancestors hold. Returns whether it is time to tell:
    /// the second time in a row, and once.
    pub(crate) fn see_wait(&mut self, flow: FlowIdx, waits: bool) -> bool {
        let seen = &mut self.flows.get_mut(flow).waits_seen;
        match (waits, *seen) {
            (_, WAITS_TOLD) => false,
            (false, _) => {
                *seen = 0;
                false
            }
            (true, _) => {
                *seen += 1;
                *seen == WAITS_TOLD
            }
        }
    }

    /// A submission to a flow begins.
    pub(crate) fn begin_submission(&mut self, flow: FlowIdx) {
        self.flows.get_mut(flow).submissions += 1;
    }

    /// A submission to a flow is over.
    pub(crate) fn end_submission(&mut self, flow: FlowIdx) {
        self.flows.get_mut(flow).submissions -= 1;
        self.flows.may_be_idle(flow);
    }

    /// The cancellation of a flow begins. Returns up to which job it goes.
    pub(crate) fn begin_cancelling(&mut self, flow: FlowIdx) -> JobNumber {
        let upto = self.counters.job;
        let entry = self.flows.get_mut(flow);
        entry.cancels += 1;
        entry.cancel_upto = upto;
        upto
    }

    /// A cancellation of a flow is over.
    pub(crate) fn end_cancelling(&mut self, flow: FlowIdx) {
        self.flows.get_mut(flow).cancels -= 1;
        self.flows.may_be_idle(flow);
    }

    /// Forgets the flows that nothing keeps.
    pub(crate) fn forget_idle_flows(&mut self) {
        self.flows.forget_idle();
    }
}

/// Names, and who could take what.
impl Jobs {
    /// What a job names that is about to be taken in, which then is one of its users.
    pub(crate) fn use_of(&mut self, head: &JobHead, judged: Judged, suspicion: Suspicion) -> Named {
        self.names.use_of(head, judged, suspicion)
    }

    /// The elf that a session offers.
    pub(crate) fn serve(&mut self, name: &std::sync::Arc<str>, id: SessionId, session: SessionIdx) -> ElfIdx {
        let elf = self.names.intern_elf(name);
        self.names.add_session(elf, id, session);
        elf
    }

    /// The policies of unfinished jobs.
    pub(crate) fn policies_mut(&mut self) -> &mut Policies {
        self.names.traits_mut().policies_mut()
    }

    /// The policy of its own that a job has.
    pub(crate) fn policy(&self, job: &Job) -> Option<&Policy> {
        let traits = self.names.traits();
        traits.policies().get(traits.policy(job.traits))
    }

    /// Names, for sessions and for placing jobs.
    pub(crate) fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }
}

/// The end of a batch.
impl Jobs {
    /// Whether the batch has changed the record of a job.
    pub(crate) fn has_to_store(&self) -> bool {
        self.touched.iter().any(|touched| touched.to_store != ToStore::Nothing)
    }

    /// Takes what the batch has changed of jobs.
    pub(crate) fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    /// Takes the jobs that the batch has ended because they were lost with their elves, and what ran beside each.
    pub(crate) fn take_blamed(&mut self) -> Vec<(JobId, Vec<JobId>)> {
        std::mem::take(&mut self.blamed)
    }

    /// Takes the attempts that have failed in the batch, and whose jobs are tried again.
    pub(crate) fn take_failed(&mut self) -> Vec<FailedAttempt> {
        std::mem::take(&mut self.failed)
    }

    /// A job that was touched has been emitted.
    pub(crate) fn untouch(&mut self, slot: Slot) {
        self.slab[slot].touch = UNTOUCHED;
    }

    /// Takes what the batch has changed of flows.
    pub(crate) fn take_touched_flows(&mut self) -> Vec<FlowRecord> {
        self.flows.take_touched()
    }

    /// Numbers the commit of the batch.
    pub(crate) fn begin_commit(&mut self) {
        self.counters.commit = self.commit_next();
    }
}
