//! The broker's clock: wall time that never goes back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mycelium_core::ids::Timestamp;

/// Wall time at the start, moved on by a monotonic clock: leases and timeouts measured with it do not jump when
/// somebody sets the machine's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that starts now, and not before `floor`: so that it does not go back across a restart either.
    pub(crate) fn start(floor: Timestamp) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall = Timestamp(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX));
        Self { started_at: wall.max(floor), started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.after(self.started.elapsed())
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How long until `moment`; zero if it has passed.
    pub(crate) fn until(&self, moment: Timestamp) -> Duration {
        Duration::from_micros(moment.0.saturating_sub(self.now().0))
    }
}
