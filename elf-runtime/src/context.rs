//! The context of a running task.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::client::Mycelium;
use crate::ids::{FlowId, JobId};
use crate::task_error::TaskError;

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
    parts: Arc<TaskContextParts>,
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
        Self { parts: Arc::new(parts), client: None }
    }

    /// The same context with a client, for tasks that submit or inspect jobs.
    #[must_use]
    pub fn with_client(mut self, client: Mycelium) -> Self {
        // So that what the task submits names the attempt.
        self.client = Some(client.on_behalf_of_attempt(self.parts.job_id, self.parts.attempt));
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
        self.parts.job_id
    }

    /// The flow that the job belongs to.
    #[must_use]
    pub fn flow_id(&self) -> FlowId {
        self.parts.flow_id
    }

    /// The number of this attempt, from 1. Above 1 if the job was retried, or if an elf that held it was lost.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.attempt
    }

    /// The name under which this elf is served.
    #[must_use]
    pub fn elf(&self) -> &str {
        &self.parts.elf
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.parts.task
    }

    /// The client of the worker that runs the task, to submit or inspect jobs.
    ///
    /// # Errors
    /// A failure of the type `NoClientError` if there is none, as in a test without a broker.
    pub fn client(&self) -> Result<&Mycelium, TaskError> {
        let message = "this context has no client: it was made without a broker";
        self.client.as_ref().ok_or_else(|| TaskError::of_runtime("NoClientError", message.to_owned()))
    }

    /// Whether the attempt was cancelled, or its run timeout is over. A long computation checks this now and then, and returns
    /// early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.parts.cancellation.is_cancelled()
    }

    /// Completes when the attempt is cancelled, or its run timeout is over. A task that goes on after that is dropped when its
    /// grace is over ([`Worker::cancel_grace`](crate::Worker::cancel_grace)).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.parts.cancellation.cancelled()
    }

    /// The token behind [`TaskContext::cancelled`], to pass on to other code.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.parts.cancellation
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("job_id", &self.parts.job_id)
            .field("attempt", &self.parts.attempt)
            .field("elf", &self.parts.elf)
            .field("task", &self.parts.task)
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
