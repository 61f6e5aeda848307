//! Work goes to who is free: what waits in one process goes to another that could begin it, and what is urgent goes first.

use std::time::{Duration, Instant};

use anyhow::ensure;
use elf_runtime::{Job, list};
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, must, until};
use mycelium_proto::v1::JobStatus;

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_hung_tasks_is_done_by_a_second_process() -> anyhow::Result<()> {
    const SMALL: u64 = 100;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("hangs", 2, 514);
    let first = ElfProcess::start(&broker.url(), &options).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    // It has shown that it does such jobs fast, and is given many.
    let flow = mycelium.flow("before");
    let tasks = Tester::tasks(&flow, "hangs");
    let _before: Vec<Job<u64>> = (0..200_u64).map(|number| tasks.task_add(list![number], 0)).collect();
    must("the end of what came before", flow.submit().await?.wait()).await??;

    let flow = mycelium.flow("hung");
    let tasks = Tester::tasks(&flow, "hangs");
    let hung: Vec<Job<u64>> = (0..2_u64).map(|number| tasks.task_pass(number, gate.clone())).collect();
    let hangs = flow.submit().await?;
    until("both to hang", || async {
        let status = [hangs.job_status(hung[0].id()).await?, hangs.job_status(hung[1].id()).await?];
        Ok((status == [JobStatus::Running; 2]).then_some(()))
    })
    .await?;
    let flow = mycelium.flow("small");
    let tasks = Tester::tasks(&flow, "hangs");
    let small: Vec<Job<u64>> = (0..SMALL).map(|number| tasks.task_add(list![number], 0)).collect();
    let run = flow.submit().await?;
    until("them to be held by the process that hangs", || async {
        Ok((run.job_status(small[0].id()).await? == JobStatus::Assigned).then_some(()))
    })
    .await?;

    let second = ElfProcess::start(&broker.url(), &options).await?;
    let begun = Instant::now();
    let ended = must("the end of the small jobs", run.wait()).await??;
    ensure!(
        ended.done == SMALL && begun.elapsed() < Duration::from_secs(5),
        "{ended:?} {:?}",
        begun.elapsed()
    );
    let done = Diary::attempts(&Diary::read([second.diary()])?, Event::Ended);
    ensure!(small.iter().all(|job| done.get(&job.id()).is_some_and(|runs| runs.len() == 1)), "each ran once");
    std::fs::write(&gate, "")?;
    let ended = must("the end of what hung", hangs.wait()).await??;
    ensure!(ended.done == 2, "{ended:?}");
    first.stop().await?;
    second.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_job_is_not_held_up_by_hundreds_that_came_before_it() -> anyhow::Result<()> {
    const OTHERS: u64 = 600;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("urgent", 1, 513)).await?;
    let flow = mycelium.flow("hundreds");
    let tasks = Tester::tasks(&flow, "urgent");
    let _others: Vec<Job<u64>> = (0..OTHERS).map(|number| tasks.task_add(list![number], 10)).collect();
    let run = flow.submit().await?;
    until("the first to be begun", || async { Ok((!Diary::read([elf.diary()])?.is_empty()).then_some(())) })
        .await?;
    let flow = mycelium.flow("at once");
    let urgent = Tester::tasks(&flow, "urgent").task_add(list![1_u64], 0).priority(1);
    let at_once = flow.submit().await?;
    must("the urgent one", at_once.result(&urgent)).await??;
    let begun = Diary::read([elf.diary()])?.into_iter().filter(|entry| entry.event == Event::Started);
    let place = begun.take_while(|entry| entry.job != urgent.id()).count();
    ensure!(place < 60, "it was begun as number {place}");
    must("the end of the others", run.wait()).await??;
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_comes_late_does_half_of_the_rest() -> anyhow::Result<()> {
    const JOBS: u64 = 300;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("late", 1, 513);
    let first = ElfProcess::start(&broker.url(), &options).await?;
    let flow = mycelium.flow("shared");
    let tasks = Tester::tasks(&flow, "late");
    let _jobs: Vec<Job<u64>> = (0..JOBS).map(|number| tasks.task_add(list![number], 20)).collect();
    let run = flow.submit().await?;
    until("the first to be at work", || async {
        Ok((Diary::read([first.diary()])?.len() > 40).then_some(()))
    })
    .await?;
    let second = ElfProcess::start(&broker.url(), &options).await?;
    let before = Diary::attempts(&Diary::read([first.diary()])?, Event::Ended).len();
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended.done == JOBS, "{ended:?}");
    let by_second = Diary::attempts(&Diary::read([second.diary()])?, Event::Ended).len();
    let rest = usize::try_from(JOBS)? - before;
    let half = rest / 2;
    ensure!(by_second.abs_diff(half) <= half / 10, "it did {by_second} of {rest}");
    first.stop().await?;
    second.stop().await?;
    broker.stop().await
}
