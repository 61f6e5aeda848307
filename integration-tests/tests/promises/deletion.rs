//! Flows are deleted with all that is stored of them, and nothing that is still needed goes with them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, FlowId, Job, Mycelium, RetryPolicy, Run, TaskError, machine_elf};
use integration_tests::{BrokerProcess, Worker, jobs_of, must, until};
use mycelium_proto::v1::{self, FlowFate, get_flow_request};
use mycelium_proto::{limits, reason};
use mycelium_server::store::MemoryStore;
use mycelium_server::store::faulty::{FaultyStore, JobRecord};
use mycelium_server::{Broker, Config, RunningBroker};
use tempfile::TempDir;

use super::moving::command;

struct Press;

#[machine_elf]
impl Press {
    /// A text of so many words.
    async fn task_print(&self, words: u64) -> String {
        "word ".repeat(words as usize)
    }

    /// How long a text is.
    async fn task_measure(&self, text: String) -> Result<u64, TaskError> {
        match text.len() {
            0 => Err(TaskError::new("EmptyError", "nothing is printed")),
            length => Ok(length as u64),
        }
    }
}

struct World {
    _dir: TempDir,
    broker: RunningBroker,
    mycelium: Mycelium,
    worker: Worker,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        Self::start_with(Config { blob_grace: Duration::from_secs(1), ..Config::default() }).await
    }

    async fn start_with(config: Config) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let broker = Broker::open_with(config, dir.path())?.bind("127.0.0.1:0").await?;
        let mycelium = Mycelium::connect(broker.url()).await?;
        let worker = Worker::start(mycelium.serve().elf("press", Press)).await?;
        Ok(Self { _dir: dir, broker, mycelium, worker })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.worker.stop().await?;
        Ok(self.broker.stop().await?)
    }
}

fn bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

/// A flow with one text, which is so long.
async fn printed(mycelium: &Mycelium, name: &str, words: u64) -> anyhow::Result<(Run, Job<String>)> {
    let flow = mycelium.flow(name);
    let text = Press::tasks(&flow, "press").task_print(words);
    let run = flow.submit().await?;
    must("the end of the flow", run.wait()).await??;
    Ok((run, text))
}

/// A flow that measures a text of another.
async fn measured(mycelium: &Mycelium, name: &str, text: &Job<String>) -> anyhow::Result<Run> {
    let flow = mycelium.flow(name);
    let _length = Press::tasks(&flow, "press").task_measure(text);
    let run = flow.submit().await?;
    must("the end of the flow", run.wait()).await??;
    Ok(run)
}

async fn delete(mycelium: &Mycelium, flows: &[FlowId], dry_run: bool) -> Result<Vec<FlowFate>, Error> {
    let flow_ids = flows.iter().map(|flow| bytes(flow.as_bytes())).collect();
    let request = v1::DeleteFlowsRequest { flow_ids, dry_run, ..Default::default() };
    Ok(mycelium.delete_flows(request).await?.flows.iter().map(v1::FlowDeletion::fate).collect())
}

async fn delete_jobs(mycelium: &Mycelium, job_ids: Vec<Bytes>) -> Result<Vec<FlowFate>, Error> {
    let request = v1::DeleteJobsRequest { job_ids, ..Default::default() };
    Ok(mycelium.delete_jobs(request).await?.flows.iter().map(v1::FlowDeletion::fate).collect())
}

async fn flow(mycelium: &Mycelium, flow: FlowId) -> Result<v1::Flow, Error> {
    let flow = Some(get_flow_request::Flow::FlowId(bytes(flow.as_bytes())));
    let answer = mycelium.get_flow(v1::GetFlowRequest { flow, ..Default::default() }).await?;
    Ok(answer.flow.unwrap_or_default())
}

async fn until_gone(mycelium: &Mycelium, id: FlowId) -> anyhow::Result<()> {
    until("the end of a deletion", || async {
        let is_gone = |error: &Error| error.reason() == Some(reason::FLOW_NOT_FOUND);
        Ok(flow(mycelium, id).await.err().filter(is_gone).map(drop))
    })
    .await
}

async fn until_stub(mycelium: &Mycelium, id: FlowId) -> anyhow::Result<()> {
    until("a stub", || async { Ok(flow(mycelium, id).await?.deleted_at.map(drop)) }).await
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, reason: &str) -> anyhow::Result<()> {
    let error = answer.err().context("it is not refused")?;
    ensure!(error.reason() == Some(reason), "{error}");
    Ok(())
}

/// The failures that are kept, each with how often it was seen, and the jobs of the occurrences that are left.
async fn failures(mycelium: &Mycelium) -> anyhow::Result<Vec<(u64, Vec<Bytes>)>> {
    let mut kept = Vec::new();
    for group in mycelium.list_failures(v1::ListFailuresRequest::default()).await?.failures {
        let request = v1::GetFailureRequest { failure_id: group.failure_id, ..Default::default() };
        let occurrences = match mycelium.get_failure(request).await {
            Ok(answer) => answer.occurrences,
            // It went after it was listed.
            Err(gone) if gone.reason() == Some(reason::FAILURE_NOT_FOUND) => continue,
            Err(other) => return Err(other.into()),
        };
        kept.push((group.occurrences, occurrences.into_iter().map(|occurrence| occurrence.job_id).collect()));
    }
    Ok(kept)
}

/// A flow with a job that fails, at each of two attempts.
async fn failed(mycelium: &Mycelium) -> anyhow::Result<(FlowId, Bytes)> {
    let flow = mycelium.flow("fails");
    let policy = RetryPolicy::new().attempts(2).first(Duration::from_millis(1));
    let job = Press::tasks(&flow, "press").task_measure("").retry(policy);
    let run = flow.submit().await?;
    must("the end of the flow", run.wait()).await??;
    Ok((run.flow_id(), bytes(job.id().as_bytes())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_go_with_the_last_job_that_had_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mycelium = &world.mycelium;
    let (first, _) = failed(mycelium).await?;
    let (second, job) = failed(mycelium).await?;
    ensure!(failures(mycelium).await?.iter().map(|(seen, jobs)| (*seen, jobs.len())).eq([(4, 4)]));
    delete(mycelium, &[first], false).await?;
    until_gone(mycelium, first).await?;
    ensure!(failures(mycelium).await? == [(4, vec![job.clone(), job])], "those of the other stay");
    delete(mycelium, &[second], false).await?;
    until_gone(mycelium, second).await?;
    until("the failure to go", || async { Ok(failures(mycelium).await?.is_empty().then_some(())) }).await?;
    let (_, job) = failed(mycelium).await?;
    ensure!(failures(mycelium).await? == [(2, vec![job.clone(), job])], "it is counted anew");
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_is_deleted_leaves_nothing_and_its_ids_are_free() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mycelium = &world.mycelium;
    // Large enough for a blob.
    let (run, text) = printed(mycelium, "large", limits::PAYLOAD_BYTES_MAX as u64).await?;
    let (id, job) = (run.flow_id(), text.id());
    ensure!(delete(mycelium, &[id], true).await? == [FlowFate::Whole]);
    ensure!(flow(mycelium, id).await.is_ok(), "nothing is done yet");
    ensure!(delete(mycelium, &[id], false).await? == [FlowFate::Whole]);
    until_gone(mycelium, id).await?;
    refused(mycelium.job(job).await, reason::JOB_NOT_FOUND)?;
    let listed = mycelium.list_jobs(v1::ListJobsRequest::default()).await?;
    ensure!(listed.jobs.is_empty(), "{listed:?}");
    ensure!(delete(mycelium, &[id], false).await? == [FlowFate::NotFound], "repeating it is harmless");

    let blobs = world._dir.path().join("default/blobs");
    ensure!(blobs.is_dir(), "{} is no folder", blobs.display());
    until("the removal of its blob", || async { Ok((files_in(&blobs) == 0).then_some(())) }).await?;
    world.stop().await
}

fn files_in(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_others_came_from_leaves_a_stub() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mycelium = &world.mycelium;
    let (run, text) = printed(mycelium, "text", 10).await?;
    let user = measured(mycelium, "length", &text).await?;
    ensure!(delete(mycelium, &[run.flow_id()], false).await? == [FlowFate::Stub]);
    until_stub(mycelium, run.flow_id()).await?;

    // What it was and what came of it still shows.
    let shown = mycelium.job(text.id()).await?;
    ensure!(shown.status() == v1::JobStatus::Done && !shown.instance_id.is_empty(), "{shown:?}");
    let length = jobs_of(mycelium, user.flow_id(), &[]).await?.remove(0).job_id;
    let request = v1::GetLineageRequest { job_id: length, ..v1::GetLineageRequest::default() };
    let lineage = mycelium.get_lineage(request).await?;
    ensure!(lineage.jobs.len() == 2 && lineage.edges.len() == 1, "{lineage:?}");

    // Its values do not.
    let job_ids = vec![bytes(text.id().as_bytes())];
    let request = v1::GetOutputsRequest { job_ids, ..v1::GetOutputsRequest::default() };
    refused(mycelium.get_outputs(request).await, reason::ORIGIN_DELETED)?;
    let flow = mycelium.flow("late");
    let _length = Press::tasks(&flow, "press").task_measure(&text);
    refused(flow.submit().await.map(|run| run.flow_id()), reason::ORIGIN_DELETED)?;

    // A stub goes when nothing came of it any more.
    ensure!(delete(mycelium, &[run.flow_id()], true).await? == [FlowFate::Stub], "it is still used");
    ensure!(delete(mycelium, &[user.flow_id()], false).await? == [FlowFate::Whole]);
    until_gone(mycelium, user.flow_id()).await?;
    ensure!(delete(mycelium, &[run.flow_id()], false).await? == [FlowFate::Whole]);
    until_gone(mycelium, run.flow_id()).await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_needs_what_was_deleted_is_refused() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mycelium = &world.mycelium;
    let (run, empty) = printed(mycelium, "nothing", 0).await?;
    let failed = measured(mycelium, "fails", &empty).await?;
    ensure!(delete(mycelium, &[run.flow_id()], false).await? == [FlowFate::Stub]);
    until_stub(mycelium, run.flow_id()).await?;
    let scope = Some(v1::retry_jobs_request::Scope::FlowId(bytes(failed.flow_id().as_bytes())));
    let retry = v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() };
    refused(mycelium.retry_jobs(retry).await, reason::ORIGIN_DELETED)?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_needed_is_kept() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mycelium = &world.mycelium;
    let (run, text) = printed(mycelium, "text", 10).await?;
    let flow = mycelium.flow("waiting");
    // Nobody serves it.
    let _length = Press::tasks(&flow, "nobody").task_measure(&text);
    let waiting = flow.submit().await?;
    let both = [run.flow_id(), waiting.flow_id()];
    ensure!(delete(mycelium, &both, false).await? == [FlowFate::Used, FlowFate::Unfinished]);
    // Of jobs the unit is the flow: one of which others are not named is kept, whatever becomes of it meanwhile.
    let pair = mycelium.flow("pair");
    let one = Press::tasks(&pair, "press").task_print(1).id();
    let _other = Press::tasks(&pair, "press").task_print(2);
    must("the end of the pair", pair.submit().await?.wait()).await??;
    ensure!(delete_jobs(mycelium, vec![bytes(one.as_bytes())]).await? == [FlowFate::PartlyNamed]);
    ensure!(jobs_of(mycelium, pair.id(), &[]).await?.len() == 2, "nothing is deleted");
    let named = jobs_of(mycelium, waiting.flow_id(), &[]).await?.pop().context("there are jobs")?.job_id;
    ensure!(delete_jobs(mycelium, vec![named]).await? == [FlowFate::Unfinished]);
    let unknown = v1::DeleteJobsRequest { job_ids: vec![bytes(&[7; 16])], ..Default::default() };
    refused(mycelium.delete_jobs(unknown).await, reason::JOB_NOT_FOUND)?;
    mycelium.cancel_flow(waiting.flow_id()).await?;

    let pin = |unpin| v1::PinFlowsRequest {
        flow_ids: vec![bytes(waiting.flow_id().as_bytes())],
        unpin,
        ..v1::PinFlowsRequest::default()
    };
    ensure!(mycelium.pin_flows(pin(false)).await?.changed == 1);
    ensure!(mycelium.pin_flows(pin(false)).await?.changed == 0, "it is pinned already");
    ensure!(delete(mycelium, &both, true).await? == [FlowFate::Stub, FlowFate::Pinned]);
    ensure!(mycelium.pin_flows(pin(true)).await?.changed == 1);

    // Together they go as a whole, and so do the flows of jobs that are all named.
    let mut job_ids: Vec<Bytes> = Vec::new();
    for flow in both {
        job_ids.extend(jobs_of(mycelium, flow, &[]).await?.into_iter().map(|job| job.job_id));
    }
    ensure!(delete_jobs(mycelium, job_ids).await? == [FlowFate::Whole; 2]);
    for flow in both {
        until_gone(mycelium, flow).await?;
    }
    let nothing =
        v1::DeleteFlowsRequest { flow_ids: vec![Bytes::from_static(b"short")], ..Default::default() };
    refused(mycelium.delete_flows(nothing).await, reason::INVALID_FIELD)?;
    world.stop().await
}

/// A broker that is killed while it deletes goes on where it was, and what is kept stays as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_goes_on_deleting() -> anyhow::Result<()> {
    const JOBS: u64 = 6_000;
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("press", Press)).await?;
    let (kept, _) = printed(&mycelium, "kept", 3).await?;
    let flow = mycelium.flow("many");
    for number in 0..JOBS {
        let _text = Press::tasks(&flow, "press").task_print(number % 300);
    }
    let run = flow.submit().await?;
    must("the end of the flow", run.wait()).await??;
    worker.stop().await?;
    ensure!(delete(&mycelium, &[run.flow_id()], false).await? == [FlowFate::Whole]);
    for _ in 0..3 {
        broker.kill().await?;
        broker.restart().await?;
        let left = jobs_of(&mycelium, run.flow_id(), &[]).await?.len() as u64;
        ensure!(left <= JOBS);
    }
    until_gone(&mycelium, run.flow_id()).await?;
    let listed = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
    ensure!(listed.len() == 1 && listed[0].flow_id == bytes(kept.flow_id().as_bytes()), "{listed:?}");
    broker.stop().await
}

/// Flows go when their time is over, by name and by how they ended, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_retention_delete_what_is_not_to_be_kept() -> anyhow::Result<()> {
    let config = Config { retention: "audit*:any=forever, done=1s, failed=1h".parse()?, ..Config::default() };
    let world = World::start_with(config).await?;
    let mycelium = &world.mycelium;
    let (audited, _) = printed(mycelium, "audit of today", 1).await?;
    let (empty, text) = printed(mycelium, "audit of nothing", 0).await?;
    let failed = measured(mycelium, "fails", &text).await?;
    let (pinned, _) = printed(mycelium, "pinned", 1).await?;
    let request = v1::PinFlowsRequest {
        flow_ids: vec![bytes(pinned.flow_id().as_bytes())],
        ..v1::PinFlowsRequest::default()
    };
    mycelium.pin_flows(request).await?;
    // Whoever comes last goes last: what stays has been looked at by then.
    let (first, _) = printed(mycelium, "report", 1).await?;
    until_gone(mycelium, first.flow_id()).await?;
    let (second, _) = printed(mycelium, "report", 1).await?;
    until_gone(mycelium, second.flow_id()).await?;
    for run in [&audited, &empty, &failed, &pinned] {
        ensure!(flow(mycelium, run.flow_id()).await?.deleted_at.is_none(), "a flow went that is kept");
    }
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_deletes_and_pins() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (run, _) = printed(&world.mycelium, "report", 1).await?;
    let url = world.broker.url();
    let ask = async |arguments: &[&str]| command(&[&["--url", &url], arguments].concat()).await;
    ensure!(ask(&["pin", "report"]).await?.good().contains("1 flow pinned"));
    let kept = ask(&["delete", "--flow", "report"]).await?;
    ensure!(kept.code == Some(1) && kept.stdout.contains("kept: it is pinned"), "{kept:?}");
    ensure!(ask(&["pin", "report", "--remove"]).await?.good().contains("may be deleted again"));
    ensure!(ask(&["delete", "--flow", "report", "--dry-run"]).await?.good().contains("would be deleted"));
    let deleted = ask(&["--output", "json", "delete", "--flow", "report"]).await?.good();
    ensure!(deleted.contains("\"WHOLE\""), "{deleted}");
    until_gone(&world.mycelium, run.flow_id()).await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_goes_although_it_cannot_be_read_which_failures_it_had() -> anyhow::Result<()> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let worker = Worker::start(mycelium.serve().elf("press", Press)).await?;
    let (id, job) = failed(&mycelium).await?;
    store.damage(job.as_ref().try_into()?, JobRecord::Occurrences);
    delete(&mycelium, &[id], false).await?;
    until_gone(&mycelium, id).await?;
    ensure!(failures(&mycelium).await? == [(2, vec![job.clone(), job])], "what is damaged stays");
    worker.stop().await?;
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_larger_than_it_should_be_is_told_of_and_another_is_not() -> anyhow::Result<()> {
    const WARNING: &str = "the store is larger than it should be";
    let mut warned = BrokerProcess::start(&["--store-size-alarm", "1"]).await?;
    let silent = BrokerProcess::start(&["--store-size-alarm", "1099511627776"]).await?;
    for broker in [&warned, &silent] {
        let flow = broker.client().await?.flow("stored");
        let _text = Press::tasks(&flow, "press").task_print(1);
        flow.submit().await?;
    }
    // It is looked at when the broker starts, and seldom after that.
    warned.kill().await?;
    warned.restart().await?;
    until("the warning", || async {
        let log = warned.log()?;
        Ok(log.lines().any(|line| line.contains(WARNING) && line.contains("alarm=1")).then_some(()))
    })
    .await?;
    warned.stop().await?;
    ensure!(!silent.log()?.contains(WARNING));
    silent.stop().await
}
