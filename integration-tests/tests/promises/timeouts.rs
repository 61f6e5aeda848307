//! What is not begun, or does not end, in time ends EXPIRED, and what it held is free again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, JobId, Mycelium, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, flow_id_bytes, jobs_of, must, until,
};
use mycelium_proto::v1::{self, JobStatus};

/// Time enough for a process to notice.
const SOON: Duration = Duration::from_millis(700);
const LATE: Duration = Duration::from_secs(300);

async fn status(mycelium: &Mycelium, job: JobId) -> anyhow::Result<JobStatus> {
    Ok(mycelium.job(job).await?.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_begins_in_time_expires_and_a_retry_gives_it_the_same_time_again() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("unattended");
    let tasks = Tester::tasks(&flow, "nobody");
    let waits: Job<u64> = tasks.task_add(list![1u64], 0).queue_timeout(SOON);
    let needs: Job<u64> = tasks.task_add(list![&waits], 0).queue_timeout(SOON);
    let patient: Job<u64> = tasks.task_add(list![2u64], 0).queue_timeout(LATE);
    let began = Instant::now();
    let run = flow.submit().await?;
    let before = mycelium.why(patient.id()).await?;
    ensure!(
        before.starts_with("READY (expires at 2") && before.contains("no elf named `nobody`"),
        "{before}"
    );

    let error = must("the end of the job", run.result(&waits)).await?;
    ensure!(began.elapsed() >= SOON, "it has ended after {:?}", began.elapsed());
    let Err(Error::JobFailed(failure)) = error else { anyhow::bail!("{error:?}") };
    ensure!(failure.job.status == JobStatus::Expired && failure.failure.is_none(), "{failure:?}");
    let error = must("the end of what needs it", run.result(&needs)).await?;
    let Err(Error::JobFailed(failure)) = error else { anyhow::bail!("{error:?}") };
    let cause = failure.cause.context("it has a cause")?;
    ensure!((cause.job_id, cause.status) == (waits.id(), JobStatus::Expired), "{cause:?}");
    let why = mycelium.why(waits.id()).await?;
    ensure!(why.starts_with("EXPIRED: it waited too long for a process to begin it"), "{why}");
    let expected = v1::JobCounts { ready: 1, expired: 1, upstream_failed: 1, ..v1::JobCounts::default() };
    ensure!(counts(&mycelium, run.flow_id()).await? == expected);
    let statuses = vec![JobStatus::Expired.into()];
    let request = v1::ListJobsRequest { statuses, ..v1::ListJobsRequest::default() };
    let listed = mycelium.list_jobs(request).await?.jobs;
    ensure!(listed.len() == 1 && listed[0].job_id == waits.id().as_bytes()[..], "{listed:?}");

    let scope = Some(v1::retry_jobs_request::Scope::FlowId(flow_id_bytes(run.flow_id())));
    let retried =
        mycelium.retry_jobs(v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() }).await?;
    ensure!((retried.jobs_retried, retried.dependents_revived) == (1, 1), "{retried:?}");
    let again = mycelium.job(waits.id()).await?;
    ensure!(again.status() == JobStatus::Ready && again.expires_at.is_some(), "{again:?}");
    until("the job to expire again", || async {
        Ok((status(&mycelium, waits.id()).await? == JobStatus::Expired).then_some(()))
    })
    .await?;
    ensure!(status(&mycelium, patient.id()).await? == JobStatus::Ready);
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_elf_holds_is_taken_back_and_what_it_runs_is_stopped() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("slow", 1, 2)).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("in hands");
    let tasks = Tester::tasks(&flow, "slow");
    let runs: Job<u64> = tasks.task_pass(1, gate.clone()).queue_timeout(LATE).total_timeout(SOON * 4);
    let run = flow.submit().await?;
    until("the first to run", || async {
        Ok((status(&mycelium, runs.id()).await? == JobStatus::Running).then_some(()))
    })
    .await?;
    let held: Job<u64> = tasks.task_add(list![1u64], 0).queue_timeout(SOON);
    flow.submit().await?;
    until("the second to be held", || async {
        Ok((status(&mycelium, held.id()).await? == JobStatus::Assigned).then_some(()))
    })
    .await?;

    for job in [&held, &runs] {
        let ended = must("the end of a job", run.result(job)).await?;
        let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
        ensure!(failure.job.status == JobStatus::Expired, "{failure:?}");
    }
    let why = mycelium.why(runs.id()).await?;
    ensure!(why.contains("total timeout"), "{why}");
    until("the elf to let go", || async {
        let request = v1::GetElfRequest { name: "slow".to_owned(), ..v1::GetElfRequest::default() };
        let elf = mycelium.get_elf(request).await?.elf.context("the elf is known")?;
        Ok(elf.instances.iter().all(|instance| instance.held == 0).then_some(()))
    })
    .await?;
    let entries = Diary::read([elf.diary()])?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(started.keys().eq([&runs.id()]), "what was taken back never began: {started:?}");
    ensure!(Diary::attempts(&entries, Event::Cancelled) == started, "what ran has noticed");
    let job_id = runs.id().as_bytes().to_vec().into();
    let request = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
    let attempts = mycelium.list_attempts(request).await?.attempts;
    ensure!(attempts.len() == 1 && attempts[0].end() == v1::AttemptEnd::TimedOut, "{attempts:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_in_which_no_broker_runs_counts() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("alone");
    let tasks = Tester::tasks(&flow, "nobody");
    let short: Job<u64> = tasks.task_add(list![1u64], 0).total_timeout(SOON * 3);
    let long: Job<u64> = tasks.task_add(list![2u64], 0).queue_timeout(LATE).total_timeout(LATE);
    let run = flow.submit().await?;
    let before = mycelium.job(long.id()).await?.expires_at;
    let began = Instant::now();
    broker.kill().await?;
    ensure!(began.elapsed() < SOON * 3, "it is not over before");
    until("its time to be over", || async { Ok((began.elapsed() > SOON * 3).then_some(())) }).await?;
    broker.restart().await?;
    let restarted = Instant::now();
    let ended = must("the end of the job", run.result(&short)).await?;
    let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(failure.job.status == JobStatus::Expired, "{failure:?}");
    ensure!(restarted.elapsed() < SOON * 3, "it does not begin anew: {:?}", restarted.elapsed());
    let after = mycelium.job(long.id()).await?.expires_at;
    ensure!(before == after && before.is_some(), "what is left of a time stays: {before:?}, {after:?}");
    let jobs = jobs_of(&mycelium, run.flow_id(), &[]).await?;
    ensure!(jobs.len() == 2);
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_cannot_be_meant_is_refused_with_its_field() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    for (timeout, is_queue) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let flow = mycelium.flow("absurd");
        let job: Job<u64> = Tester::tasks(&flow, "nobody").task_add(list![1u64], 0);
        let field = match is_queue {
            true => {
                let _job = job.queue_timeout(timeout);
                "jobs[0].timeouts.queue"
            }
            false => {
                let _job = job.total_timeout(timeout);
                "jobs[0].timeouts.total"
            }
        };
        let Err(error) = flow.submit().await else { anyhow::bail!("{field} was taken") };
        ensure!(format!("{error:?}").contains(field), "{field}: {error:?}");
    }
    let listed = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
    ensure!(listed.is_empty(), "nothing is stored: {listed:?}");
    broker.stop().await
}
