//! How jobs end, and how they are remembered.

use super::{Ended, Ending, Job, Jobs, Now, Recent, State, ToStore, Touched};
use crate::effects::{End, FailedBy, FinishedJob, SpecRecord};
use crate::ids::{FinishNumber, JobId, Timestamp};
use crate::index::{FlowIdx, Slot};
use crate::status::FinalStatus;

impl Jobs {
    /// Ends a job; `elements` is into how many jobs it was expanded. What becomes of its dependents is the caller's.
    pub(crate) fn finish(
        &mut self,
        slot: Slot,
        at: Timestamp,
        ending: Ending,
        elements: Option<u32>,
    ) -> Ended {
        self.touch_record(slot);
        self.set_state(slot, State::Vacant);
        let mut job = self.slab.remove(slot);
        let dependents = std::mem::take(&mut job.dependents);
        let mut record = self.finished_record(&job, at, ending);
        record.elements = elements;
        record.attempts = self.attempts.remove(slot);
        let beside = self.losses.remove(slot);
        if let End::Failed(FailedBy::ElvesLost(_)) = ending.end {
            self.blamed.push((job.id, beside));
        }
        self.recalls.remove(&slot);
        self.forget_deadlines(slot);
        self.delays.forget(slot);
        self.touched[job.touch as usize].now = Now::Finished(Box::new(record));
        self.names.unuse(job.named());
        self.remember(&job, ending);
        Ended { id: job.id, dependents }
    }

    /// Takes in a job that ends at once.
    pub(crate) fn insert_finished(&mut self, job: &Job, created: SpecRecord, at: Timestamp, ending: Ending) {
        let record = self.finished_record(job, at, ending);
        self.touched.push(Touched {
            id: job.id,
            flow: self.flow_of(job).id,
            before: None,
            created: Some(created),
            revived: None,
            waits_for: Vec::new(),
            to_store: ToStore::Record,
            now: Now::Finished(Box::new(record)),
        });
        self.names.unuse(job.named());
        self.remember(job, ending);
    }

    /// Removes a job as if it had never been submitted.
    pub(crate) fn drop_job(&mut self, slot: Slot) {
        self.touch_record(slot);
        self.set_state(slot, State::Vacant);
        let job = self.slab.remove(slot);
        self.attempts.remove(slot);
        self.losses.remove(slot);
        self.recalls.remove(&slot);
        self.forget_deadlines(slot);
        self.delays.forget(slot);
        self.touched[job.touch as usize].now = Now::Dropped;
        self.names.unuse(job.named());
        self.flows.may_be_idle(job.flow);
    }

    fn finished_record(&mut self, job: &Job, at: Timestamp, ending: Ending) -> FinishedJob {
        self.counters.finish = FinishNumber(self.counters.finish.0 + 1);
        FinishedJob {
            head: self.head(job),
            finish_number: self.counters.finish,
            end: ending.end,
            finished_at: at,
            attempt: job.attempt,
            elves_lost: job.elves_lost.into(),
            ran: ending.ran,
            elements: None,
            attempts: Vec::new(),
        }
    }

    /// Counts a job that has just been given its finish number, and keeps it in mind.
    fn remember(&mut self, job: &Job, ending: Ending) {
        let status = ending.end.status();
        let commit = self.commit_next();
        let flow = self.flows.get_mut(job.flow);
        *flow.finished.get_mut(status) += 1;
        flow.recent += 1;
        self.flows.touch(job.flow, commit);
        self.recents.push(Recent {
            id: job.id,
            flow: job.flow,
            digest: job.digest,
            status,
            cause: ending.cause(job.id),
            attempt: job.attempt,
            settled_by: ending.settled_by,
            finish_number: self.counters.finish,
            commit,
        });
    }

    /// A finished job is about to be taken in anew: it neither counts as finished nor is remembered as such.
    pub(crate) fn forget_finished(&mut self, id: &JobId, flow: FlowIdx, status: FinalStatus) {
        let commit = self.commit_next();
        let entry = self.flows.get_mut(flow);
        let count = entry.finished.get_mut(status);
        *count = count.saturating_sub(1);
        if self.recents.remove(id).is_some() {
            entry.recent -= 1;
        }
        self.flows.touch(flow, commit);
    }

    /// Counts a job that has not finished as if it had.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn count_finished(&mut self, flow: FlowIdx, status: FinalStatus) {
        *self.flows.get_mut(flow).finished.get_mut(status) += 1;
    }

    /// Forgets finished jobs beyond what is to be remembered, and then flows.
    pub(crate) fn forget(&mut self, kept: usize) {
        while self.recents.len() > kept {
            let Some(popped) = self.recents.pop() else { break };
            if let Some(recent) = popped {
                self.forgotten = self.forgotten.max(recent.commit);
                self.flows.get_mut(recent.flow).recent -= 1;
                self.flows.may_be_idle(recent.flow);
            }
        }
        self.forgotten = self.forgotten.max(self.flows.forget_idle());
    }
}
