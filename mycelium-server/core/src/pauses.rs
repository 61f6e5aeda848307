//! Jobs that were handed back again and again: each stands beside its queue for a while before it is offered anew, so
//! that an elf which takes jobs and gives them back does not keep the broker and the disk busy with nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::Core;
use crate::ids::{Clocks, Steady};
use crate::slab::{Slot, State};

/// The pause after a job has come back a second time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Pauses double up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The jobs that pause. Few at a time: a job has a place here only while it waits for its pause to end.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    pub(crate) until: BTreeMap<Slot, Steady>,
    pub(crate) by_time: BTreeSet<(Steady, Slot)>,
}

impl Pauses {
    fn insert(&mut self, slot: Slot, until: Steady) {
        self.until.insert(slot, until);
        self.by_time.insert((until, slot));
    }

    /// A job no longer pauses, if it did.
    pub(crate) fn remove(&mut self, slot: Slot) {
        if let Some(until) = self.until.remove(&slot) {
            self.by_time.remove(&(until, slot));
        }
    }

    /// When the first of them ends.
    pub(crate) fn first(&self) -> Option<Steady> {
        self.by_time.first().map(|&(until, _)| until)
    }
}

/// How long a job pauses that has come back `times` times before.
fn pause_after(times: u8) -> Duration {
    match times {
        // Once is no pattern: an elf that drains hands back what it has not started.
        0 => Duration::ZERO,
        _ => PAUSE_MIN.saturating_mul(1 << (times - 1).min(16)).min(PAUSE_MAX),
    }
}

impl Core {
    /// A running job comes back without an outcome, and its elf lives: it returns to its place in the queue, the first
    /// time at once.
    pub(crate) fn hand_back(&mut self, now: Clocks, slot: Slot) {
        self.touch_record(slot);
        let job = &mut self.slab[slot];
        let pause = pause_after(job.handed_back);
        job.handed_back = job.handed_back.saturating_add(1);
        self.set_state(slot, State::Ready { queued: pause.is_zero() });
        if !pause.is_zero() {
            self.pauses.insert(slot, now.steady.after(pause));
        }
    }

    /// Puts the jobs whose pause is over back into their queues.
    pub(crate) fn end_pauses(&mut self, now: Clocks) {
        while let Some(&(until, slot)) = self.pauses.by_time.first()
            && until <= now.steady
        {
            // Leaving its state it leaves the pauses.
            self.set_state(slot, State::Ready { queued: true });
        }
    }
}

#[cfg(test)]
mod tests;
