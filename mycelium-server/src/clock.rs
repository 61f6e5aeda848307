//! The broker's two clocks: one for intervals, one for what people see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mycelium_core::ids::{Clocks, Steady, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Never goes back, whatever somebody sets the machine's clock to, and counts the time that the machine was suspended:
/// jobs ran on elsewhere meanwhile. Where the system has no such clock, one that leaves suspended time out.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// Both clocks, and when the broker started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started_at: wall() }
    }

    pub(crate) fn now(&self) -> Clocks {
        Clocks { steady: steady(), wall: wall() }
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How long until `moment`; zero if it has passed.
    pub(crate) fn until(&self, moment: Steady) -> Duration {
        moment.since(steady())
    }
}

/// The machine's clock as it is set now. One that stands before 1970 is taken for 1970.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(micros(since))
}

fn steady() -> Steady {
    let read = clock_gettime(STEADY).or_else(|_no_such_clock| clock_gettime(ClockId::CLOCK_MONOTONIC));
    // POSIX has the second one everywhere.
    Steady(micros(read.map_or(Duration::ZERO, Duration::from)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_measured_by_a_clock_that_counts_suspended_time_and_not_by_the_wall_clock() {
        let clock = Clock::start();
        let before = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap();
        let now = clock.now();
        let after = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap();
        assert!((micros(before)..=micros(after)).contains(&now.steady.0), "{now:?}");
        assert!(now.wall >= clock.started_at());
        let soon = now.steady.after(Duration::from_secs(60));
        assert!(clock.until(soon) > Duration::from_secs(50));
        assert_eq!(clock.until(now.steady), Duration::ZERO);
    }
}
