//! Everything that is due at some moment, in one table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{Clocks, Steady};
use crate::index::{SessionIdx, Slot, SubmissionIdx};
use crate::invariants::{InvariantViolation, check};

/// What is timed. Each has one moment at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// The lease of a session runs out.
    Lease(SessionIdx),
    /// Assignments of a session that its last stream has not confirmed go back to their queues.
    Unconfirmed(SessionIdx),
    /// It is looked for jobs that wait for their own ancestors.
    Waits,
    /// The pause of a job that was handed back again and again is over.
    Pause(Slot),
    /// A submission has waited too long for its next part.
    Idle(SubmissionIdx),
}

impl TimerKey {
    fn is_lease(self) -> bool {
        match self {
            Self::Lease(_) => true,
            Self::Unconfirmed(_) | Self::Waits | Self::Pause(_) | Self::Idle(_) => false,
        }
    }
}

/// The moments at which something is due, by a clock that leaves out the time in which the shell stood still: it could
/// hear nobody then, so that time counts for nobody's lease.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Steady, TimerKey)>,
    by_key: BTreeMap<TimerKey, Steady>,
    /// How many of them are leases.
    leases: usize,
    /// How long the shell has stood still, all in all. A stall is one addition, however much is timed.
    stood_still: Duration,
}

impl Timers {
    /// The shell stood still for so long.
    pub(crate) fn stall(&mut self, by: Duration) {
        self.stood_still += by;
    }

    /// What the shell's clocks show, with the time left out in which it stood still.
    pub(crate) fn attended(&self, now: Clocks) -> Clocks {
        Clocks { steady: now.steady.before(self.stood_still), ..now }
    }

    /// When the first is due, by the shell's clock.
    pub(crate) fn next_deadline(&self) -> Option<Steady> {
        self.by_time.first().map(|(at, _)| at.after(self.stood_still))
    }

    /// When this one is due, by the shell's clock.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Steady> {
        self.by_key.get(&key).map(|at| at.after(self.stood_still))
    }

    /// It is due then, and not when it was before.
    pub(crate) fn set(&mut self, key: TimerKey, at: Steady) {
        match self.by_key.insert(key, at) {
            Some(before) if before == at => return,
            Some(before) => {
                self.by_time.remove(&(before, key));
            }
            None => self.leases += usize::from(key.is_lease()),
        }
        self.by_time.insert((at, key));
    }

    /// It is due then, unless it is due before.
    pub(crate) fn set_earlier(&mut self, key: TimerKey, at: Steady) {
        let at = self.by_key.get(&key).map_or(at, |before| at.min(*before));
        self.set(key, at);
    }

    /// It is not due any more.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
            self.leases -= usize::from(key.is_lease());
        }
    }

    /// What is due by now, in order.
    pub(crate) fn due(&self, now: Steady) -> impl Iterator<Item = TimerKey> {
        self.by_time.iter().take_while(move |(at, _)| *at <= now).map(|&(_, key)| key)
    }

    /// Takes out the first that is due by now.
    pub(crate) fn pop_due(&mut self, now: Steady) -> Option<TimerKey> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(key);
        Some(key)
    }

    /// How many leases there are.
    pub(crate) fn leases(&self) -> usize {
        self.leases
    }

    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let (by_time, by_key) = (self.by_time.len(), self.by_key.len());
        check(by_time == by_key, "every timer is kept by its moment", || format!("{by_time} of {by_key}"))
    }

    /// All that is timed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = TimerKey> {
        self.by_key.keys().copied()
    }
}
