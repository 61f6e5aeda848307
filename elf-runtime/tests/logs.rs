//! What programs find in their logs.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use elf_runtime::{Flow, JobId, args};
use futures::StreamExt as _;
use mycelium_proto::{reason, v1};
use mycelium_testing::fake::{FakeBroker, assignment, refusal, token};
use mycelium_testing::{Worker, within};
use support::TestElf;
use tonic::Code;
use tracing::subscriber::DefaultGuard;

/// The lines that are logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines_with(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record_one(flow: &Flow) -> elf_runtime::Job<serde_json::Value> {
    flow.call("scale", "task_weigh", args! { species: "bee" })
}

/// Explains every job by saying that its elf was never there, and counts how often it is asked.
fn never_connected(broker: &FakeBroker) -> Arc<Mutex<u32>> {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    broker.script(|script| {
        script.explain_job = Some(Box::new(move |request: v1::ExplainJobRequest| {
            *count.lock().unwrap() += 1;
            let job = v1::Job {
                job_id: request.job_id,
                elf: "scale".to_owned(),
                task: "task_weigh".to_owned(),
                status: v1::JobStatus::Ready.into(),
                ..v1::Job::default()
            };
            let kind = v1::wait_reason::Kind::NoInstance(v1::NoInstance::default());
            let reason = Some(v1::WaitReason { kind: Some(kind) });
            Ok(v1::ExplainJobResponse { job: Some(job), reason })
        }));
    });
    asked
}

#[tokio::test]
async fn a_long_wait_is_told_of_once_with_the_reason() {
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    let asked = never_connected(&broker);
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(|_| Ok(v1::SubmitJobsResponse::default())));
        script.watch_jobs = Some(Box::new(|_| Ok(futures::stream::pending().boxed())));
    });
    let flow = broker.client().flow("daily");
    let jobs: Vec<_> = (0..100).map(|_| record_one(&flow)).collect();
    let run = flow.submit().await.unwrap();
    let waits = futures::future::join_all(jobs.iter().map(|job| run.result(job)));
    let told = within("the warning", async {
        tokio::select! {
            _ = waits => panic!("no result comes"),
            () = async {
                while *asked.lock().unwrap() < 32 || log.lines_with("has been waited for").is_empty() {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    });
    told.await;
    let lines = log.lines_with("has been waited for");
    assert_eq!(lines.len(), 1, "once, for all that wait for the same reason: {lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("5 s"), "{}", lines[0]);
    assert!(lines[0].contains("READY: no elf named `scale` has ever connected"), "{}", lines[0]);
    assert_eq!(*asked.lock().unwrap(), 32, "a hundred waits ask no more than this");
}

#[tokio::test]
async fn a_flow_that_is_waited_for_long_is_told_of_by_one_of_its_jobs() {
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    never_connected(&broker);
    broker.script(|script| {
        script.get_flow = Some(Box::new(|_| {
            let counts = Some(v1::JobCounts { ready: 1, ..v1::JobCounts::default() });
            Ok(v1::GetFlowResponse { flow: Some(v1::Flow { counts, ..v1::Flow::default() }) })
        }));
        script.watch_jobs = Some(Box::new(|_| Ok(futures::stream::pending().boxed())));
        script.list_jobs = Some(Box::new(|request: v1::ListJobsRequest| {
            assert_eq!(request.page_size, 1);
            let job_id = JobId::generate().as_bytes().to_vec().into();
            let jobs = vec![v1::Job { job_id, ..v1::Job::default() }];
            Ok(v1::ListJobsResponse { jobs, ..v1::ListJobsResponse::default() })
        }));
    });
    let run = broker.client().run(elf_runtime::FlowId::generate());
    within("the warning", async {
        tokio::select! {
            _ = run.wait() => panic!("it does not end"),
            () = async { while log.lines_with("ever connected").is_empty() { tokio::task::yield_now().await } } => {}
        }
    })
    .await;
}

/// An elf with more text than its declaration may have.
struct Verbose;

impl elf_runtime::Elf for Verbose {
    fn declaration(&self) -> elf_runtime::ElfDeclaration {
        let task = elf_runtime::TaskDeclaration::new("task_weigh", "t".repeat(1_000_000));
        elf_runtime::ElfDeclaration::new("s".repeat(1_000_000)).docs("d".repeat(200_000)).task(task)
    }

    fn call(
        self: Arc<Self>,
        call: elf_runtime::TaskCall,
        _context: elf_runtime::TaskContext,
    ) -> futures::future::BoxFuture<'static, Result<elf_runtime::TaskOutputs, elf_runtime::TaskError>> {
        Box::pin(async move { Err(call.unknown_task()) })
    }
}

#[tokio::test]
async fn an_elf_whose_sources_are_left_out_is_named_once_with_its_sizes() {
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    let worker = broker.client().serve().elf("verbose", Verbose).elf("other", TestElf::new().0);
    within("the end", worker.run_until(std::future::ready(()))).await.unwrap();
    let lines = log.lines_with("too large");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = ["WARN", "elf=\"verbose\"", "bytes=22", "bytes_max=2097152", "bytes_sent=20", "source texts"];
    assert!(told.iter().all(|part| lines[0].contains(part)), "{}", lines[0]);
}

#[tokio::test]
async fn a_wait_for_a_job_that_is_gone_ends() {
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(|_| Ok(v1::SubmitJobsResponse::default())));
        // A broker that was set back to an earlier store, or one that does not refuse watches of unknown flows.
        script.watch_jobs = Some(Box::new(|_| Ok(futures::stream::pending().boxed())));
        script.explain_job = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::JOB_NOT_FOUND, None))));
    });
    let flow = broker.client().flow("daily");
    let job = record_one(&flow);
    let run = flow.submit().await.unwrap();
    let error = within("the error", run.result(&job)).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::JOB_NOT_FOUND));
}

#[tokio::test]
async fn a_flow_that_is_dropped_unsubmitted_is_told_of() {
    const TOLD: &str = "dropped with jobs that were recorded and not submitted";
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(|_| Ok(v1::SubmitJobsResponse::default())));
    });
    let client = broker.client();
    drop(client.flow("empty"));
    drop(record_one(&Flow::detached("of a test")));
    let flow = client.flow("submitted");
    let job = record_one(&flow);
    flow.submit().await.unwrap();
    drop(flow);
    assert_eq!(log.lines_with(TOLD), [] as [String; 0]);

    let flow = client.flow("forgotten");
    let (clone, _job, _other) = (flow.clone(), record_one(&flow), record_one(&flow).after(&job));
    drop(flow);
    assert_eq!(log.lines_with(TOLD), [] as [String; 0], "it can still be submitted");
    drop(clone);
    let lines = log.lines_with(TOLD);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("flow=\"forgotten\""), "{}", lines[0]);
    assert!(lines[0].contains("jobs=2"), "{}", lines[0]);
}

#[tokio::test]
async fn what_a_broker_warns_of_is_logged_once_each() {
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        let all = ["it was there", "nobody takes `b`", "nobody takes `c`"].map(str::to_owned);
        let mut answers = vec![all.to_vec(), all[..2].to_vec(), Vec::new()].into_iter().rev();
        script.submit_jobs = Some(Box::new(move |_| {
            let warnings = answers.next().unwrap();
            Ok(v1::SubmitJobsResponse { warnings, ..v1::SubmitJobsResponse::default() })
        }));
    });
    let client = broker.client();
    for (name, told) in [("none", 0), ("two", 2), ("another", 3)] {
        // A clone is the same program.
        let flow = client.clone().flow(name);
        record_one(&flow);
        flow.submit().await.unwrap();
        assert_eq!(log.lines_with("WARN").len(), told, "{:?}", log.lines_with("WARN"));
    }
    for warning in ["it was there", "nobody takes `b`", "nobody takes `c`"] {
        assert_eq!(log.lines_with(warning).len(), 1, "{warning}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_one_line() {
    let (log, _guard) = Log::begin();
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    let fails = token(JobId::generate(), 3);
    for (token, task) in [(&fails, "task_fail"), (&token(JobId::generate(), 1), "task_double")] {
        stream.assign(vec![assignment(token, task, 424_242)]).await;
        let outcome = stream.outcome().await;
        stream.ack(vec![outcome.token.unwrap()]).await;
    }
    worker.stop_on(stream).await.unwrap();
    let lines = log.lines_with("WARN");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let job_id = JobId::try_from(fails.job_id.as_ref()).unwrap().to_string();
    for text in [
        "an attempt failed",
        &job_id,
        "attempt=3",
        "tester",
        "task_fail",
        "Broken",
        "it snapped",
        "support/mod.rs:",
    ] {
        assert!(lines[0].contains(text), "`{text}` is missing in {}", lines[0]);
    }
    assert_eq!(log.lines_with("424242"), [] as [String; 0], "no values");
}

#[tokio::test]
async fn a_call_that_is_repeated_for_long_is_told_of_once() {
    let (log, _guard) = Log::begin();
    let broker = FakeBroker::start().await;
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(move |_| {
            *count.lock().unwrap() += 1;
            Err(refusal(
                Code::ResourceExhausted,
                reason::BROKER_BUSY,
                Some(std::time::Duration::from_millis(100)),
            ))
        }));
    });
    let flow = broker.client().flow("refused");
    record_one(&flow);
    let told_twice = async {
        while log.lines_with("has been repeated").is_empty() {
            tokio::task::yield_now().await;
        }
        let before = *calls.lock().unwrap();
        while *calls.lock().unwrap() < before + 2 {
            tokio::task::yield_now().await;
        }
    };
    within("the warning", async {
        tokio::select! {
            _ = flow.submit() => panic!("it is refused for longer than the test waits"),
            () = told_twice => {}
        }
    })
    .await;
    let lines = log.lines_with("has been repeated");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains(reason::BROKER_BUSY), "{}", lines[0]);
}

/// A log that panics once, at the first attempt that failed.
#[derive(Clone, Default)]
struct Fragile(Arc<std::sync::atomic::AtomicBool>);

impl io::Write for Fragile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_first = String::from_utf8_lossy(bytes).contains("an attempt failed")
            && !self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!is_first, "the disk of the log is full");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_that_panics_costs_its_attempt_a_failure_and_no_more() {
    let fragile = Fragile::default();
    let subscriber = tracing_subscriber::fmt().with_writer(move || fragile.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut broker = FakeBroker::start().await;
    let (elf, _gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf).concurrency(1));
    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome(1).await;
    for (task, expected) in
        [("task_fail", Some("Panic")), ("task_fail", Some("Broken")), ("task_double", None)]
    {
        stream.assign(vec![assignment(&token(JobId::generate(), 1), task, 2)]).await;
        let outcome = stream.outcome().await;
        let failure = match outcome.result.unwrap() {
            v1::outcome::Result::Failure(failure) => Some(failure.r#type),
            _ => None,
        };
        assert_eq!(failure.as_deref(), expected, "{task}");
        stream.ack(vec![outcome.token.unwrap()]).await;
    }
    worker.stop_on(stream).await.unwrap();
}
