//! A failure with very many occurrences: each job's own words are found at once, and so is what is to blame for others.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, JobId, Mycelium};
use integration_tests::must;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::Broker;

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
                    v1::Outcome { token: Some(token), result }
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
