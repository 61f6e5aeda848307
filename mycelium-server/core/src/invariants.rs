//! How a contradiction in what the core keeps is told.

/// Two things that the core keeps contradict each other.
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
