//! Documents one by one and in batches.

use serde_json::{Value, json};

use crate::client::{collections, server};

#[tokio::test]
async fn a_batch_keeps_its_good_elements() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let body = json!([{ "_key": "1" }, { "_key": "1" }, { "_key": "bad key" }, { "_key": "2" }]);
    let answer = client.ask("POST", "/_api/document/a?waitForSync=true", body).await;
    assert_eq!(answer.status, 201);
    assert!(answer.headers.contains(r#"x-arango-error-codes: {"1210":1,"1221":1}"#), "{}", answer.headers);
    let numbers: Vec<Value> =
        answer.json().as_array().unwrap().iter().map(|e| e["errorNum"].clone()).collect();
    assert_eq!(numbers, [json!(null), json!(1210), json!(1221), json!(null)]);
    assert_eq!(double.documents("tests", "a").unwrap().len(), 2);
    let read = client.ask("PUT", "/_api/document/a?onlyget=true", json!(["1", "x"])).await;
    assert_eq!(
        (read.json()[0]["_key"].as_str(), read.json()[1]["errorNum"].as_u64()),
        (Some("1"), Some(1202))
    );
    double.assert_known();
}

#[tokio::test]
async fn the_shortest_path_is_given_where_there_is_one() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    client.rows("FOR k IN ['1', '2', '3', '4'] INSERT { _key: k } INTO a", json!({})).await;
    let edges = json!([[1, 2, 1], [2, 3, 1], [1, 3, 5], [3, 4, 1]]);
    let insert =
        "FOR x IN @edges INSERT { _from: CONCAT('a/', x[0]), _to: CONCAT('a/', x[1]), w: x[2] } INTO e";
    client.rows(insert, json!({ "edges": edges })).await;
    let path = |options: &str| {
        format!("FOR v, x IN OUTBOUND SHORTEST_PATH 'a/1' TO @to e {options} RETURN [v._key, x.w]")
    };
    let to = json!({ "to": "a/4" });
    assert_eq!(client.rows(&path(""), to.clone()).await, json!([["1", null], ["3", 5], ["4", 1]]));
    let weighed = path("OPTIONS { weightAttribute: 'w' }");
    assert_eq!(client.rows(&weighed, to).await, json!([["1", null], ["2", 1], ["3", 1], ["4", 1]]));
    assert_eq!(client.rows(&path(""), json!({ "to": "a/x" })).await, json!([]));
    double.assert_known();
    client.rows("INSERT { _from: 'a/2', _to: 'a/4', w: 2 } INTO e", json!({})).await;
    assert!(client.query(&weighed, json!({ "to": "a/4" })).await.status >= 400, "a tie");
    assert_eq!(double.unknown().len(), 1);
}

#[tokio::test]
async fn revisions_guard_single_documents() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let written = client.ask("POST", "/_api/document/a", json!({ "_key": "k", "n": 1 })).await;
    assert_eq!(written.status, 202);
    let revision = written.json()["_rev"].as_str().unwrap().to_owned();
    let path = "/_db/tests/_api/document/a/k";
    let patch = |n: u64, revision: String| {
        let client = client.clone();
        async move {
            let header = format!("if-match: \"{revision}\"\r\n");
            client.try_send("PATCH", path, &json!({ "n": n }).to_string(), &header).await.unwrap()
        }
    };
    let first = patch(2, revision.clone()).await;
    assert_eq!((first.status, first.json()["_oldRev"].as_str()), (202, Some(revision.as_str())));
    let second = patch(3, revision).await;
    assert_eq!((second.status, second.number()), (412, 1200));
    assert_eq!(client.ask("GET", "/_api/document/a/k", Value::Null).await.json()["n"], 2);
    assert_eq!(client.ask("GET", "/_api/document/a/x", Value::Null).await.number(), 1202);
    assert_eq!(client.ask("DELETE", "/_api/document/a/k", Value::Null).await.status, 202);
    assert_eq!(client.ask("DELETE", "/_api/document/a/k", Value::Null).await.status, 404);
    double.assert_known();
}

#[tokio::test]
async fn collections_and_graphs_are_made_once() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let again = client.ask("POST", "/_api/collection", json!({ "name": "a" })).await;
    assert_eq!((again.status, again.number()), (409, 1207));
    let graph = |name: &str, to: &str| json!({ "name": name, "edgeDefinitions": [{ "collection": "e", "from": ["a"], "to": [to] }] });
    assert_eq!(client.ask("POST", "/_api/gharial", graph("g", "b")).await.status, 202);
    assert_eq!(client.ask("POST", "/_api/gharial", graph("g", "b")).await.number(), 1925);
    assert_eq!(client.ask("POST", "/_api/gharial", graph("h", "a")).await.number(), 1921);
    assert_eq!(client.ask("GET", "/_api/collection/e", Value::Null).await.json()["type"], 3);
    let told = client.ask("GET", "/_api/gharial/g", Value::Null).await.json();
    assert_eq!(told["graph"]["edgeDefinitions"][0]["to"], json!(["b"]));
    assert_eq!(client.ask("DELETE", "/_api/collection/e", Value::Null).await.number(), 1942);
    client.rows("FOR k IN ['1', '2'] INSERT { _key: k } INTO a", json!({})).await;
    client.rows("INSERT { _from: 'a/1', _to: 'a/2' } INTO e", json!({})).await;
    let walk = "FOR v, e, p IN 1..3 OUTBOUND 'a/1' GRAPH 'g' OPTIONS { order: 'bfs', uniqueVertices: 'global' } \
                RETURN [v._key, LENGTH(p.edges)]";
    assert_eq!(client.rows(walk, json!({})).await, json!([["2", 1]]));
    double.assert_known();
}
