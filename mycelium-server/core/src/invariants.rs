//! Checks everything the core keeps against everything else it keeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::aside::is_aside;
use crate::core::{Core, Unfinished};
use crate::ids::JobNumber;
use crate::slab::{Edge, Slot, State, UNTOUCHED};
use crate::submissions::{Phase, Work};

/// Two things that the core keeps contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant `{name}` does not hold: {detail}")]
pub struct InvariantViolation {
    /// Which invariant.
    pub name: &'static str,
    /// What contradicts it.
    pub detail: String,
}

fn check(holds: bool, name: &'static str, detail: impl FnOnce() -> String) -> Result<(), InvariantViolation> {
    if holds { Ok(()) } else { Err(InvariantViolation { name, detail: detail() }) }
}

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
        self.check_rooms()?;
        self.check_settlings()?;
        self.check_submissions()
    }

    /// Every job is found by its id, has a number that was given out, and is counted.
    fn check_jobs(&self) -> Result<(), InvariantViolation> {
        let mut counts = Unfinished::default();
        let mut live = 0;
        for (slot, job) in self.slab.iter() {
            live += 1;
            check(self.slab.find(&job.id) == Some(slot), "job is found by its id", || job.id.to_string())?;
            check(
                job.touch == UNTOUCHED || !self.batch.touched.is_empty(),
                "touches end with the batch",
                || job.id.to_string(),
            )?;
            check(job.number <= self.counters.job, "numbers were given out", || job.id.to_string())?;
            check(self.recents.get(&job.id).is_none(), "no job is both unfinished and finished", || {
                job.id.to_string()
            })?;
            match job.state {
                State::Vacant => {}
                State::Unsealed { .. } => counts.unsealed += 1,
                State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Doomed => {
                    counts.pending += 1;
                }
                State::Ready { .. } => counts.ready += 1,
                State::Running { .. } => counts.running += 1,
            }
        }
        check(live == self.slab.len(), "the index has every job", || format!("{live} {}", self.slab.len()))?;
        check(counts == self.counts, "jobs are counted by state", || {
            format!("counted {counts:?}, kept {:?}", self.counts)
        })
    }

    /// What a job waits for is exactly what leads to it: edges of unfinished jobs, of settlings, and parked ones.
    fn check_waiting(&self) -> Result<(), InvariantViolation> {
        let mut leading: BTreeMap<Slot, u32> = BTreeMap::new();
        let mut lead = |edges: &[Edge]| {
            for edge in edges.iter().filter(|&&edge| self.slab.follow(edge).is_some()) {
                *leading.entry(edge.slot).or_default() += 1;
            }
        };
        self.slab.iter().for_each(|(_, job)| lead(&job.dependents));
        for frame in self.settles.iter().flat_map(|settle| &settle.stack) {
            lead(frame.edges.get(frame.next..).unwrap_or_default());
        }
        for (slot, _) in self.parked.keys() {
            *leading.entry(*slot).or_default() += 1;
        }
        for (slot, job) in self.slab.iter() {
            let leading = leading.get(&slot).copied().unwrap_or_default();
            let holds = match job.state {
                State::Pending { waiting } => waiting > 0 && waiting == leading,
                State::Unsealed { waiting, .. } => waiting == leading,
                State::Evaluating { .. } => {
                    self.expansions.get(&slot).map_or(0, |of| of.unfinished) == leading
                }
                State::Gathering => {
                    (leading > 0 || self.is_cancelling_elements(slot))
                        && self.expansions.get(&slot).map_or(0, |of| of.unfinished) == leading
                }
                State::Doomed => job.dependents.is_empty(),
                State::Ready { .. } | State::Running { .. } => leading == 0,
                State::Vacant => false,
            };
            check(holds, "a job waits for what leads to it", || {
                format!("{} is {:?}, and {leading} lead to it", job.id, job.state)
            })?;
        }
        let later = self.slab.iter().find_map(|(_, job)| {
            // But for those that have a list of which this is an element.
            let dependents = job.dependents.iter().filter(|edge| !self.expansions.contains_key(&edge.slot));
            let dependents = dependents.filter_map(|&edge| self.slab.follow(edge));
            dependents.into_iter().find(|dependent| dependent.number <= job.number)
        });
        check(later.is_none(), "dependents have higher numbers", || format!("{later:?}"))
    }

    /// Every evaluation waits or was handed out, and every expansion is of a job that waits for it.
    fn check_evaluations(&self) -> Result<(), InvariantViolation> {
        let waiting: BTreeSet<_> = self.evaluations.waiting.iter().collect();
        for (slot, job) in self.slab.iter() {
            if let State::Evaluating { number } = job.state {
                let is_known =
                    waiting.contains(&(slot, number)) || self.evaluations.handed_out.contains(&number);
                check(is_known && job.evaluate, "evaluations wait or are handed out", || {
                    format!("{} is in evaluation {number}", job.id)
                })?;
            }
            if job.state == State::Gathering {
                let elements = self.expansions.get(&slot).and_then(|expansion| expansion.elements);
                check(elements.is_some(), "what is gathered was expanded", || job.id.to_string())?;
            }
        }
        for (&slot, expansion) in &self.expansions {
            let job = &self.slab[slot];
            let holds = match job.state {
                State::Evaluating { .. } | State::Gathering | State::Doomed => true,
                State::Vacant
                | State::Unsealed { .. }
                | State::Pending { .. }
                | State::Ready { .. }
                | State::Running { .. } => false,
            };
            check(holds, "expansions are of jobs that wait for them", || format!("{expansion:?}"))?;
        }
        let (handed_out, max) = (self.evaluations.handed_out.len(), self.config.evaluations_max.max(1));
        check(handed_out <= max, "evaluations are bounded", || format!("{handed_out}"))
    }

    /// Every flow lists and counts its jobs, and is kept only for as long as it must be.
    fn check_flows(&self) -> Result<(), InvariantViolation> {
        let mut listed: BTreeMap<u32, BTreeSet<(JobNumber, Slot)>> = BTreeMap::new();
        let mut counts: BTreeMap<u32, [u64; 4]> = BTreeMap::new();
        for (slot, job) in self.slab.iter() {
            let count = counts.entry(job.flow).or_default();
            match job.state {
                State::Vacant => {}
                State::Unsealed { .. } => count[3] += 1,
                State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Doomed => {
                    count[0] += 1;
                }
                State::Ready { .. } => count[1] += 1,
                State::Running { .. } => count[2] += 1,
            }
            if Self::status_shown(job).is_some() {
                listed.entry(job.flow).or_default().insert((job.number, slot));
            }
        }
        let mut recent: BTreeMap<u32, u64> = BTreeMap::new();
        for job in self.recents.newest_first() {
            *recent.entry(job.flow).or_default() += 1;
        }
        for (index, flow) in self.flows.arena.iter() {
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
            check(self.flows.find(flow.id) == Some(index), "flows are found by id", || flow.id.to_string())?;
            let submissions = self.submissions.arena.iter().filter(|(_, entry)| entry.flow == index).count();
            check(submissions as u64 == flow.submissions, "flows count submissions", || flow.id.to_string())?;
            check(!flow.is_idle(), "flows are kept while needed", || flow.id.to_string())?;
            check(self.flows.find(flow.id) == Some(index), "flows are found by id", || flow.id.to_string())?;
        }
        check(listed.is_empty(), "the flow of every job is kept", || format!("{listed:?}"))?;
        let cancels = self.work.iter().filter(|work| matches!(work, Work::Cancel(_))).count();
        let counted: u32 = self.flows.arena.iter().map(|(_, flow)| flow.cancels).sum();
        check(cancels == counted as usize, "cancellations are counted", || format!("{cancels} {counted}"))
    }

    /// Every ready job stands in its queue, and every queue is known by its head.
    fn check_queues(&self) -> Result<(), InvariantViolation> {
        let mut queued = 0;
        let mut users: BTreeMap<u32, u64> = BTreeMap::new();
        let mut ready: BTreeMap<u32, u64> = BTreeMap::new();
        let mut running: BTreeMap<u32, u64> = BTreeMap::new();
        for (slot, job) in self.slab.iter() {
            let task = &self.names.tasks[job.task];
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
            let is_cancelling = self.flows.arena[job.flow].is_cancelling(job.number);
            let pause = self.pauses.until.get(&slot);
            if job.state == (State::Ready { queued: false }) {
                check(
                    is_cancelling || pause.is_some(),
                    "only jobs that pause, or are to be cancelled, leave the queue",
                    || job.id.to_string(),
                )?;
            }
            let pauses = pause.is_none_or(|&until| {
                job.state == (State::Ready { queued: false }) && self.pauses.by_time.contains(&(until, slot))
            });
            check(pauses, "pauses are of ready jobs outside the queue", || job.id.to_string())?;
        }
        for (_, session) in self.sessions.arena.iter() {
            for task in session.offers.values().flat_map(|offer| offer.tasks.keys()) {
                *users.entry(*task).or_default() += 1;
            }
        }
        let (pauses, vacant) = (self.pauses.until.len(), self.pauses.until.keys());
        let vacant = vacant.filter(|&&slot| self.slab[slot].state == State::Vacant).count();
        check(
            pauses == self.pauses.by_time.len() && vacant == 0,
            "pauses are kept by time and by job",
            || format!("{pauses}, {vacant} vacant"),
        )?;
        let all_queued: usize = self.names.tasks.iter().map(|(_, task)| task.queue.len()).sum();
        check(queued == all_queued, "queues hold ready jobs only", || format!("{queued} {all_queued}"))?;
        let mut heads: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
        for (index, task) in self.names.tasks.iter() {
            let counted = users.get(&index).copied().unwrap_or_default();
            check(task.users == counted && counted > 0, "tasks count their users", || {
                format!("{}: counted {counted}, kept {}", task.name, task.users)
            })?;
            if let Some(&(priority, number, _)) = task.queue.first() {
                heads.entry(task.elf).or_default().insert((priority, number, index));
            }
        }
        for (index, elf) in self.names.elves.iter() {
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
        for (slot, job) in self.slab.iter() {
            if let State::Running { session, assign } = job.state {
                let held = self.sessions.arena.get(session).and_then(|session| session.held.get(&assign));
                let holds = held.is_some_and(|held| {
                    held.job == Some(slot) && held.token.job == job.id && held.token.attempt == job.attempt
                });
                check(holds, "running jobs are held", || job.id.to_string())?;
            }
        }
        for (index, session) in self.sessions.arena.iter() {
            check(self.sessions.by_id.get(&session.id) == Some(&index), "sessions are found by id", || {
                session.id.to_string()
            })?;
            // Older ones that have a secret may live beside it; the newest may be over.
            let newest = self.sessions.by_instance.get(&session.instance);
            let is_newest_or_older = newest.map_or(session.secret.is_some(), |&newest| {
                let newest = &self.sessions.arena[newest];
                newest.instance == session.instance
                    && (newest.id == session.id || (session.secret.is_some() && session.id < newest.id))
            });
            check(is_newest_or_older, "an instance has one session without a secret at most", || {
                session.id.to_string()
            })?;
            let has_lease = self.sessions.leases.contains(&(session.lease_until, index));
            check(has_lease, "sessions have leases", || session.id.to_string())?;
            let mut by_elf: BTreeMap<u32, u32> = BTreeMap::new();
            for (assign, held) in &session.held {
                *by_elf.entry(held.elf).or_default() += 1;
                let holds = match held.job {
                    Some(slot) => self.slab[slot].state == State::Running { session: index, assign: *assign },
                    None => session.zombies.get(&held.token) == Some(assign),
                };
                check(holds, "held attempts run, or were cancelled", || format!("{:?}", held.token))?;
                let is_numbered = *assign <= session.last_assign || is_aside(*assign);
                check(is_numbered, "assignments are numbered", || format!("{assign}"))?;
            }
            let zombies = session.held.values().filter(|held| held.job.is_none()).count();
            check(zombies == session.zombies.len(), "cancelled attempts are held", || {
                session.id.to_string()
            })?;
            for (elf, offer) in &session.offers {
                let counted = by_elf.remove(elf).unwrap_or_default();
                check(counted == offer.held, "offers count what is held", || {
                    format!("session {}: counted {counted}, kept {}", session.id, offer.held)
                })?;
                let is_known = self.names.elves[*elf].sessions.get(&session.id) == Some(&index);
                check(is_known, "elves know their sessions", || session.id.to_string())?;
            }
            check(by_elf.is_empty(), "what is held is of an elf", || session.id.to_string())?;
        }
        let leases = self.sessions.leases.len();
        check(leases == self.sessions.arena.len(), "leases are of sessions", || leases.to_string())
    }

    /// A session has room exactly if it may be given a job, and nothing waits where there is room for it.
    fn check_rooms(&self) -> Result<(), InvariantViolation> {
        let mut rooms = BTreeSet::new();
        for (_, session) in self.sessions.arena.iter() {
            for (elf, offer) in &session.offers {
                let may_take = session.is_connected
                    && !session.is_draining
                    && offer.is_offered
                    && offer.held < offer.window.jobs;
                check(may_take == offer.room.is_some(), "rooms are of sessions that may take a job", || {
                    session.id.to_string()
                })?;
                if let Some(room) = offer.room {
                    check(room.held == offer.held, "rooms know what is held", || session.id.to_string())?;
                    rooms.insert((*elf, room));
                    let waits = self.names.elves[*elf]
                        .heads
                        .iter()
                        .any(|(_, _, task)| offer.tasks.contains_key(task));
                    check(!waits || self.dirty.contains(elf), "no job waits where there is room", || {
                        format!("session {} has room for {}", session.id, self.names.elves[*elf].name)
                    })?;
                }
            }
        }
        let kept: BTreeSet<_> = self
            .names
            .elves
            .iter()
            .flat_map(|(index, elf)| elf.rooms.iter().map(move |room| (index, *room)))
            .collect();
        check(kept == rooms, "elves know their rooms", || format!("{kept:?} {rooms:?}"))
    }

    /// Every settling has as many pieces as are counted.
    fn check_settlings(&self) -> Result<(), InvariantViolation> {
        let mut pieces: BTreeMap<_, u64> = BTreeMap::new();
        for settle in &self.settles {
            *pieces.entry(settle.key).or_default() += 1;
        }
        for (_, key) in self.parked.keys() {
            *pieces.entry(*key).or_default() += 1;
        }
        for (key, open) in &self.settlings {
            let counted = pieces.remove(key).unwrap_or_default();
            check(counted == open.pieces, "settlings count their pieces", || {
                format!("{key}: counted {counted}, kept {}", open.pieces)
            })?;
        }
        check(pieces.is_empty(), "every settling is kept", || format!("{pieces:?}"))?;
        for (_, job) in self.slab.iter().filter(|(_, job)| job.state == State::Doomed) {
            let stack = self.settles.front().map(|settle| settle.stack.as_slice()).unwrap_or_default();
            let is_walked =
                stack.iter().filter_map(|frame| frame.job).any(|slot| self.slab[slot].id == job.id);
            check(is_walked, "doomed jobs are on the way of the first settling", || job.id.to_string())?;
        }
        for (slot, _) in self.parked.keys() {
            let is_unsealed = matches!(self.slab[*slot].state, State::Unsealed { .. });
            check(is_unsealed, "parked jobs are unsealed", || self.slab[*slot].id.to_string())?;
        }
        Ok(())
    }

    /// Every unsealed job is its submission's, or still to be sealed or dropped with it.
    fn check_submissions(&self) -> Result<(), InvariantViolation> {
        let mut listed: BTreeSet<(u32, Slot)> = BTreeSet::new();
        for (index, submission) in self.submissions.arena.iter() {
            listed.extend(submission.jobs.iter().map(|&slot| (index, slot)));
            let idle = match submission.phase {
                Phase::Open { idle_until } => self.submissions.idle.contains(&(idle_until, index)),
                Phase::Sealing | Phase::Dropping => true,
            };
            check(idle, "open submissions are timed", || submission.id.to_string())?;
        }
        for work in &self.work {
            match work {
                Work::Seal(seal) => {
                    let left = seal.jobs.get(seal.next..).unwrap_or_default();
                    listed.extend(left.iter().map(|&slot| (seal.submission, slot)));
                }
                Work::Drop(drop) => listed.extend(drop.jobs.iter().map(|&slot| (drop.submission, slot))),
                Work::Cancel(_) | Work::CancelExpanded(_) | Work::Reply { .. } => {}
            }
        }
        let unsealed: BTreeSet<(u32, Slot)> = self
            .slab
            .iter()
            .filter_map(|(slot, job)| match job.state {
                State::Unsealed { submission, .. } => Some((submission, slot)),
                State::Vacant
                | State::Pending { .. }
                | State::Evaluating { .. }
                | State::Gathering
                | State::Doomed
                | State::Ready { .. }
                | State::Running { .. } => None,
            })
            .collect();
        check(listed == unsealed, "submissions list their jobs", || format!("{listed:?} {unsealed:?}"))
    }
}
