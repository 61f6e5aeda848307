//! How long attempts run, and how long those go on that were told to stop.
//!
//! Seen to on the thread of the connection: what burns CPU or blocks its thread, or all threads of its runtime, could not be
//! seen to from there. Only what is bounded is here. All of it goes by the clock for intervals, which nobody sets.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mycelium_proto::v1;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::attempt::Token;
use super::shared::Shared;
use crate::frames::Frame;
use crate::reports;
use crate::task_error::{TaskError, failure_type};

/// How much later than the grace is over it is taken that a task has not stopped: one that could be dropped is, by then.
const STOPPED_AFTER: Duration = Duration::from_millis(100);

/// How long an attempt may take, and go on without a report of how far it is. One of the two at least is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) run: Option<Duration>,
    pub(super) progress: Option<Duration>,
}

impl Bounds {
    /// None if there is no bound.
    pub(super) fn of(assignment: &v1::Assignment) -> Option<Self> {
        let read =
            |given: Option<prost_types::Duration>| given.and_then(|given| Duration::try_from(given).ok());
        let (run, progress) = (read(assignment.run_timeout), read(assignment.progress_timeout));
        (run.is_some() || progress.is_some()).then_some(Self { run, progress })
    }
}

/// The time of an attempt that was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overrun {
    Run(Duration),
    /// It reported nothing for so long.
    Progress(Duration),
}

impl Overrun {
    /// The failure that such an attempt ends with, the same for each of a task.
    pub(super) fn failure(self, elf: &str, task: &str) -> v1::Failure {
        let message = match self {
            Self::Run(run) => format!("the task did not return within its run timeout of {run:?}"),
            Self::Progress(within) => {
                format!("the task did not report progress within its progress timeout of {within:?}")
            }
        };
        let frame = Frame { function: format!("{elf}::{task}"), file: String::new(), line: 0 };
        TaskError::from_parts(failure_type::TIMEOUT.to_owned(), message, vec![frame], Vec::new()).into()
    }
}

/// The attempts of a worker that are bounded, and those that were told to stop.
#[derive(Debug, Default)]
pub(super) struct Limits {
    table: Mutex<Table>,
    /// Something is due sooner than it was.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Table {
    by_time: BTreeSet<(Instant, Key)>,
    entries: HashMap<Key, Entry>,
    /// When it is looked here next, whatever is put in that is due later.
    looked_at: Option<Instant>,
}

/// The serial number of an attempt. One that is bounded may be told to stop by the broker too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Bounded(u64),
    Stopped(u64),
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    token: Token,
    what: What,
}

#[derive(Debug)]
enum What {
    /// It runs.
    Runs(Arc<Run>),
    /// Its time was over, and so will be its grace.
    Overruns(Arc<Run>),
    /// The broker has told it to stop, and its grace will be over.
    Stops,
}

/// A bounded attempt that runs.
#[derive(Debug)]
struct Run {
    bounds: Bounds,
    began: Instant,
    elf: Arc<str>,
    task: Arc<str>,
    cancel: CancellationToken,
    /// What it reports.
    reports: Arc<reports::Attempt>,
    /// Set when it was over.
    overrun: OnceLock<Overrun>,
}

impl Run {
    /// What is over by now, or when it is to be looked again.
    fn look(&self, now: Instant) -> Result<Instant, Overrun> {
        let mut next = self.look_at_run(now)?;
        if let Some(within) = self.bounds.progress {
            let since = self.reports.last_reported().map_or(self.began, |reported| reported.max(self.began));
            let at = after(now, since, within);
            if at <= now {
                return Err(Overrun::Progress(within));
            }
            next = next.min(at);
        }
        Ok(next)
    }

    /// The same of how long it runs in all.
    fn look_at_run(&self, now: Instant) -> Result<Instant, Overrun> {
        let Some(run) = self.bounds.run else { return Ok(now + NEVER) };
        let at = after(now, self.began, run);
        if at <= now { Err(Overrun::Run(run)) } else { Ok(at) }
    }
}

/// What is beyond what the clock can show never comes.
fn after(now: Instant, since: Instant, duration: Duration) -> Instant {
    since.checked_add(duration).unwrap_or(now + NEVER)
}

/// As good as never.
const NEVER: Duration = Duration::from_secs(86_400);

/// An attempt to be bounded.
pub(super) struct Bounded {
    pub(super) bounds: Bounds,
    pub(super) token: Token,
    pub(super) serial: u64,
    pub(super) elf: Arc<str>,
    pub(super) task: Arc<str>,
    pub(super) cancel: CancellationToken,
    pub(super) reports: Arc<reports::Attempt>,
}

impl Limits {
    /// The task of an attempt begins now.
    pub(super) fn begin(self: &Arc<Self>, bounded: Bounded) -> Watched {
        let Bounded { bounds, token, serial, elf, task, cancel, reports } = bounded;
        let began = Instant::now();
        let run = Arc::new(Run { bounds, began, elf, task, cancel, reports, overrun: OnceLock::new() });
        let at = run.look(began).unwrap_or(began);
        self.put(Key::Bounded(serial), Entry { at, token, what: What::Runs(Arc::clone(&run)) });
        Watched { limits: Arc::clone(self), serial, run }
    }

    /// The broker has told an attempt to stop, and its grace is over then.
    pub(super) fn stop(&self, token: Token, serial: u64, grace: Duration) {
        let at = after_grace(Instant::now(), grace);
        self.put(Key::Stopped(serial), Entry { at, token, what: What::Stops });
    }

    fn put(&self, key: Key, entry: Entry) {
        let at = entry.at;
        let mut table = self.table();
        table.put(key, entry);
        let is_sooner = table.looked_at.is_none_or(|looked_at| at < looked_at);
        drop(table);
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// Sees to all that is due, for as long as it is polled.
    pub(super) async fn watch(&self, shared: &Shared, grace: Duration) -> Infallible {
        loop {
            let next = self.look(Instant::now(), shared, grace);
            tokio::select! {
                () = self.sooner.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Sees to what is due by now. Returns when the next is.
    fn look(&self, now: Instant, shared: &Shared, grace: Duration) -> Option<Instant> {
        let mut went_on = Vec::new();
        let mut table = self.table();
        while let Some((key, mut entry)) = table.take_due(now) {
            match entry.what {
                What::Runs(run) => {
                    match run.look(now) {
                        Ok(at) => entry = Entry { at, what: What::Runs(run), ..entry },
                        Err(overrun) => {
                            run.overrun.get_or_init(|| overrun);
                            run.cancel.cancel();
                            entry = Entry { at: after_grace(now, grace), what: What::Overruns(run), ..entry };
                        }
                    }
                    table.put(key, entry);
                }
                What::Overruns(run) => went_on.push((key, entry.token, Some(run))),
                What::Stops => went_on.push((key, entry.token, None)),
            }
        }
        table.looked_at = table.by_time.first().map(|(at, _)| *at);
        let next = table.looked_at;
        drop(table);
        for (Key::Bounded(serial) | Key::Stopped(serial), token, run) in went_on {
            let failure = run.map(|run| {
                let overrun = run.overrun.get().copied();
                (overrun.map(|overrun| overrun.failure(&run.elf, &run.task)), run.began.elapsed())
            });
            shared.on_went_on(token, serial, failure.and_then(|(failure, ran)| Some((failure?, ran))));
        }
        next
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn put(&mut self, key: Key, entry: Entry) {
        let at = entry.at;
        if let Some(before) = self.entries.insert(key, entry) {
            self.by_time.remove(&(before.at, key));
        }
        self.by_time.insert((at, key));
    }

    fn take_due(&mut self, now: Instant) -> Option<(Key, Entry)> {
        let &(at, key) = self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, key));
        Some((key, self.entries.remove(&key)?))
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.by_time.remove(&(entry.at, key));
        }
    }
}

/// A bounded attempt, for whoever runs it; it is bounded no longer when this is dropped.
pub(super) struct Watched {
    limits: Arc<Limits>,
    serial: u64,
    run: Arc<Run>,
}

impl Watched {
    /// Its task is over, or was dropped. Says whether its time was over, whatever it has come to: how long it may run in all
    /// also if that was not noticed, because the whole process stood still.
    pub(super) fn end(self) -> Option<Overrun> {
        self.run.overrun.get().copied().or_else(|| self.run.look_at_run(Instant::now()).err())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.limits.table().remove(Key::Bounded(self.serial));
    }
}

fn after_grace(now: Instant, grace: Duration) -> Instant {
    now + grace.min(NEVER) + STOPPED_AFTER
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
