//! Attempts whose arguments take longer to compute: they are delayed, and what was assigned after them is sent before
//! them.
//!
//! An instance starts attempts in the order in which they reach it, and the numbers of its assignments are that order:
//! they tell which have reached it, and which it can have started. So an attempt that is delayed loses its number, and
//! gets the next one when it is sent after all.

use crate::effects::{Effects, Send};
use crate::ids::{SessionId, Token};
use crate::serve::Serving;
use crate::sessions::is_delayed;

impl Serving<'_> {
    /// The arguments of attempts take longer to compute. They have not reached the instance, whose lease this does
    /// therefore not renew.
    pub(crate) fn on_arguments_delayed(&mut self, id: SessionId, tokens: &[Token]) {
        let Some(session) = self.sessions.find(id) else { return };
        for token in tokens {
            if let Some((slot, assign)) = self.held_by(session, *token)
                && !is_delayed(assign)
            {
                let assign = self.sessions.delay(session, assign);
                self.graph.jobs.set_assign(slot, assign);
            }
        }
    }

    /// The arguments of attempts that were delayed are there: they are sent now, but for those that were cancelled
    /// meanwhile, of which the instance never hears.
    pub(crate) fn on_arguments_ready(&mut self, id: SessionId, tokens: &[Token], effects: &mut Effects) {
        let Some(session) = self.sessions.find(id) else { return };
        let first = self.sessions.next_assign(session);
        let mut ready = Vec::with_capacity(tokens.len());
        for token in tokens {
            if let Some((slot, assign)) = self.held_by(session, *token) {
                if is_delayed(assign) {
                    let assign = self.sessions.undelay(session, assign);
                    self.graph.jobs.set_assign(slot, assign);
                    ready.push(*token);
                    // Somebody may have looked for it who could begin it at once.
                    let elf = self.graph.jobs.task_of(&self.graph.jobs[slot]).elf;
                    self.graph.jobs.names_mut().look_to_recall(elf);
                    if self.sessions[session].is_recalled(assign) {
                        // The word was about something that had not come.
                        self.outbox.recall(id, *token);
                    }
                }
            } else if let Some(&assign) = self.sessions[session].cancelled_in_flight.get(token)
                && is_delayed(assign)
            {
                self.release(session, assign);
            }
        }
        effects.sends.push(Send::Ready { session: id, tokens: ready, first });
    }
}

#[cfg(test)]
mod tests;
