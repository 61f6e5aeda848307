//! Elves may be killed at any moment: their jobs run elsewhere. A job that takes every elf with it is stopped.

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, list};
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, must, until};
use mycelium_proto::v1::{self, JobStatus};

/// A lease that is over soon, so that a lost elf is noticed within the patience of a test.
const SHORT_LEASE: [&str; 4] = ["--lease", "2s", "--heartbeat-interval", "500ms"];

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_elf_finish_on_the_other() -> anyhow::Result<()> {
    const JOBS: u64 = 24;
    let broker = BrokerProcess::start(&SHORT_LEASE).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("passer", 2, 8);
    let mut first = ElfProcess::start(&broker.url(), &options).await?;
    let second = ElfProcess::start(&broker.url(), &options).await?;

    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("gated");
    let tasks = Tester::tasks(&flow, "passer");
    let jobs: Vec<Job<u64>> = (0..JOBS).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let run = flow.submit().await?;

    let started = until("both elves to be at work", || async {
        let at_work = [&first, &second].map(|elf| Diary::read([elf.diary()]));
        let [on_first, on_second] = [at_work[0].as_ref(), at_work[1].as_ref()];
        let (on_first, on_second) = (on_first.ok().context("diary")?, on_second.ok().context("diary")?);
        Ok((on_first.len() == 2 && on_second.len() == 2).then(|| on_first.clone()))
    })
    .await?;
    ensure!(counts(&mycelium, run.flow_id()).await?.running == 16, "both windows are full");
    first.kill().await?;
    std::fs::write(&gate, "")?;

    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    let on_second = Diary::read([second.diary()])?;
    let runs = Diary::attempts(&on_second, Event::Ended);
    for (number, job) in (0..).zip(&jobs) {
        ensure!(run.result(job).await? == number, "job {number} returned something else");
        let record = mycelium.job(job.id()).await?;
        // The two that the first elf had begun ran again; what only waited there is not held against any job.
        let was_begun = started.iter().any(|entry| entry.job == job.id());
        ensure!(record.elves_lost == u32::from(was_begun), "job {number} counts {}", record.elves_lost);
        ensure!(record.attempt <= 2, "job {number} had {} attempts", record.attempt);
        ensure!(!was_begun || record.attempt == 2, "job {number} was begun and lost, and not tried again");
        ensure!(
            runs.get(&job.id()) == Some(&vec![record.attempt]),
            "job {number} ran once on the second elf"
        );
    }
    second.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_every_elf_fails_at_its_limit_and_the_innocent_are_done() -> anyhow::Result<()> {
    const LIMIT: u32 = 5;
    const INNOCENT: u64 = 7;
    let broker = BrokerProcess::start(&SHORT_LEASE).await?;
    let mycelium = broker.client().await?;
    // One at a time, so that the innocent wait behind the killer in the window of the same process.
    let options = ElfOptions::new("victim", 1, 8);
    let mut elf = ElfProcess::start(&broker.url(), &options).await?;

    let flow = mycelium.flow("murder");
    let tasks = Tester::tasks(&flow, "victim");
    let innocent: Vec<Job<u64>> = (0..INNOCENT).map(|number| tasks.task_add(list![number], 0)).collect();
    let killer = tasks.task_abort().priority(1);
    let heir = tasks.task_add(list![1u64], 0).after(&killer);
    let run = flow.submit().await?;

    let mut diaries = Vec::new();
    let mut dead = Vec::new();
    for _ in 0..LIMIT {
        let status = elf.wait_for_end().await?;
        ensure!(!status.success(), "the elf ended by itself: {status}");
        diaries.push(elf.diary());
        dead.push(std::mem::replace(&mut elf, ElfProcess::start(&broker.url(), &options).await?));
    }
    let ended = must("the end of the flow", run.wait()).await??;
    let expected =
        v1::JobCounts { done: INNOCENT, failed: 1, upstream_failed: 1, ..v1::JobCounts::default() };
    ensure!(ended == expected, "the flow ended as {ended:?}");

    let record = mycelium.job(killer.id()).await?;
    ensure!(record.status() == JobStatus::Failed, "the killer is {:?}", record.status());
    ensure!(
        record.elves_lost == LIMIT && record.attempt == LIMIT,
        "the killer had {LIMIT} elves: {record:?}"
    );
    let failure = v1::GetFailureRequest { failure_id: record.failure_id, ..v1::GetFailureRequest::default() };
    let failure = mycelium.get_failure(failure).await?.failure.and_then(|group| group.failure);
    let failure = failure.context("the failure is kept")?;
    ensure!(failure.r#type == "ElfLostError", "the failure is a {}", failure.r#type);
    ensure!(failure.message.contains("lost 5 times"), "the failure says `{}`", failure.message);
    let heir = mycelium.job(heir.id()).await?;
    ensure!(heir.cause_job_id == killer.id().as_bytes().as_slice(), "the heir names its cause");
    let killings = Diary::attempts(&Diary::read(&diaries)?, Event::Started);
    ensure!(
        killings.get(&killer.id()) == Some(&(1..=LIMIT).collect()),
        "the killer was run once by each elf: {killings:?}"
    );
    for (number, job) in (0..).zip(&innocent) {
        ensure!(run.result(job).await? == number, "an innocent job returned something else");
        ensure!(mycelium.job(job.id()).await?.elves_lost == 0, "an innocent job is blamed");
        ensure!(!killings.contains_key(&job.id()), "an innocent job was begun by an elf that died");
    }
    elf.stop().await?;
    broker.stop().await
}
