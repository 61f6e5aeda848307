//! A failure with very many occurrences: each job's own words are found at once, and so is what is to blame for others.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, JobId, Mycelium};
use integration_tests::must;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::Broker;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

/// How many jobs fail in the same way.
const JOBS: usize = 1_600;
/// The words of each, which together are far more than an answer holds.
const DETAILS_BYTES: usize = 20 * 1024;

fn message(number: usize) -> String {
    format!("scale {number} is broken")
}

#[tokio::test]
async fn of_many_occurrences_each_job_is_answered_with_its_own() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let jobs: Vec<v1::JobSpec> = (0..JOBS).map(|_| wire::job("scale", &[], Vec::new())).collect();
    let ids: Vec<Bytes> = jobs.iter().map(|job| job.job_id.clone()).collect();
    // Behind the first a chain, of which each names the one before.
    let second = v1::JobSpec { after: vec![ids[0].clone()], ..wire::job("scale", &[], Vec::new()) };
    let third = v1::JobSpec { after: vec![second.job_id.clone()], ..wire::job("scale", &[], Vec::new()) };
    let cancelled = wire::job("nobody", &[], Vec::new());
    let behind =
        v1::JobSpec { after: vec![cancelled.job_id.clone()], ..wire::job("nobody", &[], Vec::new()) };
    let [third_id, cancelled_id, behind_id] = [&third, &cancelled, &behind].map(|job| job.job_id.clone());
    let request = wire::submission(jobs.into_iter().chain([second, third, cancelled, behind]).collect());
    let flow = request.flow_id.clone();
    client.submit_jobs(request).await?;
    let scope =
        Some(v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![cancelled_id.clone()] }));
    client.cancel_jobs(v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() }).await?;

    let declaration = wire::declaration("scale", &[], &["n"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 64)).await?;
    let mut n_settled = 0;
    while n_settled < JOBS {
        match elf.next().await? {
            v1::connect_response::Kind::Assign(assign) => {
                let tokens = assign.assignments.into_iter().filter_map(|one| one.token);
                let outcomes = tokens.map(|token| {
                    let number = ids.iter().position(|id| *id == token.job_id).unwrap_or(usize::MAX);
                    let failure = v1::Failure {
                        r#type: "Broken".to_owned(),
                        message: message(number),
                        details: format!("{number}{}", "d".repeat(DETAILS_BYTES)),
                        causes: vec![v1::FailureCause {
                            r#type: "Spring".to_owned(),
                            message: format!("spring {number}"),
                        }],
                        ..v1::Failure::default()
                    };
                    let result = Some(v1::outcome::Result::Failure(failure));
                    v1::Outcome { ran: None, token: Some(token), result }
                });
                elf.report(outcomes.collect()).await?;
            }
            v1::connect_response::Kind::OutcomeAcks(acks) => n_settled += acks.acks.len(),
            _ => {}
        }
    }

    // The first to fail is far behind the latest occurrences.
    for number in [0, 1, JOBS / 2, JOBS - 1] {
        let request = v1::GetJobRequest { job_id: ids[number].clone(), ..v1::GetJobRequest::default() };
        let answer = client.get_job(request).await?.into_inner();
        let failure = answer.failure.context("no failure")?;
        ensure!(failure.r#type == "Broken" && failure.message == message(number), "{}", failure.message);
        ensure!(failure.details.starts_with(&format!("{number}d")), "the details are another's");
        ensure!(failure.causes[0].message == format!("spring {number}"), "{:?}", failure.causes);
        ensure!(answer.root_cause.is_none(), "{:?}", answer.root_cause);
    }
    let request = v1::GetJobRequest { job_id: third_id.clone(), ..v1::GetJobRequest::default() };
    let answer = client.get_job(request).await?.into_inner();
    ensure!(answer.job.context("no job")?.status() == JobStatus::UpstreamFailed);
    let root = answer.root_cause.context("no root cause")?;
    ensure!(root.job_id == ids[0] && root.status() == JobStatus::Failed, "{root:?}");
    ensure!(answer.failure.context("no failure")?.message == message(0));
    // One that is to blame and has no failure is named all the same; and it has none to be blamed on itself.
    let request = v1::GetJobRequest { job_id: behind_id, ..v1::GetJobRequest::default() };
    let answer = client.get_job(request).await?.into_inner();
    let root = answer.root_cause.context("no root cause")?;
    ensure!(root.job_id == cancelled_id && root.status() == JobStatus::Cancelled, "{root:?}");
    ensure!(answer.failure.is_none());
    let request = v1::GetJobRequest { job_id: cancelled_id, ..v1::GetJobRequest::default() };
    let answer = client.get_job(request).await?.into_inner();
    ensure!(answer.failure.is_none() && answer.root_cause.is_none());

    // All results are collected, and each error has its own words.
    let mycelium = Mycelium::connect(broker.url()).await?;
    let run = mycelium.run(flow.as_ref().try_into()?);
    for (number, id) in ids.iter().enumerate() {
        let result = must("a result", run.outputs(JobId::try_from(id.as_ref())?)).await?;
        let Err(Error::JobFailed(failed)) = result else { anyhow::bail!("{result:?}") };
        let failure = failed.failure.context("no failure")?;
        ensure!(failure.message == message(number) && failed.cause.is_none(), "{}", failure.message);
    }
    let result = must("a result", run.outputs(JobId::try_from(third_id.as_ref())?)).await?;
    let Err(Error::JobFailed(failed)) = result else { anyhow::bail!("{result:?}") };
    let cause = failed.cause.context("no cause")?;
    ensure!(cause.job_id == JobId::try_from(ids[0].as_ref())?, "{cause:?}");
    ensure!(failed.failure.context("no failure")?.message == message(0));
    drop(elf);
    Ok(broker.stop().await?)
}

/// Fails the next attempt that the elf is given, which must be of this job, with this type.
async fn fail(elf: &mut WireElf, job: &Bytes, r#type: &str) -> anyhow::Result<()> {
    let failure = v1::Failure { r#type: r#type.to_owned(), ..v1::Failure::default() };
    settle(elf, job, v1::outcome::Result::Failure(failure)).await
}

async fn succeed(elf: &mut WireElf, job: &Bytes) -> anyhow::Result<()> {
    let payload = Some(wire::json("1"));
    let outputs = v1::Outputs { outputs: vec![v1::NamedOutput { name: "n".to_owned(), payload }] };
    settle(elf, job, v1::outcome::Result::Outputs(outputs)).await
}

async fn settle(elf: &mut WireElf, job: &Bytes, result: v1::outcome::Result) -> anyhow::Result<()> {
    let token = elf.token().await?;
    ensure!(token.job_id == *job, "another job comes first");
    elf.report(vec![v1::Outcome { ran: None, token: Some(token), result: Some(result) }]).await?;
    ensure!(elf.verdicts().await? == [v1::OutcomeVerdict::Recorded]);
    Ok(())
}

async fn retry(client: &mut Client, job: &Bytes) -> anyhow::Result<v1::RetryJobsResponse> {
    let scope = Some(v1::retry_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![job.clone()] }));
    Ok(client
        .retry_jobs(v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() })
        .await?
        .into_inner())
}

/// What is told of a job: its status, the type of its failure, and which job is to blame, with its status.
type Told = (JobStatus, Option<String>, Option<(Bytes, JobStatus)>);

async fn told(client: &mut Client, job: &Bytes) -> anyhow::Result<Told> {
    let request = v1::GetJobRequest { job_id: job.clone(), ..v1::GetJobRequest::default() };
    let answer = client.get_job(request).await?.into_inner();
    let found = answer.job.context("no job")?;
    let is_failed = found.status() == JobStatus::Failed;
    ensure!(found.failure_id.is_empty() != is_failed, "{found:?}");
    ensure!(found.cause_job_id.is_empty() == (found.status() != JobStatus::UpstreamFailed), "{found:?}");
    let root = answer.root_cause.map(|root| (root.job_id.clone(), root.status()));
    Ok((found.status(), answer.failure.map(|failure| failure.r#type), root))
}

#[tokio::test]
async fn of_a_job_that_was_brought_back_nothing_of_the_past_is_told() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let a = wire::job("scale", &[], Vec::new());
    let b = v1::JobSpec { after: vec![a.job_id.clone()], ..wire::job("scale", &[], Vec::new()) };
    let (a_id, b_id) = (a.job_id.clone(), b.job_id.clone());
    client.submit_jobs(wire::submission(vec![a, b])).await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("scale", &[], &["n"]), 1)).await?;
    for r#type in ["First", "Second"] {
        fail(&mut elf, &a_id, r#type).await?;
        let own = (JobStatus::Failed, Some(r#type.to_owned()), None);
        ensure!(told(&mut client, &a_id).await? == own, "{:?}", told(&mut client, &a_id).await?);
        let behind =
            (JobStatus::UpstreamFailed, Some(r#type.to_owned()), Some((a_id.clone(), JobStatus::Failed)));
        ensure!(told(&mut client, &b_id).await? == behind, "{:?}", told(&mut client, &b_id).await?);
        let back = retry(&mut client, &a_id).await?;
        ensure!((back.jobs_retried, back.dependents_revived) == (1, 1), "{back:?}");
        for job in [&a_id, &b_id] {
            let (status, failure, root) = told(&mut client, job).await?;
            ensure!(matches!(
                status,
                JobStatus::Ready | JobStatus::Assigned | JobStatus::Running | JobStatus::Pending
            ));
            ensure!(failure.is_none() && root.is_none(), "{failure:?} {root:?}");
        }
    }
    for job in [&a_id, &b_id] {
        succeed(&mut elf, job).await?;
    }
    for job in [&a_id, &b_id] {
        ensure!(told(&mut client, job).await? == (JobStatus::Done, None, None));
    }
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_job_that_did_not_come_back_with_its_cause_names_what_keeps_it_and_its_result_ends()
-> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let job = |after: &[&Bytes]| v1::JobSpec {
        after: after.iter().map(|id| (*id).clone()).collect(),
        ..wire::job("scale", &[], Vec::new())
    };
    let (a, x) = (job(&[]), job(&[]));
    let both = job(&[&a.job_id, &x.job_id]);
    let behind = job(&[&both.job_id]);
    let [a_id, x_id, both_id, behind_id] = [&a, &x, &both, &behind].map(|job| job.job_id.clone());
    let request = wire::submission(vec![a, x, both, behind]);
    let flow = request.flow_id.clone();
    client.submit_jobs(request).await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("scale", &[], &["n"]), 1)).await?;
    fail(&mut elf, &a_id, "First").await?;
    fail(&mut elf, &x_id, "Other").await?;
    let blamed = |job: &Bytes, r#type: &str| {
        (JobStatus::UpstreamFailed, Some(r#type.to_owned()), Some((job.clone(), JobStatus::Failed)))
    };
    for job in [&both_id, &behind_id] {
        ensure!(told(&mut client, job).await? == blamed(&a_id, "First"));
    }
    // Alone it comes back, and ends well: the others are kept by the other one, and say so at once.
    let back = retry(&mut client, &a_id).await?;
    ensure!((back.jobs_retried, back.dependents_revived) == (1, 0), "{back:?}");
    for job in [&both_id, &behind_id] {
        ensure!(told(&mut client, job).await? == blamed(&x_id, "Other"));
    }
    succeed(&mut elf, &a_id).await?;
    for job in [&both_id, &behind_id] {
        ensure!(told(&mut client, job).await? == blamed(&x_id, "Other"));
    }
    let mycelium = Mycelium::connect(broker.url()).await?;
    let run = mycelium.run(flow.as_ref().try_into()?);
    let result = must("a result", run.outputs(JobId::try_from(behind_id.as_ref())?)).await?;
    let Err(Error::JobFailed(failed)) = result else { anyhow::bail!("{result:?}") };
    let cause = failed.cause.context("no cause")?;
    ensure!(cause.job_id == JobId::try_from(x_id.as_ref())?, "{cause:?}");
    ensure!(failed.failure.context("no failure")?.r#type == "Other");

    let back = retry(&mut client, &x_id).await?;
    ensure!((back.jobs_retried, back.dependents_revived) == (1, 2), "{back:?}");
    for job in [&x_id, &both_id, &behind_id] {
        succeed(&mut elf, job).await?;
        ensure!(told(&mut client, job).await? == (JobStatus::Done, None, None));
    }
    Ok(broker.stop().await?)
}
