//! The broker's two clocks: one for intervals, one for what people see.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mycelium_core::ids::{Clocks, Steady, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// How far clocks can be moved: what they show can still be told and added to.
const AHEAD_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Never goes back, whatever somebody sets the machine's clock to, and counts the time that the machine was suspended:
/// jobs ran on elsewhere meanwhile. Where the system has no such clock, one that leaves suspended time out.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// How far the clocks of a broker are ahead of the machine's: not at all, unless a test moves them. One for all of its
/// mycelia.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead {
    shared: Arc<Moved>,
}

#[derive(Debug, Default)]
struct Moved {
    micros: AtomicU64,
    /// Told when it is more.
    told: Notify,
}

impl Ahead {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.micros())
    }

    /// Moves the clocks by so much. Says whether they can be.
    pub(crate) fn add(&self, by: Duration) -> bool {
        let sum = |before: u64| before.checked_add(micros(by)).filter(|sum| *sum <= micros(AHEAD_MAX));
        let moved = self.shared.micros.fetch_update(Ordering::Release, Ordering::Relaxed, sum);
        self.shared.told.notify_waiters();
        moved.is_ok()
    }

    fn micros(&self) -> u64 {
        self.shared.micros.load(Ordering::Acquire)
    }
}

/// Both clocks, and when the broker started.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started_at: Timestamp,
    ahead: Ahead,
    /// How far they were ahead at the turn before.
    seen: Duration,
}

impl Clock {
    pub(crate) fn start(ahead: Ahead) -> Self {
        let seen = ahead.get();
        Self { started_at: ahead_by(seen).wall, ahead, seen }
    }

    pub(crate) fn now(&self) -> Clocks {
        ahead_by(self.ahead.get())
    }

    /// What they show as a turn begins, and by how much they were moved since the one before, if they were.
    pub(crate) fn turn(&mut self) -> (Clocks, Option<Duration>) {
        let ahead = self.ahead.get();
        let moved = ahead.checked_sub(std::mem::replace(&mut self.seen, ahead));
        (ahead_by(ahead), moved.filter(|by| !by.is_zero()))
    }

    pub(crate) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How long until `moment`; zero if it has passed.
    pub(crate) fn until(&self, moment: Steady) -> Duration {
        moment.since(self.now().steady)
    }

    /// Waits until so much time has passed by these clocks.
    pub(crate) async fn sleep(&self, time: Duration) {
        let until = self.now().steady.after(time);
        loop {
            // Before they are read: they may be moved between the two.
            let mut moved = pin!(self.ahead.shared.told.notified());
            moved.as_mut().enable();
            let left = self.until(until);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = moved => {}
            }
        }
    }
}

/// What clocks show that are so far ahead of the machine's.
fn ahead_by(ahead: Duration) -> Clocks {
    Clocks { steady: steady().after(ahead), wall: wall().after(ahead) }
}

/// The machine's clock as it is set now. One that stands before 1970 is taken for 1970.
fn wall() -> Timestamp {
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
        let clock = Clock::start(Ahead::default());
        let before = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap();
        let now = clock.now();
        let after = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap();
        assert!((micros(before)..=micros(after)).contains(&now.steady.0), "{now:?}");
        assert!(now.wall >= clock.started_at());
        let soon = now.steady.after(Duration::from_secs(60));
        assert!(clock.until(soon) > Duration::from_secs(50));
        assert_eq!(clock.until(now.steady), Duration::ZERO);
    }

    #[tokio::test]
    async fn clocks_that_are_moved_are_moved_for_all_who_have_them_and_wake_those_who_sleep() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let ahead = Ahead::default();
        let (mut clock, other) = (Clock::start(ahead.clone()), Clock::start(Ahead::default()));
        assert_eq!(clock.turn().1, None);
        let sleeper = clock.clone();
        let mut slept = pin!(sleeper.sleep(HOUR));
        assert!(futures::poll!(slept.as_mut()).is_pending());
        assert!(ahead.add(HOUR / 2));
        assert!(futures::poll!(pin!(clock.sleep(HOUR / 2))).is_pending());
        let (now, moved) = clock.turn();
        assert_eq!((moved, clock.turn().1), (Some(HOUR / 2), None), "a turn sees it once");
        assert!(
            now.steady.since(other.now().steady) > HOUR / 3 && now.wall.since(other.now().wall) > HOUR / 3
        );
        assert!(futures::poll!(slept.as_mut()).is_pending(), "half of it is left");
        // It waits when they are moved.
        let (_woken, moved) = tokio::join!(slept, async { ahead.add(HOUR / 2) });
        assert!(moved);
        assert_eq!(other.clone().turn().1, None, "that of another broker stands where it did");
        assert!(!ahead.add(AHEAD_MAX), "further than can be told");
        assert_eq!(ahead.get(), HOUR);
        assert_eq!(Clock::start(ahead).turn().1, None, "whoever begins later has not seen it move");
    }
}
