//! By which rules a job is tried again.

use std::time::Duration;

use mycelium_proto::v1;

/// By which rules a job is tried again when an attempt of it fails; what it leaves open comes from what its task declares.
///
/// Attempts that were lost with their elf, or handed back, do not count. An error of the task may itself say that it would
/// come again ([`TaskError::permanent`](crate::TaskError::permanent)) or when to try again
/// ([`TaskError::retry_after`](crate::TaskError::retry_after)).
///
/// ```
/// use std::time::Duration;
/// use elf_runtime::RetryPolicy;
///
/// let policy = RetryPolicy::new()
///     .attempts(5)
///     .first(Duration::from_secs(1))
///     .cap(Duration::from_secs(60))
///     .never(["NotFound"]);
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetryPolicy(v1::RetryPolicy);

impl RetryPolicy {
    /// One that leaves everything open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many attempts that fail there may be in all, 1 to 1,000,000. Unset everywhere: 1, so that nothing is tried again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = Some(attempts);
        self
    }

    /// The least time from the first failure to the next attempt, 1 ms to 366 days. Unset everywhere: 1 s.
    #[must_use]
    pub fn first(mut self, first: Duration) -> Self {
        self.0.first = Some(to_wire(first));
        self
    }

    /// By how much that grows with each further failure, 1 to 1,000. Unset everywhere: 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.0.factor = Some(factor);
        self
    }

    /// What it grows to at most, 1 ms to 366 days. Unset everywhere: 1 minute, or `first` if that is longer.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.0.cap = Some(to_wire(cap));
        self
    }

    /// By up to which part of itself each of these times is lengthened, 0 to 1, so that jobs which failed together do not come
    /// back together. Unset everywhere: 0.2.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.0.jitter = Some(jitter);
        self
    }

    /// The types of failures after which it is not tried again, at most 64. Each stands for all whose path has it as
    /// consecutive segments: `NotFound` and `ReadError` both stand for `ReadError::NotFound`. Unset everywhere: none.
    #[must_use]
    pub fn never(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let types = types.into_iter().map(Into::into).collect();
        self.0.never = Some(v1::FailureTypes { types });
        self
    }

    /// Whether it is tried again after a panic. Unset everywhere: it is not.
    #[must_use]
    pub fn panics(mut self, panics: bool) -> Self {
        self.0.panics = Some(panics);
        self
    }

    /// Whether it is tried again after the task could not read its arguments. Unset everywhere: it is not.
    #[must_use]
    pub fn argument_errors(mut self, argument_errors: bool) -> Self {
        self.0.argument_errors = Some(argument_errors);
        self
    }
}

impl From<RetryPolicy> for v1::RetryPolicy {
    fn from(policy: RetryPolicy) -> Self {
        policy.0
    }
}

/// What is longer than the contract can say is refused by the broker as the longest that it can say.
pub(crate) fn to_wire(time: Duration) -> prost_types::Duration {
    time.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}
