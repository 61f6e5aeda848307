//! The stream of one instance: a reader that passes on what the elf says, a dispatcher that puts arguments together,
//! and a writer that numbers what goes out. Control messages never wait behind arguments.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use mycelium_core::command::Command;
use mycelium_core::effects::Reply;
use mycelium_core::ids::{AssignNumber, SessionId};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, connect_request, connect_response};
use tokio::sync::{SetOnce, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::convert;
use super::declare::{
    Declared, checked_window, complete_revisions, declared, protocol, secret_digest, signatures, token,
    tokens,
};
use super::outcomes::{Outcomes, check_tokens, read_outcomes, refuse_missing};
use super::status::unreadable;
use crate::broker::{
    CallError, Handle, HelloMessage, Permit, Process, Report, StreamAttachment, StreamId, ToStream,
};
use crate::compute::{Dispatched, Dispatcher, Tasks};
use crate::defect::Defect;
use crate::error::{Error, Gone};
use crate::mycelia::Mycelia;
use crate::spawn::{OnStop, TaskGroup, guarded};

/// How many messages from the owner of the core may wait for a stream. An elf that reads so slowly that more come
/// together is cut off; windows bound what can wait in them.
const OUTBOX_MAX: usize = 1_024;
/// How many messages may wait for the connection.
const OUTGOING_MAX: usize = 16;
/// How long a new stream may take to say `Hello`.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long an elf may take to make room for the reason why its stream ends.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);
/// From which version of the protocol on a session has a secret.
const PROTOCOL_WITH_SECRETS: u32 = 2;
/// How many random bytes the secret of a session has.
const SECRET_BYTES: usize = 32;

/// How many names of elves one line of the log shows.
const LOGGED_NAMES_MAX: usize = 4;

/// Opens the stream of an instance.
pub(crate) async fn connect(
    mycelia: Mycelia,
    drain: CancellationToken,
    mut incoming: Streaming<v1::ConnectRequest>,
) -> Result<impl Stream<Item = Result<v1::ConnectResponse, Status>> + Send + 'static, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message()).await;
    let first = first.map_err(|_elapsed| Error::HelloOverdue { within: HELLO_WITHIN })??;
    let Some(v1::ConnectRequest { sequence, kind: Some(connect_request::Kind::Hello(mut hello)), .. }) =
        first
    else {
        return Err(violation("the stream must begin with `Hello`").into());
    };
    let handle = mycelia.enter(&hello.mycelium).await.map_err(|error| error.within("hello"))?;
    let permit = handle.admit_stream().map_err(Error::from)?;
    let protocol = protocol(&hello, handle.config().protocol_min)?;
    complete_revisions(&mut hello);
    let mut declared = declared(&hello, handle.clock().now().wall)?;
    let secret = if protocol >= PROTOCOL_WITH_SECRETS { secret()? } else { Bytes::new() };
    declared.hello.secret_new = secret_digest(&secret);
    let signatures = signatures(&handle, &hello.elves).await?;
    let process = Process { id: hello.process_id, host: hello.host, late_by: None };
    let elves = hello.elves;

    let stream = handle.next_stream();
    let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
    let (assign, assigned) = mpsc::channel(OUTBOX_MAX);
    let Declared { hello, elves: elf_records, revisions } = declared;
    let is_speaking = Arc::new(AtomicBool::new(false));
    let speaking = Arc::clone(&is_speaking);
    let end = Arc::new(SetOnce::new());
    let attachment =
        StreamAttachment { stream, outbox, assigned: assign, end: Arc::clone(&end), is_speaking };
    let answered = handle
        .hello(|reply| HelloMessage { hello, elves: elf_records, revisions, attachment, reply })
        .await
        .map_err(Error::from)?;
    let (Reply::Welcome { session, resumed, keep }, _) = answered else {
        let problem = "`Hello` was answered with another reply";
        return Err(Error::from(CallError::from(Defect::of("a reply of the scheduler", &problem))).into());
    };
    for (elf, signature) in &signatures {
        handle.registry().put(elf, Arc::clone(signature));
    }
    let tasks = Arc::new(Tasks::new(signatures));
    handle.processes().put(session, process);
    let elves = names(elves.iter().map(|elf| elf.name.as_str()));
    tracing::info!(%session, resumed, elves = elves.as_str(), "an elf connected");

    let shared = Arc::new(Shared {
        received: AtomicU64::new(sequence),
        assigned: Mutex::default(),
        has_said_goodbye: AtomicBool::new(false),
        given_up: OnceLock::new(),
    });
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX);
    let closing = CancellationToken::new();
    let parts =
        Parts { group: handle.tasks().clone(), shared: Arc::clone(&shared), closing: closing.clone() };
    let (out, dispatched) = mpsc::channel(OUTGOING_MAX);
    let (faults, faults_receiver) = mpsc::channel(OUTGOING_MAX);
    let welcome = v1::Welcome {
        session: session.0,
        resumed,
        protocol,
        heartbeat_interval: Some(convert::duration(handle.config().heartbeat_interval)),
        lease: Some(convert::duration(handle.config().lease)),
        keep: keep.iter().map(convert::token).collect(),
        payload_bytes_max: limits::PAYLOAD_BYTES_MAX as u64,
        job_bytes_max: limits::JOB_BYTES_MAX as u64,
        message_bytes_max: limits::MESSAGE_BYTES_MAX as u64,
        // One that is resumed keeps the secret it has.
        session_secret: if resumed { Bytes::new() } else { secret },
    };
    let writer = Writer {
        outgoing,
        inbox,
        end,
        dispatched,
        faults: faults_receiver,
        shared: Arc::clone(&shared),
        drain: drain.clone(),
        sequence: 0,
    };
    let dispatcher = Dispatcher::new(handle.clone(), session, stream, out.clone(), Arc::clone(&tasks));
    // The writer takes the end of what is dispatched for a reason of its own, so it must not come before the defect.
    parts.spawn("the dispatcher of a stream", dispatcher.run(assigned), out);
    parts.spawn("the writer of a stream", writer.run(welcome, closing.clone(), permit), ());
    let reader = Reader { handle, session, elves, stream, incoming, faults, shared, speaking, tasks };
    parts.spawn("the reader of a stream", reader.run(drain, closing), ());
    Ok(ReceiverStream::new(outgoing_receiver))
}

/// The tasks of a stream.
struct Parts {
    group: TaskGroup,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

impl Parts {
    /// Runs one of them, and holds `keep` until it has ended. If it comes to a defect, or panics, the stream ends, and says
    /// why if its writer can.
    fn spawn(
        &self,
        what: &'static str,
        part: impl Future<Output = Result<(), Defect>> + Send + 'static,
        keep: impl Send + 'static,
    ) {
        let (shared, closing) = (Arc::clone(&self.shared), self.closing.clone());
        self.group.spawn(what, async move {
            let ended = guarded(what, OnStop::Finish, part).await.map_err(CallError::from);
            if let Err(error) = ended.and_then(|ended| Ok(ended?)) {
                shared.give_up(error.into());
                closing.cancel();
            }
            drop(keep);
        });
    }
}

/// The names of the elves of an instance as logs show them: the first few.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(LOGGED_NAMES_MAX);
    let mut text = names.take(LOGGED_NAMES_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A secret for a new session.
fn secret() -> Result<Bytes, Error> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(Bytes::copy_from_slice(&secret))
}

fn violation(message: &str) -> Error {
    Error::ProtocolViolation(message.to_owned())
}

/// What reader and writer know together.
struct Shared {
    /// The highest sequence number received from the elf.
    received: AtomicU64,
    assigned: Mutex<Assigned>,
    /// Whether the elf has ended its session itself.
    has_said_goodbye: AtomicBool,
    /// Why the reader does not read on, if that is not the elf's doing.
    given_up: OnceLock<Error>,
}

/// Which assignments are known to have reached the elf.
#[derive(Default)]
struct Assigned {
    /// For each `Assign` sent and not known to be received: its sequence number, and its last assignment.
    sent: VecDeque<(u64, AssignNumber)>,
    reached: AssignNumber,
}

impl Shared {
    /// The stream does not go on.
    fn give_up(&self, error: Error) {
        let _given_up_before = self.given_up.set(error);
    }

    fn sent(&self, sequence: u64, last: AssignNumber) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        assigned.sent.push_back((sequence, last));
    }

    /// The last assignment that has reached an elf which has received messages up to `sequence`.
    fn reached(&self, sequence: u64) -> AssignNumber {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sent, last)) = assigned.sent.front().copied()
            && sent <= sequence
        {
            assigned.reached = assigned.reached.max(last);
            assigned.sent.pop_front();
        }
        assigned.reached
    }
}

/// Passes on what the elf says.
struct Reader {
    handle: Handle,
    session: SessionId,
    /// For logs.
    elves: String,
    stream: StreamId,
    incoming: Streaming<v1::ConnectRequest>,
    faults: mpsc::Sender<v1::Fault>,
    shared: Arc<Shared>,
    /// Set while a message has been read and not passed on: its elf is alive, however long the queue.
    speaking: Arc<AtomicBool>,
    /// What outcomes are held against.
    tasks: Arc<Tasks>,
}

impl Reader {
    async fn run(mut self, drain: CancellationToken, closing: CancellationToken) -> Result<(), Defect> {
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
                Ok(None) => break,
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
        let closed = Command::StreamClosed { session: self.session };
        // If the broker has stopped, its session waits in the store.
        let _stopped = self.handle.pass_on(self.session, self.stream, closed, Vec::new()).await;
        Ok(())
    }

    /// Deals with one message.
    ///
    /// # Errors
    /// If the stream is at its end.
    async fn on_message(&mut self, message: v1::ConnectRequest) -> Result<(), Gone> {
        let sequence = message.sequence;
        let about = About { sequence, tokens: Vec::new() };
        self.shared.received.fetch_max(sequence, Ordering::Relaxed);
        let session = self.session;
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
                        let received = self.shared.reached(message.received);
                        (Command::Heartbeat { session, held, received }, Vec::new())
                    }
                    Err(error) => return self.fault(about.and(heartbeat.held), &error).await,
                }
            }
            Some(connect_request::Kind::SetWindow(window)) => match checked_window("set_window", &window) {
                Ok(checked) => {
                    (Command::SetWindow { session, elf: Arc::from(window.elf), window: checked }, Vec::new())
                }
                Err(error) => return self.fault(about, &error).await,
            },
            Some(connect_request::Kind::Draining(v1::Draining {})) => {
                (Command::Draining { session }, Vec::new())
            }
            Some(connect_request::Kind::Goodbye(v1::Goodbye {})) => {
                self.shared.has_said_goodbye.store(true, Ordering::Relaxed);
                (Command::Goodbye { session }, Vec::new())
            }
            Some(connect_request::Kind::Hello(_)) => {
                return self.fault(about, &violation("`Hello` is said once, at the beginning")).await;
            }
            None => {
                return self.fault(about, &violation("the message says nothing this broker knows")).await;
            }
        };
        self.handle.pass_on(session, self.stream, command, bodies).await.map_err(|error| {
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

/// Numbers what goes out, and sends it.
struct Writer {
    outgoing: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    /// From the owner of the core.
    inbox: mpsc::Receiver<ToStream>,
    /// Why the owner of the core has let go of the stream.
    end: Arc<SetOnce<CallError>>,
    /// Assignments with their arguments.
    dispatched: mpsc::Receiver<Dispatched>,
    /// From the reader.
    faults: mpsc::Receiver<v1::Fault>,
    shared: Arc<Shared>,
    drain: CancellationToken,
    sequence: u64,
}

impl Writer {
    async fn run(
        mut self,
        welcome: v1::Welcome,
        closing: CancellationToken,
        _permit: Permit,
    ) -> Result<(), Defect> {
        let mut sent = self.send(connect_response::Kind::Welcome(welcome)).await;
        while sent.is_ok() {
            sent = tokio::select! {
                biased;
                () = closing.cancelled() => Err(Gone),
                () = self.drain.cancelled() => self.go_away().await,
                message = self.inbox.recv() => match message {
                    Some(message) => self.pass_on(message).await,
                    // The owner of the core has let go of the stream.
                    None => Err(Gone),
                },
                Some(fault) = self.faults.recv() => self.send(connect_response::Kind::Fault(fault)).await,
                dispatched = self.dispatched.recv() => {
                    // The dispatcher could not read the store: what it was given is not delivered, and goes back
                    // into the queue when the elf resumes without it.
                    let Some(dispatched) = dispatched else { break };
                    let assign = v1::Assign { assignments: dispatched.assignments };
                    let sent = self.send(connect_response::Kind::Assign(assign)).await;
                    self.shared.sent(self.sequence, dispatched.last);
                    sent
                }
            };
        }
        if let Some(error) = self.last_word(closing.is_cancelled()) {
            // An elf that does not read does not hear it: it is waited for no longer than it takes others.
            let said = self.outgoing.send(Err(error.into()));
            let _unheard = tokio::time::timeout(LAST_WORD_WITHIN, said).await;
        }
        closing.cancel();
        Ok(())
    }

    /// Why the stream ends; `None` if that was the elf's wish. `is_read_no_further`: its reader has ended.
    fn last_word(&self, is_read_no_further: bool) -> Option<Error> {
        if let Some(error) = self.shared.given_up.get() {
            return Some(error.clone());
        }
        match self.end.get() {
            Some(CallError::SessionOver) if self.shared.has_said_goodbye.load(Ordering::Relaxed) => None,
            Some(error) => Some(error.clone().into()),
            None if self.drain.is_cancelled() => Some(CallError::Stopping.into()),
            // The elf has closed its side, or the connection is gone.
            None if is_read_no_further => None,
            None => Some(CallError::StoreUnavailable.into()),
        }
    }

    async fn pass_on(&mut self, message: ToStream) -> Result<(), Gone> {
        match message {
            ToStream::Cancel(tokens) => {
                let tokens = tokens.iter().map(convert::token).collect();
                self.send(connect_response::Kind::Cancel(v1::Cancel { tokens })).await
            }
            ToStream::OutcomeAcks(acks) => {
                let acks =
                    acks.iter().map(|(token, verdict)| convert::outcome_ack(token, *verdict)).collect();
                self.send(connect_response::Kind::OutcomeAcks(v1::OutcomeAcks { acks })).await
            }
            ToStream::HeartbeatAck(unknown) => {
                let unknown = unknown.iter().map(convert::token).collect();
                self.send(connect_response::Kind::HeartbeatAck(v1::HeartbeatAck { unknown })).await
            }
            ToStream::GoAway => self.go_away().await,
        }
    }

    /// Tells the elf that the broker stops, after which the stream is over.
    async fn go_away(&mut self) -> Result<(), Gone> {
        let message = "the broker is stopping; reconnect, and go on with what runs".to_owned();
        self.send(connect_response::Kind::GoAway(v1::GoAway { message })).await?;
        Err(Gone)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone, or the stream is over before the elf has made room for it.
    async fn send(&mut self, kind: connect_response::Kind) -> Result<(), Gone> {
        self.sequence += 1;
        let received = self.shared.received.load(Ordering::Relaxed);
        let message = v1::ConnectResponse { sequence: self.sequence, received, kind: Some(kind) };
        tokio::select! {
            biased;
            sent = self.outgoing.send(Ok(message)) => sent.map_err(|_gone| Gone),
            _why = self.end.wait() => Err(Gone),
            () = self.drain.cancelled() => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_name_the_first_elves_of_an_instance() {
        assert_eq!(names(["mean"].into_iter()), "mean");
        assert_eq!(names(["a", "b", "c", "d"].into_iter()), "a, b, c, d");
        assert_eq!(names(["a", "b", "c", "d", "e", "f"].into_iter()), "a, b, c, d and 2 more");
    }
}
