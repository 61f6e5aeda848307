//! What attempts report while they run.

use bytes::Bytes;
use mycelium_core::ids::{SessionId, Token};

use super::StreamId;

/// What the attempts of a session report on its stream.
pub(crate) struct ReportsMessage {
    pub(crate) session: SessionId,
    pub(crate) stream: StreamId,
    pub(crate) progress: Vec<(Token, Reported)>,
    pub(crate) checkpoints: Vec<CheckpointSaid>,
}

/// A checkpoint that an attempt has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointSaid {
    pub(crate) token: Token,
    /// Goes back with the answer.
    pub(crate) number: u64,
    /// What is to be kept; or why it cannot be.
    pub(crate) body: Result<Bytes, String>,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointAnswer {
    pub(crate) token: Token,
    pub(crate) number: u64,
    pub(crate) verdict: CheckpointVerdict,
}

/// What was made of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckpointVerdict {
    Stored,
    /// The attempt is not the session's.
    Stale,
    /// It cannot be stored, and why.
    Refused(String),
}

/// How far an attempt says that it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reported {
    /// From 0 to 1.
    pub(crate) fraction: f64,
    /// For people, of bounded length.
    pub(crate) text: String,
}
