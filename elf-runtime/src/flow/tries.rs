//! When a job begins, and how it is tried again.

use std::time::{Duration, SystemTime};

use super::Job;
use crate::output::Output;
use crate::retry_policy::{RetryPolicy, to_wire};

impl<T: Output> Job<T> {
    /// By which rules it is tried again when an attempt of it fails; what that leaves open is as its task declares.
    ///
    /// The submission is refused if a rule is out of its range. To be called before the flow is submitted: later, the next
    /// submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.change_spec(|spec| spec.retry = Some(policy.into()));
        self
    }

    /// Does not let it begin before this moment, by the broker's clock; what it waits for, and its condition, are not held up.
    /// Of a job of a [`for_each`](super::Flow::for_each) this holds for each element.
    ///
    /// The submission is refused if it is before 1970 or after 9999. To be called before the flow is submitted: later, the next
    /// submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn not_before(self, moment: SystemTime) -> Self {
        self.change_spec(|spec| spec.not_before = Some(moment.into()));
        self
    }

    /// Does not let it begin before it has been submitted for so long: the job of an element of a
    /// [`for_each`](super::Flow::for_each), before its list has been there for so long. Of this and
    /// [`not_before`](Self::not_before) the later counts.
    ///
    /// At most 366 days; the submission is refused if it is longer. To be called before the flow is submitted: later, the next
    /// submission fails with [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn delay(self, delay: Duration) -> Self {
        self.change_spec(|spec| spec.delay = Some(to_wire(delay)));
        self
    }
}
