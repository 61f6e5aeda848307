//! Puts everything that a batch has changed into its effects.

use crate::actions::Actions;
use crate::config::Config;
use crate::deletions::Deletions;
use crate::effects::{Change, Effects, JobRecord, JobWrite};
use crate::ids::{Attempt, JobId};
use crate::image::{Counters, LiveJob};
use crate::index::Slot;
use crate::jobs::{Jobs, Now, State, ToStore, Touched};
use crate::outbox::Outbox;
use crate::propagation::Propagation;
use crate::sessions::Sessions;
use crate::status::Status;
use crate::submissions::Submissions;

/// Emits the changes of a batch.
pub(crate) struct Emitting<'a> {
    pub(crate) config: &'a Config,
    pub(crate) jobs: &'a mut Jobs,
    pub(crate) sessions: &'a Sessions,
    pub(crate) submissions: &'a Submissions,
    pub(crate) propagation: &'a mut Propagation,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) deletions: &'a mut Deletions,
    pub(crate) actions: &'a mut Actions,
}

impl Emitting<'_> {
    pub(crate) fn emit(&mut self, effects: &mut Effects) {
        let records = &mut effects.records;
        records.flows.append(&mut self.jobs.take_touched_flows());
        let policies = self.jobs.policies_mut();
        policies.prune();
        let (mut made, mut dropped) = policies.take_changes();
        records.policies.append(&mut made);
        records.policies_dropped.append(&mut dropped);
        let must_commit = self.outbox.emit_records(records);
        self.propagation.emit(self.config, records);
        self.deletions.emit(records);
        self.actions.emit(records);
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::ActionStepNotStored) {
            records.actions.retain(|action| action.place == 0);
        }
        self.jobs.pauses_mut().emit(self.config, records);
        if must_commit || !records.is_empty() || self.jobs.has_to_store() {
            self.jobs.store_starts();
        }
        effects.failed.append(&mut self.jobs.take_failed());
        effects.blamed.append(&mut self.jobs.take_blamed());
        let touched = self.jobs.take_touched();
        effects.jobs.reserve(touched.len());
        effects.changes.reserve(touched.len());
        for touched in touched {
            self.emit_touched(touched, effects);
        }
        self.outbox.emit_sends(effects);
        if !effects.jobs.is_empty() || !effects.records.is_empty() || must_commit {
            self.jobs.begin_commit();
            effects.counters = Some(Counters { session: self.sessions.last(), ..self.jobs.counters() });
        }
    }

    fn emit_touched(&mut self, touched: Touched, effects: &mut Effects) {
        let Touched { id, flow, before, created, revived, waits_for, to_store, now } = touched;
        match now {
            Now::Live(slot) => {
                self.jobs.untouch(slot);
                let job = &self.jobs[slot];
                let after = job.status().map(|status| (status, job.attempt));
                if let Some((status, attempt)) = after
                    && after != before
                {
                    effects.changes.push(Change { job: id, flow, status, attempt, end: None });
                }
                let after = match to_store {
                    ToStore::Nothing => return,
                    ToStore::Flag => JobRecord::Evaluate,
                    ToStore::Record => JobRecord::Live(self.live_record(slot, waits_for)),
                };
                #[cfg(feature = "planted-bugs")]
                if self.is_left_out(&after, created.is_some()) {
                    return;
                }
                effects.jobs.push(JobWrite { id, flow, created, revived, after });
            }
            Now::Finished(record) => {
                effects.changes.push(Change {
                    job: id,
                    flow,
                    status: Status::Final(record.end.status()),
                    attempt: record.attempt,
                    end: Some(record.end),
                });
                let after = JobRecord::Finished(*record);
                effects.jobs.push(JobWrite { id, flow, created, revived, after });
            }
            // What came and went within the batch never reaches the store.
            Now::Dropped if created.is_some() => {}
            Now::Dropped => {
                effects.jobs.push(JobWrite { id, flow, created, revived, after: JobRecord::Dropped });
            }
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn is_left_out(&self, after: &JobRecord, is_new: bool) -> bool {
        use crate::config::PlantedBug;
        let JobRecord::Live(live) = after else { return false };
        let waits = is_new && !live.waits_for.is_empty();
        (waits && self.config.leaves_out(PlantedBug::SubmissionNotStored))
            || (live.running.is_some() && self.config.leaves_out(PlantedBug::DispatchNotStored))
    }

    fn live_record(&self, slot: Slot, waits_for: Vec<JobId>) -> LiveJob {
        let job = &self.jobs[slot];
        let (waits_for, submission, running) = match job.state {
            State::Unsealed { submission, .. } => (waits_for, Some(self.submissions[submission].id), None),
            State::Pending { .. } | State::UpstreamFailing => (waits_for, None, None),
            State::Running { session, assign, .. } => {
                (Vec::new(), None, self.sessions.running(session, assign))
            }
            State::Vacant | State::Evaluating { .. } | State::Gathering | State::Ready { .. } => {
                (Vec::new(), None, None)
            }
        };
        LiveJob {
            head: self.jobs.head(job),
            digest: job.digest,
            waits_for,
            submission,
            attempt: job.attempt,
            elves_lost: job.elves_lost.into(),
            elves_lost_alone: job.elves_lost_alone.into(),
            beside: self.jobs.beside(slot).to_vec(),
            evaluate: job.evaluate,
            running,
            attempts: if job.attempt > Attempt(0) { self.jobs.attempts(slot).to_vec() } else { Vec::new() },
            expires_at: self.jobs.ends_by(slot),
            queued_at: self.jobs.queued_at(slot),
            tries: self.jobs.tries(slot),
        }
    }
}
