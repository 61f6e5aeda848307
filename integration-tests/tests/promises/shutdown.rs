//! A process that is told to stop finishes what it runs, hands back what it has not begun, and ends well.

use anyhow::ensure;
use elf_runtime::JobId;
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, must, until};
use mycelium_proto::v1::JobStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_of_a_deployment_drain_an_elf() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let gates = tempfile::tempdir()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gate = gates.path().join(signal.as_str());
        let mut elf = ElfProcess::start(&broker.url(), &ElfOptions::new(signal.as_str(), 1, 2)).await?;
        let flow = mycelium.flow(signal.as_str());
        let tasks = Tester::tasks(&flow, signal.as_str());
        let (runs, waits) = (tasks.task_pass(1, gate.clone()), tasks.task_pass(2, gate.clone()));
        let run = flow.submit().await?;
        let status_is = |job: JobId, status: JobStatus| {
            let run = &run;
            move || async move { Ok((run.job_status(job).await? == status).then_some(())) }
        };
        until("the first job to run", || async {
            Ok((!Diary::read([elf.diary()])?.is_empty()).then_some(()))
        })
        .await?;
        until("the second one to be held", status_is(waits.id(), JobStatus::Assigned)).await?;
        until("the start of the first to be told", status_is(runs.id(), JobStatus::Running)).await?;

        kill(Pid::from_raw(i32::try_from(elf.pid()?)?), signal)?;
        until("what was not begun to be handed back", status_is(waits.id(), JobStatus::Ready)).await?;
        ensure!(run.job_status(runs.id()).await? == JobStatus::Running, "what runs goes on");
        elf.check_alive()?;
        std::fs::write(&gate, "")?;
        let ended = elf.wait_for_end().await?;
        ensure!(ended.success(), "{signal}: it ended with {ended}");
        ensure!(must("the result", run.result(&runs)).await?? == 1);
        let entries = Diary::read([elf.diary()])?;
        let begun = Diary::attempts(&entries, Event::Started);
        ensure!(begun.keys().collect::<Vec<_>>() == [&runs.id()], "{signal}: only the first one was begun");
        ensure!(begun[&runs.id()] == [1], "{signal}: and once");
    }
    broker.stop().await
}
