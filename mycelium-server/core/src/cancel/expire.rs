//! Ends jobs whose time is over, and lets those begin whose moment has come.
//!
//! Their moments are stored, and are those of the wall clock, so that the time counts in which no broker runs. While one runs
//! they must have come by the clock that is not set too: neither a step forward nor one back ends a job early. What waits when
//! the wall clock is set back waits until that has come to its moment, or is set forward again, and half a minute more at most.

use std::time::Duration;

use super::Cancelling;
use crate::effects::End;
use crate::ids::{Clocks, Timestamp};
use crate::index::Slot;
use crate::jobs::State;
use crate::sessions::is_delayed;
use crate::status::ExpiredWhy;
use crate::timers::TimerKey;

/// How long what was to have come by now waits at most until it is looked whether the wall clock says so.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl Cancelling<'_> {
    /// A job was to have ended by now.
    pub(crate) fn total_time_ends(&mut self, now: Clocks, slot: Slot) {
        let ends_by = self.graph.jobs.ends_by(slot);
        if self.is_over(now, TimerKey::Total(slot), ends_by) {
            self.end_job(now, slot, End::Expired(ExpiredWhy::Total));
        }
    }

    /// A job was to have been started by now. One that a process holds, and has not told to have started, comes back first.
    pub(crate) fn queue_time_ends(&mut self, now: Clocks, slot: Slot) {
        let starts_by = self.graph.jobs.starts_by(slot);
        if !self.is_over(now, TimerKey::Queue(slot), starts_by) {
            return;
        }
        match self.graph.jobs[slot].state {
            State::Running { session, assign, is_started: false } => {
                self.graph.jobs.set_overdue(slot);
                let entry = &self.sessions[session];
                if entry.knows_recall && !entry.is_recalled(assign) {
                    // What is not there yet is recalled when it is sent.
                    if let Some(held) = entry.held.get(&assign).filter(|_| !is_delayed(assign)) {
                        self.outbox.recall(entry.id, held.token);
                    }
                    self.sessions.set_recalled(self.graph.jobs, session, assign, true);
                }
            }
            State::Ready { .. } => self.end_job(now, slot, End::Expired(ExpiredWhy::Queue)),
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing
            | State::Running { is_started: true, .. } => {}
        }
    }

    /// The moment was to have come by now that a job waits for.
    pub(crate) fn delay_ends(&mut self, now: Clocks, slot: Slot) {
        let Some(moment) = self.graph.jobs.tries(slot).not_before else { return };
        if self.has_come(now, TimerKey::Delay(slot), moment) {
            self.graph.end_delay(slot);
        }
    }

    /// Whether the time of a job is over for which its timer has fired. If the wall clock was set back it is not.
    fn is_over(&mut self, now: Clocks, key: TimerKey, moment: Option<Timestamp>) -> bool {
        let (TimerKey::Queue(slot) | TimerKey::Total(slot)) = key else { return false };
        let Some(moment) = moment else { return false };
        #[cfg(feature = "planted-bugs")]
        let moment = match self.graph.config.leaves_out(crate::config::PlantedBug::ExpiresEarly) {
            true => now.wall,
            false => moment,
        };
        if !self.has_come(now, key, moment) {
            return false;
        }
        let job = &self.graph.jobs[slot];
        // What ends within moments ends as it was said.
        job.state != State::UpstreamFailing && !self.graph.jobs.is_cancelling(job)
    }

    /// Whether a moment has come for which a timer has fired. If the wall clock was set back it has not, and is waited for anew.
    fn has_come(&mut self, now: Clocks, key: TimerKey, moment: Timestamp) -> bool {
        let has_come = moment <= now.wall;
        #[cfg(feature = "planted-bugs")]
        let has_come = has_come || self.graph.config.leaves_out(crate::config::PlantedBug::BeginsEarly);
        if !has_come {
            let wait = moment.since(now.wall).min(LOOKS_AGAIN_AFTER);
            self.graph.timers.set(key, now.steady.after(wait));
        }
        has_come
    }
}

#[cfg(test)]
mod tests;
