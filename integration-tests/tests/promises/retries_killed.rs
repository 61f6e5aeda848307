//! The broker is killed again and again while jobs fail, wait and are cancelled, and every policy is kept exactly.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, JobId, RetryPolicy, list};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, jobs_of, until};
use mycelium_proto::v1::{self, AttemptEnd, JobStatus};

use super::retries::{attempts, pauses};

const KILLS: u32 = 20;
const FIRST: Duration = Duration::from_millis(200);
const DELAY: Duration = Duration::from_secs(2);

/// Moments that look like chance, and are the same each time.
fn moment(kill: u32) -> Duration {
    Duration::from_millis(u64::from(kill.wrapping_mul(2_654_435_761) >> 16) % 400)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_is_kept_while_the_broker_is_killed_twenty_times() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("reader", 4, 8)).await?;
    let never = PathBuf::from("/nowhere/at/all");
    let flow = mycelium.flow("stubborn");
    let tasks = Tester::tasks(&flow, "reader");
    let policy = |attempts| RetryPolicy::new().attempts(attempts).first(FIRST).factor(1.5).jitter(0.1);
    let mut failing: Vec<(JobId, u32)> = Vec::new();
    for number in 0..24 {
        let attempts = 1 + number % 8;
        let job: Job<u32> = tasks.task_fail("busy", never.clone()).retry(policy(attempts));
        failing.push((job.id(), attempts));
    }
    let delayed: Vec<Job<u64>> =
        (0..12u64).map(|number| tasks.task_add(list![number], 0).delay(DELAY)).collect();
    let cancelled: Vec<Job<u32>> = (0..6)
        .map(|_| tasks.task_fail("busy", never.clone()).retry(policy(1_000).first(FIRST).factor(1.0)))
        .collect();
    let run = flow.submit().await?;

    for kill in 0..KILLS {
        tokio::time::sleep(moment(kill)).await;
        broker.kill().await?;
        broker.restart().await?;
        if kill == KILLS / 2 {
            let job_ids = cancelled.iter().map(|job| job.id().as_bytes().to_vec().into()).collect();
            let scope = Some(v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids }));
            let request = v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() };
            broker.client().await?.cancel_jobs(request).await?;
        }
    }
    let mycelium = broker.client().await?;
    let all = until("everything to end", || async {
        let jobs = jobs_of(&mycelium, run.flow_id(), &[]).await?;
        Ok(jobs.iter().all(|job| job.finished_at.is_some()).then_some(jobs))
    })
    .await?;
    ensure!(all.len() == failing.len() + delayed.len() + cancelled.len());

    let failed = |tried: &[v1::Attempt]| tried.iter().filter(|of| of.end() == AttemptEnd::Failed).count();
    for (id, times) in failing {
        let (job, tried) = (mycelium.job(id).await?, attempts(&mycelium, id).await?);
        ensure!(job.status() == JobStatus::Failed, "{job:?}");
        ensure!(failed(&tried) == times as usize, "of {times} attempts: {tried:?}");
        let mut wait = FIRST;
        for (attempt, pause) in tried.iter().zip(pauses(&tried)?) {
            if attempt.end() == AttemptEnd::Failed {
                ensure!(pause + Duration::from_millis(2) >= wait, "{pause:?} after {wait:?}: {tried:?}");
                wait = wait.mul_f64(1.5);
            }
        }
    }
    for job in &delayed {
        let job = mycelium.job(job.id()).await?;
        ensure!(job.status() == JobStatus::Done, "{job:?}");
        let moment = |of: Option<prost_types::Timestamp>| -> anyhow::Result<std::time::SystemTime> {
            Ok(of.context("a moment")?.try_into()?)
        };
        let waited = moment(job.assigned_at)?.duration_since(moment(job.submitted_at)?)?;
        ensure!(waited + Duration::from_millis(2) >= DELAY, "{waited:?}");
    }
    for job in &cancelled {
        let job = mycelium.job(job.id()).await?;
        ensure!(job.status() == JobStatus::Cancelled, "{job:?}");
    }
    elf.stop().await?;
    broker.stop().await
}
