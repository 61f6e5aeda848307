//! A process that is told to leave takes no more jobs, gives back what it has not begun, ends what it runs, and is gone.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, Job, Mycelium, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, Worker, counts, must, until,
};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, JobStatus};
use nix::sys::signal::Signal;

async fn instances(mycelium: &Mycelium) -> anyhow::Result<Vec<v1::ElfInstance>> {
    let request = v1::GetElfRequest { name: "main".to_owned(), ..v1::GetElfRequest::default() };
    Ok(mycelium.get_elf(request).await?.elf.context("the elf is known")?.instances)
}

fn drain(instance: &v1::ElfInstance, within: Duration) -> anyhow::Result<v1::DrainInstanceRequest> {
    Ok(v1::DrainInstanceRequest {
        instance_id: instance.instance_id.clone(),
        deadline: Some(within.try_into()?),
        by: "ada@host".to_owned(),
        ..v1::DrainInstanceRequest::default()
    })
}

async fn is(mycelium: &Mycelium, job: &Job<u64>, status: JobStatus) -> anyhow::Result<Option<()>> {
    Ok((mycelium.job(job.id()).await?.status() == status).then_some(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_ends_and_what_is_not_begun_goes_to_others() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let diary = gates.path().join("diary");
    let tester = Tester::with_diary(Diary::open(&diary)?);
    let worker = mycelium.serve().elf("main", tester).concurrency(1).window(3);
    let worker = Worker::start(worker).await?;
    let flow = mycelium.flow("drained");
    let tasks = Tester::tasks(&flow, "main");
    let runs: Job<u64> = tasks.task_pass(7, gate.clone());
    let run = flow.submit().await?;
    until("the first to run", || is(&mycelium, &runs, JobStatus::Running)).await?;
    let waits: Vec<Job<u64>> = (0..3).map(|_| tasks.task_add(list![1u64, 2], 0)).collect();
    flow.submit().await?;
    until("some to be held", || async {
        Ok((counts(&mycelium, run.flow_id()).await?.assigned > 0).then_some(()))
    })
    .await?;

    let leaves = instances(&mycelium).await?.remove(0);
    let answer = mycelium.drain_instance(drain(&leaves, Duration::from_secs(60))?).await?;
    ensure!(answer.told && answer.jobs_held >= 2, "{answer:?}");
    until("what was not begun to come back", || async {
        let stand = counts(&mycelium, run.flow_id()).await?;
        Ok((stand.ready == 3 && stand.running == 1).then_some(()))
    })
    .await?;
    let shown = instances(&mycelium).await?.remove(0);
    ensure!(shown.draining && shown.connected && shown.held == 1, "{shown:?}");
    let why = mycelium.why(waits[0].id()).await?;
    ensure!(why.contains("are draining"), "{why}");
    let entries = Diary::read([&diary])?;
    ensure!(Diary::attempts(&entries, Event::Started).len() == 1, "nothing of it was begun: {entries:?}");

    // Another process takes what is left, and the first ends what it runs, and leaves.
    let other = ElfProcess::start(&broker.url(), &ElfOptions::new("main", 1, 3)).await?;
    for job in &waits {
        ensure!(must("the end of what came back", run.result(job)).await?? == 3);
    }
    ensure!(mycelium.job(runs.id()).await?.status() == JobStatus::Running, "it may take its time");
    std::fs::write(&gate, "")?;
    ensure!(must("the end of what ran", run.result(&runs)).await?? == 7);
    worker.ended().await?;
    until("its session to be over", || async { Ok((instances(&mycelium).await?.len() == 1).then_some(())) })
        .await?;
    let entries = Diary::read([diary, other.diary()])?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(started.len() == 4 && started.values().all(|attempts| attempts.len() == 1), "{started:?}");
    other.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_at_the_deadline_is_cancelled_and_runs_elsewhere() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let gates = tempfile::tempdir()?;
    let (gate, diary) = (gates.path().join("gate"), gates.path().join("diary"));
    let tester = Tester::with_diary(Diary::open(&diary)?);
    let worker = Worker::start(mycelium.serve().elf("main", tester).concurrency(1)).await?;
    let flow = mycelium.flow("drained");
    let runs: Job<u64> = Tester::tasks(&flow, "main").task_pass(7, gate.clone());
    let run = flow.submit().await?;
    until("it to run", || is(&mycelium, &runs, JobStatus::Running)).await?;
    let leaves = instances(&mycelium).await?.remove(0);
    mycelium.drain_instance(drain(&leaves, Duration::from_millis(300))?).await?;
    let ended = worker.ended().await;
    ensure!(matches!(&ended, Err(Error::DrainIncomplete { running: 1, .. })), "{ended:?}");
    until("it to be READY", || is(&mycelium, &runs, JobStatus::Ready)).await?;
    until("the task to have noticed", || async {
        let entries = Diary::read([&diary])?;
        Ok(entries.iter().any(|entry| entry.event == Event::Cancelled).then_some(()))
    })
    .await?;
    let job_id = Bytes::copy_from_slice(runs.id().as_bytes());
    let request = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
    let attempts = mycelium.list_attempts(request).await?.attempts;
    ensure!(attempts.len() == 1 && attempts[0].end() == v1::AttemptEnd::HandedBack, "{attempts:?}");
    let other = ElfProcess::start(&broker.url(), &ElfOptions::new("main", 1, 1)).await?;
    std::fs::write(&gate, "")?;
    ensure!(must("its end", run.result(&runs)).await?? == 7);
    other.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_through_a_restart_of_the_broker() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let worker = Worker::start(mycelium.serve().elf("main", Tester::default()).concurrency(2)).await?;
    let flow = mycelium.flow("drained");
    let tasks = Tester::tasks(&flow, "main");
    let runs: Job<u64> = tasks.task_pass(7, gate.clone());
    let run = flow.submit().await?;
    until("it to run", || is(&mycelium, &runs, JobStatus::Running)).await?;
    let leaves = instances(&mycelium).await?.remove(0);
    mycelium.drain_instance(drain(&leaves, Duration::from_secs(60))?).await?;
    until("it to drain", || async { Ok(instances(&mycelium).await?[0].draining.then_some(())) }).await?;
    broker.kill().await?;
    broker.restart().await?;
    let late: Job<u64> = tasks.task_add(list![1u64], 0);
    flow.submit().await?;
    until("it to be back", || async {
        Ok(instances(&mycelium).await?.iter().any(|instance| instance.connected).then_some(()))
    })
    .await?;
    std::fs::write(&gate, "")?;
    ensure!(must("the end of what ran", run.result(&runs)).await?? == 7);
    worker.ended().await?;
    ensure!(mycelium.job(late.id()).await?.status() == JobStatus::Ready, "it has taken nothing more");
    ensure!(mycelium.job(runs.id()).await?.attempt == 1, "what ran has run once");
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_told_to_stop_leaves_what_runs_and_what_waits_where_it_is() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("main", 1, 4)).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("stopped");
    let tasks = Tester::tasks(&flow, "main");
    let runs: Job<u64> = tasks.task_pass(7, gate.clone());
    let run = flow.submit().await?;
    until("the first to run", || is(&mycelium, &runs, JobStatus::Running)).await?;
    let waits: Vec<Job<u64>> = (0..6).map(|_| tasks.task_add(list![1u64, 2], 0)).collect();
    flow.submit().await?;
    until("some to be held", || async {
        Ok((counts(&mycelium, run.flow_id()).await?.assigned > 0).then_some(()))
    })
    .await?;
    broker.signal(Signal::SIGTERM)?;
    let ended = broker.ended().await?;
    ensure!(ended.success(), "{ended}");
    std::fs::write(&gate, "")?;
    broker.restart().await?;
    ensure!(must("the end of what ran", run.result(&runs)).await?? == 7);
    for job in &waits {
        ensure!(must("the end of what waited", run.result(job)).await?? == 3);
    }
    let started = Diary::attempts(&Diary::read([elf.diary()])?, Event::Started);
    ensure!(started.len() == 7 && started.values().all(|attempts| attempts.len() == 1), "{started:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_or_never_would_leave_is_refused() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let nobody = v1::ElfInstance { instance_id: Bytes::from(vec![7; 16]), ..v1::ElfInstance::default() };
    let refused = mycelium.drain_instance(drain(&nobody, Duration::from_secs(1))?).await;
    ensure!(
        matches!(&refused, Err(error) if error.reason() == Some(reason::INSTANCE_NOT_FOUND)),
        "{refused:?}"
    );
    let good = drain(&nobody, Duration::ZERO)?;
    let lasting = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let bad = [
        (v1::DrainInstanceRequest { instance_id: Bytes::from_static(b"x"), ..good.clone() }, "instance_id"),
        (v1::DrainInstanceRequest { deadline: lasting(-1, 0), ..good.clone() }, "deadline"),
        (v1::DrainInstanceRequest { deadline: lasting(0, -1), ..good.clone() }, "deadline"),
        (v1::DrainInstanceRequest { deadline: lasting(24 * 3_600, 1), ..good.clone() }, "deadline"),
        (v1::DrainInstanceRequest { deadline: lasting(i64::MAX, 0), ..good.clone() }, "deadline"),
        (v1::DrainInstanceRequest { by: "x".repeat(256), ..good }, "by"),
    ];
    for (asked, field) in bad {
        let refused = mycelium.drain_instance(asked.clone()).await;
        let Err(Error::Refused { reason, violations, .. }) = &refused else {
            anyhow::bail!("{asked:?}: {refused:?}")
        };
        ensure!(reason == reason::INVALID_FIELD, "{refused:?}");
        ensure!(violations.iter().any(|violation| violation.field == field), "{field}: {refused:?}");
    }
    broker.stop().await
}
