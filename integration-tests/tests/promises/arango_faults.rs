//! Over a database that fails, that is slow, and whose broker is killed or taken over: nothing is lost, and nothing
//! happens twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arangodb_double::{Double, Faults, ROOT, Rates, Refusal, Refused};
use elf_runtime::{FlowId, JobId, Mycelium, Run, Value, list};
use integration_tests::{BrokerProcess, Diary, Event, Tester, Worker, counts, jobs_of, must, until};
use mycelium_proto::v1::JobStatus;
use nix::sys::signal::Signal;
use serde_json::json;

const PASSWORD: &str = "a password";
const DATABASE: &str = "BLUMYC_default";
const LOGIN: [(&str, &str); 2] = [("MYCELIUM_STORE_USER", ROOT), ("MYCELIUM_STORE_PASSWORD", PASSWORD)];
/// Jobs of one block: those that are submitted, and those for the elements of its list.
const BLOCK: usize = 11;
const ELEMENTS: usize = 5;
/// Large enough to travel beside the database.
const LARGE: u64 = 20_000;

async fn broker_on(double: &Double) -> anyhow::Result<BrokerProcess> {
    BrokerProcess::start_with(&["--store", &double.url(), "--store-lease=1s", "--lease=5s"], &LOGIN).await
}

/// An elf with a diary, in this process.
async fn elf(url: &str, folder: &tempfile::TempDir) -> anyhow::Result<Worker> {
    let mycelium = Mycelium::connect(url).await?;
    let tester = Tester::with_diary(Diary::open(&folder.path().join("diary"))?);
    Worker::start(mycelium.serve().elf("adder", tester)).await
}

/// A flow of `blocks` blocks: chains across blocks, values that the broker computes, conditions that are met, lists, and
/// values of `large` elements, which may be too large to stand in the database.
async fn submit(mycelium: &Mycelium, blocks: usize, large: u64) -> anyhow::Result<Run> {
    let flow = mycelium.flow("blocks");
    let tasks = Tester::tasks(&flow, "adder");
    let mut chain = Vec::new();
    for block in 0..blocks as u64 {
        let first = match chain.last() {
            None => tasks.task_add(vec![block], 0),
            Some(before) => tasks.task_add(list![before, 1u64], 0),
        };
        let second = tasks.task_add(list![first.value() + 1, 2u64], 0);
        let met = tasks.task_add(list![&second, 3u64], 0).run_if(second.value().greater_than(0u64));
        let each = flow.for_each(vec![1u64; ELEMENTS - 1], |n: Value<u64>| tasks.task_add(list![n, 1u64], 0));
        let gathered = tasks.task_add(each, 0);
        let large = tasks.task_add((0..large).collect::<Vec<_>>(), 0);
        let last = tasks.task_add(list![&met, &gathered, &large], 0);
        chain.push(first);
        drop(last);
    }
    Ok(flow.submit().await?)
}

/// Every job of the flow is DONE, ran once and has one accepted outcome, and the documents say the same.
async fn expect_done_once(
    double: &Double,
    mycelium: &Mycelium,
    flow: FlowId,
    folder: &tempfile::TempDir,
) -> anyhow::Result<()> {
    let jobs = jobs_of(mycelium, flow, &[]).await?;
    let open: Vec<_> = jobs.iter().filter(|job| job.status() != JobStatus::Done).collect();
    ensure!(
        open.is_empty(),
        "{} of {} jobs are not DONE, such as {:?}",
        open.len(),
        jobs.len(),
        open.first()
    );
    let entries = Diary::read([folder.path().join("diary")])?;
    let ended = Diary::attempts(&entries, Event::Ended);
    for job in &jobs {
        let id = JobId::try_from(job.job_id.as_ref())?;
        // The job that has the list is computed by the broker.
        if let Some(runs) = ended.get(&id) {
            ensure!(
                runs.contains(&job.attempt),
                "job {id} ran as {runs:?}, and {} was accepted",
                job.attempt
            );
            let distinct: BTreeSet<_> = runs.iter().collect();
            ensure!(distinct.len() == runs.len(), "job {id} ran twice as one attempt: {runs:?}");
        }
    }
    let documents = double.documents(DATABASE, "Jobs").context("there are no jobs")?;
    let done = documents.iter().filter(|job| job["status"] == "DONE" && job["fin"].is_string());
    ensure!(done.count() == jobs.len() && documents.len() == jobs.len(), "{} documents", documents.len());
    let numbers: BTreeSet<&str> = documents.iter().filter_map(|job| job["fin"].as_str()).collect();
    ensure!(numbers.len() == jobs.len(), "no two jobs have one finish number");
    let results = double.documents(DATABASE, "Results").context("there are no results")?;
    let of: BTreeMap<&str, usize> = results.iter().fold(BTreeMap::new(), |mut of, result| {
        *of.entry(result["job"].as_str().unwrap_or_default()).or_default() += 1;
        of
    });
    ensure!(of.len() == jobs.len() && of.values().all(|n| *n == 1), "each job has one result");
    double.assert_known();
    Ok(())
}

/// A flow over a server that fails one request in fifty, in all ways in which it can.
async fn over_faults(blocks: usize) -> anyhow::Result<()> {
    let double = Double::start_with(PASSWORD, Faults::default(), 42).await?;
    let broker = broker_on(&double).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let worker = elf(&broker.url(), &folder).await?;
    double.faults().rates = Rates::each(0.02);
    let run = submit(&mycelium, blocks, LARGE).await?;
    let flow = run.flow_id();
    tokio::time::timeout(Duration::from_secs(600), run.wait()).await??;
    double.faults().rates = Rates::default();
    expect_done_once(&double, &mycelium, flow, &folder).await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_ends_over_a_server_that_fails_again_and_again() -> anyhow::Result<()> {
    over_faults(30).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_flow_of_five_thousand_jobs_ends_over_a_server_that_fails_again_and_again() -> anyhow::Result<()> {
    over_faults(5_000 / BLOCK + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_its_commits_loses_nothing_and_writes_nothing_twice() -> anyhow::Result<()>
{
    let double = Double::start(PASSWORD).await?;
    let mut broker = broker_on(&double).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let worker = elf(&broker.url(), &folder).await?;
    // Most of the time a commit is under way.
    double.faults().slow_commit = Duration::from_millis(40);
    let run = submit(&mycelium, 150, LARGE).await?;
    let flow = run.flow_id();
    let mut waiting = tokio::spawn(async move { run.wait().await });
    for kill in 1..=10u64 {
        let before = counts(&mycelium, flow).await?.done;
        let enough = before + 2;
        until("jobs to end", || async { Ok((counts(&mycelium, flow).await?.done >= enough).then_some(())) })
            .await?;
        // At another moment of a commit each time.
        tokio::time::sleep(Duration::from_millis(kill * 7 % 23)).await;
        broker.kill().await?;
        broker.restart().await?;
        let after = counts(&mycelium, flow).await?.done;
        ensure!(after >= enough, "{enough} jobs were DONE, and {after} are after kill {kill}");
    }
    double.faults().slow_commit = Duration::ZERO;
    must("the end of the flow", &mut waiting).await???;
    expect_done_once(&double, &mycelium, flow, &folder).await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_paused_while_another_took_over_writes_nothing_and_says_so() -> anyhow::Result<()> {
    let double = Double::start(PASSWORD).await?;
    let mut first = broker_on(&double).await?;
    let mycelium = first.client().await?;
    let folder = tempfile::tempdir()?;
    let worker = elf(&first.url(), &folder).await?;
    double.faults().slow_commit = Duration::from_millis(5);
    // Large values stay in the folder of the broker that took them, which the other one does not have.
    let run = submit(&mycelium, 30, 1).await?;
    let flow = run.flow_id();
    until("some jobs to end", || async { Ok((counts(&mycelium, flow).await?.done >= 5).then_some(())) })
        .await?;
    first.signal(Signal::SIGSTOP)?;

    let second = broker_on(&double).await?;
    let there = second.client().await?;
    let other = tempfile::tempdir()?;
    let there_too = elf(&second.url(), &other).await?;
    let before = counts(&there, flow).await?.done;
    first.signal(Signal::SIGCONT)?;
    let status = first.ended().await?;
    ensure!(!status.success(), "the deposed one ended with {status}");
    ensure!(first.log()?.contains("another broker"), "it says nothing");
    double.faults().slow_commit = Duration::ZERO;
    until("the flow to end", || async {
        let counts = counts(&there, flow).await?;
        ensure!(counts.done >= before, "{before} jobs were DONE, and {} are", counts.done);
        Ok((counts.done == 30 * BLOCK as u64).then_some(()))
    })
    .await?;
    drop((run, worker));
    let jobs = jobs_of(&there, flow, &[]).await?;
    ensure!(jobs.iter().all(|job| job.status() == JobStatus::Done));
    there_too.stop().await?;
    second.stop().await?;
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_result_the_server_refuses_fails_and_the_others_go_on() -> anyhow::Result<()> {
    let double = Double::start(PASSWORD).await?;
    let broker = broker_on(&double).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let worker = elf(&broker.url(), &folder).await?;
    double.faults().refused.push(Refusal {
        collection: "Results".to_owned(),
        what: Refused::Value("value".to_owned(), json!(4_711)),
        number: 1620,
    });
    let flow = mycelium.flow("one is refused");
    let tasks = Tester::tasks(&flow, "adder");
    let good: Vec<_> = (0..20u64).map(|n| tasks.task_add(vec![n], 0)).collect();
    let bad = tasks.task_add(vec![4_711u64], 0);
    let run = flow.submit().await?;
    for (n, job) in (0..).zip(&good) {
        ensure!(must("a result", run.result(job)).await?? == n);
    }
    let failed = must("an end", run.result(&bad)).await?;
    let text = format!("{:?}", failed.err().context("it does not fail")?);
    ensure!(text.contains("StoreRefusedError"), "{text}");
    worker.stop().await?;
    broker.stop().await
}
