//! What a worker does with attempts that run for longer than they may, and with those that do not stop.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use elf_runtime::{JobId, machine_elf};
use mycelium_proto::v1::outcome::Result as Outcome;
use mycelium_proto::v1::{self, connect_response};
use mycelium_testing::fake::{ElfStream, FakeBroker, assignment, token};
use mycelium_testing::{Worker, within};
use support::{Gates, REPORTS_EVERY, TestElf};

const RUN: Duration = Duration::from_millis(50);
/// For a task that is to stop by itself, or not at all.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(10);

async fn serving(grace: Duration) -> (FakeBroker, Arc<Gates>, Worker, ElfStream) {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = broker.client().serve().elf("tester", elf).concurrency(2).window(4).cancel_grace(grace);
    let worker = Worker::spawn(worker);
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    (broker, gates, worker, stream)
}

fn timed(token: &v1::Token, task: &str, n: u32, run: Duration) -> v1::Assignment {
    v1::Assignment { run_timeout: Some(run.try_into().unwrap()), ..assignment(token, task, n) }
}

fn new_token() -> v1::Token {
    token(JobId::generate(), 1)
}

/// Makes sure that it timed out.
fn timed_out(outcome: &v1::Outcome, task: &str) {
    let Some(Outcome::Failure(failure)) = &outcome.result else { panic!("{outcome:?}") };
    let said = (failure.r#type.as_str(), failure.message.as_str(), failure.frames[0].function.as_str());
    let message = "the task did not return within its run timeout of 50ms";
    assert_eq!(said, ("Timeout", message, format!("tester::{task}").as_str()));
    assert!(Duration::try_from(outcome.ran.unwrap()).unwrap() >= RUN, "not early: {:?}", outcome.ran);
}

fn occupied(stream: &ElfStream) -> Vec<(u32, u32, u32)> {
    stream.windows.iter().map(|window| (window.window, window.concurrency, window.occupied)).collect()
}

#[tokio::test]
async fn a_task_that_waits_is_dropped_when_its_time_and_its_grace_are_over() {
    let (_broker, gates, worker, mut stream) = serving(SHORT).await;
    let job = new_token();
    stream.assign(vec![timed(&job, "task_wait", 1, RUN)]).await;
    timed_out(&stream.outcome().await, "task_wait");
    within("the drop of the task", gates.ended(1)).await;
    stream.ack(vec![job]).await;
    assert_eq!(occupied(&stream), [], "its place is free");
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn whatever_a_task_comes_to_in_its_grace_it_has_timed_out() {
    let (_broker, gates, worker, mut stream) = serving(LONG).await;
    let (heeds, returns) = (new_token(), new_token());
    stream.assign(vec![timed(&heeds, "task_until_cancelled", 1, RUN)]).await;
    timed_out(&stream.outcome().await, "task_until_cancelled");
    stream.assign(vec![timed(&returns, "task_wait", 2, RUN)]).await;
    within("its start", gates.started(2)).await;
    tokio::time::sleep(RUN).await;
    gates.open(2);
    timed_out(&stream.outcome().await, "task_wait");
    stream.ack(vec![heeds, returns]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn a_task_that_is_to_report_is_stopped_when_it_does_not_and_goes_on_for_as_long_as_it_does() {
    const WITHIN: Duration = Duration::from_secs(1);
    const STEPS: u32 = 8;
    let (_broker, _gates, worker, mut stream) = serving(SHORT).await;
    let job = new_token();
    let progress_timeout = Some(WITHIN.try_into().unwrap());
    let assigned = v1::Assignment { progress_timeout, ..assignment(&job, "task_report", STEPS) };
    stream.assign(vec![assigned]).await;
    let outcome = stream.outcome().await;
    let Some(Outcome::Failure(failure)) = &outcome.result else { panic!("{outcome:?}") };
    let message = "the task did not report progress within its progress timeout of 1s";
    assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("Timeout", message));
    let ran = Duration::try_from(outcome.ran.unwrap()).unwrap();
    assert!(ran >= REPORTS_EVERY * STEPS + WITHIN, "not early: {ran:?}");
    stream.ack(vec![job]).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test]
async fn what_ends_in_time_is_as_if_it_had_as_long_as_it_likes() {
    let (_broker, _gates, worker, mut stream) = serving(SHORT).await;
    let all = [new_token(), new_token()];
    stream.assign(vec![timed(&all[0], "task_double", 2, LONG), timed(&all[1], "task_fail", 3, LONG)]).await;
    for _ in &all {
        match stream.outcome().await.result {
            Some(Outcome::Outputs(_)) => {}
            Some(Outcome::Failure(failure)) => assert_eq!(failure.r#type, "Broken"),
            other => panic!("{other:?}"),
        }
    }
    stream.ack(all.to_vec()).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_that_burns_is_over_in_time_and_its_place_is_taken_until_it_lets_go() {
    let (mut broker, gates, worker, mut stream) = serving(SHORT).await;
    let job = new_token();
    stream.assign(vec![timed(&job, "task_burn", 1, RUN)]).await;
    timed_out(&stream.outcome().await, "task_burn");
    assert_eq!((gates.running(), occupied(&stream)), (vec![1], vec![(3, 2, 1)]), "said before the outcome");
    stream.ack(vec![job]).await;
    // Others go on, one at a time.
    let others = [new_token(), new_token()];
    stream.assign(vec![assignment(&others[0], "task_wait", 2), assignment(&others[1], "task_wait", 3)]).await;
    within("the start of one", gates.started(2)).await;
    gates.open(2);
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&others[0]));
    within("the start of the other", gates.started(3)).await;
    assert_eq!(gates.running(), [1, 3]);
    // A stream that is opened again begins with what is left.
    stream.cut().await;
    let mut stream = broker.accept().await;
    let hello = stream.hello().await;
    let windows: Vec<_> = hello.windows.iter().map(|w| (w.window, w.concurrency, w.occupied)).collect();
    assert_eq!(windows, [(3, 2, 1)]);
    stream.welcome_back(1, others.to_vec()).await;
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&others[0]));
    gates.open(3);
    assert_eq!(stream.outcome().await.token.as_ref(), Some(&others[1]));
    gates.open(1);
    while stream.windows.is_empty() {
        stream.heartbeat().await;
    }
    assert_eq!(occupied(&stream), [(4, 2, 0)]);
    assert!(stream.outcomes_waiting().is_empty(), "it has had its outcome");
    stream.ack(others.to_vec()).await;
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_place_of_a_task_that_burns_although_it_was_cancelled_is_taken_until_it_lets_go() {
    let (_broker, gates, worker, mut stream) = serving(SHORT).await;
    let job = new_token();
    stream.assign(vec![assignment(&job, "task_burn", 1)]).await;
    within("its start", gates.started(1)).await;
    stream.cancel(vec![job.clone()]).await;
    // The broker counts it as this session's no more.
    let unknown = v1::HeartbeatAck { unknown: vec![job] };
    stream.send(connect_response::Kind::HeartbeatAck(unknown)).await;
    stream.wait_until_occupied(1).await;
    assert_eq!((gates.running(), occupied(&stream)), (vec![1], vec![(3, 2, 1)]));
    gates.open(1);
    stream.wait_until_occupied(0).await;
    assert!(stream.outcomes_waiting().is_empty(), "nobody waits for it");
    worker.stop_on(stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_elf_all_of_whose_places_are_taken_takes_nothing() {
    let (_broker, gates, worker, mut stream) = serving(SHORT).await;
    let all = [new_token(), new_token()];
    stream.assign(vec![timed(&all[0], "task_burn", 1, RUN), timed(&all[1], "task_burn", 2, RUN)]).await;
    for _ in &all {
        timed_out(&stream.outcome().await, "task_burn");
    }
    stream.ack(all.to_vec()).await;
    assert_eq!(occupied(&stream).last(), Some(&(0, 2, 2)));
    gates.open(1);
    gates.open(2);
    stream.wait_until_occupied(0).await;
    worker.stop_on(stream).await.unwrap();
}

/// Blocks a thread of its own until it is told.
#[derive(Clone, Default)]
struct Blocker(Arc<(Mutex<bool>, Condvar)>);

#[machine_elf]
impl Blocker {
    fn task_block(&self, n: u32) -> u32 {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        n
    }
}

#[tokio::test]
async fn the_place_of_a_blocking_task_is_taken_until_its_thread_lets_go() {
    for is_cancelled in [false, true] {
        let mut broker = FakeBroker::start().await;
        let blocker = Blocker::default();
        let worker = broker.client().serve().elf("tester", blocker.clone()).concurrency(2).window(4);
        let worker = Worker::spawn(worker.cancel_grace(SHORT));
        let mut stream = broker.accept().await;
        stream.hello().await;
        stream.welcome(1).await;
        let job = new_token();
        if is_cancelled {
            stream.assign(vec![assignment(&job, "task_block", 1)]).await;
            while stream.starts.is_empty() {
                stream.heartbeat().await;
            }
            stream.cancel(vec![job.clone()]).await;
            let outcome = stream.outcome().await;
            assert_eq!(outcome.result, Some(Outcome::Cancelled(v1::AttemptCancelled {})));
        } else {
            stream.assign(vec![timed(&job, "task_block", 1, RUN)]).await;
            timed_out(&stream.outcome().await, "task_block");
        }
        assert_eq!(occupied(&stream), [(3, 2, 1)], "said before the outcome");
        stream.ack(vec![job]).await;
        let (open, opened) = &*blocker.0;
        *open.lock().unwrap() = true;
        opened.notify_all();
        stream.wait_until_occupied(0).await;
        assert!(stream.outcomes_waiting().is_empty(), "it has had its outcome");
        worker.stop_on(stream).await.unwrap();
    }
}

/// The clock of the machine may be set while tasks run: nothing of a worker asks it.
#[test]
fn a_worker_reads_no_clock_that_can_be_set() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/worker");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files.iter().filter(|file| file.is_file()) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("SystemTime"), "{file:?}");
    }
}
