//! What the broker recalls, held against what its elves know and hold.

use std::collections::BTreeMap;

use mycelium_core::effects::Send;
use mycelium_core::ids::{Clocks, SessionId, Token};
use mycelium_core::image::LiveJob;

use super::super::client::ELVES;
use super::super::deadlines::{Timer, timeouts};
use super::super::seen::Seen;
use super::World;

/// How many jobs a process runs at once at most, whatever it has announced.
const CONCURRENCY_MAX: usize = 2;

/// Whether a process gives back what is recalled.
pub(super) fn knows_recall(process: usize) -> bool {
    process == 1 || process == 2
}

impl World {
    /// Checks what is recalled in a batch.
    pub(super) fn on_recalls(&mut self, now: Clocks, sends: &[Send]) {
        let mut new: BTreeMap<usize, BTreeMap<SessionId, usize>> = BTreeMap::new();
        for send in sends {
            let Send::Recall { session, tokens } = send else { continue };
            self.oracle.recalls.what_was_started_is_not_recalled(*session, tokens);
            let Some(process) = self.process_of(*session) else {
                // It is recalled again when its elf comes back, and need not be paused any more then.
                self.oracle.recalls.recalled.extend(tokens);
                continue;
            };
            holds!(RecallsFit, knows_recall(process), "session {session} does not know of recalls");
            let (recalled, deadlines) = (&mut self.oracle.recalls.recalled, &self.oracle.deadlines);
            let (live, now) = (&self.store.live, now.wall);
            // What was not started in time is recalled whoever could start it.
            let is_late = |token: &Token| {
                let queued_at = live.get(&token.job).and_then(|live| live.queued_at);
                let late = queued_at.zip(timeouts(token.job).queue).map(|(at, queue)| at.after(queue));
                late.is_some_and(|late| late <= now || deadlines.has_come(token.job, Timer::Queue, late))
            };
            // What came back in the same batch, and ended then because it was late, is told nobody.
            let is_held = |token: &Token| {
                let live = live.get(&token.job).filter(|live| live.attempt == token.attempt);
                live.is_some_and(|live| live.running.is_some())
            };
            let new_ones = tokens.iter().filter(|token| recalled.insert(**token));
            let new_ones: Vec<Token> = new_ones.copied().collect();
            new_ones.iter().for_each(|_| self.outcome.seen.see(Seen::Recalled));
            // What drains gives back all that it has not started, whoever could start it.
            if self.oracle.drained.contains(session) {
                continue;
            }
            let is_paused = |token: &Token| self.was_paused(token.job);
            let count = new_ones
                .iter()
                .filter(|token| is_held(token) && !is_late(token) && !is_paused(token))
                .count();
            *new.entry(self.processes[process].elf).or_default().entry(*session).or_default() += count;
        }
        self.oracle.recalls.end_batch();
        new.iter()
            .for_each(|(elf, by_session)| self.no_more_is_recalled_than_can_be_started(*elf, by_session));
    }

    /// Invariant: what is recalled can be started by those who have nothing to do, or is one job of each session, to make room
    /// for something of higher priority. But from a process that is kept for one job, everything is.
    fn no_more_is_recalled_than_can_be_started(&self, elf: usize, new: &BTreeMap<SessionId, usize>) {
        let is_isolated = |live: &LiveJob| *live.head.elf == *ELVES[elf] && live.elves_lost > 2;
        if self.store.live.values().any(is_isolated) {
            return;
        }
        let sessions = self.of_session.keys().filter(|session| {
            self.process_of(**session).is_some_and(|process| self.processes[process].elf == elf)
        });
        let can_start: usize =
            sessions.map(|session| CONCURRENCY_MAX.saturating_sub(self.held_by(*session))).sum();
        let all: usize = new.values().sum();
        let is_one_each = new.values().all(|recalled| *recalled <= 1);
        holds!(
            RecallsFit,
            all <= can_start || is_one_each,
            "{new:?} is recalled, and {can_start} can be started"
        );
    }

    fn held_by(&self, session: SessionId) -> usize {
        let is_there = |live: &&LiveJob| live.running.is_some_and(|running| running.session == session);
        self.store.live.values().filter(is_there).count()
    }
}
