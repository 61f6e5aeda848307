//! What happens, and what is said.

use std::time::Duration;

use mycelium_core::command::{Command, Outcome as Report, Start, Window};
use mycelium_core::effects::{Assignment, Evaluation, Refusal, Reply, Verdict};
use mycelium_core::ids::{AssignNumber, InstanceId, RequestId, SecretDigest, SessionId, Token};
use mycelium_core::image::PauseTarget;

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The broker takes a batch of what has come.
    Batch,
    /// The client has an idea.
    Idea,
    /// The client asks again for what was not answered.
    AskAgain,
    /// An answer reaches the client.
    Answer(RequestId, Result<Reply, Refusal>),
    /// A message of an elf reaches the broker.
    FromElf { stream: u64, message: FromElf },
    /// The broker sees that a stream is gone.
    StreamGone { stream: u64 },
    /// A process sees that its stream is gone, and opens another soon.
    StreamEnded { stream: u64 },
    /// The broker looks for streams on which nothing is confirmed.
    Look,
    /// A message of the broker reaches an elf.
    ToElf { stream: u64, message: ToElf },
    /// An evaluation that was handed out begins.
    Evaluate(Evaluation),
    /// A command comes, or comes a second time, late.
    Late(Box<Command>),
    /// A process opens a stream.
    Connect { process: usize, instance: InstanceId },
    /// A process says what it has received, and nothing else.
    Confirm { process: usize, instance: InstanceId },
    /// A process gives a sign of life.
    Beat { process: usize, instance: InstanceId },
    /// A process tells that it has started an attempt, if it still runs.
    TellStart { process: usize, instance: InstanceId, token: Token },
    /// A task says how far it is, if it still runs.
    Report { process: usize, instance: InstanceId, token: Token },
    /// A task ends.
    TaskEnds { process: usize, instance: InstanceId, token: Token },
    /// Arguments that take longer to compute are there, if their stream still is.
    ArgumentsReady { stream: u64, session: SessionId, tokens: Vec<Token> },
    /// Something happens to a process or its stream.
    Mishap,
    /// A flow is to be deleted, and a deletion goes on.
    Delete,
    /// An operator pauses something.
    Pause,
    /// An operator resumes it.
    Resume(PauseTarget),
    /// The broker stands still: its process is paused, or its disk hangs.
    Stall,
    /// Somebody sets the broker's wall clock.
    SetClock,
    /// An operator tells an instance to drain.
    Drain,
    /// The time of a process that drains is over.
    Leave { process: usize, instance: InstanceId },
    /// A process that was told to drain is stopped.
    Stop { process: usize, instance: InstanceId },
    /// An operator wants something done with many jobs.
    Act,
    /// What is to be done with many jobs goes on.
    GoOnActing,
}

impl Event {
    /// Whether it needs the broker's process to happen.
    pub(super) fn is_of_broker(&self) -> bool {
        match self {
            Self::Batch
            | Self::FromElf { .. }
            | Self::StreamGone { .. }
            | Self::Look
            | Self::Delete
            | Self::GoOnActing
            | Self::Evaluate(_)
            | Self::ArgumentsReady { .. }
            | Self::Late(_) => true,
            Self::Idea
            | Self::AskAgain
            | Self::Answer(..)
            | Self::ToElf { .. }
            | Self::StreamEnded { .. }
            | Self::Confirm { .. }
            | Self::Connect { .. }
            | Self::Beat { .. }
            | Self::TellStart { .. }
            | Self::Report { .. }
            | Self::TaskEnds { .. }
            | Self::Mishap
            | Self::Pause
            | Self::Resume(_)
            | Self::SetClock
            | Self::Drain
            | Self::Leave { .. }
            | Self::Stop { .. }
            | Self::Act
            | Self::Stall => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum FromElf {
    Hello { resume: Option<SessionId>, held: Vec<Token>, window: Window },
    SetWindow(Window),
    Beat { held: Vec<Token>, received: AssignNumber },
    Confirm { received: AssignNumber },
    Starts(Vec<Start>),
    Reports(Vec<Token>),
    Outcomes(Vec<Report>),
    Draining,
    Goodbye,
}

impl ToElf {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

#[derive(Debug, Clone)]
pub(super) enum ToElf {
    Welcome {
        session: SessionId,
        keep: Vec<Token>,
        secret: Option<SecretDigest>,
    },
    Assign {
        assignments: Vec<Assignment>,
        last: AssignNumber,
    },
    Recall(Vec<Token>),
    /// It is to drain, within so long.
    Drain(Duration),
    /// An attempt may wait for itself.
    Notice(Token),
    Cancel(Vec<Token>),
    Acks(Vec<(Token, Verdict)>),
    Unknown(Vec<Token>),
    Closed,
}
