//! What attempts report while they run: how far they are. It waits here for the connection to take it along.
//!
//! An attempt that reports nothing costs nothing here.

mod checkpoints;
mod hub;
mod kept;
mod logs;
mod text;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::checkpoints::Checkpoints;
pub(crate) use self::hub::{Hub, Waiting};
pub use self::kept::TaskReports;
use self::logs::Lines;
use self::text::Text;
use mycelium_proto::v1;

use crate::context::TaskContextParts;
use crate::value::payload::Payload;

/// What moments are counted from that are kept as a number.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

tokio::task_local! {
    /// The attempt whose task is polled.
    static CURRENT: Arc<Attempt>;
}

/// The attempt whose task is polled here, if any is.
pub(crate) fn current() -> Option<Arc<Attempt>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// What is logged by what a future does is of this attempt.
pub(crate) fn within<F: Future>(attempt: Arc<Attempt>, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(attempt, future)
}

/// Runs a blocking function. What it logs is of this attempt, if it is of any.
pub(crate) fn run_within<T>(attempt: Option<Arc<Attempt>>, function: impl FnOnce() -> T) -> T {
    match attempt {
        Some(attempt) => CURRENT.sync_scope(attempt, function),
        None => function(),
    }
}

/// An attempt that runs, with what it has reported.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) parts: TaskContextParts,
    /// What an earlier attempt has left.
    pub(crate) last_checkpoint: Option<Box<Payload>>,
    pub(crate) to: Destination,
    /// When it reported last, in microseconds from [`BEGINNING`]; 0: it has not.
    reported: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    progress: Option<Progress>,
    /// Whether that was not sent.
    is_progress_new: bool,
    /// What it has logged and was not sent, if it has logged anything.
    logs: Option<Box<Lines>>,
    /// What it leaves for those that come after it, if it has left anything.
    checkpoints: Option<Box<Checkpoints>>,
    /// Whether what it has reported waits to be sent.
    is_waiting: bool,
    /// Nothing more is taken from it.
    is_over: bool,
}

/// Where what an attempt reports goes.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    /// Nobody asks.
    Nowhere,
    /// It waits there to be sent.
    Broker(Arc<Hub>),
    /// A test of the task looks at it.
    Test(TaskReports),
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Progress {
    pub(crate) fraction: f64,
    pub(crate) text: String,
}

impl Attempt {
    pub(crate) fn new(
        parts: TaskContextParts,
        last_checkpoint: Option<Box<Payload>>,
        to: Destination,
    ) -> Arc<Self> {
        let (reported, state) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self { parts, last_checkpoint, to, reported, state })
    }

    fn hub(&self) -> Option<&Arc<Hub>> {
        match &self.to {
            Destination::Broker(hub) => Some(hub),
            Destination::Nowhere | Destination::Test(_) => None,
        }
    }

    /// Takes note of how far it is; the newest counts.
    pub(crate) fn progress(self: &Arc<Self>, fraction: f64, text: impl fmt::Display) {
        if fraction.is_nan() {
            return;
        }
        // Before the lock: whatever writes the text is not ours.
        let text = Text::of(text);
        self.touch();
        if let Destination::Test(reports) = &self.to {
            reports.add_progress(fraction.clamp(0.0, 1.0), text.as_str());
        }
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let progress = state.progress.get_or_insert_with(|| Progress { fraction: 0.0, text: String::new() });
        progress.fraction = fraction.clamp(0.0, 1.0);
        progress.text.clear();
        progress.text.push_str(text.as_str());
        state.is_progress_new = true;
        self.wait(state);
    }

    /// Takes a line of its log.
    pub(crate) fn log(self: &Arc<Self>, level: v1::LogLevel, target: &str, text: &str) {
        if let Destination::Test(reports) = &self.to {
            reports.add_line(logs::line(level, target, text));
        }
        let Some(hub) = self.hub() else { return };
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let lines = state.logs.get_or_insert_default();
        let before = lines.bytes();
        lines.add(level, target, text, hub.has_room_for_logs());
        hub.logs_changed(before, lines.bytes());
        self.wait(state);
    }

    /// Leaves something for the attempts that come after it, and waits until that is durable.
    ///
    /// # Errors
    /// Why it is not kept.
    pub(crate) async fn checkpoint(self: &Arc<Self>, payload: Payload) -> Result<(), String> {
        checkpoints::check(&payload)?;
        self.touch();
        if let Destination::Test(reports) = &self.to {
            reports.add_checkpoint(payload);
            return Ok(());
        }
        let Some(hub) = self.hub() else { return Ok(()) };
        let answer = {
            let mut state = self.state();
            if state.is_over {
                return Err(checkpoints::OVER.to_owned());
            }
            state.checkpoints.get_or_insert_default().ask(payload)
        };
        hub.wait_urgently(self);
        // Dropped without a word when the attempt ends.
        answer.await.unwrap_or_else(|_over| Err(checkpoints::OVER.to_owned()))
    }

    /// When it has reported last.
    pub(crate) fn last_reported(&self) -> Option<Instant> {
        match self.reported.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(*BEGINNING + Duration::from_micros(micros)),
        }
    }

    /// It reports, or does what counts as such.
    fn touch(&self) {
        let micros = u64::try_from(BEGINNING.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.reported.store(micros.max(1), Ordering::Relaxed);
    }

    /// What it has reported waits to be sent, if it does not yet.
    fn wait(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let was_waiting = std::mem::replace(&mut state.is_waiting, true);
        drop(state);
        if !was_waiting && let Some(hub) = self.hub() {
            hub.wait(self);
        }
    }

    /// It has ended: nothing more is taken from it.
    fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        let logs = state.logs.take();
        let has_reported = state.progress.is_some() || state.checkpoints.take().is_some() || logs.is_some();
        drop(state);
        if has_reported && let Some(hub) = self.hub() {
            hub.forget(self, logs);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the reports of an attempt when it is dropped.
#[derive(Debug)]
pub(crate) struct UntilEnded(pub(crate) Arc<Attempt>);

impl Drop for UntilEnded {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests;
