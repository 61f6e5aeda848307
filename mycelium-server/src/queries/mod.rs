//! What readers ask of a mycelium: jobs, flows, failures and elves, in lists and one by one, and how they hang together.
//!
//! A query is answered from memory at one moment and reads the store after that, so that a job that finishes meanwhile may
//! be listed twice and is never left out.

pub(crate) mod blame;
pub(crate) mod elves;
pub(crate) mod graph;
pub(crate) mod jobs;
pub(crate) mod lineage;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod values;
