//! A broker that stands still takes nobody for dead, and one that is busy still notices who is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::ensure;
use elf_runtime::{Job, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Entry, Event, Tester, counts, must, until,
};
use mycelium_proto::v1;

const LEASE: Duration = Duration::from_secs(2);
/// That lease, and beats that fit it.
const SHORT_LEASE: [&str; 4] = ["--lease", "2s", "--heartbeat-interval", "500ms"];

/// Makes sure that jobs were started once, each as its first attempt.
fn ran_once(entries: &[Entry], jobs: &[Job<u64>]) -> anyhow::Result<()> {
    let runs = Diary::attempts(entries, Event::Started);
    for (number, job) in jobs.iter().enumerate() {
        let attempts = runs.get(&job.id());
        ensure!(attempts == Some(&vec![1]), "job {number} was started as {attempts:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_pauses_longer_than_the_lease_start_nothing_again() -> anyhow::Result<()> {
    const RUNNING: u64 = 8;
    const WAITING: u64 = 8;
    let broker = BrokerProcess::start(&SHORT_LEASE).await?;
    let mycelium = broker.client().await?;
    let holder = ElfProcess::start(&broker.url(), &ElfOptions::new("holder", 8, 16)).await?;
    let adder = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 4, 8)).await?;

    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("held");
    let tasks = Tester::tasks(&flow, "holder");
    let held: Vec<Job<u64>> =
        (0..RUNNING + WAITING).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let run = flow.submit().await?;
    until("the jobs to run", || async {
        let started = Diary::read([holder.diary()])?.len();
        Ok((started == usize::try_from(RUNNING)?).then_some(()))
    })
    .await?;

    let mut added = Vec::new();
    for pause in 0..10u64 {
        broker.pause(LEASE * 5 / 4).await?;
        // It answers again, and work goes on.
        let flow = mycelium.flow("between");
        let sum: Job<u64> = Tester::tasks(&flow, "adder").task_add(list![pause, 1u64], 0);
        let run = flow.submit().await?;
        let result = must("a job between two pauses", run.result(&sum)).await??;
        ensure!(result == pause + 1, "the sum is {result}");
        added.push(sum);
    }
    let now = counts(&mycelium, run.flow_id()).await?;
    ensure!(now.running == RUNNING + 1 && now.ready == WAITING - 1, "all are still where they were: {now:?}");

    std::fs::write(&gate, "")?;
    let ended = must("the end of the flow", run.wait()).await??;
    let expected = v1::JobCounts { done: RUNNING + WAITING, ..v1::JobCounts::default() };
    ensure!(ended == expected, "the flow ended as {ended:?}");
    for (number, job) in (0..).zip(&held) {
        ensure!(run.result(job).await? == number, "job {number} returned something else");
        let record = mycelium.job(job.id()).await?;
        let told = (record.attempt, record.elves_lost);
        ensure!(told == (1, 0), "job {number} had attempt {}, and lost {} elves", told.0, told.1);
    }
    ran_once(&Diary::read([holder.diary()])?, &held)?;
    ran_once(&Diary::read([adder.diary()])?, &added)?;
    holder.stop().await?;
    adder.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_an_elf_that_says_nothing_ends_under_full_load() -> anyhow::Result<()> {
    /// The lease, what its last beat may be late, and as much again for a machine that is busy with other tests.
    const NOTICED_WITHIN: Duration = Duration::from_secs(8);
    const JOBS_AT_ONCE: u64 = 500;
    let broker = BrokerProcess::start(&SHORT_LEASE).await?;
    let mycelium = broker.client().await?;
    let victim = ElfProcess::start(&broker.url(), &ElfOptions::new("victim", 1, 1)).await?;
    let worker = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 8, 512)).await?;

    let gates = tempfile::tempdir()?;
    let flow = mycelium.flow("held");
    let held: Job<u64> = Tester::tasks(&flow, "victim").task_pass(1, gates.path().join("gate"));
    flow.submit().await?;
    until("the job to run", || async { Ok((!Diary::read([victim.diary()])?.is_empty()).then_some(())) })
        .await?;

    let done = Cell::new(0);
    let load = async {
        loop {
            let flow = mycelium.flow("load");
            let tasks = Tester::tasks(&flow, "adder");
            for number in 0..JOBS_AT_ONCE {
                let _job: Job<u64> = tasks.task_add(list![number], 0);
            }
            let ended = must("the end of a flow of the load", flow.submit().await?.wait()).await??;
            ensure!(ended.done == JOBS_AT_ONCE, "the load ended as {ended:?}");
            done.set(done.get() + ended.done);
        }
    };
    let notice = async {
        // Under load from before it falls silent on.
        until("the load to flow", || async { Ok((done.get() > 0).then_some(())) }).await?;
        victim.freeze()?;
        let (silent_since, before) = (Instant::now(), done.get());
        until("the end of the lease", || async {
            Ok((mycelium.job(held.id()).await?.elves_lost == 1).then_some(()))
        })
        .await?;
        anyhow::Ok((silent_since.elapsed(), done.get() - before))
    };
    let (took, flowed) = tokio::select! {
        noticed = notice => noticed?,
        stopped = load => stopped?,
    };
    ensure!(took < NOTICED_WITHIN, "the silence was noticed after {took:?}");
    ensure!(flowed >= 1_000, "only {flowed} jobs flowed meanwhile");
    worker.stop().await?;
    broker.stop().await
}
