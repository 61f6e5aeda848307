//! Checks everything that is kept of jobs against the jobs themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{FlowIdx, Jobs, Slot, State, UNTOUCHED, Unfinished};
use crate::ids::JobNumber;
use crate::image::ATTEMPTS_KEPT;
use crate::index::{ElfIdx, QueueIdx, TraitsIdx};
use crate::invariants::{InvariantViolation, check};

impl Unfinished {
    fn total(self) -> u64 {
        let Self { pending, ready, assigned, running, unsealed } = self;
        pending + ready + assigned + running + unsealed
    }
}

impl Jobs {
    /// Checks what takes no time to check, at the end of a batch.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let (counted, kept) = (self.counts.total(), self.slab.len() as u64);
        check(counted == kept, "every unfinished job is counted once", || format!("{counted} of {kept}"))?;
        check(self.touched.is_empty(), "touches end with the batch", || format!("{:?}", self.touched))?;
        self.names.check_totals()?;
        self.flows.check_totals()
    }

    /// Checks everything, between two batches.
    pub(crate) fn check(&self) -> Result<(), InvariantViolation> {
        self.check_totals()?;
        self.check_each()?;
        self.check_attempts()?;
        self.check_flows()?;
        self.check_pauses()?;
        self.check_queues()
    }

    /// Every job is found by its id, has a number that was given out, and is counted.
    fn check_each(&self) -> Result<(), InvariantViolation> {
        let mut counts = Unfinished::default();
        for (slot, job) in self.iter() {
            check(self.find(&job.id) == Some(slot), "job is found by its id", || job.id.to_string())?;
            check(job.touch == UNTOUCHED, "touches end with the batch", || job.id.to_string())?;
            check(job.number <= self.counters.job, "numbers were given out", || job.id.to_string())?;
            let is_finished = self.recents.get(&job.id).is_some();
            check(!is_finished, "no job is both unfinished and finished", || job.id.to_string())?;
            counts.enter(job.state);
        }
        check(counts.total() == self.len() as u64, "the index has every job", || {
            format!("{counts:?}, {} in the index", self.len())
        })?;
        check(counts == self.counts, "jobs are counted by state", || {
            format!("counted {counts:?}, kept {:?}", self.counts)
        })
    }

    /// Attempts that are over are of unfinished jobs, few, and in order.
    fn check_attempts(&self) -> Result<(), InvariantViolation> {
        let of_live = self.losses.slots().all(|slot| self.slab[slot].elves_lost > 0);
        check(of_live, "only what was lost was lost beside others", || format!("{:?}", self.losses))?;
        let of_live = self.delays.slots().all(|slot| self.slab[slot].state != State::Vacant);
        check(of_live, "only unfinished jobs are delayed", || format!("{:?}", self.delays))?;
        let of_live = self.deadlines.slots().all(|slot| self.slab[slot].state != State::Vacant);
        check(of_live, "only unfinished jobs have deadlines", || format!("{:?}", self.deadlines))?;
        for (slot, attempts) in self.attempts.after(None) {
            let job = &self.slab[slot];
            let is_live = job.state != State::Vacant && !attempts.is_empty();
            let are_few = attempts.len() <= ATTEMPTS_KEPT;
            let are_ordered = attempts.is_sorted_by(|before, after| before.number < after.number);
            let runs = matches!(job.state, State::Running { .. });
            let are_over = attempts
                .last()
                .is_some_and(|last| last.number < job.attempt || (last.number == job.attempt && !runs));
            check(
                is_live && are_few && are_ordered && are_over,
                "attempts are over, few and in order",
                || format!("{}: {attempts:?}", job.id),
            )?;
        }
        Ok(())
    }

    /// Every flow lists and counts its jobs, and is kept only for as long as it must be.
    fn check_flows(&self) -> Result<(), InvariantViolation> {
        let mut listed: BTreeMap<FlowIdx, BTreeSet<(JobNumber, Slot)>> = BTreeMap::new();
        let mut counts: BTreeMap<FlowIdx, Unfinished> = BTreeMap::new();
        for (slot, job) in self.iter() {
            counts.entry(job.flow).or_default().enter(job.state);
            if job.status().is_some() {
                listed.entry(job.flow).or_default().insert((job.number, slot));
            }
        }
        let mut recents: BTreeMap<FlowIdx, u64> = BTreeMap::new();
        for job in self.recents.newest_first() {
            *recents.entry(job.flow).or_default() += 1;
        }
        for (index, flow) in self.flows.iter() {
            let counted = counts.remove(&index).unwrap_or_default();
            check(counted == flow.counts, "flows count their jobs", || {
                format!("flow {}: counted {counted:?}, kept {:?}", flow.id, flow.counts)
            })?;
            let of_jobs = listed.remove(&index).unwrap_or_default();
            check(of_jobs == flow.jobs, "flows list their jobs", || flow.id.to_string())?;
            let recent = recents.remove(&index).unwrap_or_default();
            check(flow.recent == recent, "flows count recents", || flow.id.to_string())?;
            let is_found = self.flows.find(flow.id) == Some(index);
            check(is_found, "flows are found by id", || flow.id.to_string())?;
            check(!flow.is_idle(), "flows are kept while needed", || flow.id.to_string())?;
        }
        let are_all_kept = counts.is_empty() && recents.is_empty();
        check(are_all_kept, "the flow of every job is kept", || format!("{counts:?} {recents:?}"))
    }

    /// Every ready job stands in its queue unless it was taken out, and every queue is known by its head to those that take
    /// its jobs.
    fn check_queues(&self) -> Result<(), InvariantViolation> {
        let mut queued = 0;
        let mut traits: BTreeMap<TraitsIdx, u64> = BTreeMap::new();
        let mut users: BTreeMap<QueueIdx, u64> = BTreeMap::new();
        let mut counts: BTreeMap<ElfIdx, Unfinished> = BTreeMap::new();
        for (slot, job) in self.iter() {
            *traits.entry(job.traits).or_default() += 1;
            *users.entry(job.queue).or_default() += 1;
            counts.entry(self.task_of(job).elf).or_default().enter(job.state);
            let is_queued = self.queue_of(job).ready.contains(&job.place(slot));
            queued += usize::from(is_queued);
            check(
                is_queued == (job.state == State::Ready { queued: true }),
                "ready jobs are queued",
                || format!("{} is {:?}", job.id, job.state),
            )?;
        }
        let are_counted = self.names.traits().are_counted(&traits);
        check(are_counted, "labels and policies count their users", || format!("{traits:?}"))?;
        let all_queued: usize = self.names.queues().map(|(_, queue)| queue.ready.len()).sum();
        check(queued == all_queued, "queues hold ready jobs only", || format!("{queued} {all_queued}"))?;
        for (index, elf) in self.names.elves() {
            let counted = counts.remove(&index).unwrap_or_default();
            let Unfinished { ready, assigned, running, .. } = counted;
            let holds = (ready, assigned, running) == (elf.ready, elf.assigned, elf.running);
            check(holds, "elves count their jobs", || elf.name.to_string())?;
            let is_needed = !(elf.tasks.is_empty() && elf.sessions.is_empty());
            check(is_needed, "elves are kept while needed", || elf.name.to_string())?;
        }
        self.names.check(users)
    }
}
