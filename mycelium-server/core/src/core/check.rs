//! Checks everything the core keeps against everything else it keeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Core;
use crate::ids::JobNumber;
use crate::index::{ElfIdx, FlowIdx, Slot, SubmissionIdx, TaskIdx};
use crate::invariants::{InvariantViolation, check};
use crate::jobs::{Edge, State, UNTOUCHED, Unfinished};
use crate::sessions::is_delayed;
use crate::submissions::Phase;
use crate::timers::TimerKey;
use crate::work::Work;

impl Core {
    /// Checks every index against every other, between two batches. Takes time in proportion to all that is in
    /// memory: for tests, and for an operator who asks.
    ///
    /// # Errors
    ///
    /// The first contradiction found.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.check_jobs()?;
        self.check_waiting()?;
        self.check_evaluations()?;
        self.check_flows()?;
        self.check_queues()?;
        self.check_sessions()?;
        self.check_free_slots()?;
        self.check_propagation()?;
        self.check_submissions()?;
        self.check_timers()
    }

    /// Every job is found by its id, has a number that was given out, and is counted.
    fn check_jobs(&self) -> Result<(), InvariantViolation> {
        let mut counts = Unfinished::default();
        let mut live = 0;
        for (slot, job) in self.jobs.iter() {
            live += 1;
            check(self.jobs.find(&job.id) == Some(slot), "job is found by its id", || job.id.to_string())?;
            check(
                job.touch == UNTOUCHED || !self.jobs.touched().is_empty(),
                "touches end with the batch",
                || job.id.to_string(),
            )?;
            check(job.number <= self.jobs.counters().job, "numbers were given out", || job.id.to_string())?;
            check(
                self.jobs.recents().get(&job.id).is_none(),
                "no job is both unfinished and finished",
                || job.id.to_string(),
            )?;
            match job.state {
                State::Vacant => {}
                State::Unsealed { .. } => counts.unsealed += 1,
                State::Pending { .. }
                | State::Evaluating { .. }
                | State::Gathering
                | State::UpstreamFailing => {
                    counts.pending += 1;
                }
                State::Ready { .. } => counts.ready += 1,
                State::Running { .. } => counts.running += 1,
            }
        }
        check(live == self.jobs.len(), "the index has every job", || format!("{live} {}", self.jobs.len()))?;
        check(counts == self.jobs.counts(), "jobs are counted by state", || {
            format!("counted {counts:?}, kept {:?}", self.jobs.counts())
        })
    }

    /// What a job waits for is exactly what leads to it: edges of unfinished jobs, those that failures still spread
    /// along, and unsealed ones that are to fail.
    fn check_waiting(&self) -> Result<(), InvariantViolation> {
        let mut leading: BTreeMap<Slot, u32> = BTreeMap::new();
        let mut lead = |edges: &[Edge]| {
            for edge in edges.iter().filter(|&&edge| self.jobs.follow(edge).is_some()) {
                *leading.entry(edge.slot).or_default() += 1;
            }
        };
        self.jobs.iter().for_each(|(_, job)| lead(&job.dependents));
        self.propagation.edges().for_each(|edge| lead(&[edge]));
        for slot in self.propagation.unsealed() {
            *leading.entry(slot).or_default() += 1;
        }
        for (slot, job) in self.jobs.iter() {
            let leading = leading.get(&slot).copied().unwrap_or_default();
            let holds = match job.state {
                State::Pending { waiting } => waiting > 0 && waiting == leading,
                State::Unsealed { waiting, .. } => waiting == leading,
                State::Evaluating { .. } => {
                    self.evaluations.expansion(slot).map_or(0, |of| of.unfinished) == leading
                }
                State::Gathering => {
                    (leading > 0
                        || self
                            .evaluations
                            .expansion(slot)
                            .is_some_and(|of| of.is_cancelling || self.jobs.is_cancelling(job)))
                        && self.evaluations.expansion(slot).map_or(0, |of| of.unfinished) == leading
                }
                State::UpstreamFailing => job.dependents.is_empty(),
                State::Ready { .. } | State::Running { .. } => leading == 0,
                State::Vacant => false,
            };
            check(holds, "a job waits for what leads to it", || {
                format!("{} is {:?}, and {leading} lead to it", job.id, job.state)
            })?;
        }
        let later = self.jobs.iter().find_map(|(_, job)| {
            // But for those that have a list of which this is an element.
            let dependents =
                job.dependents.iter().filter(|edge| self.evaluations.expansion(edge.slot).is_none());
            let dependents = dependents.filter_map(|&edge| self.jobs.follow(edge));
            dependents.into_iter().find(|dependent| dependent.number <= job.number)
        });
        check(later.is_none(), "dependents have higher numbers", || format!("{later:?}"))
    }

    /// Every evaluation waits or was handed out, and every expansion is of a job that waits for it.
    fn check_evaluations(&self) -> Result<(), InvariantViolation> {
        let waiting: BTreeSet<_> = self.evaluations.waiting().collect();
        for (slot, job) in self.jobs.iter() {
            if let State::Evaluating { number } = job.state {
                let is_known =
                    waiting.contains(&(slot, number)) || self.evaluations.handed_out().contains(&number);
                check(is_known && job.evaluate, "evaluations wait or are handed out", || {
                    format!("{} is in evaluation {number}", job.id)
                })?;
            }
            if job.state == State::Gathering {
                let elements = self.evaluations.expansion(slot).and_then(|expansion| expansion.elements);
                check(elements.is_some(), "what is gathered was expanded", || job.id.to_string())?;
            }
        }
        for (slot, expansion) in self.evaluations.expansions() {
            let job = &self.jobs[slot];
            let holds = match job.state {
                State::Evaluating { .. } | State::Gathering | State::UpstreamFailing => true,
                State::Vacant
                | State::Unsealed { .. }
                | State::Pending { .. }
                | State::Ready { .. }
                | State::Running { .. } => false,
            };
            check(holds, "expansions are of jobs that wait for them", || format!("{expansion:?}"))?;
        }
        let (handed_out, max) = (self.evaluations.handed_out().len(), self.config.evaluations_max());
        check(handed_out <= max, "evaluations are bounded", || format!("{handed_out}"))
    }

    /// Every flow lists and counts its jobs, and is kept only for as long as it must be.
    fn check_flows(&self) -> Result<(), InvariantViolation> {
        let mut listed: BTreeMap<FlowIdx, BTreeSet<(JobNumber, Slot)>> = BTreeMap::new();
        let mut counts: BTreeMap<FlowIdx, [u64; 4]> = BTreeMap::new();
        for (slot, job) in self.jobs.iter() {
            let count = counts.entry(job.flow).or_default();
            match job.state {
                State::Vacant => {}
                State::Unsealed { .. } => count[3] += 1,
                State::Pending { .. }
                | State::Evaluating { .. }
                | State::Gathering
                | State::UpstreamFailing => {
                    count[0] += 1;
                }
                State::Ready { .. } => count[1] += 1,
                State::Running { .. } => count[2] += 1,
            }
            if job.status().is_some() {
                listed.entry(job.flow).or_default().insert((job.number, slot));
            }
        }
        let mut recent: BTreeMap<FlowIdx, u64> = BTreeMap::new();
        for job in self.jobs.recents().newest_first() {
            *recent.entry(job.flow).or_default() += 1;
        }
        for (index, flow) in self.jobs.flows().iter() {
            let of_jobs = counts.get(&index).copied().unwrap_or_default();
            let kept = [flow.pending, flow.ready, flow.running, flow.unsealed];
            check(of_jobs == kept, "flows count their jobs", || {
                format!("flow {}: counted {of_jobs:?}, kept {kept:?}", flow.id)
            })?;
            let of_jobs = listed.remove(&index).unwrap_or_default();
            check(of_jobs == flow.jobs, "flows list their jobs", || flow.id.to_string())?;
            check(
                flow.recent == recent.get(&index).copied().unwrap_or_default(),
                "flows count recents",
                || flow.id.to_string(),
            )?;
            check(self.jobs.find_flow(flow.id) == Some(index), "flows are found by id", || {
                flow.id.to_string()
            })?;
            let submissions = self.submissions.iter().filter(|(_, entry)| entry.flow == index).count();
            check(submissions as u64 == flow.submissions, "flows count submissions", || flow.id.to_string())?;
            check(!flow.is_idle(), "flows are kept while needed", || flow.id.to_string())?;
            check(self.jobs.find_flow(flow.id) == Some(index), "flows are found by id", || {
                flow.id.to_string()
            })?;
        }
        check(listed.is_empty(), "the flow of every job is kept", || format!("{listed:?}"))?;
        let cancels = self.work.iter().filter(|work| matches!(work, Work::CancelFlow(_))).count();
        let counted: u32 = self.jobs.flows().iter().map(|(_, flow)| flow.cancels).sum();
        check(cancels == counted as usize, "cancellations are counted", || format!("{cancels} {counted}"))
    }

    /// Every ready job stands in its queue, and every queue is known by its head.
    fn check_queues(&self) -> Result<(), InvariantViolation> {
        let mut queued = 0;
        let mut users: BTreeMap<TaskIdx, u64> = BTreeMap::new();
        let mut ready: BTreeMap<ElfIdx, u64> = BTreeMap::new();
        let mut running: BTreeMap<ElfIdx, u64> = BTreeMap::new();
        for (slot, job) in self.jobs.iter() {
            let task = self.jobs.task_of(job);
            *users.entry(job.task).or_default() += 1;
            *ready.entry(task.elf).or_default() += u64::from(matches!(job.state, State::Ready { .. }));
            *running.entry(task.elf).or_default() += u64::from(matches!(job.state, State::Running { .. }));
            let is_queued = task.queue.contains(&(Reverse(job.priority), job.number, slot));
            queued += usize::from(is_queued);
            check(
                is_queued == (job.state == State::Ready { queued: true }),
                "ready jobs are queued",
                || format!("{} is {:?}", job.id, job.state),
            )?;
            let is_cancelling = self.jobs.is_cancelling(job);
            let pauses = self.timers.deadline(TimerKey::Pause(slot)).is_some();
            if job.state == (State::Ready { queued: false }) {
                check(
                    is_cancelling || pauses,
                    "only jobs that pause, or are to be cancelled, leave the queue",
                    || job.id.to_string(),
                )?;
            }
        }
        for (_, session) in self.sessions.iter() {
            for task in session.offers.values().flat_map(|offer| offer.tasks.keys()) {
                *users.entry(*task).or_default() += 1;
            }
        }
        let all_queued: usize = self.jobs.names().tasks().map(|(_, task)| task.queue.len()).sum();
        check(queued == all_queued, "queues hold ready jobs only", || format!("{queued} {all_queued}"))?;
        let mut heads: BTreeMap<ElfIdx, BTreeSet<_>> = BTreeMap::new();
        for (index, task) in self.jobs.names().tasks() {
            let counted = users.get(&index).copied().unwrap_or_default();
            check(task.users == counted && counted > 0, "tasks count their users", || {
                format!("{}: counted {counted}, kept {}", task.name, task.users)
            })?;
            if let Some(&(priority, number, _)) = task.queue.first() {
                heads.entry(task.elf).or_default().insert((priority, number, index));
            }
        }
        for (index, elf) in self.jobs.names().elves() {
            let of_tasks = heads.remove(&index).unwrap_or_default();
            check(of_tasks == elf.heads, "elves know the heads of their queues", || elf.name.to_string())?;
            let counted = (
                ready.get(&index).copied().unwrap_or_default(),
                running.get(&index).copied().unwrap_or_default(),
            );
            check(counted == (elf.ready, elf.running), "elves count their jobs", || elf.name.to_string())?;
            check(!(elf.tasks.is_empty() && elf.sessions.is_empty()), "elves are kept while needed", || {
                elf.name.to_string()
            })?;
        }
        Ok(())
    }

    /// Running jobs and held attempts are the same, seen from both sides.
    fn check_sessions(&self) -> Result<(), InvariantViolation> {
        for (slot, job) in self.jobs.iter() {
            if let State::Running { session, assign } = job.state {
                let held = self.sessions.get(session).and_then(|session| session.held.get(&assign));
                let holds = held.is_some_and(|held| {
                    held.job == Some(slot) && held.token.job == job.id && held.token.attempt == job.attempt
                });
                check(holds, "running jobs are held", || job.id.to_string())?;
            }
        }
        for (index, session) in self.sessions.iter() {
            check(self.sessions.find(session.id) == Some(index), "sessions are found by id", || {
                session.id.to_string()
            })?;
            // Older ones that have a secret may live beside it; the newest may be over.
            let newest = self.sessions.newest_of(session.instance);
            let is_newest_or_older = newest.map_or(session.secret.is_some(), |newest| {
                let newest = &self.sessions[newest];
                newest.instance == session.instance
                    && (newest.id == session.id || (session.secret.is_some() && session.id < newest.id))
            });
            check(is_newest_or_older, "an instance has one session without a secret at most", || {
                session.id.to_string()
            })?;
            let mut by_elf: BTreeMap<ElfIdx, u32> = BTreeMap::new();
            for (assign, held) in &session.held {
                *by_elf.entry(held.elf).or_default() += 1;
                let holds = match held.job {
                    Some(slot) => self.jobs[slot].state == State::Running { session: index, assign: *assign },
                    None => session.cancelled_in_flight.get(&held.token) == Some(assign),
                };
                check(holds, "held attempts run, or were cancelled", || format!("{:?}", held.token))?;
                let is_numbered = *assign <= session.last_assign || is_delayed(*assign);
                check(is_numbered, "assignments are numbered", || format!("{assign}"))?;
            }
            let cancelled = session.held.values().filter(|held| held.job.is_none()).count();
            check(cancelled == session.cancelled_in_flight.len(), "cancelled attempts are held", || {
                session.id.to_string()
            })?;
            for (elf, offer) in &session.offers {
                let counted = by_elf.remove(elf).unwrap_or_default();
                check(counted == offer.held, "offers count what is held", || {
                    format!("session {}: counted {counted}, kept {}", session.id, offer.held)
                })?;
                let is_known = self.jobs.elf(*elf).sessions.get(&session.id) == Some(&index);
                check(is_known, "elves know their sessions", || session.id.to_string())?;
            }
            check(by_elf.is_empty(), "what is held is of an elf", || session.id.to_string())?;
        }
        Ok(())
    }

    /// Every timer is of something that waits for it, and the other way round.
    fn check_timers(&self) -> Result<(), InvariantViolation> {
        for key in self.timers.keys() {
            let holds = match key {
                TimerKey::Lease(session) => self.sessions.get(session).is_some(),
                TimerKey::Pause(slot) => self.jobs[slot].state == (State::Ready { queued: false }),
                TimerKey::Idle(index) => {
                    self.submissions.get(index).is_some_and(|entry| entry.phase == Phase::Open)
                }
            };
            check(holds, "timers are of what waits for them", || format!("{key:?}"))?;
        }
        for (index, session) in self.sessions.iter() {
            let has_lease = self.timers.deadline(TimerKey::Lease(index)).is_some();
            check(has_lease, "sessions have leases", || session.id.to_string())?;
        }
        for (index, submission) in self.submissions.iter() {
            let is_timed = self.timers.deadline(TimerKey::Idle(index)).is_some();
            check(is_timed == (submission.phase == Phase::Open), "open submissions are timed", || {
                submission.id.to_string()
            })?;
        }
        Ok(())
    }

    /// A session has a free slot exactly if it may be given a job, and nothing waits where one is free.
    fn check_free_slots(&self) -> Result<(), InvariantViolation> {
        let mut all = BTreeSet::new();
        for (_, session) in self.sessions.iter() {
            for (elf, offer) in &session.offers {
                let may_take = session.is_connected
                    && !session.is_draining
                    && offer.is_offered
                    && offer.held < offer.window.jobs;
                check(
                    may_take == offer.free_slot.is_some(),
                    "free slots are of sessions that may take a job",
                    || session.id.to_string(),
                )?;
                if let Some(free) = offer.free_slot {
                    check(free.held == offer.held, "free slots know what is held", || {
                        session.id.to_string()
                    })?;
                    all.insert((*elf, free));
                    let waits =
                        self.jobs.elf(*elf).heads.iter().any(|(_, _, task)| offer.tasks.contains_key(task));
                    check(
                        !waits || self.jobs.names().is_to_place(*elf),
                        "no job waits where a slot is free",
                        || format!("session {} has a free slot for {}", session.id, self.jobs.elf(*elf).name),
                    )?;
                }
            }
        }
        let kept: BTreeSet<_> = self
            .jobs
            .names()
            .elves()
            .flat_map(|(index, elf)| elf.free_slots.iter().map(move |free| (index, *free)))
            .collect();
        check(kept == all, "elves know who has free slots", || format!("{kept:?} {all:?}"))
    }

    /// Failures spread to whom they should.
    fn check_propagation(&self) -> Result<(), InvariantViolation> {
        self.propagation.check()?;
        let failing: BTreeSet<Slot> = self.propagation.failing().collect();
        for (slot, job) in self.jobs.iter() {
            check(
                failing.contains(&slot) == (job.state == State::UpstreamFailing),
                "failing jobs are on the way of the first walk",
                || job.id.to_string(),
            )?;
        }
        for slot in self.propagation.unsealed() {
            let job = &self.jobs[slot];
            let is_unsealed = matches!(job.state, State::Unsealed { .. });
            check(is_unsealed, "jobs that fail when they are sealed are unsealed", || job.id.to_string())?;
        }
        Ok(())
    }

    /// Every unsealed job is its submission's, or still to be sealed or dropped with it.
    fn check_submissions(&self) -> Result<(), InvariantViolation> {
        let mut listed: BTreeSet<(SubmissionIdx, Slot)> = BTreeSet::new();
        for (index, submission) in self.submissions.iter() {
            listed.extend(submission.jobs.iter().map(|&slot| (index, slot)));
        }
        for work in self.work.iter() {
            match work {
                Work::Seal(seal) => {
                    let left = seal.jobs.get(seal.next..).unwrap_or_default();
                    listed.extend(left.iter().map(|&slot| (seal.submission, slot)));
                }
                Work::Drop(drop) => listed.extend(drop.jobs.iter().map(|&slot| (drop.submission, slot))),
                Work::CancelFlow(_) | Work::CancelExpanded(_) | Work::Reply { .. } => {}
            }
        }
        let unsealed: BTreeSet<(SubmissionIdx, Slot)> = self
            .jobs
            .iter()
            .filter_map(|(slot, job)| match job.state {
                State::Unsealed { submission, .. } => Some((submission, slot)),
                State::Vacant
                | State::Pending { .. }
                | State::Evaluating { .. }
                | State::Gathering
                | State::UpstreamFailing
                | State::Ready { .. }
                | State::Running { .. } => None,
            })
            .collect();
        check(listed == unsealed, "submissions list their jobs", || format!("{listed:?} {unsealed:?}"))
    }
}
