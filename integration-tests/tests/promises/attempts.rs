//! A job tells who ran it before, and how that ended.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, until};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, AttemptEnd, JobStatus, outcome};
use tonic::Code;
use tonic::transport::Channel;

fn hello() -> v1::Hello {
    wire::hello(wire::declaration("scale", &[], &["n"]), 1)
}

async fn attempts(client: &MyceliumServiceClient<Channel>, job: &Bytes) -> anyhow::Result<Vec<v1::Attempt>> {
    let request = v1::ListAttemptsRequest { job_id: job.clone(), ..v1::ListAttemptsRequest::default() };
    let answer = client.clone().list_attempts(request).await?.into_inner();
    let numbers: Vec<u32> = answer.attempts.iter().map(|attempt| attempt.number).collect();
    ensure!(numbers == (1..=answer.attempts_total).collect::<Vec<u32>>(), "{answer:?}");
    for attempt in &answer.attempts {
        ensure!(attempt.session > 0 && attempt.instance_id.len() == 16 && attempt.revision.len() == 32);
        ensure!(attempt.assigned_at.is_some(), "{attempt:?}");
        ensure!(attempt.ended_at.is_some() == attempt.end.is_some(), "{attempt:?}");
    }
    Ok(answer.attempts)
}

/// How they ended; `None` for the one under way.
fn ends(attempts: &[v1::Attempt]) -> Vec<Option<AttemptEnd>> {
    attempts.iter().map(|attempt| attempt.end.map(|_| attempt.end())).collect()
}

async fn is(client: &MyceliumServiceClient<Channel>, job: &Bytes, status: JobStatus) -> anyhow::Result<()> {
    until("the job to stand as it should", || async {
        Ok((wire::get_job(client, job).await?.status() == status).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_listed_and_outlive_a_broker_that_is_killed() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let hello = hello();
    let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
    let request = wire::submission(vec![wire::job("scale", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;

    let first = elf.token().await?;
    ensure!(ends(&attempts(&client, &job).await?) == [None], "it is under way");
    let released = outcome::Result::Released(v1::AttemptReleased {});
    elf.report(vec![v1::Outcome { ran: None, token: Some(first), result: Some(released) }]).await?;
    let second = elf.token().await?;
    let before = attempts(&client, &job).await?;
    ensure!(ends(&before) == [Some(AttemptEnd::HandedBack), None], "{before:?}");
    broker.kill().await?;
    broker.restart().await?;
    let client = wire::client(&broker.url()).await?;
    ensure!(attempts(&client, &job).await? == before, "the same after a restart");

    let hello = v1::Hello { held: vec![second.clone()], ..elf.resume(hello) };
    let mut elf = WireElf::connect(&broker.url(), hello).await?;
    let failure = v1::Failure { r#type: "Tilted".to_owned(), ..v1::Failure::default() };
    let failed = outcome::Result::Failure(failure);
    elf.report(vec![v1::Outcome { ran: None, token: Some(second), result: Some(failed) }]).await?;
    is(&client, &job, JobStatus::Failed).await?;
    let before = attempts(&client, &job).await?;
    ensure!(ends(&before) == [Some(AttemptEnd::HandedBack), Some(AttemptEnd::Failed)], "{before:?}");

    let retry = v1::RetryJobsRequest {
        scope: Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![job.clone()] })),
        ..v1::RetryJobsRequest::default()
    };
    client.clone().retry_jobs(retry).await?;
    let third = elf.token().await?;
    ensure!(third.attempt == 3, "{third:?}");
    ensure!(attempts(&client, &job).await?[..2] == before, "what was before stays as it was");
    elf.report(vec![wire::returned(&third, &[("n", "1")])]).await?;
    is(&client, &job, JobStatus::Done).await?;
    let all = attempts(&client, &job).await?;
    ensure!(all[..2] == before && ends(&all)[2] == Some(AttemptEnd::Returned), "{all:?}");
    let done = wire::get_job(&client, &job).await?;
    ensure!((all[2].assigned_at, all[2].ended_at) == (done.started_at, done.finished_at));

    let request = v1::ListAttemptsRequest { job_id: wire::id(), ..v1::ListAttemptsRequest::default() };
    let unknown = client.clone().list_attempts(request).await.err().context("no such job")?;
    ensure!(unknown.code() == Code::NotFound, "{unknown}");
    broker.stop().await
}
