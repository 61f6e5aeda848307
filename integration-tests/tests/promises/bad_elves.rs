//! Elves that send nonsense: they hear of it, and nobody else does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{Bystander, until};
use mycelium_proto::limits::{
    ELVES_PER_SESSION_MAX, MESSAGE_BYTES_MAX, OUTPUTS_MAX, PAYLOAD_BYTES_MAX, PROTOCOL_VERSION, WINDOW_MAX,
};
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, connect_request, connect_response, outcome};
use mycelium_server::{Broker, RunningBroker};
use tonic::Code;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

async fn start() -> anyhow::Result<(RunningBroker, Client, Bystander)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    let bystander = Bystander::start(&broker.url()).await?;
    Ok((broker, client, bystander))
}

fn declaration() -> v1::ElfDeclaration {
    wire::declaration("liar", &[], &["a", "b"])
}

fn hello() -> v1::Hello {
    wire::hello(declaration(), 4)
}

/// Submits a job for the elf.
async fn submit(client: &mut Client) -> anyhow::Result<Bytes> {
    let request = wire::submission(vec![wire::job("liar", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    Ok(job)
}

async fn outcomes_stale(client: &mut Client) -> anyhow::Result<u64> {
    Ok(client.get_status(v1::GetStatusRequest::default()).await?.into_inner().outcomes_stale)
}

#[tokio::test]
async fn nonsense_on_a_stream_is_answered_with_a_fault_and_the_stream_goes_on() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let bad_token = v1::Token { job_id: Bytes::from_static(b"abc"), attempt: 1 };
    let nonsense: Vec<(connect_request::Kind, &str)> = vec![
        (connect_request::Kind::Hello(hello()), reason::PROTOCOL_VIOLATION),
        (
            connect_request::Kind::Outcomes(v1::Outcomes {
                outcomes: vec![wire::returned(&bad_token, &[("a", "1"), ("b", "2")])],
            }),
            reason::INVALID_FIELD,
        ),
        (
            connect_request::Kind::Outcomes(v1::Outcomes { outcomes: vec![v1::Outcome::default()] }),
            reason::INVALID_FIELD,
        ),
        (
            connect_request::Kind::Heartbeat(v1::Heartbeat { held: vec![bad_token.clone()], late_by: None }),
            reason::INVALID_FIELD,
        ),
        (
            connect_request::Kind::SetWindow(v1::SetWindow {
                elf: "liar".to_owned(),
                window: WINDOW_MAX + 1,
                concurrency: 0,
                occupied: 0,
            }),
            reason::INVALID_FIELD,
        ),
    ];
    for (kind, reason) in nonsense {
        let sequence = elf.say(kind).await?;
        let fault = elf.fault().await?;
        ensure!((fault.sequence, fault.reason.as_str()) == (sequence, reason), "{fault:?}");
        ensure!(!fault.message.is_empty(), "a fault says what is wrong");
    }
    // A message without a kind is none: it tells what has been received.
    ensure!(elf.welcome.takes_bare_messages);
    elf.say_nothing().await?;
    // The attempts of a message of which nothing was taken are named, as far as they can be read.
    let good = v1::Token { job_id: wire::id(), attempt: 1 };
    let outcomes = vec![wire::returned(&good, &[]), wire::returned(&bad_token, &[])];
    elf.report(outcomes).await?;
    ensure!(elf.fault().await?.tokens == std::slice::from_ref(&good));
    elf.say(connect_request::Kind::Heartbeat(v1::Heartbeat {
        held: vec![bad_token, good.clone()],
        ..v1::Heartbeat::default()
    }))
    .await?;
    ensure!(elf.fault().await?.tokens == [good]);
    // What is strange but harmless is taken: a window for an elf it does not serve, no outcomes at all.
    elf.set_window("somebody", 3).await?;
    elf.report(Vec::new()).await?;

    // The stream still works.
    let job = submit(&mut client).await?;
    let token = loop {
        match elf.next().await? {
            v1::connect_response::Kind::Assign(assign) => {
                break assign.assignments[0].token.clone().context("a token")?;
            }
            v1::connect_response::Kind::OutcomeAcks(acks) => ensure!(acks.acks.is_empty(), "{acks:?}"),
            other => anyhow::bail!("unexpected: {other:?}"),
        }
    };
    elf.report(vec![wire::returned(&token, &[("b", "2"), ("a", "1")])]).await?;
    ensure!(elf.verdicts().await? == [OutcomeVerdict::Recorded]);
    ensure!(wire::get_job(&client, &job).await?.status() == JobStatus::Done);
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn an_oversized_message_ends_its_own_stream_and_hurts_nobody_else() -> anyhow::Result<()> {
    let (broker, _client, bystander) = start().await?;
    let hello = hello();
    let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
    ensure!(elf.welcome.message_bytes_max == MESSAGE_BYTES_MAX as u64, "the limit is told");
    let message = "x".repeat(MESSAGE_BYTES_MAX);
    let failure = v1::Failure { r#type: "Big".to_owned(), message, ..v1::Failure::default() };
    let token = Some(v1::Token { job_id: wire::id(), attempt: 1 });
    elf.report(vec![v1::Outcome { ran: None, token, result: Some(outcome::Result::Failure(failure)) }])
        .await?;
    let ended = elf.ended().await?.context("an oversized message ends the stream with OK")?;
    let status =
        wire::expect_refusal::<()>(Err(ended), Code::InvalidArgument, reason::MESSAGE_TOO_LARGE, &[])?;
    ensure!(status.message().contains(&format!("limit is: {MESSAGE_BYTES_MAX} bytes")), "{status:?}");
    // The session goes on, as after any other cut.
    let elf = WireElf::connect(&broker.url(), elf.resume(hello)).await?;
    ensure!(elf.welcome.resumed, "{:?}", elf.welcome);
    bystander.finish().await?;
    drop(elf);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_forged_or_late_token_is_stale_counted_and_changes_nothing() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut owner = WireElf::connect(&broker.url(), hello()).await?;
    let job = submit(&mut client).await?;
    let token = owner.token().await?;
    let mut forger = WireElf::connect(&broker.url(), hello()).await?;
    ensure!(outcomes_stale(&mut client).await? == 0);

    let outputs = [("a", "666"), ("b", "666")];
    let failure = v1::Failure { r#type: "Forged".to_owned(), ..v1::Failure::default() };
    let forged = vec![
        wire::returned(&token, &outputs),
        v1::Outcome {
            ran: None,
            token: Some(token.clone()),
            result: Some(outcome::Result::Failure(failure)),
        },
        v1::Outcome {
            ran: None,
            token: Some(token.clone()),
            result: Some(outcome::Result::Released(v1::AttemptReleased {})),
        },
        v1::Outcome {
            ran: None,
            token: Some(token.clone()),
            result: Some(outcome::Result::Cancelled(v1::AttemptCancelled {})),
        },
        // Outputs that would be refused are stale before anything else.
        wire::returned(&token, &[]),
        wire::returned(&v1::Token { job_id: wire::id(), attempt: 1 }, &outputs),
    ];
    let n_forged = forged.len();
    forger.report(forged).await?;
    ensure!(forger.verdicts().await? == vec![OutcomeVerdict::Stale; n_forged]);
    // Nor may the owner report for an attempt there never was, or is no more.
    let other = |attempt| v1::Token { attempt, ..token.clone() };
    owner.report([0, 2, u32::MAX].map(|attempt| wire::returned(&other(attempt), &outputs)).to_vec()).await?;
    ensure!(owner.verdicts().await? == [OutcomeVerdict::Stale; 3]);
    let (before, unknown) = forger.beat(vec![token.clone()]).await?;
    ensure!(before.is_empty() && unknown == [token.clone()], "a forged inventory: {unknown:?}");
    ensure!(outcomes_stale(&mut client).await? == n_forged as u64 + 3);
    let record = wire::get_job(&client, &job).await?;
    ensure!(record.status() == JobStatus::Running && record.attempt == 1, "{record:?}");

    // The owner's word counts, once.
    owner.report(vec![wire::returned(&token, &[("a", "1"), ("b", "2")])]).await?;
    ensure!(owner.verdicts().await? == [OutcomeVerdict::Recorded]);
    owner.report(vec![wire::returned(&token, &outputs)]).await?;
    ensure!(owner.verdicts().await? == [OutcomeVerdict::Duplicate]);
    forger.report(vec![wire::returned(&token, &outputs)]).await?;
    ensure!(forger.verdicts().await? == [OutcomeVerdict::Stale]);
    let outputs = v1::GetOutputsRequest { mycelium: String::new(), job_ids: vec![job] };
    let outputs = client.get_outputs(outputs).await?.into_inner().jobs;
    let expected = ["1", "2"].map(|text| Some(wire::json(text)));
    let stored: Vec<_> = outputs[0].outputs.iter().map(|output| output.payload.clone()).collect();
    ensure!(stored == expected, "{stored:?}");
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_job_that_is_handed_back_again_and_again_pauses_and_says_how_often() -> anyhow::Result<()> {
    // Behind the first time there are pauses of 100, 200, 400, 800 and 1600 ms, and then one of 3.2 s.
    const TIMES: u32 = 7;
    const PAUSES: Duration = Duration::from_millis(3_100);
    let (broker, mut client, bystander) = start().await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let job = submit(&mut client).await?;
    let mut n_assigned = 0;
    let began = Instant::now();
    let token = loop {
        match elf.next().await? {
            connect_response::Kind::Assign(assign) => {
                let token = assign.assignments[0].token.clone().context("a token")?;
                n_assigned += 1;
                ensure!((&token.job_id, token.attempt) == (&job, n_assigned), "{token:?}");
                if n_assigned > TIMES {
                    break token;
                }
                // As one that drains, and as one that stops what nobody has asked it to stop.
                let result = Some(match n_assigned % 2 {
                    0 => outcome::Result::Cancelled(v1::AttemptCancelled {}),
                    _ => outcome::Result::Released(v1::AttemptReleased {}),
                });
                elf.report(vec![v1::Outcome { ran: None, token: Some(token), result }]).await?;
                if n_assigned == TIMES {
                    ensure!(began.elapsed() >= PAUSES, "{n_assigned} times in {:?}", began.elapsed());
                    let times = until("the job to pause", || times_handed_back(&client, &job)).await?;
                    ensure!(times == TIMES, "{times} times");
                }
            }
            connect_response::Kind::OutcomeAcks(acks) => {
                let recorded = |ack: &v1::OutcomeAck| ack.verdict() == OutcomeVerdict::Recorded;
                ensure!(acks.acks.iter().all(recorded), "{acks:?}");
            }
            other => anyhow::bail!("unexpected: {other:?}"),
        }
    };
    // It is none the worse for it.
    elf.report(vec![wire::returned(&token, &[("a", "1"), ("b", "2")])]).await?;
    until("the job to be done", || async {
        let job = wire::get_job(&client, &job).await?;
        Ok((job.status() == JobStatus::Done).then_some(()))
    })
    .await?;
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

/// How often a job was handed back that waits for that reason.
async fn times_handed_back(client: &Client, job: &Bytes) -> anyhow::Result<Option<u32>> {
    let request = v1::ExplainJobRequest { job_id: job.clone(), ..v1::ExplainJobRequest::default() };
    let reason = client.clone().explain_job(request).await?.into_inner().reason;
    Ok(match reason.and_then(|reason| reason.kind) {
        Some(v1::wait_reason::Kind::HandedBack(v1::HandedBack { times, until })) => {
            ensure!(until.is_some(), "it does not say until when");
            Some(times)
        }
        _ => None,
    })
}

#[tokio::test]
async fn outputs_that_are_not_those_declared_fail_the_attempt() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let big = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX));
    let names: Vec<String> = (0..=OUTPUTS_MAX).map(|n| format!("n{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let misfits: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![], "output `a` is missing"),
        (vec![("a", "1")], "output `b` is missing"),
        (vec![("a", "1"), ("b", "2"), ("c", "3")], "output `c` is not one"),
        (vec![("a", "1"), ("a", "1"), ("b", "2")], "output `a` is given twice"),
        (vec![("a", "1"), ("b", "{")], "output `b`"),
        (vec![("a", "1"), ("b", "1 2")], "output `b`"),
        (vec![("a", "1"), ("b", "")], "output `b`"),
        (vec![("a", "1"), ("b", &big)], "output `b`"),
        (many, "257 outputs"),
    ];
    for (outputs, expected) in misfits {
        let job = submit(&mut client).await?;
        let token = elf.token().await?;
        elf.report(vec![wire::returned(&token, &outputs)]).await?;
        ensure!(elf.verdicts().await? == [OutcomeVerdict::Refused], "{expected}");
        expect_result_type_error(&mut client, &job, expected).await?;
    }
    // No result at all, and an output without a value.
    let no_value = v1::NamedOutput { name: "a".to_owned(), payload: None };
    let without: Vec<(Option<outcome::Result>, &str)> = vec![
        (None, "without a result"),
        (Some(outcome::Result::Outputs(v1::Outputs { outputs: vec![no_value] })), "output `a` has no value"),
    ];
    for (result, expected) in without {
        let job = submit(&mut client).await?;
        let token = Some(elf.token().await?);
        elf.report(vec![v1::Outcome { ran: None, token, result }]).await?;
        ensure!(elf.verdicts().await? == [OutcomeVerdict::Refused], "{expected}");
        expect_result_type_error(&mut client, &job, expected).await?;
    }
    bystander.finish().await?;
    Ok(broker.stop().await?)
}

async fn expect_result_type_error(client: &mut Client, job: &Bytes, expected: &str) -> anyhow::Result<()> {
    let record = wire::get_job(client, job).await?;
    ensure!(record.status() == JobStatus::Failed, "{expected}: {record:?}");
    let request = v1::GetFailureRequest {
        failure_id: record.failure_id,
        page_size: 1_000,
        ..v1::GetFailureRequest::default()
    };
    let failure = client.get_failure(request).await?.into_inner();
    let kind = failure.failure.and_then(|group| group.failure).context("the failure is kept")?.r#type;
    ensure!(kind == "ResultTypeError", "{expected}: {kind}");
    let occurrence = failure.occurrences.iter().find(|occurrence| occurrence.job_id == *job);
    let message = &occurrence.context("the job is an occurrence")?.message;
    ensure!(message.contains(expected), "expected `{expected}` in `{message}`");
    let outputs = v1::GetOutputsRequest { mycelium: String::new(), job_ids: vec![job.clone()] };
    ensure!(client.get_outputs(outputs).await?.into_inner().jobs[0].outputs.is_empty(), "no outputs");
    Ok(())
}

#[tokio::test]
async fn a_hello_that_cannot_be_right_opens_no_session() -> anyhow::Result<()> {
    let (broker, mut client, bystander) = start().await?;
    let short = Bytes::from_static(&[7; 15]);
    let elf = |change: fn(&mut v1::ElfDeclaration)| {
        let mut declaration = declaration();
        change(&mut declaration);
        v1::Hello { elves: vec![declaration], windows: Vec::new(), ..hello() }
    };
    let task = |change: fn(&mut v1::TaskDeclaration)| {
        let mut declaration = declaration();
        change(&mut declaration.tasks[0]);
        v1::Hello { elves: vec![declaration], windows: Vec::new(), ..hello() }
    };
    let window =
        |name: &str, window| v1::SetWindow { elf: name.to_owned(), window, concurrency: 0, occupied: 0 };
    let many = (0..=ELVES_PER_SESSION_MAX).map(|n| wire::declaration(&format!("e{n}"), &[], &[])).collect();
    let malformed: Vec<(v1::Hello, &str)> = vec![
        (v1::Hello { instance_id: short.clone(), ..hello() }, "hello.instance_id"),
        (v1::Hello { instance_id: Bytes::new(), ..hello() }, "hello.instance_id"),
        (v1::Hello { host: "h".repeat(256), ..hello() }, "hello.host"),
        (v1::Hello { session_secret: Bytes::from(vec![7; 65]), ..hello() }, "hello.session_secret"),
        (v1::Hello { runtime: "r".repeat(256), ..hello() }, "hello.runtime"),
        (v1::Hello { build: "b".repeat(65), ..hello() }, "hello.build"),
        (v1::Hello { build: "v1\n".to_owned(), ..hello() }, "hello.build"),
        (v1::Hello { elves: many, windows: Vec::new(), ..hello() }, "hello.elves"),
        (v1::Hello { elves: vec![declaration(), declaration()], ..hello() }, "hello.elves[1]"),
        (
            v1::Hello { held: vec![v1::Token { job_id: short, attempt: 1 }], ..hello() },
            "hello.held[0].job_id",
        ),
        (v1::Hello { windows: vec![window("somebody", 1)], ..hello() }, "hello.windows"),
        (v1::Hello { windows: vec![window("liar", WINDOW_MAX + 1)], ..hello() }, "hello.windows[0].window"),
        // Two windows, of which nobody could say which holds.
        (v1::Hello { windows: vec![window("liar", 1), window("liar", 4)], ..hello() }, "hello.windows[1]"),
        (v1::Hello { mycelium: "Else Where".to_owned(), ..hello() }, "hello.mycelium"),
        (elf(|elf| elf.name.clear()), "hello.elves[0].name"),
        (elf(|elf| elf.name = "e".repeat(256)), "hello.elves[0].name"),
        (elf(|elf| elf.revision.truncate(31)), "hello.elves[0].revision"),
        (elf(|elf| elf.source.push('!')), "hello.elves[0].revision"),
        (elf(|elf| elf.tasks.push(elf.tasks[0].clone())), "hello.elves[0].tasks[1]"),
        (task(|task| task.name = "run".to_owned()), "hello.elves[0].tasks[0].name"),
        (task(|task| task.revision.truncate(1)), "hello.elves[0].tasks[0].revision"),
        (task(|task| task.outputs[1].name = "a".to_owned()), "hello.elves[0].tasks[0].outputs[1]"),
        // Required, and not: nobody could say whether a job fits.
        (
            task(|task| {
                let parameter = |optional| v1::ParameterDeclaration {
                    name: "x".to_owned(),
                    optional,
                    ..v1::ParameterDeclaration::default()
                };
                task.parameters = vec![parameter(false), parameter(true)];
            }),
            "hello.elves[0].tasks[0].parameters[1]",
        ),
        (task(|task| task.outputs[0].schema = "{".to_owned()), "hello.elves[0].tasks[0].outputs[0].schema"),
    ];
    let first = |kind| v1::ConnectRequest { sequence: 1, kind, ..v1::ConnectRequest::default() };
    for (hello, field) in malformed {
        let hello = first(Some(connect_request::Kind::Hello(hello)));
        let answer = wire::open_with(&broker.url(), hello).await?;
        wire::expect_refusal(answer, Code::InvalidArgument, reason::INVALID_FIELD, &[field])?;
    }
    let version = PROTOCOL_VERSION + 1;
    let newer = v1::Hello { protocol_min: version, protocol_max: version, ..hello() };
    let others = [
        (None, Code::FailedPrecondition, reason::PROTOCOL_VIOLATION),
        (
            Some(connect_request::Kind::Heartbeat(v1::Heartbeat::default())),
            Code::FailedPrecondition,
            reason::PROTOCOL_VIOLATION,
        ),
        (
            Some(connect_request::Kind::Hello(newer)),
            Code::FailedPrecondition,
            reason::PROTOCOL_VERSION_UNSUPPORTED,
        ),
    ];
    for (kind, code, reason) in others {
        let answer = wire::open_with(&broker.url(), first(kind)).await?;
        wire::expect_refusal(answer, code, reason, &[])?;
    }
    // A stream that ends before it has said anything.
    let answer = wire::open(&broker.url(), futures::stream::empty()).await?;
    wire::expect_refusal(answer, Code::FailedPrecondition, reason::PROTOCOL_VIOLATION, &[])?;

    let elves = client.list_elves(v1::ListElvesRequest::default()).await?.into_inner().elves;
    let names: Vec<String> = elves.into_iter().filter_map(|elf| Some(elf.declaration?.name)).collect();
    ensure!(names == ["bystander"], "elves that were refused are known: {names:?}");
    let sessions = || async {
        let status = client.clone().get_status(v1::GetStatusRequest::default()).await?.into_inner();
        Ok((status.sessions == 1).then_some(()))
    };
    until("the bystander's session to be the only one", sessions).await?;
    bystander.finish().await?;
    Ok(broker.stop().await?)
}
