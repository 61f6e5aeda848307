//! A job is tried again as its policy says, and what would fail again is not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, JobId, Mycelium, RetryPolicy};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, jobs_of, must, until};
use mycelium_proto::v1::{self, AttemptEnd, JobStatus};

const FIRST: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3_600);

fn policy(attempts: u32) -> RetryPolicy {
    RetryPolicy::new().attempts(attempts).first(FIRST).jitter(0.0)
}

pub(super) async fn attempts(mycelium: &Mycelium, job: JobId) -> anyhow::Result<Vec<v1::Attempt>> {
    let job_id = job.as_bytes().to_vec().into();
    let request = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
    Ok(mycelium.list_attempts(request).await?.attempts)
}

/// How long it was from the end of each attempt to the next.
pub(super) fn pauses(attempts: &[v1::Attempt]) -> anyhow::Result<Vec<Duration>> {
    let moment = |of: Option<prost_types::Timestamp>| -> anyhow::Result<std::time::SystemTime> {
        Ok(of.context("a moment")?.try_into()?)
    };
    let of = |pair: &[v1::Attempt]| {
        Ok(moment(pair[1].assigned_at)?.duration_since(moment(pair[0].ended_at)?).unwrap_or_default())
    };
    attempts.windows(2).map(of).collect()
}

fn gate(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

async fn start_now(mycelium: &Mycelium, jobs: &[JobId]) -> Result<u64, Error> {
    let job_ids = jobs.iter().map(|job| job.as_bytes().to_vec().into()).collect();
    let jobs = Some(v1::JobIds { job_ids });
    let request = v1::StartJobsRequest { jobs, ..v1::StartJobsRequest::default() };
    Ok(mycelium.start_jobs(request).await?.jobs_started)
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_follow_each_other_at_growing_intervals_until_one_is_good_or_there_are_no_more()
-> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("reader", 1, 1)).await?;
    let gates = tempfile::tempdir()?;
    let flow = mycelium.flow("tries");
    let tasks = Tester::tasks(&flow, "reader");
    let never = gate(gates.path(), "never");
    let ends: Job<u32> = tasks.task_fail("busy", never.clone()).retry(policy(3));
    let good: Job<u32> = tasks.task_fail("busy", gate(gates.path(), "later")).retry(policy(10).factor(1.0));
    let other: Job<u64> = tasks.task_add(elf_runtime::list![1u64], 0);
    let run = flow.submit().await?;

    must("a job behind those that back off", run.result(&other)).await??;
    let waits = until("the job to back off", || async {
        let why = mycelium.why(ends.id()).await?;
        Ok(why.contains("attempt 2 of 3").then_some(why))
    })
    .await?;
    let because = "because the last one failed with ReadError::Busy: somebody else is at it";
    ensure!(waits.starts_with("READY") && waits.contains(because), "{waits}");
    let shown = mycelium.job(ends.id()).await?;
    ensure!(shown.failed_attempts == 1 && shown.not_before.is_some(), "{shown:?}");

    let ended = must("the last attempt", run.result(&ends)).await?;
    let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(failure.job.status == JobStatus::Failed, "{failure:?}");
    let tried = attempts(&mycelium, ends.id()).await?;
    ensure!(tried.len() == 3 && tried.iter().all(|attempt| attempt.end() == AttemptEnd::Failed), "{tried:?}");
    ensure!(tried.iter().all(|attempt| attempt.failure_id.len() == 16), "{tried:?}");
    let waited = pauses(&tried)?;
    ensure!(waited[0] >= FIRST && waited[1] >= 2 * FIRST, "{waited:?}");

    std::fs::write(gate(gates.path(), "later"), "")?;
    let attempt = must("a good attempt", run.result(&good)).await??;
    let tried = attempts(&mycelium, good.id()).await?;
    ensure!(attempt > 1 && tried.len() == attempt as usize, "{attempt}: {tried:?}");
    ensure!(tried.last().context("one")?.end() == AttemptEnd::Returned, "{tried:?}");
    ensure!(pauses(&tried)?.iter().all(|pause| *pause >= FIRST), "{tried:?}");
    let listed = mycelium.list_failures(v1::ListFailuresRequest::default()).await?.failures;
    ensure!(listed.len() == 1 && listed[0].occurrences == 3 + u64::from(attempt) - 1, "{listed:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fail_again_is_not_tried_again() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("reader", 4, 8)).await?;
    let never = PathBuf::from("/nowhere/at/all");
    let flow = mycelium.flow("in vain");
    let tasks = Tester::tasks(&flow, "reader");
    let of =
        |how: &str, policy: RetryPolicy| -> Job<u32> { tasks.task_fail(how, never.clone()).retry(policy) };
    let soon = of("soon", RetryPolicy::new().attempts(3).first(HOUR));
    let jobs = [
        ("ReadError::NotFound", 1, of("not found", policy(5).never(["NotFound"]))),
        ("Broken", 1, of("permanent", policy(5))),
        ("Panic", 1, of("panic", policy(5))),
        ("Panic", 2, of("panic", policy(2).panics(true))),
        ("ReadError::Busy", 1, tasks.task_fail("busy", never.clone())),
        ("ReadError::Busy", 3, soon),
    ];
    let run = flow.submit().await?;
    for (kind, attempts, job) in &jobs {
        let ended = must("the end of a job", run.result(job)).await?;
        let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
        let found = failure.failure.as_ref().map(|failure| failure.r#type.as_str());
        ensure!(found == Some(*kind), "{kind}: {failure:?}");
        let tried = mycelium.job(job.id()).await?.attempt;
        ensure!(tried == *attempts, "{kind}: {tried} attempts");
    }
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_backs_off_is_begun_at_once_by_hand_cancelled_and_retried_with_other_rules() -> anyhow::Result<()>
{
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("reader", 1, 1)).await?;
    let never = PathBuf::from("/nowhere/at/all");
    let flow = mycelium.flow("by hand");
    let tasks = Tester::tasks(&flow, "reader");
    let job: Job<u32> = tasks.task_fail("busy", never).retry(policy(3).first(HOUR).cap(HOUR));
    let run = flow.submit().await?;
    backs_off(&mycelium, job.id(), 1).await?;
    ensure!(start_now(&mycelium, &[job.id()]).await? == 1);
    backs_off(&mycelium, job.id(), 2).await?;
    ensure!(attempts(&mycelium, job.id()).await?.len() == 2);

    let job_ids = vec![job.id().as_bytes().to_vec().into()];
    let scope = v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids: job_ids.clone() });
    let request = v1::CancelJobsRequest { scope: Some(scope), ..v1::CancelJobsRequest::default() };
    ensure!(mycelium.cancel_jobs(request).await?.jobs_cancelled == 1);
    ensure!(start_now(&mycelium, &[job.id()]).await? == 0, "it has ended");
    ensure!(mycelium.job(job.id()).await?.status() == JobStatus::Cancelled);

    let scope = Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids }));
    let retry = Some(RetryPolicy::new().attempts(1).into());
    let request = v1::RetryJobsRequest { scope, retry, ..v1::RetryJobsRequest::default() };
    ensure!(mycelium.retry_jobs(request).await?.jobs_retried == 1);
    let ended = must("the end of the job", run.result(&job)).await?;
    let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(failure.job.status == JobStatus::Failed, "{failure:?}");
    ensure!(mycelium.job(job.id()).await?.attempt == 3);

    let unknown = start_now(&mycelium, &[JobId::generate()]).await;
    ensure!(unknown.as_ref().is_err_and(|error| error.reason() == Some("JOB_NOT_FOUND")), "{unknown:?}");
    ensure!(jobs_of(&mycelium, run.flow_id(), &[]).await?.len() == 1);
    elf.stop().await?;
    broker.stop().await
}

/// The fields that a refusal names.
pub(super) fn fields(error: &Error) -> Vec<&str> {
    let Error::Refused { violations, .. } = error else { return Vec::new() };
    violations.iter().map(|violation| violation.field.as_str()).collect()
}

async fn backs_off(mycelium: &Mycelium, job: JobId, times: u32) -> anyhow::Result<()> {
    until("the job to back off", || async {
        let shown = mycelium.job(job).await?;
        Ok((shown.failed_attempts == times && shown.not_before.is_some()).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_none_are_refused_and_nothing_is_stored() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    for (rules, field) in [
        (RetryPolicy::new().attempts(0), "jobs[0].retry.attempts"),
        (RetryPolicy::new().factor(0.5), "jobs[0].retry.factor"),
        (RetryPolicy::new().jitter(1.5), "jobs[0].retry.jitter"),
        (RetryPolicy::new().first(Duration::ZERO), "jobs[0].retry.first"),
        (RetryPolicy::new().first(HOUR).cap(FIRST), "jobs[0].retry.cap"),
        (RetryPolicy::new().never([""]), "jobs[0].retry.never.types[0]"),
    ] {
        let flow = mycelium.flow("refused");
        let tasks = Tester::tasks(&flow, "nobody");
        let job: Job<u32> = tasks.task_fail("busy", PathBuf::from("x")).retry(rules);
        let refused = flow.submit().await;
        let error = refused.err().context("it is refused")?;
        ensure!(fields(&error).contains(&field), "{field}: {error:?}");
        ensure!(mycelium.job(job.id()).await.is_err(), "{field}: nothing is stored");
    }
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_ended_cannot_be_retried_and_a_retry_that_is_repeated_is_harmless() -> anyhow::Result<()>
{
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("reader", 2, 2)).await?;
    let gates = tempfile::tempdir()?;
    let flow = mycelium.flow("too soon");
    let tasks = Tester::tasks(&flow, "reader");
    let fails: Job<u32> = tasks.task_fail("busy", gate(gates.path(), "never"));
    let runs: Job<u64> = tasks.task_pass(1, gate(gates.path(), "open"));
    let waits: Job<u64> = tasks.task_add(elf_runtime::list![1u64], 0).delay(HOUR);
    let run = flow.submit().await?;
    ensure!(must("the end of a job", run.result(&fails)).await?.is_err());
    until("the other to run", || async {
        Ok((mycelium.job(runs.id()).await?.status() == JobStatus::Running).then_some(()))
    })
    .await?;
    let retry = |jobs: &[JobId]| {
        let job_ids = jobs.iter().map(|job| job.as_bytes().to_vec().into()).collect();
        let scope = Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids }));
        mycelium.retry_jobs(v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() })
    };
    for unfinished in [runs.id(), waits.id()] {
        let refused = retry(&[fails.id(), unfinished]).await.err().context("it is refused")?;
        ensure!(refused.reason() == Some("JOB_NOT_RETRYABLE"), "{refused:?}");
        ensure!(fields(&refused) == ["jobs.job_ids[1]"], "{refused:?}");
    }
    let failed = mycelium.job(fails.id()).await?;
    ensure!((failed.status(), failed.attempt) == (JobStatus::Failed, 1), "nothing has come back: {failed:?}");

    // Delayed by a pause, so that it is unfinished when the request comes again.
    let target = Some(v1::PauseTarget { kind: Some(v1::pause_target::Kind::All(true)) });
    mycelium.pause(v1::PauseRequest { target, by: "ada".to_owned(), ..v1::PauseRequest::default() }).await?;
    ensure!(retry(&[fails.id()]).await?.jobs_retried == 1);
    ensure!(retry(&[fails.id()]).await?.jobs_retried == 0, "repeated, it changes nothing");
    ensure!(mycelium.job(fails.id()).await?.status() == JobStatus::Ready);
    std::fs::write(gate(gates.path(), "open"), "")?;
    ensure!(must("the end of a job", run.result(&runs)).await?? == 1);
    let done = retry(&[runs.id()]).await.err().context("it is refused")?;
    ensure!(fields(&done) == ["jobs.job_ids[0]"], "{done:?}");
    elf.stop().await?;
    broker.stop().await
}
