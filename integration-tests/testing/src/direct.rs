//! Tasks that a test calls without a broker.

use std::sync::Arc;

use elf_runtime::{
    BoxElfService, Elf, ElfService, FlowId, JobId, Mycelium, Output, Payload, TaskCall, TaskContext,
    TaskContextParts, TaskError, TaskOutputs, TaskReports, TaskRequest, run_attempt,
};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::wait::within;

/// A call of a task without a broker, as an attempt of a job: its arguments are read, a panic becomes a failure, and what it
/// returns has to be what travels. What it reports is there for the test.
///
/// Nothing but the test ends it: of its timeouts and its retries none counts.
///
/// ```
/// use elf_runtime::{TaskContext, TaskError, machine_elf};
/// use mycelium_testing::DirectCall;
///
/// struct Digger;
///
/// #[machine_elf]
/// impl Digger {
///     /// Digs on where an earlier attempt has left off.
///     async fn task_dig(&self, depth: u32, context: &TaskContext) -> Result<u32, TaskError> {
///         for meter in context.last_checkpoint()?.unwrap_or(0)..depth {
///             context.progress(f64::from(meter) / f64::from(depth), format_args!("at {meter} m"));
///             context.checkpoint(&(meter + 1)).await?;
///         }
///         Ok(depth)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> anyhow::Result<()> {
/// let dug = DirectCall::new(Digger, "task_dig").argument("depth", &3).attempt(2).last_checkpoint(&2).run().await;
/// assert_eq!(dug.reports.progress(), [(2.0 / 3.0, "at 2 m".to_owned())]);
/// assert_eq!(dug.reports.checkpoints().last().unwrap().read::<u32>()?, 3);
/// assert_eq!(dug.output::<u32>().unwrap(), 3);
///
/// let failed = DirectCall::new(Digger, "task_dig").argument("depth", &"deep").run().await;
/// assert_eq!(failed.output::<u32>().unwrap_err().failure_type(), "ArgumentTypeError");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is called before it is run or started"]
pub struct DirectCall {
    service: BoxElfService,
    call: (String, Vec<(String, Payload)>),
    attempt: u32,
    last_checkpoint: Option<Payload>,
    client: Option<Mycelium>,
}

impl DirectCall {
    /// A call of a task of this elf.
    pub fn new(elf: impl Elf, task: impl Into<String>) -> Self {
        Self::of(ElfService::new(elf).boxed(), task)
    }

    /// A call of a task of an elf in the layers around it, or of one that is shared:
    /// [`ElfService::layer`], [`ElfService::from_shared`].
    pub fn of(service: BoxElfService, task: impl Into<String>) -> Self {
        Self { service, call: (task.into(), Vec::new()), attempt: 1, last_checkpoint: None, client: None }
    }

    /// Gives an argument. Default: none.
    ///
    /// # Panics
    /// If it has no JSON form.
    #[track_caller]
    pub fn argument<T: Serialize + ?Sized>(mut self, parameter: impl Into<String>, value: &T) -> Self {
        self.call.1.push((parameter.into(), json(value)));
        self
    }

    /// The number of the attempt. Default: 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// What an earlier attempt has left. Default: nothing.
    ///
    /// # Panics
    /// If it has no JSON form.
    #[track_caller]
    pub fn last_checkpoint<T: Serialize + ?Sized>(mut self, state: &T) -> Self {
        self.last_checkpoint = Some(json(state));
        self
    }

    /// The client with which the task submits and inspects jobs. Default: none.
    pub fn client(mut self, client: Mycelium) -> Self {
        self.client = Some(client);
        self
    }

    /// Calls the task, and waits until it has returned.
    ///
    /// # Panics
    /// If it does not return within [`DEADLINE`](crate::DEADLINE).
    pub async fn run(self) -> Called {
        self.start().ended().await
    }

    /// Calls the task, for a test that does something meanwhile.
    pub fn start(self) -> Calling {
        let Self { service, call: (task, arguments), attempt, last_checkpoint, client } = self;
        let reports = TaskReports::default();
        let parts = TaskContextParts {
            job_id: JobId::generate(),
            flow_id: FlowId::generate(),
            attempt,
            elf: Arc::from("test"),
            task: Arc::from(&*task),
            cancellation: TaskContext::for_test().cancellation().clone(),
        };
        let mut context = TaskContext::new(parts).reporting_to(&reports);
        if let Some(checkpoint) = last_checkpoint {
            context = context.with_last_checkpoint(checkpoint);
        }
        if let Some(client) = client {
            context = context.with_client(client);
        }
        let request = TaskRequest { call: TaskCall::new(task, arguments), context: context.clone() };
        let ended = tokio::spawn(context.logging(run_attempt(service, request)));
        Calling { context, reports, ended }
    }
}

#[track_caller]
fn json<T: Serialize + ?Sized>(value: &T) -> Payload {
    match Payload::json(value) {
        Ok(payload) => payload,
        Err(error) => panic!("it cannot travel: {error}"),
    }
}

/// A task that was called and has not returned yet. It is dropped with this.
#[derive(Debug)]
pub struct Calling {
    context: TaskContext,
    reports: TaskReports,
    ended: JoinHandle<Result<TaskOutputs, TaskError>>,
}

impl Calling {
    /// What it has reported so far.
    pub fn reports(&self) -> &TaskReports {
        &self.reports
    }

    /// Cancels the attempt: the task is told. It is not dropped after its grace, as a worker would do.
    pub fn cancel(&self) {
        self.context.cancellation().cancel();
    }

    /// Waits until it has returned.
    ///
    /// # Panics
    /// If it does not return within [`DEADLINE`](crate::DEADLINE).
    pub async fn ended(mut self) -> Called {
        match within("the end of a task", &mut self.ended).await {
            Ok(result) => Called { result, reports: self.reports.clone() },
            // Panics of the task itself are caught.
            Err(error) => panic!("the attempt did not run to its end: {error}"),
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

/// A task that was called and has returned.
#[derive(Debug)]
pub struct Called {
    /// What it has returned, or the failure of the attempt.
    pub result: Result<TaskOutputs, TaskError>,
    /// What it has reported.
    pub reports: TaskReports,
}

impl Called {
    /// What it has returned.
    ///
    /// # Errors
    /// The failure of the attempt.
    ///
    /// # Panics
    /// If it has returned something else.
    #[track_caller]
    pub fn output<T: Output>(self) -> Result<T, TaskError> {
        match T::from_outputs(self.result?) {
            Ok(output) => Ok(output),
            Err(error) => panic!("it has returned something else: {error}"),
        }
    }
}
