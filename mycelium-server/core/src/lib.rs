//! The scheduler of Mycelium: which job is where, what may run, and who runs it.
//!
//! [`Core`] is a plain state machine. [`Command`](command::Command)s go in, [`Effects`](effects::Effects) come out:
//! records to store, messages to elves, replies to requests and changes to tell. It does no I/O, reads no clock,
//! starts no thread and does not log; equal inputs give equal outputs, so every run can be replayed.
//!
//! The shell around it works in batches:
//!
//! 1. [`Core::apply`] for each command, then [`Core::finish_batch`] once;
//! 2. everything in the effects that is to be stored goes into **one** durable commit;
//! 3. only then are replies, messages and changes let out, replies first.
//!
//! If a commit fails, or its outcome is not known, memory is ahead of the store: the shell drops the core and
//! rebuilds it with [`Core::restore`]. A new batch is due when commands have come, when [`Core::next_deadline`] has
//! passed, and at once while [`Core::has_work`]: whatever could take long is done in bounded pieces.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod command;
pub mod effects;
pub mod ids;
pub mod image;
pub mod labels;
pub mod policy;
pub mod signature;
pub mod status;

mod actions;
mod backoff;
mod cancel;
mod config;
mod core;
mod deletions;
mod emit;
mod evaluations;
mod graph;
mod index;
mod invariants;
mod jobs;
mod outbox;
mod pauses;
mod preconditions;
mod propagation;
mod serve;
mod sessions;
mod submissions;
mod submit;
mod suspicion;
mod timers;
mod views;
mod waits;
mod work;

#[cfg(test)]
mod testing;

pub use config::Config;
#[cfg(feature = "planted-bugs")]
pub use config::PlantedBug;
pub use core::{Core, Restore, RestoreError};
pub use invariants::InvariantViolation;
pub use views::{
    Counts, ElfCounts, ElfView, Explanation, FlowView, InstanceView, JobView, ListCursor, ListFilter,
    ListPage, TriedCursor,
};
