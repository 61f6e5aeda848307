//! What goes wrong on demand.

use std::time::{Duration, Instant};

use arangodb_double::{Double, Fault, Faults, Rates, Refusal, Refused};
use serde_json::{Value, json};

use crate::client::{PASSWORD, collections, server};

#[tokio::test]
async fn connections_end_before_or_after_a_statement_was_run() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let insert = |key: &str| json!({ "query": format!("INSERT {{ _key: '{key}' }} INTO a") }).to_string();
    double.faults().next.extend([Fault::DropBefore, Fault::DropAfter]);
    for key in ["before", "after"] {
        let answer = client.try_send("POST", "/_db/tests/_api/cursor", &insert(key), "").await;
        assert!(answer.is_none(), "{answer:?}");
    }
    let documents = double.documents("tests", "a").unwrap();
    assert_eq!((documents.len(), documents[0]["_key"].as_str()), (1, Some("after")));
}

#[tokio::test]
async fn a_statement_goes_on_when_its_client_hangs_up() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.faults().slow_commit = Duration::from_millis(500);
    let insert = client.query("INSERT { _key: 'k' } INTO a", json!({}));
    assert!(
        tokio::time::timeout(Duration::from_millis(30), insert).await.is_err(),
        "answered before its commit"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while double.documents("tests", "a").unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the statement was given up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    double.assert_known();
}

#[tokio::test]
async fn refusals_come_from_the_server_and_from_a_proxy() {
    let (double, client) = server().await;
    double.faults().next.extend([
        Fault::Unavailable,
        Fault::ProxyUnavailable,
        Fault::Html,
        Fault::Refuse(1478),
    ]);
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(client.query("RETURN 1", json!({})).await);
    }
    assert_eq!((answers[0].status, answers[0].number()), (503, 21_003));
    assert_eq!((answers[1].status, answers[1].text.as_str()), (503, "no server is available"));
    assert!(answers[2].status == 200 && answers[2].text.starts_with("<!DOCTYPE html>"));
    assert_eq!((answers[3].status, answers[3].number()), (503, 1478));
    assert_eq!(answers[4].status, 201);
}

#[tokio::test]
async fn faults_by_chance_come_about_as_often_as_they_should() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.faults().rates.conflict = 0.5;
    let (mut refused, mut stored) = (0, 0);
    for _ in 0..60 {
        match client.query("INSERT {} INTO a", json!({})).await.status {
            409 => refused += 1,
            201 => stored += 1,
            other => panic!("{other}"),
        }
    }
    assert!((10..50).contains(&refused), "{refused} of 60 refused");
    assert_eq!(double.documents("tests", "a").unwrap().len(), stored);
    assert_eq!(client.query("RETURN 1", json!({})).await.status, 201, "only writes conflict");
}

#[tokio::test]
async fn faults_by_chance_are_the_same_for_the_same_seed() {
    async fn statuses(seed: u64) -> Vec<u16> {
        let faults = Faults { authentication: false, rates: Rates::each(0.1), ..Faults::default() };
        let double = Double::start_with(PASSWORD, faults, seed).await.unwrap();
        let client =
            crate::client::Client { address: double.address(), authorization: None, transaction: None };
        let mut statuses = Vec::new();
        for _ in 0..40 {
            let body = json!({ "query": "RETURN 1" }).to_string();
            let answer = client.try_send("POST", "/_api/cursor", &body, "").await;
            statuses.push(answer.map_or(0, |answer| answer.status));
        }
        statuses
    }
    let statuses_of_7 = statuses(7).await;
    assert_eq!(statuses_of_7, statuses(7).await);
    assert_ne!(statuses_of_7, statuses(8).await);
    assert!(statuses_of_7.contains(&0) && statuses_of_7.contains(&503), "{statuses_of_7:?}");
}

#[tokio::test]
async fn a_cluster_may_refuse_what_it_has_done() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.faults().next.push_back(Fault::RefuseAfter(1457));
    let answer = client.query("INSERT { _key: 'k' } INTO a", json!({})).await;
    assert_eq!((answer.status, answer.number()), (500, 1457));
    assert_eq!(double.documents("tests", "a").unwrap().len(), 1);
}

#[tokio::test]
async fn a_document_that_is_refused_fails_its_statement_each_time() {
    let (double, client) = server().await;
    collections(&client, &["a", "b"]).await;
    let poison = |what, number| Refusal { collection: "a".to_owned(), what, number };
    double.faults().refused = vec![
        poison(Refused::Value("_key".to_owned(), json!("bad")), 1620),
        poison(Refused::Longer(1_000), 1216),
    ];
    let insert = "FOR d IN @docs INSERT d INTO a";
    for _ in 0..2 {
        let answer = client.query(insert, json!({ "docs": [{ "_key": "good" }, { "_key": "bad" }] })).await;
        assert_eq!((answer.status, answer.number()), (400, 1620));
    }
    assert_eq!(client.refusal(insert, json!({ "docs": [{ "text": "x".repeat(1_000) }] })).await, 1216);
    assert_eq!(double.documents("tests", "a").unwrap().len(), 0, "a statement is one whole");
    client.rows("FOR d IN @docs INSERT d INTO b", json!({ "docs": [{ "_key": "bad" }] })).await;
    let batch = client.ask("POST", "/_api/document/a", json!([{ "_key": "good" }, { "_key": "bad" }])).await;
    assert_eq!((batch.status, &batch.json()[1]["errorNum"]), (202, &json!(1620)));
    assert_eq!(
        client.refusal("UPDATE 'good' WITH { text: @text } IN a", json!({ "text": "x".repeat(1_000) })).await,
        1216
    );
}

#[tokio::test]
async fn a_read_only_server_refuses_writes_and_is_not_available() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.faults().read_only = true;
    let answer = client.query("INSERT {} INTO a", json!({})).await;
    assert_eq!((answer.status, answer.number()), (403, 1004));
    assert_eq!(client.ask("POST", "/_api/document/a", json!({})).await.number(), 1004);
    assert_eq!(client.rows("RETURN 1", json!({})).await, json!([1]));
    assert_eq!(client.send("GET", "/_admin/server/availability", Value::Null).await.status, 503);
    double.faults().read_only = false;
    assert_eq!(client.send("GET", "/_admin/server/availability", Value::Null).await.status, 200);
    double.assert_known();
}

#[tokio::test]
async fn a_cluster_wants_the_collections_of_walks_named() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    {
        let mut faults = double.faults();
        "COORDINATOR".clone_into(&mut faults.role);
        faults.sharding = Some("single".to_owned());
    }
    let walk = "FOR v IN 1..2 OUTBOUND 'a/1' e RETURN v";
    assert_eq!(client.refusal(walk, json!({})).await, 1521);
    assert_eq!(client.rows(&format!("WITH a {walk}"), json!({})).await, json!([]));
    let plan = client.ask("POST", "/_api/explain", json!({ "query": "FOR x IN a RETURN x" })).await.json();
    assert!(plan["plan"]["rules"].as_array().unwrap().contains(&json!("cluster-one-shard")), "{plan}");
    double.assert_known();
}

#[tokio::test]
async fn the_server_tells_what_it_is_told_to_be() {
    let (double, client) = server().await;
    {
        let mut faults = double.faults();
        "3.12.2".clone_into(&mut faults.version);
        "COORDINATOR".clone_into(&mut faults.role);
        faults.sharding = Some("flexible".to_owned());
        faults.server_header = Some("nginx".to_owned());
        faults.license = None;
        faults.latency = Duration::from_millis(20);
        faults.clock_ahead_ms = 3_600_000;
        faults.plan_without_nodes = true;
    }
    let start = Instant::now();
    let version = client.send("GET", "/_api/version", Value::Null).await;
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(version.json()["version"], "3.12.2");
    assert!(version.headers.contains("server: nginx"), "{}", version.headers);
    assert_eq!(client.send("GET", "/_admin/server/role", Value::Null).await.json()["role"], "COORDINATOR");
    let current = client.ask("GET", "/_api/database/current", Value::Null).await.json();
    assert_eq!(current["result"]["sharding"], "flexible");
    assert_eq!(client.send("GET", "/_admin/license", Value::Null).await.status, 404);
    let now = client.rows("RETURN DATE_NOW()", json!({})).await[0].as_u64().unwrap();
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(now) > here + 3_500_000);
    let plan = client.ask("POST", "/_api/explain", json!({ "query": "RETURN 1" })).await.json();
    assert!(plan["plan"]["nodes"].is_null());
    double.faults().intermediate_commits = 1;
    let stats = client.query("RETURN 1", json!({})).await.json()["extra"]["stats"].clone();
    assert_eq!(stats["intermediateCommits"], 1);
    double.faults().starting = true;
    let answer = client.send("GET", "/_api/version", Value::Null).await;
    assert_eq!((answer.status, answer.number()), (503, 38));
    double.faults().html = true;
    assert!(client.send("GET", "/_api/version", Value::Null).await.text.starts_with("<!DOCTYPE html>"));
    double.faults().down = true;
    assert!(client.try_send("GET", "/_api/version", "", "").await.is_none());
    double.assert_known();
}
