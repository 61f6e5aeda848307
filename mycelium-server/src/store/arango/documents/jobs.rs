//! The document of a job: what never changes of it, written when it is submitted, and what it is now. One document, so
//! that people find all of a job in one place; an update rewrites only the attributes it names.

mod read;
mod write;

use mycelium_core::ids::{Attempt, FailureId, InstanceId, SessionId};
use mycelium_core::image::{AttemptEnd, PastAttempt, Running};
use mycelium_core::status::{ExpiredWhy, FinalStatus};
use serde::{Deserialize, Serialize};

use super::text::{BuildText, RevisionText, Text};
use super::time::Date;
use crate::store::record::Started;

pub(in super::super) use read::JobDocument;
pub(in super::super) use write::{BODY_HERE_BYTES_MAX, JobUpdate, StubUpdate, label_list};

/// What a job is, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in super::super) enum JobStatus {
    /// It waits for others, or for an elf: READY is not stored.
    Pending,
    /// An elf holds it: ASSIGNED is not stored, it follows from `held`.
    Running,
    Done,
    Failed,
    UpstreamFailed,
    Cancelled,
    Expired,
    Skipped,
}

impl From<FinalStatus> for JobStatus {
    fn from(status: FinalStatus) -> Self {
        match status {
            FinalStatus::Done => Self::Done,
            FinalStatus::Failed => Self::Failed,
            FinalStatus::UpstreamFailed => Self::UpstreamFailed,
            FinalStatus::Cancelled => Self::Cancelled,
            FinalStatus::Expired => Self::Expired,
            FinalStatus::Skipped => Self::Skipped,
        }
    }
}

/// Which time of a job that has expired was over, by name.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in super::super) enum ExpiredTime {
    Queue,
    Total,
}

impl From<ExpiredWhy> for ExpiredTime {
    fn from(why: ExpiredWhy) -> Self {
        match why {
            ExpiredWhy::Queue => Self::Queue,
            ExpiredWhy::Total => Self::Total,
        }
    }
}

impl From<ExpiredTime> for ExpiredWhy {
    fn from(time: ExpiredTime) -> Self {
        match time {
            ExpiredTime::Queue => Self::Queue,
            ExpiredTime::Total => Self::Total,
        }
    }
}

/// Who holds a job, or held it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in super::super) struct Held {
    session: u64,
    instance: Text<InstanceId>,
    revision: RevisionText,
    #[serde(default, skip_serializing_if = "BuildText::is_unknown")]
    build: BuildText,
    since_date: Date,
    since_ms: u64,
    /// Not there: at `since_date`, unless it is `unstarted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_date: Option<Date>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unstarted: bool,
}

impl From<Running> for Held {
    fn from(running: Running) -> Self {
        let since = Date(running.since);
        let Started { at, unstarted } = Started::of(&running);
        Self {
            session: running.session.0,
            instance: Text(running.instance),
            revision: RevisionText(running.revision),
            build: BuildText(running.build),
            since_date: since,
            since_ms: since.ms(),
            started_date: at.map(Date),
            unstarted,
        }
    }
}

impl From<Held> for Running {
    fn from(held: Held) -> Self {
        let (at, since) = (held.started_date.map(|Date(at)| at), held.since_date.0);
        Self {
            session: SessionId(held.session),
            instance: held.instance.0,
            revision: held.revision.0,
            build: held.build.0,
            since,
            started: Started { at, unstarted: held.unstarted }.read(since),
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(remote = "AttemptEnd", rename_all = "SCREAMING_SNAKE_CASE")]
enum How {
    Returned,
    Failed,
    Cancelled,
    HandedBack,
    NotHeld,
    ElfLost,
    ElfLostBefore,
    TimedOut,
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in super::super) struct AttemptDocument {
    number: u32,
    #[serde(with = "How")]
    how: AttemptEnd,
    ended_date: Date,
    ended_ms: u64,
    held: Held,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Text<FailureId>>,
}

impl From<&PastAttempt> for AttemptDocument {
    fn from(attempt: &PastAttempt) -> Self {
        let ended = Date(attempt.ended_at);
        Self {
            number: attempt.number.0,
            how: attempt.how,
            ended_date: ended,
            ended_ms: ended.ms(),
            held: attempt.held.into(),
            failure: attempt.failure.map(Text),
        }
    }
}

impl From<AttemptDocument> for PastAttempt {
    fn from(attempt: AttemptDocument) -> Self {
        Self {
            number: Attempt(attempt.number),
            held: attempt.held.into(),
            ended_at: attempt.ended_date.0,
            how: attempt.how,
            failure: attempt.failure.map(|Text(failure)| failure),
        }
    }
}

#[cfg(test)]
mod tests;
