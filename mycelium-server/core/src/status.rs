//! Where a job can stand.

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waits for other jobs, or for its submission to be sealed.
    Pending,
    /// Stands in its elf's queue.
    Ready,
    /// An instance holds an attempt of it.
    Running,
    /// Has ended.
    Final(FinalStatus),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FinalStatus {
    /// Its outputs are stored.
    Done,
    /// It ended with a failure.
    Failed,
    /// A job that it depends on did not end done.
    UpstreamFailed,
    /// It was cancelled.
    Cancelled,
}

impl FinalStatus {
    /// Every final status, in a fixed order.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::UpstreamFailed, Self::Cancelled];
}

/// How many jobs stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FinalCounts {
    /// Done.
    pub done: u64,
    /// Failed.
    pub failed: u64,
    /// Upstream failed.
    pub upstream_failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

impl FinalCounts {
    /// The count for `status`.
    pub fn get_mut(&mut self, status: FinalStatus) -> &mut u64 {
        match status {
            FinalStatus::Done => &mut self.done,
            FinalStatus::Failed => &mut self.failed,
            FinalStatus::UpstreamFailed => &mut self.upstream_failed,
            FinalStatus::Cancelled => &mut self.cancelled,
        }
    }
}
