//! One client's expensive values, or its flood of submissions, hold up another client's work by little.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf, literal};
use integration_tests::{BrokerProcess, must};
use mycelium_proto::limits;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, connect_response, value_node};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

/// How many jobs of the greedy flow take long to compute.
const GREEDY: usize = 150;
/// At most so many of them may have ended before the other flow's have: a fair share is about as many as the other flow
/// has, and some are under way.
const GREEDY_BEFORE_MAX: u64 = 60;

fn operation(name: &str, inputs: &[u32], body: Option<v1::OperationBody>) -> v1::ValueNode {
    let inputs = inputs.to_vec();
    let operation = v1::Operation { name: name.to_owned(), inputs, body };
    v1::ValueNode { kind: Some(value_node::Kind::Operation(operation)) }
}

/// Nodes of which the last takes some 50 ms to come to 200000, or less than one to come to 2.
fn length_of_a_list(is_slow: bool) -> Vec<v1::ValueNode> {
    let input = v1::ValueNode { kind: Some(value_node::Kind::BodyInput(0)) };
    let body = v1::OperationBody { nodes: vec![input, operation("negate", &[0], None)], result: 1 };
    vec![
        literal("0"),
        literal(if is_slow { "200000" } else { "2" }),
        operation("list.range", &[0, 1], None),
        operation("list.map", &[2], Some(body)),
        operation("length", &[3], None),
    ]
}

fn conditional(is_slow: bool) -> v1::JobSpec {
    let mut nodes = length_of_a_list(is_slow);
    nodes.push(operation("less", &[0, 4], None));
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node: 0 }];
    v1::JobSpec { run_if: Some(5), arguments, operations_version: 1, ..wire::job("e", &[], nodes) }
}

fn computed(is_slow: bool) -> v1::JobSpec {
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node: 4 }];
    v1::JobSpec { arguments, operations_version: 1, ..wire::job("e", &[], length_of_a_list(is_slow)) }
}

fn plain() -> v1::JobSpec {
    wire::job("e", &["x"], vec![literal("1")])
}

async fn start() -> anyhow::Result<(RunningBroker, Client)> {
    // The elf never beats.
    let config = Config { lease: Duration::from_secs(3600), ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    Ok((broker, client))
}

/// One process that holds all jobs and returns at once.
async fn serve(url: &str) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let hello = wire::hello(wire::declaration("e", &["x"], &["value"]), 1_000);
    let mut elf = WireElf::connect(url, hello).await?;
    Ok(tokio::spawn(async move {
        loop {
            let connect_response::Kind::Assign(assign) = elf.next().await? else { continue };
            let returned = assign.assignments.into_iter().filter_map(|assignment| {
                let value = assignment.arguments.first().and_then(|argument| argument.payload.clone())?;
                let Some(v1::payload::Content::Inline(bytes)) = value.content else { return None };
                Some(wire::returned(&assignment.token?, &[("value", std::str::from_utf8(&bytes).ok()?)]))
            });
            elf.report(returned.collect()).await?;
        }
    }))
}

async fn submit(client: &mut Client, jobs: Vec<v1::JobSpec>) -> anyhow::Result<Bytes> {
    let submission = wire::submission(jobs);
    let flow = submission.flow_id.clone();
    client.submit_jobs(submission).await?;
    Ok(flow)
}

/// Waits until all jobs of a flow have ended DONE.
async fn all_done(client: &mut Client, flow: &Bytes, jobs: usize) -> anyhow::Result<()> {
    let watch = v1::WatchJobsRequest { until_final: true, final_only: true, ..wire::watch_flow(flow) };
    let mut changes = client.watch_jobs(watch).await?.into_inner();
    // What ends while the snapshot is taken may be told with it and after it.
    let mut ended = BTreeSet::new();
    while let Some(message) = must("the end of a flow", changes.message()).await?? {
        for change in message.changes {
            ensure!(change.status() == JobStatus::Done, "a job ended {:?}", change.status());
            ended.insert(change.job_id);
        }
    }
    ensure!(ended.len() == jobs, "{} of {jobs} jobs ended", ended.len());
    Ok(())
}

async fn n_done(client: &mut Client, flow: &Bytes) -> anyhow::Result<u64> {
    let flow = Some(v1::get_flow_request::Flow::FlowId(flow.clone()));
    let answer = client.get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await?.into_inner();
    Ok(answer.flow.and_then(|flow| flow.counts).context("the flow has no counts")?.done)
}

/// A greedy flow, and a modest one after it: the latter ends first by far.
async fn check_order(greedy: Vec<v1::JobSpec>, modest: Vec<v1::JobSpec>) -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let elf = serve(&broker.url()).await?;
    let (n_greedy, n_modest) = (greedy.len(), modest.len());
    let greedy = submit(&mut client, greedy).await?;
    let modest = submit(&mut client, modest).await?;
    all_done(&mut client, &modest, n_modest).await?;
    let before = n_done(&mut client, &greedy).await?;
    ensure!(before <= GREEDY_BEFORE_MAX, "{before} of the greedy flow's jobs ended before");
    all_done(&mut client, &greedy, n_greedy).await?;
    elf.abort();
    broker.stop().await?;
    Ok(())
}

fn times(n: usize, make: impl Fn() -> v1::JobSpec) -> Vec<v1::JobSpec> {
    (0..n).map(|_| make()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn expensive_conditions_hold_up_neither_plain_jobs_nor_conditions_of_others() -> anyhow::Result<()> {
    let modest = [times(10, plain), times(10, || conditional(false)), times(10, || conditional(true))];
    let greedy = times(GREEDY, || conditional(true));
    check_order(greedy, modest.concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn expensive_arguments_step_aside_on_the_stream_that_they_share() -> anyhow::Result<()> {
    let modest = [times(10, plain), times(10, || computed(false)), times(10, || computed(true))];
    let greedy = times(GREEDY, || computed(true));
    check_order(greedy, modest.concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn expensive_arguments_do_not_hold_up_expensive_conditions_of_others() -> anyhow::Result<()> {
    check_order(times(GREEDY, || computed(true)), times(10, || conditional(true))).await
}

/// The median time of a submission of one job.
async fn median(client: &mut Client) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..41 {
        let begun = Instant::now();
        submit(client, vec![plain()]).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_submissions_leaves_room_for_those_of_others() -> anyhow::Result<()> {
    check_flood(500).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_the_largest_submissions_leaves_room_for_those_of_others() -> anyhow::Result<()> {
    check_flood(limits::SUBMIT_JOBS_MAX).await
}

/// Two clients flood the broker with submissions of so many jobs, and a third submits one job at a time.
async fn check_flood(jobs: usize) -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut innocent = wire::client(&broker.url()).await?;
    let alone = median(&mut innocent).await?;

    let flooding = [wire::client(&broker.url()).await?, wire::client(&broker.url()).await?];
    let floods: Vec<_> = (0..32)
        .map(|flood| {
            let mut client = flooding[flood % 2].clone();
            tokio::spawn(async move {
                loop {
                    if let Err(error) = submit(&mut client, times(jobs, plain)).await {
                        return error;
                    }
                }
            })
        })
        .collect();
    must("the flood", async {
        while n_unfinished(&mut innocent).await? < 4 * jobs as u64 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await??;
    let beside = median(&mut innocent).await?;
    for flood in floods {
        if flood.is_finished() {
            bail!("the flood dried up: {:?}", flood.await);
        }
        flood.abort();
    }
    // Where the disk is very fast, other things of the machine weigh as much.
    let most = (alone * 10).max(Duration::from_millis(50));
    ensure!(beside <= most, "a submission took {beside:?} beside the flood, and {alone:?} alone");
    broker.stop().await
}

async fn n_unfinished(client: &mut Client) -> anyhow::Result<u64> {
    let status = client.get_status(v1::GetStatusRequest::default()).await?.into_inner();
    Ok(status.unfinished.map(|counts| counts.ready + counts.pending).unwrap_or_default())
}
