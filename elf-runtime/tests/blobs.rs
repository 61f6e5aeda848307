//! Values above 64 KiB on their way, in both directions, against a broker that keeps blobs in a map.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use elf_runtime::{Error, Flow, FlowId, JobId, Mycelium, Worker, machine_elf};
use futures::StreamExt as _;
use mycelium_proto::v1::outcome::Result as Outcome;
use mycelium_proto::v1::payload::Content;
use mycelium_proto::v1::{self};
use mycelium_proto::{limits, reason};
use mycelium_testing::fake::{ElfStream, FakeBroker, refusal, token};
use mycelium_testing::wire::blob_of;
use mycelium_testing::within;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

const MAX: usize = limits::PAYLOAD_BYTES_MAX;

/// How often its tasks were started.
#[derive(Default)]
struct Parrot(Arc<AtomicUsize>);

#[machine_elf]
impl Parrot {
    /// Returns what it is given.
    async fn task_repeat(&self, x: serde_json::Value) -> serde_json::Value {
        self.0.fetch_add(1, Ordering::SeqCst);
        x
    }

    /// Returns so many letters.
    async fn task_say(&self, n: usize) -> String {
        self.0.fetch_add(1, Ordering::SeqCst);
        "x".repeat(n)
    }
}

/// The JSON of a text that takes so many bytes.
fn text(n_bytes: usize) -> Bytes {
    format!("\"{}\"", "x".repeat(n_bytes - 2)).into()
}

fn inline(bytes: impl Into<Bytes>) -> v1::Payload {
    v1::Payload { encoding: String::new(), content: Some(Content::Inline(bytes.into())) }
}

fn blob(name: v1::BlobRef) -> v1::Payload {
    v1::Payload { encoding: String::new(), content: Some(Content::Blob(name)) }
}

fn assignment(job: &v1::Token, task: &str, parameter: &str, payload: v1::Payload) -> v1::Assignment {
    v1::Assignment {
        token: Some(job.clone()),
        elf: "parrot".to_owned(),
        task: task.to_owned(),
        arguments: vec![v1::ArgumentValue { parameter: parameter.to_owned(), payload: Some(payload) }],
        flow_id: Bytes::from_static(&[7; 16]),
        ..v1::Assignment::default()
    }
}

fn content(outcome: &v1::Outcome) -> Content {
    match &outcome.result {
        Some(Outcome::Outputs(outputs)) => outputs.outputs[0].payload.clone().unwrap().content.unwrap(),
        other => panic!("outputs were expected, and not {other:?}"),
    }
}

fn failure(outcome: &v1::Outcome) -> &v1::Failure {
    match &outcome.result {
        Some(Outcome::Failure(failure)) => failure,
        other => panic!("a failure was expected, and not {other:?}"),
    }
}

fn hex(name: &v1::BlobRef) -> String {
    name.digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A gate that is closed, and what opens it.
fn gate(broker: &FakeBroker) -> watch::Sender<bool> {
    let (open, gate) = watch::channel(false);
    broker.script(|script| script.blobs.gate = Some(gate));
    open
}

struct Serving {
    stream: ElfStream,
    started: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), Error>>,
}

impl Serving {
    async fn start(broker: &mut FakeBroker, setup: impl FnOnce(Worker) -> Worker) -> Self {
        let parrot = Parrot::default();
        let started = Arc::clone(&parrot.0);
        let worker = setup(broker.client().serve().elf("parrot", parrot));
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = tokio::spawn(worker.run_until(stopped));
        let mut stream = broker.accept().await;
        stream.hello().await;
        stream.welcome(1).await;
        Self { stream, started, stop, worker }
    }

    async fn run(&mut self, assignment: v1::Assignment) -> v1::Outcome {
        self.stream.assign(vec![assignment]).await;
        let outcome = self.stream.outcome().await;
        self.stream.ack(vec![outcome.token.clone().unwrap()]).await;
        outcome
    }

    async fn stop(mut self) {
        self.stop.send(()).unwrap();
        self.stream.goodbye().await;
        drop(self.stream);
        within("the end of the worker", self.worker).await.unwrap().unwrap();
    }
}

fn job() -> v1::Token {
    token(JobId::generate(), 1)
}

#[tokio::test]
async fn a_worker_reads_arguments_and_writes_outputs_beyond_the_limit_and_only_those() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    for n in [MAX, MAX + 1] {
        let given = text(n);
        let payload = if n > MAX {
            blob(broker.script(|script| script.blobs.keep(given.clone())))
        } else {
            inline(given.clone())
        };
        let outcome = serving.run(assignment(&job(), "task_repeat", "x", payload)).await;
        let expected = if n > MAX { Content::Blob(blob_of(&given)) } else { Content::Inline(given) };
        assert!(content(&outcome) == expected, "{n} bytes");
        // The two quotes are bytes too.
        let outcome = serving.run(assignment(&job(), "task_say", "n", inline((n - 2).to_string()))).await;
        assert!(content(&outcome) == expected, "{n} bytes");
    }
    broker.script(|script| assert_eq!(script.blobs.reads, 1, "what was inline was not read"));
    serving.stop().await;
}

#[tokio::test]
async fn a_blob_that_several_jobs_are_given_is_read_once() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker.concurrency(10)).await;
    let given = text(3 * limits::BLOB_CHUNK_BYTES);
    let name = broker.script(|script| script.blobs.keep(given));
    let open = gate(&broker);
    let jobs: Vec<_> = (0..10).map(|_| job()).collect();
    let assignments = jobs.iter().map(|job| assignment(job, "task_repeat", "x", blob(name.clone())));
    serving.stream.assign(assignments.collect()).await;
    // A beat after the assignments have arrived shows that reading holds nobody up.
    let held = serving.stream.heartbeat().await.held.len();
    assert!(held == 0 || held == 10);
    while serving.stream.heartbeat().await.held.len() < 10 {}
    assert_eq!(serving.started.load(Ordering::SeqCst), 0);
    open.send(true).unwrap();
    for _ in &jobs {
        let outcome = serving.stream.outcome().await;
        assert!(content(&outcome) == Content::Blob(name.clone()));
    }
    serving.stream.ack(jobs).await;
    broker.script(|script| {
        assert_eq!(script.blobs.reads, 1);
        assert!(script.blobs.written.is_empty(), "the broker had it");
    });
    serving.stop().await;
}

#[tokio::test]
async fn what_is_damaged_or_goes_on_or_is_gone_fails_the_job_by_its_name() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let name = broker.script(|script| script.blobs.keep(text(MAX + 1)));
    let given = || assignment(&job(), "task_repeat", "x", blob(name.clone()));

    broker.script(|script| script.blobs.damage = true);
    let outcome = serving.run(given()).await;
    let damaged = failure(&outcome);
    assert_eq!(damaged.r#type, "BlobError");
    let begin = format!(
        "the argument for the parameter `x` cannot be read: blob {} is damaged: what came has the digest ",
        hex(&name)
    );
    assert!(damaged.message.starts_with(&begin), "{}", damaged.message);

    broker.script(|script| (script.blobs.damage, script.blobs.overrun) = (false, true));
    let outcome = serving.run(given()).await;
    let end = format!("blob {} is damaged: more came than its {} bytes", hex(&name), MAX + 1);
    assert!(failure(&outcome).message.ends_with(&end), "{}", failure(&outcome).message);

    // A size that is a lie takes no memory, and is found out.
    broker.script(|script| script.blobs.overrun = false);
    let lie = v1::BlobRef { size: limits::BLOB_BYTES_MAX, ..name.clone() };
    let outcome = serving.run(assignment(&job(), "task_repeat", "x", blob(lie))).await;
    let end = format!("only {} of its {} bytes came", MAX + 1, limits::BLOB_BYTES_MAX);
    assert!(failure(&outcome).message.ends_with(&end), "{}", failure(&outcome).message);

    broker.script(|script| script.blobs.kept.clear());
    let outcome = serving.run(given()).await;
    let gone = failure(&outcome);
    assert_eq!(gone.r#type, "BlobError");
    assert!(
        gone.message.contains(&hex(&name)) && gone.message.contains(reason::BLOB_NOT_FOUND),
        "{}",
        gone.message
    );
    assert_eq!(serving.started.load(Ordering::SeqCst), 0, "no task was started with any of it");
    serving.stop().await;
}

#[tokio::test]
async fn a_broker_that_cannot_take_or_give_a_blob_now_is_asked_again() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let busy = || refusal(Code::Unavailable, reason::STORE_UNAVAILABLE, None);
    let name = broker.script(|script| {
        script.blobs.fail_reads.extend([busy(), Status::unavailable("away")]);
        script.blobs.fail_writes.extend([busy(), Status::unavailable("away")]);
        script.blobs.keep(text(MAX + 1))
    });
    let outcome = serving.run(assignment(&job(), "task_repeat", "x", blob(name.clone()))).await;
    assert!(content(&outcome) == Content::Blob(name));
    let outcome = serving.run(assignment(&job(), "task_say", "n", inline("100000"))).await;
    let said = blob_of(&text(100_002));
    assert!(content(&outcome) == Content::Blob(said.clone()));
    broker.script(|script| {
        assert_eq!(script.blobs.written, [said.digest]);
        assert!(script.blobs.fail_reads.is_empty() && script.blobs.fail_writes.is_empty());
    });
    serving.stop().await;
}

#[tokio::test]
async fn a_blob_that_is_broken_off_is_read_on_from_there() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let given = text(5 * MAX);
    let name = broker.script(|script| {
        // An error, an end before the end, an error before anything came.
        script.blobs.cut_reads.extend([(2 * MAX, true), (MAX + 7, false), (0, true)]);
        script.blobs.keep(given)
    });
    let outcome = serving.run(assignment(&job(), "task_repeat", "x", blob(name.clone()))).await;
    assert!(content(&outcome) == Content::Blob(name));
    let offsets = [0, 2 * MAX, 3 * MAX + 7, 3 * MAX + 7].map(|offset| offset as u64);
    broker.script(|script| assert_eq!(std::mem::take(&mut script.blobs.offsets), offsets));

    // What was damaged when the first part was read is read once more from its beginning.
    let given = text(3 * MAX);
    let name = broker.script(|script| {
        let name = script.blobs.keep(given.clone());
        let mut damaged = given.to_vec();
        damaged[9] = b'y';
        script.blobs.kept.insert(name.digest.clone(), damaged.into());
        script.blobs.cut_reads.extend([(MAX, true)]);
        name
    });
    let token = job();
    serving.stream.assign(vec![assignment(&token, "task_repeat", "x", blob(name.clone()))]).await;
    within("the first part", async {
        while broker.script(|script| script.blobs.offsets.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    broker.script(|script| script.blobs.kept.insert(name.digest.clone(), given));
    let outcome = serving.stream.outcome().await;
    assert!(content(&outcome) == Content::Blob(name));
    serving.stream.ack(vec![token]).await;
    broker.script(|script| assert_eq!(script.blobs.offsets, [0, MAX as u64, 0]));
    serving.stop().await;
}

#[tokio::test]
async fn an_output_that_the_broker_refuses_fails_the_job() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let differs = refusal(Code::InvalidArgument, reason::BLOB_DIFFERS, None);
    broker.script(|script| script.blobs.fail_writes.push_back(differs));
    let outcome = serving.run(assignment(&job(), "task_say", "n", inline("100000"))).await;
    let failure = failure(&outcome);
    assert_eq!(failure.r#type, "BlobError");
    assert!(failure.message.contains(&hex(&blob_of(&text(100_002)))), "{}", failure.message);
    serving.stop().await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_its_argument_is_read_never_starts() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker.concurrency(1)).await;
    let name = broker.script(|script| script.blobs.keep(text(3 * limits::BLOB_CHUNK_BYTES)));
    let open = gate(&broker);
    let job = job();
    serving.stream.assign(vec![assignment(&job, "task_repeat", "x", blob(name))]).await;
    within("the read", async {
        while broker.script(|script| script.blobs.reads) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    serving.stream.cancel(vec![job.clone()]).await;
    let outcome = serving.stream.outcome().await;
    assert!(matches!(outcome.result, Some(Outcome::Cancelled(_))), "{outcome:?}");
    serving.stream.ack(vec![job]).await;
    open.send(true).unwrap();
    within("the end of the read", async {
        while broker.script(|script| script.blobs.reads_dropped) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(serving.started.load(Ordering::SeqCst), 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_waits_for_outputs_that_are_being_written() {
    let mut broker = FakeBroker::start().await;
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let open = gate(&broker);
    let job = job();
    serving.stream.assign(vec![assignment(&job, "task_say", "n", inline("100000"))]).await;
    // While it is written the job counts as held, and the elf gives signs of life.
    while serving.started.load(Ordering::SeqCst) == 0 {
        serving.stream.heartbeat().await;
    }
    assert_eq!(serving.stream.heartbeat().await.held, vec![job.clone()]);
    serving.stop.send(()).unwrap();
    let Some(v1::connect_request::Kind::Draining(_)) = serving.stream.next_but_beats().await else {
        panic!("the worker says that it leaves");
    };
    assert_eq!(serving.stream.heartbeat().await.held, vec![job.clone()]);
    open.send(true).unwrap();
    let outcome = serving.stream.outcome().await;
    assert!(content(&outcome) == Content::Blob(blob_of(&text(100_002))));
    serving.stream.ack(vec![job]).await;
    serving.stream.goodbye().await;
    drop(serving.stream);
    within("the end of the worker", serving.worker).await.unwrap().unwrap();
}

/// Takes submissions, and tells of the jobs in them.
fn submissions(broker: &FakeBroker) -> Arc<Mutex<Vec<v1::JobSpec>>> {
    let jobs = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&jobs);
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(move |request| {
            taken.lock().unwrap().extend(request.jobs);
            Ok(v1::SubmitJobsResponse::default())
        }));
    });
    jobs
}

fn literals(spec: &v1::JobSpec) -> Vec<Content> {
    let literal = |node: &v1::ValueNode| match &node.kind {
        Some(v1::value_node::Kind::Literal(payload)) => payload.content.clone(),
        _ => None,
    };
    spec.nodes.iter().filter_map(literal).collect()
}

fn record(flow: &Flow, letters: usize) {
    Parrot::tasks(flow, "parrot").task_repeat(serde_json::Value::from("x".repeat(letters)));
}

#[tokio::test]
async fn literals_are_written_before_the_jobs_that_name_them_and_equal_ones_once() {
    let broker = FakeBroker::start().await;
    let jobs = submissions(&broker);
    let client = broker.client();
    let flow = client.flow("literals");
    record(&flow, MAX - 2);
    record(&flow, MAX - 1);
    within("the submission", flow.submit()).await.unwrap();
    // Another flow of this process names the same value again.
    let other = client.flow("more");
    record(&other, MAX - 1);
    within("the submission", other.submit()).await.unwrap();

    let (small, large) = (text(MAX), text(MAX + 1));
    let jobs: Vec<_> = jobs.lock().unwrap().iter().map(literals).collect();
    let name = Content::Blob(blob_of(&large));
    assert!(jobs == [vec![Content::Inline(small)], vec![name.clone()], vec![name]]);
    broker.script(|script| {
        assert_eq!(script.blobs.written, [blob_of(&large).digest]);
        assert!(script.blobs.asked.is_empty(), "one that is not very large is sent without asking");
    });
}

#[tokio::test]
async fn of_several_literals_only_those_are_sent_that_the_broker_lacks() {
    let broker = FakeBroker::start().await;
    submissions(&broker);
    broker.script(|script| script.blobs.keep(text(MAX + 3)));
    let flow = broker.client().flow("literals");
    for more in [1, 2, 1, 3] {
        record(&flow, MAX - 2 + more);
    }
    within("the submission", flow.submit()).await.unwrap();
    broker.script(|script| {
        assert_eq!(script.blobs.asked, [3]);
        let mut written = script.blobs.written.clone();
        written.sort();
        let mut expected: Vec<_> = [1, 2].map(|more| blob_of(&text(MAX + more)).digest).into();
        expected.sort();
        assert_eq!(written, expected);
    });
}

#[tokio::test]
async fn literals_that_the_broker_has_not_kept_are_written_again_but_not_forever() {
    let broker = FakeBroker::start().await;
    let client = broker.client();
    let flow = client.flow("literals");
    record(&flow, MAX);
    let missing = || refusal(Code::NotFound, reason::BLOB_NOT_FOUND, None);
    let mut answers = vec![Ok(v1::SubmitJobsResponse::default()), Err(missing())];
    broker.script(|script| script.submit_jobs = Some(Box::new(move |_| answers.pop().unwrap())));
    within("the submission", flow.submit()).await.unwrap();
    broker.script(|script| assert_eq!(script.blobs.written.len(), 1, "it was there after all"));

    record(&flow, MAX + 1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let kept = broker.script(|script| {
        script.submit_jobs = Some(Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(missing())
        }));
        script.blobs.kept.len()
    });
    let error = within("the refusal", flow.submit()).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::BLOB_NOT_FOUND));
    assert_eq!((kept, calls.load(Ordering::SeqCst)), (1, 4));
}

/// A broker on which one job is done, with this output.
fn done(broker: &FakeBroker, client: &Mycelium, payload: v1::Payload) -> (elf_runtime::Run, JobId) {
    let (job_id, flow_id) = (JobId::generate(), FlowId::generate());
    let output = v1::NamedOutput { name: "value".to_owned(), payload: Some(payload) };
    let change = v1::JobChange {
        job_id: job_id.as_bytes().to_vec().into(),
        status: v1::JobStatus::Done.into(),
        outputs: vec![output.clone()],
        ..v1::JobChange::default()
    };
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let message = v1::WatchJobsResponse {
                commit: 1,
                changes: vec![change.clone()],
                ..v1::WatchJobsResponse::default()
            };
            Ok(futures::stream::iter([Ok(message)]).chain(futures::stream::pending()).boxed())
        }));
        script.get_outputs = Some(Box::new(move |_| {
            let job = v1::JobOutputs {
                job_id: job_id.as_bytes().to_vec().into(),
                status: v1::JobStatus::Done.into(),
                outputs: vec![output.clone()],
            };
            Ok(v1::GetOutputsResponse { jobs: vec![job] })
        }));
    });
    broker.knows_jobs_of(flow_id);
    (client.run(flow_id), job_id)
}

#[tokio::test]
async fn results_that_are_blobs_are_read_when_they_are_asked_for() {
    let broker = FakeBroker::start().await;
    let client = broker.client();
    let value = text(MAX + 1);
    let name = broker.script(|script| {
        script.blobs.fail_reads.push_back(Status::unavailable("away"));
        script.blobs.keep(value.clone())
    });
    let (run, job_id) = done(&broker, &client, blob(name.clone()));
    let outputs = within("the outputs", run.outputs(job_id)).await.unwrap();
    assert!(*outputs.get("value").unwrap().bytes() == value);
    let outputs = within("the outputs", client.outputs(job_id)).await.unwrap().outputs;
    assert!(outputs[0].payload == Some(inline(value)));
    broker.script(|script| assert_eq!(script.blobs.reads, 2, "the third time it is at hand"));
    let unread = within("the outputs", client.outputs_unread(job_id)).await.unwrap().outputs;
    assert_eq!(unread[0].payload, Some(blob(name)));
}

#[tokio::test]
async fn a_damaged_result_is_an_error_that_names_the_blob() {
    let broker = FakeBroker::start().await;
    let name = broker.script(|script| {
        script.blobs.damage = true;
        script.blobs.keep(text(MAX + 1))
    });
    let (run, job_id) = done(&broker, &broker.client(), blob(name.clone()));
    match within("the error", run.outputs(job_id)).await.unwrap_err() {
        Error::DamagedBlob { digest, problem } => {
            assert_eq!(digest, hex(&name));
            assert!(problem.starts_with("what came has the digest"), "{problem}");
        }
        other => panic!("the damage was expected, and not {other:?}"),
    }
}

#[tokio::test]
async fn a_million_integers_make_a_round_trip() {
    let mut broker = FakeBroker::start().await;
    let jobs = submissions(&broker);
    let mut serving = Serving::start(&mut broker, |worker| worker).await;
    let client = broker.client();
    let numbers: Vec<i64> = (0..1_000_000).map(|n| n * 7_919 - 3_000_000_000).collect();
    let flow = client.flow("numbers");
    let recorded = flow.call("parrot", "task_repeat", elf_runtime::args! { x: &numbers });
    within("the submission", flow.submit()).await.unwrap();
    let literal = literals(&jobs.lock().unwrap()[0]).remove(0);
    let Content::Blob(name) = literal else { panic!("it is large") };
    let token = token(recorded.id(), 1);
    let outcome = serving.run(assignment(&token, "task_repeat", "x", blob(name))).await;
    let Content::Blob(returned) = content(&outcome) else { panic!("it is large") };
    let (run, job_id) = done(&broker, &client, blob(returned));
    let outputs = within("the outputs", run.outputs(job_id)).await.unwrap();
    assert!(outputs.get("value").unwrap().read::<Vec<i64>>().unwrap() == numbers);
    serving.stop().await;
}
