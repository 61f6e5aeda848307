//! A mycelium is created in a database: all of it, once, whoever does it and whatever happens meanwhile, and nothing that
//! was there is touched. Against the double of ArangoDB.

#![expect(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod arango;

use arangodb_double::{Access, Double, ROOT};
use futures::future::join_all;
use mycelium_server::store::arango::{FindingKind, Report, check, init};
use serde_json::{Value, json};

use self::arango::{Cut, DATABASE, address, ask, start};

/// What a look at the one mycelium finds.
async fn look(double: &Double) -> Report {
    let mut reports = check(&address(double), Some("default")).await.unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[track_caller]
fn assert_good(report: &Report) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// The documents that a mycelium begins with, by collection and key.
fn first_documents(double: &Double) -> Vec<(String, Value)> {
    let names = ["BrokerLeases", "BrokerRecords"];
    let documents = names.iter().flat_map(|name| double.documents(DATABASE, name).unwrap());
    let without_revision = documents.map(|mut document| {
        let fields = document.as_object_mut().unwrap();
        fields.remove("_rev");
        fields.remove("_key");
        (fields.remove("_id").unwrap().as_str().unwrap().to_owned(), document)
    });
    without_revision.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_mycelium_is_created_and_the_second_time_nothing() {
    let double = start().await;
    assert!(init(&address(&double), "default").await.unwrap());
    assert_good(&look(&double).await);
    let written = first_documents(&double);
    // Tells this mycelium from another of its name, whose large values a folder may hold.
    let id = written.last().and_then(|(_, format)| format["mycelium"].as_str()).unwrap_or_default();
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{written:?}");
    let expected = [
        ("BrokerLeases/fence-0", json!({"epoch": 0, "seq": 0})),
        ("BrokerLeases/owner", json!({"owner": "", "epoch": 0, "expiresMs": 0})),
        ("BrokerRecords/counters", json!({"kind": "counters"})),
        ("BrokerRecords/format", json!({"kind": "format", "version": 1, "mycelium": id})),
    ];
    assert_eq!(written, expected.map(|(id, document)| (id.to_owned(), document)));

    double.reset_counters();
    assert!(!init(&address(&double), "default").await.unwrap());
    let written: Vec<_> =
        double.counters().requests.into_keys().filter(|it| !it.starts_with("GET ")).collect();
    assert_eq!(written, ["POST /_open/auth"], "nothing is created twice");
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn mycelia_have_databases_of_their_own() {
    let double = start().await;
    for mycelium in ["default", "north"] {
        assert!(init(&address(&double), mycelium).await.unwrap());
    }
    let reports = check(&address(&double), None).await.unwrap();
    let names: Vec<_> = reports.iter().map(|report| (&*report.mycelium, &*report.database)).collect();
    assert_eq!(names, [("default", "BLUMYC_default"), ("north", "BLUMYC_north")]);
    reports.iter().for_each(assert_good);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_create_a_mycelium_at_once_all_find_it_whole() {
    let double = start().await;
    let address = address(&double);
    for created in join_all((0..4).map(|_| init(&address, "default"))).await {
        created.unwrap();
    }
    assert_good(&look(&double).await);
    assert_eq!(first_documents(&double).len(), 4);
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_creation_ends_the_next_one_completes_it() {
    let mut cuts = 0;
    loop {
        let double = start().await;
        let cut = Cut::after_posts(cuts).await;
        let was_cut = tokio::select! {
            () = cut.served(&double) => true,
            created = init(cut.address(), "default") => {
                created.unwrap();
                false
            }
        };
        if was_cut {
            // What there is may be all of it, if the last request was the one that was not answered.
            init(&address(&double), "default").await.unwrap();
        }
        assert_good(&look(&double).await);
        assert_eq!(first_documents(&double).len(), 4);
        double.assert_known();
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 35, "only {cuts} requests create something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_something_else_is_left_alone() {
    for (collection, document) in [("Orders", json!({"_key": "1"})), ("Jobs", json!({"_key": "mine"}))] {
        let double = start().await;
        ask(&double, "POST", "_system", "_api/database", json!({"name": DATABASE})).await;
        ask(&double, "POST", DATABASE, "_api/collection", json!({"name": collection})).await;
        ask(&double, "POST", DATABASE, &format!("_api/document/{collection}"), document.clone()).await;
        let refused = init(&address(&double), "default").await.unwrap_err();
        assert_eq!(refused.kind, FindingKind::Foreign, "{refused}");
        assert!(refused.line.contains(&format!("`{collection}`")), "{refused}");
        let listed = ask(&double, "GET", DATABASE, "_api/collection", Value::Null).await;
        let names = listed["result"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        // Those of the database itself begin with `_`.
        assert_eq!(names.filter(|name| !name.starts_with('_')).collect::<Vec<_>>(), [collection]);
        let found = look(&double).await.findings.pop().unwrap();
        assert_eq!(found.kind, FindingKind::Foreign, "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_add_to_a_mycelium_stays() {
    let double = start().await;
    let address = address(&double);
    init(&address, "default").await.unwrap();
    ask(&double, "POST", DATABASE, "_api/collection", json!({"name": "Notes"})).await;
    ask(&double, "POST", DATABASE, "_api/document/Notes", json!({"_key": "1"})).await;
    assert!(!init(&address, "default").await.unwrap());
    assert_good(&look(&double).await);
    assert_eq!(double.documents(DATABASE, "Notes").unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_not_as_it_should_be_is_named_and_left() {
    let edges = json!([{"collection": "JobToJob", "from": ["Jobs"], "to": ["Flows"]}]);
    let index = |name: &str, sparse: bool| json!({"type": "persistent", "name": name, "fields": ["open", "ord"], "sparse": sparse});
    let jobs = || ("_api/collection", json!({"name": "Jobs"}));
    for (requests, kind, part) in [
        (vec![("_api/collection", json!({"name": "JobToJob"}))], FindingKind::Collection, "not one of edges"),
        (
            vec![("_api/collection", json!({"name": "Jobs", "type": 3}))],
            FindingKind::Collection,
            "not one of documents",
        ),
        (
            vec![jobs(), ("_api/index?collection=Jobs", index("open_ord", false))],
            FindingKind::Index,
            "`open_ord` (persistent over open, ord) of collection `Jobs`",
        ),
        (
            vec![jobs(), ("_api/index?collection=Jobs", index("mine", true))],
            FindingKind::Index,
            "should be `open_ord` (sparse persistent over open, ord)",
        ),
        (
            vec![("_api/gharial", json!({"name": "Jobs_graph", "edgeDefinitions": edges}))],
            FindingKind::Graph,
            "graph `Jobs_graph`",
        ),
        (
            vec![("_api/gharial", json!({"name": "mine", "edgeDefinitions": edges}))],
            FindingKind::Graph,
            "another graph there goes over its edges otherwise",
        ),
    ] {
        let double = start().await;
        ask(&double, "POST", "_system", "_api/database", json!({"name": DATABASE})).await;
        for (path, body) in requests {
            ask(&double, "POST", DATABASE, path, body).await;
        }
        let refused = init(&address(&double), "default").await.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.line.contains(part) && !refused.line.contains('\n'), "{part}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_all_of_a_mycelium_is_on_one_server_and_there_thrice() {
    let double = start().await;
    {
        let mut faults = double.faults();
        (faults.role, faults.sharding) = ("COORDINATOR".to_owned(), Some("single".to_owned()));
    }
    init(&address(&double), "default").await.unwrap();
    let told = ask(&double, "GET", DATABASE, "_api/database/current", Value::Null).await;
    assert_eq!(
        (&told["result"]["replicationFactor"], &told["result"]["writeConcern"]),
        (&json!(3), &json!(2))
    );
    assert_good(&look(&double).await);
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_create_is_told_who_may() {
    let double = start().await;
    double.add_user("broker", "secret");
    let broker = address(&double).with_credentials("broker", "secret");
    let refused = init(&broker, "default").await.unwrap_err();
    assert!(refused.line.contains("administrate `_system`: mycelium store init http://"), "{refused}");
    // With a database of its own the user may.
    ask(
        &double,
        "POST",
        "_system",
        "_api/database",
        json!({"name": DATABASE, "users": [{"username": ROOT}]}),
    )
    .await;
    double.grant_database("broker", DATABASE, Access::Write);
    assert!(init(&broker, "default").await.unwrap());
    assert_good(&look(&double).await);
}
