//! The broker's wall clock, which somebody sets.

use mycelium_core::ids::Steady;

use super::super::clock::BEGAN_AT;
use super::super::seen::Seen;
use super::{Event, SECOND, SET_BY, World};

/// How far the wall clock is ahead of the one that nobody sets, in microseconds.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) now: u64,
    /// The furthest that it ever was.
    most: u64,
    /// Whether it was ever set.
    pub(super) is_set: bool,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { now: BEGAN_AT.0, most: BEGAN_AT.0, is_set: false }
    }
}

impl World {
    /// Somebody sets the clock by an hour, forwards or back.
    pub(super) fn set_clock(&mut self) {
        if !self.has_faults {
            return;
        }
        let is_forwards = match self.ahead.now {
            ahead if ahead < BEGAN_AT.0 => true,
            ahead if ahead > BEGAN_AT.0 => false,
            _ => self.rng.percent(50),
        };
        self.see(if is_forwards { Seen::SetForwards } else { Seen::SetBack });
        self.set_ahead(if is_forwards { self.ahead.now + SET_BY } else { self.ahead.now - SET_BY });
        self.after(self.length.apart(100 * SECOND), Event::SetClock);
    }

    /// The clock shows what it showed at most, so that every moment comes which it has ever been ahead of; by the clock that
    /// nobody sets, within an hour, and at once if the broker is started anew.
    pub(super) fn set_clock_right(&mut self) {
        if self.ahead.now != self.ahead.most {
            self.set_ahead(self.ahead.most);
        }
        if self.ahead.is_set && self.rng.percent(90) {
            self.rebuild();
        }
    }

    fn set_ahead(&mut self, ahead: u64) {
        // What has come by the clock as it was has come.
        if self.is_timed {
            self.explain(self.clocks());
        }
        self.ahead.now = ahead;
        self.ahead.is_set = true;
        self.ahead.most = self.ahead.most.max(ahead);
        self.oracle.deadlines.set_clock(Steady(self.now));
    }
}
