//! Submissions of several parts, and the work that is done in bounded pieces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::arena::Arena;
use crate::batch::Now;
use crate::cancel::{CancelExpanded, CancelFlow};
use crate::core::Core;
use crate::effects::{Effects, Refusal, Reply};
use crate::ids::{Clocks, Commit, RequestId, Steady, SubmissionId};
use crate::image::SubmissionRecord;
use crate::slab::{Slot, State};

/// How many sealed submissions are remembered, so that a repeated part is recognised without asking the store.
const SEALED_KEPT: usize = 1_024;

/// A submission that is not sealed, or not through with it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: SubmissionId,
    /// Index of its flow.
    pub(crate) flow: u32,
    pub(crate) next_part: u32,
    pub(crate) phase: Phase,
    /// Its jobs, in the order of their numbers. Handed over to the work of sealing or dropping.
    pub(crate) jobs: Vec<Slot>,
}

/// Where a submission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for parts.
    Open {
        /// When it is dropped if none comes.
        idle_until: Steady,
    },
    /// It is sealed, and its jobs are let into the queues.
    Sealing,
    /// It is dropped, and its jobs are removed.
    Dropping,
}

/// The submissions in memory.
#[derive(Debug)]
pub(crate) struct Submissions {
    pub(crate) arena: Arena<Submission>,
    pub(crate) by_id: BTreeMap<SubmissionId, u32>,
    pub(crate) idle: BTreeSet<(Steady, u32)>,
    sealed: BTreeSet<SubmissionId>,
    sealed_order: VecDeque<(SubmissionId, Commit)>,
    /// The newest commit in which a submission was sealed that is forgotten since.
    pub(crate) forgotten: Commit,
}

impl Submissions {
    pub(crate) fn new(forgotten: Commit) -> Self {
        Self {
            arena: Arena::new(),
            by_id: BTreeMap::new(),
            idle: BTreeSet::new(),
            sealed: BTreeSet::new(),
            sealed_order: VecDeque::new(),
            forgotten,
        }
    }

    fn insert(&mut self, submission: Submission) -> u32 {
        let id = submission.id;
        let phase = submission.phase;
        let index = self.arena.insert(submission);
        self.by_id.insert(id, index);
        if let Phase::Open { idle_until } = phase {
            self.idle.insert((idle_until, index));
        }
        index
    }

    pub(crate) fn is_sealed(&self, id: SubmissionId) -> bool {
        self.sealed.contains(&id)
    }

    pub(crate) fn set_phase(&mut self, index: u32, phase: Phase) {
        let entry = &mut self.arena[index];
        if let Phase::Open { idle_until } = std::mem::replace(&mut entry.phase, phase) {
            self.idle.remove(&(idle_until, index));
        }
        if let Phase::Open { idle_until } = phase {
            self.idle.insert((idle_until, index));
        }
    }

    fn remove(&mut self, index: u32) -> Option<Submission> {
        let submission = self.arena.remove(index)?;
        self.by_id.remove(&submission.id);
        Some(submission)
    }

    fn remember_sealed(&mut self, id: SubmissionId, commit: Commit) {
        self.sealed.insert(id);
        self.sealed_order.push_back((id, commit));
        if self.sealed_order.len() > SEALED_KEPT
            && let Some((forgotten, commit)) = self.sealed_order.pop_front()
        {
            self.sealed.remove(&forgotten);
            self.forgotten = self.forgotten.max(commit);
        }
    }
}

/// Something that may take longer than one batch should.
#[derive(Debug)]
pub(crate) enum Work {
    /// A flow is cancelled.
    Cancel(CancelFlow),
    /// Jobs are cancelled that were expanded over a list, and before them the jobs of its elements.
    CancelExpanded(CancelExpanded),
    /// The jobs of a sealed submission are let into the queues.
    Seal(Seal),
    /// The jobs of a dropped submission are removed, the latest first.
    Drop(Drop),
    /// An answer that waits for the settlings that were under way when it was given.
    Reply {
        /// Where it goes.
        request: RequestId,
        /// The answer.
        answer: Result<Reply, Refusal>,
    },
}

/// The sealing of a submission, under way.
#[derive(Debug)]
pub(crate) struct Seal {
    pub(crate) submission: u32,
    pub(crate) jobs: Vec<Slot>,
    pub(crate) next: usize,
    /// The answer to who sealed it; `None` after a restart.
    pub(crate) answer: Option<(RequestId, Reply)>,
    pub(crate) commit: Commit,
}

/// The removal of a submission, under way.
#[derive(Debug)]
pub(crate) struct Drop {
    pub(crate) submission: u32,
    pub(crate) jobs: Vec<Slot>,
    /// The answer to who caused it; `None` if time did.
    pub(crate) answer: Option<(RequestId, Refusal)>,
}

impl Core {
    /// Takes in a submission.
    pub(crate) fn insert_submission(&mut self, submission: Submission) -> u32 {
        self.flows.arena[submission.flow].submissions += 1;
        self.submissions.insert(submission)
    }

    /// Seals a submission whose last part has been taken in.
    pub(crate) fn begin_seal(&mut self, index: u32, request: RequestId, reply: Reply) {
        self.submissions.set_phase(index, Phase::Sealing);
        let jobs = std::mem::take(&mut self.submissions.arena[index].jobs);
        self.touch_submission(index);
        let seal = Seal {
            submission: index,
            jobs,
            next: 0,
            answer: Some((request, reply)),
            commit: self.commit_next(),
        };
        self.work.push_back(Work::Seal(seal));
    }

    /// The record of a submission is to be stored with this batch.
    pub(crate) fn touch_submission(&mut self, index: u32) {
        let entry = &self.submissions.arena[index];
        let record = SubmissionRecord {
            id: entry.id,
            flow: self.flows.arena[entry.flow].id,
            next_part: entry.next_part,
            sealed: entry.phase == Phase::Sealing,
        };
        self.batch.submissions.insert(entry.id, record);
    }

    /// Drops a submission that is not sealed. Its record goes first, so that no part can be added after a restart,
    /// and its jobs in bounded pieces.
    pub(crate) fn begin_drop(&mut self, index: u32, answer: Option<(RequestId, Refusal)>) {
        self.submissions.set_phase(index, Phase::Dropping);
        let entry = &mut self.submissions.arena[index];
        let jobs = std::mem::take(&mut entry.jobs);
        let id = entry.id;
        self.batch.submissions.remove(&id);
        self.batch.submissions_dropped.push(id);
        self.work.push_back(Work::Drop(Drop { submission: index, jobs, answer }));
    }

    /// Drops the submissions that have waited too long for a part.
    pub(crate) fn drop_idle_submissions(&mut self, now: Clocks) {
        while let Some(&(until, index)) = self.submissions.idle.first()
            && until <= now.steady
        {
            self.begin_drop(index, None);
        }
    }

    /// Goes on with what may take long, as far as the bound of a batch allows. Settling goes first: what waits behind
    /// it may count on its end.
    pub(crate) fn go_on_with_work(&mut self, now: Clocks, effects: &mut Effects) {
        let mut budget = self.step_max();
        loop {
            self.go_on_settling(now, &mut budget);
            if !self.settles.is_empty() || budget == 0 {
                return;
            }
            let Some(mut work) = self.work.pop_front() else { return };
            budget -= 1;
            let is_done = match &mut work {
                Work::Cancel(cancel) => self.go_on_cancelling(now, cancel, effects),
                Work::CancelExpanded(cancel) => self.go_on_cancelling_expanded(now, cancel, effects),
                Work::Seal(seal) => self.go_on_sealing(seal, effects),
                Work::Drop(drop) => self.go_on_dropping(drop, effects),
                Work::Reply { request, answer } => {
                    effects.replies.push((*request, answer.clone()));
                    true
                }
            };
            if !is_done {
                self.work.push_front(work);
            }
        }
    }

    fn go_on_sealing(&mut self, seal: &mut Seal, effects: &mut Effects) -> bool {
        if let Some(&slot) = seal.jobs.get(seal.next) {
            seal.next += 1;
            self.unseal_job(slot);
            return false;
        }
        if let Some(submission) = self.submissions.remove(seal.submission) {
            self.submissions.remember_sealed(submission.id, seal.commit);
            self.flows.arena[submission.flow].submissions -= 1;
            self.flows.may_be_idle(submission.flow);
        }
        if let Some((request, reply)) = seal.answer.take() {
            effects.replies.push((request, Ok(reply)));
        }
        true
    }

    fn unseal_job(&mut self, slot: Slot) {
        let State::Unsealed { waiting, .. } = self.slab[slot].state else { return };
        let state = if waiting == 0 { self.waited(slot) } else { State::Pending { waiting } };
        self.set_state(slot, state);
        self.list_if_shown(slot);
        self.settle_parked(slot);
    }

    fn go_on_dropping(&mut self, drop: &mut Drop, effects: &mut Effects) -> bool {
        if let Some(slot) = drop.jobs.pop() {
            self.drop_job(slot);
            return false;
        }
        if let Some(submission) = self.submissions.remove(drop.submission) {
            self.flows.arena[submission.flow].submissions -= 1;
            self.flows.may_be_idle(submission.flow);
        }
        if let Some((request, refusal)) = drop.answer.take() {
            effects.replies.push((request, Err(refusal)));
        }
        true
    }

    fn drop_job(&mut self, slot: Slot) {
        self.drop_parked(slot);
        self.touch_record(slot);
        self.set_state(slot, State::Vacant);
        let job = self.slab.remove(slot);
        self.batch.touched[job.touch as usize].now = Now::Dropped;
        self.names.unuse_task(job.task);
        self.flows.may_be_idle(job.flow);
    }
}
