//! Value graphs that are made to hurt: each is refused with its reason, or its job fails with one, in under a second
//! and without the broker growing; other flows go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, Bystander, must};
use mycelium_proto::limits::{BODY_DEPTH_MAX, PAYLOAD_BYTES_MAX, VALUE_DEPTH_MAX};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, value_node};
use tonic::Code;
use tonic::transport::Channel;

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(10);
/// By how much the broker may grow at its highest, in KiB: one evaluation on each core, and some room.
const GROWTH_KIB_MAX: u64 = 400 * 1024;

fn node(kind: value_node::Kind) -> v1::ValueNode {
    v1::ValueNode { kind: Some(kind) }
}

fn literal(json: &str) -> v1::ValueNode {
    wire::literal(json)
}

fn operation(name: &str, inputs: &[u32]) -> v1::ValueNode {
    with_body(name, inputs, None)
}

fn with_body(name: &str, inputs: &[u32], body: Option<v1::OperationBody>) -> v1::ValueNode {
    let inputs = inputs.to_vec();
    node(value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body }))
}

fn list(items: &[u32]) -> v1::ValueNode {
    node(value_node::Kind::List(v1::ListNode { items: items.to_vec() }))
}

fn map(entries: &[(&str, u32)]) -> v1::ValueNode {
    let entries = entries.iter().map(|(key, node)| v1::MapEntry { key: (*key).to_owned(), node: *node });
    node(value_node::Kind::Map(v1::MapNode { entries: entries.collect() }))
}

fn input(index: u32) -> v1::ValueNode {
    node(value_node::Kind::BodyInput(index))
}

fn body(nodes: Vec<v1::ValueNode>) -> Option<v1::OperationBody> {
    let result = u32::try_from(nodes.len()).unwrap_or(0).saturating_sub(1);
    Some(v1::OperationBody { nodes, result })
}

/// A first node, and operations that each take the node before twice.
fn chain(first: v1::ValueNode, name: &str, times: u32) -> Vec<v1::ValueNode> {
    std::iter::once(first).chain((0..times).map(|n| operation(name, &[n, n]))).collect()
}

fn numbers(inputs: &[&str], last: v1::ValueNode) -> Vec<v1::ValueNode> {
    inputs.iter().map(|json| literal(json)).chain([last]).collect()
}

/// What is refused at submission.
fn refused() -> Vec<(&'static str, Vec<v1::ValueNode>)> {
    let raw = |bytes: &'static [u8]| {
        node(value_node::Kind::Literal(v1::Payload {
            encoding: String::new(),
            content: Some(v1::payload::Content::Inline(Bytes::from_static(bytes))),
        }))
    };
    let mut deep_body = body(vec![input(0)]);
    for _ in 0..BODY_DEPTH_MAX + 1 {
        deep_body = body(vec![input(0), with_body("list.map", &[0], deep_body)]);
    }
    let deep_lists =
        std::iter::once(literal("1")).chain((0..VALUE_DEPTH_MAX as u32 + 1).map(|n| list(&[n]))).collect();
    vec![
        ("an unknown operation", vec![operation("system", &[])]),
        ("an operation without a name", vec![operation("", &[])]),
        ("an operation with a very long name", vec![operation(&"x".repeat(100_000), &[])]),
        ("too few operands", vec![literal("1"), operation("add", &[0])]),
        ("too many operands", vec![literal("1"), operation("negate", &[0, 0])]),
        ("an operation on itself", vec![operation("negate", &[0])]),
        ("a circle", vec![operation("negate", &[1]), operation("negate", &[0])]),
        ("a node that is not there", vec![operation("negate", &[4_000_000_000])]),
        ("a list of itself", vec![list(&[0])]),
        ("a map of what comes later", vec![map(&[("a", 1)]), literal("1")]),
        ("a key twice", vec![literal("1"), map(&[("a", 0), ("a", 0)])]),
        ("a node that says nothing", vec![v1::ValueNode { kind: None }]),
        ("lists in lists in lists", deep_lists),
        ("text that is not UTF-8", vec![raw(b"\"\xff\xfe\"")]),
        (
            "text that is not UTF-8 in a body",
            vec![literal("[1]"), with_body("list.map", &[0], body(vec![raw(b"\"\xc3\x28\"")]))],
        ),
        ("text that is no JSON", vec![literal("{\"a\":")]),
        ("a literal that is a million brackets", vec![literal(&"[".repeat(1_000_000))]),
        ("a literal that is too large", vec![literal(&format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX)))]),
        ("a number and a text", vec![literal("1"), literal("\"a\""), operation("add", &[0, 1])]),
        ("a body where none belongs", vec![literal("1"), with_body("negate", &[0], body(vec![input(0)]))]),
        ("no body where one belongs", vec![literal("[1]"), operation("list.map", &[0])]),
        ("an empty body", vec![literal("[1]"), with_body("list.map", &[0], body(vec![]))]),
        (
            "a body whose result is not there",
            vec![
                literal("[1]"),
                with_body("list.map", &[0], Some(v1::OperationBody { nodes: vec![input(0)], result: 7 })),
            ],
        ),
        (
            "a body that reaches outside by an index",
            vec![literal("[1]"), with_body("list.map", &[0], body(vec![operation("negate", &[5])]))],
        ),
        (
            "a body that reaches for an input it has not",
            vec![literal("[1]"), with_body("list.map", &[0], body(vec![input(3)]))],
        ),
        (
            "a body that reaches for a job",
            vec![
                literal("[1]"),
                with_body("list.map", &[0], body(vec![wire::output_of(&wire::id(), "value")])),
            ],
        ),
        ("bodies in bodies in bodies", vec![literal("[1]"), with_body("list.map", &[0], deep_body)]),
        ("an input outside of a body", vec![input(0)]),
    ]
}

/// What passes the check, and fails when it is computed.
fn failing() -> Vec<(&'static str, Vec<v1::ValueNode>)> {
    let range = |to: &'static str| vec![literal("0"), literal(to), operation("list.range", &[0, 1])];
    let plus = |mut nodes: Vec<v1::ValueNode>, more: Vec<v1::ValueNode>| {
        nodes.extend(more);
        nodes
    };
    let nested = body(vec![input(1), with_body("list.map", &[0], body(vec![input(0)]))]);
    let squared = body(vec![input(1), with_body("list.map", &[0, 0], nested.clone())]);
    let growing = body(vec![input(0), operation("list.extend", &[0, 0])]);
    let nesting = body(vec![input(0), list(&[0])]);
    let doubling_text = body(vec![input(0), operation("string.concat", &[0, 0])]);
    let long_text = serde_json::to_string(&"[".repeat(60_000)).unwrap_or_default();
    let deep_text =
        serde_json::to_string(&format!("{}{}", "[".repeat(30_000), "]".repeat(30_000))).unwrap_or_default();
    vec![
        ("a doubling list", chain(literal("[1]"), "list.extend", 60)),
        ("a doubling text", chain(literal("\"ab\""), "string.concat", 60)),
        ("a doubling number", chain(literal("3"), "multiply", 60)),
        ("doubling lists of lists", {
            let first = std::iter::once(literal("[1]"));
            let lists = first.chain((0..60).map(|n| list(&[n, n])));
            plus(lists.collect(), vec![operation("length", &[60])])
        }),
        ("a billion numbers", range("1000000000")),
        (
            "all numbers there are",
            numbers(&["-9223372036854775808", "18446744073709551615"], operation("list.range", &[0, 1])),
        ),
        ("a billion lists", numbers(&["[0]", "1000000000"], operation("list.repeat", &[0, 1]))),
        ("a billion letters", numbers(&["\"a\"", "1000000000"], operation("string.repeat", &[0, 1]))),
        ("a billion blanks", numbers(&["\"a\"", "1000000000"], operation("string.pad_end", &[0, 1]))),
        (
            "every place of a text replaced",
            plus(
                numbers(&["\"a\"", "300000"], operation("string.repeat", &[0, 1])),
                vec![literal("\"a\""), operation("string.replace", &[2, 3, 2])],
            ),
        ),
        ("maps in maps over a long list", plus(range("20000"), vec![with_body("list.map", &[2, 2], nested)])),
        ("maps in maps in maps", plus(range("2000"), vec![with_body("list.map", &[2, 2], squared)])),
        (
            "a list that doubles with each element",
            plus(range("1000"), vec![literal("[1]"), with_body("list.reduce", &[2, 3], growing)]),
        ),
        (
            "a text that doubles with each element",
            plus(range("1000"), vec![literal("\"a\""), with_body("list.reduce", &[2, 3], doubling_text)]),
        ),
        (
            "a list that nests with each element",
            plus(range("100000"), vec![literal("[]"), with_body("list.reduce", &[2, 3], nesting)]),
        ),
        (
            "a sort of everything, again and again",
            plus(
                range("200000"),
                vec![with_body("list.map", &[2, 2], body(vec![input(1), operation("list.sort", &[0])]))],
            ),
        ),
        ("a power out of range", numbers(&["10", "1000000000"], operation("power", &[0, 1]))),
        ("a division by zero", numbers(&["1", "0"], operation("divide", &[0, 1]))),
        ("an index out of range", numbers(&["[1]", "99999999999"], operation("get", &[0, 1]))),
        ("text that only looks like JSON", vec![literal(&long_text), operation("json.decode", &[0])]),
        (
            "comparison of very deep values",
            vec![
                literal(&deep_text),
                operation("json.decode", &[0]),
                operation("json.decode", &[0]),
                operation("equal", &[1, 2]),
            ],
        ),
        ("a template without end", numbers(&["\"{\""], operation("string.format", &[0]))),
        (
            "a template that asks for too much",
            numbers(&["\"{999999999}\"", "1"], operation("string.format", &[0, 1])),
        ),
    ]
}

/// A job that takes the last node.
fn job(nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
    let has_operations = nodes.iter().any(|node| matches!(node.kind, Some(value_node::Kind::Operation(_))));
    let last = u32::try_from(nodes.len()).unwrap_or(0).saturating_sub(1);
    let mut job = wire::job("sink", &["x"], nodes);
    job.arguments[0].node = last;
    job.operations_version = u32::from(has_operations);
    job
}

async fn failure_of(
    client: &mut MyceliumServiceClient<Channel>,
    spec: v1::JobSpec,
) -> anyhow::Result<(String, String)> {
    let id = spec.job_id.clone();
    let mut watch = wire::watch_jobs([&id]);
    client.submit_jobs(wire::submission(vec![spec])).await?;
    watch.until_final = true;
    watch.final_only = true;
    let mut changes = client.watch_jobs(watch).await?.into_inner();
    while let Some(message) = must("the end of the job", changes.message()).await?? {
        if let Some(change) = message.changes.into_iter().next() {
            ensure!(change.status() == JobStatus::Failed, "the job ended {:?}", change.status());
            let request =
                v1::GetFailureRequest { failure_id: change.failure_id, ..v1::GetFailureRequest::default() };
            let answer = client.get_failure(request).await?.into_inner();
            let failure =
                answer.failure.and_then(|group| group.failure).context("the failure is not known")?;
            let own = answer.occurrences.into_iter().find(|occurrence| occurrence.job_id == id);
            return Ok((failure.r#type, own.context("the job's own occurrence is not known")?.message));
        }
    }
    bail!("the job did not end")
}

/// Resident at its highest, in KiB.
fn resident_max_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_value_graphs_are_refused_or_fail_and_harm_nobody() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let bystander = Bystander::start(&broker.url()).await?;
    let _sink =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("sink", &["x"], &[]), 4)).await?;
    let (refused, failing) = (refused(), failing());
    ensure!(refused.len() + failing.len() >= 50, "{} graphs", refused.len() + failing.len());
    let before = resident_max_kib(broker.pid()?)?;

    for (name, nodes) in refused {
        let begun = Instant::now();
        let answer = client.submit_jobs(wire::submission(vec![job(nodes)])).await;
        let Err(status) = answer else { bail!("{name}: was taken") };
        ensure!(status.code() == Code::InvalidArgument, "{name}: {status:?}");
        ensure!(status.message().len() < 2_000, "{name}: the message has {} bytes", status.message().len());
        ensure!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
    }
    for (name, nodes) in failing {
        let begun = Instant::now();
        let (kind, message) = failure_of(&mut client, job(nodes)).await.with_context(|| name.to_owned())?;
        ensure!(kind == "ValueDerivationError", "{name}: {kind}: {message}");
        ensure!(message.starts_with("node "), "{name}: the message names no node: {message}");
        ensure!(begun.elapsed() < SOON, "{name}: {:?}: {message}", begun.elapsed());
    }
    let after = resident_max_kib(broker.pid()?)?;
    ensure!(after < before + GROWTH_KIB_MAX, "the broker grew from {before} to {after} KiB");
    bystander.finish().await?;
    broker.stop().await
}
