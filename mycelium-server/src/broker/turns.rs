//! Tells a stall of the broker from a busy moment.
//!
//! A broker that is paused, or whose disk hangs, receives nothing, and must not take that for the silence of others. What it
//! can know is how late it comes to its next turn.

use std::time::Duration;

use mycelium_core::ids::Steady;

/// How late a turn may be without being taken for a stall; a tenth of the lease if that is less. Load makes turns late
/// too, and must not keep the lease of a dead elf from running out.
const LATE_MAX: Duration = Duration::from_secs(1);

/// When the turns of the owner of the core are due.
#[derive(Debug)]
pub(super) struct Turns {
    late_max: Duration,
    /// When the turn before began; `None` if it may take as long as it likes until the next.
    begun: Option<Steady>,
}

impl Turns {
    pub(super) fn new(lease: Duration) -> Self {
        Self { late_max: LATE_MAX.min(lease / 10), begun: None }
    }

    /// How long to wait for something to do while anything is timed: so a pause always shows as a turn that is late,
    /// and never passes for idle time.
    pub(super) fn wait_max(&self) -> Duration {
        self.late_max / 2
    }

    /// How long to wait after a stall, so that what came meanwhile is read before anybody's lease is judged.
    pub(super) fn read_pause(&self) -> Duration {
        self.late_max / 4
    }

    /// A turn begins. Gives for how long the broker has stood still before it, if it has: by how much the turn is later
    /// than a busy broker may be.
    pub(super) fn begin(&mut self, now: Steady) -> Option<Duration> {
        let due = self.begun.replace(now)?.after(self.wait_max());
        now.since(due).checked_sub(self.late_max).filter(|by| !by.is_zero())
    }

    /// The clock was moved ahead: what was due is as far off as it was.
    pub(super) fn moved(&mut self, by: Duration) {
        self.begun = self.begun.map(|begun| begun.after(by));
    }

    /// Nothing is timed, or all of it begins anew: the next turn cannot be late.
    pub(super) fn forget(&mut self) {
        self.begun = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn only_what_is_later_than_a_busy_broker_may_be_is_a_stall() {
        let mut turns = Turns::new(Duration::from_secs(30));
        assert_eq!(turns.begin(Steady(SECOND)), None, "nothing is known of the time before");
        // Due half a second later, and late by a second at most.
        assert_eq!(turns.begin(Steady(SECOND * 5 / 2)), None);
        assert_eq!(turns.begin(Steady(SECOND * 4 + 1)), Some(Duration::from_micros(1)));
        let paused = turns.begin(Steady(SECOND * 64 + 1));
        assert_eq!(paused, Some(Duration::from_millis(58_500)));
        turns.moved(Duration::from_secs(3_600));
        assert_eq!(turns.begin(Steady(SECOND * 3_665)), None, "a clock that is moved is no stall");
        turns.forget();
        assert_eq!(turns.begin(Steady(SECOND * 10_000)), None);
    }

    #[test]
    fn a_short_lease_takes_shorter_delays_for_stalls() {
        let mut turns = Turns::new(Duration::from_secs(1));
        assert_eq!(turns.begin(Steady(0)), None);
        assert_eq!(turns.begin(Steady(150_000)), None);
        assert_eq!(turns.begin(Steady(1_650_000)), Some(Duration::from_millis(1_350)));
    }
}
