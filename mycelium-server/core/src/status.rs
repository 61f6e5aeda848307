//! Where a job can stand.

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waits for other jobs, or for its submission to be sealed.
    Pending,
    /// Stands in its elf's queue.
    Ready,
    /// An instance holds an attempt of it, and is not known to have started it.
    Assigned,
    /// An instance has started an attempt of it.
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
    /// A job that it depends on ended otherwise than done or skipped.
    UpstreamFailed,
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    Expired,
    /// Its condition was not met, or a value it needs comes from a job that was skipped.
    Skipped,
}

impl FinalStatus {
    /// Every final status, in a fixed order.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Failed, Self::UpstreamFailed, Self::Cancelled, Self::Skipped, Self::Expired];

    /// Whether the jobs that depend on one that ended so go on; else they end UPSTREAM_FAILED.
    pub fn lets_dependents_go_on(self) -> bool {
        match self {
            Self::Done | Self::Skipped => true,
            Self::Failed | Self::UpstreamFailed | Self::Cancelled | Self::Expired => false,
        }
    }
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
    /// Skipped.
    pub skipped: u64,
    /// Expired.
    pub expired: u64,
}

impl FinalCounts {
    /// All of them together.
    pub fn total(&self) -> u64 {
        let Self { done, failed, upstream_failed, cancelled, skipped, expired } = self;
        done + failed + upstream_failed + cancelled + skipped + expired
    }

    /// The count for `status`.
    pub fn get_mut(&mut self, status: FinalStatus) -> &mut u64 {
        match status {
            FinalStatus::Done => &mut self.done,
            FinalStatus::Failed => &mut self.failed,
            FinalStatus::UpstreamFailed => &mut self.upstream_failed,
            FinalStatus::Cancelled => &mut self.cancelled,
            FinalStatus::Skipped => &mut self.skipped,
            FinalStatus::Expired => &mut self.expired,
        }
    }
}

/// Which of a job's times was over when it ended EXPIRED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredWhy {
    /// The one in which it is to be started once it is READY.
    Queue,
    /// The one in which it is to end once it is submitted, or brought back by hand.
    Total,
}
