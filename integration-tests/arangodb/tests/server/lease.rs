//! The fence and the lease: whoever lost it writes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, collections, server};

const FENCED: &str = r#"
LET f = (FOR x IN BrokerLeases FILTER x._key == @lane AND x.epoch == @epoch
         UPDATE x._key WITH { seq: x.seq + 1 } IN BrokerLeases RETURN 1)
LET j = (FOR ok IN f FOR d IN @jobs INSERT d INTO Jobs
         OPTIONS { overwriteMode: "ignore", waitForSync: true } RETURN NEW == null ? null : NEW._key)
RETURN { fenced: LENGTH(f) == 0, created: j[* FILTER CURRENT != null] }"#;

const ACQUIRE: &str = r#"
LET l = FIRST(FOR x IN BrokerLeases FILTER x._key == "owner" RETURN x)
LET now = DATE_NOW()
FOR x IN BrokerLeases
  FILTER l.expiresMs < now OR l.owner == @me
  UPDATE x._key WITH (x._key == "owner" ? { owner: @me, epoch: l.epoch + 1, expiresMs: now + @ttlMs }
                                        : { epoch: l.epoch + 1, seq: 0 })
  IN BrokerLeases OPTIONS { waitForSync: true, exclusive: true } RETURN NEW.epoch"#;

const RENEW: &str = r#"
FOR x IN BrokerLeases FILTER x._key == "owner" AND x.epoch == @epoch
  UPDATE x._key WITH { expiresMs: DATE_NOW() + @ttlMs } IN BrokerLeases RETURN NEW.expiresMs"#;

async fn acquire(client: &Client, me: &str, ttl_ms: i64) -> Value {
    client.rows(ACQUIRE, json!({ "me": me, "ttlMs": ttl_ms })).await
}

async fn submit(client: &Client, epoch: u64, key: &str) -> Value {
    let binds = json!({ "lane": "fence-0", "epoch": epoch, "jobs": [{ "_key": key }] });
    client.rows(FENCED, binds).await[0].clone()
}

async fn prepare(client: &Client) {
    collections(client, &["Jobs", "BrokerLeases"]).await;
    let leases = json!({ "leases": [
        { "_key": "owner", "epoch": 0, "expiresMs": 0 },
        { "_key": "fence-0", "epoch": 0, "seq": 0 },
        { "_key": "fence-1", "epoch": 0, "seq": 0 },
    ] });
    let bootstrap = r#"FOR d IN @leases INSERT d INTO BrokerLeases OPTIONS { overwriteMode: "ignore" }"#;
    for _ in 0..2 {
        client.rows(bootstrap, leases.clone()).await;
    }
}

#[tokio::test]
async fn a_lease_has_one_owner_and_its_epoch_fences_writes() {
    let (double, client) = server().await;
    prepare(&client).await;
    assert_eq!(acquire(&client, "one", 60_000).await, json!([1, 1, 1]));
    assert_eq!(submit(&client, 1, "a").await, json!({ "fenced": false, "created": ["a"] }));
    // A repeat creates nothing.
    assert_eq!(submit(&client, 1, "a").await, json!({ "fenced": false, "created": [] }));
    assert_eq!(acquire(&client, "two", 60_000).await, json!([]), "the lease is held");
    double.faults().clock_ahead_ms = 120_000;
    assert_eq!(acquire(&client, "two", 60_000).await, json!([2, 2, 2]));
    assert_eq!(submit(&client, 1, "b").await, json!({ "fenced": true, "created": [] }));
    assert_eq!(client.rows(RENEW, json!({ "epoch": 1, "ttlMs": 60_000 })).await, json!([]));
    assert_eq!(client.rows(RENEW, json!({ "epoch": 2, "ttlMs": 60_000 })).await.as_array().unwrap().len(), 1);
    assert_eq!(submit(&client, 2, "b").await, json!({ "fenced": false, "created": ["b"] }));
    double.assert_known();
}

#[tokio::test]
async fn after_a_takeover_nothing_of_the_old_epoch_is_written() {
    let (double, client) = server().await;
    prepare(&client).await;
    acquire(&client, "one", -1).await;
    double.faults().slow_commit = Duration::from_millis(20);
    // The old owner writes on and on while another takes its lease.
    let writes = async {
        for n in 0..1_000 {
            let binds = json!({ "lane": "fence-0", "epoch": 1, "jobs": [{ "_key": format!("j{n}") }] });
            let answer = client.query(FENCED, binds).await;
            if answer.status == 201 && answer.json()["result"][0]["fenced"] == true {
                return n;
            }
        }
        panic!("the old owner was never fenced");
    };
    let takeover = async {
        let epochs = acquire(&client, "two", 60_000).await;
        (epochs, double.documents("tests", "Jobs").unwrap().len())
    };
    let (_, (epochs, at_takeover)) = tokio::join!(writes, takeover);
    assert_eq!(epochs, json!([2, 2, 2]));
    assert_eq!(double.documents("tests", "Jobs").unwrap().len(), at_takeover, "written after the takeover");
    double.assert_known();
}

#[tokio::test]
async fn two_statements_on_one_lane_conflict_and_on_two_lanes_do_not() {
    let (double, client) = server().await;
    prepare(&client).await;
    acquire(&client, "one", 60_000).await;
    double.faults().slow_commit = Duration::from_millis(1_000);
    let run = |lane: &str, key: &str| {
        let binds = json!({ "lane": lane, "epoch": 1, "jobs": [{ "_key": key }] });
        let client = client.clone();
        async move { client.query(FENCED, binds).await.status }
    };
    let (one, other) = tokio::join!(run("fence-0", "a"), run("fence-0", "b"));
    let mut statuses = [one, other];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!(tokio::join!(run("fence-0", "c"), run("fence-1", "d")), (201, 201));
    double.assert_known();
}
