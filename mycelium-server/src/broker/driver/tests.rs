mod recovery;

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{
    Begins, ElfOffer, Evaluated, EvaluationResult, Hello, NewFlow, Outcome, OutcomeResult, Scope, StreamEnd,
    TaskOffer, Window,
};
use mycelium_core::ids::{
    AssignNumber, Attachment, Build, ContentDigest, FlowId, InstanceId, JobId, Revision, SignatureId, Token,
};
use mycelium_core::image::JobHead;
use mycelium_core::signature::{Judged, Signature};
use mycelium_core::status::Status;

use super::recovery::DEFECTS_MAX;
use super::*;
use crate::broker::handle::Handle;
use crate::broker::message::StreamId;
use crate::broker::submit::{PreparedJob, Submission};
use crate::broker::{Assigned, Confirming, FailureBody, Party, StoreState, StreamAttachment, ToStream};
use crate::store::faulty::{Fault, FaultyStore, ReadFault};
use crate::store::{MemoryStore, Reads as _, Storage};

const JOB: JobId = JobId::new([1; 16]);

fn blobs() -> crate::blobs::Blobs {
    crate::blobs::Blobs::in_memory(Duration::from_secs(3600))
}

/// An instance whose stream nobody reads but the test.
struct Instance {
    session: SessionId,
    stream: StreamId,
    assigned: mpsc::Receiver<Assigned>,
    _outbox: mpsc::Receiver<ToStream>,
}

/// Says hello for an elf `e` with a task `t`.
async fn connect(handle: &Handle, resume: Option<SessionId>, held: Vec<Token>) -> Instance {
    let (elf, task): (Arc<str>, Arc<str>) = (Arc::from("e"), Arc::from("t"));
    let stream = handle.next_stream();
    let (outbox, _outbox) = mpsc::channel(16);
    let (assign, assigned) = mpsc::channel(16);
    let signature = Arc::new(Signature::new(SignatureId::default(), Vec::new()));
    let offer = ElfOffer {
        elf,
        tasks: vec![TaskOffer { task, revision: Revision::new([0; 32]), signature, policy: None }],
        window: Window { jobs: 1, concurrency: 1, occupied: 0 },
    };
    let hello = Hello {
        knows_recall: false,
        knows_drain: false,
        needs_secret: false,
        request: Default::default(),
        instance: InstanceId::new([7; 16]),
        build: Build::UNKNOWN,
        resume,
        secret: None,
        secret_new: None,
        elves: vec![offer],
        held,
        tells_starts: false,
    };
    let answered = handle
        .hello(|reply| HelloMessage {
            hello,
            elves: Vec::new(),
            revisions: Vec::new(),
            signatures: Default::default(),
            attachment: StreamAttachment {
                confirming: Arc::new(Confirming::new(false, Duration::from_secs(5), Arc::default())),
                stream,
                outbox,
                assigned: assign,
                end: Arc::default(),
                is_speaking: Arc::default(),
                spans: Arc::default(),
            },
            reply,
        })
        .await;
    match answered {
        Ok((Reply::Welcome { session, .. }, _)) => Instance { session, stream, assigned, _outbox },
        other => panic!("`Hello` was answered with {other:?}"),
    }
}

fn submission(id: JobId) -> Submission {
    Submission {
        flow: FlowId::new([9; 16]),
        new_flow: NewFlow { name: Arc::from("flow"), ..NewFlow::default() },
        part: None,
        elements: None,
        jobs: vec![PreparedJob {
            head: JobHead { id, elf: Arc::from("e"), task: Arc::from("t"), ..JobHead::default() },
            blobs: Vec::new(),
            depends_on: Vec::new(),
            evaluate: false,
            body: Bytes::new(),
            digest: ContentDigest::default(),
            judged: Judged::NOT,
            policy: None,
            begins: Begins::default(),
        }],
    }
}

/// The report of an output.
fn returned(session: SessionId, token: Token) -> (Command, Vec<Body>) {
    let outcome = Outcome { token, result: OutcomeResult::Outputs(Attachment(0)), failed: None, ran: None };
    (
        Command::Outcomes { session, outcomes: vec![outcome] },
        vec![Body::Outputs { encoded: Bytes::new(), blobs: Vec::new() }],
    )
}

/// Where the job stands, once the broker answers again; `None` if it is final.
async fn status(handle: &Handle) -> Option<Status> {
    loop {
        match handle.query(|core, _| core.job(JOB).map(|job| job.status)).await {
            Ok(status) => return status,
            Err(CallError::StoreUnavailable) => handle.next_commit().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_queued_behind_a_failing_commit_waits_for_the_next_stream() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    let mut first = connect(&handle, None, Vec::new()).await;
    handle.submit(None, submission(JOB)).await.unwrap();
    let token = first_token(first.assigned.recv().await);

    store.hold_commits();
    store.fail_commit_after(0, Fault::NotApplied);
    let submitter = handle.clone();
    let refused = tokio::spawn(async move { submitter.submit(None, submission(JobId::new([2; 16]))).await });
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    let (report, bodies) = returned(first.session, token);
    handle.pass_on(first.session, first.stream, report, bodies).await.unwrap();
    store.release_commits();

    assert!(matches!(refused.await.unwrap(), Err(CallError::StoreUnavailable)));
    // Nobody would hear that it was taken, so it is not.
    assert_eq!(status(&handle).await, Some(Status::Running));

    // The elf keeps it, and reports it again.
    let second = connect(&handle, Some(first.session), vec![token]).await;
    assert_eq!(second.session, first.session);
    let (report, bodies) = returned(second.session, token);
    handle.pass_on(second.session, second.stream, report, bodies).await.unwrap();
    assert_eq!(status(&handle).await, None, "the job is final");
    let finished = store.finished(&[JOB]).wait().unwrap().remove(0).unwrap();
    assert_eq!(finished.end.status(), mycelium_core::status::FinalStatus::Done, "{finished:?}");
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

/// The network cut a stream, and the elf was quicker to open the next than the broker to notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_closes_late_does_not_take_its_successor_with_it() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    let first = connect(&handle, None, Vec::new()).await;

    store.hold_commits();
    let submitter = handle.clone();
    let submitted =
        tokio::spawn(async move { submitter.submit(None, submission(JobId::new([2; 16]))).await });
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    // Both wait for the same batch, the greeting first.
    let session = first.session;
    let mut hello = Box::pin(connect(&handle, Some(session), Vec::new()));
    assert!(futures::poll!(&mut hello).is_pending());
    let closed = Command::StreamClosed { session, end: StreamEnd::Broken };
    handle.pass_on(session, first.stream, closed, Vec::new()).await.unwrap();
    store.release_commits();
    submitted.await.unwrap().unwrap();
    let mut second = hello.await;
    assert_eq!(second.session, session);

    let connected =
        handle.query(|core, _| core.elf("e").map(|elf| elf.instances[0].connected)).await.unwrap();
    assert_eq!(connected, Some(true));
    let assigned = second.assigned.recv().await.unwrap();
    assert_eq!(first_token(Some(assigned)).job, JobId::new([2; 16]), "jobs come on the new stream");
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn uses_of_blobs_are_stored_with_a_commit_of_their_own_or_refused() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let store: Arc<dyn Storage> = faulty.clone();
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let blob = crate::store::BlobDigest::new([3; 32]);
    let used = crate::store::BlobUse { blob, job: JOB, role: crate::store::BlobRole::Argument };

    running.handle.change_blob_uses(vec![used], Vec::new()).await.unwrap();
    assert_eq!(store.blob_uses(&[blob], None, 9).wait().unwrap(), [used]);
    assert_eq!(running.handle.commit(), Commit(1));

    faulty.fail_commit_after(0, Fault::NotApplied);
    let refused = running.handle.change_blob_uses(Vec::new(), vec![used]).await;
    assert!(matches!(refused, Err(CallError::StoreUnavailable)), "{refused:?}");
    assert_eq!(store.blob_uses(&[blob], None, 9).wait().unwrap(), [used]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_handed_out_before_a_commit_failed_counts_no_more() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let mut running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    let mut conditional = submission(JOB);
    conditional.jobs[0].evaluate = true;
    handle.submit(None, conditional).await.unwrap();
    let before = running.evaluations.recv().await.unwrap();

    store.fail_commit_after(0, Fault::NotApplied);
    let refused = handle.submit(None, submission(JobId::new([2; 16]))).await;
    assert!(matches!(refused, Err(CallError::StoreUnavailable)));
    let after = running.evaluations.recv().await.unwrap();
    assert_eq!(after.job, JOB, "the core that is rebuilt asks anew");
    assert!(after.number > before.number, "{before:?} {after:?}");

    let answer = |evaluation: Evaluation, result| {
        let Evaluation { job, number, .. } = evaluation;
        handle.evaluated(vec![Evaluated { job, number, result }], Vec::new())
    };
    answer(before, EvaluationResult::Skip).await.unwrap();
    assert_eq!(status(&handle).await, Some(Status::Pending));
    answer(after, EvaluationResult::Run).await.unwrap();
    assert_eq!(status(&handle).await, Some(Status::Ready));
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_as_such_is_read_and_goes_on_by_itself() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    handle.submit(None, submission(JOB)).await.unwrap();

    store.set_full(true);
    for _ in 0..3 {
        let refused = handle.submit(None, submission(JobId::new([2; 16]))).await;
        assert!(matches!(refused, Err(CallError::StoreFull)), "{refused:?}");
    }
    assert_eq!(status(&handle).await, Some(Status::Ready), "what is stored can be read");
    assert_eq!(handle.store_state().borrow().store, StoreState::Full);

    store.set_full(false);
    let mut progress = handle.store_state();
    let is_back = progress.wait_for(|progress| progress.store == StoreState::Writable);
    tokio::time::timeout(Duration::from_secs(20), is_back).await.unwrap().unwrap();
    handle.submit(None, submission(JobId::new([2; 16]))).await.unwrap();
    assert_eq!(status(&handle).await, Some(Status::Ready));

    // Told to stop while it is full, it stops well.
    store.set_full(true);
    let refused = handle.submit(None, submission(JobId::new([3; 16]))).await;
    assert!(matches!(refused, Err(CallError::StoreFull)), "{refused:?}");
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

/// In a runtime of one thread, which a commit must not block: the owner of the core gets a thread of its own.
#[tokio::test]
async fn a_runtime_of_one_thread_goes_on_while_a_commit_hangs() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = Config { scheduler: crate::config::SchedulerPlace::Runtime, ..Config::default() };
    let running = super::super::start(store.clone(), blobs(), config).unwrap();
    let handle = running.handle.clone();
    store.hold_commits();
    let submitter = handle.clone();
    let submitted = tokio::spawn(async move { submitter.submit(None, submission(JOB)).await });
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    assert_eq!(handle.store().finished(&[JOB]).await.unwrap().len(), 1);
    store.release_commits();
    submitted.await.unwrap().unwrap();
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_the_store_do_not_grow_with_what_is_asked_of_it() {
    const JOBS: u8 = 100;
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    let ids: Vec<JobId> = (1..=JOBS).map(|number| JobId::new([number; 16])).collect();
    let reads = |before: usize| store.reads() - before;

    let before = store.reads();
    let mut many = submission(JOB);
    many.jobs = ids.iter().flat_map(|id| submission(*id).jobs).collect();
    handle.submit(None, many).await.unwrap();
    assert!(reads(before) <= 3, "a submission took {} reads", reads(before));

    let before = store.reads();
    handle.cancel(Scope::Jobs(ids.clone())).await.unwrap();
    assert!(reads(before) <= 2, "a cancellation took {} reads", reads(before));

    let before = store.reads();
    let retried =
        handle.retry(Scope::Jobs(ids), mycelium_core::policy::RetryPolicy::default()).await.unwrap();
    assert_eq!(retried.retried, u64::from(JOBS));
    assert!(reads(before) <= 6, "a retry took {} reads", reads(before));
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_store_was_taken_over_ends() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    handle.submit(None, submission(JOB)).await.unwrap();
    store.fail_commit_after(0, Fault::Fenced);
    let refused = handle.submit(None, submission(JobId::new([2; 16]))).await;
    assert!(matches!(refused, Err(CallError::StoreUnavailable)), "{refused:?}");
    let ended = running.ended.await.unwrap();
    assert!(matches!(ended, Err(DriverError::Store(store::Error::Fenced { .. }))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_prepared_fails_and_the_report_comes_again() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    let mut first = connect(&handle, None, Vec::new()).await;
    handle.submit(None, submission(JOB)).await.unwrap();
    let token = first_token(first.assigned.recv().await);
    let failed = || {
        let failure = FailureBody::record_damaged("planned".to_owned());
        let outcome =
            Outcome { token, result: OutcomeResult::Failure(Attachment(0)), failed: None, ran: None };
        (vec![outcome], vec![Body::Failure(failure)])
    };
    // How often the failure was seen is read before it is counted.
    store.fail_read_after(0, ReadFault::Unavailable);
    let (outcomes, bodies) = failed();
    let report = Command::Outcomes { session: first.session, outcomes };
    handle.pass_on(first.session, first.stream, report, bodies).await.unwrap();
    while first.assigned.recv().await.is_some() {}
    assert_eq!(status(&handle).await, Some(Status::Running), "nothing of it is stored");

    let second = connect(&handle, Some(first.session), vec![token]).await;
    let (outcomes, bodies) = failed();
    let report = Command::Outcomes { session: second.session, outcomes };
    handle.pass_on(second.session, second.stream, report, bodies).await.unwrap();
    while status(&handle).await.is_some() {
        handle.next_commit().await;
    }
    let failures = store.list_failures(None, 9).await.unwrap().entries;
    assert_eq!(failures.iter().map(|(_, failure)| failure.occurrences).collect::<Vec<_>>(), [1]);
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_for_its_turn_behind_a_full_queue() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = Config { queue_max: 2, ..Config::default() };
    let running = super::super::start(store.clone(), blobs(), config).unwrap();
    let handle = running.handle.clone();
    store.hold_commits();
    let submit = |number: u8| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.submit(None, submission(JobId::new([number; 16]))).await })
    };
    let mut submitted = vec![submit(0)];
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    submitted.extend((1..=8).map(submit));
    handle.until_queued(2).await;
    let asker = handle.clone();
    let asked = tokio::spawn(async move { asker.query(|core, _| core.status().pending).await });
    store.release_commits();
    assert!(asked.await.unwrap().is_ok(), "and is not refused");
    for submitted in submitted {
        submitted.await.unwrap().unwrap();
    }
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_bounded_in_bytes_and_nothing_that_waits_is_lost() {
    const MIB: usize = 1024 * 1024;
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    store.hold_commits();
    let submit = |number: u8, bytes: usize| {
        let handle = handle.clone();
        let mut large = submission(JobId::new([number; 16]));
        large.jobs[0].body = Bytes::from(vec![b' '; bytes]);
        tokio::spawn(async move { handle.submit(None, large).await })
    };
    let mut submitted = vec![submit(0, 1)];
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    // All of them wait for the next batch: more than one commit may bring, and one that is more by itself.
    submitted.extend((1..=20).map(|number| submit(number, MIB)));
    submitted.push(submit(21, 14 * MIB));
    handle.until_queued(21).await;
    store.release_commits();
    for submitted in submitted {
        submitted.await.unwrap().unwrap();
    }
    let committed = store.spec_bytes();
    assert_eq!(committed.iter().sum::<usize>(), 1 + 34 * MIB);
    assert!(committed.iter().all(|bytes| *bytes <= BATCH_BYTES_MAX || *bytes == 14 * MIB), "{committed:?}");
    assert!(committed.len() >= 4, "{committed:?}");
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_is_told_as_one_and_the_broker_goes_on_with_what_is_stored() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let running = super::super::start(store.clone(), blobs(), Config::default()).unwrap();
    let handle = running.handle.clone();
    handle.submit(None, submission(JOB)).await.unwrap();

    for _ in 0..2 * DEFECTS_MAX {
        store.fail_commit_after(0, Fault::Panic);
        let refused = handle.submit(None, submission(JobId::new([2; 16]))).await;
        assert!(matches!(refused, Err(CallError::Defect(_))), "{refused:?}");
        let mut progress = handle.store_state();
        let is_back = progress.wait_for(|progress| progress.store == StoreState::Writable);
        tokio::time::timeout(Duration::from_secs(20), is_back).await.unwrap().unwrap();
    }
    let panicked = handle.query(|_, _| -> () { panic!("planned") }).await;
    assert!(matches!(panicked, Err(CallError::Defect(_))), "{panicked:?}");
    let panicked = handle.query_in_turn(|_, _| -> () { panic!("planned") }).await;
    assert!(matches!(panicked, Err(CallError::Defect(_))), "{panicked:?}");
    let panicked = handle.aside(|| -> Result<(), CallError> { panic!("planned") }).await;
    assert!(matches!(panicked, Err(CallError::Defect(_))), "{panicked:?}");
    let panicked = handle.evaluate(handle.turn(Party::Readers).await, || -> () { panic!("planned") }).await;
    assert!(matches!(panicked, Err(CallError::Defect(_))), "{panicked:?}");

    assert_eq!(status(&handle).await, Some(Status::Ready), "what was stored is there");
    handle.submit(None, submission(JobId::new([2; 16]))).await.unwrap();
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_that_what_is_stored_leads_to_again_and_again_ends_the_broker() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = Config { lease: Duration::from_millis(40), ..Config::default() };
    let running = super::super::start(store.clone(), blobs(), config).unwrap();
    let _instance = connect(&running.handle, None, Vec::new()).await;
    // The end of its lease is nobody's message.
    (0..=DEFECTS_MAX).for_each(|_| store.fail_commit_after(0, Fault::Panic));
    let ended = running.ended.await.unwrap();
    assert!(matches!(ended, Err(DriverError::Defect(_))), "{ended:?}");
}

/// What an elf has said waits behind more than the broker gets done within its lease.
#[tokio::test(flavor = "multi_thread")]
async fn an_elf_whose_words_are_in_the_queue_is_alive_and_one_that_is_silent_is_not() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    // One message a batch.
    let lease = Duration::from_millis(500);
    let config = Config { lease, batch_max: 1, ..Config::default() };
    let running = super::super::start(store.clone(), blobs(), config).unwrap();
    let handle = running.handle.clone();
    let elf = connect(&handle, None, Vec::new()).await;
    let alive = async || handle.query(|core, _| core.status().sessions).await.unwrap();
    assert_eq!(alive().await, 1);

    store.hold_commits();
    let submit = |number: u8| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.submit(None, submission(JobId::new([number; 16]))).await })
    };
    let mut submitted = vec![submit(2)];
    let held = Arc::clone(&store);
    tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
    submitted.extend((3..40).map(submit));
    handle.until_queued(submitted.len() - 1).await;
    let beat = Command::Heartbeat { session: elf.session, held: Vec::new(), received: AssignNumber(0) };
    handle.pass_on(elf.session, elf.stream, beat, Vec::new()).await.unwrap();
    // A slow disk: no commit is late enough for a stall, and all of them together take longer than the lease.
    store.set_pause(Duration::from_millis(30));
    store.release_commits();
    for submitted in submitted {
        submitted.await.unwrap().unwrap();
    }
    assert_eq!(alive().await, 1, "its words were in the queue");

    store.set_pause(Duration::ZERO);
    let begun = std::time::Instant::now();
    while alive().await == 1 {
        assert!(begun.elapsed() < 20 * lease, "it is silent, and its lease does not end");
        tokio::task::yield_now().await;
    }
    handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

fn first_token(assigned: Option<Assigned>) -> Token {
    let Some(Assigned::New { assignments, .. }) = assigned else { panic!("{assigned:?}") };
    assignments[0].token
}
