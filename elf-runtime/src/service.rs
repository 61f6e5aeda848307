//! An elf as a `tower::Service`, so that tower layers wrap it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _};

use crate::call::{TaskCall, TaskOutputs};
use crate::capture;
use crate::context::TaskContext;
use crate::elf::Elf;
use crate::task_error::{BoxError, TaskError};

/// The request to a service of an elf: run this task, in this context.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// The task and its arguments.
    pub call: TaskCall,
    /// The context of the attempt.
    pub context: TaskContext,
}

/// An elf, with the layers around it: what a worker calls.
pub type BoxElfService = BoxCloneSyncService<TaskRequest, TaskOutputs, BoxError>;

/// An elf as a `tower::Service`. Always ready: the worker limits how many jobs run at once.
///
/// ```
/// use std::time::Duration;
/// use elf_runtime::{machine_elf, ElfService};
/// use tower::timeout::TimeoutLayer;
///
/// struct Digger;
/// #[machine_elf]
/// impl Digger {
///     async fn task_dig(&self) {}
/// }
///
/// let service = ElfService::new(Digger).layer(TimeoutLayer::new(Duration::from_secs(5)));
/// ```
#[derive(Clone)]
pub struct ElfService {
    elf: Arc<dyn Elf>,
}

impl ElfService {
    /// The service of an elf.
    #[must_use]
    pub fn new(elf: impl Elf) -> Self {
        Self { elf: Arc::new(elf) }
    }

    /// The service of an elf that is shared.
    #[must_use]
    pub fn from_shared(elf: Arc<dyn Elf>) -> Self {
        Self { elf }
    }

    /// The elf.
    #[must_use]
    pub fn elf(&self) -> &Arc<dyn Elf> {
        &self.elf
    }

    /// The service with a layer around it.
    #[must_use]
    pub fn layer<L>(self, layer: L) -> BoxElfService
    where
        L: Layer<Self>,
        L::Service: Service<TaskRequest, Response = TaskOutputs, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        boxed(layer.layer(self))
    }

    /// The service as workers hold it.
    #[must_use]
    pub fn boxed(self) -> BoxElfService {
        boxed(self)
    }
}

/// Makes one type of every service of an elf, whatever layers it has.
pub(crate) fn boxed<S>(service: S) -> BoxElfService
where
    S: Service<TaskRequest, Response = TaskOutputs, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    BoxCloneSyncService::new(service.map_err(Into::into as fn(S::Error) -> BoxError))
}

impl Service<TaskRequest> for ElfService {
    type Response = TaskOutputs;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<TaskOutputs, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TaskRequest) -> Self::Future {
        let elf = Arc::clone(&self.elf);
        // The elf is called inside the future, so that a panic in `call` itself is caught with the rest.
        Box::pin(async move { elf.call(request.call, request.context).await.map_err(BoxError::from) })
    }
}

impl fmt::Debug for ElfService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElfService").finish_non_exhaustive()
    }
}

/// Runs one attempt through its service, as a worker does: whatever happens (a panic of the task or of a layer, an error
/// of a layer, outputs that are too large) comes out as the outcome of this attempt. Tests of elves call it, and workers
/// of one's own.
///
/// # Errors
/// The failure of the attempt.
pub async fn run_attempt(service: BoxElfService, request: TaskRequest) -> Result<TaskOutputs, TaskError> {
    let answer = capture::catch_panic(service.oneshot(request)).await?;
    let outputs = answer.map_err(TaskError::from_service)?;
    outputs.check_limits()?;
    Ok(outputs)
}
