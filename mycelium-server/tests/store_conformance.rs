//! Every store keeps the promises of the trait.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

suite!(memory, crate::store_suite::Memory);
suite!(embedded, crate::store_suite::Embedded);
// As a store that is far away: each call is a request, and counted.
suite!(far_memory, crate::store_suite::Faulty<crate::store_suite::Memory>);
suite!(far_embedded, crate::store_suite::Faulty<crate::store_suite::Embedded>);
// The double of ArangoDB, or a server that `MYCELIUM_TEST_ARANGODB_URL` names.
suite!(arango, crate::store_suite::arango::Arango);
