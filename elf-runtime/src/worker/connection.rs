//! The worker's side of `ElfService.Connect`: opens the stream, reads, writes, beats, and opens it again.
//!
//! All of it runs on a thread of its own, so that tasks that burn CPU on every thread of the caller's runtime keep
//! neither beats nor outcomes from the broker.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mycelium_proto::v1::{self, connect_response};
use tokio_util::sync::CancellationToken;

use super::bounds::Limits;
use super::executor::Executor;
use super::fatal::is_fatal;
use super::intervals::{Intervals, Silence};
use super::ledger::{Actions, Ledger, Unwanted};
use super::pulse::Pulse;
use super::shared::{Shared, Writer};
use super::starts::Starts;
use crate::error::Error;
use crate::retry::Backoff;
use crate::transport::{ElfLine, Inbound};

/// Pauses between tries to connect.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The same of a worker that holds attempts: with the 2 s that a connection may take to be made, and some for the broker, it
/// comes back within the 6 s that are left of the lease when a stream breaks, for as long as the network is away for 4 s.
const RECONNECT_PAUSE_MAX_HOLDING: Duration = Duration::from_secs(1);
/// A stream that has lived for so long since its welcome has proven that connecting works: the next pause is short again.
/// One that is welcomed and cut at once, again and again, is opened ever more slowly.
const STREAM_PROVEN_AFTER: Duration = Duration::from_secs(2);
/// How long the broker may take to answer `Hello`.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// The least of it, however short leases are: a broker that stood still reads every `Hello` when it goes on, and one that was
/// given up would take the session from the one that was not.
const WELCOME_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// How long to wait, after `Goodbye`, for the broker to end the stream.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Called with the session when the first `Welcome` is here.
pub(super) type OnReady = Box<dyn FnOnce(u64) + Send>;

/// See the module.
pub(super) struct Connection {
    pub(super) line: ElfLine,
    pub(super) shared: Arc<Shared>,
    pub(super) executors: Vec<Arc<Executor>>,
    /// The worker takes no more jobs and is to leave when it has none.
    pub(super) drain: CancellationToken,
    /// The caller dropped the worker's future: the worker is to leave now.
    pub(super) abandon: CancellationToken,
    /// Fired by this connection when leaving has to end, whatever is still owed.
    pub(super) give_up: CancellationToken,
    /// How long leaving may take, unless the broker has said.
    pub(super) drain_grace: Duration,
    /// How long the broker said that it may take, if the broker was the first to want it.
    pub(super) told_to_leave_within: Arc<OnceLock<Duration>>,
    pub(super) on_ready: Option<OnReady>,
    /// What attempts may take.
    pub(super) limits: Arc<Limits>,
    /// How long a task may go on that was told to stop.
    pub(super) cancel_grace: Duration,
    /// How long the broker may be silent, once it has been heard.
    pub(super) silence_max: Option<Duration>,
    /// How many attempts ran when they were stopped: they did not finish, however soon they notice.
    pub(super) stopped: OnceLock<usize>,
}

/// Why a stream is over.
enum StreamEnd {
    /// The worker has left.
    Left,
    /// The connection broke, or the broker closed it.
    Cut(Error),
    /// The broker said that the stream will be closed.
    GoAway,
    /// Connecting again leads nowhere.
    Fatal(Error),
}

impl Connection {
    /// Runs until the worker has left, or cannot go on.
    pub(super) async fn run(mut self, pulse: Pulse) -> Result<(), Error> {
        let (drain, abandon, give_up) = (self.drain.clone(), self.abandon.clone(), self.give_up.clone());
        let grace = Grace { own: self.drain_grace, told: Arc::clone(&self.told_to_leave_within) };
        let shared = Arc::clone(&self.shared);
        let (limits, cancel_grace) = (Arc::clone(&self.limits), self.cancel_grace);
        let result = tokio::select! {
            biased;
            result = self.stay_connected() => result,
            never = limits.watch(&shared, cancel_grace) => match never {},
            never = pulse.watch(|late_by| shared.on_late(late_by)) => match never {},
            never = give_up_in_time(drain, abandon, &grace, give_up) => match never {},
        };
        self.stop_all();
        result?;
        let running = self.stopped.get().copied().unwrap_or_default();
        let left = self.shared.ledger().counts();
        let unacknowledged = (left.running + left.unacknowledged).saturating_sub(running);
        if running + unacknowledged == 0 {
            if grace.told.get().is_some() {
                tracing::info!("has left, as the broker wanted: nothing is held any more");
            }
            return Ok(());
        }
        Err(Error::DrainIncomplete { grace: grace.of_it(), running, outcomes: unacknowledged })
    }

    /// Opens one stream after the other until the worker has left.
    async fn stay_connected(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new(RECONNECT_PAUSE_MIN, RECONNECT_PAUSE_MAX);
        loop {
            let is_draining = self.drain.is_cancelled();
            if is_draining {
                self.start_draining();
            }
            let owes_nothing = self.shared.ledger().session() == 0 || self.shared.ledger().owes_nothing();
            if self.give_up.is_cancelled() || (is_draining && owes_nothing) {
                return Ok(());
            }
            let (began, mut welcomed) = (Instant::now(), None);
            let end = self.one_stream(&mut welcomed).await;
            self.shared.ledger().on_stream_closed();
            let is_proven = welcomed.is_some_and(|welcomed| welcomed.elapsed() >= STREAM_PROVEN_AFTER);
            if is_proven {
                backoff.reset();
            }
            let pause = self.pause(is_proven, began.elapsed(), &mut backoff);
            match end {
                StreamEnd::Left => return Ok(()),
                StreamEnd::Fatal(error) => return Err(error),
                // The next broker may be there already.
                StreamEnd::GoAway => {}
                StreamEnd::Cut(error) => {
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(
                        url = self.line.url(),
                        error = &error as &dyn std::error::Error,
                        pause_ms,
                        "no stream to the broker; connecting again"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.give_up.cancelled() => {}
                () = self.drain.cancelled(), if !is_draining => {}
            }
        }
    }

    /// How long to wait before the next try, after one that took so long. `is_proven`: it was a stream that has lived.
    fn pause(&self, is_proven: bool, took: Duration, backoff: &mut Backoff) -> Duration {
        if !self.shared.ledger().holds() {
            let max = match self.silence_max {
                // Never for so long that the lease of a session that can be resumed runs out over it.
                Some(silence_max) => RECONNECT_PAUSE_MAX.min(silence_max / 2),
                None => RECONNECT_PAUSE_MAX,
            };
            return backoff.next_pause().min(max);
        }
        if is_proven {
            return Duration::ZERO;
        }
        // What counts is how often it is tried.
        backoff.next_pause().min(RECONNECT_PAUSE_MAX_HOLDING).saturating_sub(took)
    }

    /// One stream from `Hello` to its end. Tells in `welcomed` when it was welcomed, if it was.
    async fn one_stream(&mut self, welcomed: &mut Option<Instant>) -> StreamEnd {
        let was_welcomed_before = self.shared.ledger().session() != 0;
        let writer = Writer::new(Arc::clone(&self.shared));
        let open = async {
            let mut inbound = self.line.connect(writer).await?;
            let first = inbound.message().await?;
            Ok::<_, Error>((inbound, first))
        };
        let welcome_within = self
            .silence_max
            .map_or(WELCOME_TIMEOUT, |silence| silence.clamp(WELCOME_TIMEOUT_MIN, WELCOME_TIMEOUT));
        let opened = tokio::select! {
            opened = tokio::time::timeout(welcome_within, open) => opened,
            () = self.give_up.cancelled() => return StreamEnd::Left,
            // A worker that was never welcomed owes nothing, and need not wait long for a broker that may never
            // answer; but one that is about to welcome it should be told goodbye.
            () = async {
                self.drain.cancelled().await;
                tokio::time::sleep(GOODBYE_TIMEOUT).await;
            }, if !was_welcomed_before => return StreamEnd::Left,
        };
        let (mut inbound, first) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) if is_fatal(&error, was_welcomed_before) => return StreamEnd::Fatal(error),
            Ok(Err(error)) => return StreamEnd::Cut(error),
            Err(_elapsed) => return self.cut("no welcome in time"),
        };
        let Some(v1::ConnectResponse {
            sequence, kind: Some(connect_response::Kind::Welcome(welcome)), ..
        }) = first
        else {
            return contract_broken("its first message is not a welcome");
        };
        if welcome.session == 0 {
            return contract_broken("its welcome names no session");
        }
        *welcomed = Some(Instant::now());
        self.on_welcome(sequence, &welcome);
        let intervals = Intervals::of(&welcome);
        self.silence_max = Some(intervals.silence_max);
        self.read_and_beat(&mut inbound, &intervals).await
    }

    fn cut(&self, why: &str) -> StreamEnd {
        StreamEnd::Cut(Error::unreachable(self.line.url(), why))
    }

    fn on_welcome(&mut self, sequence: u64, welcome: &v1::Welcome) {
        let actions = {
            let mut ledger = self.shared.ledger();
            ledger.on_sequence(sequence);
            ledger.on_welcome(welcome)
        };
        tracing::info!(
            url = self.line.url(),
            session = welcome.session,
            resumed = welcome.resumed,
            kept = welcome.keep.len(),
            "serving"
        );
        self.perform(actions);
        self.shared.reports.send_again();
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(welcome.session);
        }
    }

    async fn read_and_beat(
        &mut self,
        inbound: &mut Inbound<v1::ConnectResponse>,
        intervals: &Intervals,
    ) -> StreamEnd {
        let mut beats = tokio::time::interval(intervals.beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval(intervals.look);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silence = Silence::new(intervals);
        let mut is_draining = false;
        let mut starts = Starts::new(&self.executors);
        loop {
            if self.shared.ledger().owes_nothing() {
                return self.say_goodbye(inbound).await;
            }
            tokio::select! {
                message = inbound.message() => {
                    silence.broken();
                    match message {
                        Ok(Some(message)) => {
                            starts.expect();
                            if let Some(end) = self.on_message(message) {
                                return end;
                            }
                        }
                        Ok(None) => return self.cut("the broker ended the stream"),
                        Err(error) if is_fatal(&error, true) => return StreamEnd::Fatal(error),
                        Err(error) => return StreamEnd::Cut(error),
                    }
                }
                _ = looks.tick() => {
                    if silence.lasts() {
                        return self.cut("the broker no longer answers");
                    }
                    if self.shared.ledger().confirm() {
                        self.shared.outbox.writer.wake();
                    }
                }
                _ = beats.tick() => {
                    self.shared.ledger().on_beat();
                    self.shared.outbox.writer.wake();
                }
                () = starts.due() => {
                    self.shared.ledger().on_starts(starts.look(&self.executors));
                    self.shared.outbox.writer.wake();
                }
                () = self.shared.reports.due() => self.shared.outbox.writer.wake(),
                () = self.drain.cancelled(), if !is_draining => {
                    is_draining = true;
                    self.start_draining();
                }
                () = self.give_up.cancelled() => return self.say_goodbye(inbound).await,
            }
        }
    }

    fn start_draining(&self) {
        self.shared.ledger().drain();
        for executor in &self.executors {
            executor.release_unstarted();
        }
        let counts = self.shared.ledger().counts();
        tracing::info!(held = counts.running, unacknowledged = counts.unacknowledged, "draining");
        self.shared.outbox.writer.wake();
    }

    /// Ends the session, so that the broker need not wait for its lease: nothing is held any more, or what is held
    /// is given up.
    async fn say_goodbye(&mut self, inbound: &mut Inbound<v1::ConnectResponse>) -> StreamEnd {
        self.stop_all();
        self.shared.outbox.writer.wake();
        let ended = async {
            // Acknowledgements may be among what is still on its way.
            while let Ok(Some(message)) = inbound.message().await {
                self.on_message(message);
            }
        };
        if tokio::time::timeout(GOODBYE_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the broker did not end the stream after the goodbye");
        }
        StreamEnd::Left
    }

    /// Notes one message. Returns how the stream ends, if it does.
    fn on_message(&mut self, message: v1::ConnectResponse) -> Option<StreamEnd> {
        let mut ledger = self.shared.ledger();
        ledger.on_sequence(message.sequence);
        let mut end = None;
        let mut is_cancel = false;
        let actions = match message.kind {
            Some(connect_response::Kind::Assign(assign)) => ledger.on_assign(assign),
            Some(connect_response::Kind::OutcomeAcks(acks)) => {
                ledger.on_acks(&acks);
                Actions::default()
            }
            Some(connect_response::Kind::HeartbeatAck(ack)) => {
                is_cancel = !ack.unknown.is_empty();
                ledger.on_heartbeat_ack(&ack)
            }
            Some(connect_response::Kind::Cancel(cancel)) => {
                is_cancel = true;
                ledger.on_cancel(&cancel)
            }
            Some(connect_response::Kind::CheckpointAnswers(answers)) => ledger.on_answers(&answers),
            Some(connect_response::Kind::Recall(recall)) => Ledger::on_recall(&recall),
            Some(connect_response::Kind::GoAway(go_away)) => {
                tracing::info!(
                    url = self.line.url(),
                    message = go_away.message,
                    "the broker closes the stream"
                );
                end = Some(StreamEnd::GoAway);
                Actions::default()
            }
            Some(connect_response::Kind::Fault(fault)) => {
                tracing::warn!(
                    sequence = fault.sequence,
                    reason = fault.reason,
                    message = fault.message,
                    "the broker reports a fault in a message"
                );
                Actions::default()
            }
            Some(connect_response::Kind::Notice(notice)) => {
                tracing::warn!("the broker says: {}", notice.message);
                Actions::default()
            }
            Some(connect_response::Kind::Drain(told)) => {
                self.on_drain(&told);
                Actions::default()
            }
            Some(connect_response::Kind::Welcome(_)) => {
                tracing::warn!("the broker repeats its welcome, which is ignored");
                Actions::default()
            }
            // A kind of message from a later version of the contract.
            None => Actions::default(),
        };
        drop(ledger);
        if is_cancel {
            tracing::debug!(attempts = actions.cancel.len(), "attempts are no longer wanted");
        }
        self.perform(actions);
        end
    }

    /// Somebody wants this worker to leave. If it is leaving already, that goes on as it is.
    fn on_drain(&self, told: &v1::Drain) {
        let within = told.within.and_then(|within| Duration::try_from(within).ok());
        let within = within.unwrap_or(self.drain_grace);
        if self.drain.is_cancelled() || self.told_to_leave_within.set(within).is_err() {
            return;
        }
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            within_ms,
            "the broker was told to let this worker go: it takes no more jobs, and leaves"
        );
        self.drain.cancel();
    }

    fn perform(&self, actions: Actions) {
        let Actions { start, cancel, recall, wake_writer } = actions;
        if !cancel.is_empty() {
            for Unwanted { token, serial, cancel } in &cancel {
                cancel.cancel();
                self.limits.stop(*token, *serial, self.cancel_grace);
            }
            for executor in &self.executors {
                executor.sweep_cancelled();
            }
        }
        self.start(start);
        if !recall.is_empty() {
            let mut starts = Vec::new();
            self.executors.iter().for_each(|executor| executor.recall(&recall, &mut starts));
            self.shared.ledger().on_starts(starts);
        }
        if wake_writer || !recall.is_empty() {
            self.shared.outbox.writer.wake();
        }
    }

    /// Hands attempts to the executors of their elves, a run of the same elf at a time.
    fn start(&self, work: Vec<super::attempt::Work>) {
        let mut work = work.into_iter().peekable();
        while let Some(first) = work.next() {
            let elf = first.elf;
            let run =
                std::iter::once(first).chain(std::iter::from_fn(|| work.next_if(|next| next.elf == elf)));
            self.executors[elf as usize].start(run);
        }
    }

    /// Stops the attempts that still run, whose outcomes nobody takes any more.
    fn stop_all(&self) {
        let open = {
            let mut ledger = self.shared.ledger();
            self.stopped.get_or_init(|| ledger.counts().running);
            ledger.leave()
        };
        for token in &open {
            token.cancel();
        }
        for executor in &self.executors {
            executor.sweep_cancelled();
        }
    }
}

/// How long leaving may take.
struct Grace {
    own: Duration,
    told: Arc<OnceLock<Duration>>,
}

impl Grace {
    fn of_it(&self) -> Duration {
        self.told.get().copied().unwrap_or(self.own)
    }
}

/// Fires `give_up` when the caller has dropped the worker's future, or when the grace is over after it asked to leave.
async fn give_up_in_time(
    drain: CancellationToken,
    abandon: CancellationToken,
    grace: &Grace,
    give_up: CancellationToken,
) -> Infallible {
    tokio::select! {
        () = abandon.cancelled() => {}
        () = async {
            drain.cancelled().await;
            tokio::time::sleep(grace.of_it()).await;
        } => {}
    }
    give_up.cancel();
    std::future::pending().await
}

/// The stream ends because the broker breaks the contract.
fn contract_broken(message: &str) -> StreamEnd {
    StreamEnd::Cut(Error::Protocol { message: message.to_owned() })
}
