//! Elves, clients and the command line of another version work against the broker of this one, and the reverse.
//! `MYCELIUM_OTHER_BIN_DIR` names the folder of the other version's programs; `.ci/long` builds its predecessor's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use elf_runtime::{FlowId, Job, JobId, Mycelium, Run};
use integration_tests::programs::Version;
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, flow_id_bytes, jobs_of, must, until,
};
use mycelium_proto::v1::{self, JobStatus};
use tokio::process::Command;

const ELF: &str = "passer";
const JOBS: u64 = 12;
/// How many jobs an elf runs at once.
const CONCURRENCY: u32 = 2;

/// Jobs that wait for a file, submitted.
struct Gated {
    run: Run,
    jobs: Vec<Job<u64>>,
    gate: PathBuf,
}

impl Gated {
    async fn submit(mycelium: &Mycelium, gate: PathBuf) -> anyhow::Result<Self> {
        let flow = mycelium.flow("gated");
        let tasks = Tester::tasks(&flow, ELF);
        let jobs = (0..JOBS).map(|number| tasks.task_pass(number, gate.clone())).collect();
        Ok(Self { run: flow.submit().await?, jobs, gate })
    }

    fn flow(&self) -> FlowId {
        self.run.flow_id()
    }

    fn open(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.gate, "")?)
    }

    /// Waits until all are done with what they were given.
    async fn finish(&self) -> anyhow::Result<()> {
        let ended = must("the end of the flow", self.run.wait()).await??;
        ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "{ended:?}");
        for (job, number) in self.jobs.iter().zip(0..) {
            let result = must("a result", self.run.result(job)).await??;
            ensure!(result == number, "job {number} returned {result}");
        }
        Ok(())
    }
}

async fn instances(mycelium: &Mycelium) -> anyhow::Result<Vec<v1::ElfInstance>> {
    let elf = v1::GetElfRequest { mycelium: String::new(), name: ELF.to_owned() };
    Ok(mycelium.get_elf(elf).await?.elf.context("the elf is known")?.instances)
}

async fn until_running(mycelium: &Mycelium, flow: FlowId, n: u32) -> anyhow::Result<BTreeSet<JobId>> {
    until("the elves to run all they can", || async {
        let running = jobs_of(mycelium, flow, &[JobStatus::Running]).await?;
        let ids: BTreeSet<JobId> =
            running.iter().filter_map(|job| JobId::try_from(job.job_id.as_ref()).ok()).collect();
        Ok((ids.len() >= n as usize).then_some(ids))
    })
    .await
}

/// Waits until the elves whose diaries these are have begun to run so many jobs.
async fn until_started(diaries: &[PathBuf], n: usize) -> anyhow::Result<()> {
    until("the tasks to run", || async {
        let entries = Diary::read(diaries)?;
        Ok((Diary::attempts(&entries, Event::Started).len() >= n).then_some(()))
    })
    .await
}

/// Runs a command of the command line to its end. Gives what it prints.
fn command(program: &Path, args: &[&str]) -> impl Future<Output = anyhow::Result<String>> + Send + use<> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    async move {
        let output = must("the end of a command", command.output()).await??;
        let text = String::from_utf8(output.stdout)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?} ended with {}: {text}{complaint}", output.status);
        Ok(text)
    }
}

/// A broker of one version with elves, clients and command line of another: kills, resume, drain, watch.
async fn work_together(broker: &Version, others: &Version) -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start_as(&broker.mycelium, &["--lease", "3s"]).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let options = ElfOptions::new(ELF, CONCURRENCY, 4);
    let url = broker.url();
    let start_elf = || ElfProcess::start_as(&others.test_elf, &url, &options);
    let (mut lost, drained) = (start_elf().await?, start_elf().await?);
    let gated = Gated::submit(&mycelium, folder.path().join("gate")).await?;
    let flow = gated.flow();
    let flow_text = uuid::Uuid::from_slice(&flow_id_bytes(flow))?.to_string();
    let at = ["--url", url.as_str()];
    let cli = |args: &[&str]| command(&others.mycelium, &[args, at.as_slice()].concat());

    // The broker is killed twice: what runs goes on, on sessions that are resumed.
    until_started(&[lost.diary(), drained.diary()], 2 * CONCURRENCY as usize).await?;
    for _ in 0..2 {
        until_running(&mycelium, flow, 2 * CONCURRENCY).await?;
        broker.kill().await?;
        broker.restart().await?;
        until("the elves to resume", || async {
            let connected = instances(&mycelium).await?.iter().filter(|one| one.connected).count();
            Ok((connected == 2).then_some(()))
        })
        .await?;
    }
    let diaries = [lost.diary(), drained.diary()];
    let started = Diary::attempts(&Diary::read(&diaries)?, Event::Started);
    ensure!(started.len() == 2 * CONCURRENCY as usize, "jobs were started again: {started:?}");
    ensure!(started.values().all(|attempts| attempts.len() == 1), "jobs were started again: {started:?}");

    // Somebody waits for the flow from here on.
    let watched = tokio::spawn(cli(&["watch", "--flow", &flow_text]));

    // An elf is killed: another runs what it held, once its lease is over.
    lost.kill().await?;
    let third = start_elf().await?;
    until("the lease of the elf that was killed to run out", || async {
        Ok((instances(&mycelium).await?.len() == 2).then_some(()))
    })
    .await?;
    until_started(&[third.diary()], CONCURRENCY as usize).await?;

    // An elf is told to leave: it hands back what it has not started, and finishes what runs.
    let opened = async {
        until("an elf to drain", || async {
            Ok(instances(&mycelium).await?.iter().any(|one| one.window == 0).then_some(()))
        })
        .await?;
        gated.open()
    };
    let drained_diary = drained.diary();
    let (stopped, opened) = tokio::join!(drained.stop(), opened);
    opened?;
    stopped.context("an elf that drains")?;
    let drained_entries = Diary::read([&drained_diary])?;
    ensure!(
        Diary::attempts(&drained_entries, Event::Started) == Diary::attempts(&drained_entries, Event::Ended),
        "an elf that drains finishes what it runs"
    );

    gated.finish().await?;
    let watched = watched.await??;
    ensure!(watched.contains("DONE"), "the watch ended with `{watched}`");
    let counted = counts(&mycelium, flow).await?;
    ensure!(counted.done == JOBS && counted.failed == 0, "{counted:?}");
    let listed = cli(&["jobs", "--flow", &flow_text, "--output", "json"]).await?;
    ensure!(listed.matches("\"DONE\"").count() == 12, "{listed}");
    third.stop().await?;

    // Submitted, explained, cancelled and brought back by the command line and the client of the other version.
    let second = Gated::submit(&mycelium, folder.path().join("other gate")).await?;
    let job = jobs_of(&mycelium, second.flow(), &[]).await?.remove(0);
    let job = uuid::Uuid::from_slice(&job.job_id)?.to_string();
    let why = cli(&["why", &job]).await?;
    ensure!(why.contains(&format!("`{ELF}`")), "{why}");
    cli(&["cancel", &job]).await?;
    ensure!(counts(&mycelium, second.flow()).await?.cancelled == 1);
    cli(&["retry", &job]).await?;
    second.open()?;
    let last = start_elf().await?;
    second.finish().await?;
    last.stop().await?;
    let connect = ["bench", "fan", "--jobs", "500", "--connect", url.as_str()];
    command(&others.mycelium, &connect).await.context("client and elf of the other version")?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the programs of another version: see .ci/long"]
async fn elf_client_and_command_line_of_another_version_work_with_this_broker() -> anyhow::Result<()> {
    work_together(&Version::own()?, &Version::other()?).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the programs of another version: see .ci/long"]
async fn elf_client_and_command_line_of_this_version_work_with_another_broker() -> anyhow::Result<()> {
    work_together(&Version::other()?, &Version::own()?).await
}

/// The broker is replaced under elves of both versions that run jobs: nothing is started again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the programs of another version: see .ci/long"]
async fn the_broker_of_another_version_is_replaced_by_this_one_under_jobs_that_run() -> anyhow::Result<()> {
    let (own, other) = (Version::own()?, Version::other()?);
    let mut broker = BrokerProcess::start_as(&other.mycelium, &[]).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let options = ElfOptions::new(ELF, CONCURRENCY, CONCURRENCY);
    let elves = [
        ElfProcess::start_as(&other.test_elf, &broker.url(), &options).await?,
        ElfProcess::start_as(&own.test_elf, &broker.url(), &options).await?,
    ];
    let diaries = [elves[0].diary(), elves[1].diary()];
    let gated = Gated::submit(&mycelium, folder.path().join("gate")).await?;
    until_started(&diaries, 2 * CONCURRENCY as usize).await?;
    broker.kill().await?;
    broker.restart_as(&own.mycelium).await?;
    until("the elves to resume", || async {
        let connected = instances(&mycelium).await?.iter().filter(|one| one.connected).count();
        Ok((connected == 2).then_some(()))
    })
    .await?;
    gated.open()?;
    gated.finish().await?;
    let started = Diary::attempts(&Diary::read(&diaries)?, Event::Started);
    ensure!(started.len() as u64 == JOBS, "{started:?}");
    ensure!(started.values().all(|attempts| *attempts == [1]), "jobs were started again: {started:?}");
    let [old, new] = elves;
    old.stop().await?;
    new.stop().await?;
    broker.stop().await
}
