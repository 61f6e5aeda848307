//! Watches whether the runtime that tasks run on makes progress. One whose threads are all blocked starts no task and
//! notices no cancellation, while the connection, on a thread of its own, goes on sending heartbeats.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::tasks::Task;

/// How often the runtime is asked for a sign of life.
const INTERVAL: Duration = Duration::from_secs(1);
/// From which delay on its tasks are said to stand still.
const LATE_MIN: Duration = Duration::from_secs(5);

/// Asks a runtime for signs of life. Belongs to a thread that is not of that runtime.
pub(super) struct Pulse {
    asks: mpsc::Sender<()>,
    has_answered: Arc<AtomicBool>,
    asked_at: Instant,
    looked_at: Instant,
    _answering: Task,
}

impl Pulse {
    /// Begins to ask `runtime`.
    pub(super) fn start(runtime: &Handle) -> Self {
        let (asks, mut asked) = mpsc::channel::<()>(1);
        let has_answered = Arc::new(AtomicBool::new(true));
        let answer = Arc::clone(&has_answered);
        let answers = async move {
            while asked.recv().await.is_some() {
                answer.store(true, Ordering::Release);
            }
        };
        let answering = Task::spawn(runtime, "pulse", answers, || ());
        let now = Instant::now();
        Self { asks, has_answered, asked_at: now, looked_at: now, _answering: answering }
    }

    /// Calls `tell` whenever the runtime is found to be late, with how late it is, and with none when it turns again.
    /// Never ends.
    pub(super) async fn watch(mut self, mut tell: impl FnMut(Option<Duration>)) -> Infallible {
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_late = false;
        loop {
            looks.tick().await;
            let late = self.late_by(Instant::now());
            if late.is_some() || was_late {
                tell(late);
            }
            was_late = late.is_some();
        }
    }

    /// How late the runtime is, if it is, and asks it anew if it has answered.
    fn late_by(&mut self, now: Instant) -> Option<Duration> {
        // If this look is late too, the whole process stood still: that says nothing of its runtime.
        let stood_still = now.duration_since(self.looked_at) > INTERVAL * 3;
        self.looked_at = now;
        if self.has_answered.swap(false, Ordering::Acquire) {
            self.asked_at = now;
            // There is room: the one before was taken. If the runtime is gone, so are its tasks.
            self.asks.try_send(()).ok();
        } else if stood_still {
            self.asked_at = now;
        }
        Some(now.duration_since(self.asked_at)).filter(|late| *late >= LATE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second, and returns what was found.
    fn looks(pulse: &mut Pulse, from: Instant, seconds: std::ops::Range<u64>) -> Vec<Option<u64>> {
        let look = |second| pulse.late_by(from + Duration::from_secs(second)).map(|late| late.as_secs());
        seconds.map(look).collect()
    }

    #[test]
    fn a_runtime_that_is_not_turned_is_late_and_one_that_turns_again_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut pulse = Pulse::start(runtime.handle());
        let turn = || runtime.block_on(async { tokio::task::yield_now().await });
        let start = pulse.looked_at;
        assert_eq!(looks(&mut pulse, start, 0..1), [None]);
        turn();
        assert_eq!(
            looks(&mut pulse, start, 1..8),
            [None, None, None, None, None, Some(5), Some(6)],
            "it answered the first question, and not the one of the first second"
        );
        turn();
        assert_eq!(looks(&mut pulse, start, 8..10), [None, None], "it turns again");
    }

    #[test]
    fn a_process_that_stood_still_as_a_whole_does_not_blame_its_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut pulse = Pulse::start(runtime.handle());
        let start = pulse.looked_at;
        assert_eq!(looks(&mut pulse, start, 0..2), [None, None]);
        assert_eq!(looks(&mut pulse, start, 60..61), [None], "stopped for a minute");
        assert_eq!(looks(&mut pulse, start, 61..66), [None, None, None, None, Some(5)]);
    }
}
