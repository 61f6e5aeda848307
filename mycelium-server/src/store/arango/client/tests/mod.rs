//! Requests to the double of ArangoDB, and to servers that are none.

mod driver;
mod login;
mod outcomes;
mod scripted;
mod statements;
mod tls;

use std::time::Duration;

use arangodb_double::{Double, ROOT};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use self::scripted::Scripted;
use super::super::address::Address;
use super::super::statements::Statement;
use super::*;

const PASSWORD: &str = "secret";
/// How long something may take that is waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// A statement of a test.
fn statement(text: &'static str, writes: bool) -> Statement {
    Statement { name: "of a test", text, writes, example: || json!({}) }
}

fn address(double: &Double) -> Address {
    Address::parse(&double.url()).unwrap().with_credentials(ROOT, PASSWORD)
}

/// A server with a database of one collection, `a`.
async fn double() -> (Double, Database) {
    let double = Double::start(PASSWORD).await.unwrap();
    let server = Server::new(&address(&double)).unwrap();
    server.create_database("tests", None).await.unwrap();
    let database = server.database("tests");
    database.create_collection("a", false).await.unwrap();
    double.reset_counters();
    (double, database)
}

fn requests(double: &Double, endpoint: &str) -> u64 {
    double.counters().requests.get(endpoint).copied().unwrap_or_default()
}

async fn version(database: &Database) -> Result<Value, Failure> {
    database.call(Call::get("_api/version")).await
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
