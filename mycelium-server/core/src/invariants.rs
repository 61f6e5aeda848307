//! How a contradiction in the state of the core is reported.

/// Two parts of the state of the core contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant `{name}` does not hold: {detail}")]
pub struct InvariantViolation {
    /// Which invariant.
    pub name: &'static str,
    /// What contradicts it.
    pub detail: String,
}

pub(crate) fn check(
    holds: bool,
    name: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), InvariantViolation> {
    if holds { Ok(()) } else { Err(InvariantViolation { name, detail: detail() }) }
}
