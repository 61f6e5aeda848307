//! How much a session holds of an elf beyond what it runs.

use std::time::Duration;

/// A session is given so much work beyond what it runs: enough to be busy while outcomes and jobs travel, and little enough
/// to go to somebody else soon.
const PREFETCHED: Duration = Duration::from_millis(100);
/// What took longer is taken to have taken that.
const RAN_MAX: Duration = Duration::from_secs(3_600);
/// The part of the mean that the newest attempt makes up: one in so many.
const NEWEST: u64 = 8;

/// How fast a session does the jobs of an elf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long the latest attempts ran in the mean, in microseconds; 0 before the first.
    mean: u64,
    /// How many jobs it is given beyond those that it runs.
    prefetch: u32,
    /// Whether attempts were noted since it was adapted.
    has_news: bool,
}

impl Default for Pace {
    /// Nothing is known: one job more keeps it from waiting.
    fn default() -> Self {
        Self { mean: 0, prefetch: 1, has_news: false }
    }
}

impl Pace {
    /// How many jobs it is given beyond those that it runs.
    pub(crate) fn prefetch(&self) -> u32 {
        self.prefetch
    }

    /// An attempt ran for so long.
    pub(crate) fn note(&mut self, ran: Duration) {
        let ran = u64::try_from(ran.min(RAN_MAX).as_micros()).unwrap_or(u64::MAX).max(1);
        self.mean = if self.mean == 0 { ran } else { (self.mean * (NEWEST - 1) + ran).div_ceil(NEWEST) };
        self.has_news = true;
    }

    /// Adapts what it is given to what was noted, if so many run at once: downwards at once, and upwards by twice at the
    /// most, since a few small ones say little of what comes. Says whether anything was noted.
    pub(crate) fn adapt(&mut self, concurrency: u32) -> bool {
        if !std::mem::take(&mut self.has_news) {
            return false;
        }
        let work =
            u64::try_from(PREFETCHED.as_micros()).unwrap_or(u64::MAX).saturating_mul(concurrency.into());
        let fitting = u32::try_from(work.div_ceil(self.mean)).unwrap_or(u32::MAX);
        self.prefetch = fitting.clamp(1, self.prefetch.saturating_mul(2));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is prefetched after messages with so many outcomes of attempts that ran so long.
    fn prefetched(pace: &mut Pace, messages: u32, ran: Duration, concurrency: u32) -> u32 {
        for _ in 0..messages {
            (0..16).for_each(|_| pace.note(ran));
            assert!(pace.adapt(concurrency) && !pace.adapt(concurrency));
        }
        pace.prefetch()
    }

    #[test]
    fn it_comes_to_a_tenth_of_a_second_of_work() {
        for (millis, concurrency, expected) in
            [(10, 1, 10), (10, 4, 40), (30, 1, 4), (1_000, 8, 1), (100, 8, 8)]
        {
            let ran = Duration::from_millis(millis);
            let pace = &mut Pace::default();
            assert_eq!(
                prefetched(pace, 12, ran, concurrency),
                expected,
                "{millis} ms, {concurrency} at once"
            );
        }
    }

    #[test]
    fn it_grows_by_twice_and_shrinks_at_once() {
        let pace = &mut Pace::default();
        let grown: Vec<u32> = (0..12).map(|_| prefetched(pace, 1, Duration::from_micros(3), 1)).collect();
        assert_eq!(
            grown,
            (1..13).map(|n| 1 << n).collect::<Vec<u32>>(),
            "what takes nothing comes to thousands"
        );
        assert_eq!(prefetched(pace, 2, Duration::from_secs(1), 1), 1);
        assert_eq!(prefetched(pace, 30, Duration::ZERO, u32::MAX), 1 << 30);
        assert_eq!(prefetched(pace, 3, Duration::ZERO, u32::MAX), u32::MAX, "without an overflow");
        assert_eq!(prefetched(pace, 9, Duration::MAX, 1), 1);
    }
}
