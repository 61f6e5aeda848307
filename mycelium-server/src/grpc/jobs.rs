//! `CancelJobs` and `RetryJobs`.

use mycelium_core::command::Scope;
use mycelium_proto::v1;

use super::convert;
use crate::broker::Handle;
use crate::error::Error;

pub(super) async fn cancel_jobs(
    handle: &Handle,
    request: v1::CancelJobsRequest,
) -> Result<v1::CancelJobsResponse, Error> {
    use v1::cancel_jobs_request::Scope as Asked;
    let scope = match &request.scope {
        Some(Asked::FlowId(id)) => of_flow(id)?,
        Some(Asked::Jobs(jobs)) => of_jobs(jobs)?,
        None => return Err(nothing()),
    };
    let done = handle.cancel(scope).await?;
    Ok(v1::CancelJobsResponse {
        jobs_cancelled: done.cancelled,
        jobs_final: done.already_final,
        jobs_unreadable: done.unreadable,
    })
}

pub(super) async fn retry_jobs(
    handle: &Handle,
    request: v1::RetryJobsRequest,
) -> Result<v1::RetryJobsResponse, Error> {
    use v1::retry_jobs_request::Scope as Asked;
    let scope = match &request.scope {
        Some(Asked::FlowId(id)) => of_flow(id)?,
        Some(Asked::Jobs(jobs)) => of_jobs(jobs)?,
        None => return Err(nothing()),
    };
    let done = handle.retry(scope).await?;
    Ok(v1::RetryJobsResponse {
        jobs_retried: done.retried,
        dependents_revived: done.revived,
        more: done.is_cut_short,
    })
}

fn of_flow(id: &[u8]) -> Result<Scope, Error> {
    Ok(Scope::Flow(convert::flow_id("flow_id", id)?))
}

fn of_jobs(jobs: &v1::JobIds) -> Result<Scope, Error> {
    Ok(Scope::Jobs(convert::job_ids("jobs.job_ids", &jobs.job_ids)?))
}

fn nothing() -> Error {
    Error::field("scope", "says nothing: give a flow or jobs")
}
