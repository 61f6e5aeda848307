//! What is done in bounded pieces, one after the other.

use std::collections::VecDeque;

use crate::command::ActionStep;
use crate::effects::{Refusal, Reply};
use crate::ids::{Commit, FlowId, JobNumber, RequestId, SessionId};
use crate::index::{FlowIdx, Slot, SubmissionIdx};
use crate::jobs::Edge;

/// Something that may take longer than one batch should.
#[derive(Debug)]
pub(crate) enum Work {
    /// A flow is cancelled.
    CancelFlow(CancelFlow),
    /// Jobs are cancelled that were expanded over a list, and before them the jobs of its elements.
    CancelExpanded(CancelExpanded),
    /// The jobs of a sealed submission are let into the queues.
    Seal(Seal),
    /// The jobs of a dropped submission are removed, the latest first.
    Drop(Drop),
    /// What is paused and assigned, and not started, is recalled, session by session.
    RecallPaused {
        /// The session that was seen to last.
        after: SessionId,
    },
    /// The jobs of a flow that was resumed go back into their queues.
    ResumeFlow(ResumeFlow),
    /// An answer that waits for the propagation of failures that was under way when it was given.
    Reply {
        /// Where it goes.
        request: RequestId,
        /// The answer.
        answer: Result<Reply, Refusal>,
    },
}

/// The cancellation of a flow, under way.
#[derive(Debug)]
pub(crate) struct CancelFlow {
    pub(crate) request: RequestId,
    pub(crate) flow: FlowIdx,
    /// Jobs up to this number; those added later are not touched.
    pub(crate) upto: JobNumber,
    pub(crate) cancelled: u64,
    pub(crate) already_final: u64,
}

/// The cancellation of jobs that were expanded over a list, under way. The jobs of the elements go first: should the
/// broker end in between, each of the others is expanded again, and ends because of one that was cancelled.
#[derive(Debug)]
pub(crate) struct CancelExpanded {
    pub(crate) request: RequestId,
    /// The jobs that have the lists, the next one last.
    pub(crate) jobs: Vec<Edge>,
    pub(crate) cancelled: u64,
    pub(crate) already_final: u64,
    /// The action that this is a step of.
    pub(crate) action: Option<ActionStep>,
}

/// The resumption of a flow, under way.
#[derive(Debug)]
pub(crate) struct ResumeFlow {
    pub(crate) flow: FlowId,
    /// The job that was looked at last.
    pub(crate) after: JobNumber,
}

/// The sealing of a submission, under way.
#[derive(Debug)]
pub(crate) struct Seal {
    pub(crate) submission: SubmissionIdx,
    pub(crate) jobs: Vec<Slot>,
    pub(crate) next: usize,
    /// The answer to who sealed it; `None` after a restart.
    pub(crate) answer: Option<(RequestId, Reply)>,
    pub(crate) commit: Commit,
}

/// The removal of a submission, under way.
#[derive(Debug)]
pub(crate) struct Drop {
    pub(crate) submission: SubmissionIdx,
    pub(crate) jobs: Vec<Slot>,
    /// The answer to who caused it; `None` if time did.
    pub(crate) answer: Option<(RequestId, Refusal)>,
}

/// The work that is under way, and what waits behind it.
#[derive(Debug, Default)]
pub(crate) struct Backlog(VecDeque<Work>);

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It waits until all before it is done.
    pub(crate) fn push(&mut self, work: Work) {
        self.0.push_back(work);
    }

    /// Takes out what is under way.
    pub(crate) fn pop(&mut self) -> Option<Work> {
        self.0.pop_front()
    }

    /// It is not done yet, and goes on next.
    pub(crate) fn put_back(&mut self, work: Work) {
        self.0.push_front(work);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Work> {
        self.0.iter()
    }
}
