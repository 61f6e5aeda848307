use std::collections::BTreeMap;
use std::time::Duration;

use arangodb_double::{Double, Fault, ROOT};
use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob, JobWrite, SpecRecord as Spec};
use mycelium_core::ids::{
    Attempt, Commit, ContentDigest, FailureId, FinishNumber, FlowId, JobId, JobNumber, Revision, SessionId,
    SubmissionId, Timestamp,
};
use mycelium_core::image::{Counters, JobHead, LiveJob, SessionRecord, Tries};
use mycelium_core::labels::Labels;
use mycelium_core::status::FinalStatus;
use mycelium_proto::v1::{self, payload, value_node};
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::store::{
    BlobDigest, Edges, Erased, FinishedQuery, FlowQuery, JobAfter, JobChange, Log, NewFailure,
    OccurrenceRecord, Reads, SpecRecord, SweptElf,
};

const DATABASE: &str = "BLUMYC_default";

struct World {
    double: Double,
    server: Server,
}

impl World {
    async fn new() -> Self {
        let double = Double::start("secret").await.unwrap();
        let address = Address::parse(&double.url()).unwrap().with_credentials(ROOT, "secret");
        init(&address, "default").await.unwrap();
        Self { server: Server::new(&address).unwrap(), double }
    }

    fn store(&self, lease: Duration) -> ArangoStore {
        let options = ArangoOptions { blobs: PathBuf::from("unused"), lease };
        ArangoStore::new(&self.server, DATABASE, options)
    }

    /// A store that owns the mycelium.
    async fn owner(&self) -> ArangoStore {
        let store = self.store(Duration::from_secs(60));
        store.own().await.unwrap();
        store
    }

    fn documents(&self, collection: &str) -> Vec<Value> {
        self.double.documents(DATABASE, collection).unwrap()
    }

    fn document(&self, collection: &str, key: &str) -> Option<Value> {
        self.documents(collection).into_iter().find(|document| document["_key"] == key)
    }
}

/// Stores a batch as the owner of a core does.
async fn commit(store: &ArangoStore, batch: &Batch) -> Result<(), Error> {
    let epoch = store.lease.epoch();
    store.store(batch, epoch, &commit::variables(epoch, batch)?).await
}

fn job(number: u8) -> JobId {
    JobId::new([number; 16])
}

fn head(number: u8) -> JobHead {
    JobHead {
        id: job(number),
        flow: FlowId::new([7; 16]),
        elf: "scale".into(),
        task: "task_weigh".into(),
        number: JobNumber(u64::from(number)),
        submitted_at: Timestamp(1_764_411_409_123_456),
        ..JobHead::default()
    }
}

/// A job with a literal, and the output of each job that it depends on.
fn created(number: u8, depends_on: &[u8]) -> JobChange {
    let node = |kind| v1::ValueNode { kind: Some(kind) };
    let literal = payload::Content::Inline(Bytes::from_static(b"{\"grams\":12.0}"));
    let mut nodes = vec![node(value_node::Kind::Literal(v1::Payload {
        encoding: String::new(),
        content: Some(literal),
    }))];
    nodes.extend(depends_on.iter().map(|of| {
        let job_id = Bytes::copy_from_slice(job(*of).as_bytes());
        node(value_node::Kind::Output(v1::OutputRef { job_id, name: "value".to_owned() }))
    }));
    let arguments = (0..)
        .zip(&nodes)
        .map(|(place, _): (u32, _)| v1::Argument { parameter: format!("p{place}"), node: place });
    let spec = v1::JobSpec { arguments: arguments.collect(), nodes, ..v1::JobSpec::default() };
    let spec = Spec {
        head: head(number),
        digest: ContentDigest(u64::from(number)),
        depends_on: depends_on.iter().copied().map(job).collect(),
        evaluate: false,
        gathered_by: None,
        begins_at: None,
        body: Bytes::from(spec.encode_to_vec()),
    };
    JobWrite {
        id: job(number),
        flow: FlowId::new([7; 16]),
        created: Some(spec),
        revived: None,
        after: JobAfter::Live(live(number)),
    }
}

fn live(number: u8) -> LiveJob {
    LiveJob {
        head: head(number),
        digest: ContentDigest(u64::from(number)),
        waits_for: Vec::new(),
        submission: None,
        attempt: Attempt(0),
        elves_lost: 0,
        elves_lost_alone: 0,
        beside: Vec::new(),
        evaluate: false,
        running: None,
        expires_at: None,
        queued_at: None,
        tries: Tries::default(),
        attempts: Vec::new(),
    }
}

fn change(number: u8, after: JobAfter) -> JobChange {
    JobWrite { id: job(number), flow: FlowId::new([7; 16]), created: None, revived: None, after }
}

fn finished(number: u8, end: End<crate::store::record::Encoded>) -> JobChange {
    let finished = FinishedJob {
        head: head(number),
        finish_number: FinishNumber(u64::from(number)),
        end,
        finished_at: Timestamp(2),
        attempt: Attempt(1),
        elves_lost: 0,
        ran: None,
        elements: None,
        attempts: Vec::new(),
    };
    change(number, JobAfter::Finished(finished))
}

fn batch(commit: u64, jobs: Vec<JobChange>) -> Batch {
    Batch { counters: Counters { commit: Commit(commit), ..Counters::default() }, jobs, ..Batch::default() }
}

fn outputs(json: &str) -> Bytes {
    let content = Some(payload::Content::Inline(Bytes::copy_from_slice(json.as_bytes())));
    let payload = Some(v1::Payload { encoding: String::new(), content });
    let outputs = vec![v1::NamedOutput { name: "value".to_owned(), payload }];
    Bytes::from(v1::Outputs { outputs }.encode_to_vec())
}

#[tokio::test]
async fn a_batch_is_one_request_whatever_it_mixes_and_people_can_read_it() {
    let world = World::new().await;
    let store = world.owner().await;
    let failure = NewFailure {
        id: FailureId::new([9; 16]),
        body: Bytes::from_static(b"no protobuf"),
        occurrence: OccurrenceRecord {
            job: job(3),
            attempt: Attempt(1),
            at: Timestamp(5),
            message: "too heavy".to_owned(),
            details: String::new(),
            cause_messages: Vec::new(),
        },
        elf: "scale".into(),
        task: "task_weigh".into(),
    };
    let mut mixed = batch(1, vec![created(1, &[]), created(2, &[1]), created(3, &[])]);
    mixed.records.sessions_opened =
        vec![SessionRecord { id: SessionId(4), instance: Default::default(), secret: None }];
    world.double.reset_counters();
    commit(&store, &mixed).await.unwrap();
    let mut ends =
        batch(2, vec![finished(1, End::Done(outputs("12.0"))), finished(3, End::Failed(failure.id))]);
    ends.failures = vec![failure.clone(), failure];
    ends.records.sessions_ended = vec![SessionId(4)];
    commit(&store, &ends).await.unwrap();
    assert_eq!(world.double.counters().requests_in_all(), 2, "one each");
    world.double.assert_known();

    let one = world.document("Jobs", &job(1).to_string()).unwrap();
    assert_eq!((&one["status"], &one["task"]), (&json!("DONE"), &json!("task_weigh")));
    assert_eq!(world.document("Jobs", &job(2).to_string()).unwrap()["status"], "PENDING");
    let result = world.document("Results", &format!("{}.value", job(1))).unwrap();
    assert_eq!((&result["value"], &result["text"]), (&json!(12), &json!("12.0")));
    let origin = &world.documents("ParameterOrigins")[0];
    assert_eq!(origin["_to"], format!("Results/{}.value", job(1)));
    assert_eq!(world.documents("JobToJob").len(), 1);
    assert_eq!(world.documents("JobParameters").len(), 4);
    let parameter = world.document("Parameters", &format!("{}.p0", job(1))).unwrap();
    assert_eq!(parameter["value"]["grams"], 12);
    assert_eq!(world.documents("Failures")[0]["occurrences"], 2);
    let numbers: Vec<_> = world.documents("JobFailures").iter().map(|edge| edge["number"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(world.document("BrokerRecords", "session.4").unwrap()["gone"], 1);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_stored_once() {
    let world = World::new().await;
    let store = world.owner().await;
    for (number, fault) in [(1, Fault::DropAfter), (2, Fault::DropBefore), (3, Fault::Conflict)] {
        world.double.faults().next.push_back(fault);
        commit(&store, &batch(number, vec![created(number as u8, &[])])).await.unwrap();
        assert!(world.double.faults().next.is_empty(), "it met the fault");
        assert_eq!(world.documents("Jobs").len() as u64, number);
        assert_eq!(store.lease.newest_commit().await.unwrap(), Commit(number));
    }
    // What does not follow the last commit is refused, and so is what was stored by nobody knows whom.
    for number in [3, 5] {
        let error = commit(&store, &batch(number, vec![created(9, &[])])).await.unwrap_err();
        assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
    }
    assert_eq!(world.documents("Jobs").len(), 3);
    world.double.assert_known();
}

#[tokio::test]
async fn whoever_has_been_deposed_writes_nothing_and_says_so() {
    let world = World::new().await;
    let first = world.store(Duration::from_millis(400));
    first.own().await.unwrap();
    commit(&first, &batch(1, vec![created(1, &[])])).await.unwrap();

    // Somebody who dies does not renew; nor does somebody who gave up.
    let second = world.store(Duration::from_secs(60));
    first.lease.release().await.unwrap();
    second.own().await.unwrap();
    assert!(second.lease.epoch() > first.lease.epoch());
    let epoch = first.lease.epoch();
    let late = batch(2, vec![created(2, &[])]);
    let judged = first.store(&late, epoch, &commit::variables(epoch, &late).unwrap()).await.unwrap_err();
    assert!(matches!(judged, Error::Fenced { .. } | Error::Unavailable { .. }), "{judged}");
    assert!(matches!(first.lease.judge(Commit(2), true).await, Err(Error::Fenced { .. })));
    assert!(matches!(first.lease.check(), Err(Error::Fenced { .. })));
    assert!(matches!(first.lease.acquire().await, Err(Error::Fenced { .. })), "it does not take it back");
    assert!(matches!(first.leftovers.sweep_all(&first.log, epoch).await, Ok(())), "there is nothing");
    assert_eq!(world.documents("Jobs").len(), 1);
    commit(&second, &late).await.unwrap();

    // A third has to wait for the end of the term of one that renews, and gives up.
    let third = world.store(Duration::from_millis(300));
    let error = third.lease.acquire().await.unwrap_err();
    assert!(matches!(&error, Error::InUse { what } if what.contains("process")), "{error}");
    world.double.assert_known();
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_over_and_another_takes_it() {
    let world = World::new().await;
    let first = world.store(Duration::from_millis(300));
    first.lease.acquire().await.unwrap();
    first.lease.check().unwrap();
    world.double.faults().down = true;
    let deadline = Instant::now() + Duration::from_secs(20);
    while first.lease.check().is_ok() {
        assert!(Instant::now() < deadline, "the owner goes on without renewal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = first.lease.check().unwrap_err();
    assert!(error.is_retryable() && error.is_certainly_not_applied(), "{error}");
    world.double.faults().down = false;
    // Renewed, since nobody else has come.
    while first.lease.check().is_err() {
        assert!(Instant::now() < deadline, "the owner does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let epoch = first.lease.epoch();
    first.lease.acquire().await.unwrap();
    assert_eq!(first.lease.epoch(), epoch + 1, "with a new epoch, under which nothing of before is stored");
    world.double.assert_known();
}

#[tokio::test]
async fn what_goes_is_marked_and_removed_with_all_that_belongs_to_it() {
    let world = World::new().await;
    let store = world.owner().await;
    commit(&store, &batch(1, vec![created(1, &[]), created(2, &[1])])).await.unwrap();
    commit(&store, &batch(2, vec![change(2, JobAfter::Dropped)])).await.unwrap();
    assert_eq!(world.document("Jobs", &job(2).to_string()).unwrap().as_object().unwrap().len(), 4, "marked");

    // The same id comes again, with other dependencies: nothing of the one before is taken for its own.
    commit(&store, &batch(3, vec![created(2, &[])])).await.unwrap();
    assert_eq!((world.documents("JobToJob").len(), world.documents("ParameterOrigins").len()), (0, 0));
    assert_eq!(world.documents("Parameters").len(), 2);

    commit(&store, &batch(4, vec![change(2, JobAfter::Dropped)])).await.unwrap();
    let next = world.store(Duration::from_secs(60));
    store.lease.release().await.unwrap();
    next.lease.acquire().await.unwrap();
    next.leftovers.sweep_all(&next.log, next.lease.epoch()).await.unwrap();
    assert_eq!((world.documents("Jobs").len(), world.documents("Parameters").len()), (1, 1));
    assert_eq!(world.documents("JobParameters").len(), 1);
    let error = next.leftovers.sweep(&next.log, 1).await;
    assert!(error.is_ok(), "nothing is left");
    next.leftovers.note(&batch(5, vec![change(1, JobAfter::Dropped)]), []);
    assert!(
        matches!(next.leftovers.sweep(&next.log, 1).await, Err(Error::Fenced { .. })),
        "of another epoch"
    );
    world.double.assert_known();
}

fn erased(number: u8, stub: Option<SpecRecord>) -> Erased {
    Erased {
        head: head(number),
        finish_number: FinishNumber(u64::from(number)),
        status: FinalStatus::Done,
        outputs_bytes: 0,
        edges: Edges::default(),
        stub,
    }
}

/// Does all that a broker can do with a store, once.
async fn do_everything(world: &World) {
    let store = world.store(Duration::from_millis(150));
    store.own().await.unwrap();
    let mut begins = batch(1, vec![created(1, &[]), created(2, &[1])]);
    begins.records.submissions_dropped = vec![SubmissionId::new([4; 16])];
    commit(&store, &begins).await.unwrap();
    commit(&store, &batch(2, vec![finished(1, End::Done(outputs("1"))), change(2, JobAfter::Dropped)]))
        .await
        .unwrap();
    // What is known from having been written is not read.
    let image = store.load(&mut |_| {}).await.unwrap();
    assert_eq!(image.counters.commit, Commit(2));
    let jobs = [job(1), job(2)];
    let read = |records: usize| assert_eq!(records, 2, "one for each key");
    read(store.specs(&jobs).await.unwrap().len());
    read(store.outlines(&jobs).await.unwrap().len());
    read(store.unfinished(&jobs).await.unwrap().len());
    read(store.finished(&jobs).await.unwrap().len());
    let returned = store.outputs(&jobs).await.unwrap();
    assert_eq!(returned, [Some(outputs("1")), None]);
    let (flow, elf) = (Some(FlowId::new([7; 16])), Some("scale".to_owned()));
    for (flow, elf) in [(flow, None), (None, elf), (None, None)] {
        for statuses in [vec![], vec![FinalStatus::Done]] {
            let (flow, elf) = (flow, elf.clone());
            let query = FinishedQuery { flow, elf, statuses, limit: 10, ..FinishedQuery::default() };
            assert_eq!(store.list_finished(&query).await.unwrap().jobs.len(), 1, "{query:?}");
        }
    }
    store.dependents(&jobs, None, 10).await.unwrap();
    store.flows(&[FlowId::new([7; 16])]).await.unwrap();
    store.flow_named("daily").await.unwrap();
    let label = BTreeMap::from([("site".to_owned(), "north".to_owned())]);
    for labels in [Labels::NONE, label.into()] {
        let query = FlowQuery { labels, limit: 10, ..FlowQuery::default() };
        assert_eq!(store.list_flows(&query).await.unwrap().flows, []);
    }
    store.submissions(&[SubmissionId::new([4; 16])]).await.unwrap();
    store.list_submissions(None, 10).await.unwrap();
    store.elves(&["scale".into()]).await.unwrap();
    store.list_elves(None, 10).await.unwrap();
    store.revisions(&[("scale".into(), "task_weigh".into(), Revision::new([1; 32]))]).await.unwrap();
    store.list_revisions("scale", None, 10).await.unwrap();
    store.failures(&[FailureId::new([9; 16])]).await.unwrap();
    store.list_failures(None, 10).await.unwrap();
    store.occurrences_of(&[(FailureId::new([9; 16]), job(1))]).await.unwrap();
    store.occurrences_in(&[(FailureId::new([9; 16]), job(1))], 10).await.unwrap();
    store.list_occurrences(FailureId::new([9; 16]), None, 10).await.unwrap();
    store.blob_uses(&[BlobDigest::new([3; 32])], None, 10).await.unwrap();
    store.list_blob_uses(None, 10).await.unwrap();
    store.checkpoints(&jobs).await.unwrap();
    store.list_checkpoints(None, 10).await.unwrap();
    let renewed = || world.double.counters().statements.contains_key(statements::RENEW.text);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !renewed() {
        assert!(Instant::now() < deadline, "the lease is not renewed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ended = [5, 6].map(|number| JobChange {
        created: created(number, &[]).created,
        ..finished(number, End::Done(outputs("1")))
    });
    commit(&store, &batch(3, ended.to_vec())).await.unwrap();
    let mut erases = batch(4, vec![]);
    let stub = store.specs(&[job(5)]).await.unwrap().pop().flatten();
    erases.erased = vec![erased(5, stub), erased(6, None)];
    erases.elves_swept = vec![SweptElf {
        name: "scale".into(),
        last_seen: Timestamp(7),
        revisions: vec![("".into(), Revision::new([1; 32]), Timestamp(7))],
        whole: true,
    }];
    commit(&store, &erases).await.unwrap();
    commit(&store, &batch(5, vec![change(1, JobAfter::Dropped)])).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn every_statement_is_run_and_each_read_is_one_of_them() {
    let world = World::new().await;
    do_everything(&world).await;
    let address = Address::parse(&world.double.url()).unwrap().with_credentials(ROOT, "secret");
    let reports = check(&address, None).await.unwrap();
    assert!(
        reports.iter().all(|report| report.findings.iter().all(|finding| !finding.kind.is_problem())),
        "{reports:?}"
    );
    let run = world.double.counters().statements;
    for statement in statements::ALL {
        assert!(run.contains_key(statement.text), "{} was never run", statement.name);
    }
    let known: Vec<&str> = statements::ALL.iter().map(|statement| statement.text).collect();
    for text in run.keys() {
        assert!(known.contains(&text.as_str()), "a statement that is not listed: {text}");
    }
    world.double.assert_known();
}
