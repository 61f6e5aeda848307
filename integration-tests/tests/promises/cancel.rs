//! Cancelling a flow ends all of it, stops what runs, and leaves everything else alone. Retrying brings it back.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, list};
use integration_tests::{
    BrokerProcess, Bystander, Diary, ElfOptions, ElfProcess, Event, Tester, counts, flow_id_bytes, must,
    until,
};
use mycelium_proto::v1;

const CHAINS: u64 = 100;
const LINKS: u64 = 100;
const JOBS: u64 = CHAINS * LINKS;
/// How many jobs each of the two elves runs at once.
const CONCURRENCY: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_flow_ends_its_tasks_notice_and_a_retry_brings_it_back() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("chain", CONCURRENCY, 32);
    let elves = [
        ElfProcess::start(&broker.url(), &options).await?,
        ElfProcess::start(&broker.url(), &options).await?,
    ];
    let diaries = [elves[0].diary(), elves[1].diary()];
    let bystander = Bystander::start(&broker.url()).await?;

    // Chains whose first jobs wait at a gate.
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("chains");
    let tasks = Tester::tasks(&flow, "chain");
    let ends: Vec<Job<u64>> = (0..CHAINS)
        .map(|chain| {
            let first = tasks.task_pass(chain, gate.clone());
            (1..LINKS).fold(first, |last, _| tasks.task_add(list![last, 1u64], 0))
        })
        .collect();
    let run = flow.submit().await?;
    let flow = run.flow_id();
    let running = u64::from(2 * CONCURRENCY);
    until("both elves to be at work", || async {
        Ok((Diary::read(&diaries)?.len() as u64 == running).then_some(()))
    })
    .await?;
    let before = counts(&mycelium, flow).await?;
    ensure!(
        before.running == running + 2 && before.done == 0,
        "each holds one more than it runs: {before:?}"
    );

    let cancel = || {
        let scope = Some(v1::cancel_jobs_request::Scope::FlowId(flow_id_bytes(flow)));
        mycelium.cancel_jobs(v1::CancelJobsRequest { mycelium: String::new(), scope })
    };
    let answer = cancel().await?;
    ensure!(answer.jobs_cancelled == JOBS && answer.jobs_final == 0, "cancelled: {answer:?}");
    let all_cancelled = v1::JobCounts { cancelled: JOBS, ..v1::JobCounts::default() };
    let after = counts(&mycelium, flow).await?;
    ensure!(after == all_cancelled, "when the call returns, all are CANCELLED: {after:?}");
    let again = cancel().await?;
    ensure!(again.jobs_cancelled == 0 && again.jobs_final == JOBS, "cancelled again: {again:?}");

    // The tasks that run notice, those that wait are never begun, and the elves let go of all of them.
    until("the elves to let go", || async {
        let elf = v1::GetElfRequest { mycelium: String::new(), name: "chain".to_owned() };
        let elf = mycelium.get_elf(elf).await?.elf.context("the elf is known")?;
        Ok((elf.instances.len() == 2 && elf.instances.iter().all(|one| one.held == 0)).then_some(()))
    })
    .await?;
    let entries = Diary::read(&diaries)?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(started.len() as u64 == running, "{} tasks were begun", started.len());
    ensure!(started == Diary::attempts(&entries, Event::Cancelled), "each task that ran has noticed");
    ensure!(counts(&mycelium, flow).await? == all_cancelled, "what the elves reported of it changed nothing");

    // A retry brings all of it back.
    std::fs::write(&gate, "")?;
    let scope = Some(v1::retry_jobs_request::Scope::FlowId(flow_id_bytes(flow)));
    let retried =
        mycelium.retry_jobs(v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() }).await?;
    ensure!(retried.jobs_retried == JOBS, "retried: {retried:?}");
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    for (chain, end) in (0..).zip(&ends) {
        ensure!(run.result(end).await? == chain + LINKS - 1, "chain {chain} returned something else");
    }
    let runs: BTreeMap<_, _> = Diary::attempts(&Diary::read(&diaries)?, Event::Ended);
    ensure!(runs.len() as u64 == JOBS, "{} jobs ran to their end", runs.len());
    ensure!(runs.values().all(|attempts| attempts.len() == 1), "each of them once");
    for job in started.keys() {
        ensure!(runs[job] == [2], "attempts go on after the cancelled ones: {:?}", runs[job]);
    }

    bystander.finish().await?;
    let [first, second] = elves;
    first.stop().await?;
    second.stop().await?;
    broker.stop().await
}
