//! What a server is documented to refuse, and what its answers lack.

use arangodb_double::{Double, Faults};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Client, PASSWORD, collections, server};

#[tokio::test]
async fn statements_follow_the_grammar() {
    let (double, client) = server().await;
    collections(&client, &["a", "b"]).await;
    for query in [
        // Names begin with a letter, after underscores or one dollar sign.
        "LET _ = 1 RETURN _",
        "LET _1 = 1 RETURN _1",
        "LET a$b = 1 RETURN a$b",
        "RETURN @_",
        // Literals have no attributes.
        "RETURN 'abc'[0]",
        "RETURN null.x",
        // Reserved words are no names, of attributes neither.
        "FOR graph IN [1] RETURN graph",
        "FOR x IN a RETURN x.any",
        "RETURN { window: 1 }",
        "RETURN DISTINCT 1",
        "RETURN (RETURN DISTINCT 1)",
        "FOR x IN a COLLECT AGGREGATE n = SUM(x.n) WITH COUNT INTO c RETURN c",
        "FOR x IN a COLLECT k = x.k AGGREGATE n = SUM(x.n) INTO g KEEP x RETURN g",
        "FOR x IN a INSERT x INTO b OPTIONS ({ waitForSync: true })",
        "RETURN 1;",
        "RETURN 01",
    ] {
        assert_eq!(client.refusal(query, json!({})).await, 1501, "{query}");
    }
    let binds = |query: &str| json!({ "query": query, "bindVars": { "key": { "_key": "k" } } });
    for body in [
        // After a modification there is LET and RETURN, says the documentation.
        json!({ "query": "FOR x IN [1] INSERT {} INTO a FILTER NEW.n == 1 RETURN NEW" }),
        json!({ "query": "FOR x IN [1] INSERT {} INTO a LIMIT 1 RETURN NEW" }),
        json!({ "query": "FOR x IN [1] INSERT {} INTO a FOR y IN [1] RETURN y" }),
        // UPSERT looks for an object as it is written.
        json!({ "query": "LET n = 'k' UPSERT { [n]: 1 } INSERT {} UPDATE {} IN a" }),
        binds("UPSERT @key INSERT @key UPDATE {} IN a"),
        json!({ "query": "FOR x IN a OPTIONS { readOwnWrites: true } RETURN x" }),
    ] {
        let answer = client.ask("POST", "/_api/cursor", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    let quoted = "LET $x = 1 FOR `graph` IN [{ `any`: 1 }] RETURN [$x, `graph`.`any`]";
    assert_eq!(client.rows(quoted, json!({})).await, json!([[1, 1]]));
    assert_eq!(double.documents("tests", "a").unwrap(), Vec::<Value>::new());
}

#[tokio::test]
async fn requests_have_the_attributes_that_are_documented_with_values_of_their_kind() {
    let (_double, client) = server().await;
    collections(&client, &["a"]).await;
    for body in [
        json!({ "query": "RETURN 1", "bindVars": null }),
        json!({ "query": "RETURN 1", "cache": false }),
        json!({ "query": "RETURN 1", "batchSize": 0 }),
        json!({ "query": "RETURN 1", "batchSize": 1.5 }),
        json!({ "query": "RETURN 1", "batchSize": "10" }),
        json!({ "query": "RETURN 1", "memoryLimit": -1 }),
        json!({ "query": "RETURN 1", "ttl": "30" }),
        json!({ "query": "RETURN 1", "options": null }),
        json!({ "query": "RETURN 1", "options": { "failOnWarning": 1 } }),
        json!({ "query": "RETURN 1", "options": { "maxRuntime": "20" } }),
        json!({ "query": "RETURN 1", "options": { "maxRuntimeS": 20 } }),
        json!({ "query": "RETURN 1", "options": { "maxTransactionSize": "1" } }),
        json!({ "query": "RETURN 1", "options": { "usePlanCache": true } }),
        json!({ "query": "RETURN 1", "options": { "intermediateCommitCount": 10 } }),
    ] {
        let answer = client.ask("POST", "/_api/cursor", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    let index = |body: Value| client.ask("POST", "/_api/index?collection=a", body);
    let many = (0..33).map(|i| format!("a{i}")).collect::<Vec<_>>();
    for body in [
        json!({ "type": "persistent", "fields": ["x", "x"] }),
        json!({ "type": "persistent", "fields": ["x._id"] }),
        json!({ "type": "persistent", "fields": [] }),
        json!({ "type": "persistent", "fields": ["x"], "name": "with space" }),
        json!({ "type": "persistent", "fields": ["x"], "storedValues": ["x"] }),
        json!({ "type": "persistent", "fields": ["x"], "storedValues": many }),
        json!({ "type": "persistent", "fields": ["x"], "background": true }),
        json!({ "type": "hash", "fields": ["x"] }),
    ] {
        let answer = index(body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    let stored =
        json!({ "type": "persistent", "fields": ["x"], "storedValues": ["y"], "inBackground": true });
    assert_eq!(index(stored).await.status, 201);
    assert_eq!(index(json!({ "type": "persistent", "fields": ["x"] })).await.status, 200, "the same index");
    assert_eq!(index(json!({ "type": "persistent", "fields": ["x"], "sparse": true })).await.status, 201);
    for (path, body) in [
        ("/_api/database", json!({ "name": "x", "users": [{ "user": "somebody" }] })),
        ("/_api/database", json!({ "name": "x", "options": { "sharding": "some" } })),
        ("/_api/database", json!({ "name": "x", "options": { "replicationFactor": 1, "writeConcern": 2 } })),
        ("/_api/database", json!({ "name": "_x" })),
        ("/_api/collection", json!({ "name": "x", "type": 4 })),
        ("/_api/collection", json!({ "name": "x", "keyOptions": { "increment": 2 } })),
        ("/_api/collection", json!({ "name": "_x" })),
        ("/_api/gharial", json!({ "name": "g/1", "edgeDefinitions": [] })),
        (
            "/_api/gharial",
            json!({ "name": "g", "edgeDefinitions": [
                { "collection": "e", "from": ["a"], "to": ["a"] }, { "collection": "e", "from": ["a"], "to": ["a"] }
            ] }),
        ),
    ] {
        let answer = client.send("POST", path, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    let elsewhere = client.ask("POST", "/_api/database", json!({ "name": "x" })).await;
    assert_eq!((elsewhere.status, elsewhere.number()), (403, 1230));
}

#[tokio::test]
async fn documents_are_found_by_their_key_alone_and_written_within_the_rules() {
    let (_double, client) = server().await;
    collections(&client, &["a"]).await;
    client.rows("INSERT { _key: 'k' } INTO a", json!({})).await;
    assert_eq!(client.refusal("UPDATE { _id: 'a/k' } WITH { n: 1 } IN a", json!({})).await, 1226);
    assert_eq!(client.refusal("UPDATE 'a/k' WITH { n: 1 } IN a", json!({})).await, 1221);
    assert_eq!(client.refusal("UPDATE 'missing' WITH { n: 1 } IN a", json!({})).await, 1202);
    let insert = "INSERT @d INTO a";
    for key in
        [json!(5), json!(""), json!("ä"), json!("a b"), json!("a/b"), json!("#"), json!("x".repeat(255))]
    {
        assert_eq!(client.refusal(insert, json!({ "d": { "_key": key } })).await, 1221, "{key}");
    }
    let all = "azAZ09_-.@()+,=;$!*'%:";
    client.rows(insert, json!({ "d": { "_key": format!("{all}{}", "x".repeat(254 - all.len())) } })).await;
    // Keys and ids within a document are what the server says.
    let ignored = "UPDATE 'k' WITH { _key: 'other', _id: 'a/other', _rev: 'r', n: 1 } IN a RETURN [NEW._key, NEW._id, NEW.n]";
    assert_eq!(client.rows(ignored, json!({})).await, json!([["k", "a/k", 1]]));
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, status) in [(150, 201), (200, 400)] {
        let body = format!(r#"{{"query":"RETURN @x","bindVars":{{"x":{}}}}}"#, nested(depth));
        assert_eq!(
            client.try_send("POST", "/_api/cursor", &body, "").await.unwrap().status,
            status,
            "{depth}"
        );
    }
}

#[tokio::test]
async fn answers_hold_no_more_than_is_documented() {
    let (double, client) = server().await;
    let login = json!({ "username": "root", "password": PASSWORD });
    let answer = client.send("POST", "/_open/auth", login).await.json();
    let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["jwt"]);
    let body = answer["jwt"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    assert!(token["exp"].is_u64() && token["iat"].is_f64(), "{token}");
    let open = json!({ "query": "FOR i IN 1..3 RETURN i", "batchSize": 2 });
    let first = client.ask("POST", "/_api/cursor", open).await.json();
    assert!(first["extra"]["stats"]["writesIgnored"].is_u64() && first["nextBatchId"].is_string(), "{first}");
    let last =
        client.ask("POST", &format!("/_api/cursor/{}", first["id"].as_str().unwrap()), Value::Null).await;
    let last = last.json();
    assert_eq!((&last["result"], &last["extra"], &last["id"]), (&json!([3]), &json!(null), &json!(null)));
    double.assert_known();
}

#[tokio::test]
async fn an_index_serves_what_the_optimizer_is_sure_of() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    for (collection, body) in [
        ("a", json!({ "type": "persistent", "name": "fin", "fields": ["fin"], "sparse": true })),
        ("e", json!({ "type": "persistent", "name": "to_number", "fields": ["_to", "number"] })),
        ("a", json!({ "type": "persistent", "name": "status_n", "fields": ["status", "n"] })),
    ] {
        let path = format!("/_api/index?collection={collection}");
        assert_eq!(client.ask("POST", &path, body).await.status, 201);
    }
    let scan = "EnumerateCollectionNode";
    for (query, node, sorts) in [
        ("FOR x IN a FILTER x.fin > '' SORT x.fin LIMIT 5 RETURN x", "fin", false),
        ("FOR x IN a FILTER x.fin > null SORT x.fin DESC LIMIT 5 RETURN x", "fin", false),
        ("FOR x IN a FILTER x.fin < 'z' AND x.fin != null SORT x.fin DESC RETURN x", "fin", false),
        // Null is less than every text, and what is not constant may be null.
        ("FOR x IN a FILTER x.fin < 'z' SORT x.fin DESC LIMIT 5 RETURN x", scan, true),
        ("FOR u IN [''] FOR x IN a FILTER x.fin > u RETURN x", scan, false),
        ("FOR u IN [''] FOR x IN a FILTER x.fin == u RETURN x", scan, false),
        ("FOR x IN a SORT x.fin RETURN x", scan, true),
        ("FOR x IN a FILTER LOWER(x.fin) == 'z' RETURN x", scan, false),
        ("FOR x IN a FILTER x.fin != 'z' RETURN x", scan, false),
        ("FOR x IN e FILTER x._to == 'a/1' SORT x.number LIMIT 5 RETURN x", "to_number", false),
        ("FOR x IN e FILTER x._to == 'a/1' AND x.number > 5 SORT x.number RETURN x", "to_number", false),
        ("FOR x IN e FILTER x._to == 'a/1' RETURN x", "edge", false),
        ("FOR x IN a FILTER x.status == 's' SORT x.n RETURN x", "status_n", false),
        ("FOR x IN a FILTER x.status == 's' SORT x.n, x.status RETURN x", "status_n", false),
        ("FOR x IN a FILTER x.status == 's' SORT x.n, x.other RETURN x", "status_n", true),
    ] {
        let plan =
            client.ask("POST", "/_api/explain", json!({ "query": query })).await.json()["plan"].clone();
        let nodes = plan["nodes"].as_array().unwrap();
        let found = nodes.iter().find(|node| !node["collection"].is_null()).unwrap();
        assert_eq!(found["indexes"][0]["name"].as_str().or(found["type"].as_str()), Some(node), "{query}");
        assert_eq!(nodes.iter().any(|node| node["type"] == "SortNode"), sorts, "{query}");
        // In plans ids of indexes stand without their collection.
        assert!(!found["indexes"][0]["id"].as_str().unwrap_or_default().contains('/'), "{found}");
    }
    // What equals something that is not constant has to be named by the sort.
    let inner = |sort: &str| {
        format!("FOR s IN @s LET r = (FOR x IN a FILTER x.status == s SORT {sort} LIMIT 5 RETURN x) RETURN r")
    };
    for (sort, sorts) in [("x.n", true), ("x.status, x.n", false), ("x.status DESC, x.n DESC", false)] {
        let body = json!({ "query": inner(sort), "bindVars": { "s": ["a", "b"] } });
        let plan = client.ask("POST", "/_api/explain", body).await;
        assert_eq!(plan.text.contains("SortNode"), sorts, "{sort}: {}", plan.text);
    }
    double.assert_known();
}

#[tokio::test]
async fn a_coordinator_tells_how_each_database_was_made() {
    let faults = Faults { role: "COORDINATOR".to_owned(), authentication: false, ..Faults::default() };
    let double = Double::start_with(PASSWORD, faults, 1).await.unwrap();
    let client = Client { address: double.address(), authorization: None, transaction: None };
    for (name, options, sharding) in [
        ("one", json!({ "sharding": "single", "replicationFactor": 3, "writeConcern": 2 }), "single"),
        ("many", json!({}), ""),
    ] {
        let made = client.send("POST", "/_api/database", json!({ "name": name, "options": options })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let told =
            client.send("GET", &format!("/_db/{name}/_api/database/current"), Value::Null).await.json();
        assert_eq!(told["result"]["sharding"], sharding);
    }
    double.faults().sharding = Some("single".to_owned());
    let told = client.send("GET", "/_db/many/_api/database/current", Value::Null).await.json();
    assert_eq!(told["result"]["sharding"], "single", "as with --cluster.force-one-shard");
    double.faults().version = "3.12.4".to_owned();
    let license = client.send("GET", "/_admin/license", Value::Null).await.json();
    assert_eq!(license, json!({ "license": "none" }), "before 3.12.5 the Community Edition told nothing");
}

#[tokio::test]
async fn a_database_has_collections_of_its_own() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let names = |told: Value| -> Vec<String> {
        let told = told["result"].as_array().unwrap().clone();
        told.iter().map(|collection| collection["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(client.ask("GET", "/_api/collection", Value::Null).await.json());
    assert!(all.contains(&"a".to_owned()) && all.contains(&"_graphs".to_owned()), "{all:?}");
    let path = "/_api/collection?excludeSystem=true";
    assert_eq!(names(client.ask("GET", path, Value::Null).await.json()), ["a"]);
    double.assert_known();
}

#[tokio::test]
async fn the_memory_of_a_statement_holds_its_parameters() {
    let (_double, client) = server().await;
    let body = |limit: usize| json!({ "query": "RETURN LENGTH(@text)", "bindVars": { "text": "x".repeat(50_000) }, "memoryLimit": limit });
    assert_eq!(client.ask("POST", "/_api/cursor", body(100_000)).await.status, 201);
    assert_eq!(client.ask("POST", "/_api/cursor", body(10_000)).await.number(), 32);
}

#[tokio::test]
async fn a_plus_puts_texts_together_from_4_on() {
    let (double, client) = server().await;
    assert_eq!(client.rows("RETURN 1 + '2'", json!({})).await, json!([3]));
    double.faults().version = "4.0.0".to_owned();
    assert_eq!(client.rows("RETURN [1 + '2', 1 + 2, 'a' + null]", json!({})).await, json!([["12", 3, "a"]]));
}

#[tokio::test]
async fn requests_say_how_long_they_are() {
    let (double, client) = server().await;
    let mut stream = TcpStream::connect(double.address()).await.unwrap();
    let authorization = client.authorization.clone().unwrap();
    let request = format!(
        "POST /_db/tests/_api/cursor/1 HTTP/1.1\r\nhost: double\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    assert_eq!(client.try_send("GET", "/_api/version", "{}", "").await.unwrap().status, 400, "a body of GET");
    let long = format!("/_api/version?x={}", "x".repeat(20_000));
    assert_eq!(client.try_send("GET", &long, "", "").await.unwrap().status, 414);
}

#[tokio::test]
async fn a_server_that_only_reads_makes_nothing() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    double.faults().read_only = true;
    let made = client.ask("POST", "/_api/collection", json!({ "name": "b" })).await;
    assert_eq!((made.status, made.number()), (403, 11));
    let made = client.send("POST", "/_api/database", json!({ "name": "b" })).await;
    assert_eq!((made.status, made.number()), (403, 11));
    let dropped = client.send("DELETE", "/_api/database/tests", Value::Null).await;
    assert_eq!((dropped.status, dropped.number()), (403, 11));
    assert_eq!(client.refusal("INSERT {} INTO a", json!({})).await, 1004);
}
