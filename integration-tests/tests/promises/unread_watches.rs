//! Two thousand watches that nobody reads: the broker keeps its memory, and others are served.
//! None of what others watch is taken from them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, Bystander, until};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus};
use tonic::Streaming;
use tonic::transport::Channel;

/// How many results there are, and how large each is.
const RESULTS: usize = 1_000;
const RESULT_BYTES: usize = 60 * 1024;
const CONNECTIONS: usize = 40;
const WATCHES_PER_CONNECTION: usize = 50;
/// What the broker may take at most, in bytes.
const PEAK_MAX: u64 = 256 * 1024 * 1024;

/// The most memory that a process has taken, in bytes.
fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}

type Watches = Vec<(MyceliumServiceClient<Channel>, Vec<Streaming<v1::WatchJobsResponse>>)>;

/// Opens watches of flows on connections of their own. Nobody reads them.
async fn open(url: &str, flows: &[Bytes], connections: usize) -> anyhow::Result<Watches> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        let client = wire::client(url).await?;
        let mut watches = Vec::new();
        for flow in flows.iter().cycle().take(WATCHES_PER_CONNECTION) {
            let request = v1::WatchJobsRequest { include_outputs: true, ..wire::watch_flow(flow) };
            watches.push(client.clone().watch_jobs(request).await?.into_inner());
        }
        opened.push((client, watches));
    }
    Ok(opened)
}

/// Runs jobs of an elf `talker`, each of which returns the same large text.
async fn talk(url: &str, n: usize) -> anyhow::Result<WireElf> {
    talk_as("talker", url, n).await
}

async fn talk_as(name: &str, url: &str, n: usize) -> anyhow::Result<WireElf> {
    let declaration = wire::declaration(name, &[], &["text"]);
    let mut elf = WireElf::connect(url, wire::hello(declaration, 32)).await?;
    let text = format!("\"{}\"", "x".repeat(RESULT_BYTES));
    let mut n_done = 0;
    while n_done < n {
        if let v1::connect_response::Kind::Assign(assign) = elf.next().await? {
            for token in assign.assignments.iter().filter_map(|one| one.token.as_ref()) {
                elf.report(vec![wire::returned(token, &[("text", &text)])]).await?;
                n_done += 1;
            }
        }
    }
    Ok(elf)
}

async fn until_done(client: &MyceliumServiceClient<Channel>, flow: &Bytes, n: usize) -> anyhow::Result<()> {
    until("all jobs to be DONE", || async {
        let flow = Some(v1::get_flow_request::Flow::FlowId(flow.clone()));
        let answer = client.clone().get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await?;
        let counts = answer.into_inner().flow.and_then(|flow| flow.counts).context("counts")?;
        Ok((counts.done == n as u64).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_watches_that_nobody_reads_take_little_and_disturb_nobody() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let url = broker.url();
    let bystander = Bystander::start(&url).await?;
    let mut client = wire::client(&url).await?;
    let request = wire::submission((0..RESULTS).map(|_| wire::job("talker", &[], Vec::new())).collect());
    let flow = request.flow_id.clone();
    client.submit_jobs(request).await?;

    // Half of them are told of each end as it happens, the others begin when all is over.
    let before = open(&url, std::slice::from_ref(&flow), CONNECTIONS / 2).await?;
    let elf = talk(&url, RESULTS).await?;
    until_done(&client, &flow, RESULTS).await?;
    let after = open(&url, std::slice::from_ref(&flow), CONNECTIONS / 2).await?;

    // Somebody who reads is told all of it meanwhile, and gets every result, now or on request.
    let request = v1::WatchJobsRequest {
        include_outputs: true,
        final_only: true,
        until_final: true,
        ..wire::watch_flow(&flow)
    };
    let mut watch = client.watch_jobs(request).await?.into_inner();
    let (mut n_told, mut n_whole) = (0, 0);
    while let Some(message) = integration_tests::must("a message", watch.message()).await?? {
        for change in message.changes {
            ensure!(change.status() == JobStatus::Done, "{:?}", change.status());
            ensure!(
                change.outputs_omitted == change.outputs.is_empty(),
                "outputs are neither there nor left out"
            );
            n_told += 1;
            n_whole += usize::from(!change.outputs_omitted);
        }
    }
    ensure!(n_told == RESULTS, "told of {n_told} ends, {n_whole} with their results");
    ensure!(n_whole == RESULTS, "{n_whole} of {RESULTS} results came whole");
    bystander.finish().await?;

    let peak = peak(broker.pid()?)?;
    ensure!(peak < PEAK_MAX, "the broker took {} MiB", peak / 1024 / 1024);
    println!("peak {} MiB", peak / 1024 / 1024);
    drop((before, after, elf));
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_nobody_reads_takes_little_whatever_happens() -> anyhow::Result<()> {
    const RESULTS: usize = 4_000;
    let broker = BrokerProcess::start(&[]).await?;
    let url = broker.url();
    let client = wire::client(&url).await?;
    let request = wire::submission((0..RESULTS).map(|_| wire::job("talker", &[], Vec::new())).collect());
    let flow = request.flow_id.clone();
    client.clone().submit_jobs(request).await?;
    let request =
        v1::WatchJobsRequest { include_outputs: true, until_final: true, ..wire::watch_flow(&flow) };
    let mut watch = client.clone().watch_jobs(request).await?.into_inner();
    let elf = talk(&url, RESULTS).await?;
    until_done(&wire::client(&url).await?, &flow, RESULTS).await?;
    let peak = peak(broker.pid()?)?;
    ensure!(peak < PEAK_MAX, "the broker took {} MiB", peak / 1024 / 1024);

    // Whoever wakes up is told of every end, with its result.
    let mut whole = std::collections::BTreeSet::new();
    while let Some(message) = integration_tests::must("a message", watch.message()).await?? {
        for change in message.changes {
            if change.status() == JobStatus::Done && !change.outputs.is_empty() {
                whole.insert(change.job_id);
            }
        }
    }
    ensure!(whole.len() == RESULTS, "{} results came", whole.len());
    drop(elf);
    broker.stop().await
}

/// Somebody who watches a flow of its own, and reads all that it is told.
struct Innocent {
    client: MyceliumServiceClient<Channel>,
    flow: Bytes,
    watch: Streaming<v1::WatchJobsResponse>,
    commit: u64,
    done: BTreeSet<Bytes>,
}

impl Innocent {
    async fn start(url: &str) -> anyhow::Result<Self> {
        let mut client = wire::client(url).await?;
        let flow = wire::id();
        let request =
            v1::WatchJobsRequest { include_outputs: true, may_come: true, ..wire::watch_flow(&flow) };
        let watch = client.watch_jobs(request).await?.into_inner();
        let mut me = Self { client, flow, watch, commit: 0, done: BTreeSet::new() };
        while !me.next().await?.snapshot_end {}
        Ok(me)
    }

    async fn next(&mut self) -> anyhow::Result<v1::WatchJobsResponse> {
        let message = integration_tests::must("a message", self.watch.message()).await??;
        message.context("the watch ended")
    }

    /// How long it takes to submit a job and to be told its result, whole and without a gap.
    async fn round(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let submission = v1::SubmitJobsRequest {
            flow_id: self.flow.clone(),
            ..wire::submission(vec![wire::job("innocent", &[], Vec::new())])
        };
        let job = submission.jobs.first().context("a job")?.job_id.clone();
        self.client.submit_jobs(submission).await?;
        let mut statuses = Vec::new();
        while !self.done.contains(&job) {
            let message = self.next().await?;
            ensure!(!message.snapshot, "the watch begins anew");
            ensure!(message.commit == 0 || message.commit > self.commit, "{} again", message.commit);
            self.commit = self.commit.max(message.commit);
            for change in message.changes {
                ensure!(change.job_id == job, "a change of another job");
                ensure!(!change.outputs_omitted, "a result was left out");
                statuses.push(change.status());
                if change.status() == JobStatus::Done {
                    ensure!(!change.outputs.is_empty(), "no result");
                    self.done.insert(change.job_id);
                }
            }
        }
        ensure!(statuses.ends_with(&[JobStatus::Running, JobStatus::Done]), "{statuses:?}");
        Ok(begun.elapsed())
    }

    async fn median(&mut self, rounds: usize) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(self.round().await?);
        }
        times.sort_unstable();
        Ok(times[rounds / 2])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unread_watches_of_one_client_take_nothing_from_those_of_another() -> anyhow::Result<()> {
    const ROUNDS: usize = 101;
    // The elves never beat.
    let broker = BrokerProcess::start(&["--lease", "1h", "--heartbeat-interval", "1m"]).await?;
    let url = broker.url();
    let elf = {
        let url = url.clone();
        tokio::spawn(async move { talk_as("innocent", &url, usize::MAX).await })
    };
    let mut innocent = Innocent::start(&url).await?;
    let alone = innocent.median(ROUNDS).await?;

    // Of many flows, so that little waits for each watch. Half of the watches are told of each end as it happens.
    let mut hostile = wire::client(&url).await?;
    let mut flows = Vec::new();
    for _ in 0..20 {
        let jobs = (0..RESULTS / 20).map(|_| wire::job("talker", &[], Vec::new())).collect();
        let request = wire::submission(jobs);
        flows.push(request.flow_id.clone());
        hostile.submit_jobs(request).await?;
    }
    let before = open(&url, &flows, CONNECTIONS / 2).await?;
    let talking = {
        let url = url.clone();
        tokio::spawn(async move { talk(&url, RESULTS).await })
    };
    let during = innocent.median(ROUNDS).await?;
    let talker = integration_tests::must("the end of the hostile jobs", talking).await???;
    // The others begin when there are results, and with those.
    let after = open(&url, &flows, CONNECTIONS / 2).await?;
    // Nor do they take anything from one that begins to watch after them.
    let mut late = Innocent::start(&url).await?;
    let beside = innocent.median(ROUNDS).await?.max(during).max(late.median(ROUNDS).await?);
    let n_done = (innocent.done.len(), late.done.len());
    ensure!(n_done == (3 * ROUNDS, ROUNDS), "{n_done:?} results came");

    let most = (alone * 10).max(Duration::from_millis(100));
    ensure!(beside <= most, "a job took {beside:?} beside the watches, and {alone:?} alone");
    let peak = peak(broker.pid()?)?;
    ensure!(peak < PEAK_MAX, "the broker took {} MiB", peak / 1024 / 1024);
    println!("p50 {alone:?} alone, {beside:?} beside; peak {} MiB", peak / 1024 / 1024);
    ensure!(!elf.is_finished(), "the elf is gone");
    elf.abort();
    drop((before, after, talker));
    broker.stop().await
}
