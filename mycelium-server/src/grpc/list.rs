//! Lists, in pages.

use std::sync::Arc;

use mycelium_core::ids::{FailureId, FinishNumber, FlowNumber, JobNumber, Revision};
use mycelium_core::image::FlowRecord;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_core::{ElfView, ListCursor, ListFilter};
use mycelium_proto::v1;
use prost::Message as _;

use super::convert;
use super::page;
use super::status::Error;
use crate::broker::{CallError, Handle};
use crate::store::{ElfRecord, FailureCursor, FailureRecord, FinishedQuery, RevisionCursor, RevisionRecord};

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

/// A page of jobs: first the unfinished ones, then the finished ones.
pub(crate) async fn jobs_page(
    handle: &Handle,
    filter: &JobFilter,
    cursor: JobCursor,
    limit: usize,
) -> Result<(Vec<v1::Job>, Option<JobCursor>), CallError> {
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
                    return Ok((jobs, Some(JobCursor::Unfinished(Some(next)))));
                }
            }
            None
        }
    };
    let Some(finished) = &filter.finished else { return Ok((jobs, None)) };
    if jobs.len() >= limit {
        return Ok((jobs, Some(JobCursor::Finished(None))));
    }
    let query = FinishedQuery { after, limit: limit - jobs.len(), ..finished.clone() };
    let page = handle.read(move |store| Ok(store.list_finished(&query)?)).await?;
    for what in &page.damaged {
        tracing::error!(what, "a damaged job is left out of a list");
    }
    jobs.extend(page.jobs.iter().map(convert::finished_job));
    Ok((jobs, page.next.map(|next| JobCursor::Finished(Some(next)))))
}

pub(crate) async fn list_jobs(
    handle: &Handle,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, Error> {
    let cursor = JobCursor::read(&request.page_token)?;
    let limit = page::size(request.page_size);
    let filter = job_filter(&request)?;
    let (jobs, next) = jobs_page(handle, &filter, cursor, limit).await?;
    Ok(v1::ListJobsResponse { jobs, next_page_token: next.map(JobCursor::token).unwrap_or_default() })
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
    let any = request.statuses.is_empty();
    let by_time = request.finished_from.is_some() || request.finished_before.is_some();
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(JobFilter {
        unfinished: (!by_time && (any || !unfinished.is_empty())).then(|| ListFilter {
            flow,
            elf: named(&request.elf).map(Arc::from),
            task: named(&request.task).map(Arc::from),
            statuses: unfinished,
        }),
        finished: (any || !finished.is_empty()).then(|| FinishedQuery {
            flow,
            elf: named(&request.elf),
            task: named(&request.task),
            statuses: finished,
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
    let name = (!request.name.is_empty()).then_some(request.name);
    let mut records =
        handle.read(move |store| Ok(store.list_flows(name.as_deref(), after, limit + 1)?)).await?;
    let next_page_token = match cut_page(&mut records, limit) {
        Some(last) => page::token(KIND, &last.number.0.to_be_bytes()),
        None => String::new(),
    };
    Ok(v1::ListFlowsResponse { flows: flows_as_they_stand(handle, records).await?, next_page_token })
}

/// Cuts a page that was read with one entry too many; the last entry that stays, if there are more.
fn cut_page<T>(entries: &mut Vec<T>, limit: usize) -> Option<&T> {
    if entries.len() <= limit {
        return None;
    }
    entries.truncate(limit);
    entries.last()
}

pub(crate) async fn list_elves(
    handle: &Handle,
    request: v1::ListElvesRequest,
) -> Result<v1::ListElvesResponse, Error> {
    const KIND: char = 'e';
    let after = match page::read(&request.page_token, &[KIND])? {
        None => None,
        Some((_, bytes)) => {
            Some(String::from_utf8(bytes).map_err(|_| Error::field("page_token", "is not a token"))?)
        }
    };
    let limit = page::size(request.page_size);
    let mut records = handle.read(move |store| Ok(store.list_elves(after.as_deref(), limit + 1)?)).await?;
    let next_page_token = match cut_page(&mut records, limit) {
        Some(last) => page::token(KIND, last.name.as_bytes()),
        None => String::new(),
    };
    let mut elves = elves_as_they_stand(handle, records).await?;
    for declaration in elves.iter_mut().filter_map(|elf| elf.declaration.as_mut()) {
        declaration.source.clear();
        declaration.tasks.iter_mut().for_each(|task| task.source.clear());
    }
    Ok(v1::ListElvesResponse { elves, next_page_token })
}

pub(crate) async fn get_elf(
    handle: &Handle,
    request: v1::GetElfRequest,
) -> Result<v1::GetElfResponse, Error> {
    let name = request.name.clone();
    let record = handle.read(move |store| Ok(store.elf(&name)?)).await?;
    let record = record.ok_or(CallError::ElfNotFound(request.name))?;
    Ok(v1::GetElfResponse { elf: elves_as_they_stand(handle, vec![record]).await?.pop() })
}

async fn elves_as_they_stand(handle: &Handle, records: Vec<ElfRecord>) -> Result<Vec<v1::Elf>, CallError> {
    let names: Vec<Arc<str>> = records.iter().map(|record| Arc::clone(&record.name)).collect();
    let views =
        handle.query(move |core, _| names.iter().map(|name| core.elf(name)).collect::<Vec<_>>()).await?;
    let mut elves = Vec::with_capacity(records.len());
    for (record, view) in records.iter().zip(views) {
        elves.push(elf_message(handle, record, view)?);
    }
    Ok(elves)
}

fn elf_message(handle: &Handle, record: &ElfRecord, view: Option<ElfView>) -> Result<v1::Elf, CallError> {
    let declaration = v1::ElfDeclaration::decode(record.body.clone()).map_err(|error| {
        CallError::Unreadable(format!("the declaration of elf `{}`: {error}", record.name))
    })?;
    let (instances, ready, running) =
        view.map_or((Vec::new(), 0, 0), |view| (view.instances, view.ready, view.running));
    let instances = instances.into_iter().map(|instance| {
        let process = handle.processes().get(instance.session);
        v1::ElfInstance {
            instance_id: convert::id(instance.instance.as_bytes()),
            session: instance.session.0,
            connected: instance.connected,
            window: instance.window,
            held: instance.held,
            process_id: process.as_ref().map_or(0, |process| process.id),
            host: process.map(|process| process.host).unwrap_or_default(),
        }
    });
    Ok(v1::Elf {
        declaration: Some(declaration),
        first_seen: Some(convert::timestamp(record.first_seen)),
        last_seen: Some(convert::timestamp(record.last_seen)),
        instances: instances.collect(),
        jobs_ready: ready,
        jobs_running: running,
    })
}

pub(crate) async fn list_revisions(
    handle: &Handle,
    request: v1::ListRevisionsRequest,
) -> Result<v1::ListRevisionsResponse, Error> {
    const KIND: char = 'r';
    let after = page::read(&request.page_token, &[KIND])?.map(|(_, bytes)| RevisionCursor(bytes));
    let limit = page::size(request.page_size);
    let elf = request.elf.clone();
    let (known, mut records) = handle
        .read(move |store| {
            Ok((store.elf(&elf)?.is_some(), store.list_revisions(&elf, after.as_ref(), limit + 1)?))
        })
        .await?;
    if !known {
        return Err(CallError::ElfNotFound(request.elf).into());
    }
    let next_page_token = match cut_page(&mut records, limit) {
        Some((cursor, _)) => page::token(KIND, &cursor.0),
        None => String::new(),
    };
    let mut revisions = Vec::with_capacity(records.len());
    for (_, record) in &records {
        let mut revision = revision_message(record)?;
        revision.source.clear();
        revision.docs.clear();
        revisions.push(revision);
    }
    Ok(v1::ListRevisionsResponse { revisions, next_page_token })
}

pub(crate) async fn get_revision(
    handle: &Handle,
    request: v1::GetRevisionRequest,
) -> Result<v1::GetRevisionResponse, Error> {
    let revision = Revision::from_slice(&request.revision)
        .ok_or_else(|| Error::field("revision", "must be 32 bytes"))?;
    let record = handle.read(move |store| Ok(store.revision(&request.elf, &request.task, revision)?)).await?;
    let record = record.ok_or(CallError::RevisionNotFound)?;
    Ok(v1::GetRevisionResponse { revision: Some(revision_message(&record)?) })
}

fn revision_message(record: &RevisionRecord) -> Result<v1::Revision, CallError> {
    let mut revision = v1::Revision::decode(record.body.clone())
        .map_err(|error| CallError::Unreadable(format!("a revision of elf `{}`: {error}", record.elf)))?;
    revision.first_seen = Some(convert::timestamp(record.first_seen));
    Ok(revision)
}

pub(crate) async fn list_failures(
    handle: &Handle,
    request: v1::ListFailuresRequest,
) -> Result<v1::ListFailuresResponse, Error> {
    const KIND: char = 'l';
    let after = page::read(&request.page_token, &[KIND])?.map(|(_, bytes)| FailureCursor(bytes));
    let limit = page::size(request.page_size);
    let mut records = handle.read(move |store| Ok(store.list_failures(after.as_ref(), limit + 1)?)).await?;
    let next_page_token = match cut_page(&mut records, limit) {
        Some((cursor, _)) => page::token(KIND, &cursor.0),
        None => String::new(),
    };
    let failures: Result<Vec<_>, CallError> =
        records.iter().map(|(_, record)| failure_message(record)).collect();
    Ok(v1::ListFailuresResponse { failures: failures?, next_page_token })
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
    let (record, mut occurrences) = handle
        .read(move |store| Ok((store.failure(id)?, store.list_occurrences(id, after, limit + 1)?)))
        .await?;
    let record = record.ok_or(CallError::FailureNotFound(id))?;
    let next_page_token = match cut_page(&mut occurrences, limit) {
        Some((number, _)) => page::token(KIND, &number.to_be_bytes()),
        None => String::new(),
    };
    let occurrences = occurrences.into_iter().map(|(_, occurrence)| v1::FailureOccurrence {
        job_id: convert::id(occurrence.job.as_bytes()),
        attempt: occurrence.attempt.0,
        at: Some(convert::timestamp(occurrence.at)),
        message: occurrence.message,
        details: occurrence.details,
        cause_messages: occurrence.cause_messages,
    });
    Ok(v1::GetFailureResponse {
        failure: Some(failure_message(&record)?),
        occurrences: occurrences.collect(),
        next_page_token,
    })
}

fn failure_message(record: &FailureRecord) -> Result<v1::FailureGroup, CallError> {
    let failure = v1::Failure::decode(record.body.clone())
        .map_err(|error| CallError::Unreadable(format!("failure {}: {error}", record.id)))?;
    Ok(v1::FailureGroup {
        failure_id: convert::id(record.id.as_bytes()),
        failure: Some(failure),
        occurrences: record.occurrences,
        first_seen: Some(convert::timestamp(record.first_seen)),
        last_seen: Some(convert::timestamp(record.last_seen)),
        elf: record.elf.as_ref().to_owned(),
        task: record.task.as_ref().to_owned(),
    })
}
