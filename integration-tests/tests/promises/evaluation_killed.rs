//! A broker that is killed while it computes the argument of a job that it has already assigned: the job is offered again,
//! and whoever gets it, as whichever attempt, gets the same argument.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, until};
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, connect_response, payload, value_node};

/// How often the broker is killed before anybody gets the job, and how often after.
const KILLS_BEFORE: u32 = 3;
const KILLS_AFTER: u32 = 2;
/// How many elements the computation goes through: enough that a broker is killed long before it is done.
const ELEMENTS: u64 = 200_000;
/// What the job that comes before returns.
const SEED: u64 = 11;

fn operation(name: &str, inputs: &[u32], body: Option<v1::OperationBody>) -> v1::ValueNode {
    let operation = v1::Operation { name: name.to_owned(), inputs: inputs.to_vec(), body };
    v1::ValueNode { kind: Some(value_node::Kind::Operation(operation)) }
}

fn input(index: u32) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::BodyInput(index)) }
}

/// `(accumulator * 31 + element) % 1000003` over all numbers below [`ELEMENTS`], beginning with an output of `job`.
fn slow_value(job: &Bytes) -> Vec<v1::ValueNode> {
    let step = vec![
        input(0),
        input(1),
        wire::literal("31"),
        wire::literal("1000003"),
        operation("multiply", &[0, 2], None),
        operation("add", &[4, 1], None),
        operation("modulo", &[5, 3], None),
    ];
    let step = v1::OperationBody { nodes: step, result: 6 };
    vec![
        wire::literal("0"),
        wire::literal(ELEMENTS.to_string()),
        operation("list.range", &[0, 1], None),
        wire::output_of(job, "n"),
        operation("list.reduce", &[2, 3], Some(step)),
    ]
}

/// The same in plain Rust.
fn expected() -> u64 {
    (0..ELEMENTS).fold(SEED, |accumulator, element| (accumulator * 31 + element) % 1_000_003)
}

/// The argument that comes with an assignment.
fn argument_of(assignment: &v1::Assignment) -> anyhow::Result<Bytes> {
    let [argument] = assignment.arguments.as_slice() else { bail!("one argument: {assignment:?}") };
    match argument.payload.as_ref().and_then(|payload| payload.content.as_ref()) {
        Some(payload::Content::Inline(bytes)) => Ok(bytes.clone()),
        other => bail!("the argument is {other:?}"),
    }
}

/// What an elf got before its stream ended.
async fn rest_of(mut elf: WireElf) -> Vec<connect_response::Kind> {
    let mut rest = Vec::new();
    while let Ok(kind) = elf.next().await {
        rest.push(kind);
    }
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_between_evaluation_and_dispatch_gives_every_attempt_the_same_argument()
-> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let hello = wire::hello(wire::declaration("scale", &["n"], &["n"]), 1);
    let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
    let session = elf.welcome.session;
    let resume = elf.resume(hello);

    let before = wire::job("scale", &["n"], vec![wire::literal("1")]);
    let mut job = wire::job("scale", &["n"], slow_value(&before.job_id));
    job.arguments[0].node = 4;
    job.operations_version = 1;
    let (before_id, job_id) = (before.job_id.clone(), job.job_id.clone());
    wire::client(&broker.url()).await?.submit_jobs(wire::submission(vec![before, job])).await?;
    let token = elf.token().await?;
    ensure!(token.job_id == before_id, "{token:?}");
    elf.report(vec![wire::returned(&token, &[("n", &SEED.to_string())])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);

    // It is assigned, which is stored, and its argument is being computed: nobody has it yet.
    let mut attempts = Vec::new();
    for kill in 0..KILLS_BEFORE {
        let client = wire::client(&broker.url()).await?;
        let attempt = until("the job to be assigned", || async {
            let record = wire::get_job(&client, &job_id).await?;
            Ok((record.status() == JobStatus::Running && !attempts.contains(&record.attempt))
                .then_some(record.attempt))
        })
        .await?;
        attempts.push(attempt);
        broker.kill().await?;
        let rest = rest_of(elf).await;
        let got_it = rest.iter().any(|kind| matches!(kind, connect_response::Kind::Assign(_)));
        ensure!(!got_it, "kill {kill} came after the argument was computed: {rest:?}");
        broker.restart().await?;
        elf = WireElf::connect(&broker.url(), resume.clone()).await?;
        ensure!(elf.welcome.resumed && elf.welcome.session == session, "{:?}", elf.welcome);
    }

    // Now it comes to the elf, which has lost it whenever the broker comes back.
    let mut arguments = Vec::new();
    let mut last = loop {
        let assigned = elf.assigned().await?;
        let [assignment] = assigned.as_slice() else { bail!("expected one assignment: {assigned:?}") };
        let token = assignment.token.clone().context("the assignment has no token")?;
        ensure!(token.job_id == job_id && !attempts.contains(&token.attempt), "{token:?} after {attempts:?}");
        attempts.push(token.attempt);
        arguments.push(argument_of(assignment)?);
        if arguments.len() as u32 > KILLS_AFTER {
            break token;
        }
        broker.kill().await?;
        drop(rest_of(elf).await);
        broker.restart().await?;
        elf = WireElf::connect(&broker.url(), resume.clone()).await?;
    };
    let expected = expected().to_string();
    ensure!(arguments.iter().all(|argument| *argument == expected), "{arguments:?}, and not {expected}");
    ensure!(attempts.is_sorted(), "{attempts:?}");

    // What an attempt that was lost on the way says counts for nothing; what the last one says is the result.
    let lost = v1::Token { attempt: attempts[0], ..last.clone() };
    elf.report(vec![wire::returned(&lost, &[("n", "0")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Stale]);
    last.attempt = attempts[attempts.len() - 1];
    elf.report(vec![wire::returned(&last, &[("n", &expected)])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    let record = wire::get_job(&wire::client(&broker.url()).await?, &job_id).await?;
    ensure!(record.status() == JobStatus::Done && record.elves_lost == 0, "{record:?}");
    drop(elf);
    broker.stop().await
}
