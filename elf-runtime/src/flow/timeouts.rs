//! How long a job may take.

use std::time::Duration;

use mycelium_proto::v1;

use super::Job;
use crate::output::Output;
use crate::retry_policy::to_wire;

impl<T: Output> Job<T> {
    /// How long it may wait to be begun once it is ready. If no elf has begun it by then it ends EXPIRED; one that an elf
    /// holds and has not begun is taken back first. Unset: what its task declares, or else for ever.
    ///
    /// From 1 ms to 366 days; the submission is refused if it is not. To be called before the flow is submitted: later, the
    /// next submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn queue_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.queue = Some(to_wire(timeout)))
    }

    /// How long one attempt of it may run, from when its task begins. One that takes longer is told to stop
    /// ([`TaskContext::cancelled`](crate::TaskContext::cancelled)), dropped when its grace is over
    /// ([`Worker::cancel_grace`](crate::Worker::cancel_grace)), and fails with the type `Timeout`, also if the task returns
    /// within its grace. Unset: what the process declares that runs it, or else for ever.
    ///
    /// From 1 ms to 366 days; the submission is refused if it is not. To be called before the flow is submitted: later, the
    /// next submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn run_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.run = Some(to_wire(timeout)))
    }

    /// How long it may take from its submission to its end, with all attempts. If it has not ended by then it ends EXPIRED,
    /// wherever it stands; an elf that runs it is told to stop. Unset: what its task declares, or else for ever.
    ///
    /// From 1 ms to 366 days; the submission is refused if it is not. To be called before the flow is submitted: later, the
    /// next submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn total_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.total = Some(to_wire(timeout)))
    }

    /// How long one attempt of it may go on without saying how far it is ([`TaskContext::progress`](crate::TaskContext::progress);
    /// a checkpoint counts as well), from when its task begins. One that is silent for longer ends as one whose
    /// [`run_timeout`](Self::run_timeout) is over. Unset: what the process declares that runs it, or else for ever.
    ///
    /// From 1 ms to 366 days; the submission is refused if it is not. To be called before the flow is submitted: later, the
    /// next submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn progress_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.progress = Some(to_wire(timeout)))
    }

    fn change_timeouts(self, change: impl FnOnce(&mut v1::Timeouts)) -> Self {
        self.change_spec(|spec| change(spec.timeouts.get_or_insert_default()));
        self
    }
}
