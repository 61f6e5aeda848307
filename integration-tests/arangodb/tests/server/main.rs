//! What the double promises, asked for over its HTTP interface.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod client;
mod cursors;
mod documents;
mod faults;
mod language;
mod lease;
mod model;
mod statements;
mod strict;
mod transactions;
mod unknown;
mod users;
