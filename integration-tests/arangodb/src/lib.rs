//! A double of ArangoDB for tests: a server in the process of the test that speaks the endpoints of its HTTP interface
//! and runs statements of its query language over memory.

mod aql;
mod error;
mod store;
mod value;
