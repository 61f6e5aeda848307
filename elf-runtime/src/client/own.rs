//! What a program has to do with a mycelium beside calling it: the elves that it serves itself, and what it was warned of.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How long a submission waits for the elves of its own program.
const WELCOMED_WITHIN: Duration = Duration::from_secs(10);
/// After how long it says so.
const SLOW_MIN: Duration = Duration::from_secs(1);
/// How many warnings are remembered, so that each is logged once.
const WARNINGS_MAX: usize = 1_024;

/// A program's own part in a mycelium.
#[derive(Debug)]
pub(crate) struct Own {
    /// How many of its workers run and have not been welcomed yet.
    unwelcomed: watch::Sender<usize>,
    warned: Mutex<HashSet<String>>,
}

impl Default for Own {
    fn default() -> Self {
        Self { unwelcomed: watch::Sender::new(0), warned: Mutex::default() }
    }
}

/// A worker that has not been welcomed, until this is dropped.
#[derive(Debug)]
pub(crate) struct Unwelcomed(watch::Sender<usize>);

impl Drop for Unwelcomed {
    fn drop(&mut self) {
        self.0.send_modify(|unwelcomed| *unwelcomed -= 1);
    }
}

impl Own {
    /// A worker begins to run.
    pub(crate) fn begin_worker(&self) -> Unwelcomed {
        self.unwelcomed.send_modify(|unwelcomed| *unwelcomed += 1);
        Unwelcomed(self.unwelcomed.clone())
    }

    /// Waits until the broker knows what the elves of this program take, so that it does not hold jobs for them against what
    /// others have declared. Not for ever: without them the broker may still take the jobs.
    pub(crate) async fn until_welcomed(&self) {
        let mut unwelcomed = self.unwelcomed.subscribe();
        if *unwelcomed.borrow_and_update() == 0 {
            return;
        }
        let welcomed = unwelcomed.wait_for(|unwelcomed| *unwelcomed == 0);
        let slow = async {
            tokio::time::sleep(SLOW_MIN).await;
            tracing::warn!("jobs are not submitted before the broker has welcomed the elves of this program");
            tokio::time::sleep(WELCOMED_WITHIN - SLOW_MIN).await;
        };
        tokio::select! {
            // Never an error: the sender lives as long as this.
            _ = welcomed => {}
            () = slow => tracing::warn!(
                "the broker has not welcomed the elves of this program in {} s; jobs are submitted all the same",
                WELCOMED_WITHIN.as_secs()
            ),
        }
    }

    /// Logs warnings of the broker, each once.
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        for warning in warnings {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() < WARNINGS_MAX && warned.insert(warning.clone()) {
                drop(warned);
                tracing::warn!("{warning}");
            }
        }
    }
}
