//! Values are JSON in the strict sense and of the type that was declared, in submissions and in outcomes; what is not
//! is refused with its place, and without a word of what it is.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::Bystander;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, value_node};
use mycelium_proto::{limits, reason};
use mycelium_server::{Broker, RunningBroker};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

type Client = MyceliumServiceClient<Channel>;

/// What must not be told to anybody.
const SECRET: &str = "hunter2";

async fn start() -> anyhow::Result<(RunningBroker, Client, Bystander)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    let bystander = Bystander::start(&broker.url()).await?;
    Ok((broker, client, bystander))
}

/// Texts that are no JSON in the strict sense, and what is said of them.
fn no_json() -> Vec<(String, String)> {
    let deep = "[".repeat(129) + &"]".repeat(129);
    let told: Vec<(&str, &str)> = vec![
        (r#"{"some_loss": NaN}"#, "byte 14: NaN is not JSON"),
        ("[1,Infinity]", "byte 3: Infinity is not JSON"),
        ("[1,-Infinity]", "byte 3: -Infinity is not JSON"),
        ("{\"hunter2\" 1}", "byte 11: is not valid JSON"),
        ("", "byte 0: is not valid JSON"),
        ("1e400", "byte 0: a number beyond what a double holds"),
        (r#"{"a":-1e999}"#, "byte 5: a number beyond what a double holds"),
        (r#"["hunter2\ud800"]"#, "byte 9: half of a surrogate pair"),
        (r#"{"hunter2":1,"hunter2":2}"#, "byte 13: a duplicate key"),
        (r#"[{"a":{"b":1,"c":2,"\u0062":3}}]"#, "byte 19: a duplicate key"),
        (&deep, "byte 128: nests more than 128 deep"),
    ];
    told.into_iter().map(|(json, told)| (json.to_owned(), told.to_owned())).collect()
}

/// Expects a refusal of one field that says this, and nothing of the value.
async fn refused(
    client: &mut Client,
    request: v1::SubmitJobsRequest,
    reason: &str,
    field: &str,
    told: &str,
) -> anyhow::Result<()> {
    let answer = client.submit_jobs(request).await;
    let status = wire::expect_refusal(answer, Code::InvalidArgument, reason, &[field])?;
    let details = status.get_error_details();
    let violations = details.bad_request().map(|request| request.field_violations.clone());
    let described = violations.unwrap_or_default().first().map(|violation| violation.description.clone());
    ensure!(described.as_deref() == Some(told), "expected `{told}`, and got {described:?}");
    ensure!(status.message().ends_with(told), "expected `{told}`, and got {status:?}");
    ensure!(!format!("{status:?}").contains(SECRET), "{status:?} tells the value");
    Ok(())
}

fn body_of(literal: v1::ValueNode) -> v1::ValueNode {
    let operation = v1::Operation {
        name: "list.map".to_owned(),
        inputs: vec![0],
        body: Some(v1::OperationBody { nodes: vec![literal], result: 0 }),
    };
    v1::ValueNode { kind: Some(value_node::Kind::Operation(operation)) }
}

#[tokio::test]
async fn a_literal_that_is_no_json_is_refused_with_its_byte() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    for (json, told) in no_json() {
        let job = wire::job("nobody", &["x"], vec![wire::literal("1"), wire::literal(json.as_str())]);
        let field = "jobs[0].nodes[1].literal";
        refused(&mut client, wire::submission(vec![job]), reason::INVALID_FIELD, field, &told).await?;

        let in_body = v1::JobSpec {
            operations_version: 1,
            ..wire::job("nobody", &["x"], vec![wire::literal("[]"), body_of(wire::literal(json.as_str()))])
        };
        let (field, told) = ("jobs[0].nodes[1]", format!("node 0 of the body of `list.map`: {told}"));
        refused(&mut client, wire::submission(vec![in_body]), reason::INVALID_VALUE_GRAPH, field, &told)
            .await?;
    }
    // Literals and the lists around them count together.
    let half = "[".repeat(100) + &"]".repeat(100);
    let mut nodes = vec![wire::literal(half)];
    for inner in 0..29 {
        nodes.push(v1::ValueNode { kind: Some(value_node::Kind::List(v1::ListNode { items: vec![inner] })) });
    }
    let deep = wire::job("nobody", &["x"], nodes);
    let told = "nests more than 128 deep";
    refused(
        &mut client,
        wire::submission(vec![deep]),
        reason::INVALID_VALUE_GRAPH,
        "jobs[0].nodes[29]",
        told,
    )
    .await?;
    // Of other encodings nothing is asked.
    let mut other = wire::job("nobody", &["x"], vec![wire::literal("NaN")]);
    if let Some(value_node::Kind::Literal(literal)) = &mut other.nodes[0].kind {
        literal.encoding = "text/plain".to_owned();
    }
    ensure!(client.submit_jobs(wire::submission(vec![other])).await?.into_inner().jobs_created == 1);
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

fn typed(parameters: &[(&'static str, &str)], outputs: &[(&'static str, &str)]) -> v1::ElfDeclaration {
    let names = |typed: &[(&'static str, &str)]| typed.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let mut declaration = wire::declaration("typed", &names(parameters), &names(outputs));
    let task = &mut declaration.tasks[0];
    for (declared, (_, schema)) in task.parameters.iter_mut().zip(parameters) {
        (*schema).clone_into(&mut declared.schema);
    }
    for (declared, (_, schema)) in task.outputs.iter_mut().zip(outputs) {
        (*schema).clone_into(&mut declared.schema);
    }
    declaration
}

/// The failure of a job that has failed.
async fn failure_of(client: &mut Client, job: &Bytes) -> anyhow::Result<v1::Failure> {
    let failed = wire::get_job(client, job).await?;
    ensure!(failed.status() == JobStatus::Failed, "{failed:?}");
    let request = v1::GetFailureRequest { failure_id: failed.failure_id, ..v1::GetFailureRequest::default() };
    let answer = client.get_failure(request).await?.into_inner();
    let occurrence = answer.occurrences.into_iter().find(|occurrence| occurrence.job_id == *job);
    let message = occurrence.context("the failure of the job")?.message;
    let failure = answer.failure.and_then(|group| group.failure).context("a failure")?;
    Ok(v1::Failure { message, ..failure })
}

/// Runs a job of an elf that returns these outputs.
async fn returns(
    client: &mut Client,
    elf: &mut WireElf,
    outputs: &[(&str, &str)],
    verdict: OutcomeVerdict,
) -> anyhow::Result<Bytes> {
    let request = wire::submission(vec![wire::job("typed", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    let token = elf.token().await?;
    elf.report(vec![wire::returned(&token, outputs)]).await?;
    ensure!(elf.verdicts().await? == [verdict]);
    Ok(job)
}

async fn fails(
    client: &mut Client,
    elf: &mut WireElf,
    outputs: &[(&str, &str)],
    told: &str,
) -> anyhow::Result<()> {
    let job = returns(client, elf, outputs, OutcomeVerdict::Refused).await?;
    let failure = failure_of(client, &job).await?;
    ensure!((failure.r#type.as_str(), failure.message.as_str()) == ("ResultTypeError", told), "{failure:?}");
    ensure!(!format!("{failure:?}").contains(SECRET), "{failure:?} tells the value");
    Ok(())
}

#[tokio::test]
async fn an_output_that_is_no_json_or_of_another_type_fails_its_attempt() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let row = r##"{"type":"object","properties":{"rows":{"type":"array","items":{"$ref":"#/$defs/Row"}}},
        "required":["rows"],"$defs":{"Row":{"properties":{"price":{"type":["number","null"]}}}}}"##;
    let declaration = typed(&[], &[("any", ""), ("n", r#"{"type":"integer","minimum":0}"#), ("table", row)]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await?;
    for (json, told) in no_json() {
        let outputs = [("any", json.as_str()), ("n", "1"), ("table", "{\"rows\":[]}")];
        fails(&mut client, &mut elf, &outputs, &format!("output `any`: {told}")).await?;
        let outputs = [("any", "1"), ("n", "1"), ("table", json.as_str())];
        fails(&mut client, &mut elf, &outputs, &format!("output `table`: {told}")).await?;
    }
    for (n, table, told) in [
        ("\"hunter2\"", "{\"rows\":[]}", "output `n`: expected integer, found string"),
        ("null", "{\"rows\":[]}", "output `n`: expected integer, found null"),
        ("-7", "{\"rows\":[]}", "output `n`: expected a number of at least 0, found a lesser one"),
        ("1.5", "{\"rows\":[]}", "output `n`: expected integer, found number"),
        ("1", "\"hunter2\"", "output `table`: expected object, found string"),
        ("1", "{\"hunter2\":1}", "output `table`: expected an entry `rows`, found none"),
        (
            "1",
            r#"{"rows":[{"price":1},{"price":"hunter2"}]}"#,
            "output `table`: at `/rows/1/price`: expected number or null, found string",
        ),
    ] {
        fails(&mut client, &mut elf, &[("any", "1"), ("n", n), ("table", table)], told).await?;
        // In whatever order they come.
        fails(&mut client, &mut elf, &[("table", table), ("n", n), ("any", "1")], told).await?;
    }
    // What fits keeps its digits.
    let digits = "340282366920938463463374607431768211455";
    let table = r#"{"rows":[{"price":1.10},{"price":null,"more":[1e2]}]}"#;
    let outputs = [("table", table), ("n", digits), ("any", "\"a\"")];
    let job = returns(&mut client, &mut elf, &outputs, OutcomeVerdict::Recorded).await?;
    let request = v1::GetOutputsRequest { job_ids: vec![job], ..v1::GetOutputsRequest::default() };
    let outputs = client.get_outputs(request).await?.into_inner();
    let outputs = outputs.jobs.into_iter().next().context("outputs")?;
    let expected = [("any", "\"a\""), ("n", digits), ("table", table)]
        .map(|(name, text)| v1::NamedOutput { name: name.to_owned(), payload: Some(wire::json(text)) });
    ensure!(outputs.outputs == expected, "{outputs:?}");
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn different_outputs_that_cannot_be_taken_are_different_failures() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let number = r#"{"type":"integer"}"#;
    let mut ids = BTreeSet::new();
    for elf in ["typed", "other"] {
        let declaration =
            v1::ElfDeclaration { name: elf.to_owned(), ..typed(&[], &[("a", number), ("b", number)]) };
        let mut worker = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await?;
        let faults: [[&[(&str, &str)]; 2]; 5] = [
            [&[("a", "\"x\""), ("b", "1")], &[("b", "2"), ("a", "null")]],
            [&[("a", "1"), ("b", "\"x\"")], &[("a", "2"), ("b", "1.5")]],
            [&[("a", "1")], &[("a", "7")]],
            [&[("b", "1")], &[("b", "7")]],
            [&[("a", "1"), ("b", "1"), ("c", "1")], &[("a", "2"), ("b", "3"), ("c", "4")]],
        ];
        for [fault, again] in faults {
            let mut id = None;
            for outputs in [fault, again] {
                let request = wire::submission(vec![wire::job(elf, &[], Vec::new())]);
                let job = request.jobs[0].job_id.clone();
                client.submit_jobs(request).await?;
                let token = worker.token().await?;
                worker.report(vec![wire::returned(&token, outputs)]).await?;
                ensure!(worker.verdicts().await? == [OutcomeVerdict::Refused]);
                let found = wire::get_job(&client, &job).await?.failure_id;
                ensure!(*id.get_or_insert(found.clone()) == found, "{outputs:?} is another failure");
            }
            ids.extend(id);
        }
    }
    ensure!(ids.len() == 10, "{} failures of 10 mistakes", ids.len());
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_blob_is_left_to_the_runtime_that_wrote_it_and_other_encodings_to_those_who_know_them()
-> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let declaration = typed(&[], &[("n", r#"{"type":"integer"}"#)]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await?;
    let bytes = Bytes::from_static(b"\"no integer\"");
    let blob = wire::blob_of(&bytes);
    let mut blobs = wire::blob_client(&broker.url()).await?;
    wire::write_blob(&mut blobs, &bytes).await?;
    let other = v1::Payload { encoding: "text/plain".to_owned(), ..wire::json("no integer") };
    for payload in [wire::blob_payload(blob), other] {
        let request = wire::submission(vec![wire::job("typed", &[], Vec::new())]);
        let job = request.jobs[0].job_id.clone();
        client.submit_jobs(request).await?;
        let token = elf.token().await?;
        let output = v1::NamedOutput { name: "n".to_owned(), payload: Some(payload) };
        let outputs = v1::outcome::Result::Outputs(v1::Outputs { outputs: vec![output] });
        elf.report(vec![v1::Outcome { ran: None, token: Some(token), result: Some(outputs) }]).await?;
        ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
        ensure!(wire::get_job(&client, &job).await?.status() == JobStatus::Done);
    }
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn what_was_assigned_on_an_earlier_stream_is_held_against_its_type_too() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let hello = wire::hello(typed(&[], &[("n", r#"{"type":"integer"}"#)]), 4);
    let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
    let request = wire::submission((0..3).map(|_| wire::job("typed", &[], Vec::new())).collect());
    let jobs: Vec<Bytes> = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(request).await?;
    let mut held = Vec::new();
    while held.len() < jobs.len() {
        for assignment in elf.assigned().await? {
            held.push(assignment.token.context("a token")?);
        }
    }
    let resuming = v1::Hello { held: held.clone(), ..elf.resume(hello) };
    drop(elf);
    let mut elf = WireElf::connect(&broker.url(), resuming).await?;
    ensure!(elf.welcome.resumed && elf.welcome.keep.len() == 3, "{:?}", elf.welcome);
    let stranger = v1::Token { job_id: wire::id(), attempt: 1 };
    elf.report(vec![
        wire::returned(&held[0], &[("n", "\"hunter2\"")]),
        wire::returned(&stranger, &[("n", "\"hunter2\"")]),
        wire::returned(&held[1], &[("n", "7")]),
        wire::returned(&held[2], &[("m", "7")]),
    ])
    .await?;
    let mut verdicts = Vec::new();
    while verdicts.len() < 4 {
        verdicts.extend(elf.verdicts().await?);
    }
    let stale = verdicts.iter().filter(|verdict| **verdict == OutcomeVerdict::Stale).count();
    ensure!(stale == 1, "{verdicts:?}");
    let by_token = |token: &v1::Token| token.job_id.clone();
    let failure = failure_of(&mut client, &by_token(&held[0])).await?;
    ensure!(failure.message == "output `n`: expected integer, found string", "{failure:?}");
    ensure!(wire::get_job(&client, &by_token(&held[1])).await?.status() == JobStatus::Done);
    let failure = failure_of(&mut client, &by_token(&held[2])).await?;
    ensure!(failure.message == "output `n` is missing", "{failure:?}");
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn what_is_no_schema_is_refused_in_hello_with_its_place() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    for (schema, told) in [
        (r#"{"type":"int"}"#, "at `/type`: `int` is no type"),
        ("[]", "must be an object or a boolean"),
        ("integer", "byte 0: is not valid JSON"),
        (r#"{"properties":{"a":{"pattern":"("}}}"#, "at `/properties/a/pattern`: is no regular expression"),
        (r##"{"$ref":"#/$defs/a"}"##, "at `/$ref`: refers to nothing"),
    ] {
        for (declaration, field, of) in [
            (typed(&[("x", schema)], &[]), "parameters[0]", "parameter `x`"),
            (typed(&[], &[("n", schema)]), "outputs[0]", "output `n`"),
        ] {
            let answer = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await;
            let Err(error) = answer else { anyhow::bail!("{schema} was taken") };
            let status = error.downcast::<tonic::Status>().context("a status")?;
            let field = format!("hello.elves[0].tasks[0].{field}.schema");
            let status = wire::expect_refusal(
                Err::<(), _>(status),
                Code::InvalidArgument,
                reason::INVALID_FIELD,
                &[&field],
            )?;
            let told = format!("{field}: {of} of task `task_run` of elf `typed` has no valid schema: {told}");
            ensure!(status.message() == told, "expected `{told}`, and got {status:?}");
        }
    }
    let request = v1::GetElfRequest { name: "typed".to_owned(), ..v1::GetElfRequest::default() };
    wire::expect_refusal(client.get_elf(request).await, Code::NotFound, reason::ELF_NOT_FOUND, &[])?;
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_literal_of_another_type_is_refused_without_telling_it() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let color = r#"{"enum":["red","green"]}"#;
    let wide = r#"{"type":"integer","minimum":0,"maximum":340282366920938463463374607431768211455}"#;
    let declaration = typed(&[("n", r#"{"type":"integer"}"#), ("color", color), ("wide", wide)], &[]);
    let _elf = WireElf::connect(&broker.url(), wire::hello(declaration, 0)).await?;
    let job = |values: [&str; 3]| {
        let nodes = values.iter().map(|json| wire::literal(*json)).collect();
        wire::submission(vec![wire::job("typed", &["n", "color", "wide"], nodes)])
    };
    let most = "340282366920938463463374607431768211455";
    for (values, argument, told) in [
        (
            ["\"hunter2\"", "\"red\"", "1"],
            0,
            "parameter `n` does not take this value: expected integer, found string",
        ),
        (
            ["1", "\"hunter2\"", "1"],
            1,
            "parameter `color` does not take this value: expected one of the 2 values that the schema lists, found \
             another string",
        ),
        (
            ["1", "\"red\"", "340282366920938463463374607431768211456"],
            2,
            "parameter `wide` does not take this value: expected a number of at most \
             340282366920938463463374607431768211455, found a greater one",
        ),
    ] {
        let field = format!("jobs[0].arguments[{argument}]");
        refused(&mut client, job(values), reason::SIGNATURE_MISMATCH, &field, told).await?;
    }
    let request = job(["1", "\"red\"", most]);
    ensure!(client.submit_jobs(request).await?.into_inner().jobs_created == 1);
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn an_output_that_a_known_task_does_not_declare_is_refused_at_submission() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(typed(&[], &[("n", ""), ("m", "")]), 1)).await?;
    let source = || wire::job("typed", &[], Vec::new());
    let reader = |job: &Bytes, name: &str| {
        wire::job("nobody", &["x"], vec![wire::literal("1"), wire::output_of(job, name)])
    };
    let told = "task `task_run` has no output `hunter3`; it declares n, m";
    let field = |job: usize| format!("jobs[{job}].nodes[1].output.name");

    // Of the same submission, wherever it stands in it.
    for order in [[0, 1], [1, 0]] {
        let source = source();
        let reader = reader(&source.job_id, "hunter3");
        let mut jobs = [source, reader].map(Some);
        let jobs: Vec<v1::JobSpec> = order.iter().filter_map(|at| jobs[*at].take()).collect();
        let field = field(order.iter().position(|at| *at == 1).unwrap_or(0));
        refused(&mut client, wire::submission(jobs), reason::SIGNATURE_MISMATCH, &field, told).await?;
    }
    // Of one that was submitted before, runs, or has ended.
    let before = wire::submission(vec![source(), source()]);
    let jobs: Vec<Bytes> = before.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(before).await?;
    let token = elf.token().await?;
    elf.report(vec![wire::returned(&token, &[("n", "1"), ("m", "2")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    ensure!(wire::get_job(&client, &jobs[0]).await?.status() == JobStatus::Done);
    for job in &jobs {
        let request = wire::submission(vec![wire::job("nobody", &[], Vec::new()), reader(job, "hunter3")]);
        refused(&mut client, request, reason::SIGNATURE_MISMATCH, &field(1), told).await?;
        let fits = wire::submission(vec![reader(job, "m"), reader(job, "")]);
        ensure!(client.submit_jobs(fits).await?.into_inner().jobs_created == 2);
    }
    // What nobody has declared may have any.
    let stranger = wire::job("stranger", &[], Vec::new());
    let reads = reader(&stranger.job_id, "anything");
    ensure!(
        client.submit_jobs(wire::submission(vec![stranger, reads])).await?.into_inner().jobs_created == 2
    );
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_failure_that_is_cut_says_so() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut elf = WireElf::connect(&broker.url(), wire::hello(typed(&[], &[]), 1)).await?;
    let request = wire::submission(vec![wire::job("typed", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    let token = Some(elf.token().await?);
    let long = limits::FAILURE_MESSAGE_BYTES_MAX + 1;
    let failure =
        v1::Failure { r#type: "Long".to_owned(), message: "x".repeat(long), ..v1::Failure::default() };
    elf.report(vec![v1::Outcome { ran: None, token, result: Some(v1::outcome::Result::Failure(failure)) }])
        .await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    let message = failure_of(&mut client, &job).await?.message;
    ensure!(message.ends_with(&format!("x… (cut, of {long} bytes)")), "{} bytes", message.len());
    ensure!(message.len() == limits::FAILURE_MESSAGE_BYTES_MAX);
    bystander.finish().await?;
    Ok(broker.stop().await?)
}
