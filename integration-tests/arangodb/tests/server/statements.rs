//! Rules for statements.

use serde_json::{Value, json};

use crate::client::{collections, server};

#[tokio::test]
async fn a_collection_is_not_read_after_it_was_modified() {
    let (double, client) = server().await;
    collections(&client, &["a", "b", "e*"]).await;
    for query in [
        "LET w = (INSERT {} INTO a RETURN 1) FOR x IN a RETURN x",
        "LET w = (FOR i IN 1..2 UPDATE { _key: 'k' } IN a RETURN 1) LET r = (FOR x IN a RETURN x) RETURN r",
        // Also of another collection, where documents are read by their ids or along edges.
        "LET w = (INSERT {} INTO a RETURN 1) RETURN DOCUMENT('b/1')",
        "LET w = (INSERT {} INTO a RETURN 1) FOR v IN 1..2 OUTBOUND 'b/1' e RETURN v",
        // Nor is it modified again.
        "LET v = (INSERT {} INTO a RETURN 1) LET w = (REMOVE 'k' IN a RETURN 1) RETURN w",
        // A write that lies deeper than a read of the same collection.
        "FOR x IN a LET w = (UPDATE x WITH { n: 1 } IN a RETURN 1) RETURN w",
    ] {
        assert_eq!(client.refusal(query, json!({})).await, 1579, "{query}");
    }
    let two = "FOR i IN 1..2 INSERT {} INTO a INSERT {} INTO b";
    assert_eq!(client.refusal(two, json!({})).await, 1573);
    // What was read before may be written at the same depth.
    let rows = client.rows("FOR x IN a UPDATE x WITH { n: 1 } IN a RETURN NEW.n", json!({})).await;
    assert_eq!(rows, json!([]));
    double.assert_known();
}

#[tokio::test]
async fn mistakes_in_statements_have_the_numbers_of_the_server() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    for (query, binds, number) in [
        ("RETURN", json!({}), 1501),
        ("FOR x IN a", json!({}), 1501),
        ("RETURN { sort: 1 }", json!({}), 1501),
        ("FOR x IN a RETURN x.filter", json!({}), 1501),
        ("RETURN 1 RETURN 2", json!({}), 1501),
        ("", json!({}), 1502),
        ("RETURN @a", json!({}), 1551),
        ("RETURN 1", json!({ "a": 1 }), 1552),
        ("FOR x IN @@c RETURN x", json!({ "@c": 1 }), 1553),
        ("LET a1 = 1 LET a1 = 2 RETURN a1", json!({}), 1511),
        ("FOR x IN missing RETURN x", json!({}), 1203),
        ("FOR v IN 1..1 OUTBOUND 'a/1' GRAPH 'missing' RETURN v", json!({}), 1924),
        ("RETURN LENGTH()", json!({}), 1541),
        ("FOR x IN 1 RETURN x", json!({}), 1563),
        ("RETURN LENGTH([1],)", json!({}), 1501),
        ("FOR i IN 1..9 LIMIT LENGTH('ab') RETURN i", json!({}), 1501),
        ("FOR v IN 1..2 OUTBOUND 'a/1' a OPTIONS { uniqueVertices: 'global' } RETURN v", json!({}), 10),
        ("UPDATE 'missing' WITH {} IN a", json!({}), 1202),
        ("INSERT 1 INTO a", json!({}), 1227),
        ("INSERT { _key: 'a/b' } INTO a", json!({}), 1221),
        ("INSERT { _key: 1 } INTO a", json!({}), 1221),
        ("FOR i IN 1..2 INSERT { _key: 'k' } INTO a", json!({}), 1210),
    ] {
        assert_eq!(client.refusal(query, binds).await, number, "{query}");
    }
    assert_eq!(
        double.documents("tests", "a").unwrap(),
        Vec::<Value>::new(),
        "what failed left something behind"
    );
    double.assert_known();
}

#[tokio::test]
async fn writes_follow_their_options() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    let old = json!({ "_key": "k", "n": { "x": 1, "y": 2 }, "gone": 1 });
    client.rows("INSERT @d INTO a", json!({ "d": old })).await;
    let ignored = "INSERT @d INTO a OPTIONS { overwriteMode: 'ignore' } RETURN NEW";
    let answer = client.query(ignored, json!({ "d": { "_key": "k", "n": 5 } })).await.json();
    let stats = &answer["extra"]["stats"];
    assert_eq!(
        (&answer["result"], &stats["writesExecuted"], &stats["writesIgnored"]),
        (&json!([null]), &json!(0), &json!(0))
    );
    let update = "INSERT @d INTO a OPTIONS { overwriteMode: 'update', keepNull: false, mergeObjects: false } \
                  RETURN UNSET(NEW, '_rev', '_id')";
    let patch = json!({ "d": { "_key": "k", "n": { "z": 3 }, "gone": null } });
    assert_eq!(client.rows(update, patch.clone()).await, json!([{ "_key": "k", "n": { "z": 3 } }]));
    // What is new keeps its nulls: the option is one of updates.
    let fresh = json!({ "d": { "_key": "fresh", "gone": null } });
    assert_eq!(client.rows(update, fresh).await, json!([{ "_key": "fresh", "gone": null }]));
    let merged = "UPDATE 'k' WITH { n: { w: 4 } } IN a RETURN NEW.n";
    assert_eq!(client.rows(merged, json!({})).await, json!([{ "z": 3, "w": 4 }]));
    let replaced = "REPLACE 'k' WITH { m: 1 } IN a RETURN [HAS(OLD, 'n'), HAS(NEW, 'n'), NEW.m]";
    assert_eq!(client.rows(replaced, json!({})).await, json!([[true, false, 1]]));
    let upsert = "FOR i IN 1..3 UPSERT { _key: 'count' } INSERT { _key: 'count', n: 1 } UPDATE { n: OLD.n + 1 } IN a \
                  RETURN [OLD == null, NEW.n]";
    assert_eq!(client.rows(upsert, json!({})).await, json!([[true, 1], [false, 2], [false, 3]]));
    assert_eq!(client.rows("REMOVE 'count' IN a RETURN OLD.n", json!({})).await, json!([3]));
    let edge = "INSERT { _from: 'a/k', _to: @to } INTO e RETURN NEW._from";
    assert_eq!(client.rows(edge, json!({ "to": "a/x" })).await, json!(["a/k"]));
    assert_eq!(client.refusal(edge, json!({ "to": "x" })).await, 1233);
    assert_eq!(client.refusal("FOR x IN e REPLACE x._key WITH { n: 1 } IN e", json!({})).await, 1233);
    assert_eq!(
        client.rows("FOR x IN e UPDATE x WITH { n: 1 } IN e RETURN NEW._to", json!({})).await,
        json!(["a/x"])
    );
    let stale = "UPDATE { _key: 'k', _rev: 'old' } WITH { m: 2 } IN a OPTIONS { ignoreRevs: false }";
    assert_eq!(client.refusal(stale, json!({})).await, 1200);
    let answer = client.query("REMOVE 'missing' IN a OPTIONS { ignoreErrors: true }", json!({})).await.json();
    assert_eq!(answer["extra"]["stats"]["writesIgnored"], 1);
    double.assert_known();
}

#[tokio::test]
async fn unique_indexes_refuse_what_is_there_already() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let index =
        json!({ "type": "persistent", "name": "by_n", "fields": ["n"], "unique": true, "sparse": true });
    assert_eq!(client.ask("POST", "/_api/index?collection=a", index.clone()).await.status, 201);
    let again = client.ask("POST", "/_api/index?collection=a", index).await;
    assert_eq!((again.status, again.json()["isNewlyCreated"].as_bool()), (200, Some(false)));
    client.rows("FOR n IN [1, null, null] INSERT { n } INTO a", json!({})).await;
    assert_eq!(client.refusal("INSERT { n: 1.0 } INTO a", json!({})).await, 1210);
    // All or nothing: the first of the two is not there either.
    assert_eq!(client.refusal("FOR n IN [7, 1] INSERT { n } INTO a", json!({})).await, 1210);
    assert_eq!(client.rows("RETURN LENGTH(a)", json!({})).await, json!([3]));
    double.assert_known();
}

#[tokio::test]
async fn plans_name_the_index_of_each_loop() {
    let (double, client) = server().await;
    collections(&client, &["a", "e*"]).await;
    for index in [
        json!({ "type": "persistent", "name": "by_ord", "fields": ["ord"] }),
        json!({ "type": "persistent", "name": "open_ord", "fields": ["open", "ord"], "sparse": true }),
        json!({ "type": "persistent", "name": "purge", "fields": ["purgeMs"], "sparse": true }),
    ] {
        assert_eq!(client.ask("POST", "/_api/index?collection=a", index).await.status, 201);
    }
    let scan = "EnumerateCollectionNode";
    for (query, node) in [
        ("FOR x IN a RETURN x", scan),
        ("FOR x IN a FILTER x._key == 'k' RETURN x", "primary"),
        ("FOR u IN [{ k: 'k' }] FOR x IN a FILTER x._key == u.k AND x.n == 1 RETURN x", "primary"),
        ("FOR i IN ['a/1'] FOR x IN a FILTER x._id == i RETURN x", "primary"),
        ("FOR x IN e FILTER x._from == 'a/1' RETURN x", "edge"),
        ("FOR x IN e FILTER x._to IN ['a/1'] RETURN x", "edge"),
        ("FOR x IN a FILTER x.ord > '' SORT x.ord LIMIT 5 RETURN x", "by_ord"),
        ("FOR x IN a SORT x.ord DESC LIMIT 5 RETURN x", "by_ord"),
        ("FOR x IN a FILTER x.open == 1 AND x.ord > '' SORT x.ord LIMIT 5 RETURN x", "open_ord"),
        // A sparse index lacks documents that these conditions let through.
        ("FOR x IN a FILTER x.open == 1 RETURN x", scan),
        ("FOR x IN a FILTER x.purgeMs <= 5 RETURN x", scan),
        ("FOR x IN a FILTER x.purgeMs > 0 AND x.purgeMs <= 5 RETURN x", "purge"),
        ("FOR x IN a FILTER x.n == 1 RETURN x", scan),
        ("FOR x IN a OPTIONS { disableIndex: true } FILTER x._key == 'k' RETURN x", scan),
    ] {
        let plan =
            client.ask("POST", "/_api/explain", json!({ "query": query })).await.json()["plan"].clone();
        let nodes = plan["nodes"].as_array().unwrap();
        let of_collection: Vec<&Value> = nodes.iter().filter(|node| !node["collection"].is_null()).collect();
        let [told] = of_collection.as_slice() else { panic!("{query}: {plan}") };
        let found = told["indexes"][0]["name"].as_str().or(told["type"].as_str());
        assert_eq!(found, Some(node), "{query}");
        assert!(!nodes.iter().any(|node| node["type"] == "SortNode"), "{query}");
    }
    for (query, scans) in [
        ("UPSERT { _key: 'k' } INSERT { _key: 'k' } UPDATE {} IN a", false),
        ("UPSERT { _from: 'a/1', _to: 'a/2' } INSERT { _from: 'a/1', _to: 'a/2' } UPDATE {} IN e", false),
        ("UPSERT { ord: 1 } INSERT { ord: 1 } UPDATE {} IN a", false),
        ("UPSERT { n: 1 } INSERT { n: 1 } UPDATE {} IN a", true),
    ] {
        let answer = client.ask("POST", "/_api/explain", json!({ "query": query })).await;
        assert_eq!(answer.text.contains(scan), scans, "{query}: {}", answer.text);
    }
    let forced = "FOR x IN a OPTIONS { indexHint: 'by_ord', forceIndexHint: true } FILTER x.n == 1 RETURN x";
    assert_eq!(client.refusal(forced, json!({})).await, 1577);
    double.assert_known();
}

#[tokio::test]
async fn indexes_give_what_a_scan_gives() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let docs =
        "FOR i IN 0..99 INSERT { _key: CONCAT('k', i), n: i % 7, m: i % 3 == 0 ? null : i % 5 } INTO a";
    client.rows(docs, json!({})).await;
    let index = json!({ "type": "persistent", "name": "nm", "fields": ["n", "m"] });
    assert_eq!(client.ask("POST", "/_api/index?collection=a", index).await.status, 201);
    let sparse = json!({ "type": "persistent", "name": "s", "fields": ["s"], "sparse": true });
    assert_eq!(client.ask("POST", "/_api/index?collection=a", sparse).await.status, 201);
    // Documents that change move in the indexes, and enter and leave the sparse one.
    for change in ["{ n: (x.n + 3) % 7, s: x.m }", "{ s: x.s == 1 ? null : x.n }"] {
        client.rows(&format!("FOR x IN a UPDATE x WITH {change} IN a"), json!({})).await;
    }
    // By its first field alone.
    let upsert =
        "UPSERT { n: 3, q: 9 } INSERT { n: 3, q: 9 } UPDATE { seen: 1 } IN a RETURN [OLD == null, NEW.seen]";
    for written in [json!([[true, null]]), json!([[false, 1]])] {
        let answer = client.query(upsert, json!({})).await.json();
        assert_eq!((&answer["result"], &answer["extra"]["stats"]["scannedFull"]), (&written, &json!(0)));
    }
    for condition in [
        "x.n == 3",
        "x.n == 3 AND x.m == null",
        "x.n == 3 AND x.m > 1",
        "x.n == 3 AND x.m >= 1 AND x.m < 4",
        "x.n IN [1, 2]",
        "x.n > 2 AND x.n <= 4",
        "x.n < 3",
        "x.n IN [6, 1] AND x.m == 2",
        "x.n == 2 AND x.m <= 1",
        "x.n >= null",
        "x.s > 1",
        "x.s == 3",
    ] {
        for order in ["x.n, x.m", "x.n DESC, x.m DESC", "x._key"] {
            let query = |options: &str| {
                let sort = format!("SORT {order}");
                let inner = format!("FOR x IN a {options} FILTER {condition} {sort} RETURN [x.n, x.m]");
                format!("LET r = ({inner}) RETURN r")
            };
            let by_index = client.rows(&query(""), json!({})).await;
            let by_scan = client.rows(&query("OPTIONS { disableIndex: true }"), json!({})).await;
            assert_eq!(by_index, by_scan, "{condition}, {order}");
            assert_ne!(by_index, json!([[]]), "{condition} tests nothing");
        }
    }
    double.assert_known();
}

#[tokio::test]
async fn numbers_come_back_as_the_server_gives_them() {
    let (_double, client) = server().await;
    collections(&client, &["a"]).await;
    let body = r#"{"query":"INSERT @d INTO a RETURN UNSET(NEW,'_key','_id','_rev')","bindVars":{"d":{"whole":1.0,"half":1.5,"big":9007199254740993,"double":9007199254740992.0,"low":-9223372036854775808,"exp":1e300}}}"#;
    let answer = client.try_send("POST", "/_db/tests/_api/cursor", body, "").await.unwrap();
    let expected = r#"{"whole":1,"half":1.5,"big":9007199254740993,"double":9007199254740992.0,"low":-9223372036854775808,"exp":1e300}"#;
    assert!(answer.text.contains(expected), "{}", answer.text);
    let twice = r#"{"query":"RETURN @d","bindVars":{"d":{"a":1,"a":2}}}"#;
    assert_eq!(client.try_send("POST", "/_db/tests/_api/cursor", twice, "").await.unwrap().number(), 600);
}

#[tokio::test]
async fn warnings_are_told_and_can_be_failures() {
    let (double, client) = server().await;
    let answer = client.query("RETURN 1 / 0", json!({})).await.json();
    assert_eq!((&answer["result"], &answer["extra"]["warnings"][0]["code"]), (&json!([null]), &json!(1562)));
    let body = json!({ "query": "RETURN 1 / 0", "options": { "failOnWarning": true } });
    assert_eq!(client.ask("POST", "/_api/cursor", body).await.number(), 1562);
    double.assert_known();
}
