//! Takes jobs back that wait in one process while another could begin them, or while a job of higher priority finds no room.
//!
//! A recalled attempt is its process's until that gives it back, starts it or is lost: nothing is assigned twice, and the
//! numbers of attempts fence as ever.

use std::cmp::Reverse;

#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
#[cfg(feature = "planted-bugs")]
use crate::ids::Steady;
use crate::ids::{AssignNumber, Clocks, SessionId};
use crate::index::{DeclarationIdx, ElfIdx, SessionIdx};
use crate::jobs::Laden;
use crate::serve::Serving;
use crate::sessions::{Held, is_delayed};

/// Of so many processes that could begin something, and of so many that hold too much, it is looked for what goes where.
const SESSIONS_LOOKED_AT: usize = 64;
/// So many attempts of a process are looked at, the last assigned first.
const HELD_LOOKED_AT: usize = 1_024;

impl Serving<'_> {
    /// Recalls what can be begun elsewhere, and what is in the way of something of higher priority. To be called when all
    /// is placed that can be.
    pub(crate) fn recall(&mut self) {
        if self.graph.jobs.names().has_to_place() {
            return;
        }
        while let Some(elf) = self.graph.jobs.names_mut().pop_to_recall() {
            let entry = self.graph.jobs.elf(elf);
            let idle = entry.free_slots.iter().take_while(|free| !free.is_busy).take(SESSIONS_LOOKED_AT);
            let idle: Vec<SessionIdx> = idle.map(|free| free.session).collect();
            let is_free = |session: &SessionIdx| self.sessions[*session].kept_for.is_none();
            let idle: Vec<SessionIdx> = idle.into_iter().filter(is_free).collect();
            if idle.is_empty() {
                self.recall_for_higher(elf);
            } else {
                self.recall_for_idle(elf, &idle);
            }
        }
    }

    /// Some processes could begin jobs and have none: others give up as many as that, of those that wait longest to begin.
    fn recall_for_idle(&mut self, elf: ElfIdx, idle: &[SessionIdx]) {
        // What is on its way back goes to the first of them.
        let mut expected = self.graph.jobs.elf(elf).recalled;
        for &session in idle {
            let Some(offer) = self.sessions[session].offers.get(&elf) else { continue };
            let Some(declared) = &offer.declared else { continue };
            let (declaration, can_start) = (declared.declaration, offer.can_start());
            let covered = can_start.min(expected);
            expected -= covered;
            let mut wanted = can_start - covered;
            #[cfg(feature = "planted-bugs")]
            if self.graph.config.leaves_out(PlantedBug::RecalledTooMuch) {
                wanted = u32::MAX;
            }
            for from in self.laden(elf) {
                if wanted == 0 {
                    break;
                }
                if from.session != session {
                    let at_most = wanted.min(from.waiting);
                    wanted -= self.recall_from(elf, from.session, declaration, i32::MAX, at_most);
                }
            }
        }
    }

    /// All processes are full: where something waits whose priority is lower than that of the best job that finds no room,
    /// it makes room for that.
    fn recall_for_higher(&mut self, elf: ElfIdx) {
        for from in self.laden(elf) {
            let Some(offer) = self.sessions[from.session].offers.get(&elf) else { continue };
            let Some(declared) = offer.declared.as_ref().filter(|_| offer.recalled == 0) else { continue };
            let declaration = declared.declaration;
            let best = self.graph.jobs.names().declaration(declaration).heads.first();
            if let Some(&((Reverse(priority), _), _)) = best {
                self.recall_from(elf, from.session, declaration, priority, 1);
            }
        }
    }

    /// Those where most wait first.
    fn laden(&self, elf: ElfIdx) -> Vec<Laden> {
        self.graph.jobs.elf(elf).laden.iter().rev().take(SESSIONS_LOOKED_AT).copied().collect()
    }

    /// Recalls jobs that have not been started, that this declaration takes, and whose priority is below this one: at most so
    /// many, those that go last first. Returns how many.
    fn recall_from(
        &mut self,
        elf: ElfIdx,
        session: SessionIdx,
        declaration: DeclarationIdx,
        below: i32,
        at_most: u32,
    ) -> u32 {
        let entry = &self.sessions[session];
        let jobs = &self.graph.jobs;
        let mut found: Vec<(i32, Reverse<AssignNumber>)> = Vec::new();
        for (&assign, held) in entry.held.iter().rev().take(HELD_LOOKED_AT) {
            let Some(slot) = held.job else { continue };
            let is_started = held.started.is_some();
            #[cfg(feature = "planted-bugs")]
            let is_started = is_started && !self.graph.config.leaves_out(PlantedBug::StartedRecalled);
            let waits = held.elf == elf && !is_started && !held.is_recalled && !is_delayed(assign);
            if waits && (held.priority < below || below == i32::MAX) {
                let queue = jobs.queue_of(&jobs[slot]);
                if jobs.names().declaration(declaration).takes(queue.task, &queue.kind) {
                    found.push((held.priority, Reverse(assign)));
                }
            }
        }
        found.sort_unstable();
        found.truncate(usize::try_from(at_most).unwrap_or(usize::MAX));
        let id = entry.id;
        for &(_, Reverse(assign)) in &found {
            let Some(&held) = self.sessions[session].held.get(&assign) else { continue };
            self.outbox.recall(id, held.token);
            self.sessions.set_recalled(self.graph.jobs, session, assign, true);
            #[cfg(feature = "planted-bugs")]
            if self.graph.config.leaves_out(PlantedBug::RecalledGivenAway) {
                self.take_back(Clocks { steady: Steady(0), wall: held.since }, session, assign);
            }
        }
        u32::try_from(found.len()).unwrap_or(u32::MAX)
    }

    /// Recalls all that a session has not started: the sooner it comes to what it is kept for.
    pub(super) fn recall_unstarted(&mut self, session: SessionIdx) {
        let entry = &self.sessions[session];
        if !entry.knows_recall {
            return;
        }
        let waits = |(assign, held): &(&AssignNumber, &Held)| {
            held.job.is_some() && held.started.is_none() && !held.is_recalled && !is_delayed(**assign)
        };
        let waiting = entry.held.iter().filter(waits);
        let waiting: Vec<_> = waiting.map(|(&assign, held)| (assign, held.token)).collect();
        let id = entry.id;
        for (assign, token) in waiting {
            self.outbox.recall(id, token);
            self.sessions.set_recalled(self.graph.jobs, session, assign, true);
        }
    }

    /// Goes on by one session. Says whether that was the last.
    pub(crate) fn go_on_recalling(&mut self, now: Clocks, after: &mut SessionId) -> bool {
        let Some((id, session)) = self.sessions.next_after(*after) else { return true };
        *after = id;
        self.recall_paused(now, session);
        false
    }

    /// Recalls what is paused of that which a session has not started. What has not been sent to it comes back at once.
    pub(super) fn recall_paused(&mut self, now: Clocks, session: SessionIdx) {
        if self.graph.jobs.pauses().is_empty() {
            return;
        }
        let (entry, jobs) = (&self.sessions[session], &self.graph.jobs);
        let is_recalled = |(assign, held): &(&AssignNumber, &Held)| {
            let waits = held.started.is_none() && !held.is_recalled;
            waits
                && (entry.knows_recall || is_delayed(**assign))
                && held.job.is_some_and(|slot| jobs.is_paused(&jobs[slot]))
        };
        let paused: Vec<_> =
            entry.held.iter().filter(is_recalled).map(|(&assign, held)| (assign, held.token)).collect();
        let id = entry.id;
        for (assign, token) in paused {
            if !is_delayed(assign) {
                self.outbox.recall(id, token);
                self.sessions.set_recalled(self.graph.jobs, session, assign, true);
            } else if let Some(held) = self.release(session, assign)
                && let Some(slot) = held.job
            {
                let held = self.sessions[session].running(&held);
                self.graph.never_sent(now, slot, held);
            }
        }
    }

    /// What was recalled comes back.
    pub(super) fn take_back(&mut self, now: Clocks, session: SessionIdx, assign: AssignNumber) {
        if let Some(held) = self.release(session, assign)
            && let Some(slot) = held.job
        {
            let held = self.sessions[session].running(&held);
            self.graph.take_back(now, slot, held);
        }
    }
}

#[cfg(test)]
mod tests;
