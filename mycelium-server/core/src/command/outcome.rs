//! What became of attempts.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Attachment, FailureId, Token};

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The attempt.
    pub token: Token,
    /// What became of it.
    pub result: OutcomeResult,
    /// If it failed: what decides whether its job is tried again. `None`: it is not.
    pub failed: Option<Box<Failed>>,
    /// How long it ran; `None` if it was not started, or that is not known.
    pub ran: Option<Duration>,
}

/// What is to be known of a failure to decide whether a job is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The failure.
    pub id: FailureId,
    /// The path of its type.
    pub kind: Arc<str>,
    /// What has failed.
    pub class: FailureClass,
    /// What the failure itself says.
    pub advice: Option<Advice>,
}

/// What has failed, when an attempt did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The task has returned an error, or something else than what it declares, or took too long.
    Task,
    /// The task has panicked.
    Panic,
    /// The task could not read its arguments.
    Arguments,
}

/// What a failure itself says of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// It would fail again.
    Never,
    /// It can be tried again after so long; whatever the policy says of how long to wait.
    After(Duration),
}

impl OutcomeResult {
    /// The failure that it ended with, if it did.
    pub(crate) fn failure(self) -> Option<Attachment> {
        match self {
            Self::Failure(body) | Self::Refused(body) => Some(body),
            Self::Outputs(_) | Self::Released | Self::Cancelled => None,
        }
    }

    /// Whether its task has come to an end, well or not.
    pub(crate) fn is_an_end(self) -> bool {
        match self {
            Self::Outputs(_) | Self::Failure(_) | Self::Refused(_) => true,
            Self::Released | Self::Cancelled => false,
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeResult {
    /// It returned; the outputs are held by the shell.
    Outputs(Attachment),
    /// It failed; the failure is held by the shell.
    Failure(Attachment),
    /// The elf did not fit the task's declaration; the failure is held by the shell. Settles the attempt like
    /// `Failure`, and is acknowledged as refused.
    Refused(Attachment),
    /// It was handed back without having been started.
    Released,
    /// It stopped because the broker had cancelled it.
    Cancelled,
}
