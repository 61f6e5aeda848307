//! Turns ready jobs and free windows into assignments.

use std::ops::Bound;

use crate::config::Config;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::effects::Assignment;
use crate::ids::{Clocks, Revision, Token};
use crate::index::{ElfIdx, SessionIdx, Slot};
use crate::jobs::{FreeSlot, Jobs, Queue, State};
use crate::policy::Timeouts;
use crate::serve::Serving;
use crate::sessions::{Held, Sessions};
use crate::suspicion::Suspicion;

/// How many assignments a batch makes for each job that it may end because of others.
const ASSIGNMENTS_PER_STEP: usize = 4;

/// What a session declares of a task for which it gets a job.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    revision: Revision,
    /// Whether the values of the job's arguments are known to fit.
    is_judged: bool,
}

impl Serving<'_> {
    /// Places jobs for the elves where something has changed. What the bound of a batch leaves over waits for the next.
    pub(crate) fn place(&mut self, now: Clocks) {
        self.end_isolation();
        if self.graph.jobs.pauses().has_all() {
            return;
        }
        let mut budget = self.graph.config.step_max() * ASSIGNMENTS_PER_STEP;
        while let Some(elf) = self.graph.jobs.names_mut().pop_to_place() {
            if self.graph.jobs.elf(elf).is_paused {
                continue;
            }
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
            let choice = choose(self.graph.config, self.graph.jobs, self.sessions, free, elf);
            let (Some(Choice::Assign(slot, _)) | Some(Choice::Isolate(slot))) = choice else {
                passed = Some(free);
                continue;
            };
            if self.graph.is_held_back(slot) {
                *budget -= 1;
                self.graph.jobs.set_state(slot, State::Ready { queued: false });
                continue;
            }
            match choice {
                Some(Choice::Assign(_, terms)) => {
                    *budget -= 1;
                    self.assign(now, elf, free.session, slot, terms);
                }
                Some(Choice::Isolate(_)) | None => self.isolate(elf, free.session, slot),
            }
        }
    }

    fn assign(&mut self, now: Clocks, elf: ElfIdx, session: SessionIdx, slot: Slot, terms: Terms) {
        let Terms { revision, is_judged } = terms;
        self.graph.jobs.next_attempt(slot);
        let Timeouts { run, progress, .. } = self.times_of(session, slot);
        let jobs = &mut *self.graph.jobs;
        let job = &jobs[slot];
        let token = Token { job: job.id, attempt: job.attempt };
        let assignment = Assignment {
            token,
            priority: job.priority,
            flow: jobs.flow_of(job).id,
            elf: jobs.elf(elf).name.clone(),
            task: jobs.task_of(job).name.clone(),
            is_judged,
            run_timeout: run,
            progress_timeout: progress,
        };
        let suspicion = jobs.queue_of(job).kind.suspicion;
        if suspicion == Suspicion::Isolated {
            self.isolate(elf, session, slot);
        }
        let jobs = &mut *self.graph.jobs;
        // Out of the queue first: else it would seem that a job is left for what is free.
        let assign = self.sessions.next_assign(session);
        // Of one that does not tell of starts nothing better is known.
        let started = (!self.sessions[session].tells_starts).then_some(now.wall);
        jobs.set_state(slot, State::Running { session, assign, is_started: started.is_some() });
        let build = self.sessions[session].build;
        let is_suspect = suspicion != Suspicion::None;
        let (priority, since) = (jobs[slot].priority, now.wall);
        let (job, is_recalled) = (Some(slot), false);
        let held =
            Held { token, elf, job, revision, build, since, started, is_suspect, priority, is_recalled };
        self.sessions.hold(jobs, session, held);
        self.outbox.assign(self.sessions[session].id, assign, assignment);
    }
}

/// What is to become of a free slot.
pub(crate) enum Choice {
    /// It gets this job.
    Assign(Slot, Terms),
    /// Its session is kept for this job, and gets it when it holds nothing else.
    Isolate(Slot),
}

/// The best job that a session with a free slot takes, by what it declares and by what it holds.
#[cfg_attr(
    not(feature = "planted-bugs"),
    expect(unused_variables, reason = "it has the bugs that are planted")
)]
pub(crate) fn choose(
    config: &Config,
    jobs: &Jobs,
    sessions: &Sessions,
    free: FreeSlot,
    elf: ElfIdx,
) -> Option<Choice> {
    let session = &sessions[free.session];
    let declared = session.offers.get(&elf)?.declared.as_ref()?;
    let names = jobs.names();
    let declaration = names.declaration(declared.declaration);
    let assign = |queue: &Queue, slot: Slot| {
        let revision = declared.tasks.get(&queue.task)?.revision;
        let signature = declaration.signature(queue.task)?.id();
        let is_judged = queue.kind.judged.by_signature(signature).is_some();
        #[cfg(feature = "planted-bugs")]
        let is_judged = is_judged || config.leaves_out(PlantedBug::ValuesNotJudged);
        Some(Choice::Assign(slot, Terms { revision, is_judged }))
    };
    if let Some(kept) = session.kept_for {
        let job = jobs.follow(kept.job).filter(|job| job.state == State::Ready { queued: true })?;
        let queue = jobs.queue_of(job);
        let is_taken = queue.takers.contains(&declared.declaration);
        return if is_taken { assign(queue, kept.job.slot) } else { None };
    }
    for (_, queue) in &declaration.heads {
        let queue = names.queue(*queue);
        let Some(&(_, slot)) = queue.ready.first() else { continue };
        // What was recalled again and again goes where it begins at once, or it would go round.
        if free.is_busy && jobs.must_begin_at_once(slot) {
            return None;
        }
        let suspicion = queue.kind.suspicion;
        #[cfg(feature = "planted-bugs")]
        let suspicion = suspicion.as_if(config);
        match suspicion {
            Suspicion::None => return assign(queue, slot),
            Suspicion::Suspected if session.suspects == 0 => return assign(queue, slot),
            Suspicion::Isolated if session.held.is_empty() => return assign(queue, slot),
            Suspicion::Isolated if sessions.kept_for(jobs.edge_to(slot)).is_none() => {
                return Some(Choice::Isolate(slot));
            }
            Suspicion::Suspected | Suspicion::Isolated => {}
        }
    }
    None
}
