//! Runs the attempts of one elf: by priority, and then first come, first started, so many at once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use mycelium_proto::v1::{self, outcome};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::attempt::{Finished, GOES_ON, Started, Token, Work};
use super::bounds::{Bounded, Limits, Watched};
use super::starts::Places;
use crate::call::{TaskCall, TaskOutputs};
use crate::client::Mycelium;
use crate::context::{TaskContext, TaskContextParts};
use crate::error::Error;
use crate::reports::{self, Hub, UntilEnded};
use crate::service::{self, BoxElfService, TaskRequest};
use crate::task_error::{TaskError, failure_type};
use crate::tasks::Task;
use crate::threads::Threads;
use crate::trace;

/// How much of a failure's message goes into a log, in bytes.
const MESSAGE_LOGGED_BYTES: usize = 2 * 1024;

/// Outcomes on their way from the threads of the tasks to the connection. Bounded by the windows: an attempt has one
/// outcome.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    finished: Mutex<Vec<Finished>>,
    /// Wakes whoever writes to the broker.
    pub(super) writer: AtomicWaker,
}

impl Outbox {
    fn put(&self, finished: Finished) {
        let was_empty = {
            let mut all = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(finished);
            all.len() == 1
        };
        // Otherwise the writer was woken before and has not looked yet.
        if was_empty {
            self.writer.wake();
        }
    }

    /// Swaps all outcomes that are there for an empty vector, whose memory is used again.
    pub(super) fn take(&self, empty: &mut Vec<Finished>) {
        debug_assert!(empty.is_empty(), "outcomes would be lost");
        std::mem::swap(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }
}

/// See the module.
pub(super) struct Executor {
    parts: ExecutorParts,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Of the runners, one each. A runner ends, under this lock, when it finds no work.
    places: Places,
}

impl Queue {
    /// Puts an attempt behind those that go before it. Most have the same priority, and go to the end.
    fn put(&mut self, work: Work) {
        if self.work.back().is_none_or(|last| last.priority >= work.priority) {
            return self.work.push_back(work);
        }
        let place = self.work.partition_point(|other| other.priority >= work.priority);
        self.work.insert(place, work);
    }
}

/// What an executor is made of.
pub(super) struct ExecutorParts {
    pub(super) name: Arc<str>,
    pub(super) service: BoxElfService,
    pub(super) concurrency: usize,
    pub(super) cancel_grace: Duration,
    pub(super) outbox: Arc<Outbox>,
    pub(super) limits: Arc<Limits>,
    /// Where what attempts report waits.
    pub(super) reports: Arc<Hub>,
    /// What tasks reach through their context.
    pub(super) client: Mycelium,
    /// Where tasks run: the runtime of the worker's caller.
    pub(super) runtime: Handle,
}

impl Executor {
    pub(super) fn new(parts: ExecutorParts) -> Arc<Self> {
        Arc::new(Self { parts, queue: Mutex::default() })
    }

    /// Queues attempts, and sees to it that enough runners are there.
    pub(super) fn start(self: &Arc<Self>, work: impl IntoIterator<Item = Work>) {
        let mut new = Vec::new();
        {
            let mut queue = self.queue();
            work.into_iter().for_each(|work| queue.put(work));
            while queue.places.len() < self.parts.concurrency && new.len() < queue.work.len() {
                new.push(queue.places.take());
            }
        }
        for place in new {
            // Each ends when there is no work, and cancels no attempt before its grace is over.
            let runner = Runner { executor: Arc::clone(self), place, owes: None, threads: Arc::default() };
            Task::spawn(&self.parts.runtime, "runner of attempts", runner.run(), || ()).detach();
        }
    }

    /// Reports the attempts that were cancelled before they were started.
    pub(super) fn sweep_cancelled(&self) {
        self.take_unstarted(
            |work| work.cancel.is_cancelled(),
            || outcome::Result::Cancelled(v1::AttemptCancelled {}),
        );
    }

    /// Hands back all attempts that were not started.
    pub(super) fn release_unstarted(&self) {
        self.take_unstarted(|_| true, || outcome::Result::Released(v1::AttemptReleased {}));
    }

    fn take_unstarted(&self, is_taken: impl Fn(&Work) -> bool, outcome: impl Fn() -> outcome::Result) {
        let mut taken = Vec::new();
        {
            let mut queue = self.queue();
            if !queue.work.iter().any(&is_taken) {
                return;
            }
            let (out, stay): (VecDeque<_>, _) =
                std::mem::take(&mut queue.work).into_iter().partition(is_taken);
            queue.work = stay;
            taken.extend(out);
        }
        for work in taken {
            self.parts.outbox.put(work.unstarted(outcome()));
        }
    }

    /// Adds the attempts whose start is to be told now. Says whether there may be others later.
    pub(super) fn tell_starts(&self, now: Instant, starts: &mut Vec<Started>) -> bool {
        let mut queue = self.queue();
        queue.places.tell(now, starts) || !queue.work.is_empty()
    }

    /// Hands back those of these attempts that were not started, and adds those that run, whose start is to be told now.
    pub(super) fn recall(&self, recalled: &HashSet<Token>, starts: &mut Vec<Started>) {
        self.queue().places.tell_of(recalled, starts);
        self.take_unstarted(
            |work| recalled.contains(&work.token),
            || outcome::Result::Released(v1::AttemptReleased {}),
        );
    }

    /// What was told of starts may have been lost.
    pub(super) fn tell_starts_again(&self) {
        self.queue().places.tell_again();
    }

    /// The next attempt for the runner in a place, which starts now.
    fn next_work(&self, place: usize) -> Option<(Work, Instant)> {
        let mut queue = self.queue();
        match queue.work.pop_front() {
            Some(work) => {
                let started = queue.places.start(place, work.token, work.serial);
                Some((work, started))
            }
            None => {
                queue.places.give_back(place);
                None
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a line for each attempt that failed. No details, causes or arguments: values are not logged.
    fn log_failure(&self, failure: &v1::Failure, token: Token, task: &str) {
        let place = failure.frames.iter().find(|frame| !frame.file.is_empty());
        let place = place.map(|frame| format!("{}:{}", frame.file, frame.line)).unwrap_or_default();
        let mut shown = failure.message.len().min(MESSAGE_LOGGED_BYTES);
        while !failure.message.is_char_boundary(shown) {
            shown -= 1;
        }
        tracing::warn!(
            job_id = %token.job_id,
            attempt = token.attempt,
            elf = &*self.parts.name,
            task,
            r#type = failure.r#type,
            error = format!("{}{}", &failure.message[..shown], if shown < failure.message.len() { "…" } else { "" }),
            place,
            "an attempt failed"
        );
    }

    /// Runs an attempt, whose blocking code runs on these threads.
    async fn attempt(&self, work: Work, threads: &Arc<Threads>) -> outcome::Result {
        let Work {
            token,
            serial,
            elf: _,
            priority: _,
            task,
            flow_id,
            arguments,
            last_checkpoint,
            trace,
            cancel,
            bounds,
        } = work;
        if cancel.is_cancelled() {
            return outcome::Result::Cancelled(v1::AttemptCancelled {});
        }
        // What is large is read in the place that the attempt has among those that run, and its outputs are written in
        // it: so no more large values are held at once than there are places.
        let arguments = tokio::select! {
            biased;
            resolved = self.parts.client.blobs().resolve_arguments(arguments) => match resolved {
                Ok(arguments) => arguments,
                Err((parameter, error)) => return unreadable(&parameter, &error),
            },
            () = cancel.cancelled() => return outcome::Result::Cancelled(v1::AttemptCancelled {}),
        };
        let elf = &self.parts.name;
        let call = TaskCall::new(&*task, arguments);
        let parts = TaskContextParts {
            job_id: token.job_id,
            flow_id,
            attempt: token.attempt,
            elf: Arc::clone(elf),
            task: Arc::clone(&task),
            cancellation: cancel.clone(),
        };
        let context = TaskContext::reporting(parts, last_checkpoint, Arc::clone(&self.parts.reports));
        let reporting = Arc::clone(context.of_attempt());
        let _until_ended = UntilEnded(Arc::clone(&reporting));
        let watched = bounds.map(|bounds| {
            let (elf, task, cancel) = (Arc::clone(elf), Arc::clone(&task), cancel.clone());
            let reports = Arc::clone(&reporting);
            self.parts.limits.begin(Bounded { bounds, token, serial, elf, task, cancel, reports })
        });
        let client = self.parts.client.clone().in_trace(trace.map(|trace| trace.context));
        let context = context.with_client(client);
        let attempt = service::run_attempt(self.parts.service.clone(), TaskRequest { call, context });
        let attempt = reports::within(reporting, attempt);
        let returned = tokio::select! {
            biased;
            returned = Arc::clone(threads).scope(attempt) => Some(returned),
            () = async {
                cancel.cancelled().await;
                tokio::time::sleep(self.parts.cancel_grace).await;
            } => {
                tracing::warn!("task did not stop in time when it was told to, and is dropped");
                None
            }
        };
        if let Some(overrun) = watched.and_then(Watched::end) {
            return outcome::Result::Failure(overrun.failure(elf, &task));
        }
        match returned {
            Some(Ok(outputs)) => self.store(outputs, &cancel).await,
            Some(Err(error)) if !cancel.is_cancelled() => outcome::Result::Failure(error.into()),
            // What a task that was told to stop makes of it is not worth a failure.
            Some(Err(_)) | None => outcome::Result::Cancelled(v1::AttemptCancelled {}),
        }
    }

    /// Makes the outcome of what a task returned: what is large is written before it is reported. A broker that
    /// is unavailable is waited for.
    async fn store(&self, outputs: TaskOutputs, cancel: &CancellationToken) -> outcome::Result {
        tokio::select! {
            biased;
            stored = self.parts.client.blobs().store_outputs(outputs) => match stored {
                Ok(outputs) => outcome::Result::Outputs(outputs),
                Err(error) => {
                    let message = format!("what the task returned cannot be written: {error}");
                    outcome::Result::Failure(TaskError::of_runtime(failure_type::BLOB, message).into())
                }
            },
            () = cancel.cancelled() => outcome::Result::Cancelled(v1::AttemptCancelled {}),
        }
    }
}

/// Runs attempts one after the other for as long as there are any.
struct Runner {
    executor: Arc<Executor>,
    place: usize,
    /// The attempt it runs, which has no outcome yet.
    owes: Option<Started>,
    /// On which its attempts run blocking code.
    threads: Arc<Threads>,
}

impl Runner {
    async fn run(mut self) {
        while let Some((work, at)) = self.executor.next_work(self.place) {
            let (token, serial) = (work.token, work.serial);
            self.owes = Some(Started { token, serial, at });
            let (elf, trace) = (&self.executor.parts.name, work.trace.as_deref());
            let span = trace::span_of_attempt(token.job_id, token.attempt, elf, &work.task, trace);
            let task = Arc::clone(&work.task);
            let outcome = self.executor.attempt(work, &self.threads).instrument(span).await;
            if let outcome::Result::Failure(failure) = &outcome {
                self.executor.log_failure(failure, token, &task);
            }
            let bytes = bytes_of(&outcome);
            let goes_on = self.threads.are_busy();
            let ran = Some(at.elapsed());
            self.executor.parts.outbox.put(Finished { token, serial, outcome, ran, bytes, goes_on });
            self.owes = None;
            if goes_on {
                let job_id = token.job_id;
                tracing::warn!(%job_id, attempt = token.attempt, "{}", GOES_ON);
                self.threads.free().await;
                self.executor.parts.outbox.put(Finished::let_go(token, serial));
            }
            // Tasks that never wait would keep everything else off this thread.
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// A runner that panics, which the code of tasks cannot make it do, leaves no attempt without an outcome, and another
/// takes its place.
impl Drop for Runner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(Started { token, serial, at }) = self.owes {
            let message = "the worker panicked while it ran the attempt".to_owned();
            let outcome =
                outcome::Result::Failure(TaskError::of_runtime(failure_type::PANIC, message).into());
            let (ran, bytes) = (Some(at.elapsed()), bytes_of(&outcome));
            self.executor.parts.outbox.put(Finished { token, serial, outcome, ran, bytes, goes_on: false });
        }
        self.executor.queue().places.give_back(self.place);
        self.executor.start([]);
    }
}

/// The failure of a job whose argument is a blob that cannot be read, now or later.
fn unreadable(parameter: &str, error: &Error) -> outcome::Result {
    let message = format!("the argument for the parameter `{parameter}` cannot be read: {error}");
    outcome::Result::Failure(TaskError::of_runtime(failure_type::BLOB, message).into())
}

/// About how many bytes an outcome takes in a message.
fn bytes_of(outcome: &outcome::Result) -> usize {
    /// The token, tags and lengths.
    const FRAME_BYTES: usize = 64;
    FRAME_BYTES
        + match outcome {
            outcome::Result::Outputs(outputs) => {
                outputs.outputs.iter().map(prost::Message::encoded_len).sum()
            }
            outcome::Result::Failure(failure) => prost::Message::encoded_len(failure),
            outcome::Result::Released(_) | outcome::Result::Cancelled(_) => 0,
        }
}
