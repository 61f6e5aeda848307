//! The one task that owns a core: collects messages, applies them, commits what comes of them in one batch, and only
//! then lets anybody know.
//!
//! While one batch is written the next one collects in the queue, so that commits grow with the load: that is all
//! the group commit there is. A commit blocks for as long as the disk takes, and holds up nothing but this task
//! ([`Disk`]); [`SchedulerPlace`](crate::config::SchedulerPlace) says where that runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::command::Command;
use mycelium_core::effects::{Effects, Evaluation, Reply, Send as Sent};
use mycelium_core::ids::{Clocks, Commit, RequestId, SessionId};
use tokio::sync::{mpsc, watch};

use super::batch::{self, Built};
use super::disk::Disk;
use super::ended;
use super::message::{
    Assigned, BlobUses, Body, CallError, HelloMessage, Message, Query, ReplySender, StreamAttachment,
    ToStream, shift_attachments, speaker,
};
use super::start::{StartError, load_core};
use super::turns::Turns;
use super::watch::{WatchStart, Watches};
use crate::clock::Clock;
use crate::config::Config;
use crate::defect::{self, Defect};
use crate::store::{self, ElfRecord, Lack, RevisionRecord};

/// The most messages taken from the queue at once; the weight of a batch is bounded beside it.
const MESSAGES_PER_BATCH_MAX: usize = 256;
/// About how many bytes of what callers and elves send go into one commit, unless a single message brings more. With
/// what the core adds, a commit stays below 16 MiB.
const BATCH_BYTES_MAX: usize = 12 * 1024 * 1024;
/// The first pause before a store that failed is read again; it doubles up to [`REBUILD_PAUSE_MAX`].
const REBUILD_PAUSE_MIN: Duration = Duration::from_millis(50);
const REBUILD_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How many turns in a row may come to a defect that no message brings, before it is clear that starting again from the
/// store does not help.
const DEFECTS_MAX: u32 = 3;

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    #[error("the store failed for good")]
    Store(#[source] store::Error),
    #[error("the scheduler cannot be rebuilt from the store")]
    Start(#[source] StartError),
    #[error("the scheduler failed for good")]
    Defect(#[source] Defect),
}

/// Why the core is not what it should be.
#[derive(Debug)]
enum Setback {
    /// A commit failed, or nobody knows whether it did.
    Store(store::Error),
    /// The broker contradicted itself on the way.
    Defect(Defect),
}

/// What the task shows of itself to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The newest commit.
    pub(crate) commit: Commit,
    /// Whether the store takes changes: if not, requests are refused.
    pub(crate) store: StoreState,
    /// The defect for which the core had to start again, until the next commit, or which ended it.
    pub(crate) defect: Option<Defect>,
}

impl Progress {
    /// All is well.
    pub(crate) fn of(commit: Commit) -> Self {
        Self { commit, store: StoreState::Writable, defect: None }
    }
}

/// Whether the store takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreState {
    Writable,
    /// It failed, and is waited for.
    Unavailable,
    /// There is no space. What is stored can be read.
    Full,
    /// What is stored can be read, and not changed.
    ReadOnly,
}

impl StoreState {
    fn after(error: &store::Error) -> Self {
        match error.lack() {
            Some(Lack::Space) => Self::Full,
            Some(Lack::Writing) => Self::ReadOnly,
            None => Self::Unavailable,
        }
    }

    /// Why a change is refused; `None` if it is not.
    pub(crate) fn refusal(self) -> Option<CallError> {
        match self {
            Self::Writable => None,
            Self::Unavailable => Some(CallError::StoreUnavailable),
            Self::Full => Some(CallError::StoreFull),
            Self::ReadOnly => Some(CallError::StoreReadOnly),
        }
    }

    /// Whether the core can be asked.
    pub(crate) fn is_readable(self) -> bool {
        self != Self::Unavailable
    }
}

pub(crate) struct Driver {
    core: Core,
    commit: Commit,
    disk: Disk,
    clock: Clock,
    config: Config,
    inbox: mpsc::Receiver<Message>,
    progress: watch::Sender<Progress>,
    /// Messages taken from the inbox for which the last batch had no room.
    waiting: VecDeque<Message>,
    /// Requests whose replies have not been released.
    pending: HashMap<RequestId, ReplySender>,
    next_request: u64,
    streams: HashMap<SessionId, StreamAttachment>,
    watches: Watches,
    evaluator: mpsc::Sender<Evaluation>,
    /// Evaluations for which the evaluator had no room yet: at most as many as a core hands out.
    to_evaluate: VecDeque<Evaluation>,
    turns: Turns,
    /// Whether the turn under way has messages, or is the core's own.
    has_messages: bool,
    /// How many turns of the core's own have come to a defect since the last commit.
    defects: u32,
    stopping: bool,
}

/// What one batch collects besides what the core does.
#[derive(Default)]
struct Gathered {
    bodies: Vec<Body>,
    elves: Vec<ElfRecord>,
    revisions: Vec<RevisionRecord>,
    blob_uses: Vec<BlobUses>,
    queries: Vec<Query>,
    watches: Vec<WatchStart>,
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        disk: Disk,
        clock: Clock,
        config: Config,
        inbox: mpsc::Receiver<Message>,
        progress: watch::Sender<Progress>,
        evaluator: mpsc::Sender<Evaluation>,
    ) -> Self {
        let commit = core.status().counters.commit;
        let turns = Turns::new(config.lease);
        Self {
            core,
            commit,
            disk,
            clock,
            config,
            inbox,
            progress,
            waiting: VecDeque::new(),
            pending: HashMap::new(),
            next_request: 0,
            streams: HashMap::new(),
            watches: Watches::new(commit),
            evaluator,
            to_evaluate: VecDeque::new(),
            turns,
            has_messages: false,
            defects: 0,
            stopping: false,
        }
    }

    /// Runs until it is told to stop, or all its callers are gone, or the store fails for good.
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        match defect::catch_async("the scheduler", self.work()).await {
            Ok(Ok(())) => self.end(),
            Ok(Err(error)) => Err(error),
            Err(defect) => {
                self.progress.send_modify(|progress| progress.defect = Some(defect));
                self.answer_all(&CallError::Defect(defect));
                Err(DriverError::Defect(defect))
            }
        }
    }

    async fn work(&mut self) -> Result<(), DriverError> {
        while !self.stopping {
            if !self.collect().await {
                break;
            }
            let mut effects = Effects::default();
            // One moment for all of the turn: a pause in the middle of it makes the next turn late, and ends no lease in
            // this one.
            let now = self.clock.now();
            if let Some(by) = self.turns.begin(now.steady) {
                self.stalled(now, by, &mut effects).await;
            }
            let turn = defect::catch_async("the scheduler", self.turn(now, effects)).await;
            if let Err(setback) = turn.unwrap_or_else(|defect| Err(Setback::Defect(defect))) {
                self.rebuild(setback).await?;
            }
        }
        Ok(())
    }

    /// One batch, from its messages to those who wait for it.
    async fn turn(&mut self, now: Clocks, mut effects: Effects) -> Result<(), Setback> {
        self.has_messages = !self.waiting.is_empty();
        let gathered = self.apply_waiting(now, &mut effects);
        let done = self.store_batch(&mut effects, gathered).await?;
        self.release(effects, done);
        Ok(())
    }

    /// Waits until there is something to do, or a turn is due all the same, and takes what is there. `false`: all callers
    /// are gone.
    async fn collect(&mut self) -> bool {
        if !self.waiting.is_empty() || self.core.has_work() {
            self.take_up_to(MESSAGES_PER_BATCH_MAX);
            return true;
        }
        let mut taken = Vec::new();
        let deadline = self.core.next_deadline();
        let pause = deadline.map(|deadline| self.clock.until(deadline).min(self.turns.wait_max()));
        let received = self.inbox.recv_many(&mut taken, MESSAGES_PER_BATCH_MAX);
        match pause {
            None => {
                if received.await == 0 {
                    return false;
                }
                self.turns.forget();
            }
            Some(pause) => {
                if let Ok(0) = tokio::time::timeout(pause, received).await {
                    return false;
                }
            }
        }
        self.waiting.extend(taken);
        true
    }

    /// Takes what has come, until so many messages wait.
    fn take_up_to(&mut self, max: usize) {
        while self.waiting.len() < max
            && let Ok(message) = self.inbox.try_recv()
        {
            self.waiting.push_back(message);
        }
    }

    /// The broker stood still: leases stand still with it. What elves have said meanwhile waits in their connections, and
    /// is read before any lease is judged.
    async fn stalled(&mut self, now: Clocks, by: Duration, effects: &mut Effects) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(by_ms, "the broker stood still; the leases of sessions move by as much");
        self.core.apply(now, Command::Stalled { by }, effects);
        tokio::time::sleep(self.turns.read_pause()).await;
        self.take_up_to(self.config.queue_max);
    }

    /// Applies waiting messages, up to the weight of one batch.
    fn apply_waiting(&mut self, now: Clocks, effects: &mut Effects) -> Gathered {
        let mut gathered = Gathered::default();
        let (mut weight, mut bytes) = (0, 0);
        while weight < self.config.batch_max
            && let Some(message) = self.waiting.pop_front()
        {
            bytes += message.bytes();
            if bytes > BATCH_BYTES_MAX && weight > 0 {
                self.waiting.push_front(message);
                break;
            }
            weight += message.weight();
            self.apply(now, message, &mut gathered, effects);
        }
        self.spare_heard(now, effects);
        self.core.finish_batch(now, effects);
        gathered
    }

    /// Renews leases that are about to end of elves that have been heard: what they said still waits for its turn.
    fn spare_heard(&mut self, now: Clocks, effects: &mut Effects) {
        let over = self.core.leases_over(now);
        if over.is_empty() {
            return;
        }
        self.take_up_to(self.config.queue_max);
        let speaks = |message: &Message| match message {
            // Whoever names a session without its secret says nothing of it.
            Message::Hello(hello) => self.core.resumes(&hello.hello),
            message => speaker(message),
        };
        let heard: HashSet<SessionId> = self.waiting.iter().filter_map(speaks).collect();
        for session in over {
            let is_speaking =
                self.streams.get(&session).is_some_and(|stream| stream.is_speaking.load(Ordering::Relaxed));
            if is_speaking || heard.contains(&session) {
                self.core.apply(now, Command::Heard { session }, effects);
            }
        }
    }

    fn apply(&mut self, now: Clocks, message: Message, gathered: &mut Gathered, effects: &mut Effects) {
        match message {
            Message::Request { mut command, bodies, reply } => {
                let request = self.expect_reply(reply);
                name_request(&mut command, request);
                shift_attachments(&mut command, gathered.bodies.len());
                gathered.bodies.extend(bodies);
                self.core.apply(now, command, effects);
            }
            Message::Hello(hello) => {
                let HelloMessage { mut hello, elves, revisions, attachment, reply } = *hello;
                let request = self.expect_reply(reply);
                hello.request = request;
                gathered.elves.extend(elves);
                gathered.revisions.extend(revisions);
                self.core.apply(now, Command::Hello(hello), effects);
                // From here on, and not only once it is durable: that the stream before it closes may be the next
                // message, and must not be taken for the end of this one.
                if let Some((answered, Ok(Reply::Welcome { session, .. }))) = effects.replies.last()
                    && *answered == request
                    && let Some(before) = self.streams.insert(*session, attachment)
                {
                    before.end(CallError::SessionTakenOver);
                }
            }
            Message::FromStream { session, stream, mut command, bodies } => {
                let current = self.streams.get(&session).is_some_and(|attached| attached.stream == stream);
                match &command {
                    // Without a stream nobody would hear the acknowledgement: the elf reports again on its next.
                    Command::Outcomes { .. } if !self.streams.contains_key(&session) => return,
                    // An outcome is fenced by its token, whichever stream it came on.
                    Command::Outcomes { .. } | Command::ArgumentsFailed { .. } => {}
                    Command::StreamClosed { .. } if current => drop(self.streams.remove(&session)),
                    Command::StreamClosed { .. }
                    | Command::Submit(_)
                    | Command::Cancel(_)
                    | Command::Retry(_)
                    | Command::Evaluated { .. }
                    | Command::Hello(_)
                    | Command::SetWindow { .. }
                    | Command::Heartbeat { .. }
                    | Command::Heard { .. }
                    | Command::Stalled { .. }
                    | Command::ArgumentsDelayed { .. }
                    | Command::ArgumentsReady { .. }
                    | Command::Draining { .. }
                    | Command::Goodbye { .. } => {
                        if !current {
                            return;
                        }
                    }
                }
                shift_attachments(&mut command, gathered.bodies.len());
                gathered.bodies.extend(bodies);
                self.core.apply(now, command, effects);
            }
            Message::BlobUses(uses) => {
                self.core.require_commit();
                gathered.blob_uses.push(uses);
            }
            Message::Evaluated { mut command, bodies } => {
                shift_attachments(&mut command, gathered.bodies.len());
                gathered.bodies.extend(bodies);
                self.core.apply(now, command, effects);
            }
            Message::Query(query) => gathered.queries.push(query),
            Message::Watch(start) => gathered.watches.push(start),
            Message::Stop => self.stopping = true,
        }
    }

    fn expect_reply(&mut self, reply: ReplySender) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.pending.insert(request, reply);
        request
    }

    async fn store_batch(&mut self, effects: &mut Effects, gathered: Gathered) -> Result<ToRelease, Setback> {
        let Gathered { bodies, elves, revisions, blob_uses, queries, watches } = gathered;
        let Some(counters) = effects.counters.take() else {
            debug_assert!(
                elves.is_empty() && revisions.is_empty() && blob_uses.is_empty(),
                "what is to be stored beside the core has required a commit"
            );
            return Ok(ToRelease { bodies, built: Built::default(), blob_uses, queries, watches });
        };
        let mut built = batch::build(effects, counters, &bodies, elves, revisions)
            .map_err(|mismatch| Setback::Defect(Defect::of("a batch for the store", &mismatch)))?;
        for uses in &blob_uses {
            built.batch.blob_uses_begun.extend(&uses.begun);
            built.batch.blob_uses_ended.extend(&uses.ended);
        }
        self.disk.commit(&mut built.batch).await.map_err(Setback::Store)?;
        self.commit = counters.commit;
        self.defects = 0;
        self.progress.send_replace(Progress::of(self.commit));
        Ok(ToRelease { bodies, built, blob_uses, queries, watches })
    }

    /// Lets everybody know what is durable now.
    fn release(&mut self, effects: Effects, stored: ToRelease) {
        let ToRelease { bodies, built, blob_uses, queries, watches } = stored;
        for (request, reply) in effects.replies {
            let Some(caller) = self.pending.remove(&request) else { continue };
            // A caller who has gone does not want to know.
            let _gone = caller.send(reply.map(|reply| (reply, self.commit)).map_err(CallError::Refused));
        }
        for uses in blob_uses {
            let _gone = uses.reply.send(());
        }
        let mut cut_off = Vec::new();
        // Assignments first: while they are put together, what else there is for the same stream is queued behind
        // them, and leaves with them.
        let (assignments, others): (Vec<_>, Vec<_>) = effects
            .sends
            .into_iter()
            .partition(|sent| matches!(sent, Sent::Assign { .. } | Sent::Ready { .. }));
        for sent in assignments.into_iter().chain(others) {
            let (session, passed_on) = self.pass_on(sent);
            if !passed_on {
                cut_off.push(session);
            }
        }
        self.hand_over(effects.evaluations);
        self.watches.tell(self.commit, &effects.changes, &bodies, &built.failures, &self.core);
        for query in queries {
            query(&self.core, self.commit);
        }
        for start in watches {
            self.watches.forget_closed();
            self.watches.start(start, self.commit, &self.core);
        }
        ended::tell(&self.core, &effects.changes, self.clock.now().wall);
        for session in cut_off {
            // The stream does not read what it is sent: it is closed, and the session waits to be resumed.
            if let Some(attached) = self.streams.get(&session) {
                // The attachment itself goes with the message, so that the core hears of it in its turn.
                let _ended_before = attached.end.set(CallError::StreamNotRead);
                tracing::warn!(%session, "cut off the stream of an elf that does not read");
                self.waiting.push_back(Message::FromStream {
                    session,
                    stream: attached.stream,
                    command: Command::StreamClosed { session },
                    bodies: Vec::new(),
                });
            }
        }
    }

    /// Hands evaluations to the evaluator, as far as it has room. Whenever it has not, it is at work, and what it answers
    /// leads here again.
    fn hand_over(&mut self, evaluations: Vec<Evaluation>) {
        self.to_evaluate.extend(evaluations);
        while let Some(evaluation) = self.to_evaluate.pop_front() {
            if self.evaluator.try_send(evaluation).is_err() {
                self.to_evaluate.push_front(evaluation);
                return;
            }
        }
    }

    /// `false`: the stream does not take it.
    fn pass_on_assigned(&self, session: SessionId, assigned: Assigned) -> bool {
        self.streams.get(&session).is_none_or(|stream| stream.assigned.try_send(assigned).is_ok())
    }

    /// Hands a message to the stream of its session, if that has one. `false`: the stream does not take it.
    fn pass_on(&mut self, sent: Sent) -> (SessionId, bool) {
        let (session, message) = match sent {
            Sent::Assign { session, assignments, first } => {
                let taken = self.pass_on_assigned(session, Assigned::New { assignments, first });
                return (session, taken);
            }
            Sent::Ready { session, tokens, first } => {
                let taken = self.pass_on_assigned(session, Assigned::Ready { tokens, first });
                return (session, taken);
            }
            Sent::Cancel { session, tokens } => (session, ToStream::Cancel(tokens)),
            Sent::OutcomeAcks { session, acks } => (session, ToStream::OutcomeAcks(acks)),
            Sent::HeartbeatAck { session, unknown } => (session, ToStream::HeartbeatAck(unknown)),
            Sent::SessionOver { session } => {
                if let Some(stream) = self.streams.remove(&session) {
                    tracing::info!(%session, "a session is over");
                    stream.end(CallError::SessionOver);
                }
                return (session, true);
            }
        };
        (session, self.streams.get(&session).is_none_or(|stream| stream.outbox.try_send(message).is_ok()))
    }

    /// Memory may be ahead of the disk or behind it, or wrong. Forgets all of it, and starts from the store as at the very
    /// beginning.
    async fn rebuild(&mut self, setback: Setback) -> Result<(), DriverError> {
        match &setback {
            Setback::Store(error) => {
                tracing::error!(error = %Report(error), "a commit failed; starting again from the store");
                self.set_state(StoreState::after(error));
                self.refuse_all();
            }
            Setback::Defect(defect) => {
                self.progress.send_modify(|progress| progress.defect = Some(*defect));
                self.set_state(StoreState::Unavailable);
                self.answer_all(&CallError::Defect(*defect));
            }
        }
        self.streams.clear();
        self.to_evaluate.clear();
        match setback {
            Setback::Store(error) if !error.is_retryable() => return Err(DriverError::Store(error)),
            // Where what is stored leads to it, and no message, starting again leads nowhere.
            Setback::Defect(defect) if self.defects == DEFECTS_MAX => {
                return Err(DriverError::Defect(defect));
            }
            Setback::Defect(_) if !self.has_messages => self.defects += 1,
            Setback::Defect(_) | Setback::Store(_) => {}
        }
        let mut pause = REBUILD_PAUSE_MIN;
        loop {
            let last_evaluation = self.core.last_evaluation();
            match self.disk.block(|store| load_core(store, &self.config, &self.clock, last_evaluation)) {
                Ok((core, counters)) => {
                    self.core = core;
                    // Leases began anew while it was read.
                    self.turns.forget();
                    self.commit = counters.commit;
                    self.watches = Watches::new(counters.commit);
                    if !self.wait_until_writable().await {
                        return Ok(());
                    }
                    if self.disk.block(|store| store.check_writable()).is_ok() {
                        self.set_state(StoreState::Writable);
                        tracing::info!(commit = %self.commit, "started again from the store");
                        return Ok(());
                    }
                }
                Err(StartError::Store(error)) if error.is_retryable() => {
                    self.set_state(StoreState::Unavailable);
                    tracing::warn!(error = %Report(&error), "the store is still unavailable");
                }
                Err(error) => return Err(DriverError::Start(error)),
            }
            if !self.refuse_while(pause).await {
                return Ok(());
            }
            pause = (pause * 2).min(REBUILD_PAUSE_MAX);
        }
    }

    /// Waits while the disk is full or read-only, and answers those who ask what is stored: the core knows just that.
    /// Nothing else happens meanwhile, or it could not be stored. `false`: told to stop.
    async fn wait_until_writable(&mut self) -> bool {
        let mut pause = REBUILD_PAUSE_MIN;
        let mut told = StoreState::Writable;
        loop {
            let Err(error) = self.disk.block(|store| store.check_writable()) else { return true };
            if error.lack().is_none() {
                // It has to be loaded again.
                return true;
            }
            let state = StoreState::after(&error);
            self.set_state(state);
            if told != state {
                told = state;
                tracing::error!(error = %Report(&error), "nothing can be stored; reads go on");
            }
            if !self.refuse_while(pause).await {
                return false;
            }
            pause = (pause * 2).min(REBUILD_PAUSE_MAX);
        }
    }

    fn set_state(&self, state: StoreState) {
        let commit = self.commit;
        self.progress.send_modify(|progress| *progress = Progress { commit, store: state, ..*progress });
    }

    /// Refuses all that comes in for a while, but for questions that can be answered. `false`: told to stop.
    async fn refuse_while(&mut self, pause: Duration) -> bool {
        let until = tokio::time::Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, self.inbox.recv()).await {
                Err(_elapsed) => return true,
                Ok(Some(Message::Stop) | None) => {
                    self.stopping = true;
                    return false;
                }
                Ok(Some(Message::Query(query))) if self.is_readable() => query(&self.core, self.commit),
                Ok(Some(Message::Watch(start))) if self.is_readable() => {
                    self.watches.forget_closed();
                    self.watches.start(start, self.commit, &self.core);
                }
                Ok(Some(message)) => {
                    self.waiting.push_back(message);
                    self.refuse_all();
                }
            }
        }
    }

    fn is_readable(&self) -> bool {
        self.progress.borrow().store.is_readable()
    }

    /// Answers everybody who waits that the store takes nothing.
    fn refuse_all(&mut self) {
        let refusal = self.progress.borrow().store.refusal();
        self.answer_all(&refusal.unwrap_or(CallError::StoreUnavailable));
    }

    /// Answers everybody who waits with `error`.
    fn answer_all(&mut self, error: &CallError) {
        for (_, caller) in self.pending.drain() {
            let _gone = caller.send(Err(error.clone()));
        }
        for message in self.waiting.drain(..) {
            match message {
                Message::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
                Message::Hello(hello) => drop(hello.reply.send(Err(error.clone()))),
                // Their callers see that the answer will not come.
                Message::Query(_) | Message::Watch(_) | Message::BlobUses(_) => {}
                // The core that asked for it is gone, and its successor asks anew.
                Message::Evaluated { .. } => {}
                // Elves keep what they reported until it is acknowledged, and report it again.
                Message::FromStream { .. } => {}
                Message::Stop => self.stopping = true,
            }
        }
    }

    fn end(mut self) -> Result<(), DriverError> {
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            self.waiting.push_back(message);
        }
        self.answer_all(&CallError::Stopping);
        for (_, attached) in self.streams.drain() {
            // A full outbox needs no word: the stream ends when the attachment is dropped.
            let _full = attached.outbox.try_send(ToStream::GoAway);
            attached.end(CallError::Stopping);
        }
        match self.disk.block(|store| store.close()) {
            // Nothing acknowledged depends on it.
            Err(error) if error.is_retryable() => {
                tracing::warn!(error = %Report(&error), "the store could not be written out at the end");
                Ok(())
            }
            closed => closed.map_err(DriverError::Store),
        }
    }
}

/// What is left to do once a batch is stored.
struct ToRelease {
    bodies: Vec<Body>,
    built: Built,
    blob_uses: Vec<BlobUses>,
    queries: Vec<Query>,
    watches: Vec<WatchStart>,
}

fn name_request(command: &mut Command, request: RequestId) {
    match command {
        Command::Submit(submit) => submit.request = request,
        Command::Cancel(cancel) => cancel.request = request,
        Command::Retry(retry) => retry.request = request,
        Command::Hello(hello) => hello.request = request,
        Command::StreamClosed { .. }
        | Command::SetWindow { .. }
        | Command::Heartbeat { .. }
        | Command::Outcomes { .. }
        | Command::ArgumentsFailed { .. }
        | Command::ArgumentsDelayed { .. }
        | Command::ArgumentsReady { .. }
        | Command::Evaluated { .. }
        | Command::Heard { .. }
        | Command::Stalled { .. }
        | Command::Draining { .. }
        | Command::Goodbye { .. } => {}
    }
}

/// An error with all its sources on one line.
pub(crate) struct Report<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
