//! The context of a running task.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use mycelium_proto::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::client::Mycelium;
use crate::ids::{FlowId, JobId};
use crate::reports::{self, Attempt, Destination, Hub, TaskReports};
use crate::task_error::{TaskError, failure_type};
use crate::value::payload::Payload;

/// The context of a running task: its job, its attempt, whether it was cancelled.
///
/// A task of `#[machine_elf]` gets it by naming a parameter of type `&TaskContext` (or `TaskContext`), at any place.
/// Cheap to clone.
///
/// ```
/// # use elf_runtime::{machine_elf, TaskContext};
/// # struct Digger;
/// #[machine_elf]
/// impl Digger {
///     /// Digs until it is cancelled.
///     async fn task_dig(&self, context: &TaskContext) {
///         context.cancelled().await;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct TaskContext {
    attempt: Arc<Attempt>,
    /// The client of the worker that runs the task; none in tests.
    client: Option<Mycelium>,
}

/// The parts of a [`TaskContext`], as a worker knows them when it starts an attempt.
#[derive(Debug, Clone)]
pub struct TaskContextParts {
    /// The job.
    pub job_id: JobId,
    /// The flow it belongs to.
    pub flow_id: FlowId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The name under which the elf is served.
    pub elf: Arc<str>,
    /// The task.
    pub task: Arc<str>,
    /// Cancelled when the attempt is.
    pub cancellation: CancellationToken,
}

impl TaskContext {
    /// The context of an attempt. Workers make it; tests of tasks use [`TaskContext::for_test`].
    #[must_use]
    pub fn new(parts: TaskContextParts) -> Self {
        Self { attempt: Attempt::new(parts, None, Destination::Nowhere), client: None }
    }

    /// The context of an attempt whose reports go to the broker.
    pub(crate) fn reporting(
        parts: TaskContextParts,
        last_checkpoint: Option<Box<Payload>>,
        hub: Arc<Hub>,
    ) -> Self {
        Self { attempt: Attempt::new(parts, last_checkpoint, Destination::Broker(hub)), client: None }
    }

    /// The same context as that of an attempt after one that has left this checkpoint. Workers make it of what the broker
    /// says; this is for tests of tasks.
    #[must_use]
    pub fn with_last_checkpoint(mut self, checkpoint: Payload) -> Self {
        let (parts, to) = (self.parts().clone(), self.attempt.to.clone());
        self.attempt = Attempt::new(parts, Some(Box::new(checkpoint)), to);
        self
    }

    /// The same context as that of an attempt whose reports (progress, lines of its log, checkpoints) go to a test, and to
    /// nobody else.
    ///
    /// ```
    /// # use elf_runtime::{TaskContext, TaskReports};
    /// let reports = TaskReports::default();
    /// let context = TaskContext::for_test().reporting_to(&reports);
    /// context.progress(0.5, "row 500");
    /// assert_eq!(reports.progress(), [(0.5, "row 500".to_owned())]);
    /// ```
    #[must_use]
    pub fn reporting_to(mut self, reports: &TaskReports) -> Self {
        let (parts, last_checkpoint) = (self.parts().clone(), self.attempt.last_checkpoint.clone());
        self.attempt = Attempt::new(parts, last_checkpoint, Destination::Test(reports.clone()));
        self
    }

    /// The attempt itself.
    pub(crate) fn of_attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn parts(&self) -> &TaskContextParts {
        &self.attempt.parts
    }

    /// The same context with a client, for tasks that submit or inspect jobs.
    #[must_use]
    pub fn with_client(mut self, client: Mycelium) -> Self {
        // So that what the task submits names the attempt.
        self.client = Some(client.on_behalf_of_attempt(self.parts().job_id, self.parts().attempt));
        self
    }

    /// A context for calling a task in a test, without a broker: new ids, the first attempt, the elf `test`, the
    /// task `task_test`.
    #[must_use]
    pub fn for_test() -> Self {
        Self::new(TaskContextParts {
            job_id: JobId::generate(),
            flow_id: FlowId::generate(),
            attempt: 1,
            elf: Arc::from("test"),
            task: Arc::from("task_test"),
            cancellation: CancellationToken::new(),
        })
    }

    /// The job.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.parts().job_id
    }

    /// The flow that the job belongs to.
    #[must_use]
    pub fn flow_id(&self) -> FlowId {
        self.parts().flow_id
    }

    /// The number of this attempt, from 1. Above 1 if the job was retried, or if an elf that held it was lost.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts().attempt
    }

    /// The name under which this elf is served.
    #[must_use]
    pub fn elf(&self) -> &str {
        &self.parts().elf
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.parts().task
    }

    /// The client of the worker that runs the task, to submit or inspect jobs.
    ///
    /// # Errors
    /// A failure of the type `NoClientError` if there is none, as in a test without a broker.
    pub fn client(&self) -> Result<&Mycelium, TaskError> {
        let message = "this context has no client: it was made without a broker";
        self.client.as_ref().ok_or_else(|| TaskError::of_runtime("NoClientError", message.to_owned()))
    }

    /// Tells how far the attempt is: `fraction` from 0 to 1 (what is beyond is taken for the nearest, what is no number is
    /// ignored), and `text` for people, of which the first 255 bytes are shown.
    ///
    /// Cheap enough for a tight loop: the newest is kept, and sent to the broker about every 250 ms. Lists and watches of
    /// jobs show it while the attempt runs. Best effort: it may be lost, and is gone when the attempt has ended.
    ///
    /// ```
    /// # use elf_runtime::TaskContext;
    /// # fn rows(context: &TaskContext) {
    /// for row in 0..1_000 {
    ///     context.progress(f64::from(row) / 1_000.0, format_args!("row {row}"));
    /// }
    /// # }
    /// # rows(&TaskContext::for_test());
    /// ```
    pub fn progress(&self, fraction: f64, text: impl fmt::Display) {
        self.attempt.progress(fraction, text);
    }

    /// Logs a line for whoever asks what this attempt did (`mycelium logs JOB`). Of more than 8 KiB the beginning is kept, and
    /// of all lines of an attempt the first 64 KiB and the last 192 KiB. Best effort, and in the way of nothing.
    ///
    /// What is logged with `tracing` goes the same way through a [`TaskLogLayer`](crate::logs::TaskLogLayer).
    pub fn log(&self, text: impl fmt::Display) {
        self.attempt.log(v1::LogLevel::Info, "", &text.to_string());
    }

    /// What a future logs with `tracing` is of this attempt: for what a task spawns by itself. For the task itself nothing need
    /// be done.
    pub fn logging<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        reports::within(Arc::clone(&self.attempt), future)
    }

    /// Leaves something for the attempts of this job that come after this one, in place of what was left before, and waits
    /// until that is durable: then it survives the death of this process and of the broker, and the next attempt reads it
    /// with [`last_checkpoint`](Self::last_checkpoint). It is kept until the job is DONE.
    ///
    /// Of several that wait to be sent the newest stands for all. A broker that is unavailable is waited for. In a context
    /// that was made without a worker, as for a test, nothing is kept but by [`reporting_to`](Self::reporting_to).
    ///
    /// ```
    /// # use elf_runtime::{TaskContext, TaskError};
    /// # async fn rows(context: &TaskContext) -> Result<(), TaskError> {
    /// let first = context.last_checkpoint::<u32>()?.unwrap_or(0);
    /// for row in first..1_000 {
    ///     // What is done with a row may be done again, for those since the last checkpoint.
    ///     if row % 100 == 0 {
    ///         context.checkpoint(&row).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A failure of the type `CheckpointError` if it has no JSON form, takes more than 64 KiB, or the attempt is no longer
    /// this process's.
    ///
    /// # Cancel safety
    /// It may be kept or not when the future is dropped.
    #[track_caller]
    pub fn checkpoint<T: Serialize + ?Sized>(
        &self,
        state: &T,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<T> {
        self.keep(Payload::json(state).map_err(|error| format!("the checkpoint cannot be kept: {error}")))
    }

    /// As [`checkpoint`](Self::checkpoint), of bytes in an encoding of the task's own.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    #[track_caller]
    pub fn checkpoint_payload(
        &self,
        payload: Payload,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<> {
        self.keep(Ok(payload))
    }

    #[track_caller]
    fn keep(
        &self,
        payload: Result<Payload, String>,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<> {
        let (attempt, caller) = (Arc::clone(&self.attempt), Location::caller());
        async move {
            let kept = match payload {
                Ok(payload) => attempt.checkpoint(payload).await,
                Err(why) => Err(why),
            };
            kept.map_err(|why| TaskError::at(caller, failure_type::CHECKPOINT.to_owned(), why))
        }
    }

    /// What an earlier attempt of this job has left with [`checkpoint`](Self::checkpoint); `None` if none has.
    ///
    /// # Errors
    /// A failure of the type `CheckpointError` if it is not the JSON of a `T`, as when an earlier version of the task has
    /// left something else.
    #[track_caller]
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, TaskError> {
        let caller = Location::caller();
        self.last_checkpoint_payload().map(Payload::read).transpose().map_err(|error| {
            let message = format!("the last checkpoint cannot be read: {error}");
            TaskError::at(caller, failure_type::CHECKPOINT.to_owned(), message)
        })
    }

    /// As [`last_checkpoint`](Self::last_checkpoint), as it was left.
    #[must_use]
    pub fn last_checkpoint_payload(&self) -> Option<&Payload> {
        self.attempt.last_checkpoint.as_deref()
    }

    /// Whether the attempt was cancelled, or its run timeout is over. A long computation checks this now and then, and returns
    /// early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.parts().cancellation.is_cancelled()
    }

    /// Completes when the attempt is cancelled, or its run timeout is over. A task that goes on after that is dropped when its
    /// grace is over ([`Worker::cancel_grace`](crate::Worker::cancel_grace)).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.parts().cancellation.cancelled()
    }

    /// The token behind [`TaskContext::cancelled`], to pass on to other code.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.parts().cancellation
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("job_id", &self.parts().job_id)
            .field("attempt", &self.parts().attempt)
            .field("elf", &self.parts().elf)
            .field("task", &self.parts().task)
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_context_and_its_clones_notice_the_cancellation() {
        let context = TaskContext::for_test();
        assert_eq!(context.client().unwrap_err().failure_type(), "NoClientError");
        let clone = context.clone();
        assert!(!clone.is_cancelled());
        context.cancellation().cancel();
        clone.cancelled().await;
        assert!(clone.is_cancelled());
    }
}
