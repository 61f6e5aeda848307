//! What a stream that has ended leaves behind.

use std::time::Duration;

use crate::command::StreamEnd;
use crate::effects::Effects;
#[cfg(feature = "planted-bugs")]
use crate::ids::AssignNumber;
use crate::ids::{Clocks, SessionId};
use crate::image::AttemptEnd;
use crate::index::SessionIdx;
use crate::serve::{Serving, SessionEnd};
use crate::timers::TimerKey;

/// How long an elf has to come back with what it has not confirmed, before that is offered to others: only its own words
/// may have been lost, and then the end of its stream reaches it.
const RESUMED_WITHIN: Duration = Duration::from_secs(1);

impl Serving<'_> {
    /// That a stream ends is no sign of life: the lease goes on, or becomes shorter.
    pub(crate) fn on_stream_closed(&mut self, now: Clocks, id: SessionId, end: StreamEnd) {
        let Some(session) = self.sessions.find(id) else { return };
        self.sessions.set_connected(self.graph.jobs, session, false);
        match end {
            StreamEnd::Broken => self.shorten_lease(now, session),
            StreamEnd::ByShell => {
                #[cfg(feature = "planted-bugs")]
                if self.graph.config.leaves_out(crate::config::PlantedBug::LeaseShortenedByShell) {
                    self.shorten_lease(now, session);
                }
            }
            StreamEnd::Unconfirmed { received } => {
                self.sessions.set_received(session, received);
                let at = now.steady.after(RESUMED_WITHIN);
                self.graph.timers.set(TimerKey::Unconfirmed(session), at);
            }
        }
    }

    fn shorten_lease(&mut self, now: Clocks, session: SessionIdx) {
        let until = now.steady.after(self.graph.config.lease_after_reset);
        self.graph.timers.set_earlier(TimerKey::Lease(session), until);
    }

    /// The instance has come back, and names what it holds.
    pub(crate) fn forget_unconfirmed(&mut self, session: SessionIdx) {
        #[cfg(feature = "planted-bugs")]
        if self.graph.config.leaves_out(crate::config::PlantedBug::UnconfirmedThoughResumed) {
            return;
        }
        self.graph.timers.cancel(TimerKey::Unconfirmed(session));
    }

    /// What is not known to have reached the instance is offered to others. The rest is its own until its lease is over.
    pub(crate) fn give_back_unconfirmed(&mut self, now: Clocks, session: SessionIdx) {
        let received = self.sessions[session].received;
        #[cfg(feature = "planted-bugs")]
        let received = match self.graph.config.leaves_out(crate::config::PlantedBug::ConfirmedGivenAway) {
            true => AssignNumber(0),
            false => received,
        };
        for assign in self.sessions.held_after(session, received) {
            self.give_back(now, session, assign, AttemptEnd::NotHeld);
        }
    }

    /// Nobody will resume it, unless somebody has.
    pub(crate) fn on_process_gone(&mut self, now: Clocks, id: SessionId, effects: &mut Effects) {
        let Some(session) = self.sessions.find(id) else { return };
        let is_gone = !self.sessions[session].is_connected;
        #[cfg(feature = "planted-bugs")]
        let is_gone = is_gone || self.graph.config.leaves_out(crate::config::PlantedBug::GoneThoughResumed);
        if is_gone {
            self.end_session(now, session, SessionEnd::Lost, effects);
        }
    }
}

#[cfg(test)]
mod tests;
