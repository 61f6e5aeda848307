//! The task that owns a core, and how the services reach it.

mod batch;
mod board;
mod cancel;
mod checkpoints;
mod collect;
mod confirming;
mod deletion;
mod disk;
mod driver;
mod ended;
mod failure;
mod handle;
mod limits;
mod message;
mod outputs;
mod pauses;
mod preconditions;
mod processes;
mod progress;
mod registry;
mod retry;
mod start;
mod start_now;
mod submissions;
mod submit;
#[cfg(test)]
pub(crate) mod testing;
mod turns;
mod watch;

use std::sync::Arc;

use mycelium_core::effects::Evaluation;
use mycelium_core::ids::EvaluationNumber;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::{mpsc, oneshot, watch as watch_channel};

pub use start::StartError;

pub(crate) use driver::DriverError;

pub(crate) use board::{Board, Mark, MarkNumber};
pub(crate) use collect::collect_blobs;
pub(crate) use confirming::Confirming;
pub(crate) use deletion::{Fate, Judged, delete_flows, keep_to_rules, watch_size};
pub(crate) use handle::{Handle, Permit, unexpected};
pub(crate) use limits::{Limits, Party, Peer};
pub(crate) use message::{
    Assigned, Body, CallError, CheckpointAnswer, CheckpointSaid, CheckpointVerdict, FailureBody,
    HelloMessage, Reported, ReportsMessage, StreamAttachment, StreamId, ToStream,
};
pub(crate) use outputs::{BadOutput, in_order};
pub(crate) use processes::{Process, Version};
pub(crate) use progress::{Progress, StoreState};
pub(crate) use registry::{
    BadSchema, Misfit, Ruling, Signatures, Standing, TaskSignature, core_signature, shape_of,
};
pub(crate) use submit::{PreparedJob, Submission};
#[cfg(test)]
pub(crate) use watch::Parts;
pub(crate) use watch::{Budget, Charge, WatchEvent, WatchEvents, WatchScope, WatchWants, WatchedChange};

use crate::blobs::Blobs;
use crate::clock::{Ahead, Clock};
use crate::config::{Config, SchedulerPlace};
use crate::documents::Declaration;
use crate::metrics::Counting;
use crate::name::DEFAULT;
use crate::store::{self, Reads, Storage, wait_for};
use disk::Disk;
use driver::Driver;
use registry::Registry;

/// How many evaluations wait for the evaluator; more stay with the owner of the core.
const EVALUATIONS_QUEUED_MAX: usize = 64;

/// A mycelium that runs: the task that owns its core, and the handle to it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) handle: Handle,
    /// The evaluations that the core hands out, each once it is durable that it is due.
    pub(crate) evaluations: mpsc::Receiver<Evaluation>,
    /// How the owner of the core ended.
    pub(crate) ended: EndedReceiver,
}

/// Tells how the owner of a core ended.
pub(crate) type EndedReceiver = oneshot::Receiver<Result<(), DriverError>>;

/// Rebuilds a core from `store` and starts the task that owns it. Blocks while the store is read.
pub(crate) fn start(store: Arc<dyn Storage>, blobs: Blobs, config: Config) -> Result<Running, StartError> {
    let limits = Limits::new(&config);
    start_within(DEFAULT, limits, Ahead::default(), store, blobs, config)
}

/// As [`start`], under a name, beside others that share these limits, and clocks.
pub(crate) fn start_within(
    name: &str,
    limits: Limits,
    ahead: Ahead,
    store: Arc<dyn Storage>,
    blobs: Blobs,
    config: Config,
) -> Result<Running, StartError> {
    let clock = Clock::start(ahead);
    let (core, counters) = wait_for(start::load_core(&*store, &config, &clock, EvaluationNumber(0)))?;
    let (progress, progress_seen) = watch_channel::channel(Progress::of(counters.commit));
    let (inbox_sender, inbox) = mpsc::channel(config.queue_max);
    let handle = Handle::new(inbox_sender, Arc::clone(&store), progress_seen, clock, config, blobs, limits);
    load_registry(&*store, handle.registry())?;
    wait_for(handle.checkpointed().load(&*store))?;
    handle.registry().begin(core.sessions());
    let (evaluator, evaluations) = mpsc::channel(EVALUATIONS_QUEUED_MAX);
    let (end, ended) = oneshot::channel();
    let place = place_of(handle.config().scheduler)?;
    let disk = match &place {
        Place::Task(runtime) => Disk::of_task(store, runtime).map_err(StartError::Thread)?,
        Place::OwnThread => Disk::of_thread(store),
    };
    handle.limits().opened(name, &handle);
    let counting = Counting::new(handle.limits().counted().clone(), name, Arc::clone(handle.shown()), &core);
    let driver = Driver::new(core, disk, &handle, inbox, progress, evaluator, counting);
    // Whoever started the broker may have stopped listening to how it ended.
    let run = async move { drop(end.send(Box::pin(driver.run()).await)) };
    match place {
        Place::Task(runtime) => drop(runtime.spawn(run)),
        Place::OwnThread => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(StartError::Thread)?;
            std::thread::Builder::new()
                .name("mycelium-broker".to_owned())
                .spawn(move || runtime.block_on(run))
                .map_err(StartError::Thread)?;
        }
    }
    Ok(Running { handle, evaluations, ended })
}

/// Where the owner of the core is to run.
enum Place {
    Task(tokio::runtime::Handle),
    OwnThread,
}

fn place_of(place: SchedulerPlace) -> Result<Place, StartError> {
    match place {
        SchedulerPlace::OwnThread => Ok(Place::OwnThread),
        SchedulerPlace::Runtime => {
            let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
            // A runtime of one thread cannot go on elsewhere while a commit blocks that thread.
            Ok(match runtime.runtime_flavor() {
                RuntimeFlavor::CurrentThread => Place::OwnThread,
                _several_threads => Place::Task(runtime),
            })
        }
    }
}

fn load_registry(store: &dyn Reads, registry: &Registry) -> Result<(), StartError> {
    const PAGE: usize = 100;
    let mut after: Option<Arc<str>> = None;
    loop {
        let page = store.list_elves(after.as_deref(), PAGE).wait()?;
        for elf in &page {
            let declaration = Declaration::decode(&elf.name, elf.body.clone()).map_err(store::Error::from)?;
            registry.restore(&declaration.into());
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(Arc::clone(&last.name)),
            Some(_) | None => return Ok(()),
        }
    }
}
