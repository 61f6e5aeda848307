//! What reaches the task that owns the core.

mod beside;
mod reports;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::Core;
use mycelium_core::command::{Command, EvaluationResult, Failed, Hello, OutcomeResult};
use mycelium_core::effects::{Assignment, Refusal, Reply, Verdict};
use mycelium_core::ids::{AssignNumber, Attachment, Commit, FailureId, RequestId, SessionId, Token};
use tokio::sync::{SetOnce, mpsc, oneshot};

use super::confirming::Confirming;
use super::registry::Signatures;
use super::watch::WatchStart;
use crate::blobs::BlobError;
use crate::defect::Defect;
use crate::documents::Undecodable;
use crate::spawn::Unfinished;
use crate::store::{self, BlobDigest, ElfRecord, RevisionRecord};
use crate::trace::Attempts;

pub(crate) use beside::Beside;
pub(crate) use reports::{CheckpointAnswer, CheckpointSaid, CheckpointVerdict, Reported, ReportsMessage};

/// One thing for the owner of the core to do.
pub(crate) enum Message {
    /// A command of a caller, who waits for the reply.
    Request {
        command: Command,
        bodies: Vec<Body>,
        reply: ReplySender,
    },
    /// An instance opens a session or resumes one.
    Hello(Box<HelloMessage>),
    /// A command from the stream of a session.
    FromStream {
        session: SessionId,
        stream: StreamId,
        command: Command,
        bodies: Vec<Body>,
    },
    /// What the attempts of a session report.
    Reports(ReportsMessage),
    Aside(Aside),
    /// What evaluations came to. Nobody waits for an answer.
    Evaluated {
        command: Command,
        bodies: Vec<Body>,
    },
    /// Something to read from the core, at a moment when all it knows is durable.
    Query(Query),
    /// A caller wants to watch jobs.
    Watch(WatchStart),
    Stop,
}

/// Something beside, and who waits for it.
pub(crate) struct Aside {
    pub(crate) beside: Beside,
    /// Told once it is durable; dropped if that failed.
    pub(crate) reply: oneshot::Sender<()>,
}

impl StreamAttachment {
    /// Lets go of the stream, which ends once it has passed on what waits for it.
    pub(crate) fn end(self, why: CallError) {
        // What ended it first is why it ends.
        let _ended_before = self.end.set(why);
    }
}

/// A reading of the core.
pub(crate) type Query = Box<dyn FnOnce(&Core, Commit) + Send>;
/// Where the reply to a request goes, with the commit that made it durable.
pub(crate) type ReplySender = oneshot::Sender<Result<(Reply, Commit), CallError>>;

/// An instance that opens a session or resumes one.
pub(crate) struct HelloMessage {
    pub(crate) hello: Hello,
    /// What it says of its elves, to be stored.
    pub(crate) elves: Vec<ElfRecord>,
    pub(crate) revisions: Vec<RevisionRecord>,
    /// What it declares, to be held against from the moment that it is welcomed.
    pub(crate) signatures: Signatures,
    pub(crate) attachment: StreamAttachment,
    pub(crate) reply: ReplySender,
}

/// A stream that is attached to a session.
pub(crate) struct StreamAttachment {
    pub(crate) stream: StreamId,
    /// What is passed on as it is. A stream whose queues are full is cut off.
    pub(crate) outbox: mpsc::Sender<ToStream>,
    /// What needs arguments first, and so must not hold up the rest.
    pub(crate) assigned: mpsc::Sender<Assigned>,
    /// Set before it is dropped: why the stream is to end. Dropped without, the store is unavailable.
    pub(crate) end: Arc<SetOnce<CallError>>,
    /// Whether a message has been read from it that has not come to the queue.
    pub(crate) is_speaking: Arc<AtomicBool>,
    /// What is known of its assignments.
    pub(crate) confirming: Arc<Confirming>,
    /// Those of its attempts.
    pub(crate) spans: Arc<Attempts>,
}

/// Assignments on their way to a stream, in the order of their numbers.
#[derive(Debug)]
pub(crate) enum Assigned {
    /// New ones, of which the first has this number.
    New { assignments: Vec<Assignment>, first: AssignNumber },
    /// Of those whose arguments took longer to compute, the ones that are still wanted, the first with this number.
    Ready { tokens: Vec<Token>, first: AssignNumber },
    /// What was assigned before and is to be given back.
    Recall { tokens: Vec<Token> },
}

/// One thing for a stream to pass on.
#[derive(Debug)]
pub(crate) enum ToStream {
    /// These attempts are no longer wanted.
    Cancel(Vec<Token>),
    /// These outcomes are stored, or refused for good: they need not be reported again.
    OutcomeAcks(Vec<(Token, Verdict)>),
    /// A heartbeat was received; these attempts are not the session's.
    HeartbeatAck(Vec<Token>),
    /// These checkpoints are stored, or will not be.
    CheckpointAnswers(Vec<CheckpointAnswer>),
    /// People are to be told.
    Notice(String),
    /// The instance is to take no more jobs, and to have left within this time.
    Drain(Duration),
    /// The broker stops: close.
    GoAway,
}

/// Numbers streams, so that late messages of an old one are told from its successor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId(pub(crate) u64);

/// What a command carries past the core. Attachments in a message number its own bodies from 0; the owner of the core
/// renumbers them within the batch.
#[derive(Clone)]
pub(crate) enum Body {
    /// The specification of a new job.
    Spec {
        body: Bytes,
        /// The blobs that it names.
        blobs: Vec<BlobDigest>,
    },
    /// Outputs of an attempt, as they are stored, and the blobs they name.
    Outputs {
        encoded: Bytes,
        blobs: Vec<BlobDigest>,
    },
    Failure(FailureBody),
}

impl Body {
    /// How many bytes are stored of it, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Spec { body, .. } => body.len(),
            Self::Outputs { encoded, .. } => encoded.len(),
            Self::Failure(failure) => {
                let causes = failure.cause_messages.iter().map(String::len).sum::<usize>();
                failure.encoded.len() + failure.message.len() + failure.details.len() + causes
            }
        }
    }
}

/// A failure, ready to be stored.
#[derive(Debug, Clone)]
pub(crate) struct FailureBody {
    pub(crate) id: FailureId,
    pub(crate) encoded: Bytes,
    /// What decides whether the job of an attempt that ended with it is tried again.
    pub(crate) failed: Box<Failed>,
    pub(crate) message: String,
    pub(crate) details: String,
    pub(crate) cause_messages: Box<[String]>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the broker has too much to do")]
    Busy,
    #[error("the store did not take the change")]
    StoreUnavailable,
    #[error("the disk is full: nothing is stored until there is space again, and what is stored can be read")]
    StoreFull,
    #[error(
        "the disk is read-only: nothing is stored until it can be written, and what is stored can be read"
    )]
    StoreReadOnly,
    #[error("the store refuses it for good; why stands in the log of the broker")]
    StoreRefuses,
    #[error("the broker is stopping")]
    Stopping,
    /// Of a stream: another goes on with its session.
    #[error("a newer stream goes on with this session")]
    SessionTakenOver,
    /// Of a stream.
    #[error(
        "the session is over: no message came from it within its lease, or its instance has opened another"
    )]
    SessionOver,
    /// Of a stream.
    #[error("the elf has not read what was sent to it")]
    StreamNotRead,
    #[error("the store cannot be read")]
    Read(#[source] Arc<store::Error>),
    #[error("the store holds a record that cannot be read: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Defect(#[from] Defect),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("no flow is named `{0}`")]
    FlowNameNotFound(String),
    #[error("elf `{0}` is not known: none of that name has ever connected")]
    ElfNotFound(String),
    #[error("no such revision is kept")]
    RevisionNotFound,
    #[error("failure {0} is not known")]
    FailureNotFound(FailureId),
}

impl CallError {
    /// Whether something that is stored is damaged, while the rest may well be read.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Read(error) => error.is_damage(),
            _ => false,
        }
    }
}

impl From<Unfinished> for CallError {
    fn from(unfinished: Unfinished) -> Self {
        match unfinished {
            Unfinished::Stopping => Self::Stopping,
            Unfinished::Defect(defect) => Self::Defect(defect),
        }
    }
}

impl From<Undecodable> for CallError {
    fn from(document: Undecodable) -> Self {
        Self::Unreadable(document.to_string())
    }
}

impl From<store::Error> for CallError {
    fn from(error: store::Error) -> Self {
        match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Defect>()) {
            Some(defect) => Self::Defect(*defect),
            None => Self::Read(Arc::new(error)),
        }
    }
}

impl Message {
    /// How many bytes of it are stored, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Request { bodies, .. }
            | Self::FromStream { bodies, .. }
            | Self::Evaluated { bodies, .. } => bodies.iter().map(Body::bytes).sum(),
            Self::Hello(hello) => {
                let elves = hello.elves.iter().map(|elf| elf.body.len());
                let revisions = hello.revisions.iter().map(|revision| revision.body.len());
                elves.chain(revisions).sum()
            }
            Self::Aside(aside) => {
                let stubs = aside.beside.erased.iter().filter_map(|erased| erased.stub.as_ref());
                stubs.map(|stub| stub.body.len()).sum()
            }
            Self::Reports(ReportsMessage { checkpoints, .. }) => {
                let bodies = checkpoints.iter().filter_map(|said| said.body.as_ref().ok());
                bodies.map(Bytes::len).sum()
            }
            Self::Query(_) | Self::Watch(_) | Self::Stop => 0,
        }
    }

    /// How many jobs or outcomes it brings, at least 1: what batches are measured by.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Request { command, .. }
            | Self::FromStream { command, .. }
            | Self::Evaluated { command, .. } => 1 + command_weight(command),
            Self::Hello(hello) => 1 + hello.hello.held.len(),
            Self::Aside(aside) => aside.beside.weight(),
            Self::Reports(reports) => 1 + reports.progress.len() / 8 + reports.checkpoints.len(),
            Self::Query(_) | Self::Watch(_) | Self::Stop => 1,
        }
    }
}

/// The session whose elf said it, if it is what an elf says on its stream.
pub(crate) fn speaker(message: &Message) -> Option<SessionId> {
    match message {
        Message::FromStream { session, command, .. } => is_word(command).then_some(*session),
        Message::Reports(ReportsMessage { session, .. }) => Some(*session),
        Message::Hello(_)
        | Message::Request { .. }
        | Message::Aside(_)
        | Message::Evaluated { .. }
        | Message::Query(_)
        | Message::Watch(_)
        | Message::Stop => None,
    }
}

/// Whether its elf said it. The rest the broker itself says of the stream.
fn is_word(command: &Command) -> bool {
    match command {
        Command::Hello(_)
        | Command::SetWindow { .. }
        | Command::Heartbeat { .. }
        | Command::Starts { .. }
        | Command::Reports { .. }
        | Command::Outcomes { .. }
        | Command::Heard { .. }
        | Command::Draining { .. }
        | Command::Goodbye { .. } => true,
        Command::Submit(_)
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
        | Command::StreamClosed { .. }
        | Command::ProcessGone { .. }
        | Command::ArgumentsFailed { .. }
        | Command::ArgumentsDelayed { .. }
        | Command::ArgumentsReady { .. }
        | Command::Unfit { .. }
        | Command::Evaluated { .. }
        | Command::Stalled { .. } => false,
    }
}

fn command_weight(command: &Command) -> usize {
    match command {
        Command::Submit(submit) => submit.jobs.len(),
        Command::Starts { starts, .. } => starts.len(),
        Command::Outcomes { outcomes, .. } => outcomes.len(),
        Command::Retry(retry) => retry.jobs.len() + retry.dependents.len(),
        Command::StartNow(start) => start.jobs.len(),
        Command::Delete(delete) => delete.flows.len(),
        Command::Deletions(moved) => moved.flows.len() + moved.submissions.len(),
        Command::Pin(pin) => pin.flows.len(),
        Command::Evaluated { evaluated } => evaluated.len(),
        Command::Heartbeat { held, .. } => held.len(),
        Command::Reports { tokens, .. }
        | Command::ArgumentsDelayed { tokens, .. }
        | Command::ArgumentsReady { tokens, .. } => tokens.len(),
        Command::Hello(hello) => hello.held.len(),
        Command::Cancel(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Drain(_)
        | Command::Action(_)
        | Command::StreamClosed { .. }
        | Command::ProcessGone { .. }
        | Command::SetWindow { .. }
        | Command::ArgumentsFailed { .. }
        | Command::Unfit { .. }
        | Command::Heard { .. }
        | Command::Stalled { .. }
        | Command::Draining { .. }
        | Command::Goodbye { .. } => 0,
    }
}

/// Gives a command the number by which its reply finds whoever waits for it.
pub(crate) fn name_request(command: &mut Command, request: RequestId) {
    match command {
        Command::Submit(submit) => submit.request = request,
        Command::Cancel(cancel) => cancel.request = request,
        Command::Retry(retry) => retry.request = request,
        Command::StartNow(start) => start.request = request,
        Command::Delete(delete) => delete.request = request,
        Command::Deletions(moved) => moved.request = request,
        Command::Pin(pin) => pin.request = request,
        Command::Pause(pause) => pause.request = request,
        Command::Resume(resume) => resume.request = request,
        Command::Drain(drain) => drain.request = request,
        Command::Action(action) => action.request = request,
        Command::Hello(hello) => hello.request = request,
        Command::StreamClosed { .. }
        | Command::ProcessGone { .. }
        | Command::SetWindow { .. }
        | Command::Heartbeat { .. }
        | Command::Starts { .. }
        | Command::Reports { .. }
        | Command::Outcomes { .. }
        | Command::ArgumentsFailed { .. }
        | Command::Unfit { .. }
        | Command::ArgumentsDelayed { .. }
        | Command::ArgumentsReady { .. }
        | Command::Evaluated { .. }
        | Command::Heard { .. }
        | Command::Stalled { .. }
        | Command::Draining { .. }
        | Command::Goodbye { .. } => {}
    }
}

/// Renumbers the attachments of a command, which count its message's own bodies, to count those of the batch.
pub(crate) fn shift_attachments(command: &mut Command, by: usize) {
    // A batch has far fewer bodies than 2^32: it is bounded by `Config::batch_max` and the limits of one message.
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    let shift = |attachment: &mut Attachment| attachment.0 = attachment.0.saturating_add(by);
    match command {
        Command::Submit(submit) => submit.jobs.iter_mut().for_each(|job| shift(&mut job.spec)),
        Command::Outcomes { outcomes, .. } => {
            for outcome in outcomes {
                match &mut outcome.result {
                    OutcomeResult::Outputs(attachment)
                    | OutcomeResult::Failure(attachment)
                    | OutcomeResult::Refused(attachment) => shift(attachment),
                    OutcomeResult::Released | OutcomeResult::Cancelled => {}
                }
            }
        }
        Command::ArgumentsFailed { failure, .. } => shift(failure),
        Command::Evaluated { evaluated } => {
            for evaluated in evaluated {
                match &mut evaluated.result {
                    EvaluationResult::Failed(attachment) | EvaluationResult::Gathered(attachment) => {
                        shift(attachment);
                    }
                    EvaluationResult::Run
                    | EvaluationResult::Skip
                    | EvaluationResult::Expanded { .. }
                    | EvaluationResult::Again => {}
                }
            }
        }
        Command::Cancel(_)
        | Command::Retry(_)
        | Command::StartNow(_)
        | Command::Delete(_)
        | Command::Deletions(_)
        | Command::Pin(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Drain(_)
        | Command::Action(_)
        | Command::Hello(_)
        | Command::StreamClosed { .. }
        | Command::ProcessGone { .. }
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
        | Command::Goodbye { .. } => {}
    }
}
