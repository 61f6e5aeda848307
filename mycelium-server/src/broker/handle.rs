//! What the services call: one method for each thing that can be asked of a mycelium.

mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::command::{Command, Evaluated};
use mycelium_core::effects::Reply;
use mycelium_core::ids::{Commit, SessionId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::Instrument as _;

use super::board::Board;
use super::checkpoints::Checkpointed;
use super::limits::{Limits, Party, Peer};
use super::message::{Aside, Beside, Body, CallError, HelloMessage, Message, ReportsMessage, StreamId};
use super::processes::Processes;
use super::progress::Progress;
use super::registry::Registry;
use super::submissions::Submissions;
use super::watch::{WatchScope, WatchStart, WatchStarted, WatchWants};
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::Config;
use crate::defect::{self, Defect};
use crate::fair::Turn;
use crate::logs::Logs;
use crate::metrics::Shown;
use crate::spawn::TaskGroup;
use crate::store::{BlobUse, Storage};
use crate::trace;

pub(crate) use usage::WeakHandle;

/// How long the tasks of a mycelium that stops may take to end. They have been told before.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);

/// How many backups may be under way.
const BACKUPS_MAX: usize = 1;

/// How long a request waits for room in the queue of the owner of the core before it is refused.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// What was read is worked on where it was read up to so many bytes: that takes about a millisecond.
const BYTES_HERE_MAX: usize = 64 * 1024;

/// A mycelium, as the services see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    inner: Arc<Inner>,
    /// Held by those for whom the mycelium has to stay open.
    _in_use: Option<watch::Receiver<()>>,
}

struct Inner {
    inbox: mpsc::Sender<Message>,
    store: Arc<dyn Storage>,
    progress: watch::Receiver<Progress>,
    registry: Arc<Registry>,
    processes: Processes,
    board: Arc<Board>,
    checkpointed: Arc<Checkpointed>,
    logs: Logs,
    clock: Clock,
    config: Config,
    blobs: Blobs,
    next_stream: AtomicU64,
    sessions: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    limits: Limits,
    /// What the owner of the core shows of it.
    shown: Arc<Shown>,
    /// Told when deletions have begun.
    deletions_begun: Notify,
    /// Told when actions have begun.
    actions_begun: Notify,
    /// Whether all blobs are to be looked at soon, because some may have lost their last use.
    looks_for_blobs: AtomicBool,
    /// Jobs on their way into the store.
    submissions: Submissions,
    /// All that works for the mycelium, beside the owner of its core.
    tasks: TaskGroup,
}

impl Handle {
    pub(crate) fn new(
        inbox: mpsc::Sender<Message>,
        store: Arc<dyn Storage>,
        progress: watch::Receiver<Progress>,
        clock: Clock,
        config: Config,
        blobs: Blobs,
        limits: Limits,
    ) -> Self {
        let (sessions_max, watches_max) = (config.sessions_max, config.watches_max);
        Self {
            inner: Arc::new(Inner {
                inbox,
                store,
                progress,
                registry: Arc::default(),
                processes: Processes::new(config.sessions_max.saturating_mul(2)),
                board: Arc::new(Board::new()),
                checkpointed: Arc::new(Checkpointed::new()),
                logs: Logs::beside(blobs.folder().cloned()),
                clock,
                config,
                blobs,
                next_stream: AtomicU64::new(1),
                sessions: places(sessions_max),
                watches: places(watches_max),
                backups: places(BACKUPS_MAX),
                limits,
                shown: Arc::default(),
                deletions_begun: Notify::new(),
                actions_begun: Notify::new(),
                looks_for_blobs: AtomicBool::new(false),
                submissions: Submissions::new(),
                tasks: TaskGroup::default(),
            }),
            _in_use: None,
        }
    }

    /// A handle for somebody for whom the mycelium has to stay open.
    pub(crate) fn in_use(&self, in_use: watch::Receiver<()>) -> Self {
        Self { inner: Arc::clone(&self.inner), _in_use: Some(in_use) }
    }

    /// Whether the owner of the core is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.inner.inbox.is_closed()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    pub(crate) fn processes(&self) -> &Processes {
        &self.inner.processes
    }

    /// How far attempts are.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.inner.board
    }

    /// What attempts log.
    pub(crate) fn logs(&self) -> &Logs {
        &self.inner.logs
    }

    /// Which jobs have a checkpoint.
    pub(crate) fn checkpointed(&self) -> &Arc<Checkpointed> {
        &self.inner.checkpointed
    }

    pub(crate) fn store(&self) -> &Arc<dyn Storage> {
        &self.inner.store
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub(crate) fn commit(&self) -> Commit {
        self.inner.progress.borrow().commit
    }

    /// Whether the store takes changes, as that changes.
    pub(crate) fn store_state(&self) -> watch::Receiver<Progress> {
        self.inner.progress.clone()
    }

    pub(crate) fn next_stream(&self) -> StreamId {
        StreamId(self.inner.next_stream.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a stream in, for as long as the permit lives.
    pub(crate) fn admit_stream(&self) -> Result<Permit, CallError> {
        admit(&self.inner.sessions)
    }

    /// Counts a watch in, for as long as the permit lives.
    pub(crate) fn admit_watch(&self) -> Result<Permit, CallError> {
        admit(&self.inner.watches)
    }

    /// Counts a backup in, for as long as the permit lives.
    pub(crate) fn admit_backup(&self) -> Result<Permit, CallError> {
        admit(&self.inner.backups)
    }

    pub(super) fn submissions(&self) -> &Submissions {
        &self.inner.submissions
    }

    pub(super) fn deletions_begun(&self) -> &Notify {
        &self.inner.deletions_begun
    }

    /// Told when actions on many jobs have begun.
    pub(crate) fn actions_begun(&self) -> &Notify {
        &self.inner.actions_begun
    }

    /// Has all blobs looked at before long: some may have lost their last use.
    pub(super) fn look_for_unused_blobs(&self) {
        self.inner.looks_for_blobs.store(true, Ordering::Release);
    }

    /// Whether all blobs are to be looked at. Answers it once.
    pub(super) fn takes_look_for_blobs(&self) -> bool {
        self.inner.looks_for_blobs.swap(false, Ordering::AcqRel)
    }

    /// What it shares with the other mycelia of the broker.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// A turn at checking and encoding a submission of that peer.
    pub(crate) async fn preparation_turn(&self, peer: Peer) -> Turn<Peer> {
        self.inner.limits.preparations().turn(peer, 1).await
    }

    /// Sends a command and waits until what it comes to is durable.
    pub(crate) async fn request(
        &self,
        command: Command,
        bodies: Vec<Body>,
    ) -> Result<(Reply, Commit), CallError> {
        let (reply, answer) = oneshot::channel();
        let commit = trace::commit();
        self.ask(Message::Request { command, bodies, reply }).instrument(commit.clone()).await?;
        answer.instrument(commit).await.unwrap_or_else(|_dropped| Err(self.why_dropped(CallError::Stopping)))
    }

    /// Opens a session or resumes one.
    pub(crate) async fn hello(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<(Reply, Commit), CallError>>) -> HelloMessage,
    ) -> Result<(Reply, Commit), CallError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Hello(Box::new(make(reply)))).await?;
        answer.await.unwrap_or_else(|_dropped| Err(self.why_dropped(CallError::Stopping)))
    }

    /// Passes on what a stream said. Waits for room: an elf that says much is read more slowly.
    pub(crate) async fn pass_on(
        &self,
        session: SessionId,
        stream: StreamId,
        command: Command,
        bodies: Vec<Body>,
    ) -> Result<(), CallError> {
        let message = Message::FromStream { session, stream, command, bodies };
        self.inner.inbox.send(message).await.map_err(|_closed| CallError::Stopping)
    }

    /// Passes on what attempts have reported. Checkpoints wait for room; without any it is passed on if there is some: it
    /// may be lost, and must be in the way of nothing.
    pub(crate) async fn report(&self, reports: ReportsMessage) -> Result<(), CallError> {
        if !reports.checkpoints.is_empty() {
            let sent = self.inner.inbox.send(Message::Reports(reports)).await;
            return sent.map_err(|_closed| CallError::Stopping);
        }
        match self.inner.inbox.try_send(Message::Reports(reports)) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CallError::Stopping),
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
        }
    }

    /// Passes on what evaluations came to. Waits for room.
    pub(crate) async fn evaluated(
        &self,
        evaluated: Vec<Evaluated>,
        bodies: Vec<Body>,
    ) -> Result<(), CallError> {
        let message = Message::Evaluated { command: Command::Evaluated { evaluated }, bodies };
        self.inner.inbox.send(message).await.map_err(|_closed| CallError::Stopping)
    }

    /// Reads the core, at a moment when all it knows is durable.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core, Commit) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (query, answer) = question(read);
        self.ask(query).await?;
        self.answer(answer).await
    }

    /// As [`query`](Self::query), for a stream: waits for room, since an elf that says much is read more slowly.
    pub(crate) async fn query_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core, Commit) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (query, answer) = question(read);
        self.inner.inbox.send(query).await.map_err(|_closed| CallError::Stopping)?;
        self.answer(answer).await
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, Defect>>) -> Result<T, CallError> {
        let read = answer.await.map_err(|_dropped| self.why_dropped(CallError::StoreUnavailable))?;
        Ok(read?)
    }

    /// Waits until all that is due by now is done: stored, and on its way to elves and clients.
    pub(crate) async fn settle(&self) -> Result<(), CallError> {
        loop {
            let clock = self.clock().clone();
            let is_due = move |core: &Core, _| {
                core.has_work() || core.next_deadline().is_some_and(|at| clock.until(at).is_zero())
            };
            if !self.query(is_due).await? {
                return Ok(());
            }
        }
    }

    /// Stores uses of blobs beside those that come with jobs, and waits until that is durable.
    pub(crate) async fn change_blob_uses(
        &self,
        begun: Vec<BlobUse>,
        ended: Vec<BlobUse>,
    ) -> Result<(), CallError> {
        if begun.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let beside = Beside { blob_uses_begun: begun, blob_uses_ended: ended, ..Beside::default() };
        self.put_aside(beside).await
    }

    /// Stores what comes beside what the core does, and waits until that is durable. Waits for room: what is computed already
    /// is not thrown away because others are busy too.
    pub(super) async fn put_aside(&self, beside: Beside) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Aside(Aside { beside, reply });
        self.inner.inbox.send(message).await.map_err(|_closed| CallError::Stopping)?;
        answer.await.map_err(|_dropped| self.why_dropped(CallError::StoreUnavailable))
    }

    /// Begins a watch of that peer.
    pub(crate) async fn watch(
        &self,
        peer: Peer,
        scope: WatchScope,
        from: Option<Commit>,
        wants: WatchWants,
    ) -> Result<WatchStarted, CallError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Watch(WatchStart { peer, scope, from, wants, reply })).await?;
        answer.await.map_err(|_dropped| self.why_dropped(CallError::StoreUnavailable))
    }

    /// Does on a thread that may block what takes longer than a task may.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let reserved = crate::reservation::current();
        let work = move || {
            // Held until it is done, even if nobody waits for it any more.
            let _reserved = reserved;
            defect::catch("work aside", work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_stopping| CallError::Stopping)??
    }

    /// Works on so many bytes: at once if they are few, and otherwise [aside](Self::aside).
    pub(crate) async fn work_on<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        if bytes <= BYTES_HERE_MAX {
            defect::catch("work on what was read", work)?
        } else {
            self.aside(work).await
        }
    }

    /// Waits for a turn at computing values: not more than one for each core at once. What they are computed from is
    /// best read in it, so that only so much is held at once.
    pub(crate) async fn turn(&self, party: Party) -> Turn<Party> {
        self.inner.limits.evaluations().turn(party, 1).await
    }

    /// Computes values on a thread that may block, in that turn.
    pub(crate) async fn evaluate<T: Send + 'static>(
        &self,
        turn: Turn<Party>,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let reserved = crate::reservation::current();
        let compute = move || {
            // Held until it is done, even if nobody waits for it any more.
            let _held = (turn, reserved);
            defect::catch("an evaluation", compute)
        };
        let computed = tokio::task::spawn_blocking(compute).await.map_err(|_stopping| CallError::Stopping)?;
        Ok(computed?)
    }

    /// Why nobody answers: a defect made the owner of the core start again or end, or `otherwise`.
    fn why_dropped(&self, otherwise: CallError) -> CallError {
        self.inner.progress.borrow().defect.map_or(otherwise, CallError::Defect)
    }

    /// Passes on what a caller asks for. Waits for room, though not for long: streams of elves that report much wait for
    /// it as well, and each gets it in its turn.
    async fn ask(&self, message: Message) -> Result<(), CallError> {
        let store = self.inner.progress.borrow().store;
        let only_asks = matches!(message, Message::Query(_) | Message::Watch(_));
        if let Some(refusal) = store.refusal()
            && !(only_asks && store.is_readable())
        {
            return Err(refusal);
        }
        match tokio::time::timeout(ROOM_WITHIN, self.inner.inbox.send(message)).await {
            Ok(sent) => sent.map_err(|_closed| CallError::Stopping),
            Err(_elapsed) => Err(CallError::Busy),
        }
    }

    /// Waits until so many messages wait for the owner of the core.
    #[cfg(test)]
    pub(super) async fn until_queued(&self, messages: usize) {
        let inbox = &self.inner.inbox;
        let begun = std::time::Instant::now();
        while inbox.max_capacity() - inbox.capacity() < messages {
            assert!(begun.elapsed() < Duration::from_secs(60), "so many messages do not come");
            tokio::task::yield_now().await;
        }
    }

    /// The tasks that work for the mycelium. Its stop waits for them.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.inner.tasks
    }

    /// Tells the owner of the core to stop, and waits for the tasks that work for the mycelium.
    pub(crate) async fn stop(&self) {
        // If it has stopped already, all is well.
        let _stopped = self.inner.inbox.send(Message::Stop).await;
        self.inner.tasks.end(TASKS_END_WITHIN).await;
        self.inner.blobs.end(TASKS_END_WITHIN).await;
    }
}

/// One of a limited number of streams, watches or backups.
pub(crate) type Permit = OwnedSemaphorePermit;

/// Room for so many at once.
fn places(max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))
}

/// Counts one in, for as long as its permit lives.
fn admit(places: &Arc<Semaphore>) -> Result<Permit, CallError> {
    Arc::clone(places).try_acquire_owned().map_err(|_full| CallError::Busy)
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

/// A question to the owner of the core, and where its answer comes.
fn question<T: Send + 'static>(
    read: impl FnOnce(&Core, Commit) -> T + Send + 'static,
) -> (Message, oneshot::Receiver<Result<T, Defect>>) {
    let (reply, answer) = oneshot::channel();
    let query = Message::Query(Box::new(move |core, commit| {
        let _gone = reply.send(defect::catch("a question to the scheduler", || read(core, commit)));
    }));
    (query, answer)
}

/// A reply that fits another request.
pub(crate) fn unexpected(reply: &Reply) -> CallError {
    Defect::of("a reply of the scheduler", &format_args!("{reply:?} fits another request")).into()
}
