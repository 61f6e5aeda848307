//! Submissions of several parts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{Commit, SubmissionId};
use crate::index::{Arena, FlowIdx, Slot, SubmissionIdx, of};
use crate::invariants::{InvariantViolation, check};

/// How many sealed submissions are remembered, so that a repeated part is recognised without asking the store.
const SEALED_KEPT: usize = 1_024;

/// A submission that is not sealed, or not through with it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: SubmissionId,
    pub(crate) flow: FlowIdx,
    pub(crate) next_part: u32,
    pub(crate) phase: Phase,
    /// Its jobs, in the order of their numbers. Handed over to the work of sealing or dropping.
    pub(crate) jobs: Vec<Slot>,
}

/// Where a submission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for parts, until it has been idle for too long.
    Open,
    /// It is sealed, and its jobs are let into the queues.
    Sealing,
    /// It is dropped, and its jobs are removed.
    Dropping,
}

/// The submissions in memory.
#[derive(Debug, Default)]
pub(crate) struct Submissions {
    arena: Arena<of::Submission, Submission>,
    by_id: BTreeMap<SubmissionId, SubmissionIdx>,
    sealed: BTreeSet<SubmissionId>,
    sealed_order: VecDeque<(SubmissionId, Commit)>,
    /// The newest commit in which a submission was sealed that is forgotten since.
    forgotten: Commit,
}

impl std::ops::Index<SubmissionIdx> for Submissions {
    type Output = Submission;

    fn index(&self, submission: SubmissionIdx) -> &Submission {
        &self.arena[submission]
    }
}

impl Submissions {
    /// None yet; those sealed up to this commit are not remembered.
    pub(crate) fn new(forgotten: Commit) -> Self {
        Self { forgotten, ..Self::default() }
    }

    pub(crate) fn find(&self, id: SubmissionId) -> Option<SubmissionIdx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, submission: SubmissionIdx) -> Option<&Submission> {
        self.arena.get(submission)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubmissionIdx, &Submission)> {
        self.arena.iter()
    }

    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let (all, by_id) = (self.arena.len(), self.by_id.len());
        check(all == by_id, "every submission is found by its id", || format!("{by_id} of {all}"))
    }

    pub(crate) fn insert(&mut self, submission: Submission) -> SubmissionIdx {
        let id = submission.id;
        let index = self.arena.insert(submission);
        self.by_id.insert(id, index);
        index
    }

    /// A job has come with it.
    pub(crate) fn add_job(&mut self, submission: SubmissionIdx, job: Slot) {
        self.arena[submission].jobs.push(job);
    }

    /// Puts its jobs into the order of their numbers.
    pub(crate) fn sort_jobs<N: Ord>(&mut self, submission: SubmissionIdx, number: impl FnMut(&Slot) -> N) {
        self.arena[submission].jobs.sort_unstable_by_key(number);
    }

    /// This part has been taken in.
    pub(crate) fn take_part(&mut self, submission: SubmissionIdx, part: u32) {
        self.arena[submission].next_part = part.saturating_add(1);
    }

    /// It waits for no more parts. Returns its jobs, to be let into the queues or removed.
    pub(crate) fn close(&mut self, submission: SubmissionIdx, phase: Phase) -> Vec<Slot> {
        let entry = &mut self.arena[submission];
        entry.phase = phase;
        std::mem::take(&mut entry.jobs)
    }

    /// It is through with sealing or dropping.
    pub(crate) fn remove(&mut self, submission: SubmissionIdx) -> Option<Submission> {
        let removed = self.arena.remove(submission)?;
        self.by_id.remove(&removed.id);
        Some(removed)
    }

    /// It was sealed with that commit.
    pub(crate) fn remember_sealed(&mut self, id: SubmissionId, commit: Commit) {
        self.sealed.insert(id);
        self.sealed_order.push_back((id, commit));
        if self.sealed_order.len() > SEALED_KEPT
            && let Some((forgotten, commit)) = self.sealed_order.pop_front()
        {
            self.sealed.remove(&forgotten);
            self.forgotten = self.forgotten.max(commit);
        }
    }

    /// Forgets that some were sealed, which are removed with that commit.
    pub(crate) fn forget_sealed(&mut self, ids: &[SubmissionId], commit: Commit) {
        let gone: BTreeSet<SubmissionId> = ids.iter().copied().filter(|id| self.sealed.remove(id)).collect();
        if !gone.is_empty() {
            self.sealed_order.retain(|(id, _)| !gone.contains(id));
        }
        self.forgotten = self.forgotten.max(commit);
    }

    /// Whether it is remembered as sealed.
    pub(crate) fn is_sealed(&self, id: SubmissionId) -> bool {
        self.sealed.contains(&id)
    }

    /// Whether what the store said then of sealed ones may lack one that is forgotten here.
    pub(crate) fn is_stale(&self, as_of: Commit) -> bool {
        as_of < self.forgotten
    }
}
