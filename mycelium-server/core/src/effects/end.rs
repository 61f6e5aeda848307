//! How jobs end.

use std::time::Duration;

use super::{Attached, Contents};
use crate::ids::{Attachment, JobId};
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
}
