//! The worker: serves elves, runs their jobs, and delivers every outcome to the broker.

mod attempt;
mod bounds;
mod connection;
mod executor;
mod fatal;
mod fit;
mod identity;
mod intervals;
mod ledger;
mod pulse;
mod shared;
mod starts;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mycelium_proto::limits;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use self::bounds::Limits;
use self::connection::{Connection, OnReady};
use self::executor::{Executor, ExecutorParts, Outbox};
use self::fit::{fit_elf, fit_hello};
use self::identity::Identity;
use self::ledger::{ElfAccount, Ledger};
use self::pulse::Pulse;
use self::shared::Shared;
use crate::call::TaskOutputs;
use crate::client::{Mycelium, Unwelcomed};
use crate::elf::Elf;
use crate::error::Error;
use crate::reports::Hub;
use crate::service::{self, BoxElfService, ElfService, TaskRequest};
use crate::task_error::BoxError;
use crate::transport::ElfLine;

/// How many jobs an elf holds beyond those it runs, unless its window is set.
const PREFETCH_DEFAULT: u32 = 512;
/// How long a worker that is to stop waits for its tasks, unless set otherwise.
const DRAIN_GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// How long a task that was cancelled may go on, unless set otherwise.
const CANCEL_GRACE_DEFAULT: Duration = Duration::from_secs(5);

impl Mycelium {
    /// Begins to set up a worker: a process that serves elves.
    ///
    /// ```no_run
    /// # use elf_runtime::{machine_elf, Mycelium};
    /// # struct Scale;
    /// # #[machine_elf]
    /// # impl Scale { async fn task_weigh(&self, species: String) -> i64 { 7 } }
    /// # async fn serve() -> Result<(), elf_runtime::Error> {
    /// Mycelium::connect("http://127.0.0.1:7420")
    ///     .await?
    ///     .serve()
    ///     .elf("scale", Scale)
    ///     .concurrency(8)
    ///     .run()
    ///     .await
    /// # }
    /// ```
    pub fn serve(&self) -> WorkerBuilder {
        WorkerBuilder { mycelium: self.clone() }
    }
}

/// A worker without an elf yet; see [`Mycelium::serve`].
#[derive(Debug, Clone)]
#[must_use = "a worker does nothing until it runs"]
pub struct WorkerBuilder {
    mycelium: Mycelium,
}

impl WorkerBuilder {
    /// Serves an elf under this name. Several workers may serve the same name, and then share its jobs.
    pub fn elf(self, name: impl Into<String>, elf: impl Elf) -> Worker {
        self.shared_elf(name, Arc::new(elf))
    }

    /// As [`elf`](Self::elf), for an elf that others hold too.
    pub fn shared_elf(self, name: impl Into<String>, elf: Arc<dyn Elf>) -> Worker {
        Worker {
            mycelium: self.mycelium,
            others: Vec::new(),
            last: Served::new(name.into(), elf),
            drain_grace: DRAIN_GRACE_DEFAULT,
            cancel_grace: CANCEL_GRACE_DEFAULT,
            on_ready: None,
            build_id: String::new(),
        }
    }
}

/// One elf that is served, and how.
struct Served {
    name: String,
    elf: Arc<dyn Elf>,
    service: BoxElfService,
    concurrency: Option<u32>,
    window: Option<u32>,
}

impl Served {
    fn new(name: String, elf: Arc<dyn Elf>) -> Self {
        let service = ElfService::from_shared(Arc::clone(&elf)).boxed();
        Self { name, elf, service, concurrency: None, window: None }
    }
}

/// A worker: serves one elf or several on one connection.
///
/// [`concurrency`](Self::concurrency), [`window`](Self::window) and [`layer`](Self::layer) speak of the elf named
/// last. Tasks run on the runtime that [`run`](Self::run) or [`run_until`](Self::run_until) is called on; the
/// connection has a thread of its own, so that a task that burns CPU never keeps signs of life from the broker. If all
/// threads of that runtime are blocked for more than 5 s, the log says so, and the broker tells whoever asks why a job
/// waits.
///
/// A worker survives its broker: when the connection breaks, tasks go on, outcomes are kept, and both are taken up
/// again when a broker answers, for as long as it takes.
#[must_use = "a worker does nothing until it runs"]
pub struct Worker {
    mycelium: Mycelium,
    others: Vec<Served>,
    last: Served,
    drain_grace: Duration,
    cancel_grace: Duration,
    on_ready: Option<OnReady>,
    build_id: String,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elves: Vec<_> = self.others.iter().chain([&self.last]).map(|served| &served.name).collect();
        formatter.debug_struct("Worker").field("elves", &elves).finish_non_exhaustive()
    }
}

impl Worker {
    /// Serves one more elf.
    pub fn elf(self, name: impl Into<String>, elf: impl Elf) -> Self {
        self.shared_elf(name, Arc::new(elf))
    }

    /// Serves one more elf, which others hold too.
    pub fn shared_elf(mut self, name: impl Into<String>, elf: Arc<dyn Elf>) -> Self {
        let before = std::mem::replace(&mut self.last, Served::new(name.into(), elf));
        self.others.push(before);
        self
    }

    /// How many jobs of this elf run at once, started in the order they were assigned. At least 1. Default: the number of
    /// CPUs, which suits tasks that compute. Tasks that mostly wait need more.
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.last.concurrency = Some(concurrency);
        self
    }

    /// How many jobs of this elf are held at once, those not started included; at most 65,536, and at least the
    /// concurrency. Default: 512 more than the concurrency.
    ///
    /// A large window keeps an elf with tiny tasks busy while outcomes and new jobs travel. A small one, down to the
    /// concurrency, shares long jobs fairly between workers, because a job that waits here cannot run elsewhere; and
    /// fewer jobs wait for the lease to run out when the process dies.
    pub fn window(mut self, window: u32) -> Self {
        self.last.window = Some(window);
        self
    }

    /// Wraps the elf in a tower layer, around the layers it has already. An error of the layer fails the attempt.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxElfService>,
        L::Service: Service<TaskRequest, Response = TaskOutputs, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.last.service = service::boxed(layer.layer(self.last.service));
        self
    }

    /// How long a worker that was told to stop waits for its running tasks, and for the broker to take their
    /// outcomes. Default: 10 s.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// How long a task may go on after its cancellation, or when its run timeout is over, before its future is dropped.
    /// Default: 5 s; shorter than the margin with which the broker stands behind run timeouts (15 s unless set otherwise).
    ///
    /// A task that burns CPU, or blocks its thread (one that is not `async` does), cannot be stopped from outside. Its job goes
    /// on without it, and its place is taken until its thread lets go: this elf runs so many jobs less at once, the broker
    /// knows that, and the log says so.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// What tells this build of the program from others: the broker keeps it with each attempt and shows it beside the
    /// revision of the task, which covers the text of the task alone. At most 64 bytes, without control characters. Default: the first 16 bytes of the
    /// SHA-256 of the executable, in hexadecimal digits.
    pub fn build_id(mut self, build_id: impl Into<String>) -> Self {
        self.build_id = build_id.into();
        self
    }

    /// Called once, with the number of the session, when the broker has accepted the elves and may send jobs. Runs on the
    /// thread of the connection, so it should be brief.
    pub fn on_ready(mut self, on_ready: impl FnOnce(u64) + Send + 'static) -> Self {
        self.on_ready = Some(Box::new(on_ready));
        self
    }

    /// Serves until the broker refuses the elves, or was told to let this worker go (`mycelium drain`): then it drains as after
    /// a stop of [`run_until`](Self::run_until), with the deadline that was given in place of its
    /// [grace](Self::drain_grace), and this returns.
    ///
    /// Dropping the future ends the worker: the broker is told, and what was running is given up.
    ///
    /// # Errors
    /// [`Error::InvalidWorker`] if the worker is set up wrongly; [`Error::Refused`] if the broker does not take the
    /// elves. A broker that is unavailable is no error: the worker waits for it.
    pub fn run(self) -> impl Future<Output = Result<(), Error>> {
        self.run_until(std::future::pending::<()>())
    }

    /// Serves until `stop` is ready, then drains: takes no more jobs, hands back those not started,
    /// lets running ones finish, and sees all outcomes acknowledged. For a process of its own `stop` is
    /// [`shutdown_signal`](crate::shutdown_signal), which a deployment gives.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::DrainIncomplete`] if tasks did not finish, or the broker did not take all
    /// outcomes, before the grace or the connection was over. What was still held then returns to the queue.
    // The future is made by hand so that the worker counts as one that begins from this call on, and not from the moment that
    // somebody polls it: what is submitted meanwhile waits for it.
    pub fn run_until<Stop: Future>(self, stop: Stop) -> impl Future<Output = Result<(), Error>> {
        let unwelcomed = self.mycelium.own().begin_worker();
        self.serve_until(stop, unwelcomed)
    }

    async fn serve_until<Stop: Future>(self, stop: Stop, unwelcomed: Unwelcomed) -> Result<(), Error> {
        let drain = CancellationToken::new();
        let abandon = CancellationToken::new();
        let connection = self.into_connection(drain.clone(), abandon.clone(), unwelcomed)?;
        let pulse = Pulse::start(&Handle::current());
        let (done, mut result) = oneshot::channel();
        let thread = move || {
            // Here, since it takes its time to read a large program.
            connection.shared.ledger().set_build(identity::digest_of_executable);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(connection.run(pulse)),
                Err(source) => Err(Error::Worker { source: Arc::new(source) }),
            };
            // Nobody may be waiting any more.
            done.send(result).ok();
        };
        std::thread::Builder::new()
            .name("elf-connection".to_owned())
            .spawn(thread)
            .map_err(|source| Error::Worker { source: Arc::new(source) })?;

        let _on_drop = abandon.drop_guard();
        tokio::select! {
            result = &mut result => return flatten(result),
            _ = stop => drain.cancel(),
        }
        flatten(result.await)
    }

    fn into_connection(
        self,
        drain: CancellationToken,
        abandon: CancellationToken,
        unwelcomed: Unwelcomed,
    ) -> Result<Connection, Error> {
        let Self { mycelium, mut others, last, drain_grace, cancel_grace, on_ready, build_id } = self;
        others.push(last);
        check(&others)?;
        if build_id.len() > limits::BUILD_BYTES_MAX || build_id.chars().any(char::is_control) {
            let max = limits::BUILD_BYTES_MAX;
            let message = format!("its build id has more than {max} bytes, or control characters");
            return Err(Error::InvalidWorker { message });
        }
        let (outbox, limits) = (Arc::new(Outbox::default()), Arc::new(Limits::default()));
        let reports = Arc::new(Hub::default());
        let mut accounts = Vec::with_capacity(others.len());
        let mut executors = Vec::with_capacity(others.len());
        for served in others {
            let account = served.account()?;
            executors.push(Executor::new(ExecutorParts {
                name: Arc::clone(&account.name),
                service: served.service,
                concurrency: account.concurrency as usize,
                cancel_grace,
                outbox: Arc::clone(&outbox),
                limits: Arc::clone(&limits),
                reports: Arc::clone(&reports),
                client: mycelium.clone(),
                runtime: Handle::current(),
            }));
            accounts.push(account);
        }
        fit_hello(&mut accounts)?;
        let identity = Identity { build: build_id, ..Identity::of_this_process(mycelium.name()) };
        let ledger = Ledger::new(identity, accounts).with_reports(reports);
        Ok(Connection {
            line: ElfLine::new(mycelium.address().clone()),
            shared: Shared::new(ledger, outbox),
            executors,
            limits,
            cancel_grace,
            drain,
            abandon,
            give_up: CancellationToken::new(),
            stopped: OnceLock::new(),
            drain_grace,
            told_to_leave_within: Arc::default(),
            on_ready: Some(Box::new(move |session| {
                drop(unwelcomed);
                on_ready.into_iter().for_each(|on_ready| on_ready(session));
            })),
            silence_max: None,
        })
    }
}

fn flatten(result: Result<Result<(), Error>, oneshot::error::RecvError>) -> Result<(), Error> {
    result.unwrap_or_else(|_| {
        let source = std::io::Error::other("the thread of the connection ended by itself");
        Err(Error::Worker { source: Arc::new(source) })
    })
}

fn check(elves: &[Served]) -> Result<(), Error> {
    let invalid = |message| Err(Error::InvalidWorker { message });
    if elves.len() > limits::ELVES_PER_SESSION_MAX {
        let max = limits::ELVES_PER_SESSION_MAX;
        return invalid(format!("it serves {} elves, and at most {max} are possible", elves.len()));
    }
    let mut names = HashSet::new();
    for Served { name, concurrency, window, .. } in elves {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
            return invalid(format!("the name of an elf has 1 to {} bytes", limits::NAME_BYTES_MAX));
        }
        if !names.insert(name.as_str()) {
            return invalid(format!("the elf `{name}` is served twice"));
        }
        if *concurrency == Some(0) {
            return invalid(format!("the elf `{name}` has a concurrency of 0, and would never run a job"));
        }
        if window.or(*concurrency).is_some_and(|window| window > limits::WINDOW_MAX) {
            let max = limits::WINDOW_MAX;
            return invalid(format!("the elf `{name}` has a window over {max}"));
        }
        if window.is_some_and(|window| window < concurrency.unwrap_or(1)) {
            return invalid(format!("the elf `{name}` has a window smaller than its concurrency"));
        }
    }
    Ok(())
}

impl Served {
    fn account(&self) -> Result<ElfAccount, Error> {
        let declaration = self.elf.declaration();
        declaration.check().map_err(|error| Error::InvalidWorker {
            message: format!("the elf `{}` declares what is not possible: {error}", self.name),
        })?;
        let mut declaration = declaration.into_wire(&self.name);
        fit_elf(&mut declaration);
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let window_wish = self.window.unwrap_or(limits::WINDOW_MAX);
        let concurrency =
            self.concurrency.unwrap_or_else(|| u32::try_from(cpus).unwrap_or(u32::MAX)).min(window_wish);
        let window =
            self.window.unwrap_or(concurrency.saturating_add(PREFETCH_DEFAULT)).min(limits::WINDOW_MAX);
        let tasks = declaration.tasks.iter().map(|task| (task.name.clone(), Arc::from(task.name.as_str())));
        Ok(ElfAccount {
            name: Arc::from(self.name.as_str()),
            tasks: tasks.collect(),
            declaration,
            window,
            concurrency,
            unfinished: 0,
            occupied: 0,
            occupied_told: 0,
        })
    }
}
