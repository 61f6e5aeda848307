//! Why requests are refused.

use crate::ids::{ActionId, FlowId, InstanceId, JobId, SubmissionId};

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The preconditions were read before a job finished that the core has forgotten since: read them again.
    #[error("what was read beforehand is older than what the scheduler has forgotten")]
    PreconditionsStale,
    /// No such job.
    #[error("job {0} is not known")]
    JobNotFound(JobId),
    /// No such flow.
    #[error("flow {0} is not known")]
    FlowNotFound(FlowId),
    /// The id is taken by a job with other content, or of another flow.
    #[error("job {0} exists with other content")]
    ContentDiffers(JobId),
    /// Jobs wait for each other in a circle, of which this is one.
    #[error("job {0} waits for itself through the jobs it depends on")]
    DependencyCycle(JobId),
    /// The part is not the next one of its submission.
    #[error("part {index} of submission {submission} is out of order")]
    SubmissionOutOfOrder {
        /// The submission.
        submission: SubmissionId,
        /// The part that came.
        index: u32,
        /// The part that was expected; `None` if the submission is not known (any more).
        expected: Option<u32>,
    },
    /// There would be more unfinished jobs than the limit allows.
    #[error("there are {unfinished} unfinished jobs, and the limit is {limit}")]
    BacklogFull {
        /// How many there are.
        unfinished: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The job is done or was skipped, so there is nothing to retry.
    #[error("job {0} cannot be retried: it is done or was skipped")]
    NotRetryable(JobId),
    /// The job is unfinished, so there is nothing to retry.
    #[error("job {0} cannot be retried: it has not ended")]
    NotEnded(JobId),
    /// The flow is being deleted. Once that is done, its id is free again.
    #[error("flow {0} is being deleted")]
    FlowDeleting(FlowId),
    /// The flow has been deleted, and what is left of it only shows where others came from.
    #[error("flow {0} has been deleted, and a stub of it is left, because others came from it")]
    FlowDeleted(FlowId),
    /// The values of the job have been deleted, or are about to be.
    #[error("the values of job {0} have been deleted with its flow")]
    OriginDeleted(JobId),
    /// There are as many pauses as there may be.
    #[error("there are {limit} pauses, and that is the limit")]
    TooManyPauses {
        /// How many there may be.
        limit: usize,
    },
    /// The id is taken by an action that does something else.
    #[error("action {0} exists, and is another")]
    ActionDiffers(ActionId),
    /// No such action.
    #[error("action {0} is not known")]
    ActionNotFound(ActionId),
    /// There are as many actions under way as there may be.
    #[error("there are {limit} actions under way, and that is the limit")]
    TooManyActions {
        /// How many there may be.
        limit: usize,
    },
    /// No such instance has a session.
    #[error("instance {0} is not known")]
    InstanceNotFound(InstanceId),
    /// The evaluation for which elements of this job were submitted is over, or was never handed out.
    #[error("the evaluation of job {0} is over")]
    EvaluationOver(JobId),
}
