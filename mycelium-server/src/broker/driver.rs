//! The one task that owns a core: collects messages, applies them, commits what comes of them in one batch, and only
//! then lets anybody know.
//!
//! While one batch is written the next one collects in the queue, so that commits grow with the load: that is all
//! the group commit there is. A commit blocks for as long as the disk takes, and holds up nothing but this task
//! ([`Disk`]); [`SchedulerPlace`](crate::config::SchedulerPlace) says where that runs.

mod recovery;
mod refusals;
mod release;
mod reports;
mod requests;
mod streams;

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::command::Command;
use mycelium_core::effects::{Effects, Evaluation, Reply};
use mycelium_core::ids::{Clocks, Commit, SessionId};
use tokio::sync::{mpsc, watch};

use super::batch::{self, Built};
use super::board::Board;
use super::checkpoints::Checkpointed;
use super::disk::Disk;
use super::handle::Handle;
use super::limits::Backlog;
use super::message::{
    Aside, Body, CallError, HelloMessage, Message, Query, name_request, shift_attachments, speaker,
};
use super::progress::Progress;
use super::registry::{Registry, Signatures};
use super::start::StartError;
use super::turns::Turns;
use super::watch::{WatchStart, Watches};
use crate::clock::Clock;
use crate::config::Config;
use crate::defect::{self, Defect};
use crate::metrics::Counting;
use crate::report::Report;
use crate::store::{self, ElfRecord, RevisionRecord};
use refusals::Refusals;
use release::ToRelease;
use reports::Reports;
use requests::Requests;
use streams::Streams;

/// The most messages taken from the queue at once; the weight of a batch is bounded beside it.
const MESSAGES_PER_BATCH_MAX: usize = 256;
/// About how many bytes of what callers and elves send go into one commit, unless a single message brings more. With
/// what the core adds, a commit stays below 16 MiB.
const BATCH_BYTES_MAX: usize = 12 * 1024 * 1024;

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

pub(crate) struct Driver {
    core: Core,
    commit: Commit,
    disk: Disk,
    clock: Clock,
    config: Config,
    registry: Arc<Registry>,
    board: Arc<Board>,
    checkpointed: Arc<Checkpointed>,
    inbox: mpsc::Receiver<Message>,
    progress: watch::Sender<Progress>,
    /// Messages taken from the inbox for which the last batch had no room.
    waiting: VecDeque<Message>,
    requests: Requests,
    streams: Streams,
    watches: Watches,
    evaluator: mpsc::Sender<Evaluation>,
    /// Evaluations for which the evaluator had no room yet: at most as many as a core hands out.
    to_evaluate: VecDeque<Evaluation>,
    backlog: Backlog,
    refusals: Refusals,
    turns: Turns,
    /// Whether the turn under way has messages, or is the core's own.
    has_messages: bool,
    /// How many turns of the core's own have come to a defect since the last commit.
    defects: u32,
    stopping: bool,
    /// How often it is asked who owns the store, while nothing happens.
    check_every: Option<Duration>,
    counting: Counting,
}

/// What one batch collects besides what the core does.
#[derive(Default)]
struct Gathered {
    bodies: Vec<Body>,
    elves: Vec<ElfRecord>,
    revisions: Vec<RevisionRecord>,
    welcomed: Vec<(SessionId, Signatures)>,
    reports: Reports,
    asides: Vec<Aside>,
    queries: Vec<Query>,
    watches: Vec<WatchStart>,
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        disk: Disk,
        handle: &Handle,
        inbox: mpsc::Receiver<Message>,
        progress: watch::Sender<Progress>,
        evaluator: mpsc::Sender<Evaluation>,
        counting: Counting,
    ) -> Self {
        let commit = core.status().counters.commit;
        let config = handle.config().clone();
        let mut backlog = handle.limits().backlog();
        backlog.set(core.n_unfinished());
        let turns = Turns::new(config.lease);
        let check_every = disk.log().check_every();
        Self {
            core,
            commit,
            disk,
            clock: handle.clock().clone(),
            config,
            registry: Arc::clone(handle.registry()),
            board: Arc::clone(handle.board()),
            checkpointed: Arc::clone(handle.checkpointed()),
            inbox,
            progress,
            waiting: VecDeque::new(),
            requests: Requests::default(),
            streams: Streams::default(),
            watches: Watches::new(commit),
            evaluator,
            to_evaluate: VecDeque::new(),
            backlog,
            refusals: Refusals::default(),
            turns,
            has_messages: false,
            defects: 0,
            stopping: false,
            check_every,
            counting,
        }
    }

    /// Runs until it is told to stop, or all its callers are gone, or the store fails for good.
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        match defect::catch_async("the scheduler", self.work()).await {
            Ok(Ok(())) => self.end().await,
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
            if self.collect().await.is_break() {
                break;
            }
            let mut effects = Effects::default();
            // One moment for all of the turn: a pause in the middle of it makes the next turn late, and ends no lease in
            // this one.
            let (now, moved) = self.clock.turn();
            if let Some(by) = moved {
                // No time has passed in which anybody could have been heard.
                self.turns.moved(by);
                self.core.apply(now, Command::Stalled { by }, &mut effects);
            }
            let stood_still = self.turns.begin(now.steady);
            if let Some(by) = stood_still {
                self.stalled(now, by, &mut effects).await;
            }
            let heard_nobody = stood_still.is_some() || moved.is_some();
            self.waiting.extend(self.streams.look(now.steady, heard_nobody));
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
        self.disk.log().check_owner().map_err(Setback::Store)?;
        self.counting.look(&self.core);
        let gathered = self.apply_waiting(now, &mut effects);
        let done = self.store_batch(&mut effects, gathered).await?;
        self.counting.count(now, &effects, &done.built.batch, &self.core);
        self.release(effects, done);
        Ok(())
    }

    /// Waits until there is something to do, or a turn is due all the same, and takes what is there. Breaks if
    /// all callers are gone.
    async fn collect(&mut self) -> ControlFlow<()> {
        if !self.waiting.is_empty() || self.core.has_work() {
            self.take_up_to(MESSAGES_PER_BATCH_MAX);
            return ControlFlow::Continue(());
        }
        let mut taken = Vec::new();
        let deadline = self.core.next_deadline();
        let timed = deadline.map(|deadline| self.clock.until(deadline).min(self.turns.wait_max()));
        let pause = timed.into_iter().chain(self.check_every).min();
        let received = self.inbox.recv_many(&mut taken, MESSAGES_PER_BATCH_MAX);
        match pause {
            None => {
                if received.await == 0 {
                    return ControlFlow::Break(());
                }
            }
            Some(pause) => {
                if let Ok(0) = tokio::time::timeout(pause, received).await {
                    return ControlFlow::Break(());
                }
            }
        }
        if timed.is_none() {
            self.turns.forget();
        }
        self.waiting.extend(taken);
        ControlFlow::Continue(())
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
        self.core.set_unfinished_max(self.config.unfinished_max.min(self.backlog.max()));
        let (mut weight, mut bytes) = (0, 0);
        self.refusals.begin();
        while weight < self.config.batch_max
            && let Some(message) = self.waiting.pop_front()
        {
            bytes += message.bytes();
            if bytes > BATCH_BYTES_MAX && weight > 0 {
                self.waiting.push_front(message);
                break;
            }
            weight += message.weight();
            let (message, rest) = self.refusals.take(message);
            message.into_iter().for_each(|message| self.apply(now, message, &mut gathered, effects));
            if let Some(rest) = rest {
                self.waiting.push_front(rest);
                break;
            }
        }
        self.renew_speaking(now, effects);
        self.core.finish_batch(now, effects);
        self.backlog.set(self.core.n_unfinished());
        gathered
    }

    /// Renews leases that are about to end of sessions whose messages have come and still wait for their turn.
    fn renew_speaking(&mut self, now: Clocks, effects: &mut Effects) {
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
        let speaking: HashSet<SessionId> = self.waiting.iter().filter_map(speaks).collect();
        for session in over {
            if self.streams.is_speaking(session) || speaking.contains(&session) {
                self.core.apply(now, Command::Heard { session }, effects);
            }
        }
    }

    fn apply(&mut self, now: Clocks, message: Message, gathered: &mut Gathered, effects: &mut Effects) {
        match message {
            Message::Request { mut command, bodies, reply } => {
                let request = self.requests.expect(reply);
                name_request(&mut command, request);
                shift_attachments(&mut command, gathered.bodies.len());
                gathered.bodies.extend(bodies);
                self.core.apply(now, command, effects);
            }
            Message::Hello(hello) => {
                let HelloMessage { mut hello, elves, revisions, signatures, attachment, reply } = *hello;
                let request = self.requests.expect(reply);
                hello.request = request;
                gathered.elves.extend(elves);
                gathered.revisions.extend(revisions);
                self.core.apply(now, Command::Hello(hello), effects);
                // From here on, and not only once it is durable: that the stream before it closes may be the next
                // message, and must not be taken for the end of this one.
                if let Some((answered, Ok(Reply::Welcome { session, .. }))) = effects.replies.last()
                    && *answered == request
                {
                    self.streams.attach(*session, attachment);
                    gathered.welcomed.push((*session, signatures));
                }
            }
            Message::FromStream { session, stream, mut command, bodies } => {
                let current = self.streams.is_current(session, stream);
                match &command {
                    // Without a stream nobody would get the acknowledgement: the elf reports again on its next.
                    Command::Outcomes { .. } if !self.streams.has(session) => return,
                    // An outcome is fenced by its token, whichever stream it came on.
                    Command::Outcomes { .. } | Command::ArgumentsFailed { .. } => {}
                    // The core asks whether somebody has resumed the session.
                    Command::ProcessGone { .. } => {}
                    Command::StreamClosed { .. } if current => self.streams.detach(session),
                    Command::StreamClosed { .. }
                    | Command::Submit(_)
                    | Command::Cancel(_)
                    | Command::Retry(_)
                    | Command::StartNow(_)
                    | Command::Delete(_)
                    | Command::Deletions(_)
                    | Command::Pin(_)
                    | Command::Pause(_)
                    | Command::Resume(_)
                    | Command::Drain(_)
                    | Command::Action(_)
                    | Command::Evaluated { .. }
                    | Command::Hello(_)
                    | Command::SetWindow { .. }
                    | Command::Heartbeat { .. }
                    | Command::Starts { .. }
                    | Command::Reports { .. }
                    | Command::Heard { .. }
                    | Command::Stalled { .. }
                    | Command::Unfit { .. }
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
            Message::Reports(reports) => self.take_reports(now, reports, &mut gathered.reports, effects),
            Message::Aside(aside) => {
                self.core.require_commit();
                gathered.asides.push(aside);
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

    async fn store_batch(&mut self, effects: &mut Effects, gathered: Gathered) -> Result<ToRelease, Setback> {
        let Gathered { bodies, elves, revisions, welcomed, reports, mut asides, queries, watches } = gathered;
        let Reports { checkpoints, answers } = reports;
        let Some(counters) = effects.counters.take() else {
            debug_assert!(
                elves.is_empty() && revisions.is_empty() && asides.is_empty() && checkpoints.is_empty(),
                "what is to be stored beside the core has required a commit"
            );
            let (built, is_stored) = (Built::default(), false);
            return Ok(ToRelease { bodies, built, is_stored, welcomed, answers, asides, queries, watches });
        };
        let began = self.counting.begin_commit(effects);
        let mut built = batch::build(effects, counters, &bodies, elves, revisions)
            .map_err(|mismatch| Setback::Defect(Defect::of("a batch for the store", &mismatch)))?;
        for aside in &mut asides {
            aside.beside.add_to(&mut built.batch);
        }
        built.batch.checkpoints.extend(checkpoints.into_values());
        self.checkpointed.settle(&mut built.batch);
        self.disk.commit(&mut built.batch).await.map_err(Setback::Store)?;
        self.counting.committed(began, built.batch.jobs.len());
        self.checkpointed.stored(&built.batch);
        self.commit = counters.commit;
        self.refusals.on_stored();
        self.defects = 0;
        self.progress.send_replace(Progress::of(self.commit));
        Ok(ToRelease { bodies, built, is_stored: true, welcomed, answers, asides, queries, watches })
    }

    /// Answers everybody who waits with `error`.
    fn answer_all(&mut self, error: &CallError) {
        self.requests.fail_all(error);
        for message in self.waiting.drain(..) {
            match message {
                Message::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
                Message::Hello(hello) => drop(hello.reply.send(Err(error.clone()))),
                // Their callers see that the answer will not come.
                Message::Query(_) | Message::Watch(_) | Message::Aside(_) => {}
                // The core that asked for it is gone, and its successor asks anew.
                Message::Evaluated { .. } => {}
                // Elves keep what they reported until it is acknowledged, and report it again.
                Message::FromStream { .. } | Message::Reports(_) => {}
                Message::Stop => self.stopping = true,
            }
        }
    }

    async fn end(mut self) -> Result<(), DriverError> {
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            self.waiting.push_back(message);
        }
        self.answer_all(&CallError::Stopping);
        self.streams.stop_all();
        match self.disk.log().close().await {
            // Nothing acknowledged depends on it.
            Err(error) if error.is_retryable() => {
                tracing::warn!(error = %Report(&error), "the store could not be written out at the end");
                Ok(())
            }
            closed => closed.map_err(DriverError::Store),
        }
    }
}

#[cfg(test)]
mod tests;
