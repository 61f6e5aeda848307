//! Elves may be killed at any moment: their jobs run elsewhere.

use anyhow::{Context as _, ensure};
use elf_runtime::Job;
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, must, until};
use mycelium_proto::v1;

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
    ensure!(counts(&mycelium, run.flow_id()).await?.running == 6, "each holds one more than it runs");
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
