//! Those who write at the same time.

use std::time::{Duration, Instant};

use arangodb_double::Double;
use serde_json::{Value, json};

use crate::client::{Client, collections, server};

/// Waits until a statement has been asked for. It runs then, and holds its keys, as it commits slowly.
async fn until_asked(double: &Double, query: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !double.counters().statements.contains_key(query) {
        assert!(Instant::now() < deadline, "nobody asked");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn of_two_statements_on_one_key_one_is_refused_and_stores_nothing() {
    let (double, client) = server().await;
    collections(&client, &["a", "b"]).await;
    client.rows("INSERT { _key: 'k', n: 0 } INTO a", json!({})).await;
    double.faults().slow_commit = Duration::from_millis(1_500);
    let update = "LET w = (FOR i IN [1] UPDATE 'k' WITH { n: 1 } IN a RETURN 1) INSERT { _key: @key } INTO b";
    let slow = client.query(update, json!({ "key": "slow" }));
    let other = async {
        until_asked(&double, update).await;
        let start = Instant::now();
        let answer = client.query(update, json!({ "key": "other" })).await;
        assert_eq!((answer.status, answer.number()), (409, 1200), "{}", answer.text);
        assert!(start.elapsed() < Duration::from_millis(1_000), "it waited for the key");
        // Readers are not held up, and see nothing before the commit.
        client.rows("RETURN LENGTH(b)", json!({})).await
    };
    let (slow, seen) = tokio::join!(slow, other);
    assert_eq!(slow.status, 201, "{}", slow.text);
    let keys: Vec<Value> =
        double.documents("tests", "b").unwrap().iter().map(|d| d["_key"].clone()).collect();
    assert_eq!(keys, [json!("slow")]);
    assert_eq!(seen, json!([0]));
    double.assert_known();
}

#[tokio::test]
async fn an_insert_that_is_ignored_still_wants_its_key() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    client.rows("INSERT { _key: 'k' } INTO a", json!({})).await;
    double.faults().slow_commit = Duration::from_millis(1_000);
    let ignored = "INSERT { _key: 'k' } INTO a OPTIONS { overwriteMode: 'ignore' }";
    let (one, other) = tokio::join!(client.query(ignored, json!({})), client.query(ignored, json!({})));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    double.assert_known();
}

#[tokio::test]
async fn an_exclusive_statement_waits_for_the_others() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    client.rows("INSERT { _key: 'k', n: 0 } INTO a", json!({})).await;
    double.faults().slow_commit = Duration::from_millis(100);
    let update = "FOR x IN a UPDATE x WITH { n: x.n + 1 } IN a OPTIONS { exclusive: true }";
    let answers = tokio::join!(
        client.query(update, json!({})),
        client.query(update, json!({})),
        client.query(update, json!({})),
    );
    assert_eq!([answers.0.status, answers.1.status, answers.2.status], [201; 3]);
    assert_eq!(double.documents("tests", "a").unwrap()[0]["n"], 3);
    double.assert_known();
}

#[tokio::test]
async fn a_transaction_has_a_snapshot_and_sees_its_own_writes() {
    let (double, client) = server().await;
    collections(&client, &["a", "b"]).await;
    client.rows("INSERT { _key: 'k', n: 0 } INTO a", json!({})).await;
    let begin = json!({ "collections": { "write": ["a"] }, "allowImplicit": false });
    let begun = client.ask("POST", "/_api/transaction/begin", begin).await;
    assert_eq!((begun.status, begun.json()["result"]["status"].as_str()), (201, Some("running")));
    let id = begun.json()["result"]["id"].as_str().unwrap().to_owned();
    let inside = Client { transaction: Some(id.clone()), ..client.clone() };
    inside.rows("UPDATE 'k' WITH { n: 1 } IN a", json!({})).await;
    let read = "FOR x IN a FILTER x._key == 'k' RETURN x.n";
    assert_eq!(inside.rows(read, json!({})).await, json!([1]));
    assert_eq!(client.rows(read, json!({})).await, json!([0]), "seen before the commit");
    assert_eq!(client.refusal("UPDATE 'k' WITH { n: 2 } IN a", json!({})).await, 1200);
    assert_eq!(inside.refusal("INSERT {} INTO b", json!({})).await, 1652);
    // What others write after the snapshot is not seen, and cannot be written.
    client.rows("INSERT { _key: 'later' } INTO a", json!({})).await;
    assert_eq!(inside.rows("RETURN LENGTH(a)", json!({})).await, json!([1]));
    assert_eq!(
        inside.refusal("UPSERT { _key: 'later' } INSERT { _key: 'later' } UPDATE {} IN a", json!({})).await,
        1200
    );
    let path = format!("/_api/transaction/{id}");
    for _ in 0..2 {
        assert_eq!(client.ask("PUT", &path, Value::Null).await.json()["result"]["status"], "committed");
    }
    assert_eq!(client.rows(read, json!({})).await, json!([1]));
    assert_eq!(inside.refusal(read, json!({})).await, 1654);
    double.assert_known();
}

#[tokio::test]
async fn an_aborted_transaction_leaves_nothing() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let begun =
        client.ask("POST", "/_api/transaction/begin", json!({ "collections": { "write": "a" } })).await;
    let id = begun.json()["result"]["id"].as_str().unwrap().to_owned();
    let inside = Client { transaction: Some(id.clone()), ..client.clone() };
    inside.rows("INSERT { _key: 'k' } INTO a", json!({})).await;
    let path = format!("/_api/transaction/{id}");
    assert_eq!(client.ask("DELETE", &path, Value::Null).await.json()["result"]["status"], "aborted");
    assert_eq!(client.ask("PUT", &path, Value::Null).await.number(), 1653);
    assert_eq!(client.ask("GET", "/_api/transaction/1", Value::Null).await.number(), 1655);
    client.rows("INSERT { _key: 'k' } INTO a", json!({})).await;
    double.assert_known();
}
