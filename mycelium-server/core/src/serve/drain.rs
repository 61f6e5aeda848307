//! Instances that somebody tells to drain.

use crate::command::Drain;
use crate::effects::{Effects, Refusal, Reply, Send};
use crate::ids::Clocks;
use crate::index::SessionIdx;
use crate::serve::Serving;

impl Serving<'_> {
    pub(crate) fn on_drain(&mut self, now: Clocks, drain: &Drain, effects: &mut Effects) {
        let &Drain { request, instance, within } = drain;
        let sessions = self.sessions.of_instance(instance);
        let (mut held, mut is_told) = (0, true);
        for &session in &sessions {
            self.sessions.set_leaves_by(self.graph.jobs, session, now.steady.after(within));
            #[cfg(feature = "planted-bugs")]
            if self.graph.config.leaves_out(crate::config::PlantedBug::DrainedPlaced) {
                self.sessions.forget_draining(self.graph.jobs, session);
            }
            self.tell_to_drain(now, session, effects);
            let entry = &self.sessions[session];
            held += entry.held.len() as u64;
            is_told &= entry.knows_drain;
        }
        let answer = match sessions.is_empty() {
            true => Err(Refusal::InstanceNotFound(instance)),
            false => Ok(Reply::Draining { held, is_told }),
        };
        effects.replies.push((request, answer));
    }

    /// One that does not know the word keeps what it holds, but for what it gives back, and is given no more.
    pub(super) fn tell_to_drain(&mut self, now: Clocks, session: SessionIdx, effects: &mut Effects) {
        let entry = &self.sessions[session];
        let Some(by) = entry.leaves_by else { return };
        if entry.knows_drain {
            effects.sends.push(Send::Drain { session: entry.id, within: by.since(now.steady) });
        } else {
            self.recall_unstarted(session);
        }
    }
}

#[cfg(test)]
mod tests;
