//! What a worker promises on its stream, against a broker that is moved by hand.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use elf_runtime::{Error, JobId};
use mycelium_proto::v1::outcome::Result as Outcome;
use mycelium_proto::v1::{self, connect_request, connect_response};
use mycelium_proto::{limits, reason};
use mycelium_testing::fake::{ElfStream, FakeBroker, assignment, refusal, token};
use mycelium_testing::{Worker, within};
use support::{Gates, TestElf};
use tonic::Code;

fn tokens(n: usize) -> Vec<v1::Token> {
    (0..n).map(|_| token(JobId::generate(), 1)).collect()
}

fn value_of(outcome: &v1::Outcome) -> String {
    match &outcome.result {
        Some(Outcome::Outputs(outputs)) => match &outputs.outputs[0].payload.as_ref().unwrap().content {
            Some(v1::payload::Content::Inline(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            Some(v1::payload::Content::Blob(_)) | None => panic!("an output without content"),
        },
        other => panic!("outputs were expected, and not {other:?}"),
    }
}

/// An elf that is served by a worker, as `tune` makes it, and its stream, welcomed with this session.
async fn serving(
    session: u64,
    tune: impl FnOnce(elf_runtime::Worker) -> elf_runtime::Worker,
) -> (FakeBroker, Arc<Gates>, Worker, ElfStream) {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = Worker::spawn(tune(broker.client().serve().elf("tester", elf)));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(session).await;
    (broker, gates, worker, stream)
}

#[tokio::test]
async fn hello_tells_what_is_served() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let client = elf_runtime::Mycelium::builder(broker.url()).mycelium("forest").connect_lazy().unwrap();
    let worker =
        client.serve().elf("tester", elf.clone()).concurrency(3).elf("other", elf).window(7).concurrency(2);
    let worker = Worker::spawn(worker);

    let hello = broker.accept().await.hello().await;
    assert_eq!(hello.mycelium, "forest");
    assert_eq!(
        (hello.protocol_min, hello.protocol_max),
        (limits::PROTOCOL_VERSION_MIN, limits::PROTOCOL_VERSION)
    );
    assert!(hello.session_secret.is_empty());
    assert_eq!(hello.instance_id.len(), 16);
    assert_eq!((hello.resume_session, hello.held.len()), (0, 0));
    assert_eq!(hello.process_id, std::process::id());
    let is_digest = hello.build.len() == 32 && hello.build.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_digest, "the digest of the executable, unless another is given: {}", hello.build);
    let windows: Vec<_> = hello.windows.iter().map(|w| (w.elf.as_str(), w.window, w.concurrency)).collect();
    assert_eq!(windows, [("tester", 515, 3), ("other", 7, 2)]);
    let declared: Vec<_> = hello.elves.iter().map(|elf| elf.name.as_str()).collect();
    assert_eq!(declared, ["tester", "other"]);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_build_may_be_given_a_name_that_is_short() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let serve = || broker.client().serve().elf("tester", elf.clone());
    let worker = Worker::spawn(serve().build_id("v1.2.3+local"));
    for name in ["b".repeat(65), "v1\n".to_owned()] {
        let refused = serve().build_id(name).run().await;
        assert!(matches!(refused, Err(Error::InvalidWorker { .. })), "{refused:?}");
    }
    assert_eq!(broker.accept().await.hello().await.build, "v1.2.3+local");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_runs_and_its_outcome_comes_back() {
    let (_broker, _gates, worker, mut stream) = serving(1, |worker| worker).await;
    let job = token(JobId::generate(), 3);
    stream.assign(vec![assignment(&job, "task_double", 21)]).await;
    let outcome = stream.outcome().await;
    assert_eq!(outcome.token.as_ref(), Some(&job));
    assert_eq!(value_of(&outcome), "42");
    stream.ack(vec![job]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn failures_and_panics_are_outcomes_and_harm_nobody_else() {
    let (_broker, _gates, worker, mut stream) = serving(1, |worker| worker.concurrency(1)).await;
    let jobs = tokens(4);
    let tasks = ["task_fail", "task_panic", "task_nowhere", "task_double"];
    let assignments = jobs.iter().zip(tasks).map(|(job, task)| assignment(job, task, 1)).collect();
    stream.assign(assignments).await;
    for (job, expected) in jobs.iter().zip(["Broken", "Panic", "TaskNotFoundError"]) {
        let outcome = stream.outcome().await;
        assert_eq!(outcome.token.as_ref(), Some(job));
        match outcome.result {
            Some(Outcome::Failure(failure)) => assert_eq!(failure.r#type, expected),
            other => panic!("a failure was expected, and not {other:?}"),
        }
    }
    assert_eq!(value_of(&stream.outcome().await), "2");
    stream.ack(jobs).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn after_a_cut_running_jobs_go_on_and_unacknowledged_outcomes_come_again() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf).concurrency(8));
    let mut stream = broker.accept().await;
    let instance = stream.hello().await.instance_id;
    stream.welcome(77).await;
    let [acknowledged, unacknowledged, running] = <[_; 3]>::try_from(tokens(3)).unwrap();
    stream.assign(vec![assignment(&running, "task_wait", 9)]).await;
    within("the start of the job", gates.started(9)).await;
    stream.assign(vec![assignment(&acknowledged, "task_double", 1)]).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&acknowledged));
    stream.ack(vec![acknowledged]).await;
    stream.assign(vec![assignment(&unacknowledged, "task_double", 2)]).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&unacknowledged));
    stream.cut().await;

    let mut stream = broker.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.resume_session, hello.instance_id), (77, instance));
    let mut held = hello.held;
    held.sort_by(|a, b| a.job_id.cmp(&b.job_id));
    let mut expected = vec![unacknowledged.clone(), running.clone()];
    expected.sort_by(|a, b| a.job_id.cmp(&b.job_id));
    assert_eq!(held, expected, "what was acknowledged is no longer held");
    stream.welcome_back(77, expected).await;
    let again = stream.outcome().await;
    assert_eq!((again.token.as_ref(), value_of(&again).as_str()), (Some(&unacknowledged), "4"));
    gates.open(9);
    let outcome = stream.outcome().await;
    assert_eq!((outcome.token.as_ref(), value_of(&outcome).as_str()), (Some(&running), "9"));
    assert_eq!(gates.starts(9), 1, "a job that runs is not started again");
    stream.ack(vec![unacknowledged, running]).await;
    // A beat may have been on its way when the acknowledgement was.
    while !stream.heartbeat().await.held.is_empty() {}
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_worker_waits_for_a_broker_that_starts_again() {
    let (broker, gates, worker, mut stream) = serving(5, |worker| worker.concurrency(2)).await;
    let [finished, running] = <[_; 2]>::try_from(tokens(2)).unwrap();
    stream.assign(vec![assignment(&running, "task_wait", 1)]).await;
    stream.assign(vec![assignment(&finished, "task_wait", 2)]).await;
    within("the start of the jobs", async { gates.started(1).await + gates.started(2).await }).await;
    drop(stream);
    let address = broker.stop().await;
    // Nobody is there when it ends.
    gates.open(2);
    within("the end of the job", gates.ended(2)).await;

    let mut broker = FakeBroker::start_at(address).await;
    let mut stream = broker.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.resume_session, hello.held.len()), (5, 2));
    stream.welcome_back(5, hello.held).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&finished));
    gates.open(1);
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&running));
    stream.ack(vec![finished, running]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn attempts_that_are_not_kept_are_stopped_and_not_reported() {
    let (mut broker, gates, worker, mut stream) = serving(1, |worker| worker.concurrency(2)).await;
    let jobs = tokens(3);
    stream.assign(vec![assignment(&jobs[0], "task_until_cancelled", 1)]).await;
    stream.assign(vec![assignment(&jobs[1], "task_until_cancelled", 2)]).await;
    within("the start of the jobs", async { gates.started(1).await + gates.started(2).await }).await;
    stream.cut().await;

    // The session is over: a new one begins with nothing.
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(2).await;
    within("the end of the jobs", async { gates.ended(1).await + gates.ended(2).await }).await;
    stream.assign(vec![assignment(&jobs[2], "task_double", 3)]).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&jobs[2]), "the others are not reported");
    assert_eq!(stream.heartbeat().await.held, vec![jobs[2].clone()]);

    // The same for what a heartbeat finds unknown.
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_until_cancelled", 4)]).await;
    within("the start of the job", gates.started(4)).await;
    let ack = v1::HeartbeatAck { unknown: vec![job] };
    stream.send(connect_response::Kind::HeartbeatAck(ack)).await;
    within("the end of the job", gates.ended(4)).await;
    stream.ack(vec![jobs[2].clone()]).await;
    while !stream.heartbeat().await.held.is_empty() {}
    assert!(stream.outcomes_waiting().is_empty(), "what is dropped is not reported");
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_repeated_assignment_is_not_run_again() {
    let (_broker, gates, worker, mut stream) = serving(1, |worker| worker.concurrency(4)).await;
    let job = token(JobId::generate(), 1);
    let other = token(JobId::generate(), 1);
    let again = assignment(&job, "task_wait", 1);
    stream.assign(vec![again.clone(), again.clone()]).await;
    within("the start of the job", gates.started(1)).await;
    stream.assign(vec![again.clone(), assignment(&other, "task_double", 2)]).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&other));
    gates.open(1);
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&job));
    // Finished and not acknowledged.
    stream.assign(vec![again]).await;
    stream.ack(vec![job, other]).await;
    while !stream.heartbeat().await.held.is_empty() {}
    assert_eq!(gates.starts(1), 1);
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_cancel_reaches_running_and_waiting_tasks() {
    let (_broker, gates, worker, mut stream) = serving(1, |worker| worker.concurrency(1).window(9)).await;
    let jobs = tokens(3);
    stream
        .assign(vec![
            assignment(&jobs[0], "task_until_cancelled", 1),
            assignment(&jobs[1], "task_double", 2),
            assignment(&jobs[2], "task_double", 3),
        ])
        .await;
    within("the start of the job", gates.started(1)).await;
    // The one that waits is reported although the one before it runs.
    stream.cancel(vec![jobs[1].clone()]).await;
    let outcome = stream.outcome().await;
    assert_eq!(
        (outcome.token.as_ref(), outcome.result),
        (Some(&jobs[1]), Some(Outcome::Cancelled(v1::AttemptCancelled {})))
    );
    stream.cancel(vec![jobs[0].clone(), token(JobId::generate(), 1)]).await;
    let outcome = stream.outcome().await;
    assert_eq!(
        (outcome.token.as_ref(), outcome.result),
        (Some(&jobs[0]), Some(Outcome::Cancelled(v1::AttemptCancelled {})))
    );
    assert_eq!(value_of(&stream.outcome().await), "6");
    stream.ack(jobs).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_task_that_does_not_heed_its_cancellation_is_dropped() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker =
        broker.client().serve().elf("tester", elf).cancel_grace(std::time::Duration::from_millis(10));
    let worker = Worker::spawn(worker);
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_wait", 1)]).await;
    within("the start of the job", gates.started(1)).await;
    stream.cancel(vec![job.clone()]).await;
    assert_eq!(stream.outcome().await.result, Some(Outcome::Cancelled(v1::AttemptCancelled {})));
    within("the drop of the task", gates.ended(1)).await;
    stream.ack(vec![job]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn jobs_start_in_the_order_they_were_assigned_and_never_more_than_the_concurrency() {
    let (_broker, gates, worker, mut stream) = serving(1, |worker| worker.concurrency(2).window(6)).await;
    let jobs = tokens(7);
    let assign = |n: usize| assignment(&jobs[n], "task_wait", u32::try_from(n).unwrap());
    stream.assign((0..6).map(assign).collect()).await;
    // One more than the window is not taken: the heartbeat does not name it.
    stream.assign(vec![assign(6)]).await;
    stream.wait_until_confirmed().await;
    let held = stream.heartbeat().await.held;
    assert_eq!(held.len(), 6);
    assert!(!held.contains(&jobs[6]));
    within("the start of two jobs", async { gates.started(0).await + gates.started(1).await }).await;
    for n in 0..6_u32 {
        assert_eq!(gates.running(), (n..(n + 2).min(6)).collect::<Vec<_>>());
        gates.open(n);
        assert_eq!(stream.outcome().await.token.as_ref(), Some(&jobs[n as usize]));
        if n + 2 < 6 {
            within("the start of the next job", gates.started(n + 2)).await;
        }
    }
    stream.ack(jobs).await;
    worker.stop_on(stream).await.unwrap();
}

#[test]
fn beats_go_on_while_tasks_burn_every_thread() {
    /// Lets the tasks end before their runtime is dropped, which waits for them: a test that fails must not hang.
    struct Opened(Arc<Gates>);
    impl Drop for Opened {
        fn drop(&mut self) {
            (0..4).for_each(|n| self.0.open(n));
        }
    }
    // The worker's runtime is not the broker's, so that only the worker is starved.
    let (elf, gates) = TestElf::new();
    let brokers_runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut broker = brokers_runtime.block_on(FakeBroker::start());
    let workers_runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _opened = Opened(Arc::clone(&gates));
    let worker = {
        let _entered = workers_runtime.enter();
        Worker::spawn(broker.client().serve().elf("tester", elf).concurrency(4))
    };
    brokers_runtime.block_on(async {
        let mut stream = broker.accept().await;
        stream.hello().await;
        stream.welcome(1).await;
        let jobs = tokens(4);
        let burn = |(n, job)| assignment(job, "task_burn", n);
        stream.assign((0..).zip(&jobs).map(burn).collect()).await;
        within("two burning tasks", async { gates.started(0).await + gates.started(1).await }).await;
        // The first beat may have been on its way before the jobs.
        while stream.heartbeat().await.held.len() < 4 {}
        for _ in 0..10 {
            assert_eq!(stream.heartbeat().await.held.len(), 4);
        }
        assert!(stream.outcomes_waiting().is_empty(), "the tasks still burn");
        (0..4).for_each(|n| gates.open(n));
        for _ in 0..4 {
            stream.outcome().await;
        }
        stream.ack(jobs).await;
        worker.stop_on(stream).await.unwrap();
    });
}

#[tokio::test]
async fn draining_releases_what_was_not_started_and_finishes_what_was() {
    let (_broker, gates, mut worker, mut stream) = serving(1, |worker| worker.concurrency(1).window(9)).await;
    let jobs = tokens(4);
    stream.assign(jobs[..3].iter().map(|job| assignment(job, "task_wait", 1)).collect()).await;
    within("the start of the job", gates.started(1)).await;
    worker.begin_to_stop();
    assert_eq!(stream.next_but_beats().await, Some(connect_request::Kind::Draining(v1::Draining {})));
    for job in &jobs[1..3] {
        let outcome = stream.outcome().await;
        assert_eq!(
            (outcome.token.as_ref(), outcome.result),
            (Some(job), Some(Outcome::Released(v1::AttemptReleased {})))
        );
    }
    // What was on its way is released too.
    stream.assign(vec![assignment(&jobs[3], "task_wait", 1)]).await;
    assert_eq!(stream.outcome().await.result, Some(Outcome::Released(v1::AttemptReleased {})));
    gates.open(1);
    let outcome = stream.outcome().await;
    assert_eq!((outcome.token.as_ref(), value_of(&outcome).as_str()), (Some(&jobs[0]), "1"));
    assert_eq!(gates.starts(1), 1);
    stream.ack(jobs).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_with_its_grace_and_says_what_is_left() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = broker.client().serve().elf("tester", elf).drain_grace(std::time::Duration::from_millis(50));
    let worker = Worker::spawn(worker);
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    stream.assign(vec![assignment(&tokens(1)[0], "task_wait", 1)]).await;
    within("the start of the job", gates.started(1)).await;
    match worker.stop_on(stream).await {
        Err(Error::DrainIncomplete { running: 1, outcomes: 0, .. }) => {}
        other => panic!("one running task was expected to be left, and not {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_stops_at_once_while_no_broker_ever_answered() {
    let (elf, _gates) = TestElf::new();
    let client = elf_runtime::Mycelium::builder("http://127.0.0.1:1").connect_lazy().unwrap();
    let worker = Worker::spawn(client.serve().elf("tester", elf));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn nonsense_from_the_broker_does_not_stop_the_worker() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf));
    // A stream that does not begin with a welcome is given up.
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.assign(vec![assignment(&tokens(1)[0], "task_double", 1)]).await;

    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    stream.send_raw(v1::ConnectResponse::default()).await;
    stream.welcome(2).await;
    let short = v1::Token { job_id: bytes::Bytes::from_static(b"short"), attempt: 1 };
    stream.assign(vec![v1::Assignment::default(), assignment(&short, "task_double", 1)]).await;
    let unserved =
        v1::Assignment { elf: "stranger".to_owned(), ..assignment(&tokens(1)[0], "task_double", 1) };
    stream.assign(vec![unserved]).await;
    stream.cancel(vec![short.clone()]).await;
    stream.ack(vec![short.clone(), tokens(1)[0].clone()]).await;
    let unknown = vec![short, v1::Token::default()];
    stream.send(connect_response::Kind::HeartbeatAck(v1::HeartbeatAck { unknown })).await;
    stream.send(connect_response::Kind::Fault(v1::Fault::default())).await;
    let no_argument = v1::Assignment {
        arguments: vec![v1::ArgumentValue::default()],
        ..assignment(&tokens(1)[0], "task_double", 1)
    };
    stream.assign(vec![no_argument]).await;
    assert!(matches!(stream.outcome().await.result, Some(Outcome::Failure(_))));
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_double", 4)]).await;
    // An attempt that has no outcome cannot be acknowledged.
    assert_eq!(value_of(&stream.outcome().await), "8");
    assert_eq!(stream.heartbeat().await.held.len(), 2);
    drop(worker);
}

#[tokio::test]
async fn go_away_moves_the_worker_to_the_next_stream() {
    let (mut broker, gates, worker, mut stream) = serving(8, |worker| worker).await;
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_wait", 1)]).await;
    within("the start of the job", gates.started(1)).await;
    stream.send(connect_response::Kind::GoAway(v1::GoAway { message: "restart".to_owned() })).await;

    let mut next = broker.accept().await;
    let hello = next.hello().await;
    assert_eq!((hello.resume_session, hello.held), (8, vec![job.clone()]));
    next.welcome_back(8, vec![job.clone()]).await;
    gates.open(1);
    assert_eq!(next.outcome().await.token.as_ref(), Some(&job));
    next.ack(vec![job]).await;
    worker.stop_on(next).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left_and_one_that_answers_is_not() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf));
    let mut stream = broker.accept().await;
    stream.hello().await;
    // Half a lease of silence is taken for the end of a stream, and a beat comes twenty times in it.
    let duration = |millis| prost_types::Duration::try_from(Duration::from_millis(millis)).unwrap();
    let welcome = v1::Welcome {
        session: 5,
        protocol: limits::PROTOCOL_VERSION,
        lease: Some(duration(2_000)),
        heartbeat_interval: Some(duration(50)),
        ..v1::Welcome::default()
    };
    stream.send(connect_response::Kind::Welcome(welcome)).await;
    for _ in 0..25 {
        stream.heartbeat().await;
        stream.send(connect_response::Kind::HeartbeatAck(v1::HeartbeatAck::default())).await;
    }
    // From here on the broker neither answers nor closes.
    let mut second = broker.accept().await;
    assert_eq!(second.hello().await.resume_session, 5);
    second.welcome_back(5, Vec::new()).await;
    worker.stop_on(second).await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_session_is_resumed_with_the_secret_that_its_welcome_gave() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome_with_secret(5, b"a secret of 1st").await;
    stream.heartbeat().await;
    stream.cut().await;

    // A session that is resumed keeps its secret; a new one has another, or none.
    let mut stream = broker.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.resume_session, hello.session_secret.as_ref()), (5, b"a secret of 1st".as_slice()));
    stream.welcome_back(5, Vec::new()).await;
    stream.heartbeat().await;
    stream.cut().await;
    let mut stream = broker.accept().await;
    assert_eq!(stream.hello().await.session_secret.as_ref(), b"a secret of 1st");
    stream.welcome_with_secret(6, b"a secret of 2nd").await;
    stream.heartbeat().await;
    stream.cut().await;
    let mut stream = broker.accept().await;
    assert_eq!(stream.hello().await.session_secret.as_ref(), b"a secret of 2nd");
    stream.welcome(7).await;
    stream.heartbeat().await;
    stream.cut().await;
    let mut stream = broker.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.resume_session, hello.session_secret.len()), (7, 0));
    stream.welcome_back(7, Vec::new()).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_or_ends_the_worker_as_the_contract_says() {
    for (code, why, is_fatal) in [
        (Code::InvalidArgument, reason::MESSAGE_TOO_LARGE, true),
        (Code::InvalidArgument, reason::MESSAGE_UNDECODABLE, true),
        (Code::FailedPrecondition, reason::PROTOCOL_VIOLATION, true),
        (Code::Unavailable, reason::BROKER_STOPPING, false),
        (Code::Unavailable, reason::STORE_UNAVAILABLE, false),
        (Code::Aborted, reason::SESSION_TAKEN_OVER, false),
        (Code::Aborted, reason::SESSION_OVER, false),
        (Code::Aborted, reason::STREAM_NOT_READ, false),
        (Code::ResourceExhausted, reason::BROKER_BUSY, false),
        (Code::DeadlineExceeded, reason::HELLO_OVERDUE, false),
        (Code::Internal, reason::INTERNAL, false),
        (Code::NotFound, reason::MYCELIUM_NOT_FOUND, false),
    ] {
        let mut broker = FakeBroker::start().await;
        let (elf, _gates) = TestElf::new();
        let worker = Worker::spawn(broker.client().serve().elf("tester", elf));
        let mut stream = broker.accept().await;
        stream.hello().await;
        stream.welcome(5).await;
        stream.heartbeat().await;
        stream.end(refusal(code, why, None)).await;
        if is_fatal {
            let error = worker.ended().await.unwrap_err();
            assert_eq!(error.reason(), Some(why), "{error}");
            assert!(!broker.has_stream(), "{why}");
        } else {
            let mut stream = broker.accept().await;
            assert_eq!(stream.hello().await.resume_session, 5, "{why}");
            stream.welcome_back(5, Vec::new()).await;
            worker.stop_on(stream).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refused_hello_ends_the_worker_and_a_busy_broker_does_not() {
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    broker.script(|script| {
        script.refuse_connect = Some(refusal(Code::Unavailable, reason::BROKER_STOPPING, None));
    });
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf.clone()));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    worker.stop_on(stream).await.unwrap();

    for (code, why) in [
        (Code::InvalidArgument, reason::INVALID_FIELD),
        (Code::FailedPrecondition, reason::PROTOCOL_VERSION_UNSUPPORTED),
        (Code::NotFound, reason::MYCELIUM_NOT_FOUND),
    ] {
        broker.script(|script| script.refuse_connect = Some(refusal(code, why, None)));
        let error =
            within("the end of the worker", broker.client().serve().elf("tester", elf.clone()).run()).await;
        let error = error.unwrap_err();
        assert_eq!(error.reason(), Some(why), "{error}");
        assert!(!error.is_retryable());
    }
    assert!(!broker.has_stream());
}

#[tokio::test]
async fn a_worker_that_cannot_serve_says_so_before_it_connects() {
    let broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let serve = || broker.client().serve().elf("tester", elf.clone());
    for (worker, words) in [
        (serve().elf("tester", elf.clone()), "served twice"),
        (serve().elf("", elf.clone()), "1 to 255 bytes"),
        (serve().concurrency(0), "concurrency of 0"),
        (serve().concurrency(4).window(3), "smaller than its concurrency"),
        (serve().window(65_537), "over 65536"),
    ] {
        let error = within("the refusal", worker.run()).await.unwrap_err();
        assert!(matches!(error, Error::InvalidWorker { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(!broker.has_stream());
}

#[tokio::test]
async fn a_layer_wraps_every_attempt() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let timeout = tower::timeout::TimeoutLayer::new(std::time::Duration::from_millis(10));
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf).layer(timeout));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_wait", 1)]).await;
    match stream.outcome().await.result {
        Some(Outcome::Failure(failure)) => assert_eq!(failure.r#type, "Timeout"),
        other => panic!("a failure was expected, and not {other:?}"),
    }
    within("the drop of the task", gates.ended(1)).await;
    stream.ack(vec![job]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_worker_whose_threads_are_blocked_says_so_and_says_when_they_are_not() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = broker.client().serve().elf("tester", elf);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // A runtime of one thread, which is not the one that this test runs on.
    let blocked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(worker.run_until(stopped))
    });
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    assert_eq!(stream.heartbeat().await.late_by, None);
    let job = token(JobId::generate(), 1);
    stream.assign(vec![assignment(&job, "task_burn", 1)]).await;
    let late = within("a beat that says so", async {
        loop {
            let beat = stream.heartbeat().await;
            if let Some(late_by) = beat.late_by {
                assert_eq!(beat.held, std::slice::from_ref(&job), "it is a beat as any other");
                break Duration::try_from(late_by).unwrap();
            }
        }
    })
    .await;
    assert!(late >= Duration::from_secs(5), "late by {late:?}");

    gates.open(1);
    let outcome = stream.outcome().await;
    stream.ack(vec![outcome.token.unwrap()]).await;
    within("a beat that says that all is well", async {
        while stream.heartbeat().await.late_by.is_some() {}
    })
    .await;
    stop.send(()).unwrap();
    stream.goodbye().await;
    drop(stream);
    within("the end of the worker", tokio::task::spawn_blocking(|| blocked.join()))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn streams_that_are_cut_at_once_are_opened_ever_more_slowly() {
    const CUTS: u32 = 7;
    let (mut broker, _gates, worker, mut stream) = serving(5, |worker| worker).await;
    let begun = Instant::now();
    for _ in 0..CUTS {
        stream.cut().await;
        stream = broker.accept().await;
        stream.hello().await;
        stream.welcome_back(5, Vec::new()).await;
    }
    // Pauses of 25 ms at the least, each twice the one before.
    let least = Duration::from_millis(25) * (2_u32.pow(CUTS) - 1);
    assert!(begun.elapsed() >= least, "{CUTS} cuts took {:?}", begun.elapsed());

    // One that has lived for a while is opened again at once.
    let welcomed = Instant::now();
    while welcomed.elapsed() < Duration::from_millis(2_500) {
        stream.heartbeat().await;
    }
    let cut = Instant::now();
    stream.cut().await;
    let mut stream = broker.accept().await;
    assert!(cut.elapsed() < Duration::from_millis(1_500), "it came back after {:?}", cut.elapsed());
    stream.hello().await;
    stream.welcome_back(5, Vec::new()).await;
    worker.stop_on(stream).await.unwrap();
}
