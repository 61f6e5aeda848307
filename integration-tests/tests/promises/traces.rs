//! The trace in which jobs are submitted is kept with them, and goes to who runs them and to what that submits.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{TaskContext, TaskError, machine_elf};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, Worker, must};
use mycelium_proto::{reason, v1};
use mycelium_testing::TestBroker;
use tonic::{Code, Request};

use super::moving::{command, utf8};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

fn trace(parent: &str) -> v1::TraceContext {
    v1::TraceContext { trace_parent: parent.to_owned(), trace_state: "vendor=1".to_owned() }
}

fn job() -> v1::JobSpec {
    wire::job("traced", &[], Vec::new())
}

fn traced(jobs: Vec<v1::JobSpec>, parent: &str) -> v1::SubmitJobsRequest {
    v1::SubmitJobsRequest { trace: Some(trace(parent)), ..wire::submission(jobs) }
}

/// One job for each of two elements.
fn list() -> v1::JobSpec {
    let element = v1::ValueNode { kind: Some(v1::value_node::Kind::BodyInput(0)) };
    let nodes = vec![wire::literal("[1,2]"), element];
    let argument = v1::Argument { parameter: "n".to_owned(), node: 1 };
    let for_each = Some(v1::ForEach { list: 0 });
    v1::JobSpec { arguments: vec![argument], for_each, ..wire::job("traced", &[], nodes) }
}

fn hello(elf: &str) -> v1::Hello {
    let mut declaration = wire::declaration(elf, &["n"], &["n"]);
    declaration.tasks[0].parameters[0].optional = true;
    wire::hello(declaration, 16)
}

/// The jobs that the elf is given, until it has so many, each with its trace.
async fn assigned(
    elf: &mut WireElf,
    n: usize,
) -> anyhow::Result<Vec<(Bytes, Option<v1::TraceContext>, bool)>> {
    let mut all = Vec::new();
    while all.len() < n {
        for assignment in elf.assigned().await? {
            let job = assignment.token.context("a token")?.job_id;
            all.push((job, assignment.trace, assignment.is_trace_linked));
        }
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(all)
}

#[tokio::test]
async fn a_job_keeps_the_trace_of_its_submission_through_a_restart_and_an_export() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let (first, other, by_call, ignored) = (job(), job(), job(), job());
    let request = traced(vec![first.clone(), list()], PARENT);
    ensure!(client.submit_jobs(request.clone()).await?.into_inner().jobs_created == 2);
    // It is no part of what a job is.
    let again = client.submit_jobs(v1::SubmitJobsRequest { trace: Some(trace(OTHER)), ..request.clone() });
    ensure!(again.await?.into_inner().jobs_existing == 2);
    let again = client.submit_jobs(v1::SubmitJobsRequest { trace: None, ..request });
    ensure!(again.await?.into_inner().jobs_existing == 2);
    client.submit_jobs(wire::submission(vec![other.clone()])).await?;
    for (spec, parent) in [(&by_call, OTHER), (&ignored, "00-nonsense-00")] {
        let mut request = Request::new(wire::submission(vec![spec.clone()]));
        request.metadata_mut().insert("traceparent", parent.parse()?);
        request.metadata_mut().insert("tracestate", "vendor=1".parse()?);
        client.submit_jobs(request).await?;
    }
    broker.kill().await?;
    broker.restart().await?;

    let mut elf = WireElf::connect(&broker.url(), hello("traced")).await?;
    let own: Vec<_> = [&first, &other, &by_call, &ignored].map(|spec| spec.job_id.clone()).into();
    let given = must("the jobs", assigned(&mut elf, 6)).await??;
    let of = |job: &Bytes| given.iter().find(|(given, ..)| given == job).map(|(_, trace, _)| trace.clone());
    ensure!(of(&own[0]) == Some(Some(trace(PARENT))), "{given:?}");
    ensure!(of(&own[1]) == Some(None), "{given:?}");
    ensure!(of(&own[2]) == Some(Some(trace(OTHER))), "{given:?}");
    ensure!(of(&own[3]) == Some(None), "what is malformed among metadata is ignored: {given:?}");
    let elements: Vec<_> = given.iter().filter(|(job, ..)| !own.contains(job)).collect();
    let all = elements.iter().all(|(_, given, _)| *given == Some(trace(PARENT)));
    ensure!(elements.len() == 2 && all, "the jobs of elements: {elements:?}");
    ensure!(given.iter().all(|(.., is_linked)| !is_linked), "{given:?}");

    // It is shown, and moves with the job.
    let id = uuid::Uuid::from_slice(&first.job_id)?.to_string();
    let shown = command(&["--url", &broker.url(), "job", &id]).await?.good();
    ensure!(shown.contains("  trace      0af7651916cd43dd8448eb211c80319c\n"), "{shown}");
    let data = broker.data_folder();
    broker.kill().await?;
    let temp = tempfile::tempdir()?;
    let (exported, new) = (temp.path().join("export"), temp.path().join("new"));
    command(&["export", utf8(&data)?, utf8(&exported)?]).await?.good();
    command(&["import", utf8(&exported)?, utf8(&new)?]).await?.good();
    let moved = mycelium_server::Broker::open(&new)?.bind("127.0.0.1:0").await?;
    let json = command(&["--url", &moved.url(), "job", &id, "--output", "json"]).await?.good();
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let expected = serde_json::json!({ "trace_parent": PARENT, "trace_state": "vendor=1" });
    ensure!(json["trace"] == expected, "{json}");
    Ok(moved.stop().await?)
}

#[tokio::test]
async fn a_context_that_is_malformed_is_refused_and_nothing_is_stored() -> anyhow::Result<()> {
    let broker = TestBroker::in_memory().await?;
    let mut client = wire::client(&broker.url()).await?;
    let invalid = (Code::InvalidArgument, reason::INVALID_FIELD);
    let mut refuse = async |request: v1::SubmitJobsRequest, field: &str| {
        let job = request.jobs[0].job_id.clone();
        wire::expect_refusal(client.submit_jobs(request).await, invalid.0, invalid.1, &[field])?;
        ensure!(wire::get_job(&client, &job).await.is_err(), "nothing is stored");
        anyhow::Ok(())
    };
    for parent in ["", "00", "nonsense", &PARENT.to_uppercase(), &PARENT[..54], &PARENT.repeat(1_000)] {
        refuse(traced(vec![job()], parent), "trace.trace_parent").await?;
    }
    for trace_state in ["x".repeat(513), "a=\u{7}".to_owned(), "x".repeat(1 << 20)] {
        let trace = Some(v1::TraceContext { trace_parent: PARENT.to_owned(), trace_state });
        let request = v1::SubmitJobsRequest { trace, ..wire::submission(vec![job()]) };
        refuse(request, "trace.trace_state").await?;
    }
    let own = v1::JobSpec { trace: Some(trace(PARENT)), ..job() };
    refuse(wire::submission(vec![own]), "jobs[0].trace").await?;
    broker.stop().await
}

struct Parent;

#[machine_elf]
impl Parent {
    /// Submits a job, and does not wait for it.
    async fn task_submit(&self, context: &TaskContext) -> Result<u64, TaskError> {
        let flow = context.client()?.flow("child");
        let _job = flow.call("traced", "task_run", elf_runtime::args! {});
        flow.submit().await?;
        Ok(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_submits_goes_on_with_the_trace_and_after_a_minute_it_is_linked() -> anyhow::Result<()> {
    let broker = TestBroker::in_memory().await?;
    let mut client = wire::client(&broker.url()).await?;
    let early = traced(
        vec![v1::JobSpec { task: "task_submit".to_owned(), ..wire::job("parent", &[], vec![]) }],
        PARENT,
    );
    client.submit_jobs(early).await?;
    let late = job();
    client.submit_jobs(traced(vec![late.clone()], OTHER)).await?;
    broker.advance(Duration::from_secs(61)).await?;
    let worker = Worker::start(broker.client().await?.serve().elf("parent", Parent)).await?;
    let mut elf = WireElf::connect(&broker.url(), hello("traced")).await?;
    let given = must("the jobs", assigned(&mut elf, 2)).await??;
    for (job, context, is_linked) in given {
        let expected = if job == late.job_id { (OTHER, true) } else { (PARENT, false) };
        let parent = context.context("a trace")?.trace_parent;
        ensure!((parent.as_str(), is_linked) == expected, "{parent} {is_linked}");
    }
    worker.stop().await?;
    broker.stop().await
}
