//! How long to wait before the next attempt: as ArangoDB's rules for clients have it.

use std::time::{Duration, Instant};

use super::failure::Pace;

/// The longest pause before a statement is repeated that another was in the way of: the shortest is a fortieth of it.
const CONFLICT_MS: (u64, u64) = (5, 200);
/// The first pause while servers change places, and the longest; each is twice the one before.
const FAILOVER_MS: (u64, u64) = (100, 2_000);

/// The pauses of one request.
#[derive(Debug)]
pub(super) struct Backoff {
    /// No pause ends later.
    deadline: Instant,
    failovers: u32,
}

impl Backoff {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, failovers: 0 }
    }

    /// The next pause. `None` if there is no time for it.
    pub(super) fn next(&mut self, pace: Pace) -> Option<Duration> {
        let ms = match pace {
            Pace::Conflict => {
                let (least, most) = CONFLICT_MS;
                least + random_below(most - least + 1)
            }
            Pace::Failover => {
                let (first, most) = FAILOVER_MS;
                let full = (first << self.failovers.min(16)).min(most);
                self.failovers += 1;
                // Between half and all of it, so that those who failed together do not come back together.
                full / 2 + random_below(full / 2 + 1)
            }
        };
        let pause = Duration::from_millis(ms);
        (Instant::now() + pause < self.deadline).then_some(pause)
    }
}

/// A random number below `limit`, near enough to even. Without a source of randomness: the middle.
fn random_below(limit: u64) -> u64 {
    getrandom::u64().map_or(limit / 2, |random| random % limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_wait_for_milliseconds_and_failovers_twice_as_long_each_time() {
        let mut backoff = Backoff::new(Instant::now() + Duration::from_secs(60));
        for _ in 0..100 {
            let pause = backoff.next(Pace::Conflict).unwrap().as_millis();
            assert!((5..=200).contains(&pause), "{pause}");
        }
        for full in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let pause = backoff.next(Pace::Failover).unwrap().as_millis();
            assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
        }
        assert_eq!(Backoff::new(Instant::now()).next(Pace::Conflict), None, "there is no time left");
    }
}
