//! What a task reports when a test calls it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mycelium_proto::v1;

use crate::value::payload::Payload;

/// All that a task has reported in a context that was made for a test
/// ([`TaskContext::reporting_to`](crate::TaskContext::reporting_to)), each as a worker would have sent it. Cheap to clone; all
/// clones are of the same reports.
#[derive(Debug, Clone, Default)]
pub struct TaskReports {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    progress: Vec<(f64, String)>,
    logs: Vec<v1::LogLine>,
    checkpoints: Vec<Payload>,
}

impl TaskReports {
    /// How far it has said that it was, from 0 to 1, each time with its text.
    #[must_use]
    pub fn progress(&self) -> Vec<(f64, String)> {
        self.kept().progress.clone()
    }

    /// What it has logged: with [`TaskContext::log`](crate::TaskContext::log), or with `tracing` through a
    /// [`TaskLogLayer`](crate::logs::TaskLogLayer) within [`TaskContext::logging`](crate::TaskContext::logging).
    #[must_use]
    pub fn logs(&self) -> Vec<v1::LogLine> {
        self.kept().logs.clone()
    }

    /// The checkpoints that it has left; the next attempt would read the last of them.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Payload> {
        self.kept().checkpoints.clone()
    }

    pub(super) fn add_progress(&self, fraction: f64, text: &str) {
        self.kept().progress.push((fraction, text.to_owned()));
    }

    pub(super) fn add_line(&self, line: v1::LogLine) {
        self.kept().logs.push(line);
    }

    pub(super) fn add_checkpoint(&self, payload: Payload) {
        self.kept().checkpoints.push(payload);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each change of it is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
