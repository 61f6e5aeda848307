//! What is done with jobs and flows by hand: `CancelJobs`, `RetryJobs`, `DeleteFlows`, `DeleteJobs` and `PinFlows`.

use std::collections::BTreeSet;

use bytes::Bytes;
use mycelium_core::command::Scope;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::FlowId;
use mycelium_proto::v1;

use super::convert;
use crate::broker::{CallError, Handle};
use crate::documents::policy::{self, BadPolicy};
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
    let retry = request.retry.as_ref().map(policy::retry).transpose();
    let retry = retry.map_err(|BadPolicy { field, problem }| Error::field(field, problem))?;
    let done = handle.retry(scope, retry.unwrap_or_default()).await;
    let done = done.map_err(|error| match (&error, &request.scope) {
        (
            CallError::Refused(Refusal::NotRetryable(job) | Refusal::NotEnded(job)),
            Some(Asked::Jobs(named)),
        ) => match named.job_ids.iter().position(|id| **id == *job.as_bytes()) {
            Some(index) => Error::Named { field: format!("jobs.job_ids[{index}]"), error },
            None => Error::Call(error),
        },
        _ => Error::Call(error),
    })?;
    Ok(v1::RetryJobsResponse {
        jobs_retried: done.retried,
        dependents_revived: done.revived,
        more: done.is_cut_short,
    })
}

pub(super) async fn start_jobs(
    handle: &Handle,
    request: v1::StartJobsRequest,
) -> Result<v1::StartJobsResponse, Error> {
    let jobs = request.jobs.as_ref().ok_or_else(|| Error::field("jobs", "says nothing: give jobs"))?;
    let jobs = convert::job_ids("jobs.job_ids", &jobs.job_ids)?;
    Ok(v1::StartJobsResponse { jobs_started: handle.start_now(jobs).await? })
}

/// The most flows of a call.
const FLOWS_MAX: usize = 1_000;

pub(super) async fn delete_flows(
    handle: &Handle,
    request: v1::DeleteFlowsRequest,
) -> Result<v1::DeleteFlowsResponse, Error> {
    let flows = flow_ids(&request.flow_ids)?;
    let judged = handle.delete_flows(&flows, request.dry_run).await?;
    Ok(v1::DeleteFlowsResponse { flows: judged.iter().map(convert::flow_deletion).collect() })
}

pub(super) async fn delete_jobs(
    handle: &Handle,
    request: v1::DeleteJobsRequest,
) -> Result<v1::DeleteJobsResponse, Error> {
    let jobs = convert::job_ids("job_ids", &request.job_ids)?;
    each_once("job_ids", &jobs)?;
    let judged = handle.delete_jobs(&jobs, request.dry_run).await?;
    Ok(v1::DeleteJobsResponse { flows: judged.iter().map(convert::flow_deletion).collect() })
}

pub(super) async fn pin_flows(
    handle: &Handle,
    request: v1::PinFlowsRequest,
) -> Result<v1::PinFlowsResponse, Error> {
    let changed = handle.pin_flows(&flow_ids(&request.flow_ids)?, !request.unpin).await?;
    Ok(v1::PinFlowsResponse { changed })
}

/// How many of these flows are deleted, whole or down to a stub.
pub(super) fn deleted(flows: &[v1::FlowDeletion]) -> u64 {
    use v1::FlowFate::{Stub, Whole};
    flows.iter().filter(|flow| matches!(flow.fate(), Whole | Stub)).count() as u64
}

fn flow_ids(ids: &[Bytes]) -> Result<Vec<FlowId>, Error> {
    if ids.is_empty() {
        return Err(Error::field("flow_ids", "names no flow"));
    }
    if ids.len() > FLOWS_MAX {
        return Err(Error::field("flow_ids", format!("must be at most {FLOWS_MAX}")));
    }
    let id = |(index, id): (usize, &Bytes)| convert::flow_id(&format!("flow_ids[{index}]"), id);
    let ids: Vec<FlowId> = ids.iter().enumerate().map(id).collect::<Result<_, _>>()?;
    each_once("flow_ids", &ids)?;
    Ok(ids)
}

fn each_once<T: Ord>(field: &str, ids: &[T]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match ids.iter().position(|id| !seen.insert(id)) {
        None => Ok(()),
        Some(index) => Err(Error::field(format!("{field}[{index}]"), "is named twice")),
    }
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
