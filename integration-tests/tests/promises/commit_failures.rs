//! The store fails: what was acknowledged stays, flows finish, and outcomes are neither lost nor doubled.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, Mycelium, list};
use integration_tests::{Diary, Event, Tester, Worker, counts, jobs_of, must, until, wire};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::store::MemoryStore;
use mycelium_server::store::faulty::{Fault, FaultyStore};
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::Code;

const FAULTS: [Fault; 3] = [Fault::NotApplied, Fault::UncertainApplied, Fault::UncertainNotApplied];

async fn start() -> anyhow::Result<(RunningBroker, Arc<FaultyStore>)> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    Ok((broker, store))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_finishes_over_a_store_whose_commits_fail() -> anyhow::Result<()> {
    const CHAINS: u64 = 20;
    const LINKS: u64 = 20;
    const JOBS: u64 = CHAINS * LINKS;
    for fault in FAULTS {
        let (broker, store) = start().await?;
        let mycelium = Mycelium::connect(broker.url()).await?;
        let folder = tempfile::tempdir()?;
        let diary = folder.path().join("diary");
        let tester = Tester::with_diary(Diary::open(&diary)?);
        let worker = mycelium.serve().elf("adder", tester).concurrency(8).window(16);
        let worker = Worker::start(worker).await?;

        let flow = mycelium.flow("chains");
        let tasks = Tester::tasks(&flow, "adder");
        let ends: Vec<Job<u64>> = (0..CHAINS)
            .map(|chain| {
                let first = tasks.task_add(list![chain], 1);
                (1..LINKS).fold(first, |last, _| tasks.task_add(list![last, 1u64], 1))
            })
            .collect();
        let run = flow.submit().await?;
        // Failures one after the other, each a few commits after the last, while the flow runs.
        for passing in [0, 3, 1, 0, 5, 2, 0, 7] {
            store.fail_commit_after(passing, fault);
        }
        let ended = must("the end of the flow", run.wait()).await??;
        let expected = v1::JobCounts { done: JOBS, ..v1::JobCounts::default() };
        ensure!(ended == expected, "{fault:?}: the flow ended as {ended:?}");
        ensure!(store.planned() == 0, "{fault:?}: {} commits have not failed yet", store.planned());
        for (chain, end) in (0..).zip(&ends) {
            let sum = run.result(end).await?;
            ensure!(sum == chain + LINKS - 1, "{fault:?}: chain {chain} returned {sum}");
        }
        // Nothing was run that was not stored as running, and no outcome was lost or taken twice.
        let entries = Diary::read([&diary])?;
        let (started, done) =
            (Diary::attempts(&entries, Event::Started), Diary::attempts(&entries, Event::Ended));
        ensure!(started == done && done.len() as u64 == JOBS, "{fault:?}: {} jobs ran", done.len());
        for job in jobs_of(&mycelium, run.flow_id(), &[]).await? {
            let runs = done.get(&job.job_id.as_ref().try_into()?).context("a job was not run")?;
            ensure!(*runs == [job.attempt], "{fault:?}: runs {runs:?}, accepted {}", job.attempt);
        }
        worker.stop().await?;
        drop(run);
        broker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_whose_commit_fails_is_refused_and_repeating_it_is_harmless() -> anyhow::Result<()> {
    for fault in FAULTS {
        let (broker, store) = start().await?;
        let mut client = wire::client(&broker.url()).await?;
        let kept = wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
        client.submit_jobs(kept.clone()).await?;

        let request = wire::submission((0..10).map(|_| wire::job("nobody", &[], Vec::new())).collect());
        store.fail_commit_after(0, fault);
        let answer = client.submit_jobs(request.clone()).await;
        wire::expect_refusal(answer, Code::Unavailable, reason::STORE_UNAVAILABLE, &[])?;

        // Whether it is stored is not known to the caller; saying it again settles it, one way or the other.
        let again = until("the broker to be back", || async {
            match client.clone().submit_jobs(request.clone()).await {
                Ok(answer) => Ok(Some(answer.into_inner())),
                Err(status) if status.code() == Code::Unavailable => Ok(None),
                Err(status) => Err(status.into()),
            }
        })
        .await?;
        let (created, existing) = if fault == Fault::UncertainApplied { (0, 10) } else { (10, 0) };
        ensure!((again.jobs_created, again.jobs_existing) == (created, existing), "{fault:?}: {again:?}");
        let job = wire::get_job(&client, &kept.jobs[0].job_id).await?;
        ensure!(job.status() == JobStatus::Ready, "{fault:?}: what was acknowledged before is {job:?}");
        broker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_refuses_intake_and_keeps_outcomes_waiting() -> anyhow::Result<()> {
    let (broker, store) = start().await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let folder = tempfile::tempdir()?;
    let (diary, gate) = (folder.path().join("diary"), folder.path().join("gate"));
    let tester = Tester::with_diary(Diary::open(&diary)?);
    let worker = Worker::start(mycelium.serve().elf("passer", tester).concurrency(4)).await?;
    let flow = mycelium.flow("gated");
    let tasks = Tester::tasks(&flow, "passer");
    let jobs: Vec<Job<u64>> = (0..4).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let run = flow.submit().await?;
    until("the tasks to run", || async { Ok((Diary::read([&diary])?.len() == 4).then_some(())) }).await?;

    store.set_unavailable(true);
    std::fs::write(&gate, "")?;
    until("the tasks to end", || async { Ok((Diary::read([&diary])?.len() == 8).then_some(())) }).await?;
    let mut client = wire::client(&broker.url()).await?;
    let request = wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
    let answer = client.submit_jobs(request.clone()).await;
    wire::expect_refusal(answer, Code::Unavailable, reason::STORE_UNAVAILABLE, &[])?;

    store.set_unavailable(false);
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: 4, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    for (number, job) in (0..).zip(&jobs) {
        ensure!(run.result(job).await? == number, "job {number} returned something else");
        ensure!(mycelium.job(job.id()).await?.attempt == 1, "job {number} was run again");
    }
    ensure!(Diary::read([&diary])?.len() == 8, "nothing was run again");
    ensure!(counts(&mycelium, run.flow_id()).await? == ended, "and nothing changes after that");
    client.submit_jobs(request).await?;
    worker.stop().await?;
    drop(run);
    Ok(broker.stop().await?)
}
