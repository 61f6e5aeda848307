//! Rebuilding a core from the store.

use crate::config::Config;
use crate::core::Core;
use crate::ids::{AssignNumber, FlowId, JobId, JobNumber, SessionId, Steady, SubmissionId, Token};
use crate::image::{FlowRecord, Image, LiveJob, Running, SessionRecord, SubmissionRecord};
use crate::sessions::Held;
use crate::settle::{Frame, Open, Settle};
use crate::slab::{Edge, Job, Slot, State};
use crate::submissions::{Drop, Phase, Submission, Work};

use std::collections::{BTreeMap, BTreeSet};

/// The records contradict each other: the store is damaged, or was not written by this scheduler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Two records have one id.
    #[error("{0} is there twice")]
    Twice(String),
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
    /// The flows of the jobs; until the end a job's flow is an index into this.
    flows: Vec<FlowId>,
    flows_by_id: BTreeMap<FlowId, u32>,
    /// The submissions of the jobs that have one.
    submissions: Vec<(Slot, SubmissionId)>,
    /// What each job waits for, until all are there.
    waits_for: Vec<(Slot, Vec<JobId>)>,
    running: Vec<(Slot, Running)>,
    numbers: BTreeSet<JobNumber>,
}

impl Restore {
    pub(crate) fn new(config: Config, now: Steady) -> Self {
        Self {
            core: Core::new(config),
            now,
            flows: Vec::new(),
            flows_by_id: BTreeMap::new(),
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
        if core.slab.find(&live.head.id).is_some() || !self.numbers.insert(live.head.number) {
            return Err(RestoreError::Twice(format!("job {} or its number", live.head.id)));
        }
        if live.running.is_some() && (!live.waits_for.is_empty() || live.attempt.0 == 0) {
            return Err(RestoreError::RunningImpossible(live.head.id));
        }
        let flow = match self.flows_by_id.get(&live.head.flow) {
            Some(&flow) => flow,
            None => {
                let flow = index(self.flows.len());
                self.flows.push(live.head.flow);
                self.flows_by_id.insert(live.head.flow, flow);
                flow
            }
        };

        let task = core.names.use_task_of(&live.head);
        let slot = core.slab.insert(Job {
            // Which state it has is known only when all jobs are there.
            state: State::Pending { waiting: 0 },
            attempt: live.attempt,
            elves_lost: live.elves_lost,
            evaluate: live.evaluate,
            ..Job::new(&live.head, live.digest, flow, task)
        });
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
        let Self {
            mut core,
            now,
            flows: job_flows,
            submissions: job_submissions,
            waits_for,
            mut running,
            numbers,
            ..
        } = self;
        let Image { counters, flows, sessions, submissions, settling } = image;
        core.begin_at(counters);
        if let Some(number) = numbers.last().filter(|&&number| number > counters.job) {
            return Err(RestoreError::NumberNotGiven(format!("the job numbered {number}")));
        }
        restore_flows(&mut core, flows)?;
        restore_sessions(&mut core, sessions, now)?;
        enter_flows(&mut core, &job_flows)?;
        restore_submissions(&mut core, submissions, job_submissions, now)?;
        let mut failed: BTreeMap<JobId, Vec<Edge>> =
            settling.into_iter().map(|settling| (settling.cause, Vec::new())).collect();
        for key in failed.keys() {
            core.settlings.insert(*key, Open { pieces: 0, is_stored: true });
        }
        for (slot, waits_for) in waits_for {
            restore_edges(&mut core, slot, &waits_for, &mut failed)?;
        }
        // In the order they were handed out, as far as that is known: it decides who counts as started.
        running.sort_unstable_by_key(|(slot, running)| (running.since, core.slab[*slot].number));
        for (slot, running) in running {
            restore_running(&mut core, slot, running)?;
        }
        enter_all(&mut core);
        for (cause, edges) in failed {
            core.settlings.entry(cause).or_default().pieces += 1;
            let stack = vec![Frame { job: None, edges, next: 0 }];
            core.settles.push_back(Settle { key: cause, cause, stack });
        }
        order_submissions(&mut core);
        core.flows.forget_idle();
        Ok(core)
    }
}

fn restore_flows(core: &mut Core, flows: Vec<FlowRecord>) -> Result<(), RestoreError> {
    for record in flows {
        if core.flows.find(record.id).is_some() || core.flows.by_number.contains_key(&record.number) {
            return Err(RestoreError::Twice(format!("flow {}", record.id)));
        }
        if record.number > core.counters.flow {
            return Err(RestoreError::NumberNotGiven(format!("flow {}", record.id)));
        }
        core.flows.insert(record, core.counters.commit);
    }
    Ok(())
}

fn restore_sessions(
    core: &mut Core,
    mut sessions: Vec<SessionRecord>,
    now: Steady,
) -> Result<(), RestoreError> {
    let lease_until = now.after(core.config.lease);
    sessions.sort_unstable_by_key(|record| record.id);
    for record in sessions {
        if core.sessions.by_id.contains_key(&record.id) {
            return Err(RestoreError::Twice(format!("session {}", record.id)));
        }
        if record.id > core.counters.session {
            return Err(RestoreError::NumberNotGiven(format!("session {}", record.id)));
        }
        // Whether it was known is not stored: those who had heard of it must not lose it to somebody who has not.
        core.sessions.insert(&record, true, lease_until);
    }
    Ok(())
}

/// Puts the real flow into every job, in place of the index that stood for it.
fn enter_flows(core: &mut Core, job_flows: &[FlowId]) -> Result<(), RestoreError> {
    let known: Vec<Option<u32>> = job_flows.iter().map(|&id| core.flows.find(id)).collect();
    for job in core.slab.iter_mut() {
        let provisional = job.flow as usize;
        job.flow = known[provisional]
            .ok_or(RestoreError::FlowMissing { job: job.id, flow: job_flows[provisional] })?;
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
    let mut known: BTreeMap<SubmissionId, Option<u32>> = BTreeMap::new();
    let idle_until = now.after(core.config.submission_idle_max);
    for record in submissions {
        let (id, next_part) = (record.id, record.next_part);
        let index = if record.sealed {
            None
        } else {
            let flow = core
                .flows
                .find(record.flow)
                .ok_or(RestoreError::SubmissionFlowMissing { submission: id, flow: record.flow })?;
            let phase = Phase::Open { idle_until };
            Some(core.insert_submission(Submission { id, flow, next_part, phase, jobs: Vec::new() }))
        };
        if known.insert(id, index).is_some() {
            return Err(RestoreError::Twice(format!("submission {id}")));
        }
    }
    for (slot, id) in jobs {
        let index = match known.get(&id) {
            Some(&index) => index,
            None => {
                // Its record is gone and its jobs are not yet: it was being dropped.
                let flow = core.slab[slot].flow;
                let phase = Phase::Dropping;
                let index =
                    core.insert_submission(Submission { id, flow, next_part: 0, phase, jobs: Vec::new() });
                known.insert(id, Some(index));
                Some(index)
            }
        };
        if let Some(submission) = index {
            core.slab[slot].state = State::Unsealed { submission, waiting: 0 };
            core.submissions.arena[submission].jobs.push(slot);
        }
    }
    Ok(())
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 entries fit into memory")
}

fn restore_edges(
    core: &mut Core,
    slot: Slot,
    waits_for: &[JobId],
    failed: &mut BTreeMap<JobId, Vec<Edge>>,
) -> Result<(), RestoreError> {
    let mut count = 0;
    for id in waits_for {
        if let Some(on) = core.slab.find(id) {
            if core.slab[on].number >= core.slab[slot].number {
                return Err(RestoreError::DependencyLater { job: core.slab[slot].id, on: *id });
            }
            core.slab.add_dependent(on, slot);
            count += 1;
        } else if let Some(edges) = failed.get_mut(id) {
            edges.push(core.slab.edge_to(slot));
            count += 1;
        }
        // Otherwise it is done or skipped.
    }
    let job = &mut core.slab[slot];
    match &mut job.state {
        State::Unsealed { waiting, .. } | State::Pending { waiting } => *waiting = count,
        State::Vacant
        | State::Evaluating { .. }
        | State::Gathering
        | State::Doomed
        | State::Ready { .. }
        | State::Running { .. } => {}
    }
    Ok(())
}

fn restore_running(core: &mut Core, slot: Slot, running: Running) -> Result<(), RestoreError> {
    let job = &mut core.slab[slot];
    if let State::Unsealed { .. } = job.state {
        return Err(RestoreError::RunningImpossible(job.id));
    }
    let missing = RestoreError::SessionMissing { job: job.id, session: running.session };
    let Some(&session) = core.sessions.by_id.get(&running.session) else { return Err(missing) };
    let entry = &mut core.sessions.arena[session];
    if entry.instance != running.instance {
        return Err(missing);
    }
    let assign = AssignNumber(entry.last_assign.0 + 1);
    entry.last_assign = assign;
    let elf = core.names.elf_of(job.task);
    let token = Token { job: job.id, attempt: job.attempt };
    let held = Held { token, elf, job: Some(slot), revision: running.revision, since: running.since };
    entry.held.insert(assign, held);
    entry.offers.entry(elf).or_default().held += 1;
    core.names.elves[elf].sessions.insert(entry.id, session);
    job.state = State::Running { session, assign };
    Ok(())
}

/// Counts, lists and queues all jobs.
fn enter_all(core: &mut Core) {
    let mut slots: Vec<(JobNumber, Slot)> = core.slab.iter().map(|(slot, job)| (job.number, slot)).collect();
    // In ascending order trees fill up from one end, which is fast.
    slots.sort_unstable();
    for (_, slot) in slots {
        let state = match core.slab[slot].state {
            State::Pending { waiting: 0 } => core.waited(slot),
            state @ (State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::Doomed
            | State::Ready { .. }
            | State::Running { .. }) => state,
        };
        core.enter_new(slot, state);
    }
}

fn order_submissions(core: &mut Core) {
    let indexes: Vec<u32> = core.submissions.arena.iter().map(|(index, _)| index).collect();
    for index in indexes {
        let mut jobs = std::mem::take(&mut core.submissions.arena[index].jobs);
        jobs.sort_unstable_by_key(|&slot| core.slab[slot].number);
        match core.submissions.arena[index].phase {
            Phase::Open { .. } | Phase::Sealing => core.submissions.arena[index].jobs = jobs,
            Phase::Dropping => {
                core.work.push_back(Work::Drop(Drop { submission: index, jobs, answer: None }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
