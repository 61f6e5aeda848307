//! Trying again: pauses that grow, and patience that ends.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::Error;

/// Pauses between tries of a call.
const CALL_PAUSE_MIN: Duration = Duration::from_millis(20);
const CALL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// After how long the log says that a call is still being repeated, and why.
const CALL_SLOW_MIN: Duration = Duration::from_secs(5);

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

/// Decides whether, and when, something that failed is tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// None: there is none.
    deadline: Option<Instant>,
    backoff: Backoff,
    began: Instant,
    /// Whether the log says by now that it takes long.
    is_told: bool,
}

impl Retry {
    /// Tries for as long as `patience` lasts, from now.
    pub(crate) fn new(patience: Duration) -> Self {
        // A patience beyond what a clock can count has no end.
        Self { deadline: Instant::now().checked_add(patience), ..Self::endless() }
    }

    /// Tries for as long as it takes, or until the caller loses interest.
    pub(crate) fn endless() -> Self {
        let backoff = Backoff::new(CALL_PAUSE_MIN, CALL_PAUSE_MAX);
        Self { deadline: None, backoff, began: Instant::now(), is_told: false }
    }

    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until the next try is due, or gives the error back if trying again cannot help or the time is up.
    pub(crate) async fn pause_or_give_up(&mut self, error: Error) -> Result<(), Error> {
        if error.is_retryable() { self.pause(error).await } else { Err(error) }
    }

    /// Waits until the next try is due, or gives the error back if the time is up.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let pause = self.backoff.next_pause().max(error.retry_after().unwrap_or_default());
        if pause > self.time_left() {
            return Err(error);
        }
        if !self.is_told && self.began.elapsed() >= CALL_SLOW_MIN {
            self.is_told = true;
            tracing::warn!(error = %error, "a call has been repeated for {} s", CALL_SLOW_MIN.as_secs());
        }
        tracing::debug!(error = %error, pause_ms = pause.as_millis(), "call is repeated");
        tokio::time::sleep(pause).await;
        Ok(())
    }
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
