//! What values know of the job that they come from and of its flow: its id, and whether it was submitted. So a value keeps
//! neither specifications nor literals of a flow in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{FlowId, JobId};

/// A flow, as the jobs recorded in it know it.
pub(crate) struct FlowMark {
    id: FlowId,
    /// How many of its jobs the broker has acknowledged: those with lower numbers.
    submitted: AtomicU64,
}

impl FlowMark {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { id: FlowId::generate(), submitted: AtomicU64::new(0) })
    }

    pub(crate) fn id(&self) -> FlowId {
        self.id
    }

    /// How many jobs the broker has acknowledged.
    pub(crate) fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Acquire)
    }

    /// The broker has acknowledged so many more. One submission of a flow is under way at a time.
    pub(crate) fn add_submitted(&self, jobs: u64) {
        self.submitted.fetch_add(jobs, Ordering::AcqRel);
    }
}

/// What clones of a job, and the values that come from it, share.
pub(crate) struct RecordedJob {
    id: JobId,
    /// Its place in its flow, from 0.
    number: u64,
    flow: Arc<FlowMark>,
    /// Whether it stands for one of the jobs that a `for_each` becomes, of which no value is to be had.
    is_template: bool,
}

impl RecordedJob {
    pub(crate) fn new(id: JobId, number: u64, flow: Arc<FlowMark>, is_template: bool) -> Self {
        Self { id, number, flow, is_template }
    }

    /// The same job, seen from outside of the closure that recorded it: what it returns is the list of what all
    /// returned.
    pub(crate) fn gathered(&self) -> Self {
        Self::new(self.id, self.number, Arc::clone(&self.flow), false)
    }

    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_template(&self) -> bool {
        self.is_template
    }

    pub(crate) fn is_of(&self, flow: &Arc<FlowMark>) -> bool {
        Arc::ptr_eq(&self.flow, flow)
    }

    /// The flow that it was recorded in.
    pub(crate) fn flow_id(&self) -> FlowId {
        self.flow.id
    }

    /// Whether the broker has acknowledged it.
    pub(crate) fn is_submitted(&self) -> bool {
        self.number < self.flow.submitted()
    }
}
