//! Conditions and lists decide how jobs go on as soon as their values exist, whatever is killed meanwhile.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf, expect_refusal, get_job, literal, output_of};
use integration_tests::{BrokerProcess, must, until};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobEdgeKind, JobStatus, connect_response, outcome, payload, value_node};
use mycelium_proto::{limits, reason};
use mycelium_server::{Broker, RunningBroker};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

async fn start() -> anyhow::Result<(RunningBroker, Client)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    Ok((broker, client))
}

/// Serves the elf `e` until it is aborted, on one stream after the other. Its task returns what it is given, but fails on
/// its first attempt if that is `"bad"`.
fn serve(url: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let hello = wire::hello(wire::declaration("e", &["x"], &["value"]), 64);
            let Ok(mut elf) = WireElf::connect(&url, hello).await else {
                tokio::task::yield_now().await;
                continue;
            };
            while let Ok(said) = elf.next().await {
                let connect_response::Kind::Assign(assign) = said else { continue };
                let outcomes = assign.assignments.iter().map(outcome_of).collect();
                if elf.report(outcomes).await.is_err() {
                    break;
                }
            }
        }
    })
}

fn outcome_of(assignment: &v1::Assignment) -> v1::Outcome {
    let token = assignment.token.clone().unwrap_or_default();
    let given = assignment.arguments.first().and_then(|argument| argument.payload.as_ref());
    let text = given.map(text).unwrap_or_default();
    if text == "\"bad\"" && token.attempt == 1 {
        let failure = v1::Failure { r#type: "Bad".to_owned(), ..v1::Failure::default() };
        return v1::Outcome {
            ran: None,
            token: Some(token),
            result: Some(outcome::Result::Failure(failure)),
        };
    }
    wire::returned(&token, &[("value", &text)])
}

fn text(payload: &v1::Payload) -> String {
    match &payload.content {
        Some(payload::Content::Inline(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(payload::Content::Blob(_)) | None => String::new(),
    }
}

fn job(nodes: Vec<v1::ValueNode>, argument: u32) -> v1::JobSpec {
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node: argument }];
    v1::JobSpec { arguments, ..wire::job("e", &[], nodes) }
}

/// A job that is run over a list that a literal tells.
fn over(list: &str) -> v1::JobSpec {
    let element = v1::ValueNode { kind: Some(value_node::Kind::BodyInput(0)) };
    v1::JobSpec { for_each: Some(v1::ForEach { list: 0 }), ..job(vec![literal(list), element], 1) }
}

async fn submit(client: &Client, jobs: &[&v1::JobSpec]) -> anyhow::Result<Bytes> {
    let submission = wire::submission(jobs.iter().copied().cloned().collect());
    let flow = submission.flow_id.clone();
    client.clone().submit_jobs(submission).await?;
    Ok(flow)
}

async fn becomes(client: &Client, spec: &v1::JobSpec, status: JobStatus) -> anyhow::Result<v1::Job> {
    until(&format!("the job to be {status:?}"), || async {
        let job = get_job(client, &spec.job_id).await?;
        Ok((job.status() == status).then_some(job))
    })
    .await
}

async fn value_of(client: &Client, job: &Bytes) -> anyhow::Result<String> {
    let request = v1::GetOutputsRequest { mycelium: String::new(), job_ids: vec![job.clone()] };
    let answer = client.clone().get_outputs(request).await?.into_inner();
    let outputs = answer.jobs.into_iter().next().context("no answer")?.outputs;
    let [output] = outputs.as_slice() else { anyhow::bail!("the outputs are {outputs:?}") };
    ensure!(output.name == "value", "the output is named {}", output.name);
    Ok(output.payload.as_ref().map(text).unwrap_or_default())
}

async fn jobs_of(client: &Client, flow: &Bytes, status: JobStatus) -> anyhow::Result<Vec<v1::Job>> {
    let mut request = v1::ListJobsRequest {
        flow_id: flow.clone(),
        statuses: vec![status.into()],
        page_size: limits::PAGE_SIZE_MAX,
        ..v1::ListJobsRequest::default()
    };
    let mut jobs = Vec::new();
    loop {
        let page = client.clone().list_jobs(request.clone()).await?.into_inner();
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return Ok(jobs);
        }
        request.page_token = page.next_page_token;
    }
}

fn retry(job: &Bytes) -> v1::RetryJobsRequest {
    let scope = v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![job.clone()] });
    v1::RetryJobsRequest { scope: Some(scope), ..v1::RetryJobsRequest::default() }
}

async fn counts(client: &Client, flow: &Bytes) -> anyhow::Result<v1::JobCounts> {
    let flow = Some(v1::get_flow_request::Flow::FlowId(flow.clone()));
    let answer = client.clone().get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await?;
    answer.into_inner().flow.and_then(|flow| flow.counts).context("no counts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_judged_without_an_elf_and_branches_join() -> anyhow::Result<()> {
    let (broker, client) = start().await?;
    let skipped = v1::JobSpec { run_if: Some(0), ..job(vec![literal("false"), literal("1")], 1) };
    let taken = v1::JobSpec { run_if: Some(0), ..job(vec![literal("true"), literal("2")], 1) };
    let needs = job(vec![output_of(&skipped.job_id, "value")], 0);
    let after = v1::JobSpec { after: vec![skipped.job_id.clone()], ..job(vec![literal("3")], 0) };
    let select = v1::Operation { name: "select".to_owned(), inputs: vec![0, 1, 2], body: None };
    let select = v1::ValueNode { kind: Some(value_node::Kind::Operation(select)) };
    let branches = vec![
        literal("false"),
        output_of(&skipped.job_id, "value"),
        output_of(&taken.job_id, "value"),
        select,
    ];
    let joined = v1::JobSpec { operations_version: 1, ..job(branches, 3) };
    let odd = v1::JobSpec { run_if: Some(0), ..job(vec![output_of(&after.job_id, "value")], 0) };
    let flow = submit(&client, &[&skipped, &taken, &needs, &after, &joined, &odd]).await?;

    becomes(&client, &skipped, JobStatus::Skipped).await?;
    becomes(&client, &needs, JobStatus::Skipped).await?;
    becomes(&client, &after, JobStatus::Ready).await?;
    becomes(&client, &taken, JobStatus::Ready).await?;
    ensure!(jobs_of(&client, &flow, JobStatus::Skipped).await?.len() == 2, "two are listed");
    let refused = client.clone().retry_jobs(retry(&skipped.job_id)).await;
    expect_refusal(refused, Code::FailedPrecondition, reason::JOB_NOT_RETRYABLE, &["jobs.job_ids[0]"])?;

    let elf = serve(broker.url());
    becomes(&client, &joined, JobStatus::Done).await?;
    ensure!(value_of(&client, &joined.job_id).await? == "2", "the branch that ran is taken");
    let failed = becomes(&client, &odd, JobStatus::Failed).await?;
    let request = v1::GetFailureRequest { failure_id: failed.failure_id, ..v1::GetFailureRequest::default() };
    let failure = client.clone().get_failure(request).await?.into_inner();
    let told = failure.occurrences.first().map(|occurrence| occurrence.message.as_str());
    ensure!(told == Some("node 0: the condition is int, and must be bool (wrong_type)"), "told {told:?}");
    let counted = counts(&client, &flow).await?;
    let expected = v1::JobCounts { done: 3, failed: 1, skipped: 2, ..v1::JobCounts::default() };
    ensure!(counted == expected, "counted {counted:?}");
    elf.abort();
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_over_lists_of_any_length_and_gathers_in_order() -> anyhow::Result<()> {
    let (broker, client) = start().await?;
    let elf = serve(broker.url());
    for length in [0, 1, 1_000] {
        let numbers: Vec<String> = (0..length).map(|number: u32| (number * 7 % 5).to_string()).collect();
        let list = format!("[{}]", numbers.join(","));
        let source = job(vec![literal(list.clone())], 0);
        let element = v1::ValueNode { kind: Some(value_node::Kind::BodyInput(0)) };
        let nodes = vec![output_of(&source.job_id, "value"), element];
        let each = v1::JobSpec { for_each: Some(v1::ForEach { list: 0 }), ..job(nodes, 1) };
        let uses = job(vec![output_of(&each.job_id, "")], 0);
        let flow = submit(&client, &[&source, &each, &uses]).await?;
        becomes(&client, &uses, JobStatus::Done).await?;
        ensure!(value_of(&client, &uses.job_id).await? == list, "the list is gathered");
        let ended = becomes(&client, &each, JobStatus::Done).await?;
        ensure!(ended.elements == Some(length), "it tells {:?} elements", ended.elements);
        let done = counts(&client, &flow).await?.done;
        ensure!(done == u64::from(length) + 3, "{done} jobs are DONE");
    }
    elf.abort();
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_that_fails_ends_the_job_and_its_retry_completes_it() -> anyhow::Result<()> {
    let (broker, client) = start().await?;
    let elf = serve(broker.url());
    let each = over("[1,\"bad\",3]");
    let uses = job(vec![output_of(&each.job_id, "value")], 0);
    let flow = submit(&client, &[&each, &uses]).await?;
    let ended = becomes(&client, &each, JobStatus::UpstreamFailed).await?;
    becomes(&client, &uses, JobStatus::UpstreamFailed).await?;
    let failed = jobs_of(&client, &flow, JobStatus::Failed).await?;
    ensure!(failed.len() == 1 && failed[0].job_id == ended.cause_job_id, "failed: {failed:?}");

    let answer = client.clone().retry_jobs(retry(&ended.cause_job_id)).await?.into_inner();
    ensure!((answer.jobs_retried, answer.dependents_revived) == (1, 2), "retried: {answer:?}");
    becomes(&client, &uses, JobStatus::Done).await?;
    ensure!(value_of(&client, &uses.job_id).await? == "[1,\"bad\",3]", "the list is gathered");
    let counted = counts(&client, &flow).await?;
    ensure!(counted == v1::JobCounts { done: 5, ..v1::JobCounts::default() }, "counted {counted:?}");
    elf.abort();
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_explained_shown_and_cancelled_with_its_elements() -> anyhow::Result<()> {
    let (broker, client) = start().await?;
    let each = over("[1,2,3]");
    let flow = submit(&client, &[&each]).await?;
    let waits = until("the list to be expanded", || async {
        let request = v1::ExplainJobRequest { mycelium: String::new(), job_id: each.job_id.clone() };
        let explained = client.clone().explain_job(request).await?.into_inner();
        match explained.reason.and_then(|reason| reason.kind) {
            Some(v1::wait_reason::Kind::WaitsForElements(waits)) => Ok(Some(waits)),
            _ => Ok(None),
        }
    })
    .await?;
    ensure!((waits.elements, waits.unfinished, waits.jobs.len()) == (3, 3, 3), "it waits for {waits:?}");
    let job = get_job(&client, &each.job_id).await?;
    ensure!((job.status(), job.elements) == (JobStatus::Pending, Some(3)), "it is {job:?}");

    let root = Some(v1::get_graph_request::Root::JobId(each.job_id.clone()));
    let request = v1::GetGraphRequest { root, depth: 1, ..v1::GetGraphRequest::default() };
    let graph = client.clone().get_graph(request).await?.into_inner();
    let gathered: BTreeSet<Bytes> = graph
        .edges
        .iter()
        .filter(|edge| edge.kind() == JobEdgeKind::Gather && edge.to_job_id == each.job_id)
        .map(|edge| edge.from_job_id.clone())
        .collect();
    let elements: BTreeSet<Bytes> = waits.jobs.iter().map(|job| job.job_id.clone()).collect();
    ensure!(graph.jobs.len() == 4 && gathered == elements, "the graph is {graph:?}");

    let scope = v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![each.job_id.clone()] });
    let request = v1::CancelJobsRequest { mycelium: String::new(), scope: Some(scope) };
    let answer = client.clone().cancel_jobs(request).await?.into_inner();
    ensure!((answer.jobs_cancelled, answer.jobs_final) == (4, 0), "cancelled: {answer:?}");
    let counted = counts(&client, &flow).await?;
    ensure!(counted == v1::JobCounts { cancelled: 4, ..v1::JobCounts::default() }, "counted {counted:?}");
    Ok(broker.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_flow_with_a_list_comes_back_whole_with_one_retry() -> anyhow::Result<()> {
    // More than the broker brings back with one command. The list's job is cancelled behind all that need it, and they
    // cannot come back before it.
    const USERS: u64 = 1_200;
    let (broker, client) = start().await?;
    let each = over("[1,2,3]");
    let users: Vec<v1::JobSpec> =
        (0..USERS).map(|_| job(vec![output_of(&each.job_id, "value")], 0)).collect();
    let jobs: Vec<&v1::JobSpec> = std::iter::once(&each).chain(&users).collect();
    let flow = submit(&client, &jobs).await?;
    let all = USERS + 4;
    until("the elements to be there", || async {
        let counted = counts(&client, &flow).await?;
        Ok((counted.ready == 3).then_some(()))
    })
    .await?;
    let scope = Some(v1::cancel_jobs_request::Scope::FlowId(flow.clone()));
    let request = v1::CancelJobsRequest { mycelium: String::new(), scope };
    let answer = client.clone().cancel_jobs(request).await?.into_inner();
    ensure!(answer.jobs_cancelled == all, "cancelled: {answer:?}");

    let retry_flow = || {
        let scope = Some(v1::retry_jobs_request::Scope::FlowId(flow.clone()));
        v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() }
    };
    let answer = client.clone().retry_jobs(retry_flow()).await?.into_inner();
    ensure!((answer.jobs_retried, answer.dependents_revived) == (all, 0), "retried: {answer:?}");
    let again = client.clone().retry_jobs(retry_flow()).await?.into_inner();
    ensure!(again == v1::RetryJobsResponse::default(), "retried again: {again:?}");
    let elf = serve(broker.url());
    until("all to be DONE", || async {
        let counted = counts(&client, &flow).await?;
        Ok((counted == v1::JobCounts { done: all, ..v1::JobCounts::default() }).then_some(()))
    })
    .await?;
    ensure!(value_of(&client, &users[0].job_id).await? == "[1,2,3]", "the list is gathered");
    elf.abort();
    Ok(broker.stop().await?)
}

/// Killed when the first jobs for elements are there, and again when the last of them have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_while_a_list_is_expanded_and_gathered_comes_to_the_same() -> anyhow::Result<()> {
    const LENGTH: u64 = 5_000;
    let mut broker = BrokerProcess::start(&[]).await?;
    let client = wire::client(&broker.url()).await?;
    let numbers: Vec<String> = (0..LENGTH).map(|number| number.to_string()).collect();
    let list = format!("[{}]", numbers.join(","));
    let each = over(&list);
    let flow = submit(&client, &[&each]).await?;
    until("the first elements to be there", || async {
        let counted = counts(&client, &flow).await?;
        Ok((counted.ready > 0).then_some(()))
    })
    .await?;
    broker.kill().await?;
    broker.restart().await?;

    let elf = serve(broker.url());
    let client = wire::client(&broker.url()).await?;
    until("nearly all elements to be DONE", || async {
        let counted = counts(&client, &flow).await?;
        Ok((counted.done + 50 >= LENGTH).then_some(()))
    })
    .await?;
    broker.kill().await?;
    broker.restart().await?;
    let client = wire::client(&broker.url()).await?;
    must("the end of the job", becomes(&client, &each, JobStatus::Done)).await??;
    ensure!(value_of(&client, &each.job_id).await? == list, "the list is gathered");
    let counted = counts(&client, &flow).await?;
    let expected = v1::JobCounts { done: LENGTH + 1, ..v1::JobCounts::default() };
    ensure!(counted == expected, "each element was run as one job: {counted:?}");
    elf.abort();
    broker.stop().await
}
