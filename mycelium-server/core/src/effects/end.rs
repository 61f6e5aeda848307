//! How jobs end.

use std::sync::Arc;
use std::time::Duration;

use super::{Attached, Contents};
use crate::ids::{Attachment, Attempt, FailureId, JobId, Timestamp};
use crate::image::Running;
use crate::status::{ExpiredWhy, FinalStatus};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<C: Contents = Attached> {
    /// With outputs.
    Done(C::Outputs),
    /// With a failure.
    Failed(C::Failure),
    /// Because this job, which it depends on directly or not, ended otherwise than done or skipped.
    UpstreamFailed(JobId),
    /// By request.
    Cancelled,
    /// Because this time of its was over.
    Expired(ExpiredWhy),
    /// Its condition was not met, or it needed a value of a job that was skipped.
    Skipped,
}

impl<C: Contents> End<C> {
    /// The failure, if it failed.
    pub fn failure(&self) -> Option<&C::Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Done(_) | Self::UpstreamFailed(_) | Self::Cancelled | Self::Expired(_) | Self::Skipped => {
                None
            }
        }
    }

    /// The job because of which it ended, if it ended because of another.
    pub fn cause(&self) -> Option<JobId> {
        match self {
            Self::UpstreamFailed(cause) => Some(*cause),
            Self::Done(_) | Self::Failed(_) | Self::Cancelled | Self::Expired(_) | Self::Skipped => None,
        }
    }

    /// Which of its times was over, if it has expired.
    pub fn expired(&self) -> Option<ExpiredWhy> {
        match self {
            Self::Expired(why) => Some(*why),
            Self::Done(_) | Self::Failed(_) | Self::UpstreamFailed(_) | Self::Cancelled | Self::Skipped => {
                None
            }
        }
    }

    /// The status that goes with it.
    pub fn status(&self) -> FinalStatus {
        match self {
            Self::Done(_) => FinalStatus::Done,
            Self::Failed(_) => FinalStatus::Failed,
            Self::UpstreamFailed(_) => FinalStatus::UpstreamFailed,
            Self::Cancelled => FinalStatus::Cancelled,
            Self::Expired(_) => FinalStatus::Expired,
            Self::Skipped => FinalStatus::Skipped,
        }
    }
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedBy {
    /// It was reported; held by the shell.
    Reported(Attachment),
    /// The job was lost with its elf while nothing else ran there, so often: as the limit allows.
    ElvesLost(u32),
    /// The attempt ran for longer than this, which is as long as it may, and its process did not end it.
    TimedOut(Duration),
    /// The attempt has reported nothing for longer than this, which is as long as it may, and its process did not end it.
    Silent(Duration),
}

/// An attempt that failed, and whose job goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The job.
    pub job: JobId,
    /// The elf.
    pub elf: Arc<str>,
    /// The task.
    pub task: Arc<str>,
    /// The attempt.
    pub attempt: Attempt,
    /// Who held it.
    pub held: Running,
    /// When it was over.
    pub ended_at: Timestamp,
    /// The failure that was reported; `None` if none was: the attempt has run for longer than it may.
    pub id: Option<FailureId>,
    /// Where the failure comes from.
    pub by: FailedBy,
}
