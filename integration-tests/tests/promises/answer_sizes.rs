//! Every answer is small enough for a gRPC client that was told nothing of limits, whatever is in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{
    Elf, ElfDeclaration, Mycelium, TaskCall, TaskContext, TaskDeclaration, TaskError, TaskOutputs,
    revision_of,
};
use futures::future::BoxFuture;
use integration_tests::must;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::limits::{
    ANSWER_BYTES_MAX, ELF_BYTES_MAX, FAILURE_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX, PAGE_BYTES_MAX, PAGE_SIZE_MAX, SPEC_BYTES_MAX,
};
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, connect_request};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

/// A client as it is made without a word on sizes: it takes answers of 4 MiB. The elves of these tests never beat, so
/// the lease is as long as it can be.
async fn start() -> anyhow::Result<(RunningBroker, MyceliumServiceClient<Channel>)> {
    let config = Config { lease: Duration::from_secs(3600), ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let channel = Channel::from_shared(broker.url())?.connect().await?;
    Ok((broker, MyceliumServiceClient::new(channel)))
}

/// Makes sure that a page is no larger than it may be.
fn check_page(page: &impl Message, entries: usize) -> anyhow::Result<()> {
    let bytes = page.encoded_len();
    ensure!(entries > 0, "a page is empty");
    ensure!(bytes <= PAGE_BYTES_MAX + 1024 || entries == 1, "a page of {entries} has {bytes} bytes");
    ensure!(bytes < ANSWER_BYTES_MAX, "a page has {bytes} bytes");
    Ok(())
}

fn long_name(prefix: &str, number: usize) -> String {
    let number = format!("{prefix}{number:06}");
    format!("{number}{}", "n".repeat(NAME_BYTES_MAX - number.len()))
}

#[tokio::test]
async fn a_thousand_elves_with_a_mebibyte_of_documentation_are_listed_page_by_page() -> anyhow::Result<()> {
    const ELVES: usize = 1_000;
    let (broker, mut client) = start().await?;
    let docs = "d".repeat(1024 * 1024);
    let mut open = Vec::new();
    // A message has room for a few of them.
    for chunk in (0..ELVES).collect::<Vec<_>>().chunks(10) {
        let elves = chunk.iter().map(|number| v1::ElfDeclaration {
            docs: docs.clone(),
            ..wire::declaration(&long_name("elf", *number), &[], &["n"])
        });
        let hello = v1::Hello {
            elves: elves.collect(),
            windows: Vec::new(),
            host: "h".repeat(NAME_BYTES_MAX),
            ..wire::hello(wire::declaration("none", &[], &[]), 0)
        };
        open.push(WireElf::connect(&broker.url(), hello).await?);
    }
    let mut names = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request =
            v1::ListElvesRequest { page_size: PAGE_SIZE_MAX, page_token, ..v1::ListElvesRequest::default() };
        let page = client.list_elves(request).await?.into_inner();
        check_page(&page, page.elves.len())?;
        for elf in page.elves {
            let instances = (elf.instances.len(), elf.instances_total, elf.truncated);
            ensure!(instances == (1, 1, false), "of the instances: {instances:?}");
            let declaration = elf.declaration.context("no declaration")?;
            ensure!(
                declaration.docs == docs && declaration.source.is_empty(),
                "docs are whole, sources left out"
            );
            ensure!(names.insert(declaration.name), "an elf is listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(names.len() == ELVES, "{} elves are listed", names.len());
    drop(open);
    Ok(broker.stop().await?)
}

/// An elf with more text than its declaration may have.
struct Verbose;

const LONG: usize = 1_000_000;

impl Elf for Verbose {
    fn declaration(&self) -> ElfDeclaration {
        ElfDeclaration::new("s".repeat(LONG))
            .docs("Weighs much.")
            .task(TaskDeclaration::new("task_a", "a".repeat(LONG)).docs("First."))
            .task(TaskDeclaration::new("task_b", "b".repeat(LONG)))
    }

    fn call(
        self: Arc<Self>,
        call: TaskCall,
        _context: TaskContext,
    ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
        Box::pin(async move { Err(call.unknown_task()) })
    }
}

#[tokio::test]
async fn an_elf_with_longer_sources_than_are_taken_is_served_without_them() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = mycelium.serve().elf("verbose", Verbose).on_ready(|_| ready.send(()).unwrap_or_default());
    let worker = tokio::spawn(worker.run_until(async {
        let _ = stopped.await;
    }));
    must("the elf to be taken in", is_ready).await??;
    let request = v1::GetElfRequest { name: "verbose".to_owned(), ..v1::GetElfRequest::default() };
    let elf = client.get_elf(request).await?.into_inner().elf.context("no elf")?;
    let shown = elf.declaration.context("no declaration")?;
    ensure!(shown.source.is_empty() && shown.tasks.iter().all(|task| task.source.is_empty()));
    ensure!(shown.docs == "Weighs much." && shown.tasks[0].docs == "First.");
    ensure!(
        shown.revision == revision_of(&"s".repeat(LONG)).as_slice(),
        "its revision is that of its source"
    );
    ensure!(shown.tasks[1].revision == revision_of(&"b".repeat(LONG)).as_slice());
    let _ = stop.send(());
    worker.await??;
    Ok(broker.stop().await?)
}

/// An elf that is as large as it may be, with this source; and each revision of it is.
fn large_elf(name: &str, source: String) -> v1::ElfDeclaration {
    let declaration = wire::declaration(name, &[], &["n"]);
    let revision = Bytes::copy_from_slice(&revision_of(&source));
    let task = v1::TaskDeclaration {
        signature: "s".repeat(500_000),
        docs: "d".repeat(500_000),
        ..declaration.tasks[0].clone()
    };
    v1::ElfDeclaration { revision, docs: String::new(), source, tasks: vec![task], ..declaration }
}

#[tokio::test]
async fn an_elf_is_taken_up_to_its_limit_and_read_whole_and_refused_beyond() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mut elf = large_elf("large", "x".repeat(1_000_000));
    elf.docs = "d".repeat(ELF_BYTES_MAX - elf.encoded_len() - 4);
    ensure!(elf.encoded_len() == ELF_BYTES_MAX, "{}", elf.encoded_len());
    let open = WireElf::connect(&broker.url(), wire::hello(elf.clone(), 1)).await?;
    let request = v1::GetElfRequest { name: "large".to_owned(), ..v1::GetElfRequest::default() };
    let shown = client.get_elf(request).await?.into_inner();
    ensure!(shown.encoded_len() < ANSWER_BYTES_MAX);
    let shown = shown.elf.context("no elf")?;
    ensure!(shown.declaration.as_ref() == Some(&elf) && !shown.truncated, "it is not shown whole");

    elf.docs.push('d');
    let hello = v1::ConnectRequest {
        sequence: 1,
        kind: Some(connect_request::Kind::Hello(wire::hello(elf, 1))),
        ..v1::ConnectRequest::default()
    };
    let answer = wire::open_with(&broker.url(), hello).await?;
    let status =
        wire::expect_refusal(answer, Code::InvalidArgument, reason::INVALID_FIELD, &["hello.elves[0]"])?;
    ensure!(
        status.message()
            == "hello.elves[0]: elf `large` takes 2097153 bytes with all its tasks, documentation, sources and \
                schemas, and at most 2097152 are allowed",
        "{}",
        status.message()
    );

    // Many revisions with long signatures.
    for number in 0..12 {
        let elf = large_elf("changing", format!("version {number}"));
        let mut task = elf.tasks[0].clone();
        task.source = format!("version {number}");
        task.revision = Bytes::copy_from_slice(&revision_of(&task.source));
        let elf = v1::ElfDeclaration { tasks: vec![task], ..elf };
        drop(WireElf::connect(&broker.url(), wire::hello(elf, 1)).await?);
    }
    let mut n_listed = 0;
    let mut page_token = String::new();
    loop {
        let request = v1::ListRevisionsRequest {
            elf: "changing".to_owned(),
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..v1::ListRevisionsRequest::default()
        };
        let page = client.list_revisions(request).await?.into_inner();
        check_page(&page, page.revisions.len())?;
        for revision in &page.revisions {
            let request = v1::GetRevisionRequest {
                elf: "changing".to_owned(),
                task: revision.task.clone(),
                revision: revision.revision.clone(),
                ..v1::GetRevisionRequest::default()
            };
            let whole = client.get_revision(request).await?.into_inner();
            ensure!(whole.encoded_len() < ANSWER_BYTES_MAX);
        }
        n_listed += page.revisions.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(n_listed == 24, "{n_listed} revisions are listed: 12 of the elf, and 12 of its task");
    drop(open);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn jobs_flows_and_results_with_the_longest_names_come_page_by_page() -> anyhow::Result<()> {
    const JOBS: usize = 1_000;
    const OUTPUT_BYTES: usize = 60 * 1024;
    let (broker, mut client) = start().await?;
    let elf_name = long_name("elf", 0);
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let job = v1::JobSpec {
            task: format!("task_{}", "t".repeat(NAME_BYTES_MAX - 5)),
            ..wire::job(&elf_name, &[], Vec::new())
        };
        ids.push(job.job_id.clone());
        let flow =
            v1::SubmitJobsRequest { flow_name: long_name("flow", number), ..wire::submission(vec![job]) };
        client.submit_jobs(flow).await?;
    }
    let request = v1::ListJobsRequest { page_size: PAGE_SIZE_MAX, ..v1::ListJobsRequest::default() };
    let page = client.list_jobs(request).await?.into_inner();
    check_page(&page, page.jobs.len())?;
    ensure!(page.jobs.len() == JOBS, "{} jobs", page.jobs.len());
    let request = v1::ListFlowsRequest { page_size: PAGE_SIZE_MAX, ..v1::ListFlowsRequest::default() };
    let page = client.list_flows(request).await?.into_inner();
    check_page(&page, page.flows.len())?;
    ensure!(page.flows.len() == JOBS, "{} flows", page.flows.len());

    // Results: as many as fit, and on with the rest.
    let request = wire::submission((0..200).map(|_| wire::job("talker", &[], Vec::new())).collect());
    let ids: Vec<Bytes> = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(request).await?;
    let declaration = wire::declaration("talker", &[], &["text"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 8)).await?;
    let text = format!("\"{}\"", "x".repeat(OUTPUT_BYTES));
    let mut n_settled = 0;
    while n_settled < ids.len() {
        match elf.next().await? {
            v1::connect_response::Kind::Assign(assign) => {
                for token in assign.assignments.iter().filter_map(|one| one.token.as_ref()) {
                    elf.report(vec![wire::returned(token, &[("text", &text)])]).await?;
                }
            }
            v1::connect_response::Kind::OutcomeAcks(acks) => n_settled += acks.acks.len(),
            _ => {}
        }
    }
    let mut rest = ids.as_slice();
    while !rest.is_empty() {
        let request = v1::GetOutputsRequest { job_ids: rest.to_vec(), ..v1::GetOutputsRequest::default() };
        let answer = client.get_outputs(request).await?.into_inner();
        ensure!(answer.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", answer.encoded_len());
        ensure!(!answer.jobs.is_empty() && answer.jobs.iter().all(|job| job.outputs.len() == 1));
        rest = &rest[answer.jobs.len()..];
    }
    drop(elf);
    Ok(broker.stop().await?)
}

/// A job whose specification is nearly as large as a message, with literals of so many bytes in all.
fn huge_job(literal_bytes: usize, edges: usize) -> v1::JobSpec {
    const LITERAL_BYTES: usize = 60_000;
    let literal = format!("\"{}\"", "x".repeat(LITERAL_BYTES - 2));
    let mut nodes: Vec<_> =
        (0..literal_bytes / LITERAL_BYTES).map(|_| wire::literal(literal.clone())).collect();
    nodes.push(wire::literal("\"small\""));
    let items = (0..u32::try_from(nodes.len()).unwrap_or_default()).collect();
    let list = v1::ListNode { items };
    nodes.push(v1::ValueNode { kind: Some(v1::value_node::Kind::List(list)) });
    let last = u32::try_from(nodes.len() - 1).unwrap_or_default();
    // Small nodes without end.
    nodes.extend((0..edges).map(|_| wire::literal("1")));
    let arguments = vec![v1::Argument { parameter: "all".to_owned(), node: last }];
    v1::JobSpec { arguments, ..wire::job("huge", &[], nodes) }
}

#[tokio::test]
async fn the_largest_specifications_are_cut_to_the_size_of_an_answer_and_whole_for_who_takes_more()
-> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mut large =
        client.clone().max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(usize::MAX);
    let literals = huge_job(SPEC_BYTES_MAX - 1_000, 0);
    let nodes = huge_job(SPEC_BYTES_MAX - 1_000 - 900_000, 900_000);
    ensure!(literals.encoded_len() > 8_000_000 && nodes.encoded_len() > 13_000_000);
    for (spec, keeps_nodes) in [(&literals, true), (&nodes, false)] {
        large.submit_jobs(wire::submission(vec![spec.clone()])).await?;
        let request = v1::GetJobRequest {
            job_id: spec.job_id.clone(),
            include_spec: true,
            include_values: true,
            ..v1::GetJobRequest::default()
        };
        let answer = client.get_job(request.clone()).await?.into_inner();
        ensure!(answer.encoded_len() <= ANSWER_BYTES_MAX, "{} bytes", answer.encoded_len());
        ensure!(answer.spec_bytes == spec.encoded_len() as u64, "{} bytes in all", answer.spec_bytes);
        let shown = answer.spec.context("no specification")?;
        ensure!((&shown.task, &shown.arguments) == (&spec.task, &spec.arguments), "names are shown");
        if keeps_nodes {
            ensure!(shown.nodes.len() == spec.nodes.len(), "nodes keep their places");
            let has_content = |node: &v1::ValueNode| match &node.kind {
                Some(v1::value_node::Kind::Literal(literal)) => literal.content.is_some(),
                _ => true,
            };
            ensure!(shown.nodes.iter().filter(|node| has_content(node)).count() == 2, "small ones are shown");
        } else {
            ensure!(shown.nodes.is_empty(), "some nodes mean nothing without the others");
        }

        let answer_bytes_max = u32::try_from(MESSAGE_BYTES_MAX)?;
        let request = v1::GetJobRequest { answer_bytes_max, ..request };
        let answer = large.get_job(request).await?.into_inner();
        ensure!(answer.spec_bytes == 0 && answer.spec.as_ref() == Some(spec), "it is not whole");
    }
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn jobs_with_as_many_labels_as_there_may_be_come_in_pages_that_have_them_all() -> anyhow::Result<()> {
    const JOBS: usize = 1_200;
    let (broker, mut client) = start().await?;
    let labels: BTreeMap<String, String> =
        (0..LABELS_MAX).map(|n| (format!("{n:064}"), "x".repeat(LABEL_VALUE_BYTES_MAX))).collect();
    let labelled = |job: v1::JobSpec| v1::JobSpec { labels: labels.clone(), ..job };
    let root = labelled(wire::job("from", &[], Vec::new()));
    let mut jobs = vec![root.clone()];
    for _ in 1..JOBS {
        jobs.push(labelled(wire::job("to", &["value"], vec![wire::output_of(&root.job_id, "value")])));
    }
    let request = wire::submission(jobs);
    let flow = request.flow_id.clone();
    client.submit_jobs(request).await?;

    let (mut listed, mut in_graph, mut descended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut page_token = String::new();
    loop {
        let request = v1::ListJobsRequest {
            flow_id: flow.clone(),
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..v1::ListJobsRequest::default()
        };
        let page = client.list_jobs(request).await?.into_inner();
        check_page(&page, page.jobs.len())?;
        listed.extend(page.jobs.into_iter().map(|job| job.job_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    loop {
        let request = v1::GetGraphRequest {
            root: Some(v1::get_graph_request::Root::FlowId(flow.clone())),
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..v1::GetGraphRequest::default()
        };
        let page = client.get_graph(request).await?.into_inner();
        ensure!(page.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", page.encoded_len());
        ensure!(!page.truncated, "something is left out");
        in_graph.extend(page.jobs.into_iter().map(|job| job.job_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    loop {
        let request = v1::GetLineageRequest {
            job_id: root.job_id.clone(),
            down: true,
            page_size: PAGE_SIZE_MAX,
            page_token,
            include_values: true,
            ..v1::GetLineageRequest::default()
        };
        let page = client.get_lineage(request).await?.into_inner();
        ensure!(page.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", page.encoded_len());
        descended.extend(page.jobs.into_iter().filter_map(|shown| Some(shown.job?.job_id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for found in [listed, in_graph, descended] {
        ensure!(found.len() == JOBS, "{} jobs", found.len());
    }

    let around = v1::GetGraphRequest {
        root: Some(v1::get_graph_request::Root::JobId(root.job_id)),
        page_size: PAGE_SIZE_MAX,
        ..v1::GetGraphRequest::default()
    };
    let around = client.get_graph(around).await?.into_inner();
    ensure!(around.encoded_len() < ANSWER_BYTES_MAX && around.truncated, "{} bytes", around.encoded_len());
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_graph_with_many_edges_comes_in_pages_that_have_them_all() -> anyhow::Result<()> {
    const ORIGINS: usize = 64;
    const JOBS: usize = 200;
    let (broker, mut client) = start().await?;
    let output = long_name("output", 0);
    let parameters: Vec<String> = (0..ORIGINS).map(|number| long_name("parameter", number)).collect();
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let origins: Vec<v1::JobSpec> = (0..ORIGINS).map(|_| wire::job("from", &[], Vec::new())).collect();
    let mut jobs = origins.clone();
    jobs.extend((0..JOBS).map(|_| {
        let nodes = origins.iter().map(|origin| wire::output_of(&origin.job_id, &output)).collect();
        wire::job("to", &parameters, nodes)
    }));
    let request = wire::submission(jobs);
    let (flow, last) = (request.flow_id.clone(), request.jobs[ORIGINS].job_id.clone());
    client.submit_jobs(request).await?;
    let mut edges = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = v1::GetGraphRequest {
            root: Some(v1::get_graph_request::Root::FlowId(flow.clone())),
            page_size: PAGE_SIZE_MAX,
            page_token,
            include_values: true,
            ..v1::GetGraphRequest::default()
        };
        let page = client.get_graph(request).await?.into_inner();
        ensure!(page.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", page.encoded_len());
        ensure!(!page.truncated, "edges are left out");
        edges.extend(page.edges.into_iter().map(|edge| (edge.from_job_id, edge.to_job_id, edge.parameter)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(edges.len() == ORIGINS * JOBS, "{} edges", edges.len());

    let request = v1::GetJobRequest { job_id: last, include_values: true, ..v1::GetJobRequest::default() };
    let answer = client.get_job(request).await?.into_inner();
    ensure!(answer.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", answer.encoded_len());

    let mut edges = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = v1::GetLineageRequest {
            job_id: origins[0].job_id.clone(),
            down: true,
            page_size: PAGE_SIZE_MAX,
            page_token,
            include_values: true,
            ..v1::GetLineageRequest::default()
        };
        let page = client.get_lineage(request).await?.into_inner();
        ensure!(page.encoded_len() < ANSWER_BYTES_MAX, "{} bytes", page.encoded_len());
        ensure!(!page.truncated, "something is left out");
        edges.extend(page.edges.into_iter().map(|edge| (edge.from_job_id, edge.to_job_id, edge.parameter)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(edges.len() == JOBS, "{} edges", edges.len());
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_thousand_failures_and_occurrences_of_the_largest_kind_come_page_by_page() -> anyhow::Result<()> {
    const FAILURES: usize = 1_000;
    let (broker, mut client) = start().await?;
    let request = wire::submission((0..2 * FAILURES).map(|_| wire::job("bad", &[], Vec::new())).collect());
    client.submit_jobs(request).await?;
    let declaration = wire::declaration("bad", &[], &["n"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 16)).await?;
    let (mut n_reported, mut n_settled) = (0, 0);
    while n_settled < 2 * FAILURES {
        match elf.next().await? {
            v1::connect_response::Kind::Assign(assign) => {
                for token in assign.assignments.into_iter().filter_map(|one| one.token) {
                    // Half of them are occurrences of one.
                    let r#type =
                        if n_reported < FAILURES { format!("E{n_reported}") } else { "Same".to_owned() };
                    let failure = v1::Failure {
                        r#type,
                        message: "m".repeat(16 * 1024),
                        details: "d".repeat(200 * 1024),
                        ..v1::Failure::default()
                    };
                    let result = Some(v1::outcome::Result::Failure(failure));
                    elf.report(vec![v1::Outcome { ran: None, token: Some(token), result }]).await?;
                    n_reported += 1;
                }
            }
            v1::connect_response::Kind::OutcomeAcks(acks) => n_settled += acks.acks.len(),
            _ => {}
        }
    }
    let mut ids = BTreeSet::new();
    let mut same = None;
    let mut page_token = String::new();
    loop {
        let request = v1::ListFailuresRequest {
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..v1::ListFailuresRequest::default()
        };
        let page = client.list_failures(request).await?.into_inner();
        check_page(&page, page.failures.len())?;
        for group in page.failures {
            let failure = group.failure.context("no failure")?;
            ensure!(failure.encoded_len() <= FAILURE_BYTES_MAX, "{} bytes", failure.encoded_len());
            ensure!(failure.details.ends_with("… (cut, of 204800 bytes)"), "it does not say that it was cut");
            ensure!(failure.message.len() == 16 * 1024, "the message is whole");
            if failure.r#type == "Same" {
                ensure!(group.occurrences == FAILURES as u64, "{} occurrences", group.occurrences);
                same = Some(group.failure_id.clone());
            }
            ensure!(ids.insert(group.failure_id), "a failure is listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(ids.len() == FAILURES + 1, "{} failures are listed", ids.len());

    let failure_id = same.context("the failure with many occurrences is not listed")?;
    let mut n_listed = 0;
    let mut page_token = String::new();
    loop {
        let request = v1::GetFailureRequest {
            failure_id: failure_id.clone(),
            page_size: PAGE_SIZE_MAX,
            page_token,
            ..v1::GetFailureRequest::default()
        };
        let page = client.get_failure(request).await?.into_inner();
        let bytes = page.encoded_len();
        ensure!(bytes <= PAGE_BYTES_MAX + FAILURE_BYTES_MAX + 1024, "a page has {bytes} bytes");
        ensure!(!page.occurrences.is_empty(), "a page is empty");
        n_listed += page.occurrences.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(n_listed == FAILURES, "{n_listed} occurrences are listed");
    drop(elf);
    Ok(broker.stop().await?)
}
