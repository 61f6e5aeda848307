//! A double of ArangoDB for tests: a server in the process of the test that speaks the endpoints of its HTTP interface
//! and runs statements of its query language over memory, with the rules for those who write at the same time.
//!
//! It is written from ArangoDB's documentation and knows no client. What it does not know — an endpoint, a header, a
//! parameter, an option, a clause, a function — it refuses and remembers: see [`Double::assert_known`].
//!
//! What it leaves out of the language: searches for paths, views and analyzers, geography, time zones, user functions,
//! windows, and whatever it refuses by name. Strings sort by code point. Memory and costs are rough.

mod aql;
mod counters;
mod double;
mod error;
mod faults;
mod http;
mod state;
mod store;
mod value;

pub use counters::Counters;
pub use double::{Double, ROOT};
pub use faults::{Fault, Faults, License, Rates, Refusal, Refused};
pub use http::auth::Access;
