//! One job that takes its process with it does not take the others along: it is found, and it alone is ended.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, Run, list};
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, must, until};
use mycelium_proto::v1::{self, JobStatus};

/// Waits for the end of a flow, and starts the elf again each time that it ends before.
async fn kept_alive(
    broker: &BrokerProcess,
    options: &ElfOptions,
    run: &Run,
) -> anyhow::Result<(v1::JobCounts, Vec<ElfProcess>)> {
    let mut elves = vec![ElfProcess::start(&broker.url(), options).await?];
    let wait = run.wait();
    tokio::pin!(wait);
    loop {
        let newest = elves.last_mut().context("there is one")?;
        tokio::select! {
            ended = &mut wait => return Ok((ended?, elves)),
            status = newest.wait_for_end() => {
                ensure!(!status?.success(), "the elf ended by itself");
                elves.push(ElfProcess::start(&broker.url(), options).await?);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_is_found_and_forty_innocents_beside_it_are_done() -> anyhow::Result<()> {
    is_found(&ElfOptions::new("victim", 8, 64)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_is_found_by_an_elf_that_runs_one_job_at_a_time() -> anyhow::Result<()> {
    is_found(&ElfOptions::new("victim", 1, 8)).await
}

async fn is_found(options: &ElfOptions) -> anyhow::Result<()> {
    const INNOCENT: u64 = 40;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("poisoned");
    let tasks = Tester::tasks(&flow, "victim");
    let before: Vec<Job<u64>> = (0..INNOCENT / 2).map(|n| tasks.task_add(list![n], 30)).collect();
    let poison = tasks.task_abort();
    let heir = tasks.task_add(list![1u64], 0).after(&poison);
    let after: Vec<Job<u64>> = (INNOCENT / 2..INNOCENT).map(|n| tasks.task_add(list![n], 30)).collect();
    let run = flow.submit().await?;

    let began = Instant::now();
    let (ended, elves) = must("the end of the flow", kept_alive(&broker, options, &run)).await??;
    let expected =
        v1::JobCounts { done: INNOCENT, failed: 1, upstream_failed: 1, ..v1::JobCounts::default() };
    ensure!(ended == expected, "the flow ended as {ended:?}");
    // Far less than the lease of one lost process.
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    for (number, job) in (0..).zip(before.iter().chain(&after)) {
        ensure!(run.result(job).await? == number, "an innocent job returned something else");
    }
    ensure!(mycelium.job(heir.id()).await?.cause_job_id == poison.id().as_bytes().as_slice());

    let record = mycelium.job(poison.id()).await?;
    ensure!(record.status() == JobStatus::Failed, "the poison is {:?}", record.status());
    let failure = v1::GetFailureRequest { failure_id: record.failure_id, ..v1::GetFailureRequest::default() };
    let failure = mycelium.get_failure(failure).await?.failure.and_then(|group| group.failure);
    let failure = failure.context("the failure is kept")?;
    ensure!(failure.r#type == "ElfLostError", "the failure is a {}", failure.r#type);
    ensure!(failure.message.contains("2 times while nothing else ran there"), "{}", failure.message);
    ensure!(failure.frames.iter().any(|frame| frame.function.contains("task_abort")), "{failure:?}");
    // Each process that ended ran it, and the last two nothing else at that time.
    let (_, killed) = elves.split_last().context("no elf")?;
    for (index, elf) in killed.iter().enumerate() {
        let entries = Diary::read([elf.diary()])?;
        let at = entries.iter().position(|entry| entry.job == poison.id()).context("ended without it")?;
        let of =
            |event| entries.iter().filter(|entry| entry.event == event && entry.job != poison.id()).count();
        let was_alone = at + 1 == entries.len() && of(Event::Started) == of(Event::Ended);
        ensure!(index + 2 < killed.len() || was_alone, "process {index} of {}: {entries:?}", killed.len());
    }
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn long_jobs_of_a_process_that_is_killed_once_run_side_by_side_again() -> anyhow::Result<()> {
    const JOBS: u64 = 64;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("passer", 64, 128);
    let mut first = ElfProcess::start(&broker.url(), &options).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("long");
    let tasks = Tester::tasks(&flow, "passer");
    let jobs: Vec<Job<u64>> = (0..JOBS).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let run = flow.submit().await?;
    let all_begun = async |elf: &ElfProcess| {
        until("all to be at work", || async {
            let begun = Diary::attempts(&Diary::read([elf.diary()])?, Event::Started);
            Ok((begun.len() as u64 == JOBS).then_some(()))
        })
        .await
    };
    all_begun(&first).await?;
    first.kill().await?;
    let second = ElfProcess::start(&broker.url(), &options).await?;
    all_begun(&second).await?;
    std::fs::write(&gate, "")?;
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    for job in &jobs {
        ensure!(mycelium.job(job.id()).await?.elves_lost == 1, "each was lost once");
    }
    second.stop().await?;
    broker.stop().await
}
