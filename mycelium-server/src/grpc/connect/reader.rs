//! Passes on what an elf says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mycelium_core::command::{Command, StreamEnd};
use mycelium_core::ids::SessionId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, connect_request};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::process::SeenProcess;
use super::shared::Shared;
use crate::access::Pass;
use crate::broker::{Body, CallError, CheckpointSaid, Confirming, Handle, ReportsMessage, StreamId};
use crate::compute::Tasks;
use crate::defect::Defect;
use crate::error::{Error, Gone};
use crate::grpc::declare::{checked_window, starts, token, tokens};
use crate::grpc::outcomes::{Outcomes, check_tokens, read_outcomes, refuse_missing};
use crate::grpc::reports::{read_checkpoints, read_logs, read_progress};
use crate::grpc::status::unreadable;
use crate::report::Report;

/// How often it is looked whether a process is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long an elf that has said goodbye is left waiting for the end of its session, while that cannot be stored.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// The task that reads.
pub(super) struct Reader {
    /// What the elf may do.
    pub(super) pass: Arc<Pass>,
    pub(super) handle: Handle,
    pub(super) session: SessionId,
    /// For logs.
    pub(super) elves: String,
    pub(super) stream: StreamId,
    /// The process that speaks, if it is to be seen when it is gone.
    pub(super) process: Option<SeenProcess>,
    pub(super) incoming: Streaming<v1::ConnectRequest>,
    pub(super) faults: mpsc::Sender<v1::Fault>,
    pub(super) shared: Arc<Shared>,
    pub(super) confirming: Arc<Confirming>,
    /// Set while a message has been read and not passed on: its elf is alive, however long the queue.
    pub(super) speaking: Arc<AtomicBool>,
    /// What outcomes are held against.
    pub(super) tasks: Arc<Tasks>,
}

impl Reader {
    pub(super) async fn run(
        mut self,
        drain: CancellationToken,
        closing: CancellationToken,
    ) -> Result<(), Defect> {
        loop {
            let message = tokio::select! {
                () = drain.cancelled() => break,
                () = closing.cancelled() => break,
                message = self.incoming.message() => message,
            };
            match message {
                Ok(Some(message)) => {
                    self.speaking.store(true, Ordering::Relaxed);
                    let passed_on = self.on_message(message).await;
                    self.speaking.store(false, Ordering::Relaxed);
                    if let Err(Gone) = passed_on {
                        break;
                    }
                }
                Ok(None) => {
                    // An elf that says goodbye closes its side, and reads on: that its stream ends tells it that its session is
                    // over, and whoever asks after that is not told that it is there.
                    if self.shared.has_said_goodbye() {
                        tokio::select! {
                            () = drain.cancelled() => {}
                            () = closing.cancelled() => {}
                            () = tokio::time::sleep(LEFT_WITHIN) => {}
                        }
                    }
                    break;
                }
                Err(status) => {
                    if let Some(error) = unreadable(&status) {
                        self.shared.give_up(error);
                    }
                    tracing::info!(
                        session = %self.session,
                        elves = self.elves.as_str(),
                        code = ?status.code(),
                        error = status.message(),
                        "the stream of an elf was cut"
                    );
                    break;
                }
            }
        }
        closing.cancel();
        let is_ended_here = self.shared.is_ended_here() || drain.is_cancelled();
        let end = if is_ended_here { StreamEnd::ByShell } else { StreamEnd::Broken };
        // Its connection may end while the process is waited for.
        let Self { handle, session, stream, process, .. } = self;
        let closed = Command::StreamClosed { session, end };
        // If the broker has stopped, its session waits in the store.
        let _stopped = handle.pass_on(session, stream, closed, Vec::new()).await;
        if let Some(process) = process {
            let _stopped = drain.run_until_cancelled(until_gone(&handle, session, stream, process)).await;
        }
        Ok(())
    }

    /// Deals with one message.
    ///
    /// # Errors
    /// If the stream is at its end.
    async fn on_message(&mut self, message: v1::ConnectRequest) -> Result<(), Gone> {
        let sequence = message.sequence;
        let about = About { sequence, tokens: Vec::new() };
        self.shared.receive(sequence);
        let is_beat = matches!(message.kind, Some(connect_request::Kind::Heartbeat(_)));
        let received = self.confirming.heard(message.received, is_beat);
        let session = self.session;
        if !message.starts.is_empty() {
            match starts(&message.starts) {
                Ok(starts) => self.pass_on(Command::Starts { session, starts }, Vec::new()).await?,
                Err(error) => {
                    let tokens = message.starts.into_iter().filter_map(|start| start.token);
                    return self.fault(about.and(tokens), &error).await;
                }
            }
        }
        if !message.logs.is_empty() {
            self.handle.logs().offer(session, read_logs(message.logs));
        }
        if !message.progress.is_empty() || !message.checkpoints.is_empty() {
            match read_checkpoints(message.checkpoints) {
                Ok(checkpoints) => self.report(message.progress, checkpoints).await?,
                Err(error) => return self.fault(about, &error).await,
            }
        }
        let (command, bodies) = match message.kind {
            Some(connect_request::Kind::Outcomes(reported)) => {
                if let Err(error) = check_tokens(&reported) {
                    let tokens = reported.outcomes.into_iter().filter_map(|outcome| outcome.token);
                    return self.fault(about.and(tokens), &error).await;
                }
                match self.read_outcomes(reported).await {
                    Ok(Outcomes { outcomes, bodies, .. }) => {
                        (Command::Outcomes { session, outcomes }, bodies)
                    }
                    // The elf reports again on its next stream.
                    Err(error) => {
                        if let Error::Call(CallError::Blob(error)) = &error {
                            tracing::error!(%session, error = %Report(error), "cannot look for the blobs of outputs");
                        }
                        self.shared.give_up(error);
                        return Err(Gone);
                    }
                }
            }
            Some(connect_request::Kind::Heartbeat(heartbeat)) => {
                match tokens("heartbeat.held", &heartbeat.held) {
                    Ok(held) => {
                        let late_by = heartbeat.late_by.and_then(|late_by| late_by.try_into().ok());
                        self.handle.processes().beat(session, late_by);
                        (Command::Heartbeat { session, held, received }, Vec::new())
                    }
                    Err(error) => return self.fault(about.and(heartbeat.held), &error).await,
                }
            }
            Some(connect_request::Kind::SetWindow(window)) => match checked_window("set_window", &window) {
                Ok(_) if !self.may_serve(&window.elf) => {
                    return self.fault(about, &Error::NotPermitted).await;
                }
                Ok(checked) => {
                    (Command::SetWindow { session, elf: Arc::from(window.elf), window: checked }, Vec::new())
                }
                Err(error) => return self.fault(about, &error).await,
            },
            Some(connect_request::Kind::Draining(v1::Draining {})) => {
                (Command::Draining { session }, Vec::new())
            }
            Some(connect_request::Kind::Goodbye(v1::Goodbye {})) => {
                self.shared.say_goodbye();
                self.tasks.spans().hand_back();
                // Its session is over with this.
                self.process = None;
                (Command::Goodbye { session }, Vec::new())
            }
            Some(connect_request::Kind::Hello(_)) => {
                return self.fault(about, &Error::violation("`Hello` is said once, at the beginning")).await;
            }
            // It says what stands beside that, or something that this broker does not know.
            None => return Ok(()),
        };
        self.pass_on(command, bodies).await
    }

    /// Whether it may speak as this elf now: what it may do may have changed since its `Hello`.
    fn may_serve(&self, elf: &str) -> bool {
        self.pass.covers(self.pass.mycelium().unwrap_or_default(), [elf]).is_ok()
    }

    async fn pass_on(&self, command: Command, bodies: Vec<Body>) -> Result<(), Gone> {
        self.handle.pass_on(self.session, self.stream, command, bodies).await.map_err(|error| {
            self.shared.give_up(error.into());
            Gone
        })
    }

    /// Passes on what attempts have reported.
    async fn report(
        &self,
        progress: Vec<v1::Progress>,
        checkpoints: Vec<CheckpointSaid>,
    ) -> Result<(), Gone> {
        let (session, stream) = (self.session, self.stream);
        let reports = ReportsMessage { session, stream, progress: read_progress(progress), checkpoints };
        self.handle.report(reports).await.map_err(|error| {
            self.shared.give_up(error.into());
            Gone
        })
    }

    async fn read_outcomes(&self, reported: v1::Outcomes) -> Result<Outcomes, Error> {
        let mut read = read_outcomes(&self.handle, self.session, &self.tasks, reported).await?;
        refuse_missing(&self.handle, &mut read).await?;
        Ok(read)
    }

    /// Tells the elf what is wrong with a message; the stream goes on.
    async fn fault(&self, about: About, error: &Error) -> Result<(), Gone> {
        let About { sequence, tokens } = about;
        let reason = error.reason().to_owned();
        let fault = v1::Fault { sequence, reason, message: error.to_string(), tokens };
        // An elf that sends nonsense and does not read is read no further either.
        self.faults.send(fault).await.map_err(|_gone| Gone)
    }
}

/// The stream of a session has ended. Tells the core when the process is gone, unless the session goes on or ends before.
async fn until_gone(handle: &Handle, session: SessionId, stream: StreamId, process: SeenProcess) {
    let deadline = Instant::now() + handle.config().lease;
    while Instant::now() < deadline && handle.processes().is_latest(session, stream) && !handle.has_ended() {
        if process.is_gone() {
            tracing::info!(%session, "the process of an elf is gone");
            let gone = Command::ProcessGone { session };
            // If the broker has stopped, nobody has to know.
            let _stopped = handle.pass_on(session, stream, gone, Vec::new()).await;
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Which message a fault is found with.
struct About {
    sequence: u64,
    /// The attempts that it speaks of.
    tokens: Vec<v1::Token>,
}

impl About {
    /// The message speaks of these attempts. Those that cannot be read mean nothing to its elf.
    fn and(self, tokens: impl IntoIterator<Item = v1::Token>) -> Self {
        let readable = tokens.into_iter().filter(|one| token(one).is_some());
        Self { tokens: readable.take(limits::FAULT_TOKENS_MAX).collect(), ..self }
    }
}
