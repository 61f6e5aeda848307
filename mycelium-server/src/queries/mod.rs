//! What readers ask of a mycelium: jobs, flows, failures and elves, in lists and one by one, and how they hang together.
//!
//! A query is answered from memory at one moment and reads the store after that, so that a job that finishes meanwhile may
//! be listed twice and is never left out.
//!
//! Nothing here knows by which protocol it is asked, nor its messages. Answers are types of this module, of the core and
//! of the store, and [`documents`](crate::documents) as clients and elves have sent them.

pub(crate) mod attempts;
pub(crate) mod blame;
mod elements;
pub(crate) mod elves;
pub(crate) mod explain;
pub(crate) mod failures;
pub(crate) mod filter;
pub(crate) mod flows;
pub(crate) mod graph;
pub(crate) mod jobs;
pub(crate) mod lineage;
pub(crate) mod list;
pub(crate) mod page;
mod specs;
pub(crate) mod values;

pub(crate) use jobs::Job;
pub(crate) use page::PageOf;

#[cfg(test)]
mod tests;
