//! Turns ready jobs and free windows into assignments.

use std::ops::Bound;

use crate::effects::Assignment;
use crate::ids::{Clocks, Revision, Token};
use crate::index::{ElfIdx, SessionIdx, Slot};
use crate::jobs::{FreeSlot, State};
use crate::serve::Serving;
use crate::sessions::Held;

/// How many assignments a batch makes for each job that it may end because of others.
const ASSIGNMENTS_PER_STEP: usize = 4;

/// What a session declares of a task for which it gets a job.
#[derive(Clone, Copy)]
struct Terms {
    revision: Revision,
    /// Whether the values of the job's arguments are known to fit.
    is_judged: bool,
}

impl Serving<'_> {
    /// Places jobs for the elves where something has changed. What the bound of a batch leaves over waits for the next.
    pub(crate) fn place(&mut self, now: Clocks) {
        let mut budget = self.graph.config.step_max() * ASSIGNMENTS_PER_STEP;
        while let Some(elf) = self.graph.jobs.names_mut().pop_to_place() {
            self.place_elf(now, elf, &mut budget);
            if budget == 0 {
                self.graph.jobs.names_mut().keep_to_place(elf);
                return;
            }
        }
    }

    /// Gives the session that holds fewest jobs of an elf the best job that it takes, again and again.
    ///
    /// A session that takes none of the waiting jobs is passed over for the rest of the pass: queues only
    /// shrink meanwhile, and the key of a session that was given a job only rises.
    fn place_elf(&mut self, now: Clocks, elf: ElfIdx, budget: &mut usize) {
        let mut passed: Option<FreeSlot> = None;
        while *budget > 0 {
            let entry = self.graph.jobs.elf(elf);
            let after = passed.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&free) = entry.free_slots.range((after, Bound::Unbounded)).next() else { return };
            let Some((slot, terms)) = self.best_for(free, elf) else {
                passed = Some(free);
                continue;
            };
            *budget -= 1;
            if self.graph.jobs.is_cancelling(&self.graph.jobs[slot]) {
                self.graph.jobs.set_state(slot, State::Ready { queued: false });
            } else {
                self.assign(now, elf, free.session, slot, terms);
            }
        }
    }

    /// The best job that what the session declares takes.
    fn best_for(&self, free: FreeSlot, elf: ElfIdx) -> Option<(Slot, Terms)> {
        let declared = self.sessions[free.session].offers.get(&elf)?.declared.as_ref()?;
        let names = self.graph.jobs.names();
        let declaration = names.declaration(declared.declaration);
        let (_, queue) = declaration.heads.first()?;
        let queue = names.queue(*queue);
        let (_, slot) = queue.ready.first()?;
        let revision = *declared.revisions.get(&queue.task)?;
        let signature = declaration.signature(queue.task)?.id();
        let is_judged = queue.kind.judged.by_signature(signature).is_some();
        #[cfg(feature = "planted-bugs")]
        let is_judged = is_judged || self.graph.config.leaves_out(crate::config::PlantedBug::ValuesNotJudged);
        Some((*slot, Terms { revision, is_judged }))
    }

    fn assign(&mut self, now: Clocks, elf: ElfIdx, session: SessionIdx, slot: Slot, terms: Terms) {
        let Terms { revision, is_judged } = terms;
        let jobs = &mut *self.graph.jobs;
        jobs.next_attempt(slot);
        let job = &jobs[slot];
        let token = Token { job: job.id, attempt: job.attempt };
        let assignment = Assignment {
            token,
            flow: jobs.flow_of(job).id,
            elf: jobs.elf(elf).name.clone(),
            task: jobs.task_of(job).name.clone(),
            is_judged,
        };
        // Out of the queue first: else it would seem that a job is left for what is free.
        let assign = self.sessions.next_assign(session);
        // Of one that does not tell of starts nothing better is known.
        let started = (!self.sessions[session].tells_starts).then_some(now.wall);
        jobs.set_state(slot, State::Running { session, assign, is_started: started.is_some() });
        let build = self.sessions[session].build;
        let held = Held { token, elf, job: Some(slot), revision, build, since: now.wall, started };
        self.sessions.hold(jobs, session, held);
        self.outbox.assign(self.sessions[session].id, assign, assignment);
    }
}
