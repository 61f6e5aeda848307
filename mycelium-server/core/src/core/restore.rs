//! Rebuilding a core from the store.

use std::collections::{BTreeMap, BTreeSet};

use super::Core;
use crate::config::Config;
use crate::ids::{FlowId, JobId, JobNumber, PolicyId, SessionId, Steady, SubmissionId, Token};
use crate::image::{FlowRecord, Image, LiveJob, Running, SessionRecord, SubmissionRecord};
use crate::index::{FlowIdx, Slot, SubmissionIdx};
use crate::jobs::{Edge, Job, State};
use crate::policy::PolicyRecord;
use crate::sessions::{Held, KeptFor, Sessions};
use crate::signature::Judged;
use crate::submissions::{Phase, Submission, Submissions};
use crate::suspicion::Suspicion;
use crate::timers::TimerKey;
use crate::work::{Drop, Work};

/// The records contradict each other: the store is damaged, or was not written by this scheduler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Two records have the same id.
    #[error("{0} is stored more than once")]
    Duplicate(String),
    /// A number is higher than the newest that was given out.
    #[error("{0} has a number that was never given out")]
    NumberNotGiven(String),
    /// A job's flow is missing.
    #[error("job {job} belongs to flow {flow}, which is missing")]
    FlowMissing {
        /// The job.
        job: JobId,
        /// The flow.
        flow: FlowId,
    },
    /// The flow of a submission that is not sealed is missing.
    #[error("submission {submission} belongs to flow {flow}, which is missing")]
    SubmissionFlowMissing {
        /// The submission.
        submission: SubmissionId,
        /// The flow.
        flow: FlowId,
    },
    /// A job's policy is missing.
    #[error("a job has policy {0}, which is missing")]
    PolicyMissing(PolicyId),
    /// A job is running on a session that is missing, or that is another instance's.
    #[error("job {job} is running on session {session}, which is missing or another instance's")]
    SessionMissing {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
    },
    /// A job is running although it waits for others, or its submission is not sealed, or it has no attempt.
    #[error("job {0} is running and cannot be")]
    RunningImpossible(JobId),
    /// A flow is being deleted and has unfinished jobs.
    #[error("flow {0} is being deleted, and has unfinished jobs")]
    DeletionOfUnfinished(FlowId),
    /// A job waits for one that was submitted after it.
    #[error("job {job} waits for job {on}, which was submitted later")]
    DependencyLater {
        /// The job.
        job: JobId,
        /// What it waits for.
        on: JobId,
    },
}

/// A core that is being rebuilt: takes in the jobs first, one by one, and then the rest, so that a store can find out
/// on the way which flows and submissions are needed.
#[derive(Debug)]
pub struct Restore {
    core: Core,
    now: Steady,
    /// The submissions of the jobs that have one.
    submissions: Vec<(Slot, SubmissionId)>,
    /// What each job waits for, until all are there.
    waits_for: Vec<(Slot, Vec<JobId>)>,
    running: Vec<(Slot, Running)>,
    numbers: BTreeSet<JobNumber>,
}

impl Core {
    /// Begins to rebuild a core from what the store holds. `now` is when all leases, and the idle time of unsealed
    /// submissions, begin anew.
    pub fn restore(config: Config, now: Steady) -> Restore {
        Restore::new(config, now)
    }
}

impl Restore {
    fn new(config: Config, now: Steady) -> Self {
        Self {
            core: Core::new(config),
            now,
            submissions: Vec::new(),
            waits_for: Vec::new(),
            running: Vec::new(),
            numbers: BTreeSet::new(),
        }
    }

    /// Takes in one unfinished job. The order does not matter.
    ///
    /// # Errors
    ///
    /// If its record contradicts others. The core cannot be rebuilt then.
    pub fn job(&mut self, live: LiveJob) -> Result<(), RestoreError> {
        let core = &mut self.core;
        if core.jobs.find(&live.head.id).is_some() || !self.numbers.insert(live.head.number) {
            return Err(RestoreError::Duplicate(format!("job {} or its number", live.head.id)));
        }
        if live.running.is_some() && (!live.waits_for.is_empty() || live.attempt.0 == 0) {
            return Err(RestoreError::RunningImpossible(live.head.id));
        }
        let flow = core.jobs.expect_flow(live.head.flow);
        let elves_lost = u8::try_from(live.elves_lost).unwrap_or(u8::MAX);
        let named = core.jobs.use_of(&live.head, Judged::NOT, Suspicion::of(elves_lost));
        let job = Job {
            // Which state it has is known only when all jobs are there.
            state: State::Pending { waiting: 0 },
            attempt: live.attempt,
            elves_lost,
            elves_lost_alone: u8::try_from(live.elves_lost_alone).unwrap_or(u8::MAX),
            evaluate: live.evaluate,
            ..Job::new(&live.head, live.digest, flow, named)
        };
        let slot = core.jobs.restore(job, live.attempts, live.beside);
        core.jobs.restore_deadlines(slot, live.expires_at, live.queued_at);
        core.jobs.restore_tries(slot, live.tries);
        if let Some(submission) = live.submission {
            self.submissions.push((slot, submission));
        }
        if !live.waits_for.is_empty() {
            self.waits_for.push((slot, live.waits_for));
        }
        if let Some(running) = live.running {
            self.running.push((slot, running));
        }
        Ok(())
    }

    /// Puts everything in its place. All leases, and the idle time of unsealed submissions, begin anew.
    ///
    /// # Errors
    ///
    /// If the records contradict each other.
    pub fn finish(self, image: Image) -> Result<Core, RestoreError> {
        let Self { mut core, now, submissions: job_submissions, waits_for, mut running, numbers } = self;
        let Image {
            counters,
            flows,
            sessions,
            submissions,
            propagations,
            policies,
            deletions,
            pauses,
            actions,
        } = image;
        core.jobs.begin_at(counters);
        core.sessions = Sessions::after(counters.session);
        core.submissions = Submissions::new(counters.commit);
        if let Some(number) = numbers.last().filter(|&&number| number > counters.job) {
            return Err(RestoreError::NumberNotGiven(format!("the job numbered {number}")));
        }
        restore_policies(&mut core, policies)?;
        restore_flows(&mut core, flows)?;
        restore_sessions(&mut core, sessions, now)?;
        restore_submissions(&mut core, submissions, job_submissions, now)?;
        let mut failed: BTreeMap<JobId, Vec<Edge>> =
            propagations.into_iter().map(|propagation| (propagation.cause, Vec::new())).collect();
        for (slot, waits_for) in waits_for {
            restore_edges(&mut core, slot, &waits_for, &mut failed)?;
        }
        // In the order they were handed out, as far as that is known: it decides who counts as started.
        running.sort_unstable_by_key(|(slot, running)| (running.since, core.jobs[*slot].number));
        for (slot, running) in running {
            restore_running(&mut core, slot, running)?;
        }
        enter_all(&mut core);
        for (id, edges) in failed {
            core.propagation.restore(id, edges);
        }
        order_submissions(&mut core);
        for record in deletions {
            let flow = core.jobs.find_flow(record.flow).map(|flow| core.jobs.flow(flow));
            if flow.is_some_and(|flow| !flow.is_through()) {
                return Err(RestoreError::DeletionOfUnfinished(record.flow));
            }
            core.deletions.restore(record);
        }
        actions.into_iter().for_each(|action| core.actions.restore(action));
        pauses.into_iter().for_each(|pause| core.jobs.restore_pause(pause));
        core.jobs.forget_idle_flows();
        Ok(core)
    }
}

fn restore_policies(core: &mut Core, records: Vec<PolicyRecord>) -> Result<(), RestoreError> {
    let policies = core.jobs.policies_mut();
    for record in records {
        let id = record.id;
        if !policies.restore(record) {
            return Err(RestoreError::Duplicate(format!("policy {id}")));
        }
    }
    policies.missing().map_or(Ok(()), |id| Err(RestoreError::PolicyMissing(id)))
}

fn restore_flows(core: &mut Core, flows: Vec<FlowRecord>) -> Result<(), RestoreError> {
    let counters = core.jobs.counters();
    for record in flows {
        if core.jobs.flows().has(&record) {
            return Err(RestoreError::Duplicate(format!("flow {}", record.id)));
        }
        if record.number > counters.flow {
            return Err(RestoreError::NumberNotGiven(format!("flow {}", record.id)));
        }
        core.jobs.insert_flow(record, counters.commit);
    }
    match core.jobs.iter().find(|(_, job)| !core.jobs.flow_of(job).is_known()) {
        Some((_, job)) => Err(RestoreError::FlowMissing { job: job.id, flow: core.jobs.flow_of(job).id }),
        None => Ok(()),
    }
}

fn restore_sessions(
    core: &mut Core,
    mut sessions: Vec<SessionRecord>,
    now: Steady,
) -> Result<(), RestoreError> {
    let lease_until = now.after(core.config.lease);
    sessions.sort_unstable_by_key(|record| record.id);
    for record in sessions {
        if core.sessions.find(record.id).is_some() {
            return Err(RestoreError::Duplicate(format!("session {}", record.id)));
        }
        if record.id > core.sessions.last() {
            return Err(RestoreError::NumberNotGiven(format!("session {}", record.id)));
        }
        // Whether it was known is not stored: those who had heard of it must not lose it to somebody who has not.
        let session = core.sessions.insert(&record, true);
        core.timers.set(TimerKey::Lease(session), lease_until);
    }
    Ok(())
}

/// Takes in the submissions that are not sealed, and gives them their jobs.
fn restore_submissions(
    core: &mut Core,
    submissions: Vec<SubmissionRecord>,
    jobs: Vec<(Slot, SubmissionId)>,
    now: Steady,
) -> Result<(), RestoreError> {
    // Each with its index, or none if it is sealed.
    let mut known: BTreeMap<SubmissionId, Option<SubmissionIdx>> = BTreeMap::new();
    let idle_until = now.after(core.config.submission_idle_max);
    for record in submissions {
        let id = record.id;
        let index = if record.sealed {
            None
        } else {
            let flow = core
                .jobs
                .find_flow(record.flow)
                .ok_or(RestoreError::SubmissionFlowMissing { submission: id, flow: record.flow })?;
            let index = insert_submission(core, id, flow, record.next_part, Phase::Open);
            core.timers.set(TimerKey::Idle(index), idle_until);
            Some(index)
        };
        if known.insert(id, index).is_some() {
            return Err(RestoreError::Duplicate(format!("submission {id}")));
        }
    }
    for (slot, id) in jobs {
        let index = match known.get(&id) {
            Some(&index) => index,
            None => {
                // Its record is gone and its jobs are not yet: it was being dropped.
                let flow = core.jobs[slot].flow;
                let index = insert_submission(core, id, flow, 0, Phase::Dropping);
                known.insert(id, Some(index));
                Some(index)
            }
        };
        if let Some(submission) = index {
            core.jobs.set_restored(slot, State::Unsealed { submission, waiting: 0 });
            core.submissions.add_job(submission, slot);
        }
    }
    Ok(())
}

fn insert_submission(
    core: &mut Core,
    id: SubmissionId,
    flow: FlowIdx,
    next_part: u32,
    phase: Phase,
) -> SubmissionIdx {
    core.jobs.begin_submission(flow);
    core.submissions.insert(Submission { id, flow, next_part, phase, jobs: Vec::new() })
}

fn restore_edges(
    core: &mut Core,
    slot: Slot,
    waits_for: &[JobId],
    failed: &mut BTreeMap<JobId, Vec<Edge>>,
) -> Result<(), RestoreError> {
    let mut waiting = 0;
    for id in waits_for {
        if let Some(on) = core.jobs.find(id) {
            if core.jobs[on].number >= core.jobs[slot].number {
                return Err(RestoreError::DependencyLater { job: core.jobs[slot].id, on: *id });
            }
            core.jobs.add_dependent(on, slot);
            waiting += 1;
        } else if let Some(edges) = failed.get_mut(id) {
            edges.push(core.jobs.edge_to(slot));
            waiting += 1;
        }
        // Otherwise it is done or skipped.
    }
    let state = match core.jobs[slot].state {
        State::Unsealed { submission, .. } => State::Unsealed { submission, waiting },
        State::Pending { .. } => State::Pending { waiting },
        state @ (State::Vacant
        | State::Evaluating { .. }
        | State::Gathering
        | State::UpstreamFailing
        | State::Ready { .. }
        | State::Running { .. }) => state,
    };
    core.jobs.set_restored(slot, state);
    Ok(())
}

fn restore_running(core: &mut Core, slot: Slot, running: Running) -> Result<(), RestoreError> {
    let job = &core.jobs[slot];
    if let State::Unsealed { .. } = job.state {
        return Err(RestoreError::RunningImpossible(job.id));
    }
    let missing = RestoreError::SessionMissing { job: job.id, session: running.session };
    let Some(session) = core.sessions.find(running.session) else { return Err(missing) };
    if core.sessions[session].instance != running.instance {
        return Err(missing);
    }
    let elf = core.jobs.task_of(job).elf;
    let token = Token { job: job.id, attempt: job.attempt };
    let suspicion = core.jobs.queue_of(job).kind.suspicion;
    // Brokers of before ran several suspects beside each other. They are told apart when they are lost once more.
    let is_suspect = suspicion != Suspicion::None && core.sessions[session].suspects == 0;
    let Running { revision, build, since, started, .. } = running;
    let (priority, job, is_recalled) = (job.priority, Some(slot), false);
    let held = Held { token, elf, job, revision, build, since, started, is_suspect, priority, is_recalled };
    let assign = core.sessions.hold(&mut core.jobs, session, held);
    core.jobs.names_mut().add_session(elf, running.session, session);
    core.jobs.set_restored(slot, State::Running { session, assign, is_started: started.is_some() });
    if suspicion == Suspicion::Isolated {
        let job = core.jobs.edge_to(slot);
        core.sessions.keep(&mut core.jobs, session, KeptFor { job, elf });
    }
    Ok(())
}

/// Counts, lists and queues all jobs.
fn enter_all(core: &mut Core) {
    let mut slots: Vec<(JobNumber, Slot)> = core.jobs.iter().map(|(slot, job)| (job.number, slot)).collect();
    // In ascending order trees fill up from one end, which is fast.
    slots.sort_unstable();
    for (_, slot) in slots {
        let state = match core.jobs[slot].state {
            State::Pending { waiting: 0 } => core.graph().waited(slot),
            state @ (State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing
            | State::Ready { .. }
            | State::Running { .. }) => state,
        };
        core.jobs.enter_new(slot, state);
    }
}

fn order_submissions(core: &mut Core) {
    let all: Vec<(SubmissionIdx, Phase)> =
        core.submissions.iter().map(|(index, entry)| (index, entry.phase)).collect();
    for (submission, phase) in all {
        core.submissions.sort_jobs(submission, |&slot| core.jobs[slot].number);
        if phase == Phase::Dropping {
            let jobs = core.submissions.close(submission, phase);
            core.work.push(Work::Drop(Drop { submission, jobs, answer: None }));
        }
    }
}

#[cfg(test)]
mod tests;
