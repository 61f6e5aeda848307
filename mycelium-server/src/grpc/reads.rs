//! Calls that read: each converts its request, asks [`queries`](crate::queries), and converts the answer.

use mycelium_core::ids::{FailureId, Revision};
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::limits;
use mycelium_proto::v1;
use prost::Message as _;

use super::convert;
use super::reports::show_progress;
use crate::broker::{Handle, StoreState};
use crate::error::Error;
use crate::queries::flows::FlowName;
use crate::queries::graph::Root;
use crate::queries::jobs::{JobDetails, Shows};
use crate::queries::lineage::LineageOf;
use crate::queries::list::JobsQuery;
use crate::queries::{PageOf, attempts, elves, explain, failures, filter, flows, graph, jobs, lineage, list};

/// What an answer has beside the specification and what else is measured: tags, lengths, the head of the message.
const ANSWER_SPARE_BYTES: usize = 1024;

fn page_of(token: String, size: u32) -> PageOf {
    PageOf { token, size }
}

/// Nothing, if a text is empty.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) async fn get_job(
    handle: &Handle,
    request: v1::GetJobRequest,
) -> Result<v1::GetJobResponse, Error> {
    let id = convert::job_id("job_id", &request.job_id)?;
    let shows = Shows { spec: request.include_spec, values: request.include_values };
    let JobDetails { job, spec, values, blame } = jobs::job(handle, id, shows).await?;
    let mut shown = convert::job(&job);
    show_progress(handle.board(), &mut shown);
    let mut answer = v1::GetJobResponse {
        job: Some(shown),
        values: values.map(convert::values),
        failure: blame.failure.map(v1::Failure::from),
        root_cause: blame.root_cause.as_ref().map(convert::job),
        ..v1::GetJobResponse::default()
    };
    if let Some(mut spec) = spec {
        let asked = usize::try_from(request.answer_bytes_max).unwrap_or(usize::MAX);
        let max = asked.clamp(limits::ANSWER_BYTES_MAX, limits::MESSAGE_BYTES_MAX);
        let room = max.saturating_sub(answer.encoded_len() + ANSWER_SPARE_BYTES);
        answer.spec_bytes = spec.cut(room);
        answer.spec = Some(spec.into());
    }
    Ok(answer)
}

pub(super) async fn get_outputs(
    handle: &Handle,
    request: v1::GetOutputsRequest,
) -> Result<v1::GetOutputsResponse, Error> {
    let ids = convert::job_ids("job_ids", &request.job_ids)?;
    let jobs = jobs::outputs(handle, ids).await?.into_iter().map(convert::job_outputs).collect();
    Ok(v1::GetOutputsResponse { jobs })
}

pub(super) async fn list_jobs(
    handle: &Handle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, Error> {
    let query = match request.filter.as_str() {
        "" => listed_by_fields(&request)?,
        filter => listed_by_filter(handle, filter, &request).await?,
    };
    let page = list::jobs(handle, query, &page_of(request.page_token, request.page_size)).await?;
    let mut jobs: Vec<v1::Job> = page.entries.iter().map(convert::job).collect();
    jobs.iter_mut().for_each(|job| show_progress(handle.board(), job));
    Ok(v1::ListJobsResponse { jobs, next_page_token: page.next, unreadable: page.unreadable })
}

fn listed_by_fields(request: &v1::ListJobsRequest) -> Result<JobsQuery, Error> {
    let flow = match request.flow_id.len() {
        0 => None,
        _ => Some(convert::flow_id("flow_id", &request.flow_id)?),
    };
    let statuses = request.statuses.iter().enumerate();
    Ok(JobsQuery {
        flow,
        elf: given(request.elf.clone()),
        task: given(request.task.clone()),
        statuses: statuses.map(|(index, status)| read_status(index, *status)).collect::<Result<_, _>>()?,
        labels: request.labels.clone().into(),
        finished_from: request.finished_from.as_ref().map(convert::moment),
        finished_before: request.finished_before.as_ref().map(convert::moment),
        failure: None,
        text: None,
    })
}

/// What the words of a filter ask for, which stand in place of the other fields.
async fn listed_by_filter(
    handle: &Handle,
    filter: &str,
    request: &v1::ListJobsRequest,
) -> Result<JobsQuery, Error> {
    let v1::ListJobsRequest { page_size, page_token, mycelium, filter: _, .. } = request.clone();
    let alone = v1::ListJobsRequest {
        mycelium,
        filter: filter.to_owned(),
        page_size,
        page_token,
        ..v1::ListJobsRequest::default()
    };
    if alone != *request {
        return Err(Error::field(
            "filter",
            "stands in place of the fields that say which jobs, and some are given",
        ));
    }
    let filter = filter::parse(filter, handle.clock().now().wall)
        .map_err(|error| Error::field("filter", error.to_string()))?;
    let flow = match &filter.flow {
        None => None,
        Some(name) => Some(flows::named(handle, name).await?),
    };
    Ok(filter.query(flow))
}

fn read_status(index: usize, status: i32) -> Result<Status, Error> {
    Ok(match v1::JobStatus::try_from(status) {
        Ok(v1::JobStatus::Pending) => Status::Pending,
        Ok(v1::JobStatus::Ready) => Status::Ready,
        Ok(v1::JobStatus::Assigned) => Status::Assigned,
        Ok(v1::JobStatus::Running) => Status::Running,
        Ok(v1::JobStatus::Done) => Status::Final(FinalStatus::Done),
        Ok(v1::JobStatus::Failed) => Status::Final(FinalStatus::Failed),
        Ok(v1::JobStatus::UpstreamFailed) => Status::Final(FinalStatus::UpstreamFailed),
        Ok(v1::JobStatus::Cancelled) => Status::Final(FinalStatus::Cancelled),
        Ok(v1::JobStatus::Expired) => Status::Final(FinalStatus::Expired),
        Ok(v1::JobStatus::Skipped) => Status::Final(FinalStatus::Skipped),
        Ok(v1::JobStatus::Unspecified) | Err(_) => {
            return Err(Error::field(format!("statuses[{index}]"), "is not a status"));
        }
    })
}

pub(super) async fn get_flow(
    handle: &Handle,
    request: v1::GetFlowRequest,
) -> Result<v1::GetFlowResponse, Error> {
    use v1::get_flow_request::Flow;
    let named = match request.flow {
        Some(Flow::FlowId(id)) => FlowName::Id(convert::flow_id("flow_id", &id)?),
        Some(Flow::Name(name)) => FlowName::Name(name),
        None => return Err(Error::field("flow", "says nothing: give an id or a name")),
    };
    let flow = flows::flow(handle, named).await?;
    Ok(v1::GetFlowResponse { flow: Some(convert::flow(&flow)) })
}

pub(super) async fn list_flows(
    handle: &Handle,
    request: v1::ListFlowsRequest,
) -> Result<v1::ListFlowsResponse, Error> {
    let page = page_of(request.page_token, request.page_size);
    let page = flows::flows(handle, given(request.name), request.labels.into(), &page).await?;
    Ok(v1::ListFlowsResponse {
        flows: page.entries.iter().map(convert::flow).collect(),
        next_page_token: page.next,
        unreadable: page.unreadable,
    })
}

pub(super) async fn get_graph(
    handle: &Handle,
    request: v1::GetGraphRequest,
) -> Result<v1::GetGraphResponse, Error> {
    use v1::get_graph_request::Root as Asked;
    let root = match &request.root {
        Some(Asked::FlowId(id)) => Root::Flow(convert::flow_id("flow_id", id)?),
        Some(Asked::JobId(id)) => Root::Job { id: convert::job_id("job_id", id)?, depth: request.depth },
        None => return Err(Error::field("root", "says nothing: give a flow or a job")),
    };
    let page = page_of(request.page_token, request.page_size);
    Ok(convert::graph(graph::graph(handle, root, &page, request.include_values).await?))
}

pub(super) async fn get_lineage(
    handle: &Handle,
    request: v1::GetLineageRequest,
) -> Result<v1::GetLineageResponse, Error> {
    let of = LineageOf {
        job: convert::job_id("job_id", &request.job_id)?,
        output: request.output,
        down: request.down,
        shows_values: request.include_values,
    };
    let page = page_of(request.page_token, request.page_size);
    Ok(convert::lineage(lineage::lineage(handle, of, &page).await?))
}

pub(super) async fn explain_job(
    handle: &Handle,
    request: v1::ExplainJobRequest,
) -> Result<v1::ExplainJobResponse, Error> {
    let id = convert::job_id("job_id", &request.job_id)?;
    let (job, reason) = explain::explain(handle, id).await?;
    Ok(convert::explained(&job, reason))
}

pub(super) async fn list_attempts(
    handle: &Handle,
    request: v1::ListAttemptsRequest,
) -> Result<v1::ListAttemptsResponse, Error> {
    let id = convert::job_id("job_id", &request.job_id)?;
    Ok(convert::attempts(&attempts::attempts(handle, id).await?))
}

pub(super) async fn list_elves(
    handle: &Handle,
    request: v1::ListElvesRequest,
) -> Result<v1::ListElvesResponse, Error> {
    let page = elves::elves(handle, &page_of(request.page_token, request.page_size)).await?;
    let elves = page.entries.into_iter().map(convert::elf).collect();
    Ok(v1::ListElvesResponse { elves, next_page_token: page.next })
}

pub(super) async fn get_elf(
    handle: &Handle,
    request: v1::GetElfRequest,
) -> Result<v1::GetElfResponse, Error> {
    Ok(v1::GetElfResponse { elf: Some(convert::elf(elves::elf(handle, request.name).await?)) })
}

pub(super) async fn list_revisions(
    handle: &Handle,
    request: v1::ListRevisionsRequest,
) -> Result<v1::ListRevisionsResponse, Error> {
    let page = page_of(request.page_token, request.page_size);
    let page = elves::revisions(handle, request.elf, &page).await?;
    let revisions = page.entries.into_iter().map(convert::revision).collect();
    Ok(v1::ListRevisionsResponse { revisions, next_page_token: page.next })
}

pub(super) async fn get_revision(
    handle: &Handle,
    request: v1::GetRevisionRequest,
) -> Result<v1::GetRevisionResponse, Error> {
    let revision = Revision::from_slice(&request.revision)
        .ok_or_else(|| Error::field("revision", "must be 32 bytes"))?;
    let found = elves::revision(handle, request.elf, request.task, revision).await?;
    Ok(v1::GetRevisionResponse { revision: Some(convert::revision(found)) })
}

pub(super) async fn list_failures(
    handle: &Handle,
    request: v1::ListFailuresRequest,
) -> Result<v1::ListFailuresResponse, Error> {
    let page = failures::failures(handle, &page_of(request.page_token, request.page_size)).await?;
    Ok(v1::ListFailuresResponse {
        failures: page.entries.into_iter().map(convert::failure_group).collect(),
        next_page_token: page.next,
        unreadable: page.unreadable,
    })
}

pub(super) async fn get_failure(
    handle: &Handle,
    request: v1::GetFailureRequest,
) -> Result<v1::GetFailureResponse, Error> {
    let id = FailureId::from_slice(&request.failure_id)
        .ok_or_else(|| Error::field("failure_id", "must be 16 bytes"))?;
    let page = page_of(request.page_token, request.page_size);
    let (failure, page) = failures::failure(handle, id, &page).await?;
    Ok(v1::GetFailureResponse {
        failure: Some(convert::failure_group(failure)),
        occurrences: page.entries.into_iter().map(convert::occurrence).collect(),
        next_page_token: page.next,
    })
}

pub(super) async fn get_status(
    handle: &Handle,
    _request: v1::GetStatusRequest,
) -> Result<v1::GetStatusResponse, Error> {
    let (counts, commit) = handle.query(|core, commit| (core.status(), commit)).await?;
    Ok(v1::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: handle.store().kind().to_owned(),
        durable: handle.store().is_durable(),
        started_at: Some(convert::timestamp(handle.clock().started_at())),
        commit: commit.0,
        unfinished: Some(v1::JobCounts {
            pending: counts.pending,
            ready: counts.ready,
            running: counts.assigned + counts.running,
            assigned: counts.assigned,
            ..v1::JobCounts::default()
        }),
        sessions: u32::try_from(counts.sessions).unwrap_or(u32::MAX),
        process_id: std::process::id(),
        outcomes_stale: counts.outcomes_stale,
        store_problem: match handle.store_state().borrow().store {
            StoreState::Full => "disk full".to_owned(),
            StoreState::ReadOnly => "read-only".to_owned(),
            // A reader that has gone gets no answer.
            StoreState::Writable | StoreState::Unavailable => String::new(),
        },
    })
}
