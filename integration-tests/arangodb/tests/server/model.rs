//! A model in which the database counts dependencies: jobs, their edges, results, failures. Its statements are as long
//! as any that a store will send.

use serde_json::{Value, json};

use crate::client::{Client, collections, server};

const FENCE: &str = "LET f = (FOR x IN BrokerLeases FILTER x._key == @lane AND x.epoch == @epoch
         UPDATE x._key WITH { seq: x.seq + 1 } IN BrokerLeases RETURN 1)";

const SUBMIT: &str = r#"
/*FENCE*/
LET j = (FOR ok IN f FOR d IN @jobs INSERT d INTO Jobs
         OPTIONS { overwriteMode: "ignore", waitForSync: true } RETURN NEW == null ? null : NEW._key)
LET e = (FOR ok IN f FOR d IN @deps INSERT d INTO JobToJob OPTIONS { overwriteMode: "ignore" } RETURN 1)
LET p = (FOR ok IN f FOR d IN @params INSERT d INTO Parameters OPTIONS { overwriteMode: "ignore" } RETURN 1)
LET q = (FOR ok IN f FOR d IN @jobParams INSERT d INTO JobParameters OPTIONS { overwriteMode: "ignore" } RETURN 1)
RETURN { fenced: LENGTH(f) == 0, created: j[* FILTER CURRENT != null], edges: LENGTH(e), params: LENGTH(p) + LENGTH(q) }"#;

const TRANSITION: &str = r#"
/*FENCE*/
LET done = (FOR ok IN f FOR u IN @set FOR j IN Jobs
  FILTER j._key == u.k AND j.attempt == u.a AND j.state IN u.from
  UPDATE j._key WITH u.patch IN Jobs OPTIONS { keepNull: false, mergeObjects: false, waitForSync: true }
  RETURN NEW._key)
RETURN { fenced: LENGTH(f) == 0, done }"#;

const COMPLETE: &str = r#"
/*FENCE*/
LET fin = (FOR ok IN f FOR u IN @done FOR j IN Jobs
  FILTER j._key == u.k AND j.attempt == u.a AND j.state == "running"
  RETURN { k: j._key, patch: u.patch, results: u.results })
LET kids = (FOR x IN fin FOR e IN JobToJob FILTER e._from == CONCAT("Jobs/", x.k)
  COLLECT id = e._to WITH COUNT INTO n RETURN { id, n })
LET wake = (FOR c IN kids FOR j IN Jobs FILTER j._id == c.id AND j.state == "blocked"
  LET rest = j.pending - c.n
  RETURN { k: j._key, patch: rest > 0 ? { pending: rest } : { pending: 0, state: "ready" } })
LET r = (FOR x IN fin FOR d IN x.results INSERT d INTO Results OPTIONS { overwriteMode: "replace" } RETURN 1)
LET w = (FOR y IN APPEND(fin, wake)
  UPDATE y.k WITH y.patch IN Jobs OPTIONS { keepNull: false, mergeObjects: false, waitForSync: true }
  RETURN { k: NEW._key, state: NEW.state })
RETURN { fenced: LENGTH(f) == 0, done: fin[*].k, changed: w, results: LENGTH(r) }"#;

const FAILURES: &str = r#"
/*FENCE*/
LET hit = (FOR ok IN f FOR u IN @set FOR j IN Jobs
  FILTER j._key == u.k AND j.attempt == u.a AND j.state == "running"
  RETURN { k: j._key, patch: u.patch, edge: u.edge, failure: u.failure })
LET known = (FOR x IN Failures FILTER x._key IN hit[*].failure._key RETURN x._key)
LET a = (FOR h IN hit FILTER h.failure._key NOT IN known
  COLLECT k = h.failure._key INTO g = h.failure
  INSERT g[0] INTO Failures OPTIONS { overwriteMode: "ignore" } RETURN 1)
LET b = (FOR h IN hit INSERT h.edge INTO JobFailures OPTIONS { overwriteMode: "ignore" } RETURN 1)
LET c = (FOR h IN hit UPDATE h.k WITH h.patch IN Jobs
  OPTIONS { keepNull: false, mergeObjects: false, waitForSync: true } RETURN NEW._key)
RETURN { fenced: LENGTH(f) == 0, done: c, newFailures: LENGTH(a), edges: LENGTH(b) }"#;

const CASCADE: &str = r#"
LET down = (FOR r IN @roots
  FOR v IN 1..1000 OUTBOUND r GRAPH "Jobs_graph" OPTIONS { order: "bfs", uniqueVertices: "global" }
  FILTER v.state == "blocked" RETURN DISTINCT v._key)
/*FENCE*/
FOR ok IN f FOR k IN down
  UPDATE k WITH { state: "upstream_failed", open: null, purgeMs: @purgeMs } IN Jobs
  OPTIONS { keepNull: false, waitForSync: true } RETURN NEW._key"#;

const LIST: &str = r#"
FOR j IN Jobs FILTER j.ord > @after SORT j.ord LIMIT @n RETURN KEEP(j, "_key", "ord", "state", "task", "machine_elf")"#;

const RECOVERY: &str = r#"
FOR j IN Jobs OPTIONS { indexHint: "open_ord", forceIndexHint: true }
  FILTER j.open == 1 AND j.ord > @after SORT j.ord LIMIT @n RETURN UNSET(j, "_id", "_rev")"#;

const RECOUNT: &str = r#"
FOR id IN @ids
  LET n = LENGTH(FOR e IN JobToJob FILTER e._to == id
                 FOR p IN Jobs FILTER p._id == e._from AND p.state != "done" RETURN 1)
  RETURN { id, n }"#;

const RETENTION: &str = r#"
LET v = (FOR j IN Jobs FILTER j.purgeMs > 0 AND j.purgeMs <= @nowMs SORT j.purgeMs LIMIT @n
  FILTER LENGTH(FOR e IN JobToJob FILTER e._from == j._id
                FOR c IN Jobs FILTER c._id == e._to AND c.open == 1 LIMIT 1 RETURN 1) == 0
  RETURN j._key)
LET ids = v[* RETURN CONCAT("Jobs/", CURRENT)]
LET dd = UNION_DISTINCT((FOR i IN ids FOR e IN JobToJob FILTER e._from == i RETURN e._key),
                        (FOR i IN ids FOR e IN JobToJob FILTER e._to == i RETURN e._key))
LET pp = (FOR i IN ids FOR e IN JobParameters FILTER e._from == i RETURN { k: e._key, id: e._to })
LET px = (FOR id IN UNIQUE(pp[*].id) FOR p IN Parameters FILTER p._id == id RETURN p._key)
LET ff = (FOR i IN ids FOR e IN JobFailures FILTER e._from == i RETURN e._key)
LET rr = (FOR k IN v FOR r IN Results FILTER r.job == k RETURN r._key)
/*FENCE*/
LET a = (FOR ok IN f FOR k IN dd REMOVE k IN JobToJob RETURN 1)
LET b = (FOR ok IN f FOR x IN pp REMOVE x.k IN JobParameters RETURN 1)
LET c = (FOR ok IN f FOR k IN px REMOVE k IN Parameters RETURN 1)
LET d = (FOR ok IN f FOR k IN ff REMOVE k IN JobFailures RETURN 1)
LET e = (FOR ok IN f FOR k IN rr REMOVE k IN Results RETURN 1)
LET g = (FOR ok IN f FOR k IN v REMOVE k IN Jobs RETURN 1)
RETURN { fenced: LENGTH(f) == 0, jobs: LENGTH(g) }"#;

/// The rows of a statement under the fence of the first epoch.
async fn fenced(client: &Client, statement: &str, mut binds: Value) -> Value {
    binds["lane"] = json!("fence-0");
    binds["epoch"] = json!(1);
    client.rows(&statement.replace("/*FENCE*/", FENCE), binds).await
}

async fn model(client: &Client) {
    collections(client, &["Jobs", "Parameters", "Results", "Failures", "BrokerLeases"]).await;
    collections(client, &["JobToJob*", "JobParameters*", "JobFailures*"]).await;
    for (collection, index) in [
        ("Jobs", json!({ "type": "persistent", "name": "by_ord", "fields": ["ord"] })),
        (
            "Jobs",
            json!({ "type": "persistent", "name": "open_ord", "fields": ["open", "ord"], "sparse": true }),
        ),
        ("Jobs", json!({ "type": "persistent", "name": "purge", "fields": ["purgeMs"], "sparse": true })),
        ("Results", json!({ "type": "persistent", "name": "by_job", "fields": ["job"] })),
    ] {
        let path = format!("/_api/index?collection={collection}");
        assert_eq!(client.ask("POST", &path, index).await.status, 201);
    }
    let graph = json!({
        "name": "Jobs_graph",
        "edgeDefinitions": [{ "collection": "JobToJob", "from": ["Jobs"], "to": ["Jobs"] }],
    });
    assert_eq!(client.ask("POST", "/_api/gharial", graph).await.status, 202);
    client.rows("INSERT { _key: 'fence-0', epoch: 1, seq: 0 } INTO BrokerLeases", json!({})).await;
}

/// Two parents of one child, and a child of that.
async fn submit(client: &Client) -> Value {
    let job = |key: &str, state: &str, pending: u64| json!({ "_key": key, "ord": format!("0{key}"), "state": state, "attempt": 1, "open": 1, "pending": pending });
    let edge = |from: &str, to: &str| json!({ "_key": format!("{from}.{to}"), "_from": format!("Jobs/{from}"), "_to": format!("Jobs/{to}") });
    let jobs =
        [job("a", "running", 0), job("b", "running", 0), job("c", "blocked", 2), job("d", "blocked", 1)];
    let binds = json!({
        "jobs": jobs,
        "deps": [edge("a", "c"), edge("b", "c"), edge("c", "d")],
        "params": [{ "_key": "p", "value": [1, 2] }],
        "jobParams": [{ "_key": "a.x", "_from": "Jobs/a", "_to": "Parameters/p", "name": "x" }],
    });
    fenced(client, SUBMIT, binds).await
}

fn done(key: &str) -> Value {
    let patch = json!({ "state": "done", "open": null, "purgeMs": 5 });
    json!({ "k": key, "a": 1, "patch": patch, "results": [{ "_key": format!("{key}.r"), "job": key, "value": 1 }] })
}

#[tokio::test]
async fn jobs_are_submitted_completed_and_woken() {
    let (double, client) = server().await;
    model(&client).await;
    let created = json!([{ "fenced": false, "created": ["a", "b", "c", "d"], "edges": 3, "params": 2 }]);
    assert_eq!(submit(&client).await, created);
    assert_eq!(submit(&client).await[0]["created"], json!([]), "a repeat creates nothing");
    let finished = fenced(&client, COMPLETE, json!({ "done": [done("a")] })).await;
    assert_eq!(
        finished[0]["changed"],
        json!([{ "k": "a", "state": "done" }, { "k": "c", "state": "blocked" }])
    );
    let again = fenced(&client, COMPLETE, json!({ "done": [done("a")] })).await;
    assert_eq!(again[0]["changed"], json!([]), "a repeat does not count twice");
    let finished = fenced(&client, COMPLETE, json!({ "done": [done("b")] })).await;
    assert_eq!(finished[0]["changed"][1], json!({ "k": "c", "state": "ready" }));
    let start = json!([{ "k": "c", "a": 1, "from": ["ready"], "patch": { "state": "running" } }]);
    assert_eq!(fenced(&client, TRANSITION, json!({ "set": start })).await[0]["done"], json!(["c"]));
    let open = client.rows(RECOVERY, json!({ "after": "", "n": 10 })).await;
    assert_eq!((open[0]["state"].as_str(), open[1]["_key"].as_str()), (Some("running"), Some("d")));
    let pending = client.rows(RECOUNT, json!({ "ids": ["Jobs/c", "Jobs/d"] })).await;
    assert_eq!(pending, json!([{ "id": "Jobs/c", "n": 0 }, { "id": "Jobs/d", "n": 1 }]));
    let page = client.rows(LIST, json!({ "after": "0a", "n": 2 })).await;
    assert_eq!((page[0]["ord"].as_str(), page[1]["ord"].as_str()), (Some("0b"), Some("0c")));
    double.assert_known();
}

#[tokio::test]
async fn failures_are_stored_once_and_spread_to_dependents() {
    let (double, client) = server().await;
    model(&client).await;
    submit(&client).await;
    let failed = |key: &str| {
        json!({
            "k": key, "a": 1, "patch": { "state": "failed", "open": null },
            "failure": { "_key": "f", "type": "Error" },
            "edge": { "_key": format!("{key}.1"), "_from": format!("Jobs/{key}"), "_to": "Failures/f" },
        })
    };
    let both = fenced(&client, FAILURES, json!({ "set": [failed("a"), failed("b")] })).await;
    assert_eq!(both, json!([{ "fenced": false, "done": ["a", "b"], "newFailures": 1, "edges": 2 }]));
    let down = fenced(&client, CASCADE, json!({ "roots": ["Jobs/a", "Jobs/b"], "purgeMs": 7 })).await;
    assert_eq!(down, json!(["c", "d"]));
    let removed = fenced(&client, RETENTION, json!({ "nowMs": 10, "n": 100 })).await;
    assert_eq!(removed, json!([{ "fenced": false, "jobs": 2 }]));
    let left: Vec<Value> =
        double.documents("tests", "Jobs").unwrap().iter().map(|job| job["_key"].clone()).collect();
    assert_eq!(left, [json!("a"), json!("b")]);
    double.assert_known();
}

#[tokio::test]
async fn no_statement_of_the_model_scans_a_collection() {
    let (double, client) = server().await;
    model(&client).await;
    let lane = json!({ "lane": "fence-0", "epoch": 1 });
    for (statement, binds) in [
        (SUBMIT, json!({ "jobs": [], "deps": [], "params": [], "jobParams": [] })),
        (TRANSITION, json!({ "set": [] })),
        (COMPLETE, json!({ "done": [] })),
        (FAILURES, json!({ "set": [] })),
        (CASCADE, json!({ "roots": [], "purgeMs": 1 })),
        (LIST, json!({ "after": "", "n": 1 })),
        (RECOVERY, json!({ "after": "", "n": 1 })),
        (RECOUNT, json!({ "ids": [] })),
        (RETENTION, json!({ "nowMs": 1, "n": 1 })),
    ] {
        let mut binds = binds;
        if statement.contains("/*FENCE*/") {
            for (name, value) in lane.as_object().unwrap() {
                binds[name] = value.clone();
            }
        }
        let body = json!({ "query": statement.replace("/*FENCE*/", FENCE), "bindVars": binds });
        let answer = client.ask("POST", "/_api/explain", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("EnumerateCollectionNode"), "{statement}: {}", answer.text);
    }
    double.assert_known();
}
