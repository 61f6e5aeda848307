//! What the core wants done: records to store, messages to elves, replies, and changes to tell to those who watch.
//!
//! The shell stores all of a batch in one commit, and only then releases the rest.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{
    AssignNumber, Attachment, Attempt, ContentDigest, EvaluationNumber, FinishNumber, FlowId, JobId,
    RequestId, SessionId, Timestamp, Token,
};
use crate::image::{
    ATTEMPTS_KEPT, ActionRecord, AttemptEnd, Counters, JobHead, LiveJob, PastAttempt, PauseRecord, Running,
};
use crate::status::{FinalStatus, Status};

mod end;
mod records;
mod refusal;

pub use end::{End, FailedAttempt, FailedBy};
pub use records::Records;
pub use refusal::Refusal;

/// What stands in a job's records in place of what the core never reads.
pub trait Contents {
    /// For a specification.
    type Spec: Debug + Clone + PartialEq + Eq;
    /// For outputs.
    type Outputs: Debug + Clone + PartialEq + Eq;
    /// For a failure.
    type Failure: Debug + Clone + PartialEq + Eq;
}

/// What the shell holds stands there by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {}

impl Contents for Attached {
    type Spec = Attachment;
    type Outputs = Attachment;
    type Failure = FailedBy;
}

/// What one batch of commands came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Jobs whose record changed, each once, as they stand at the end of the batch, in the order they first changed.
    pub jobs: Vec<JobWrite>,
    /// The other records that changed.
    pub records: Records,
    /// Of the jobs that ended with [`FailedBy::ElvesLost`]: jobs that can have been running beside each when it was lost
    /// before, the latest [`BESIDE_KEPT`](crate::image::BESIDE_KEPT).
    pub blamed: Vec<(JobId, Vec<JobId>)>,
    /// Attempts that failed and whose jobs are tried again, in the order they failed: their failures are to be stored with the
    /// records of those jobs.
    pub failed: Vec<FailedAttempt>,
    /// How many of the sessions that have ended were lost. The others said goodbye.
    pub sessions_lost: u32,
    /// The numbers as they are after the batch, if it has anything to store.
    pub counters: Option<Counters>,

    /// What to tell to elves, in order.
    pub sends: Vec<Send>,
    /// Answers to requests, in order.
    pub replies: Vec<(RequestId, Result<Reply, Refusal>)>,
    /// Jobs whose status changed, each once, with the status at the end of the batch.
    pub changes: Vec<Change>,
    /// Jobs to be evaluated, in order. Each is to be answered with one
    /// [`Evaluated`](crate::command::Evaluated), by as many as [`Config::evaluations_max`](crate::Config) at once.
    pub evaluations: Vec<Evaluation>,
}

impl Effects {
    /// Whether there is nothing to store.
    pub fn is_nothing_to_store(&self) -> bool {
        self.counters.is_none()
    }
}

/// A change of a job's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobWrite<C: Contents = Attached> {
    /// The job.
    pub id: JobId,
    /// Its flow.
    pub flow: FlowId,
    /// Set if the job was submitted in this batch: what never changes of it.
    pub created: Option<SpecRecord<C>>,
    /// Set if the job was finished in the store before: under which number it was indexed, and with which status.
    pub revived: Option<Revived>,
    /// The record it has from now on.
    pub after: JobRecord<C>,
}

/// What never changes of a job, and is stored once, when it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecRecord<C: Contents = Attached> {
    /// What it is, but for its policy, which is 0 here: a retry may give it another.
    pub head: JobHead,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// The jobs it depends on, each once: the edges of the graph.
    pub depends_on: Vec<JobId>,
    /// Whether it has a condition or a list to be run over.
    pub evaluate: bool,
    /// If it is the job of an element of a list: the job that has the list, which waits for this one.
    pub gathered_by: Option<JobId>,
    /// The moment before which it is not to begin, if that was still to come when it was submitted.
    pub begins_at: Option<Timestamp>,
    /// The specification as submitted.
    pub body: C::Spec,
}

/// The finished record that a retry undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revived {
    /// Its number in the order of finishing.
    pub finish_number: FinishNumber,
    /// How it had ended.
    pub status: FinalStatus,
}

/// The record of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRecord<C: Contents = Attached> {
    /// It is unfinished.
    Live(LiveJob),
    /// It is unfinished, and its live record stays as it is but for [`LiveJob::evaluate`], which is set.
    Evaluate,
    /// It has ended. Its live record, if it had one, goes.
    Finished(FinishedJob<C>),
    /// Its submission was dropped: nothing of it stays.
    Dropped,
}

/// A job that has ended, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedJob<C: Contents = Attached> {
    /// What it is.
    pub head: JobHead,
    /// Its place in the order of finishing.
    pub finish_number: FinishNumber,
    /// How it ended.
    pub end: End<C>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its newest attempt; 0 if it had none.
    pub attempt: Attempt,
    /// How many of its attempts ended because their elf was lost.
    pub elves_lost: u32,
    /// Who held it when it ended. `None` if it ended while nobody did, even if it had run before.
    pub ran: Option<Running>,
    /// If it was expanded over a list: into how many jobs.
    pub elements: Option<u32>,
    /// Its attempts, the latest [`ATTEMPTS_KEPT`], in the order of their numbers, but for the one that ended it: that
    /// follows from the rest of the record, so that of a job which ran once there is nothing to store here.
    pub attempts: Vec<PastAttempt>,
}

impl<C: Contents> FinishedJob<C> {
    /// The record with `end` in place of its own.
    pub fn with_end<D: Contents>(self, end: End<D>) -> FinishedJob<D> {
        let Self { head, finish_number, end: _, finished_at, attempt, elves_lost, ran, elements, attempts } =
            self;
        FinishedJob { head, finish_number, end, finished_at, attempt, elves_lost, ran, elements, attempts }
    }

    /// Its attempts, the latest [`ATTEMPTS_KEPT`], in the order of their numbers.
    pub fn all_attempts(&self) -> Vec<PastAttempt> {
        let mut all = self.attempts.clone();
        let is_there = all.last().is_some_and(|last| last.number == self.attempt);
        let how = match self.end {
            End::Done(_) => Some(AttemptEnd::Returned),
            End::Failed(_) => Some(AttemptEnd::Failed),
            End::Cancelled => Some(AttemptEnd::Cancelled),
            End::Expired(_) => Some(AttemptEnd::TimedOut),
            End::UpstreamFailed(_) | End::Skipped => None,
        };
        if let Some((held, how)) = self.ran.zip(how)
            && !is_there
        {
            let ended_at = self.finished_at;
            all.push(PastAttempt { number: self.attempt, held, ended_at, how, failure: None });
        }
        all.drain(..all.len().saturating_sub(ATTEMPTS_KEPT));
        all
    }
}

/// A message to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// Run these.
    Assign {
        /// To whom.
        session: SessionId,
        /// The assignments, numbered upwards without gaps from `first`.
        assignments: Vec<Assignment>,
        /// The number of the first.
        first: AssignNumber,
    },
    /// Of the attempts whose arguments are there after all, run these.
    Ready {
        /// To whom.
        session: SessionId,
        /// The attempts, numbered upwards without gaps from `first`: among the assignments, after those before.
        tokens: Vec<Token>,
        /// The number of the first.
        first: AssignNumber,
    },
    /// Give these back, unless they were started. Must not reach the instance before the assignments that were sent before.
    Recall {
        /// To whom.
        session: SessionId,
        /// The attempts.
        tokens: Vec<Token>,
    },
    /// Stop these.
    Cancel {
        /// To whom.
        session: SessionId,
        /// The attempts.
        tokens: Vec<Token>,
    },
    /// Outcomes were recorded, or are not needed.
    OutcomeAcks {
        /// To whom.
        session: SessionId,
        /// One for each outcome.
        acks: Vec<(Token, Verdict)>,
    },
    /// The answer to a heartbeat.
    HeartbeatAck {
        /// To whom.
        session: SessionId,
        /// Of the attempts it holds, those that are not the session's.
        unknown: Vec<Token>,
    },
    /// A job has waited for a while for a place that is held by an attempt of this session, on whose behalf it was submitted,
    /// or by others like it alone. For people: if the attempt waits for it, both wait for ever.
    WaitsForItself {
        /// Whose.
        session: SessionId,
        /// The attempt.
        attempt: Token,
        /// The job.
        job: JobId,
    },
    /// The instance is to take no more jobs, and to leave.
    Drain {
        /// Whose.
        session: SessionId,
        /// How long it may take to finish what it runs.
        within: Duration,
    },
    /// The session is over; its stream is to be closed.
    SessionOver {
        /// Whose.
        session: SessionId,
    },
}

/// A job to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The attempt.
    pub token: Token,
    /// The job's priority.
    pub priority: i32,
    /// The flow.
    pub flow: FlowId,
    /// The elf.
    pub elf: Arc<str>,
    /// The task.
    pub task: Arc<str>,
    /// Whether the values of its arguments are known to fit what the instance declares. Else they are held against that when
    /// they are put together, and an attempt that does not fit is given back by
    /// [`Unfit`](crate::command::Command::Unfit).
    pub is_judged: bool,
    /// How long it may run, from its start, if there is a bound.
    pub run_timeout: Option<Duration>,
    /// How long it may run without a report of progress, if there is a bound.
    pub progress_timeout: Option<Duration>,
}

/// Something to compute before a job can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// The job.
    pub job: JobId,
    /// The flow it belongs to.
    pub flow: FlowId,
    /// Numbers the evaluation, for the answer.
    pub number: EvaluationNumber,
    /// What to compute.
    pub what: EvaluationWhat,
}

/// What to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationWhat {
    /// Whether the job is to run, and if it has a list: the jobs for its elements.
    Decide,
    /// The list of what the jobs for its elements returned. All have ended, done or skipped.
    Gather {
        /// How many there are.
        elements: u32,
    },
}

/// What was made of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Recorded,
    /// The attempt was settled before.
    Duplicate,
    /// The attempt is not this session's.
    Stale,
    /// Stored as a failure, because it did not fit the task's declaration.
    Refused,
}

/// A change of a job's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The job.
    pub job: JobId,
    /// Its flow.
    pub flow: FlowId,
    /// Its status now.
    pub status: Status,
    /// Its newest attempt.
    pub attempt: Attempt,
    /// If it is final: how it ended.
    pub end: Option<End>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `Submit`.
    Submitted {
        /// Jobs that were new.
        created: u32,
        /// Jobs that were there with the same content.
        existing: u32,
    },
    /// To `Cancel`.
    Cancelled {
        /// Jobs that it cancelled.
        cancelled: u64,
        /// Jobs that were final already.
        already_final: u64,
    },
    /// To `StartNow`.
    Started {
        /// How many jobs wait for their moment no more.
        started: u64,
    },
    /// To `Retry`.
    Retried {
        /// Of the jobs named, those that are back.
        retried: u64,
        /// Dependents that came back with them.
        revived: u64,
    },
    /// To `Delete`.
    Deleting {
        /// How many flows are being deleted now that were not before.
        begun: u64,
        /// Those that are not, and why.
        kept: Vec<(FlowId, KeptBecause)>,
    },
    /// To `Pin` and `Deletions`.
    Noted {
        /// How many flows it has changed.
        changed: u64,
    },
    /// To `Pause`.
    Paused {
        /// The pause, or the one that was there before.
        pause: PauseRecord,
        /// Whether it was not there before.
        is_new: bool,
    },
    /// To `Resume`.
    Resumed {
        /// The pause that is over; `None` if there was none.
        pause: Option<PauseRecord>,
    },
    /// To `Action`.
    Action {
        /// The action, as it is now.
        action: ActionRecord,
        /// Whether it has begun now.
        is_new: bool,
    },
    /// To `Drain`.
    Draining {
        /// How many attempts the instance holds.
        held: u64,
        /// Whether it knows what to do. Else it is only given no more.
        is_told: bool,
    },
    /// To `Hello`.
    Welcome {
        /// The session.
        session: SessionId,
        /// Whether it is the one that was asked for.
        resumed: bool,
        /// Of the attempts held, those to go on with.
        keep: Vec<Token>,
    },
}

/// Why a flow is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBecause {
    /// It has unfinished jobs, or a submission to it is not sealed.
    Unfinished,
    /// It is pinned.
    Pinned,
    /// There are as many deletions under way as there may be.
    TooMany,
}
