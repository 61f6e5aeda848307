//! Results in parts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{collections, server};

#[tokio::test]
async fn a_result_comes_in_batches_until_there_is_no_more() {
    let (double, client) = server().await;
    let body = json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2, "count": true });
    let first = client.ask("POST", "/_api/cursor", body).await;
    assert_eq!(
        (first.status, first.json()["hasMore"].as_bool(), first.json()["count"].as_u64()),
        (201, Some(true), Some(5))
    );
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let mut rows = first.json()["result"].as_array().unwrap().clone();
    let next = format!("/_api/cursor/{id}");
    for more in [true, false] {
        let answer = client.ask("POST", &next, Value::Null).await;
        assert_eq!((answer.status, answer.json()["hasMore"].as_bool()), (200, Some(more)));
        rows.extend(answer.json()["result"].as_array().unwrap().clone());
    }
    assert_eq!(json!(rows), json!([1, 2, 3, 4, 5]));
    let after = client.ask("POST", &next, Value::Null).await;
    assert_eq!((after.status, after.number()), (404, 1600));
    assert_eq!(
        client.ask("DELETE", &next, Value::Null).await.number(),
        1600,
        "there is nothing left to drop"
    );
    double.assert_known();
}

#[tokio::test]
async fn a_cursor_can_be_dropped_and_is_dropped_with_time() {
    let (double, client) = server().await;
    let open = |ttl: f64| json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2, "ttl": ttl });
    let id = client.ask("POST", "/_api/cursor", open(30.0)).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/_api/cursor/{id}");
    assert_eq!(client.ask("DELETE", &path, Value::Null).await.status, 202);
    assert_eq!(client.ask("DELETE", &path, Value::Null).await.number(), 1600);
    let id = client.ask("POST", "/_api/cursor", open(0.01)).await.json()["id"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Asking would renew it; that of another is enough to see that the first is gone.
    tokio::time::sleep(Duration::from_millis(20)).await;
    while client.ask("POST", &format!("/_api/cursor/{id}"), Value::Null).await.status != 404 {
        assert!(Instant::now() < deadline, "the cursor lives on");
    }
    double.assert_known();
}

#[tokio::test]
async fn the_last_batch_can_be_had_again_where_that_was_asked_for() {
    let (double, client) = server().await;
    let body =
        json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2, "options": { "allowRetry": true } });
    let first = client.ask("POST", "/_api/cursor", body).await.json();
    let id = first["id"].as_str().unwrap();
    assert_eq!(first["nextBatchId"], "2");
    for _ in 0..2 {
        let answer = client.ask("POST", &format!("/_api/cursor/{id}/2"), Value::Null).await.json();
        assert_eq!((&answer["result"], &answer["nextBatchId"]), (&json!([3, 4]), &json!("3")));
    }
    let last = format!("/_api/cursor/{id}/3");
    for _ in 0..2 {
        assert_eq!(client.ask("POST", &last, Value::Null).await.json()["result"], json!([5]));
    }
    assert_eq!(client.ask("DELETE", &format!("/_api/cursor/{id}"), Value::Null).await.status, 202);
    double.assert_known();
}

#[tokio::test]
async fn version_4_lacks_what_it_no_longer_has() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    let open = json!({ "query": "FOR i IN 1..5 RETURN i", "batchSize": 2 });
    let id = client.ask("POST", "/_api/cursor", open).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/_api/cursor/{id}");
    assert_eq!(client.ask("PUT", &path, Value::Null).await.status, 200);
    "4.0.0".clone_into(&mut double.faults().version);
    assert_eq!(client.ask("PUT", &path, Value::Null).await.status, 404);
    assert_eq!(double.unknown().len(), 1);
    assert_eq!(client.refusal("LET scan = 1 RETURN scan", json!({})).await, 1501);
    assert_eq!(client.refusal("INSERT {} INTO a OPTIONS { overwrite: true }", json!({})).await, 1539);
    let walk = "FOR v IN 1..2 OUTBOUND 'a/1' e OPTIONS { bfs: true } RETURN v";
    assert_eq!(client.refusal(walk, json!({})).await, 1539);
    let insert = client.ask("POST", "/_api/document/a?overwrite=true", json!({})).await;
    assert_eq!(insert.status, 400, "{}", insert.text);
    // The version of its interface may stand before its paths.
    let version = client.send("GET", "/_arango/v1/_api/version", Value::Null).await;
    assert_eq!(version.json()["version"], "4.0.0");
    let current = client.ask("GET", "/_api/database/current", Value::Null).await.json();
    assert!(current["result"]["path"].is_null(), "{current}");
}

#[tokio::test]
async fn bounds_of_time_and_memory_end_a_statement() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let memory = json!({ "query": "FOR i IN 1..100000 SORT i RETURN i", "memoryLimit": 100_000 });
    let answer = client.ask("POST", "/_api/cursor", memory).await;
    assert_eq!((answer.status, answer.number()), (500, 32));
    // What subqueries needed is given back.
    let many = "FOR n IN 1..100 LET x = LENGTH(FOR i IN 1..500 SORT i RETURN i) RETURN x";
    let memory = json!({ "query": many, "memoryLimit": 400_000 });
    assert_eq!(client.ask("POST", "/_api/cursor", memory).await.status, 201);
    double.faults().slow_commit = Duration::from_secs(5);
    let slow = json!({ "query": "INSERT {} INTO a", "options": { "maxRuntime": 0.05 } });
    let answer = client.ask("POST", "/_api/cursor", slow).await;
    assert_eq!((answer.status, answer.number()), (410, 1500));
    assert_eq!(client.rows("RETURN LENGTH(a)", json!({})).await, json!([0]), "what was killed is stored");
    assert_eq!(
        client.ask("POST", "/_api/cursor", json!({ "query": "RETURN 1", "batchSize": 0 })).await.status,
        400
    );
    double.assert_known();
}

#[tokio::test]
async fn statements_and_requests_are_counted() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.reset_counters();
    client.rows("INSERT {} INTO a", json!({})).await;
    client.rows("INSERT {} INTO a", json!({})).await;
    client.rows("RETURN 1", json!({})).await;
    let counters = double.counters();
    assert_eq!(counters.requests["POST /_api/cursor"], 3);
    assert_eq!((counters.statements["INSERT {} INTO a"], counters.commits), (2, 2));
    assert_eq!((counters.writing_at_once_max, counters.requests_in_all()), (1, 3));
}
