//! A seeded simulation: the core, a fake store, fake elves, a client, a network and a clock, all driven by one seed.
//!
//! A run has two phases. In the first everything goes wrong that can: commits fail or are uncertain, the broker and
//! the elves are killed, streams are cut, messages are late, lost or doubled. In the second there are no faults and
//! no new jobs, and everything must end. Throughout, what [`oracle`] and [`store`] say must hold.

#[macro_use]
mod names;
#[macro_use]
mod invariants;

mod client;
mod clock;
mod deadlines;
mod elf;
mod evaluator;
mod length;
mod oracle;
mod recalls;
mod rng;
mod seen;
mod sessions;
mod store;
mod tries;
mod versions;
mod world;

pub(crate) use invariants::Invariant;
pub(crate) use length::Length;
pub(crate) use seen::{Counts, Seen};
pub(crate) use world::run;
