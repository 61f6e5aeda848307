//! What a batch leaves to be stored beside jobs.

use crate::ids::{ActionId, FlowId, PolicyId, SessionId, SubmissionId};
use crate::image::{
    ActionRecord, DeletionRecord, FlowRecord, PauseRecord, PauseTarget, PropagationRecord, SessionRecord,
    SubmissionRecord,
};
use crate::policy::PolicyRecord;

/// Records beside those of jobs, as a batch leaves them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Flows whose record changed, each once.
    pub flows: Vec<FlowRecord>,
    /// Sessions opened.
    pub sessions_opened: Vec<SessionRecord>,
    /// Sessions that are over.
    pub sessions_ended: Vec<SessionId>,
    /// Submissions in several parts whose record changed, each once.
    pub submissions: Vec<SubmissionRecord>,
    /// Submissions in several parts that were dropped unsealed.
    pub submissions_dropped: Vec<SubmissionId>,
    /// Propagations of failures that did not end within the batch they began in.
    pub propagations_begun: Vec<PropagationRecord>,
    /// Propagations that ended, and that an earlier batch had begun.
    pub propagations_ended: Vec<PropagationRecord>,
    /// Policies that jobs name from now on.
    pub policies: Vec<PolicyRecord>,
    /// Policies that no unfinished job names any more. One that was made in the same batch goes too.
    pub policies_dropped: Vec<PolicyId>,
    /// Deletions of flows that began, or have come further: each once, and replaces what is stored of it.
    pub deletions: Vec<DeletionRecord>,
    /// Flows whose deletion is over.
    pub deletions_ended: Vec<FlowId>,
    /// Flows of which nothing is left, as they were last stored: their records go.
    pub flows_removed: Vec<FlowRecord>,
    /// Pauses that began.
    pub pauses: Vec<PauseRecord>,
    /// What was resumed. Some of it may have been paused in the same batch.
    pub pauses_ended: Vec<PauseTarget>,
    /// Actions that began, came further or ended: each once, and replaces what is stored of it.
    pub actions: Vec<ActionRecord>,
    /// Actions that were over and are remembered no longer.
    pub actions_forgotten: Vec<ActionId>,
}

impl Records {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let Self {
            flows,
            sessions_opened,
            sessions_ended,
            submissions,
            submissions_dropped,
            propagations_begun,
            propagations_ended,
            policies,
            policies_dropped,
            deletions,
            deletions_ended,
            flows_removed,
            pauses,
            pauses_ended,
            actions,
            actions_forgotten,
        } = self;
        flows.is_empty()
            && sessions_opened.is_empty()
            && sessions_ended.is_empty()
            && submissions.is_empty()
            && submissions_dropped.is_empty()
            && propagations_begun.is_empty()
            && propagations_ended.is_empty()
            && policies.is_empty()
            && policies_dropped.is_empty()
            && deletions.is_empty()
            && deletions_ended.is_empty()
            && flows_removed.is_empty()
            && pauses.is_empty()
            && pauses_ended.is_empty()
            && actions.is_empty()
            && actions_forgotten.is_empty()
    }
}
