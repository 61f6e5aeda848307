//! A job does not begin before its moment, whatever happens to the broker, and holds up nobody until then.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, Mycelium, list};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, must, until};
use mycelium_proto::v1::{self, JobStatus};

use super::retries::fields;

const DELAY: Duration = Duration::from_millis(1_500);
const HOUR: Duration = Duration::from_secs(3_600);

fn moment(of: Option<prost_types::Timestamp>) -> anyhow::Result<SystemTime> {
    Ok(of.context("a moment")?.try_into()?)
}

/// How long a job was there before an elf got it.
async fn waited<T: elf_runtime::Output>(mycelium: &Mycelium, job: &Job<T>) -> anyhow::Result<Duration> {
    let job = mycelium.job(job.id()).await?;
    Ok(moment(job.assigned_at)?.duration_since(moment(job.submitted_at)?).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_jobs_begin_at_their_moment_and_those_behind_them_before() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("late", 1, 1)).await?;
    let flow = mycelium.flow("later");
    let tasks = Tester::tasks(&flow, "late");
    let delayed: Job<u64> = tasks.task_add(list![1u64], 0).delay(DELAY).priority(9);
    let needs: Job<u64> = tasks.task_add(list![&delayed, 1u64], 0).delay(DELAY / 2);
    let begins = SystemTime::now() + DELAY;
    let at: Job<u64> = tasks.task_add(list![3u64], 0).not_before(begins);
    let past: Job<u64> = tasks.task_add(list![4u64], 0).not_before(SystemTime::now() - HOUR);
    let tomorrow: Job<u64> = tasks.task_add(list![5u64], 0).delay(24 * HOUR);
    let numbers = flow.call("late", "task_add", elf_runtime::args! { numbers: list![7u64], pause_ms: 0u64 });
    let run = flow.submit().await?;

    let why = mycelium.why(delayed.id()).await?;
    ensure!(why.starts_with("READY") && why.contains("it does not begin before 2"), "{why}");
    ensure!(mycelium.job(delayed.id()).await?.not_before.is_some());
    must("one without a moment", run.result(&numbers)).await??;
    must("one whose moment is over", run.result(&past)).await??;
    ensure!(mycelium.job(delayed.id()).await?.status() == JobStatus::Ready, "it is not its time");
    broker.kill().await?;
    broker.restart().await?;
    let mycelium = broker.client().await?;
    ensure!(must("the delayed one", run.result(&delayed)).await?? == 1);
    ensure!(must("what needs it", run.result(&needs)).await?? == 2);
    must("the one with a moment", run.result(&at)).await??;
    let waited = waited(&mycelium, &delayed).await?;
    ensure!(waited + Duration::from_millis(5) >= DELAY, "{waited:?}");
    // A moment is one of the clock, however long the submission was on its way.
    let began = moment(mycelium.job(at.id()).await?.assigned_at)?;
    ensure!(began + Duration::from_millis(5) >= begins, "{began:?}");

    let standing = mycelium.job(tomorrow.id()).await?;
    ensure!(standing.status() == JobStatus::Ready && standing.attempt == 0, "{standing:?}");
    let jobs = Some(v1::JobIds { job_ids: vec![standing.job_id.clone()] });
    let request = v1::StartJobsRequest { jobs, ..v1::StartJobsRequest::default() };
    ensure!(mycelium.start_jobs(request).await?.jobs_started == 1);
    ensure!(must("the one of tomorrow", run.result(&tomorrow)).await?? == 5);
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_elements_of_a_list_begin_late_and_what_is_cancelled_never() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("late", 4, 8)).await?;
    let flow = mycelium.flow("list");
    let tasks = Tester::tasks(&flow, "late");
    let each = flow.for_each(list![1u64, 2, 3], |number| tasks.task_add(list![number], 0).delay(DELAY));
    let never: Job<u64> = tasks.task_add(list![9u64], 0).delay(DELAY);
    let run = flow.submit().await?;
    let job_ids = vec![never.id().as_bytes().to_vec().into()];
    let scope = Some(v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids }));
    mycelium.cancel_jobs(v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() }).await?;
    let began = std::time::Instant::now();
    until("the elements to be there", || async {
        let elements = mycelium.job(each.id()).await?.elements;
        Ok((elements == Some(3)).then_some(()))
    })
    .await?;
    ensure!(must("the list", run.result(&each)).await?? == [1, 2, 3]);
    ensure!(began.elapsed() >= DELAY / 2, "{:?}", began.elapsed());
    let cancelled = mycelium.job(never.id()).await?;
    ensure!(cancelled.status() == JobStatus::Cancelled && cancelled.attempt == 0, "{cancelled:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn delays_that_are_none_are_refused() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("refused");
    let job: Job<u64> = Tester::tasks(&flow, "late").task_add(list![1u64], 0).delay(367 * 24 * HOUR);
    let error = flow.submit().await.err().context("it is refused")?;
    ensure!(fields(&error).contains(&"jobs[0].delay"), "{error:?}");
    ensure!(mycelium.job(job.id()).await.is_err(), "nothing is stored");
    broker.stop().await
}
