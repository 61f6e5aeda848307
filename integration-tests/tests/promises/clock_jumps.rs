//! A wall clock that jumps by an hour, at an elf or at the broker, begins, ends and repeats nothing.
//!
//! They need libfaketime; where there is none they say so and pass.

use std::time::{Duration, Instant};

use anyhow::ensure;
use elf_runtime::{Job, Mycelium, RetryPolicy, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, WallClock, counts, must, until,
};
use mycelium_proto::v1::{self, JobStatus};

const HOUR: i64 = 3_600;
/// What waits, waits for so long.
const WAIT: Duration = Duration::from_secs(4);
/// Nothing that may take so long is over when the test is.
const LONG: Duration = Duration::from_secs(1_800);

async fn running(mycelium: &Mycelium, job: &Job<u64>) -> anyhow::Result<()> {
    until("the job to run", || async {
        Ok((mycelium.job(job.id()).await?.status() == JobStatus::Running).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_at_an_elf_changes_nothing() -> anyhow::Result<()> {
    let Some(clock) = WallClock::new()? else { return Ok(()) };
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions { variables: clock.variables(), ..ElfOptions::new("jumping", 4, 16) };
    let elf = ElfProcess::start(&broker.url(), &options).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    for (round, offset) in [HOUR, -HOUR, 0].into_iter().enumerate() {
        let flow = mycelium.flow(format!("round {round}"));
        let tasks = Tester::tasks(&flow, "jumping");
        let gate = gate.with_extension(round.to_string());
        let runs: Job<u64> = tasks.task_pass(7, gate.clone()).run_timeout(LONG).total_timeout(LONG);
        let delayed: Job<u64> = tasks.task_add(list![1u64], 0).delay(WAIT).queue_timeout(LONG);
        let began = Instant::now();
        let run = flow.submit().await?;
        running(&mycelium, &runs).await?;
        clock.set(offset)?;
        must("the delayed one", run.result(&delayed)).await??;
        ensure!(began.elapsed() >= WAIT, "it was there after {:?}", began.elapsed());
        ensure!(mycelium.job(runs.id()).await?.status() == JobStatus::Running);
        std::fs::write(&gate, "")?;
        let ended = must("the end of the flow", run.wait()).await??;
        ensure!(ended == v1::JobCounts { done: 2, ..v1::JobCounts::default() }, "{ended:?}");
        for job in [&runs, &delayed] {
            ensure!(mycelium.job(job.id()).await?.attempt == 1, "it was tried twice");
        }
    }
    let started = Diary::attempts(&Diary::read([elf.diary()])?, Event::Started);
    ensure!(started.len() == 6 && started.values().all(|attempts| *attempts == [1]), "{started:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_at_the_broker_fires_nothing_early() -> anyhow::Result<()> {
    // Set back, it has not come to their moments after their time, and is set right then.
    for offset in [HOUR, -HOUR] {
        let Some(clock) = WallClock::new()? else { return Ok(()) };
        let variables = clock.variables();
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let broker = BrokerProcess::start_with(&[], &variables).await?;
        let mycelium = broker.client().await?;
        let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("steady", 4, 16)).await?;
        let gates = tempfile::tempdir()?;
        let (gate, never) = (gates.path().join("gate"), gates.path().join("never"));
        let flow = mycelium.flow("over an hour");
        let tasks = Tester::tasks(&flow, "steady");
        let runs: Job<u64> = tasks.task_pass(7, gate.clone()).run_timeout(LONG).total_timeout(LONG);
        let delayed: Job<u64> = tasks.task_add(list![1u64], 0).delay(WAIT);
        let twice = RetryPolicy::new().attempts(2).first(WAIT);
        let again: Job<u32> = tasks.task_fail("busy", never.clone()).retry(twice);
        let absent = Tester::tasks(&flow, "nobody");
        let waits: Job<u64> = absent.task_add(list![1u64], 0).queue_timeout(LONG).total_timeout(2 * LONG);
        let expires: Job<u64> = absent.task_add(list![1u64], 0).queue_timeout(WAIT);
        let began = Instant::now();
        let run = flow.submit().await?;
        running(&mycelium, &runs).await?;
        until("the first failure", || async {
            // The moment of the next attempt is then that of the clock as it was.
            let job = mycelium.job(again.id()).await?;
            Ok(((job.status(), job.attempt) == (JobStatus::Ready, 1)).then_some(()))
        })
        .await?;
        clock.set(offset)?;

        let waiting = [
            (delayed.id(), JobStatus::Done, 1),
            (again.id(), JobStatus::Failed, 2),
            (expires.id(), JobStatus::Expired, 0),
        ];
        if offset < 0 {
            // Time enough for all of them, if they went by the clock that nobody sets alone.
            let other = mycelium.flow("meanwhile");
            let late: Job<u64> =
                Tester::tasks(&other, "steady").task_add(list![1u64], 2 * WAIT.as_millis() as u64);
            must("the time", other.submit().await?.result(&late)).await??;
            for (id, ..) in waiting {
                let job = mycelium.job(id).await?;
                ensure!(job.status() == JobStatus::Ready, "{job:?}");
            }
            clock.set(0)?;
        }
        for (id, status, attempts) in waiting {
            // The broker looks again within half a minute.
            let ended = until("the end of what waits", || async {
                let job = mycelium.job(id).await?;
                let is_over =
                    matches!(job.status(), JobStatus::Done | JobStatus::Failed | JobStatus::Expired);
                Ok(is_over.then_some(job))
            })
            .await?;
            ensure!(began.elapsed() >= WAIT, "it has ended after {:?}: {ended:?}", began.elapsed());
            ensure!((ended.status(), ended.attempt) == (status, attempts), "{ended:?}");
        }
        for (job, status, attempts) in [(&runs, JobStatus::Running, 1), (&waits, JobStatus::Ready, 0)] {
            let job = mycelium.job(job.id()).await?;
            ensure!((job.status(), job.attempt) == (status, attempts), "{job:?}");
        }
        std::fs::write(&gate, "")?;
        ensure!(must("what runs", run.result(&runs)).await?? == 7);
        let standing = counts(&mycelium, run.flow_id()).await?;
        ensure!((standing.done, standing.ready) == (2, 1), "{standing:?}");
        elf.stop().await?;
        broker.stop().await?;
    }
    Ok(())
}
