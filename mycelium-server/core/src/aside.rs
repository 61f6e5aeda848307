//! Attempts whose arguments take longer to compute: they step aside, and what was assigned after them is sent before
//! them.
//!
//! An instance starts attempts in the order in which they reach it, and the numbers of its assignments are that order:
//! they tell which have reached it, and which it can have started. So an attempt that steps aside loses its number, and
//! gets the next one when it is sent after all.

use crate::core::Core;
use crate::effects::{Effects, Send};
use crate::ids::{AssignNumber, SessionId, Token};
use crate::slab::State;

/// What is aside is numbered from here, above all that is sent.
const ASIDE: AssignNumber = AssignNumber(1 << 63);

/// Whether it has stepped aside, and was never sent.
pub(crate) fn is_aside(assign: AssignNumber) -> bool {
    assign >= ASIDE
}

impl Core {
    /// Attempts step aside. They have not reached the instance, whose lease this does therefore not renew.
    pub(crate) fn on_arguments_delayed(&mut self, id: SessionId, tokens: &[Token]) {
        let Some(&session) = self.sessions.by_id.get(&id) else { return };
        for token in tokens {
            if let Some((_, assign)) = self.held_by(session, *token)
                && !is_aside(assign)
            {
                let held = &self.sessions.arena[session].held;
                let last = held.last_key_value().map_or(ASIDE, |(&last, _)| last.max(ASIDE));
                self.renumber(session, assign, AssignNumber(last.0 + 1));
            }
        }
    }

    /// The arguments of attempts that have stepped aside are there: they are sent now, but for those that were
    /// cancelled meanwhile, of which the instance never hears.
    pub(crate) fn on_arguments_ready(&mut self, id: SessionId, tokens: &[Token], effects: &mut Effects) {
        let Some(&session) = self.sessions.by_id.get(&id) else { return };
        let first = AssignNumber(self.sessions.arena[session].last_assign.0 + 1);
        let mut ready = Vec::with_capacity(tokens.len());
        for token in tokens {
            if let Some((_, assign)) = self.held_by(session, *token) {
                if is_aside(assign) {
                    let entry = &mut self.sessions.arena[session];
                    entry.last_assign = AssignNumber(entry.last_assign.0 + 1);
                    let next = entry.last_assign;
                    self.renumber(session, assign, next);
                    ready.push(*token);
                }
            } else if let Some(&assign) = self.sessions.arena[session].zombies.get(token)
                && is_aside(assign)
            {
                self.free_held(session, assign);
            }
        }
        effects.sends.push(Send::Ready { session: id, tokens: ready, first });
    }

    fn renumber(&mut self, session: u32, from: AssignNumber, to: AssignNumber) {
        let entry = &mut self.sessions.arena[session];
        let Some(held) = entry.held.remove(&from) else { return };
        entry.held.insert(to, held);
        if let Some(slot) = held.job {
            self.slab[slot].state = State::Running { session, assign: to };
        }
    }
}

#[cfg(test)]
mod tests;
