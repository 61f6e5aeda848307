//! What the wall clock shows.

use mycelium_core::ids::Timestamp;

/// When a run begins: late enough that the clock can be set back.
pub(crate) const BEGAN_AT: Timestamp = Timestamp(7_200_000_000);
