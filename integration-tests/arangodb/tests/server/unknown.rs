//! What the double does not know is refused, and remembered.

use serde_json::{Value, json};

use crate::client::{collections, server};

#[tokio::test]
async fn whatever_is_not_known_is_refused_by_name_and_remembered() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let cursor = |body: Value| ("POST", "/_api/cursor", body);
    let query = |text: &str| ("POST", "/_api/cursor", json!({ "query": text }));
    let cases = [
        (("GET", "/_api/foxx", Value::Null), "endpoint GET /_api/foxx"),
        (("GET", "/_api/collection?color=red", Value::Null), "'color'"),
        (cursor(json!({ "query": "RETURN 1", "colour": 1 })), "'colour'"),
        (cursor(json!({ "query": "RETURN 1", "options": { "colour": 1 } })), "'colour'"),
        (("POST", "/_api/explain", json!({ "query": "RETURN 1", "options": { "colour": 1 } })), "'colour'"),
        (query("RETURN SOUNDEX('a')"), "SOUNDEX"),
        (query("RETURN MY::FUNCTION(1)"), "user functions"),
        (query("INSERT {} INTO a OPTIONS { colour: 1 }"), "'colour'"),
        (query("INSERT {} INTO a OPTIONS { overwriteMode: 'sometimes' }"), "'overwriteMode'"),
        (query("FOR x IN a OPTIONS { colour: 1 } RETURN x"), "'colour'"),
        (query("FOR v IN 1..2 OUTBOUND 'a/1' a OPTIONS { colour: 1 } RETURN v"), "'colour'"),
        (query("FOR p IN OUTBOUND K_PATHS 'a/1' TO 'a/2' a RETURN p"), "paths"),
        (query("FOR x IN a WINDOW { preceding: 1 } AGGREGATE n = SUM(x.n) RETURN n"), "WINDOW"),
        (query("RETURN DATE_YEAR(0, 'Europe/Berlin')"), "time zone"),
        (query("INSERT { _own: 1 } INTO a"), "'_own'"),
        (("POST", "/_api/collection", json!({ "name": "b", "colour": 1 })), "'colour'"),
        (("POST", "/_api/index?collection=a", json!({ "type": "mdi", "fields": ["n"] })), "'mdi'"),
        (("POST", "/_api/document/a?silent=true", json!([{}])), "silent"),
        (("POST", "/_api/transaction/begin", json!({ "collections": {}, "colour": 1 })), "'colour'"),
        (("POST", "/_api/database", json!({ "name": "x", "options": { "colour": 1 } })), ""),
    ];
    let mut met = 0;
    for ((method, path, body), name) in cases {
        let answer = client.ask(method, path, body.clone()).await;
        assert!(answer.status >= 400, "{method} {path} {body}: {}", answer.text);
        if name.is_empty() {
            continue;
        }
        met += 1;
        let unknown = double.unknown();
        assert_eq!(unknown.len(), met, "{method} {path} {body} is not remembered: {}", answer.text);
        assert!(unknown[met - 1].contains(name), "{} does not name {name}", unknown[met - 1]);
    }
    let header = client.try_send("GET", "/_api/version", "", "x-arango-async: store\r\n").await.unwrap();
    assert!(header.status >= 400 && double.unknown().len() == met + 1, "{header:?}");
}

#[tokio::test]
#[should_panic(expected = "does not know")]
async fn a_test_can_assert_that_all_was_known() {
    let (double, client) = server().await;
    client.query("RETURN SOUNDEX('a')", json!({})).await;
    double.assert_known();
}
