//! A job is ASSIGNED until its elf has begun it, and RUNNING then.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, outcome, wait_reason};
use mycelium_testing::until;
use mycelium_testing::wire::{self, WireElf};
use tonic::transport::Channel;

use integration_tests::BrokerProcess;

type Client = MyceliumServiceClient<Channel>;

/// An elf that tells of starts.
fn hello(window: u32) -> v1::Hello {
    v1::Hello { tells_starts: true, ..wire::hello(wire::declaration("teller", &[], &["n"]), window) }
}

fn start(token: &v1::Token, ago: Duration) -> v1::Start {
    v1::Start { token: Some(token.clone()), ago: ago.try_into().ok() }
}

/// Submits jobs for the elf, in a flow.
async fn submit(client: &mut Client, n: usize) -> anyhow::Result<(Bytes, Vec<Bytes>)> {
    let request = wire::submission((0..n).map(|_| wire::job("teller", &[], Vec::new())).collect());
    let jobs = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    let flow = request.flow_id.clone();
    client.submit_jobs(request).await?;
    Ok((flow, jobs))
}

async fn status(client: &Client, job: &Bytes) -> anyhow::Result<JobStatus> {
    Ok(wire::get_job(client, job).await?.status())
}

async fn until_status(client: &Client, job: &Bytes, expected: JobStatus) -> anyhow::Result<v1::Job> {
    until("another status", || async {
        let job = wire::get_job(client, job).await?;
        Ok((job.status() == expected).then_some(job))
    })
    .await
}

async fn listed(client: &mut Client, status: JobStatus) -> anyhow::Result<usize> {
    let request = v1::ListJobsRequest { statuses: vec![status.into()], ..v1::ListJobsRequest::default() };
    Ok(client.list_jobs(request).await?.into_inner().jobs.len())
}

#[tokio::test]
async fn assigned_and_running_are_told_apart() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = WireElf::connect(&broker.url(), hello(2)).await?;
    let (flow, jobs) = submit(&mut client, 2).await?;
    let mut watch = client.watch_jobs(wire::watch_flow(&flow)).await?.into_inner();
    let tokens: Vec<v1::Token> = elf.assigned().await?.into_iter().filter_map(|job| job.token).collect();
    ensure!(tokens.len() == 2);
    let one = wire::get_job(&client, &jobs[0]).await?;
    ensure!(one.status() == JobStatus::Assigned && one.assigned_at.is_some() && one.started_at.is_none());

    elf.tell_starts(vec![start(&tokens[0], Duration::ZERO)]).await?;
    let one = until_status(&client, &tokens[0].job_id, JobStatus::Running).await?;
    ensure!(one.started_at.is_some() && one.started_at != one.assigned_at, "{one:?}");
    ensure!(
        (listed(&mut client, JobStatus::Assigned).await?, listed(&mut client, JobStatus::Running).await?)
            == (1, 1)
    );
    let request = v1::GetFlowRequest {
        flow: Some(v1::get_flow_request::Flow::FlowId(flow.clone())),
        ..v1::GetFlowRequest::default()
    };
    let counts = client.get_flow(request).await?.into_inner().flow.and_then(|flow| flow.counts);
    let expected = v1::JobCounts { running: 2, assigned: 1, ..v1::JobCounts::default() };
    ensure!(counts == Some(expected), "those that know of no `assigned` see both as running: {counts:?}");
    let request = v1::GetElfRequest { name: "teller".to_owned(), ..v1::GetElfRequest::default() };
    let known = client.get_elf(request).await?.into_inner().elf.context("the elf is known")?;
    ensure!((known.jobs_running, known.jobs_assigned) == (2, 1), "{known:?}");
    for (token, is_started) in [(&tokens[0], true), (&tokens[1], false)] {
        let request =
            v1::ExplainJobRequest { job_id: token.job_id.clone(), ..v1::ExplainJobRequest::default() };
        match client.explain_job(request).await?.into_inner().reason.and_then(|reason| reason.kind) {
            Some(wait_reason::Kind::Held(held)) => ensure!(held.started_at.is_some() == is_started),
            other => anyhow::bail!("held was expected, and not {other:?}"),
        }
    }

    // It is over before a start was told.
    let outcome = wire::returned(&tokens[1], &[("n", "1")]);
    let ran = Some(prost_types::Duration { seconds: 0, nanos: 2_000_000 });
    elf.report(vec![v1::Outcome { ran, ..outcome }]).await?;
    let two = until_status(&client, &tokens[1].job_id, JobStatus::Done).await?;
    let micros = |at: Option<prost_types::Timestamp>| {
        at.map(|at| i128::from(at.seconds) * 1_000_000 + i128::from(at.nanos) / 1_000)
    };
    let (started, finished) = (micros(two.started_at), micros(two.finished_at));
    ensure!(started.zip(finished).is_some_and(|(from, to)| to - from <= 2_000), "without its wait: {two:?}");
    let request = v1::ListAttemptsRequest { job_id: two.job_id, ..v1::ListAttemptsRequest::default() };
    let attempts = client.list_attempts(request).await?.into_inner().attempts;
    ensure!(attempts.len() == 1 && micros(attempts[0].started_at) == started, "{attempts:?}");

    // Watchers hear of the start; those that were cut hear of it again.
    let mut told = Vec::new();
    while !told.contains(&(tokens[0].job_id.clone(), JobStatus::Running)) {
        let message = watch.message().await?.context("the watch goes on")?;
        told.extend(message.changes.iter().map(|change| (change.job_id.clone(), change.status())));
    }
    broker.stop().await
}

#[tokio::test]
async fn starts_that_cannot_be_change_nothing() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = WireElf::connect(&broker.url(), hello(1)).await?;
    let mut other = WireElf::connect(&broker.url(), hello(0)).await?;
    let (_, jobs) = submit(&mut client, 1).await?;
    let token = elf.token().await?;

    // What cannot be read is named; nothing of the message is taken.
    let bad = v1::Token { job_id: Bytes::from_static(b"abc"), attempt: 1 };
    let sequence = elf.tell_starts(vec![start(&token, Duration::ZERO), start(&bad, Duration::ZERO)]).await?;
    let fault = elf.fault().await?;
    ensure!((fault.sequence, fault.reason.as_str()) == (sequence, reason::INVALID_FIELD), "{fault:?}");
    ensure!(fault.tokens == [token.clone()], "{fault:?}");
    // Of attempts that it does not hold.
    let later = v1::Token { attempt: 2, ..token.clone() };
    let nowhere = v1::Token { job_id: wire::id(), attempt: 1 };
    elf.tell_starts([&later, &nowhere].map(|token| start(token, Duration::ZERO)).to_vec()).await?;
    other.tell_starts(vec![start(&token, Duration::ZERO)]).await?;
    // Both have been heard when they are answered.
    let job_id = token.job_id.clone();
    for elf in [&mut elf, &mut other] {
        elf.report(Vec::new()).await?;
        elf.verdicts().await?;
    }
    ensure!(status(&client, &jobs[0]).await? == JobStatus::Assigned);

    // By a clock that is an hour off, and twice.
    elf.tell_starts(vec![start(&token, Duration::from_secs(3_600))]).await?;
    let job = until_status(&client, &jobs[0], JobStatus::Running).await?;
    ensure!(job.started_at == job.assigned_at, "nothing begins before it is assigned: {job:?}");
    elf.tell_starts(vec![start(&token, Duration::ZERO)]).await?;
    // What was started is given back: the job is offered again, and nothing is lost.
    let released = Some(outcome::Result::Released(v1::AttemptReleased {}));
    elf.report(vec![v1::Outcome { token: Some(token), result: released, ran: None }]).await?;
    ensure!(elf.verdicts().await? == [v1::OutcomeVerdict::Recorded]);
    let again = elf.token().await?;
    ensure!(again.attempt == 2 && job_id == again.job_id, "{again:?}");
    let outcome = wire::returned(&again, &[("n", "1")]);
    let ran = Duration::from_secs(3_600).try_into().ok();
    elf.report(vec![v1::Outcome { ran, ..outcome }]).await?;
    let job = until_status(&client, &jobs[0], JobStatus::Done).await?;
    ensure!(job.started_at == job.assigned_at && job.elves_lost == 0, "{job:?}");
    broker.stop().await
}
