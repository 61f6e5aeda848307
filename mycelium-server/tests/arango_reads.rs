//! What is read of a mycelium in ArangoDB: in one request each, and past what people have damaged. Against the double of
//! ArangoDB.

#![expect(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

#[expect(dead_code, reason = "each test program uses a part")]
mod arango;
#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

use std::sync::Arc;
use std::time::Duration;

use arangodb_double::{Double, Fault};
use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{Commit, FlowId, FlowNumber, JobId, Timestamp};
use mycelium_core::status::FinalStatus::{self, Cancelled, Done, Failed};
use mycelium_server::store::arango::{ArangoOptions, ArangoStore, init};
use mycelium_server::store::{
    Batch, BlobDigest, BlobRole, BlobUse, ElfRecord, Error, FinishedQuery, FlowQuery, JobAfter, Log as _,
    Reads as _, RevisionRecord,
};
use serde_json::{Value, json};

use self::arango::{DATABASE, address, ask, start};
use self::store_suite::{created, failure, finish, finished, flow, flow_record, job, jobs, live, seen};
use self::store_suite::{revision, submission, submission_record};

/// A mycelium with some of everything.
async fn mycelium(double: &Double) -> ArangoStore {
    init(&address(double), "default").await.unwrap();
    let options = ArangoOptions { blobs: "unused".into(), lease: Duration::from_secs(60) };
    let store = ArangoStore::open_at(&address(double), "default", options).await.unwrap();
    let flows = (1..=5).map(|number| flow_record(number, "weekly"));
    let ends = [Done, Failed, Cancelled, Done, Failed, Cancelled];
    let ended = (1..)
        .zip(ends)
        .map(|(number, end)| created(number, &[], finish(finished(number, u64::from(number), end))));
    let waiting = created(7, &[1, 2], JobAfter::Live(live(7)));
    let mut batch = Batch {
        records: Records {
            flows: flows.collect(),
            submissions: vec![submission_record(1, false)],
            ..Records::default()
        },
        elves: vec![elf("scale"), elf("storage")],
        revisions: vec![kept("task_weigh"), kept("")],
        failures: (1..=3).map(|number| seen(number, 2, u64::from(number), "broken")).collect(),
        blob_uses_begun: vec![used(1), used(2)],
        ..jobs(ended.chain([waiting]).collect())
    };
    batch.counters.commit = Commit(1);
    store.commit(&batch).await.unwrap();
    store
}

fn elf(name: &str) -> ElfRecord {
    let body = Bytes::from_static(b"\xff");
    ElfRecord { name: name.into(), body, first_seen: Timestamp(1), last_seen: Timestamp(2) }
}

fn kept(task: &str) -> RevisionRecord {
    let body = Bytes::from_static(b"\xff");
    let (elf, task) = ("scale".into(), task.into());
    RevisionRecord { elf, task, revision: revision(1), first_seen: Timestamp(1), body }
}

fn used(number: u8) -> BlobUse {
    BlobUse { blob: BlobDigest::new([number; 32]), job: job(number), role: BlobRole::Kept }
}

fn listed(statuses: &[FinalStatus], limit: usize) -> FinishedQuery {
    FinishedQuery { statuses: statuses.to_vec(), limit, ..FinishedQuery::default() }
}

/// Changes a document as people can.
async fn edit(double: &Double, collection: &str, key: &str, change: Value) {
    ask(double, "PATCH", DATABASE, &format!("_api/document/{collection}/{key}"), change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_read_is_one_request() {
    let double = start().await;
    let store = mycelium(&double).await;
    let ids: Vec<JobId> = (1..=9).map(job).collect();
    let names: Vec<Arc<str>> = vec!["scale".into(), "nobody".into()];
    macro_rules! is_one_request {
        ($($read:expr),+ $(,)?) => {$(
            double.reset_counters();
            let _read = $read.await.unwrap();
            let counters = double.counters();
            assert_eq!(counters.requests.get("POST /_api/cursor"), Some(&1), "{}", stringify!($read));
            assert_eq!(counters.requests_in_all(), 1, "{}", stringify!($read));
        )+};
    }
    is_one_request!(
        store.specs(&ids),
        store.outlines(&ids),
        store.unfinished(&ids),
        store.finished(&ids),
        store.outputs(&ids),
        store.list_finished(&listed(&[], 3)),
        store.list_finished(&listed(&[Failed, Cancelled], 3)),
        store.dependents(&ids, None, 10),
        store.flows(&[flow(1), flow(9)]),
        store.flow_named("weekly"),
        store.flow_named("never"),
        store.list_flows(&FlowQuery { limit: 2, ..FlowQuery::default() }),
        store.submissions(&[submission(1), submission(2)]),
        store.list_submissions(None, 10),
        store.elves(&names),
        store.list_elves(None, 10),
        store.revisions(&[("scale".into(), "".into(), revision(1))]),
        store.list_revisions("scale", None, 10),
        store.failures(&[failure(1), failure(9)]),
        store.list_failures(None, 2),
        store.occurrences_of(&[(failure(1), job(2)), (failure(1), job(3))]),
        store.list_occurrences(failure(1), None, 10),
        store.blob_uses(&[used(1).blob, used(2).blob], None, 10),
        store.list_blob_uses(None, 10),
        store.checkpoints(&ids),
        store.list_checkpoints(None, 10),
    );
    // Nothing is asked where nothing is wanted.
    double.reset_counters();
    assert_eq!(store.specs(&[]).await.unwrap(), []);
    assert_eq!(store.dependents(&[], None, 10).await.unwrap(), []);
    assert_eq!(double.counters().requests_in_all(), 0);
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_statuses_reads_no_more_than_any() {
    let double = start().await;
    let store = mycelium(&double).await;
    for limit in 1..8 {
        let mut query = listed(&[Failed, Cancelled], limit);
        let mut numbers = Vec::new();
        loop {
            let page = store.list_finished(&query).await.unwrap();
            assert!(page.entries_read <= limit + 1, "{page:?}");
            numbers.extend(page.jobs.iter().map(|job| job.finish_number.0));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(numbers, [6, 5, 3, 2], "pages of {limit}");
    }
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_have_damaged_is_named_and_the_rest_is_read() {
    let double = start().await;
    let store = mycelium(&double).await;
    let damaged = |error: Error, name: &str| {
        assert!(error.is_damage() && error.to_string().contains(name), "{error}");
    };
    let key = flow(4).to_string();
    edit(&double, "Flows", &key, json!({ "name": ["no", "name"] })).await;
    damaged(store.flows(&[flow(1), flow(4)]).await.unwrap_err(), &format!("Flows/{key}"));
    assert_eq!(store.flows(&[flow(1)]).await.unwrap(), [Some(flow_record(1, "weekly"))]);
    let page = store.list_flows(&FlowQuery { limit: 2, ..FlowQuery::default() }).await.unwrap();
    let numbers: Vec<FlowNumber> = page.flows.iter().map(|flow| flow.number).collect();
    assert_eq!((numbers, page.next), (vec![FlowNumber(5), FlowNumber(3)], Some(FlowNumber(3))));
    assert!(page.damaged.len() == 1 && page.damaged[0].contains(&key), "{:?}", page.damaged);
    // A label leads to a flow that somebody has removed.
    let path = format!("_api/document/Flows/{}", flow(3));
    ask(&double, "DELETE", DATABASE, &path, Value::Null).await;
    let query = FlowQuery { labels: flow_record(3, "weekly").labels, limit: 9, ..FlowQuery::default() };
    let page = store.list_flows(&query).await.unwrap();
    assert!(page.flows.is_empty() && page.damaged[0].contains(&flow(3).to_string()), "{page:?}");

    edit(&double, "Failures", &failure(2).to_string(), json!({ "body": "no base64!" })).await;
    damaged(store.failures(&[failure(2)]).await.unwrap_err(), "Failures/");
    let page = store.list_failures(None, 2).await.unwrap();
    let ids: Vec<_> = page.entries.iter().map(|(_, record)| record.id).collect();
    assert_eq!((ids, page.damaged.len()), (vec![failure(3), failure(1)], 1));

    edit(&double, "Jobs", &job(5).to_string(), json!({ "end_date": null })).await;
    damaged(store.finished(&[job(5)]).await.unwrap_err(), &job(5).to_string());
    let page = store.list_finished(&listed(&[], 9)).await.unwrap();
    let numbers: Vec<_> = page.jobs.iter().map(|job| job.finish_number.0).collect();
    assert_eq!((numbers, page.damaged.len()), (vec![6, 4, 3, 2, 1], 1));

    edit(&double, "MachineElves", "storage", json!({ "body": 7 })).await;
    damaged(store.list_elves(None, 9).await.unwrap_err(), "MachineElves/storage");
    assert_eq!(store.elves(&["scale".into()]).await.unwrap(), [Some(elf("scale"))]);
    // What is only for people is theirs.
    edit(&double, "MachineElves", "scale", json!({ "documentation": 7, "color": "green" })).await;
    assert_eq!(store.elves(&["scale".into()]).await.unwrap(), [Some(elf("scale"))]);
    double.assert_known();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_one_answer_is_read_in_several() {
    let double = start().await;
    let store = mycelium(&double).await;
    let ids: Vec<FlowId> = (1..=5).map(flow).collect();
    double.reset_counters();
    // More than the server lets a statement take of its memory.
    double.faults().next.extend([Fault::Refuse(32), Fault::Refuse(32)]);
    let expected: Vec<_> = (1..=5).map(|number| Some(flow_record(number, "weekly"))).collect();
    assert_eq!(store.flows(&ids).await.unwrap(), expected);
    assert_eq!(double.counters().requests_in_all(), 5, "of 5 keys 3, and of these 2 and 1, and the other 2");
    double.faults().next.push_back(Fault::Refuse(32));
    assert!(store.flows(&ids[..1]).await.is_err(), "one is not halved");
    double.assert_known();
}
