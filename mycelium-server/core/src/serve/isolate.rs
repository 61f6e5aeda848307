//! Keeps processes for jobs that may be what ends them.

use crate::index::{ElfIdx, SessionIdx, Slot};
use crate::jobs::State;
use crate::serve::Serving;
use crate::sessions::KeptFor;

impl Serving<'_> {
    /// Keeps a session for a job, and no other.
    pub(super) fn isolate(&mut self, elf: ElfIdx, session: SessionIdx, slot: Slot) {
        let job = self.graph.jobs.edge_to(slot);
        match self.sessions.kept_for(job) {
            Some(before) if before == session => return,
            Some(before) => self.sessions.keep_no_longer(self.graph.jobs, before),
            None => {}
        }
        self.sessions.keep(self.graph.jobs, session, KeptFor { job, elf });
        self.recall_unstarted(session);
    }

    /// Sessions that are kept for a job which is over, or which they cannot take any more, are open for others again.
    pub(super) fn end_isolation(&mut self) {
        let over: Vec<_> = self.sessions.kept().filter(|kept| !self.is_kept_well(*kept)).collect();
        for (session, kept) in over {
            self.sessions.keep_no_longer(self.graph.jobs, session);
            // If its job is left, another may be there for that, which was passed over until now.
            if self.graph.jobs.follow(kept.job).is_some() {
                self.graph.jobs.names_mut().keep_to_place(kept.elf);
            }
        }
    }

    fn is_kept_well(&self, (session, kept): (SessionIdx, KeptFor)) -> bool {
        let Some(job) = self.graph.jobs.follow(kept.job) else { return false };
        match job.state {
            State::Running { session: holder, .. } => holder == session,
            State::Ready { .. } => {
                let entry = &self.sessions[session];
                let declared = entry.offers.get(&kept.elf).and_then(|offer| offer.declared.as_ref());
                let takes = declared.is_some_and(|declared| {
                    self.graph.jobs.queue_of(job).takers.contains(&declared.declaration)
                });
                let is_delayed = self.graph.jobs.tries(kept.job.slot).not_before.is_some();
                let is_held_back = is_delayed || self.graph.jobs.is_paused(job);
                entry.is_connected && !entry.is_draining && takes && !is_held_back
            }
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing => false,
        }
    }
}

#[cfg(test)]
mod tests;
