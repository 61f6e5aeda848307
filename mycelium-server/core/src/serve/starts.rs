//! Which attempts were started.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::Start;
use crate::ids::{AssignNumber, Clocks, SessionId};
use crate::index::{ElfIdx, SessionIdx};
use crate::serve::Serving;
use crate::sessions::is_delayed;

impl Serving<'_> {
    pub(crate) fn on_starts(&mut self, now: Clocks, id: SessionId, starts: &[Start]) {
        let Some(session) = self.alive(now, id) else { return };
        for Start { token, ago } in starts {
            let at = now.wall.before(*ago);
            if let Some((slot, assign)) = self.held_by(session, *token) {
                if self.sessions.set_started(self.graph.jobs, session, assign, at) {
                    self.graph.jobs.set_started(slot);
                    self.time_run(now, session, slot, *ago);
                }
            } else if let Some(&assign) = self.sessions[session].cancelled_in_flight.get(token) {
                self.sessions.set_started(self.graph.jobs, session, assign, at);
            }
        }
    }

    /// An instance says with its `Hello` whether it tells of starts, and gives back what is recalled. If it tells of none,
    /// what it holds counts as started since it was assigned, as all that it is given from now on. What was recalled of it is
    /// recalled again: that may be lost.
    pub(super) fn set_speaks(&mut self, session: SessionIdx, tells_starts: bool, knows_recall: bool) {
        self.sessions.set_speaks(session, tells_starts, knows_recall);
        let entry = &self.sessions[session];
        let recalled = entry.held.iter().filter(|(_, held)| held.is_recalled);
        let recalled: Vec<_> = recalled.map(|(&assign, held)| (assign, held.token)).collect();
        for (assign, token) in recalled {
            if knows_recall {
                self.outbox.recall(self.sessions[session].id, token);
            } else {
                self.sessions.set_recalled(self.graph.jobs, session, assign, false);
            }
        }
        if tells_starts {
            return;
        }
        let unstarted = self.sessions[session].held.iter().filter(|(_, held)| held.started.is_none());
        let unstarted: Vec<_> = unstarted.map(|(&assign, held)| (assign, held.job, held.since)).collect();
        for (assign, job, since) in unstarted {
            self.sessions.set_started(self.graph.jobs, session, assign, since);
            job.into_iter().for_each(|slot| self.graph.jobs.set_started(slot));
        }
    }

    /// Of what a session holds, that which can have been started by now.
    pub(super) fn may_have_started(&self, session: SessionIdx) -> BTreeSet<AssignNumber> {
        let entry = &self.sessions[session];
        let mut by_elf: BTreeMap<ElfIdx, Line> = BTreeMap::new();
        for (&assign, held) in &entry.held {
            let line = by_elf.entry(held.elf).or_default();
            if entry.tells_starts && held.started.is_some() {
                #[cfg(feature = "planted-bugs")]
                if self.graph.config.leaves_out(crate::config::PlantedBug::StartsDoNotCount) {
                    continue;
                }
                line.told.push(assign);
            } else if !is_delayed(assign) {
                let job = held.job.filter(|_| entry.tells_starts);
                let priority = job.map_or(0, |slot| self.graph.jobs[slot].priority);
                line.next.push((Reverse(priority), assign));
            }
        }
        let of_line = |(elf, line): (ElfIdx, Line)| {
            let concurrency = entry.offers.get(&elf).map_or(0, |offer| offer.window.concurrency);
            line.may_have_started(usize::try_from(concurrency).unwrap_or(usize::MAX))
        };
        by_elf.into_iter().flat_map(of_line).collect()
    }
}

/// What a session holds of an elf.
#[derive(Default)]
struct Line {
    /// What it has told to be started, if it tells.
    told: Vec<AssignNumber>,
    /// What else was sent to it, in the order in which it is started: by priority if it tells of starts, and by number.
    next: Vec<(Reverse<i32>, AssignNumber)>,
}

impl Line {
    /// What can have been started of it, if so many run at once; 0: that is not known, and all of it can.
    ///
    /// If fewer were told, those that came next were started as well: they are over, or the last words were lost.
    fn may_have_started(mut self, concurrency: usize) -> Vec<AssignNumber> {
        if concurrency > 0 {
            self.next.sort_unstable();
            self.next.truncate(concurrency.saturating_sub(self.told.len()));
        }
        self.told.extend(self.next.into_iter().map(|(_, assign)| assign));
        self.told
    }
}

#[cfg(test)]
mod tests;
