//! What is said of flows that are deleted, or kept from it.

use crate::ids::{Commit, RequestId, SubmissionId};
use crate::image::{DeletionStage, FlowRecord};

/// Flows to delete.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Where the reply goes.
    pub request: RequestId,
    /// The flows, as the store has them, each once.
    pub flows: Vec<FlowRecord>,
    /// The newest commit that the store had completed when it was asked.
    pub as_of: Commit,
}

/// What has become of deletions.
#[derive(Debug, Clone)]
pub struct Deletions {
    /// Where the reply goes.
    pub request: RequestId,
    /// The flows, as the store has them, each once. One that is not being deleted is left alone.
    pub flows: Vec<(FlowRecord, DeletionTo)>,
    /// Submissions to flows that are being deleted, which go.
    pub submissions: Vec<SubmissionId>,
}

/// What becomes of the deletion of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionTo {
    /// It is given up before anything was deleted: the flow is used.
    GivenUp,
    /// It goes on.
    Stage(DeletionStage),
    /// Nothing is left of the flow but its record, which goes.
    Gone,
    /// A stub is left.
    Stub,
}

/// Flows to keep from being deleted, or no longer.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Where the reply goes.
    pub request: RequestId,
    /// The flows, as the store has them, each once.
    pub flows: Vec<FlowRecord>,
    /// Whether they are to be kept.
    pub pinned: bool,
    /// The newest commit that the store had completed when it was asked.
    pub as_of: Commit,
}
