//! Pauses between tries.

use std::time::Duration;

use uuid::Uuid;

/// Growing pauses with jitter, so that many callers cut off at once do not come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses that begin around `min` and double up to `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The next pause: between half of the current step and all of it.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(0.5 + random_fraction() / 2.0)
    }

    /// Begins again with the shortest pause, after something worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// A number in `0.0..1.0`. The lowest 32 bits of a UUID of version 7 are random, which is all that jitter needs.
fn random_fraction() -> f64 {
    let (_, low) = Uuid::now_v7().as_u64_pair();
    let random = u32::try_from(low & u64::from(u32::MAX)).unwrap_or_default();
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_again() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        let mut step = min;
        for _ in 0..20 {
            let pause = backoff.next_pause();
            assert!(pause >= step / 2 && pause <= step, "{pause:?} is not within a step of {step:?}");
            step = (step * 2).min(max);
        }
        assert_eq!(step, max);
        backoff.reset();
        assert!(backoff.next_pause() <= min);
    }
}
