//! The store in ArangoDB: one database for a mycelium, in which people can look at its graph and ask about it.
//!
//! A commit is one statement, whose first part takes the fence: the number of the newest commit, under the epoch of the
//! broker that owns the mycelium. Whoever has been deposed, or repeats what was written already, takes it in vain and
//! writes nothing.

pub(crate) mod address;
mod check;
pub(crate) mod client;
mod documents;
mod schema;
mod statements;

pub use address::{Address, BadAddress, database_of, mycelium_of};
pub use check::{Extent, Finding, FindingKind, Lease, Report, Usage, check};
pub use schema::init;
