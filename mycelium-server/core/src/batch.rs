//! What a batch has changed, put together so that each record is stored once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::effects::{
    Assignment, Change, Effects, FinishedJob, JobRecord, JobWrite, Revived, Send, SpecRecord,
};
use crate::ids::{AssignNumber, Attempt, FlowId, JobId, SessionId, Token};
use crate::image::{JobHead, LiveJob, Running, SessionRecord, SubmissionRecord};
use crate::slab::{Job, Slot, State, UNTOUCHED};
use crate::status::Status;

/// What has come up since the last batch ended.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) touched: Vec<Touched>,
    /// The shell has something to store beside (what an instance has said it offers): there is a commit even if nothing
    /// else changes.
    pub(crate) must_commit: bool,
    pub(crate) sessions_opened: Vec<SessionRecord>,
    pub(crate) sessions_ended: Vec<SessionId>,
    pub(crate) submissions: BTreeMap<crate::ids::SubmissionId, SubmissionRecord>,
    pub(crate) submissions_dropped: Vec<crate::ids::SubmissionId>,
    pub(crate) cancels: BTreeMap<SessionId, Vec<Token>>,
    pub(crate) assigns: BTreeMap<SessionId, (AssignNumber, Vec<Assignment>)>,
}

/// A job that the batch has changed.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) id: JobId,
    pub(crate) flow: FlowId,
    /// How it showed before the batch; `None` if it did not.
    pub(crate) before: Option<(Status, Attempt)>,
    pub(crate) created: Option<SpecRecord>,
    pub(crate) revived: Option<Revived>,
    /// The jobs to be written as those it waits for.
    pub(crate) waits_for: Vec<JobId>,
    pub(crate) stored: Stored,
    pub(crate) now: Now,
}

/// What of a job that was touched is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stored {
    /// Nothing: only its status has changed.
    Nothing,
    /// That it is to be evaluated. The jobs it waits for are not known any more; they stay as they were stored.
    Flag,
    /// Its record.
    Record,
}

/// Where a job that was touched is now.
#[derive(Debug)]
pub(crate) enum Now {
    /// Still unfinished.
    Live(Slot),
    /// Finished with this batch.
    Finished(Box<FinishedJob>),
    /// Dropped with its submission.
    Dropped,
}

impl Core {
    /// How a job shows. `None` while its submission is not sealed.
    pub(crate) fn status_shown(job: &Job) -> Option<Status> {
        match job.state {
            State::Vacant | State::Unsealed { .. } => None,
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Doomed => {
                Some(Status::Pending)
            }
            State::Ready { .. } => Some(Status::Ready),
            State::Running { .. } => Some(Status::Running),
        }
    }

    /// Notes that a job is about to change.
    pub(crate) fn touch(&mut self, slot: Slot) -> &mut Touched {
        let job = &mut self.slab[slot];
        if job.touch == UNTOUCHED {
            job.touch = u32::try_from(self.batch.touched.len()).expect("a batch is bounded");
            let before = Self::status_shown(job).map(|status| (status, job.attempt));
            self.batch.touched.push(Touched {
                id: job.id,
                flow: self.flows.arena[job.flow].id,
                before,
                created: None,
                revived: None,
                waits_for: Vec::new(),
                stored: Stored::Nothing,
                now: Now::Live(slot),
            });
        }
        &mut self.batch.touched[job.touch as usize]
    }

    /// Notes that a job's record is to be stored.
    pub(crate) fn touch_record(&mut self, slot: Slot) -> &mut Touched {
        let touched = self.touch(slot);
        touched.stored = Stored::Record;
        touched
    }

    /// Notes that it is to be stored that a job is to be evaluated.
    pub(crate) fn touch_flag(&mut self, slot: Slot) {
        let touched = self.touch(slot);
        touched.stored = touched.stored.max(Stored::Flag);
    }

    /// Puts everything that the batch has changed into its effects.
    pub(crate) fn emit_batch(&mut self, effects: &mut Effects) {
        let batch = std::mem::take(&mut self.batch);
        effects.jobs.reserve(batch.touched.len());
        effects.changes.reserve(batch.touched.len());
        for touched in batch.touched {
            self.emit_touched(touched, effects);
        }
        let records = &mut effects.records;
        records.flows.append(&mut self.flows.take_touched());
        records.sessions_opened.extend(batch.sessions_opened);
        records.sessions_ended.extend(batch.sessions_ended);
        records.submissions.extend(batch.submissions.into_values());
        records.submissions_dropped.extend(batch.submissions_dropped);
        self.emit_settlings(effects);

        for (session, tokens) in batch.cancels {
            effects.sends.push(Send::Cancel { session, tokens });
        }
        for (session, (first, assignments)) in batch.assigns {
            effects.sends.push(Send::Assign { session, assignments, first });
        }

        if !effects.jobs.is_empty() || !effects.records.is_empty() || batch.must_commit {
            self.counters.commit = self.commit_next();
            effects.counters = Some(self.counters);
        }
    }

    fn emit_touched(&mut self, touched: Touched, effects: &mut Effects) {
        let Touched { id, flow, before, created, revived, waits_for, stored, now } = touched;
        match now {
            Now::Live(slot) => {
                self.slab[slot].touch = UNTOUCHED;
                let job = &self.slab[slot];
                let after = Self::status_shown(job).map(|status| (status, job.attempt));
                if let Some((status, attempt)) = after
                    && after != before
                {
                    effects.changes.push(Change { job: id, flow, status, attempt, end: None });
                }
                let after = match stored {
                    Stored::Nothing => return,
                    Stored::Flag => JobRecord::Evaluate,
                    Stored::Record => JobRecord::Live(self.live_record(slot, waits_for)),
                };
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

    fn live_record(&self, slot: Slot, waits_for: Vec<JobId>) -> LiveJob {
        let job = &self.slab[slot];
        let (waits_for, submission) = match job.state {
            State::Unsealed { submission, .. } => (waits_for, Some(self.submissions.arena[submission].id)),
            State::Pending { .. } | State::Doomed => (waits_for, None),
            State::Vacant
            | State::Evaluating { .. }
            | State::Gathering
            | State::Ready { .. }
            | State::Running { .. } => (Vec::new(), None),
        };
        LiveJob {
            head: self.head(job),
            digest: job.digest,
            waits_for,
            submission,
            attempt: job.attempt,
            elves_lost: job.elves_lost,
            evaluate: job.evaluate,
            running: self.running(job),
        }
    }

    pub(crate) fn head(&self, job: &Job) -> JobHead {
        let task = &self.names.tasks[job.task];
        JobHead {
            id: job.id,
            flow: self.flows.arena[job.flow].id,
            elf: Arc::clone(&self.names.elves[task.elf].name),
            task: Arc::clone(&task.name),
            priority: job.priority,
            number: job.number,
            submitted_at: job.submitted_at,
        }
    }

    /// Who holds a job.
    pub(crate) fn running(&self, job: &Job) -> Option<Running> {
        let State::Running { session, assign } = job.state else { return None };
        let session = &self.sessions.arena[session];
        let held = session.held.get(&assign)?;
        Some(Running {
            session: session.id,
            instance: session.instance,
            revision: held.revision,
            since: held.since,
        })
    }
}
