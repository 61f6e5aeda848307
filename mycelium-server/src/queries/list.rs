//! Lists of jobs, flows and failures, in pages.

use std::sync::Arc;

use mycelium_core::ids::{FailureId, FinishNumber, FlowNumber, JobNumber};
use mycelium_core::image::FlowRecord;
use mycelium_core::labels::Labels;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_core::{ListCursor, ListFilter};
use mycelium_proto::v1;

use super::blame::failure_in;
use super::page;
use crate::broker::{CallError, Handle, cut_failure};
use crate::error::Error;
use crate::grpc::convert;
use crate::store::{
    FailureCursor, FailureRecord, FinishedQuery, FlowPage, FlowQuery, OccurrenceRecord, Store,
};

/// How many failures, or occurrences, are read at once.
const FAILURES_CHUNK: usize = 16;
/// Tokens of a list of jobs: among the unfinished, or the finished ones.
const UNFINISHED: char = 'u';
const FINISHED: char = 'f';

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) unfinished: Option<ListFilter>,
    pub(crate) finished: Option<FinishedQuery>,
}

/// Where a list of jobs goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobCursor {
    Unfinished(Option<ListCursor>),
    Finished(Option<FinishNumber>),
}

impl JobCursor {
    pub(crate) const START: Self = Self::Unfinished(None);

    pub(crate) fn read(token: &str) -> Result<Self, Error> {
        let invalid = || Error::field("page_token", "is not one that a previous page gave for the same list");
        let Some((kind, cursor)) = page::read(token, &[UNFINISHED, FINISHED])? else {
            return Ok(Self::START);
        };
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(|_| invalid());
        match (kind, cursor.len()) {
            (UNFINISHED, 16) => Ok(Self::Unfinished(Some(ListCursor {
                flow: FlowNumber(number(&cursor[..8])?),
                job: JobNumber(number(&cursor[8..])?),
            }))),
            (FINISHED, 0) => Ok(Self::Finished(None)),
            (FINISHED, 8) => Ok(Self::Finished(Some(FinishNumber(number(&cursor)?)))),
            _ => Err(invalid()),
        }
    }

    pub(crate) fn token(self) -> String {
        match self {
            Self::Unfinished(None) => String::new(),
            Self::Unfinished(Some(cursor)) => {
                page::token(UNFINISHED, &[cursor.flow.0.to_be_bytes(), cursor.job.0.to_be_bytes()].concat())
            }
            Self::Finished(None) => page::token(FINISHED, &[]),
            Self::Finished(Some(number)) => page::token(FINISHED, &number.0.to_be_bytes()),
        }
    }
}

/// A page of jobs.
#[derive(Debug, Default)]
pub(crate) struct JobsPage {
    pub(crate) jobs: Vec<v1::Job>,
    pub(crate) next: Option<JobCursor>,
    /// How many damaged records were left out.
    pub(crate) unreadable: u32,
}

/// A page of jobs: first the unfinished ones, then the finished ones.
pub(crate) async fn jobs_page(
    handle: &Handle,
    filter: &JobFilter,
    cursor: JobCursor,
    limit: usize,
) -> Result<JobsPage, CallError> {
    let mut jobs = Vec::new();
    let after = match cursor {
        JobCursor::Finished(after) => after,
        JobCursor::Unfinished(after) => {
            if let Some(unfinished) = filter.unfinished.clone() {
                let page =
                    handle.query(move |core, _| core.list_unfinished(&unfinished, after, limit, limit + 1));
                let page = page.await?;
                jobs.extend(page.jobs.iter().map(convert::unfinished_job));
                if let Some(next) = page.next {
                    let next = Some(JobCursor::Unfinished(Some(next)));
                    return Ok(JobsPage { jobs, next, unreadable: 0 });
                }
            }
            None
        }
    };
    let Some(finished) = &filter.finished else {
        return Ok(JobsPage { jobs, ..JobsPage::default() });
    };
    if jobs.len() >= limit {
        return Ok(JobsPage { jobs, next: Some(JobCursor::Finished(None)), unreadable: 0 });
    }
    let query = FinishedQuery { after, limit: limit - jobs.len(), ..finished.clone() };
    let page = handle.read(move |store| Ok(store.list_finished(&query)?)).await?;
    let unreadable = left_out("jobs", &page.damaged);
    jobs.extend(page.jobs.iter().map(convert::finished_job));
    let next = page.next.map(|next| JobCursor::Finished(Some(next)));
    Ok(JobsPage { jobs, next, unreadable })
}

/// Tells of what is left out of a page because it is damaged, and counts it.
fn left_out(list: &str, damaged: &[String]) -> u32 {
    let unreadable = u32::try_from(damaged.len()).unwrap_or(u32::MAX);
    if let Some(first) = damaged.first() {
        tracing::warn!(list, unreadable, first, "what is damaged is left out of a list");
    }
    unreadable
}

pub(crate) async fn list_jobs(
    handle: &Handle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, Error> {
    let cursor = JobCursor::read(&request.page_token)?;
    let limit = page::size(request.page_size);
    let filter = job_filter(&request)?;
    let JobsPage { jobs, next, unreadable } = jobs_page(handle, &filter, cursor, limit).await?;
    let next_page_token = next.map(JobCursor::token).unwrap_or_default();
    Ok(v1::ListJobsResponse { jobs, next_page_token, unreadable })
}

fn job_filter(request: &v1::ListJobsRequest) -> Result<JobFilter, Error> {
    let flow = match request.flow_id.len() {
        0 => None,
        _ => Some(convert::flow_id("flow_id", &request.flow_id)?),
    };
    let mut unfinished = Vec::new();
    let mut finished = Vec::new();
    for (index, status) in request.statuses.iter().enumerate() {
        match v1::JobStatus::try_from(*status) {
            Ok(v1::JobStatus::Pending) => unfinished.push(Status::Pending),
            Ok(v1::JobStatus::Ready) => unfinished.push(Status::Ready),
            Ok(v1::JobStatus::Running) => unfinished.push(Status::Running),
            Ok(v1::JobStatus::Done) => finished.push(FinalStatus::Done),
            Ok(v1::JobStatus::Failed) => finished.push(FinalStatus::Failed),
            Ok(v1::JobStatus::UpstreamFailed) => finished.push(FinalStatus::UpstreamFailed),
            Ok(v1::JobStatus::Cancelled) => finished.push(FinalStatus::Cancelled),
            Ok(v1::JobStatus::Skipped) => finished.push(FinalStatus::Skipped),
            Ok(v1::JobStatus::Unspecified) | Err(_) => {
                return Err(Error::field(format!("statuses[{index}]"), "is not a status"));
            }
        }
    }
    let labels = Labels::from(request.labels.clone());
    let any = request.statuses.is_empty();
    let by_time = request.finished_from.is_some() || request.finished_before.is_some();
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(JobFilter {
        unfinished: (!by_time && (any || !unfinished.is_empty())).then(|| ListFilter {
            flow,
            elf: named(&request.elf).map(Arc::from),
            task: named(&request.task).map(Arc::from),
            statuses: unfinished,
            labels: labels.clone(),
        }),
        finished: (any || !finished.is_empty()).then(|| FinishedQuery {
            flow,
            elf: named(&request.elf),
            task: named(&request.task),
            statuses: finished,
            labels,
            finished_from: request.finished_from.as_ref().map(convert::moment),
            finished_before: request.finished_before.as_ref().map(convert::moment),
            after: None,
            limit: 0,
        }),
    })
}

pub(crate) async fn get_flow(
    handle: &Handle,
    request: v1::GetFlowRequest,
) -> Result<v1::GetFlowResponse, Error> {
    use v1::get_flow_request::Flow;
    let record = match request.flow {
        Some(Flow::FlowId(id)) => {
            let id = convert::flow_id("flow_id", &id)?;
            let record = handle.read(move |store| Ok(store.flow(id)?)).await?;
            record.ok_or(mycelium_core::effects::Refusal::FlowNotFound(id))?
        }
        Some(Flow::Name(name)) => {
            let asked = name.clone();
            let record = handle.read(move |store| Ok(store.flow_named(&asked)?)).await?;
            record.ok_or(CallError::FlowNameNotFound(name))?
        }
        None => return Err(Error::field("flow", "says nothing: give an id or a name")),
    };
    let flow = flows_as_they_stand(handle, vec![record]).await?.pop();
    Ok(v1::GetFlowResponse { flow })
}

/// Adds to each flow what the core knows of its unfinished jobs.
async fn flows_as_they_stand(handle: &Handle, records: Vec<FlowRecord>) -> Result<Vec<v1::Flow>, CallError> {
    handle
        .query(move |core, _| {
            records
                .iter()
                .map(|record| match core.flow(record.id) {
                    Some(view) => convert::flow(&view),
                    None => convert::finished_flow(record),
                })
                .collect()
        })
        .await
}

pub(crate) async fn list_flows(
    handle: &Handle,
    request: v1::ListFlowsRequest,
) -> Result<v1::ListFlowsResponse, Error> {
    const KIND: char = 'w';
    let after = page::read_number(&request.page_token, KIND)?;
    let limit = page::size(request.page_size);
    let query = FlowQuery {
        name: (!request.name.is_empty()).then_some(request.name),
        labels: request.labels.into(),
        after: after.map(FlowNumber),
        limit,
    };
    let read = move |store: &dyn Store| Ok(store.list_flows(&query)?);
    let FlowPage { flows, next, damaged } = handle.read(read).await?;
    let unreadable = left_out("flows", &damaged);
    let next_page_token = next.map(|next| page::token(KIND, &next.0.to_be_bytes())).unwrap_or_default();
    let flows = flows_as_they_stand(handle, flows).await?;
    Ok(v1::ListFlowsResponse { flows, next_page_token, unreadable })
}

pub(crate) async fn list_failures(
    handle: &Handle,
    request: v1::ListFailuresRequest,
) -> Result<v1::ListFailuresResponse, Error> {
    const KIND: char = 'l';
    let after = page::read(&request.page_token, &[KIND])?.map(|(_, bytes)| FailureCursor(bytes));
    let limit = page::size(request.page_size);
    let read = move |store: &dyn Store| {
        let mut damaged = Vec::new();
        let read = |after: Option<&FailureCursor>, n| {
            let page = store.list_failures(after, n)?;
            damaged.extend(page.damaged);
            Ok(page.entries)
        };
        let page =
            page::fill(limit, FAILURES_CHUNK, after, read, |record: FailureRecord| failure_message(&record))?;
        Ok((page, left_out("failures", &damaged)))
    };
    let ((failures, next), unreadable) = handle.read(read).await?;
    let next_page_token = next.map(|next| page::token(KIND, &next.0)).unwrap_or_default();
    Ok(v1::ListFailuresResponse { failures, next_page_token, unreadable })
}

pub(crate) async fn get_failure(
    handle: &Handle,
    request: v1::GetFailureRequest,
) -> Result<v1::GetFailureResponse, Error> {
    const KIND: char = 'o';
    let id = FailureId::from_slice(&request.failure_id)
        .ok_or_else(|| Error::field("failure_id", "must be 16 bytes"))?;
    let after = page::read_number(&request.page_token, KIND)?;
    let limit = page::size(request.page_size);
    let read = move |store: &dyn Store| {
        let record = store.failure(id)?.ok_or(CallError::FailureNotFound(id))?;
        let read = |after: Option<&u64>, n| Ok(store.list_occurrences(id, after.copied(), n)?);
        let page = page::fill(limit, FAILURES_CHUNK, after, read, |one| Ok(occurrence_message(one)))?;
        Ok((failure_message(&record)?, page))
    };
    let (failure, (occurrences, next)) = handle.read(read).await?;
    let next_page_token = next.map(|next| page::token(KIND, &next.to_be_bytes())).unwrap_or_default();
    Ok(v1::GetFailureResponse { failure: Some(failure), occurrences, next_page_token })
}

fn occurrence_message(occurrence: OccurrenceRecord) -> v1::FailureOccurrence {
    // One that an earlier version has stored may be larger than is taken now.
    let mut words = v1::Failure {
        message: occurrence.message,
        details: occurrence.details,
        causes: occurrence
            .cause_messages
            .into_iter()
            .map(|message| v1::FailureCause { message, ..v1::FailureCause::default() })
            .collect(),
        ..v1::Failure::default()
    };
    cut_failure(&mut words);
    v1::FailureOccurrence {
        job_id: convert::id(occurrence.job.as_bytes()),
        attempt: occurrence.attempt.0,
        at: Some(convert::timestamp(occurrence.at)),
        message: words.message,
        details: words.details,
        cause_messages: words.causes.into_iter().map(|cause| cause.message).collect(),
    }
}

fn failure_message(record: &FailureRecord) -> Result<v1::FailureGroup, CallError> {
    Ok(v1::FailureGroup {
        failure_id: convert::id(record.id.as_bytes()),
        failure: Some(failure_in(record)?),
        occurrences: record.occurrences,
        first_seen: Some(convert::timestamp(record.first_seen)),
        last_seen: Some(convert::timestamp(record.last_seen)),
        elf: record.elf.as_ref().to_owned(),
        task: record.task.as_ref().to_owned(),
    })
}
