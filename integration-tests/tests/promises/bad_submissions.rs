//! A submission that cannot be right is refused with a code, a reason and the field, and nothing of it is stored.

use std::collections::BTreeMap;

use anyhow::ensure;
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{Bystander, Tester, Worker};
use mycelium_proto::limits::{
    LABELS_MAX, MESSAGE_BYTES_MAX, PARAMETERS_MAX, PAYLOAD_BYTES_MAX, SPEC_BYTES_MAX, SUBMIT_JOBS_MAX,
    VALUE_DEPTH_MAX,
};
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, value_node};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::Code;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

/// A broker, a client that speaks by hand, and somebody who must not notice.
async fn start() -> anyhow::Result<(RunningBroker, Client, Bystander)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    let bystander = Bystander::start(&broker.url()).await?;
    Ok((broker, client, bystander))
}

/// Submits, expects this refusal, and makes sure that nothing is stored.
async fn refused(
    client: &mut Client,
    request: v1::SubmitJobsRequest,
    code: Code,
    reason: &str,
    fields: &[&str],
) -> anyhow::Result<String> {
    let (flow, jobs) = (request.flow_id.clone(), request.jobs.clone());
    let status = wire::expect_refusal(client.submit_jobs(request).await, code, reason, fields)?;
    if flow.len() == 16 {
        let flow = Some(v1::get_flow_request::Flow::FlowId(flow));
        let answer = client.get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await;
        wire::expect_refusal(answer, Code::NotFound, reason::FLOW_NOT_FOUND, &[])?;
    }
    for job in jobs.into_iter().filter(|job| job.job_id.len() == 16) {
        let request = v1::GetJobRequest { job_id: job.job_id, ..v1::GetJobRequest::default() };
        wire::expect_refusal(client.get_job(request).await, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;
    }
    Ok(status.message().to_owned())
}

fn labelled(key: &str, value: &str) -> v1::JobSpec {
    v1::JobSpec { labels: [(key.to_owned(), value.to_owned())].into(), ..job() }
}

fn too_many_labels() -> BTreeMap<String, String> {
    (0..=LABELS_MAX).map(|number| (number.to_string(), String::new())).collect()
}

fn job() -> v1::JobSpec {
    wire::job("nobody", &["x"], vec![wire::literal("1")])
}

fn list(items: Vec<u32>) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::List(v1::ListNode { items })) }
}

fn map(keys: &[&str]) -> v1::ValueNode {
    let entries = keys.iter().map(|key| v1::MapEntry { key: (*key).to_owned(), node: 0 }).collect();
    v1::ValueNode { kind: Some(value_node::Kind::Map(v1::MapNode { entries })) }
}

fn short_id() -> Bytes {
    Bytes::from_static(&[7; 15])
}

#[tokio::test]
async fn each_malformed_field_of_a_job_is_named() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let big = |bytes: usize| wire::literal(format!("\"{}\"", "x".repeat(bytes - 2)));
    let nodes = |nodes: Vec<v1::ValueNode>| v1::JobSpec { nodes, ..job() };
    let nested = || {
        let deeper = (0..=VALUE_DEPTH_MAX).filter_map(|inner| u32::try_from(inner).ok());
        std::iter::once(wire::literal("1")).chain(deeper.map(|inner| list(vec![inner]))).collect()
    };
    let too_deep = format!("nodes[{}]", VALUE_DEPTH_MAX + 1);
    let argument = |parameter: &str, node| v1::Argument { parameter: parameter.to_owned(), node };
    let many = |n: usize| (0..n).map(|i| argument(&format!("x{i}"), 0)).collect::<Vec<_>>();
    let cases: Vec<(v1::JobSpec, &str, &str)> = vec![
        (v1::JobSpec { job_id: short_id(), ..job() }, reason::INVALID_FIELD, "job_id"),
        (v1::JobSpec { job_id: Bytes::new(), ..job() }, reason::INVALID_FIELD, "job_id"),
        (v1::JobSpec { elf: String::new(), ..job() }, reason::INVALID_FIELD, "elf"),
        (v1::JobSpec { elf: "e".repeat(256), ..job() }, reason::INVALID_FIELD, "elf"),
        (v1::JobSpec { elf: "e\n".to_owned(), ..job() }, reason::INVALID_FIELD, "elf"),
        (v1::JobSpec { task: "run".to_owned(), ..job() }, reason::INVALID_FIELD, "task"),
        (v1::JobSpec { task: String::new(), ..job() }, reason::INVALID_FIELD, "task"),
        (v1::JobSpec { after: vec![short_id()], ..job() }, reason::INVALID_FIELD, "after[0]"),
        (labelled("", "v"), reason::INVALID_FIELD, "labels"),
        (labelled(&"k".repeat(65), "v"), reason::INVALID_FIELD, "labels"),
        (labelled("k", &"v".repeat(256)), reason::INVALID_FIELD, "labels"),
        (labelled("k\n", "v"), reason::INVALID_FIELD, "labels"),
        (labelled("k", "v\n"), reason::INVALID_FIELD, "labels"),
        (v1::JobSpec { labels: too_many_labels(), ..job() }, reason::INVALID_FIELD, "labels"),
        (v1::JobSpec { arguments: many(PARAMETERS_MAX + 1), ..job() }, reason::INVALID_FIELD, "arguments"),
        (
            v1::JobSpec { arguments: vec![argument("x", 0), argument("x", 0)], ..job() },
            reason::INVALID_FIELD,
            "arguments[1].parameter",
        ),
        (
            v1::JobSpec { arguments: vec![argument("", 0)], ..job() },
            reason::INVALID_FIELD,
            "arguments[0].parameter",
        ),
        (
            v1::JobSpec { arguments: vec![argument("x", 1)], ..job() },
            reason::INVALID_VALUE_GRAPH,
            "arguments[0].node",
        ),
        (nodes(vec![wire::literal("{")]), reason::INVALID_FIELD, "nodes[0].literal"),
        (nodes(vec![v1::ValueNode { kind: None }]), reason::INVALID_VALUE_GRAPH, "nodes[0]"),
        (nodes(vec![list(vec![0])]), reason::INVALID_VALUE_GRAPH, "nodes[0]"),
        (nodes(vec![wire::literal("1"), map(&["a", "a"])]), reason::INVALID_VALUE_GRAPH, "nodes[1]"),
        (nodes(vec![wire::output_of(&short_id(), "")]), reason::INVALID_VALUE_GRAPH, "nodes[0]"),
        (nodes(nested()), reason::INVALID_VALUE_GRAPH, &too_deep),
        (nodes(vec![big(PAYLOAD_BYTES_MAX + 1)]), reason::PAYLOAD_TOO_LARGE, "nodes[0].literal"),
        (
            nodes((0..=SPEC_BYTES_MAX / PAYLOAD_BYTES_MAX).map(|_| big(PAYLOAD_BYTES_MAX)).collect()),
            reason::PAYLOAD_TOO_LARGE,
            "nodes",
        ),
    ];
    for (spec, reason, field) in cases {
        // The others of its submission go with it.
        let field = format!("jobs[1].{field}");
        let request = wire::submission(vec![job(), spec]);
        refused(&mut client, request, Code::InvalidArgument, reason, &[&field]).await?;
    }
    // At the limit itself a payload is taken.
    let taken = wire::submission(vec![nodes(vec![big(PAYLOAD_BYTES_MAX)])]);
    ensure!(client.submit_jobs(taken).await?.into_inner().jobs_created == 1);
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn each_malformed_field_of_a_submission_is_named() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let good = || wire::submission(vec![job()]);
    let twice = job();
    let cases: Vec<(v1::SubmitJobsRequest, &str)> = vec![
        (v1::SubmitJobsRequest { flow_id: short_id(), ..good() }, "flow_id"),
        (v1::SubmitJobsRequest { flow_name: "f".repeat(256), ..good() }, "flow_name"),
        (v1::SubmitJobsRequest { flow_name: "f\0".to_owned(), ..good() }, "flow_name"),
        (v1::SubmitJobsRequest { flow_labels: too_many_labels(), ..good() }, "flow_labels"),
        (v1::SubmitJobsRequest { submission_id: short_id(), ..good() }, "submission_id"),
        (v1::SubmitJobsRequest { seal: false, ..good() }, "submission_id"),
        (v1::SubmitJobsRequest { part: 1, ..good() }, "submission_id"),
        (v1::SubmitJobsRequest { jobs: vec![twice.clone(), twice], ..good() }, "jobs[1].job_id"),
    ];
    for (request, field) in cases {
        refused(&mut client, request, Code::InvalidArgument, reason::INVALID_FIELD, &[field]).await?;
    }
    let many = wire::submission((0..=SUBMIT_JOBS_MAX).map(|_| job()).collect());
    let answer = client.submit_jobs(many).await;
    wire::expect_refusal(answer, Code::InvalidArgument, reason::INVALID_FIELD, &["jobs"])?;
    let elsewhere = v1::SubmitJobsRequest { mycelium: "Else Where".to_owned(), ..good() };
    refused(&mut client, elsewhere, Code::InvalidArgument, reason::INVALID_FIELD, &["mycelium"]).await?;
    // A message over the limit is not even read.
    let oversized = v1::JobSpec { task: "t".repeat(MESSAGE_BYTES_MAX), ..job() };
    let oversized = client.submit_jobs(wire::submission(vec![oversized])).await;
    wire::expect_refusal(oversized, Code::InvalidArgument, reason::MESSAGE_TOO_LARGE, &[])?;
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn jobs_that_depend_on_nothing_known_or_on_each_other_are_refused() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let after = |jobs: &[&Bytes]| v1::JobSpec { after: jobs.iter().map(|&id| id.clone()).collect(), ..job() };

    let stranger = wire::id();
    let unknown = wire::submission(vec![job(), after(&[&stranger])]);
    let message = refused(&mut client, unknown, Code::NotFound, reason::JOB_NOT_FOUND, &[]).await?;
    let stranger_text = uuid::Uuid::from_slice(&stranger)?.to_string();
    ensure!(message.contains(&stranger_text), "`{message}` names the job that is not known");
    let unknown = wire::submission(vec![wire::job("nobody", &["x"], vec![wire::output_of(&stranger, "n")])]);
    refused(&mut client, unknown, Code::NotFound, reason::JOB_NOT_FOUND, &[]).await?;

    let own_id = wire::id();
    let own = v1::JobSpec { job_id: own_id.clone(), ..after(&[&own_id]) };
    let own = wire::submission(vec![own]);
    refused(&mut client, own, Code::InvalidArgument, reason::DEPENDENCY_CYCLE, &["jobs[0].after"]).await?;
    // A circle of three, one edge of which is a value.
    let ids = [wire::id(), wire::id(), wire::id()];
    let circle = vec![
        v1::JobSpec { job_id: ids[0].clone(), ..after(&[&ids[2]]) },
        v1::JobSpec { job_id: ids[1].clone(), ..after(&[&ids[0]]) },
        v1::JobSpec {
            job_id: ids[2].clone(),
            ..wire::job("nobody", &["x"], vec![wire::output_of(&ids[1], "n")])
        },
    ];
    refused(&mut client, wire::submission(circle), Code::InvalidArgument, reason::DEPENDENCY_CYCLE, &[])
        .await?;

    // The same id again: harmless with the same content, refused with other, and what is there stays.
    let first = wire::submission(vec![job()]);
    ensure!(client.submit_jobs(first.clone()).await?.into_inner().jobs_created == 1);
    let again = client.submit_jobs(first.clone()).await?.into_inner();
    ensure!((again.jobs_created, again.jobs_existing) == (0, 1), "{again:?}");
    let changed = v1::JobSpec { priority: 3, ..first.jobs[0].clone() };
    let newcomer = job();
    let other = v1::SubmitJobsRequest { jobs: vec![newcomer.clone(), changed], ..first.clone() };
    let answer = client.submit_jobs(other).await;
    wire::expect_refusal(answer, Code::AlreadyExists, reason::JOB_CONTENT_DIFFERS, &[])?;
    ensure!(wire::get_job(&client, &first.jobs[0].job_id).await?.priority == 0, "the first stays");
    ensure!(wire::get_job(&client, &newcomer.job_id).await.is_err(), "nothing of the other is stored");
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn arguments_are_held_against_the_signature_of_a_known_elf() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mycelium = elf_runtime::Mycelium::connect(broker.url()).await?;
    let worker = Worker::start(mycelium.serve().elf("adder", Tester::default())).await?;
    let add = |parameters: &[&str], literals: &[&str]| {
        let nodes = literals.iter().map(|text| wire::literal(*text)).collect();
        v1::JobSpec { task: "task_add".to_owned(), ..wire::job("adder", parameters, nodes) }
    };
    let misfits: Vec<(v1::JobSpec, &[&str])> = vec![
        (add(&["numbers", "pause_ms"], &["[\"one\"]", "0"]), &["jobs[0].arguments[0]"]),
        (add(&["numbers", "pause_ms"], &["[1]", "-1"]), &["jobs[0].arguments[1]"]),
        (add(&["numbers"], &["[1]"]), &["jobs[0].arguments"]),
        (add(&["numbers", "pause_ms", "color"], &["[1]", "0", "1"]), &["jobs[0].arguments[2].parameter"]),
        // All of it at once.
        (
            add(&["numbers", "color"], &["true", "1"]),
            &["jobs[0].arguments[0]", "jobs[0].arguments[1].parameter", "jobs[0].arguments"],
        ),
    ];
    for (spec, fields) in misfits.clone() {
        let request = wire::submission(vec![spec, job()]);
        refused(&mut client, request, Code::InvalidArgument, reason::SIGNATURE_MISMATCH, fields).await?;
    }
    let unknown = v1::JobSpec { task: "task_subtract".to_owned(), ..add(&[], &[]) };
    let request = wire::submission(vec![unknown]);
    let message =
        refused(&mut client, request, Code::FailedPrecondition, reason::TASK_NOT_FOUND, &[]).await?;
    ensure!(message.contains("task_subtract") && message.contains("task_add"), "`{message}` names tasks");

    // While nobody is there, somebody may come who takes them: each is taken, with a warning that says what is wrong, and one
    // that says the same of many says it once.
    worker.stop().await?;
    for (spec, _) in misfits {
        let jobs = (0..20).map(|_| v1::JobSpec { job_id: wire::id(), ..spec.clone() }).collect();
        let answer = client.submit_jobs(wire::submission(jobs)).await?.into_inner();
        ensure!(answer.jobs_created == 20 && answer.warnings.len() == 1, "{answer:?}");
        ensure!(answer.warnings[0].contains("elf `adder`: arguments"), "{answer:?}");
    }
    let many = (0..40).map(|n| v1::JobSpec { job_id: wire::id(), ..add(&[&*format!("p{n}")], &["1"]) });
    let answer = client.submit_jobs(wire::submission(many.collect())).await?.into_inner();
    ensure!(answer.jobs_created == 40 && answer.warnings.len() == 16, "{answer:?}");

    // What fits is taken, and so is a job for an elf that nobody has seen, of which `explain` says so.
    let fits = wire::submission(vec![add(&["numbers", "pause_ms"], &["[1]", "0"]), job()]);
    let stranger = fits.jobs[1].job_id.clone();
    ensure!(client.submit_jobs(fits).await?.into_inner().jobs_created == 2);
    let explain = v1::ExplainJobRequest { mycelium: String::new(), job_id: stranger };
    let reason = client.explain_job(explain).await?.into_inner().reason.and_then(|reason| reason.kind);
    let expected = v1::NoInstance { elf_known: false, instances: 0 };
    ensure!(reason == Some(v1::wait_reason::Kind::NoInstance(expected)), "{reason:?}");
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn parts_come_in_order_and_show_only_when_they_are_sealed() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("nobody", &["x"], &["n"]), 8)).await?;
    let begin = || v1::SubmitJobsRequest { submission_id: wire::id(), ..wire::submission(vec![job()]) };
    let part = |first: &v1::SubmitJobsRequest, part: u32, seal: bool| v1::SubmitJobsRequest {
        part,
        seal,
        jobs: vec![v1::JobSpec { after: vec![first.jobs[0].job_id.clone()], ..job() }],
        ..first.clone()
    };

    // Until it is sealed it neither shows nor runs.
    let first = v1::SubmitJobsRequest { seal: false, ..begin() };
    let (flow, first_job) = (first.flow_id.clone(), first.jobs[0].job_id.clone());
    ensure!(client.submit_jobs(first.clone()).await?.into_inner().jobs_created == 1);
    let again = client.submit_jobs(first.clone()).await?.into_inner();
    ensure!((again.jobs_created, again.jobs_existing) == (0, 1), "a repeated part is harmless: {again:?}");
    let listed = v1::ListJobsRequest { flow_id: flow.clone(), ..v1::ListJobsRequest::default() };
    ensure!(client.list_jobs(listed.clone()).await?.into_inner().jobs.is_empty(), "it shows");
    let explain = v1::ExplainJobRequest { mycelium: String::new(), job_id: first_job.clone() };
    let answer = client.explain_job(explain).await?.into_inner();
    ensure!(answer.job.map(|job| job.status()) == Some(JobStatus::Pending), "who asks for it by id sees it");
    let not_sealed = v1::NotSealed { submission_id: first.submission_id.clone() };
    let reason = answer.reason.and_then(|reason| reason.kind);
    ensure!(reason == Some(v1::wait_reason::Kind::NotSealed(not_sealed)), "{reason:?}");
    let (before, _) = elf.beat(Vec::new()).await?;
    ensure!(before.is_empty(), "it runs: {before:?}");

    let second = part(&first, 1, true);
    ensure!(client.submit_jobs(second.clone()).await?.into_inner().jobs_created == 1);
    ensure!(client.list_jobs(listed).await?.into_inner().jobs.len() == 2, "it is sealed, and shows");
    let mut held = vec![elf.token().await?];
    ensure!(held[0].job_id == first_job, "it is sealed, and runs");
    for repeated in [first, second] {
        let again = client.submit_jobs(repeated).await?.into_inner();
        ensure!((again.jobs_created, again.jobs_existing) == (0, 1), "repeating is harmless: {again:?}");
    }

    // A part out of order is refused, and so is one after the seal.
    let out_of_order =
        |answer| wire::expect_refusal(answer, Code::FailedPrecondition, reason::SUBMISSION_OUT_OF_ORDER, &[]);
    let early = v1::SubmitJobsRequest { part: 1, ..begin() };
    refused(&mut client, early, Code::FailedPrecondition, reason::SUBMISSION_OUT_OF_ORDER, &[]).await?;
    let sealed = begin();
    client.submit_jobs(sealed.clone()).await?;
    out_of_order(client.submit_jobs(part(&sealed, 1, true)).await)?;
    held.push(elf.token().await?);
    ensure!(held[1].job_id == sealed.jobs[0].job_id, "what was sealed stays");

    // A refused part drops the whole submission.
    let doomed = v1::SubmitJobsRequest { seal: false, ..begin() };
    client.submit_jobs(doomed.clone()).await?;
    let mut bad = part(&doomed, 1, true);
    bad.jobs[0].after.push(wire::id());
    wire::expect_refusal(client.submit_jobs(bad).await, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;
    out_of_order(client.submit_jobs(part(&doomed, 1, true)).await)?;
    let by_id = v1::GetJobRequest { job_id: doomed.jobs[0].job_id.clone(), ..v1::GetJobRequest::default() };
    wire::expect_refusal(client.get_job(by_id).await, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;
    // What it does not name would be assigned anew.
    let (before, _) = elf.beat(held).await?;
    ensure!(
        before.iter().all(|kind| !matches!(kind, v1::connect_response::Kind::Assign(_))),
        "it runs: {before:?}"
    );
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_full_backlog_refuses_until_there_is_room_and_runs_what_it_has() -> anyhow::Result<()> {
    let config = Config { unfinished_max: 20, ..Config::default() };
    let store = std::sync::Arc::new(MemoryStore::new());
    let broker = Broker::with_store(config, store)?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let bystander = Bystander::start(&broker.url()).await?;

    // The bystander's jobs and these fit; one submission more does not.
    let waiting = wire::submission((0..12).map(|_| job()).collect());
    client.submit_jobs(waiting.clone()).await?;
    let more = wire::submission((0..9).map(|_| job()).collect());
    refused(&mut client, more.clone(), Code::ResourceExhausted, reason::BACKLOG_FULL, &[]).await?;
    bystander.finish().await?;

    let flow = Some(v1::cancel_jobs_request::Scope::FlowId(waiting.flow_id));
    client.cancel_jobs(v1::CancelJobsRequest { mycelium: String::new(), scope: flow }).await?;
    ensure!(client.submit_jobs(more.clone()).await?.into_inner().jobs_created == 9, "there is room again");
    ensure!(wire::get_job(&client, &more.jobs[0].job_id).await?.status() == JobStatus::Ready);
    Ok(broker.stop().await?)
}
