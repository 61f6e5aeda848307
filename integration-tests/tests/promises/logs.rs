//! What attempts log is kept, its beginning and its end, can be followed, and is in the way of nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::logs::TaskLogLayer;
use elf_runtime::{JobId, Mycelium, TaskContext, TaskError, machine_elf};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, must, until};
use mycelium_proto::v1::{self, JobStatus, LogLevel, outcome};
use mycelium_testing::Worker;
use tokio::sync::Semaphore;
use tracing_subscriber::prelude::*;

#[derive(Clone)]
struct Logger {
    steps: Arc<Semaphore>,
    goes_on: Arc<AtomicBool>,
}

impl Default for Logger {
    fn default() -> Self {
        Self { steps: Arc::new(Semaphore::new(0)), goes_on: Arc::new(AtomicBool::new(true)) }
    }
}

#[machine_elf]
impl Logger {
    async fn task_say_much(&self, context: &TaskContext, lines: u64) -> u64 {
        for number in 0..lines {
            context.log(format_args!("line {number:>100}"));
            if number % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        lines
    }

    async fn task_trace(&self) -> u64 {
        tracing::warn!(weight = 7, species = "bee", "it tilts");
        tracing::debug!("of no use");
        7
    }

    fn task_trace_blocking(&self, context: &TaskContext) -> u64 {
        context.log("by hand");
        tracing::error!("it broke");
        8
    }

    /// Says a word at each step, and fails at the first attempt.
    async fn task_step(&self, context: &TaskContext) -> Result<u64, TaskError> {
        for step in 0..2 {
            context.log(format_args!("attempt {} step {step}", context.attempt()));
            self.steps.acquire().await.map_err(TaskError::from_boxed)?.forget();
        }
        context.log("the last");
        if context.attempt() == 1 { Err(TaskError::message("once more")) } else { Ok(9) }
    }

    async fn task_flood(&self, context: &TaskContext) -> u64 {
        let mut lines = 0;
        while self.goes_on.load(Ordering::Relaxed) {
            for _ in 0..1_000 {
                context.log("x".repeat(1_000));
            }
            lines += 1_000;
            tokio::task::yield_now().await;
        }
        lines
    }

    async fn task_add(&self, one: u64, other: u64) -> u64 {
        one + other
    }
}

fn request(job: &Bytes) -> v1::ReadLogsRequest {
    v1::ReadLogsRequest { job_id: job.clone(), ..v1::ReadLogsRequest::default() }
}

fn bytes_of(job: JobId) -> Bytes {
    Bytes::copy_from_slice(job.as_bytes())
}

/// All that is kept of the newest attempt of a job: what was left out before each message, and its lines.
async fn logged(mycelium: &Mycelium, job: &Bytes) -> anyhow::Result<Vec<(u64, Vec<v1::LogLine>)>> {
    let mut logs = mycelium.read_logs(request(job)).await?;
    let mut all = Vec::new();
    while let Some(read) = must("the lines of a log", logs.next()).await?? {
        all.push((read.left_out, read.lines));
    }
    Ok(all)
}

fn texts(logged: &[(u64, Vec<v1::LogLine>)]) -> Vec<&str> {
    logged.iter().flat_map(|(_, lines)| lines).map(|line| line.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_and_the_last_lines_are_kept_and_those_between_are_counted() -> anyhow::Result<()> {
    const LINES: u64 = 20_000;
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("logger", Logger::default())).await?;
    let flow = mycelium.flow("logs");
    let tasks = Logger::tasks(&flow, "logger");
    let (much, little) = (tasks.task_say_much(LINES), tasks.task_say_much(3u64));
    let run = flow.submit().await?;
    ensure!(must("the jobs to end", run.result(&much)).await?? == LINES);
    must("the jobs to end", run.result(&little)).await??;

    let number = |text: &str| text.trim_start_matches("line").trim().parse::<u64>();
    for _ in 0..2 {
        let all = logged(&mycelium, &bytes_of(much.id())).await?;
        let mut next = 0;
        let (mut first, mut last) = (0, 0);
        for (left_out, lines) in &all {
            next += left_out;
            for line in lines {
                ensure!(number(&line.text)? == next && line.at.is_some() && line.level() == LogLevel::Info);
                next += 1;
                let bytes = line.text.len() as u64;
                if last == 0 && *left_out == 0 { first += bytes } else { last += bytes }
            }
        }
        ensure!(next == LINES, "the end is kept, and what is missing is counted: {next}");
        ensure!((40..=64).contains(&(first / 1024)), "{first} bytes at the beginning");
        ensure!((100..=192).contains(&(last / 1024)), "{last} bytes at the end");
        let little = logged(&mycelium, &bytes_of(little.id())).await?;
        ensure!(texts(&little).len() == 3 && little[0].0 == 0, "{little:?}");
        broker.kill().await?;
        broker.restart().await?;
    }

    // They go with their flow.
    let logs = broker.data_folder().join("default").join("logs");
    let folders = || Ok::<_, std::io::Error>(std::fs::read_dir(&logs)?.count());
    ensure!(folders()? == 1, "a folder for the flow in {}", logs.display());
    let flow_ids = vec![Bytes::copy_from_slice(run.flow_id().as_bytes())];
    mycelium.delete_flows(v1::DeleteFlowsRequest { flow_ids, ..v1::DeleteFlowsRequest::default() }).await?;
    until("the logs to be gone", || async { Ok((folders()? == 0).then_some(())) }).await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn what_a_task_traces_is_in_its_log() -> anyhow::Result<()> {
    let layer = TaskLogLayer::new().with_filter(tracing_subscriber::filter::LevelFilter::INFO);
    let tracing_here = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("logger", Logger::default())).await?;
    let flow = mycelium.flow("traces");
    let tasks = Logger::tasks(&flow, "logger");
    let (traced, blocking) = (tasks.task_trace(), tasks.task_trace_blocking());
    let run = flow.submit().await?;
    tracing::info!("of no task");
    must("the job to end", run.result(&traced)).await??;
    must("the job to end", run.result(&blocking)).await??;

    let lines = logged(&mycelium, &bytes_of(traced.id())).await?;
    ensure!(texts(&lines) == ["it tilts weight=7 species=\"bee\""], "{lines:?}");
    let line = &lines[0].1[0];
    ensure!(line.level() == LogLevel::Warn && line.target.contains("logs"), "{line:?}");
    let lines = logged(&mycelium, &bytes_of(blocking.id())).await?;
    ensure!(texts(&lines).first() == Some(&"by hand"), "{lines:?}");
    drop(tracing_here);
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_through_the_attempts_and_ends_with_the_job() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let logger = Logger::default();
    let worker = Worker::start(mycelium.serve().elf("logger", logger.clone())).await?;
    let flow = mycelium.flow("steps");
    let job = Logger::tasks(&flow, "logger").task_step();
    flow.submit().await?;
    let follow = v1::ReadLogsRequest { follow: true, ..request(&bytes_of(job.id())) };

    let mut logs = mycelium.read_logs(follow.clone()).await?;
    let mut told = Vec::new();
    let mut next = async |logs: &mut elf_runtime::LogReader, n: usize| -> anyhow::Result<Vec<String>> {
        while told.len() < n {
            let read = must("lines", logs.next()).await??.context("the log goes on")?;
            told.extend(read.lines.into_iter().map(|line| format!("{}: {}", read.attempt, line.text)));
        }
        Ok(std::mem::take(&mut told))
    };
    ensure!(next(&mut logs, 1).await? == ["1: attempt 1 step 0"]);
    logger.steps.add_permits(1);
    ensure!(next(&mut logs, 1).await? == ["1: attempt 1 step 1"]);
    logger.steps.add_permits(1);
    ensure!(next(&mut logs, 1).await? == ["1: the last"]);
    ensure!(must("the end of the log", logs.next()).await??.is_none(), "the job has ended");

    // Once more, through the attempt that comes.
    let retry = v1::RetryJobsRequest {
        scope: Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![bytes_of(job.id())] })),
        ..v1::RetryJobsRequest::default()
    };
    mycelium.retry_jobs(retry).await?;
    until("the second attempt", || async { Ok((mycelium.job(job.id()).await?.attempt == 2).then_some(())) })
        .await?;
    let mut logs = mycelium.read_logs(follow).await?;
    ensure!(next(&mut logs, 1).await? == ["2: attempt 2 step 0"]);
    logger.steps.add_permits(2);
    ensure!(next(&mut logs, 2).await? == ["2: attempt 2 step 1", "2: the last"]);
    ensure!(must("the end of the log", logs.next()).await??.is_none(), "the job has ended");
    let first = v1::ReadLogsRequest { attempt: 1, ..request(&bytes_of(job.id())) };
    let mut logs = mycelium.read_logs(first).await?;
    ensure!(next(&mut logs, 3).await?.last().map(String::as_str) == Some("1: the last"));
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logs_keeps_no_outcome_back() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let logger = Logger::default();
    let worker = Worker::start(mycelium.serve().elf("logger", logger.clone()).concurrency(4)).await?;
    let flow = mycelium.flow("flood");
    let flood = Logger::tasks(&flow, "logger").task_flood();
    let flood_run = flow.submit().await?;
    until("the flood to be seen", || async {
        Ok((!logged(&mycelium, &bytes_of(flood.id())).await?.is_empty()).then_some(()))
    })
    .await?;

    let flow = mycelium.flow("sums");
    let tasks = Logger::tasks(&flow, "logger");
    let mut sum = tasks.task_add(0u64, 0u64);
    for number in 1..=100u64 {
        sum = tasks.task_add(&sum, number);
    }
    let run = flow.submit().await?;
    // Each needs the outcome of the one before.
    ensure!(must("the sums, beside the flood", run.result(&sum)).await?? == 5_050);
    ensure!(mycelium.job(flood.id()).await?.status() == JobStatus::Running, "it goes on all the while");
    logger.goes_on.store(false, Ordering::Relaxed);
    let lines = must("the end of the flood", flood_run.result(&flood)).await??;
    let kept = logged(&mycelium, &bytes_of(flood.id())).await?;
    let (left_out, shown) =
        (kept.iter().map(|(left_out, _)| left_out).sum::<u64>(), texts(&kept).len() as u64);
    ensure!(left_out > 0 && left_out + shown == lines, "{left_out} left out, {shown} shown, of {lines}");
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn only_who_holds_or_has_held_an_attempt_logs_for_it() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let hello = || wire::hello(wire::declaration("scale", &[], &["n"]), 1);
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let request = wire::submission(vec![wire::job("scale", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    wire::client(&broker.url()).await?.submit_jobs(request).await?;
    let token = elf.token().await?;
    let mut other = WireElf::connect(&broker.url(), hello()).await?;
    let line = |text: &str| v1::LogLine { text: text.to_owned(), ..v1::LogLine::default() };
    let say = |token: &v1::Token, first: u64, lines: Vec<v1::LogLine>| v1::ConnectRequest {
        logs: vec![v1::LogBatch { token: Some(token.clone()), first, lines }],
        ..v1::ConnectRequest::default()
    };
    other.send(say(&token, 0, vec![line("of another")])).await?;
    other.beat(Vec::new()).await?;
    let long = "y".repeat(10_000);
    elf.send(say(&token, 0, vec![line("one"), line(&long)])).await?;
    // Some of it again, as after a cut, and then something is missing.
    elf.send(say(&token, 1, vec![line("again"), line("three")])).await?;
    elf.send(say(&token, 9, vec![line("ten")])).await?;
    let wrong = v1::Token { attempt: 7, ..token.clone() };
    elf.send(say(&wrong, 0, vec![line("of no attempt")])).await?;
    let failed =
        outcome::Result::Failure(v1::Failure { r#type: "Tilted".to_owned(), ..v1::Failure::default() });
    elf.report(vec![v1::Outcome {
        token: Some(token.clone()),
        result: Some(failed),
        ..v1::Outcome::default()
    }])
    .await?;
    elf.verdicts().await?;
    // It may come late, as far as the broker knows who held it.
    elf.send(say(&token, 10, vec![line("late")])).await?;
    elf.beat(Vec::new()).await?;
    let all = logged(&mycelium, &job).await?;
    ensure!(texts(&all) == ["one", &long[..8 * 1024], "three", "ten", "late"], "{all:?}");
    let left_out: Vec<u64> = all.iter().map(|(left_out, _)| *left_out).filter(|n| *n > 0).collect();
    ensure!(left_out == [6], "{all:?}");

    let unknown = mycelium.read_logs(v1::ReadLogsRequest { job_id: wire::id(), ..Default::default() }).await;
    let reason = match unknown {
        Ok(mut logs) => logs.next().await.err().and_then(|error| error.reason().map(str::to_owned)),
        Err(error) => error.reason().map(str::to_owned),
    };
    ensure!(reason.as_deref() == Some("JOB_NOT_FOUND"), "{reason:?}");
    broker.stop().await
}
