//! Attempts whose arguments do not fit what their process declares. Most are told beforehand; what is left are values that
//! a declaration is asked about which came later than the job, and jobs that were stored before shapes were.

use crate::ids::{Clocks, SessionId, Token};
use crate::image::AttemptEnd;
use crate::serve::Serving;

impl Serving<'_> {
    /// The arguments of an attempt do not fit what its session declares. It never reached the instance, whose lease this
    /// does therefore not renew, and it counts for nothing: the job goes to whoever takes it.
    pub(crate) fn on_unfit(&mut self, now: Clocks, id: SessionId, token: Token) {
        let Some(session) = self.sessions.find(id) else { return };
        let Some((slot, assign)) = self.held_by(session, token) else {
            return self.drop_cancelled(session, token);
        };
        let Some(held) = self.release(session, assign) else { return };
        let entry = &self.sessions[session];
        let declared = entry.offers.get(&held.elf).and_then(|offer| offer.declared.as_ref());
        let declaration = declared.map(|declared| declared.declaration);
        #[cfg(feature = "planted-bugs")]
        let declaration = declaration
            .filter(|_| !self.graph.config.leaves_out(crate::config::PlantedBug::RefusalForgotten));
        let held = entry.running(&held);
        // One that is no longer offered, or was changed since, is not asked again or asked anew. That no further one can be
        // remembered must not keep the broker busy with nothing else.
        let is_remembered =
            declaration.is_none_or(|declaration| self.graph.jobs.refuse_declaration(slot, declaration));
        if is_remembered {
            self.graph.never_sent(now, slot, held);
        } else {
            self.graph.hand_back(now, slot, held, AttemptEnd::NotHeld);
        }
    }
}

#[cfg(test)]
mod tests;
