//! How submissions in several parts end: sealed, or dropped.

use crate::effects::{Effects, Refusal, Reply};
use crate::ids::{Clocks, RequestId};
use crate::image::SubmissionRecord;
use crate::index::{Slot, SubmissionIdx};
use crate::jobs::State;
use crate::submissions::Phase;
use crate::submit::Submitting;
use crate::timers::TimerKey;
use crate::work::{Drop, Seal, Work};

impl Submitting<'_> {
    /// A submission waits for its next part.
    pub(super) fn await_part(&mut self, now: Clocks, index: SubmissionIdx) {
        let idle_until = now.steady.after(self.graph.config.submission_idle_max);
        self.graph.timers.set(TimerKey::Idle(index), idle_until);
        self.touch(index);
    }

    /// Seals a submission whose last part has been taken in.
    pub(super) fn begin_seal(&mut self, index: SubmissionIdx, request: RequestId, reply: Reply) {
        self.graph.timers.cancel(TimerKey::Idle(index));
        let jobs = self.submissions.close(index, Phase::Sealing);
        self.touch(index);
        let commit = self.graph.jobs.commit_next();
        let answer = Some((request, reply));
        self.work.push(Work::Seal(Seal { submission: index, jobs, next: 0, answer, commit }));
    }

    /// The record of a submission is to be stored with this batch.
    fn touch(&mut self, index: SubmissionIdx) {
        let entry = &self.submissions[index];
        self.outbox.submission(SubmissionRecord {
            id: entry.id,
            flow: self.graph.jobs.flow(entry.flow).id,
            next_part: entry.next_part,
            sealed: entry.phase == Phase::Sealing,
        });
    }

    /// Drops a submission that is not sealed. Its record goes first, so that no part can be added after a restart,
    /// and its jobs in bounded pieces.
    pub(crate) fn begin_drop(&mut self, index: SubmissionIdx, answer: Option<(RequestId, Refusal)>) {
        self.graph.timers.cancel(TimerKey::Idle(index));
        let jobs = self.submissions.close(index, Phase::Dropping);
        self.outbox.submission_dropped(self.submissions[index].id);
        self.work.push(Work::Drop(Drop { submission: index, jobs, answer }));
    }

    /// Goes on with a sealing by one job. Says whether all were let into the queues before.
    pub(crate) fn go_on_sealing(&mut self, seal: &mut Seal, effects: &mut Effects) -> bool {
        if let Some(&slot) = seal.jobs.get(seal.next) {
            seal.next += 1;
            self.unseal_job(slot);
            return false;
        }
        if let Some(submission) = self.submissions.remove(seal.submission) {
            self.submissions.remember_sealed(submission.id, seal.commit);
            self.graph.jobs.end_submission(submission.flow);
        }
        if let Some((request, reply)) = seal.answer.take() {
            effects.replies.push((request, Ok(reply)));
        }
        true
    }

    fn unseal_job(&mut self, slot: Slot) {
        let State::Unsealed { waiting, .. } = self.graph.jobs[slot].state else { return };
        let state = if waiting == 0 { self.graph.waited(slot) } else { State::Pending { waiting } };
        self.graph.jobs.set_state(slot, state);
        self.graph.propagate_to_sealed(slot);
    }

    /// Goes on with a removal by one job. Says whether all were gone before.
    pub(crate) fn go_on_dropping(&mut self, drop: &mut Drop, effects: &mut Effects) -> bool {
        if let Some(slot) = drop.jobs.pop() {
            self.graph.propagate_to_dropped(slot);
            self.graph.jobs.drop_job(slot);
            return false;
        }
        if let Some(submission) = self.submissions.remove(drop.submission) {
            self.graph.jobs.end_submission(submission.flow);
        }
        if let Some((request, refusal)) = drop.answer.take() {
            effects.replies.push((request, Err(refusal)));
        }
        true
    }
}
