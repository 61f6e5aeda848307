//! Checks everything the core keeps against everything else it keeps.

use std::collections::{BTreeMap, BTreeSet};

use super::Core;
use crate::ids::FlowId;
use crate::index::{DeclarationIdx, FlowIdx, Slot, SubmissionIdx};
use crate::invariants::{InvariantViolation, check};
use crate::jobs::State;
use crate::serve::choose;
use crate::sessions::{Declared, Session, is_delayed};
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
        self.check_totals()?;
        self.jobs.check()?;
        self.sessions.check()?;
        self.propagation.check()?;
        self.check_waiting()?;
        self.check_evaluations()?;
        self.check_flows()?;
        self.check_queues()?;
        self.check_sessions()?;
        self.check_free_slots()?;
        self.check_propagation()?;
        self.check_submissions()?;
        self.deletions.check(&self.jobs)?;
        self.check_timers()
    }

    /// Checks what takes no time to check, at the end of every batch: whether what is kept twice is as much both times.
    pub(super) fn check_totals(&self) -> Result<(), InvariantViolation> {
        self.jobs.check_totals()?;
        self.sessions.check_totals()?;
        self.submissions.check_totals()?;
        self.propagation.check_totals()?;
        self.timers.check_totals()?;
        self.evaluations.check_totals(self.config.evaluations_max())?;
        let (leases, sessions) = (self.timers.leases(), self.sessions.len());
        check(leases == sessions, "every session has a lease", || format!("{leases} of {sessions}"))
    }

    /// What a job waits for is exactly what leads to it: edges of unfinished jobs, those that failures still spread
    /// along, and unsealed ones that are to fail.
    fn check_waiting(&self) -> Result<(), InvariantViolation> {
        let mut leading: BTreeMap<Slot, u32> = BTreeMap::new();
        let of_jobs = self.jobs.iter().flat_map(|(_, job)| job.dependents.iter().copied());
        let edges = of_jobs.chain(self.propagation.edges());
        let live = edges.filter(|&edge| self.jobs.follow(edge).is_some()).map(|edge| edge.slot);
        for slot in live.chain(self.propagation.unsealed()) {
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
                State::Gathering => self.evaluations.expansion(slot).is_some_and(|of| {
                    let is_cancelling = of.is_cancelling || self.jobs.is_cancelling(job);
                    (leading > 0 || is_cancelling) && of.unfinished == leading
                }),
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
        Ok(())
    }

    /// Flows count what is under way of them.
    fn check_flows(&self) -> Result<(), InvariantViolation> {
        let mut submissions: BTreeMap<FlowIdx, u64> = BTreeMap::new();
        for (_, submission) in self.submissions.iter() {
            *submissions.entry(submission.flow).or_default() += 1;
        }
        let mut cancels: BTreeMap<FlowIdx, u32> = BTreeMap::new();
        for work in self.work.iter() {
            if let Work::CancelFlow(cancel) = work {
                *cancels.entry(cancel.flow).or_default() += 1;
            }
        }
        for (index, flow) in self.jobs.flows().iter() {
            let counted = (submissions.remove(&index), cancels.remove(&index));
            let counted = (counted.0.unwrap_or_default(), counted.1.unwrap_or_default());
            check(counted == (flow.submissions, flow.cancels), "flows count what is under way", || {
                format!("flow {}: counted {counted:?}", flow.id)
            })?;
        }
        let all_kept = submissions.is_empty() && cancels.is_empty();
        check(all_kept, "the flow of what is under way is kept", || format!("{submissions:?} {cancels:?}"))
    }

    /// Declarations are kept while sessions offer them, and only jobs that wait for something else leave their queue.
    fn check_queues(&self) -> Result<(), InvariantViolation> {
        let resuming = self.work.iter().filter_map(|work| match work {
            Work::ResumeFlow(resume) => Some(resume.flow),
            Work::CancelFlow(_)
            | Work::CancelExpanded(_)
            | Work::Seal(_)
            | Work::Drop(_)
            | Work::RecallPaused { .. }
            | Work::Reply { .. } => None,
        });
        let resuming: BTreeSet<FlowId> = resuming.collect();
        for (slot, job) in self.jobs.iter() {
            if job.state == (State::Ready { queued: false }) {
                let pauses = self.timers.deadline(TimerKey::Pause(slot)).is_some()
                    || self.jobs.tries(slot).not_before.is_some();
                check(
                    pauses || self.jobs.is_held_back(job) || resuming.contains(&self.jobs.flow_of(job).id),
                    "only jobs that pause, are paused, or are to be cancelled, leave the queue",
                    || job.id.to_string(),
                )?;
            }
        }
        let mut users: BTreeMap<DeclarationIdx, u64> = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            for (elf, offer) in &session.offers {
                let Some(Declared { declaration, tasks }) = &offer.declared else { continue };
                *users.entry(*declaration).or_default() += 1;
                let entry = self.jobs.names().declaration(*declaration);
                let holds = entry.elf == *elf && entry.tasks.keys().eq(tasks.keys());
                check(holds, "every task that is offered is declared", || session.id.to_string())?;
            }
        }
        for (index, declaration) in self.jobs.names().declarations() {
            let counted = users.remove(&index).unwrap_or_default();
            let holds = declaration.users == counted && counted > 0;
            check(holds, "declarations count their users", || {
                format!("{index:?}: counted {counted}, kept {}", declaration.users)
            })?;
        }
        check(users.is_empty(), "the declaration of every offer is kept", || format!("{users:?}"))
    }

    /// Running jobs and held attempts are the same, seen from both sides.
    fn check_sessions(&self) -> Result<(), InvariantViolation> {
        for (slot, job) in self.jobs.iter() {
            if let State::Running { session, assign, is_started } = job.state {
                let held = self.sessions.get(session).and_then(|session| session.held.get(&assign));
                let holds = held.is_some_and(|held| {
                    held.job == Some(slot)
                        && held.token.job == job.id
                        && held.token.attempt == job.attempt
                        && held.started.is_some() == is_started
                });
                check(holds, "running jobs are held", || job.id.to_string())?;
            }
        }
        for (index, session) in self.sessions.iter() {
            for (assign, held) in &session.held {
                let Some(slot) = held.job else { continue };
                let runs = matches!(
                    self.jobs[slot].state,
                    State::Running { session, assign: number, .. } if session == index && number == *assign
                );
                check(runs, "held attempts run, or were cancelled", || format!("{:?}", held.token))?;
            }
            if let Some(State::Running { session: holder, assign, .. }) =
                session.kept_for.and_then(|kept| self.jobs.follow(kept.job)).map(|job| job.state)
            {
                let came_after = session.held.keys().any(|held| *held > assign && !is_delayed(*held));
                let is_kept = holder == index && !came_after;
                check(is_kept, "nothing comes beside a job that has its process to itself", || {
                    session.id.to_string()
                })?;
            }
            for elf in session.offers.keys() {
                let is_known = self.jobs.elf(*elf).sessions.get(&session.id) == Some(&index);
                check(is_known, "elves know their sessions", || session.id.to_string())?;
            }
        }
        Ok(())
    }

    /// Every timer is of something that waits for it, and the other way round.
    fn check_timers(&self) -> Result<(), InvariantViolation> {
        for key in self.timers.keys() {
            let holds = match key {
                TimerKey::Lease(session) => self.sessions.get(session).is_some(),
                TimerKey::Unconfirmed(session) => {
                    self.sessions.get(session).is_some_and(|session| !session.is_connected)
                }
                TimerKey::Waits => true,
                TimerKey::Pause(slot) => self.jobs[slot].state == (State::Ready { queued: false }),
                TimerKey::Delay(slot) => {
                    self.jobs[slot].state == (State::Ready { queued: false })
                        && self.jobs.tries(slot).not_before.is_some()
                }
                TimerKey::Queue(slot) => self.jobs.starts_by(slot).is_some(),
                TimerKey::Total(slot) => self.jobs.ends_by(slot).is_some(),
                TimerKey::Run(slot) => self.jobs.timed_run(slot).is_some(),
                TimerKey::Idle(index) => {
                    self.submissions.get(index).is_some_and(|entry| entry.phase == Phase::Open)
                }
            };
            check(holds, "timers are of what waits for them", || format!("{key:?}"))?;
        }
        for slot in self.jobs.timed_runs() {
            let runs = matches!(self.jobs[slot].state, State::Running { is_started: true, .. });
            let is_timed = self.timers.deadline(TimerKey::Run(slot)).is_some();
            check(runs && is_timed, "what is timed runs", || self.jobs[slot].id.to_string())?;
        }
        for slot in self.jobs.silences() {
            let runs = matches!(self.jobs[slot].state, State::Running { is_started: true, .. });
            check(runs, "what is to report runs", || self.jobs[slot].id.to_string())?;
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

    /// Elves know who has free slots, and nothing waits where one is free.
    fn check_free_slots(&self) -> Result<(), InvariantViolation> {
        let mut all = BTreeSet::new();
        for (_, session) in self.sessions.iter() {
            for (&elf, offer) in &session.offers {
                let Some(free) = offer.free_slot else { continue };
                all.insert((elf, free));
                let entry = self.jobs.elf(elf);
                let waits =
                    !entry.is_paused && choose(&self.config, &self.jobs, &self.sessions, free, elf).is_some();
                check(
                    !waits || self.jobs.names().is_to_place(elf),
                    "no job waits where a slot is free",
                    || format!("session {} has a free slot for {}", session.id, entry.name),
                )?;
            }
        }
        let recalled = |session: &Session, elf| session.offers.get(&elf).map_or(0, |offer| offer.recalled);
        for (index, elf) in self.jobs.names().elves() {
            let of_sessions = self.sessions.iter().map(|(_, session)| recalled(session, index)).sum::<u32>();
            check(of_sessions == elf.recalled, "elves count what is recalled", || elf.name.to_string())?;
        }
        let elves = self.jobs.names().elves();
        let kept: BTreeSet<_> =
            elves.flat_map(|(index, elf)| elf.free_slots.iter().map(move |free| (index, *free))).collect();
        check(kept == all, "elves know who has free slots", || format!("{kept:?} {all:?}"))
    }

    /// Failures spread to whom they should.
    fn check_propagation(&self) -> Result<(), InvariantViolation> {
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
                Work::CancelFlow(_)
                | Work::CancelExpanded(_)
                | Work::RecallPaused { .. }
                | Work::ResumeFlow(_)
                | Work::Reply { .. } => {}
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
