//! One attempt on its way through a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mycelium_proto::v1;
use tokio_util::sync::CancellationToken;

use super::bounds::Bounds;
use crate::ids::{FlowId, JobId};
use crate::trace::Trace;
use crate::value::payload::Payload;

/// Which of the worker's elves.
pub(super) type ElfIndex = u32;

/// Names an attempt. Unlike its form on the wire it holds on to no buffer of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) job_id: JobId,
    pub(super) attempt: u32,
}

impl Token {
    /// None if the token does not fit the contract.
    pub(super) fn from_wire(token: &v1::Token) -> Option<Self> {
        let job_id = JobId::try_from(token.job_id.as_ref()).ok()?;
        Some(Self { job_id, attempt: token.attempt })
    }

    pub(super) fn to_wire(self) -> v1::Token {
        v1::Token { job_id: self.job_id.to_wire(), attempt: self.attempt }
    }
}

/// An attempt that waits to be started.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) token: Token,
    /// Tells this holding of the attempt from any other, on this side only.
    pub(super) serial: u64,
    pub(super) elf: ElfIndex,
    pub(super) priority: i32,
    /// The name of the task, shared by all jobs of it.
    pub(super) task: Arc<str>,
    pub(super) flow_id: FlowId,
    /// As they came: some may have to be read first.
    pub(super) arguments: Vec<v1::ArgumentValue>,
    /// What an earlier attempt has left.
    pub(super) last_checkpoint: Option<Box<Payload>>,
    /// The trace in which its job was submitted, if it was in one.
    pub(super) trace: Option<Box<Trace>>,
    pub(super) cancel: CancellationToken,
    /// How long it may take, if that is bounded.
    pub(super) bounds: Option<Bounds>,
}

/// An attempt that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) token: Token,
    /// That of its [`Work`].
    pub(super) serial: u64,
    pub(super) at: Instant,
}

/// An attempt that has an outcome.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) token: Token,
    pub(super) serial: u64,
    pub(super) outcome: v1::outcome::Result,
    /// How long it ran, if it was started.
    pub(super) ran: Option<Duration>,
    /// About how many bytes the outcome takes in a message.
    pub(super) bytes: usize,
    /// Whether a thread has not let go of it: that is told by another of these.
    pub(super) goes_on: bool,
}

/// What the log says of a task that does not stop.
pub(super) const GOES_ON: &str = "a task goes on although it was told to stop and its grace is over: it blocks its thread, and \
                                  its place is taken until it lets go; a long computation asks its context now and then \
                                  whether it is cancelled";

impl Finished {
    /// What went on has let go. It had its outcome before.
    pub(super) fn let_go(token: Token, serial: u64) -> Self {
        let outcome = v1::outcome::Result::Cancelled(v1::AttemptCancelled {});
        Self { token, serial, outcome, ran: None, bytes: 0, goes_on: false }
    }
}

impl Work {
    /// The attempt ends without having been started.
    pub(super) fn unstarted(&self, outcome: v1::outcome::Result) -> Finished {
        Finished { token: self.token, serial: self.serial, outcome, ran: None, bytes: 0, goes_on: false }
    }
}

/// What a worker still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Attempts without an outcome, started or not.
    pub(super) running: usize,
    /// Attempts whose outcome was not acknowledged.
    pub(super) unacknowledged: usize,
}
