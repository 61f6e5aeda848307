//! Rebuilding a core from the store.

use crate::config::Config;
use crate::core::Core;
use crate::ids::{AssignNumber, FlowId, JobId, SessionId, SubmissionId, Timestamp, Token};
use crate::image::{Image, LiveJob, Running, Settling};
use crate::sessions::Held;
use crate::settle::{Frame, Open, Settle};
use crate::slab::{Edge, Job, Slot, State, UNTOUCHED};
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

/// A core that is being rebuilt.
#[derive(Debug)]
pub struct Restore {
    core: Core,
    error: Option<RestoreError>,
    /// The submissions, with whether they are sealed.
    submissions: BTreeMap<SubmissionId, (u32, bool)>,
    /// What each job waits for, until all are there.
    waits_for: Vec<(Slot, Vec<JobId>)>,
    running: Vec<(Slot, Running)>,
    settling: BTreeSet<Settling>,
    numbers: BTreeSet<crate::ids::JobNumber>,
}

impl Restore {
    pub(crate) fn new(config: Config, image: Image, now: Timestamp) -> Self {
        let Image { counters, flows, sessions, submissions, settling } = image;
        let mut core = Core::with_counters(config, counters);
        let mut error = None;
        for record in flows {
            if core.flows.find(record.id).is_some() || core.flows.by_number.contains_key(&record.number) {
                error.get_or_insert(RestoreError::Twice(format!("flow {}", record.id)));
                continue;
            }
            if record.number > counters.flow {
                error.get_or_insert(RestoreError::NumberNotGiven(format!("flow {}", record.id)));
            }
            core.flows.insert(record, counters.commit);
        }
        let lease_until = now.after(core.config.lease);
        for record in sessions {
            if core.sessions.by_id.contains_key(&record.id)
                || core.sessions.by_instance.contains_key(&record.instance)
            {
                error.get_or_insert(RestoreError::Twice(format!("session {}", record.id)));
                continue;
            }
            if record.id > counters.session {
                error.get_or_insert(RestoreError::NumberNotGiven(format!("session {}", record.id)));
            }
            core.sessions.insert(record.id, record.instance, lease_until);
        }
        let mut known = BTreeMap::new();
        for record in submissions {
            let mut index = u32::MAX;
            if !record.sealed {
                let Some(flow) = core.flows.find(record.flow) else {
                    let (submission, flow) = (record.id, record.flow);
                    error.get_or_insert(RestoreError::SubmissionFlowMissing { submission, flow });
                    continue;
                };
                let idle_until = now.after(core.config.submission_idle_max);
                index = core.insert_submission(Submission {
                    id: record.id,
                    flow,
                    next_part: record.next_part,
                    phase: Phase::Open { idle_until },
                    jobs: Vec::new(),
                });
            }
            if known.insert(record.id, (index, record.sealed)).is_some() {
                error.get_or_insert(RestoreError::Twice(format!("submission {}", record.id)));
            }
        }
        Self {
            core,
            error,
            submissions: known,
            waits_for: Vec::new(),
            running: Vec::new(),
            settling: settling.into_iter().collect(),
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
        if core.slab.find(&live.id).is_some() || !self.numbers.insert(live.number) {
            return Err(RestoreError::Twice(format!("job {} or its number", live.id)));
        }
        if live.number > core.counters.job {
            return Err(RestoreError::NumberNotGiven(format!("job {}", live.id)));
        }
        let flow = core.flows.find(live.flow);
        let flow = flow.ok_or(RestoreError::FlowMissing { job: live.id, flow: live.flow })?;
        let submission = match live.submission.map(|id| (id, self.submissions.get(&id).copied())) {
            None | Some((_, Some((_, true)))) => None,
            Some((_, Some((index, false)))) => Some(index),
            Some((id, None)) => {
                // Its record is gone and its jobs are not yet: it was being dropped.
                let index = core.insert_submission(Submission {
                    id,
                    flow,
                    next_part: 0,
                    phase: Phase::Dropping,
                    jobs: Vec::new(),
                });
                self.submissions.insert(id, (index, false));
                Some(index)
            }
        };
        if live.running.is_some()
            && (submission.is_some() || !live.waits_for.is_empty() || live.attempt.0 == 0)
        {
            return Err(RestoreError::RunningImpossible(live.id));
        }

        let elf = core.names.intern_elf(&live.elf);
        let task = core.names.use_task(elf, &live.task);
        // Which state it has is known only when all jobs are there.
        let state = match submission {
            Some(submission) => State::Unsealed { submission, waiting: 0 },
            None => State::Pending { waiting: 0 },
        };
        let slot = core.slab.insert(Job {
            id: live.id,
            number: live.number,
            submitted_at: live.submitted_at,
            digest: live.digest,
            dependents: Vec::new(),
            state,
            flow,
            task,
            priority: live.priority,
            attempt: live.attempt,
            elves_lost: live.elves_lost,
            generation: 0,
            touch: UNTOUCHED,
        });
        if let Some(submission) = submission {
            core.submissions.arena[submission].jobs.push(slot);
        }
        if !live.waits_for.is_empty() {
            self.waits_for.push((slot, live.waits_for));
        }
        if let Some(running) = live.running {
            self.running.push((slot, running));
        }
        Ok(())
    }

    /// Puts everything in its place.
    ///
    /// # Errors
    ///
    /// If the records contradict each other.
    pub fn finish(self) -> Result<Core, RestoreError> {
        let Self { mut core, error, submissions: _, waits_for, mut running, settling, numbers: _ } = self;
        if let Some(error) = error {
            return Err(error);
        }
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
        restore_submissions(&mut core);
        core.flows.forget_idle();
        Ok(core)
    }
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
        // Otherwise it is done.
    }
    let job = &mut core.slab[slot];
    match &mut job.state {
        State::Unsealed { waiting, .. } | State::Pending { waiting } => *waiting = count,
        State::Vacant | State::Doomed | State::Ready { .. } | State::Running { .. } => {}
    }
    Ok(())
}

fn restore_running(core: &mut Core, slot: Slot, running: Running) -> Result<(), RestoreError> {
    let job = &mut core.slab[slot];
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
    let mut slots: Vec<(crate::ids::JobNumber, Slot)> =
        core.slab.iter().map(|(slot, job)| (job.number, slot)).collect();
    // In ascending order trees fill up from one end, which is fast.
    slots.sort_unstable();
    for (_, slot) in slots {
        let state = match core.slab[slot].state {
            State::Pending { waiting: 0 } => State::Ready { queued: true },
            state @ (State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Doomed
            | State::Ready { .. }
            | State::Running { .. }) => state,
        };
        core.enter_new(slot, state);
    }
}

fn restore_submissions(core: &mut Core) {
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
