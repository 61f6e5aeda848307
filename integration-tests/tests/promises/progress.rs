//! How far a job is shows while it runs, as it has said last, and no longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, Mycelium, Run, TaskContext, machine_elf};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, must, until};
use mycelium_proto::v1::{self, JobStatus};
use mycelium_testing::Worker;
use tokio::sync::Semaphore;

/// Says how far it is at each step, and waits to be let on.
#[derive(Clone)]
struct Digger {
    steps: Arc<Semaphore>,
}

#[machine_elf]
impl Digger {
    async fn task_dig(&self, context: &TaskContext) -> u64 {
        for row in 0..=1_000 {
            context.progress(f64::from(row) / 2_000.0, format_args!("row {row}"));
        }
        self.pass().await;
        context.progress(0.9, "x".repeat(300));
        self.pass().await;
        7
    }
}

impl Digger {
    async fn pass(&self) {
        if let Ok(step) = self.steps.acquire().await {
            step.forget();
        }
    }
}

async fn submit(mycelium: &Mycelium) -> anyhow::Result<(Run, Job<u64>)> {
    let flow = mycelium.flow("digs");
    let job = Digger::tasks(&flow, "digger").task_dig();
    Ok((flow.submit().await?, job))
}

async fn until_said(mycelium: &Mycelium, job: &Job<u64>, text: &str) -> anyhow::Result<v1::JobProgress> {
    until("the job to be as far", || async {
        let progress = mycelium.job(job.id()).await?.progress;
        Ok(progress.filter(|progress| progress.text == text))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_progress_shows_while_a_job_runs_and_is_gone_when_it_has_ended() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let digger = Digger { steps: Arc::new(Semaphore::new(0)) };
    let worker = Worker::start(mycelium.serve().elf("digger", digger.clone())).await?;
    let (run, job) = submit(&mycelium).await?;
    let request = v1::WatchJobsRequest {
        include_progress: true,
        ..wire::watch_flow(&bytes::Bytes::copy_from_slice(run.flow_id().as_bytes()))
    };
    let mut watch = wire::client(&broker.url()).await?.watch_jobs(request).await?.into_inner();

    let said = until_said(&mycelium, &job, "row 1000").await?;
    ensure!((said.fraction, said.attempt) == (0.5, 1) && said.reported_at.is_some(), "{said:?}");
    let listed = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
    ensure!(listed.len() == 1 && listed[0].progress.as_ref() == Some(&said), "{listed:?}");
    loop {
        let message = must("the watch to tell", watch.message()).await??.context("the watch goes on")?;
        ensure!(message.progress.is_empty() || (message.commit == 0 && message.changes.is_empty()));
        if message.progress.iter().any(|told| told.progress.as_ref() == Some(&said)) {
            break;
        }
    }

    // The broker has kept it nowhere; the elf says it again.
    let status = mycelium.get_status(v1::GetStatusRequest::default()).await?;
    broker.kill().await?;
    broker.restart().await?;
    let again = until_said(&mycelium, &job, "row 1000").await?;
    ensure!(again.fraction == 0.5 && again.reported_at != said.reported_at, "{again:?}");
    ensure!(mycelium.job(job.id()).await?.attempt == 1, "it went on");
    let request = v1::WatchJobsRequest {
        include_progress: true,
        from_commit: status.commit,
        ..wire::watch_flow(&bytes::Bytes::copy_from_slice(run.flow_id().as_bytes()))
    };
    let mut watch = wire::client(&broker.url()).await?.watch_jobs(request).await?.into_inner();
    digger.steps.add_permits(1);
    until_said(&mycelium, &job, &"x".repeat(255)).await?;
    digger.steps.add_permits(1);

    ensure!(must("the job to end", run.result(&job)).await?? == 7);
    let ended = mycelium.job(job.id()).await?;
    ensure!(ended.progress.is_none(), "{ended:?}");
    let mut told = Vec::new();
    loop {
        let message = must("the watch to tell", watch.message()).await??.context("the watch goes on")?;
        told.extend(message.progress.into_iter().filter_map(|told| told.progress));
        if message.changes.iter().any(|change| change.status() == JobStatus::Done) {
            break;
        }
    }
    ensure!(told.iter().any(|told| told.text == "row 1000"), "a new watch is told the newest: {told:?}");
    worker.stop().await?;
    broker.stop().await
}

/// How far an attempt is.
fn said(token: &v1::Token, fraction: f64, text: &str) -> v1::Progress {
    v1::Progress { token: Some(token.clone()), fraction, text: text.to_owned() }
}

async fn say(elf: &mut WireElf, progress: Vec<v1::Progress>) -> anyhow::Result<()> {
    elf.send(v1::ConnectRequest { progress, ..v1::ConnectRequest::default() }).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_said_of_attempts_that_are_not_held_changes_nothing() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("scale", &[], &["n"]), 1)).await?;
    let mut other =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("other", &[], &["n"]), 1)).await?;
    let request = wire::submission(vec![wire::job("scale", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    let token = elf.token().await?;

    say(&mut other, vec![said(&token, 0.1, "of another session")]).await?;
    other.beat(Vec::new()).await?;
    let wrong = v1::Token { attempt: token.attempt + 1, ..token.clone() };
    let unreadable = v1::Token { job_id: vec![1; 3].into(), attempt: 1 };
    say(&mut elf, vec![said(&wrong, 0.2, "of another attempt"), said(&unreadable, 0.3, "")]).await?;
    say(&mut elf, vec![said(&token, f64::NAN, "no number")]).await?;
    elf.beat(vec![token.clone()]).await?;
    ensure!(wire::get_job(&client, &job).await?.progress.is_none());

    say(&mut elf, vec![said(&token, 7.0, "all of it")]).await?;
    elf.beat(vec![token.clone()]).await?;
    let progress = wire::get_job(&client, &job).await?.progress.context("it was said")?;
    ensure!((progress.fraction, progress.text.as_str()) == (1.0, "all of it"), "{progress:?}");
    // Given back, and assigned again: the attempt that said it is over.
    let released = v1::outcome::Result::Released(v1::AttemptReleased {});
    elf.report(vec![v1::Outcome { token: Some(token), result: Some(released), ..v1::Outcome::default() }])
        .await?;
    let next = elf.token().await?;
    let job = wire::get_job(&client, &job).await?;
    ensure!(job.attempt == next.attempt && job.progress.is_none(), "{job:?}");
    broker.stop().await
}

#[tokio::test]
async fn the_broker_ends_what_is_silent_for_too_long_behind_an_elf_that_does_not() -> anyhow::Result<()> {
    const WITHIN: Duration = Duration::from_millis(500);
    const MARGIN: Duration = Duration::from_secs(1);
    let broker = BrokerProcess::start(&["--run-margin", "1s"]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut hello = wire::hello(wire::declaration("scale", &[], &["n"]), 2);
    hello.tells_starts = true;
    let mut elf = WireElf::connect(&broker.url(), hello).await?;
    let progress = Some(prost_types::Duration::try_from(WITHIN)?);
    let timeouts = Some(v1::Timeouts { progress, ..v1::Timeouts::default() });
    let job = || v1::JobSpec { timeouts, ..wire::job("scale", &[], Vec::new()) };
    client.submit_jobs(wire::submission(vec![job(), job()])).await?;
    let assigned = elf.assigned().await?;
    ensure!(assigned.len() == 2 && assigned.iter().all(|assigned| assigned.progress_timeout == progress));
    let tokens: Vec<v1::Token> = assigned.into_iter().filter_map(|assigned| assigned.token).collect();
    let [silent, reports] = tokens.as_slice() else { anyhow::bail!("{tokens:?}") };
    let start = |token: &v1::Token| v1::Start { token: Some(token.clone()), ..v1::Start::default() };
    let began = Instant::now();
    elf.tell_starts(vec![start(silent), start(reports)]).await?;
    let beats = async {
        loop {
            say(&mut elf, vec![said(reports, 0.5, "on its way")]).await?;
            elf.beat(tokens.clone()).await?;
            let job = wire::get_job(&client, &silent.job_id).await?;
            if job.status() == JobStatus::Failed {
                return anyhow::Ok(job);
            }
        }
    };
    let ended = must("the silent one to end", beats).await??;
    ensure!(began.elapsed() >= WITHIN + MARGIN, "early: {:?}", began.elapsed());
    let request = v1::GetFailureRequest { failure_id: ended.failure_id, ..v1::GetFailureRequest::default() };
    let failure = client.get_failure(request).await?.into_inner().failure;
    let failure = failure.and_then(|group| group.failure).context("it is kept")?;
    let message = "the task reported no progress for longer than its progress timeout of 500ms; the broker has ended it";
    ensure!((failure.r#type.as_str(), failure.message.as_str()) == ("Timeout", message), "{failure:?}");
    let job = wire::get_job(&client, &reports.job_id).await?;
    ensure!((job.status(), job.attempt) == (JobStatus::Running, 1), "it reports: {job:?}");
    broker.stop().await
}
