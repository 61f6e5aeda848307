//! Reading jobs one by one: `GetJob`, `GetOutputs`, `ExplainJob`, and cancelling and retrying them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::command::Scope;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{JobId, SessionId, Timestamp};
use mycelium_core::{Explanation, JobView};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use prost::Message as _;

use super::blame::blame;
use super::values;
use crate::broker::{CallError, Handle, Report};
use crate::error::Error;
use crate::grpc::convert;
use crate::store::{FinishedRecord, SpecRecord, Store, isolate};

/// About how many bytes of outputs go into one answer.
const OUTPUTS_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What an answer has beside the specification and what else is measured: tags, lengths, the head of the message.
const ANSWER_SPARE_BYTES: usize = 1024;
/// How many of the jobs that a job waits for are named.
const WAITS_FOR_SHOWN_MAX: usize = 100;

/// A job as it stands.
#[derive(Debug)]
pub(crate) enum Found {
    Unfinished(JobView),
    Finished(FinishedRecord),
}

impl Found {
    pub(crate) fn to_message(&self) -> v1::Job {
        match self {
            Self::Unfinished(view) => convert::unfinished_job(view),
            Self::Finished(record) => convert::finished_job(record),
        }
    }

    pub(crate) fn status(&self) -> v1::JobStatus {
        match self {
            Self::Unfinished(view) => convert::status(view.status),
            Self::Finished(record) => convert::final_status(record.end.status()),
        }
    }
}

/// Finds jobs, in the order of `ids`.
///
/// The core is asked first: a job that finishes between the two questions is then found in the store. One that is
/// retried in between is in neither, so the core is asked again about what was not found.
pub(crate) async fn find_all(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<Option<Found>>, CallError> {
    let mut found: HashMap<JobId, Found> = HashMap::with_capacity(ids.len());
    for _ in 0..2 {
        let missing: Vec<JobId> = ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
        if missing.is_empty() {
            break;
        }
        let asked = missing.clone();
        let views =
            handle.query(move |core, _| asked.iter().filter_map(|id| core.job(*id)).collect::<Vec<_>>());
        found.extend(views.await?.into_iter().map(|view| (view.head.id, Found::Unfinished(view))));
        let asked: Vec<JobId> = missing.into_iter().filter(|id| !found.contains_key(id)).collect();
        let records = handle.read(move |store| Ok(store.finished(&asked)?)).await?;
        found.extend(records.into_iter().flatten().map(|record| (record.head.id, Found::Finished(record))));
    }
    Ok(ids.iter().map(|id| found.remove(id)).collect())
}

/// As [`find_all`], for those who show what can be shown: a job whose record is damaged is left out.
pub(crate) async fn find_readable(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<Option<Found>>, CallError> {
    match find_all(handle, ids.clone()).await {
        Err(CallError::Read(error)) if error.is_damage() => {}
        found => return found,
    }
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(match find_all(handle, vec![id]).await {
            Ok(mut found) => found.pop().flatten(),
            Err(CallError::Read(error)) if error.is_damage() => {
                tracing::error!(job = %id, error = %Report(&*error), "a damaged job is left out");
                None
            }
            Err(error) => return Err(error),
        });
    }
    Ok(found)
}

/// Finds a job.
pub(crate) async fn find(handle: &Handle, id: JobId) -> Result<Found, CallError> {
    let found = find_all(handle, vec![id]).await?.pop().flatten();
    found.ok_or_else(|| Refusal::JobNotFound(id).into())
}

pub(crate) async fn get_job(
    handle: &Handle,
    request: v1::GetJobRequest,
) -> Result<v1::GetJobResponse, Error> {
    let id = convert::job_id("job_id", &request.job_id)?;
    let found = find(handle, id).await?;
    let spec =
        if request.include_spec { handle.read(move |store| read_spec(store, id)).await? } else { None };
    let job = found.to_message();
    let values = if request.include_values {
        values::of_jobs(handle, std::slice::from_ref(&job)).await?.pop()
    } else {
        None
    };
    let blame = blame(handle, &found).await?;
    let mut answer = v1::GetJobResponse {
        job: Some(job),
        values,
        failure: blame.failure,
        root_cause: blame.root_cause,
        ..v1::GetJobResponse::default()
    };
    if let Some(mut spec) = spec {
        let asked = usize::try_from(request.answer_bytes_max).unwrap_or(usize::MAX);
        let max = asked.clamp(limits::ANSWER_BYTES_MAX, limits::MESSAGE_BYTES_MAX);
        let room = max.saturating_sub(answer.encoded_len() + ANSWER_SPARE_BYTES);
        answer.spec_bytes = cut_spec(&mut spec, room);
        answer.spec = Some(spec);
    }
    Ok(answer)
}

/// Leaves out of a specification what takes most, until there is room for it. How many bytes it took, if that was needed.
fn cut_spec(spec: &mut v1::JobSpec, room: usize) -> u64 {
    let bytes = spec.encoded_len();
    let leave_out: [fn(&mut v1::JobSpec); 2] =
        [|spec| leave_out_literals(&mut spec.nodes), |spec| (spec.nodes, spec.after) = Default::default()];
    for leave_out in leave_out {
        if spec.encoded_len() <= room {
            break;
        }
        leave_out(spec);
    }
    if spec.encoded_len() < bytes { bytes as u64 } else { 0 }
}

/// Leaves the larger literals without content, in bodies too. Their depth was checked when they were submitted.
fn leave_out_literals(nodes: &mut [v1::ValueNode]) {
    for node in nodes {
        match &mut node.kind {
            Some(value_node::Kind::Literal(literal)) => {
                if let Some(payload::Content::Inline(bytes)) = &literal.content
                    && bytes.len() > limits::VALUE_PREVIEW_BYTES_MAX
                {
                    literal.content = None;
                }
            }
            Some(value_node::Kind::Operation(v1::Operation { body: Some(body), .. })) => {
                leave_out_literals(&mut body.nodes);
            }
            Some(_) | None => {}
        }
    }
}

/// The specification of a job, as it was submitted.
pub(crate) fn read_spec(store: &dyn Store, id: JobId) -> Result<Option<v1::JobSpec>, CallError> {
    match store.specs(&[id])?.pop().flatten() {
        None => Ok(None),
        Some(record) => decode_spec(id, record.body).map(Some),
    }
}

/// Specifications, for those who show what can be shown: one that is damaged is left out.
pub(crate) fn readable_specs(store: &dyn Store, ids: &[JobId]) -> Result<Vec<Option<SpecRecord>>, CallError> {
    let specs = isolate(ids, |ids| store.specs(ids))?;
    let readable = ids.iter().zip(specs).map(|(id, spec)| {
        spec.unwrap_or_else(|what| {
            tracing::error!(job = %id, error = what, "a damaged specification is left out");
            None
        })
    });
    Ok(readable.collect())
}

pub(crate) fn decode_spec(id: JobId, body: Bytes) -> Result<v1::JobSpec, CallError> {
    v1::JobSpec::decode(body)
        .map_err(|error| CallError::Unreadable(format!("the specification of job {id}: {error}")))
}

/// Outputs as they are stored.
pub(crate) fn decode_outputs(id: JobId, encoded: Bytes) -> Result<Vec<v1::Output>, CallError> {
    v1::Outputs::decode(encoded)
        .map(|outputs| outputs.outputs)
        .map_err(|error| CallError::Unreadable(format!("the outputs of job {id}: {error}")))
}

pub(crate) async fn get_outputs(
    handle: &Handle,
    request: v1::GetOutputsRequest,
) -> Result<v1::GetOutputsResponse, Error> {
    let ids = job_ids("job_ids", &request.job_ids)?;
    let found = find_all(handle, ids.clone()).await?;
    let mut jobs = Vec::with_capacity(ids.len());
    for (id, found) in ids.into_iter().zip(found) {
        let found = found.ok_or_else(|| Error::from(Refusal::JobNotFound(id)))?;
        jobs.push((id, found.status()));
    }
    let jobs = handle.read(move |store| outputs_up_to(store, &jobs, OUTPUTS_BYTES_MAX)).await?;
    Ok(v1::GetOutputsResponse { jobs })
}

/// Outputs of `jobs` in their order, until about `bytes_max` are reached; at least one.
fn outputs_up_to(
    store: &dyn Store,
    jobs: &[(JobId, v1::JobStatus)],
    bytes_max: usize,
) -> Result<Vec<v1::JobOutputs>, CallError> {
    // What is read and does not fit is read in vain.
    const CHUNK: usize = 8;
    let mut answered = Vec::with_capacity(jobs.len());
    let mut bytes = 0;
    for chunk in jobs.chunks(CHUNK) {
        let done: Vec<JobId> =
            chunk.iter().filter(|(_, status)| *status == v1::JobStatus::Done).map(|(id, _)| *id).collect();
        let mut encoded: HashMap<JobId, Result<Option<Bytes>, String>> =
            done.iter().copied().zip(isolate(&done, |done| store.outputs(done))?).collect();
        for (id, status) in chunk {
            let encoded = match encoded.remove(id).unwrap_or(Ok(None)) {
                Ok(encoded) => encoded.unwrap_or_default(),
                // Who goes on asking for the rest is told which one is damaged.
                Err(_) if !answered.is_empty() => return Ok(answered),
                Err(what) => return Err(CallError::Unreadable(format!("the outputs of job {id}: {what}"))),
            };
            if !answered.is_empty() && bytes + encoded.len() > bytes_max {
                return Ok(answered);
            }
            bytes += encoded.len() + 32;
            answered.push(v1::JobOutputs {
                job_id: convert::id(id.as_bytes()),
                status: (*status).into(),
                outputs: decode_outputs(*id, encoded)?,
            });
        }
    }
    Ok(answered)
}

pub(crate) fn job_ids(field: &str, ids: &[Bytes]) -> Result<Vec<JobId>, Error> {
    if ids.len() > limits::JOB_IDS_MAX {
        return Err(Error::field(field, format!("must be at most {}", limits::JOB_IDS_MAX)));
    }
    ids.iter().enumerate().map(|(index, id)| convert::job_id(&format!("{field}[{index}]"), id)).collect()
}

pub(crate) async fn cancel(
    handle: &Handle,
    request: v1::CancelJobsRequest,
) -> Result<v1::CancelJobsResponse, Error> {
    let scope = match &request.scope {
        Some(v1::cancel_jobs_request::Scope::FlowId(id)) => Scope::Flow(convert::flow_id("flow_id", id)?),
        Some(v1::cancel_jobs_request::Scope::Jobs(jobs)) => {
            Scope::Jobs(job_ids("jobs.job_ids", &jobs.job_ids)?)
        }
        None => return Err(Error::field("scope", "says nothing: give a flow or jobs")),
    };
    let done = handle.cancel(scope).await?;
    Ok(v1::CancelJobsResponse {
        jobs_cancelled: done.cancelled,
        jobs_final: done.already_final,
        jobs_unreadable: done.unreadable,
    })
}

pub(crate) async fn retry(
    handle: &Handle,
    request: v1::RetryJobsRequest,
) -> Result<v1::RetryJobsResponse, Error> {
    let scope = match &request.scope {
        Some(v1::retry_jobs_request::Scope::FlowId(id)) => Scope::Flow(convert::flow_id("flow_id", id)?),
        Some(v1::retry_jobs_request::Scope::Jobs(jobs)) => {
            Scope::Jobs(job_ids("jobs.job_ids", &jobs.job_ids)?)
        }
        None => return Err(Error::field("scope", "says nothing: give a flow or jobs")),
    };
    let done = handle.retry(scope).await?;
    Ok(v1::RetryJobsResponse {
        jobs_retried: done.retried,
        dependents_revived: done.revived,
        more: done.is_cut_short,
    })
}

pub(crate) async fn explain(
    handle: &Handle,
    request: v1::ExplainJobRequest,
) -> Result<v1::ExplainJobResponse, Error> {
    use v1::reason::Kind;
    let id = convert::job_id("job_id", &request.job_id)?;
    let explained = handle.query(move |core, _| core.job(id).zip(core.explain(id))).await?;
    let Some((view, explanation)) = explained else {
        let found = find(handle, id).await?;
        let job = found.to_message();
        let ended = v1::Ended {
            status: job.status,
            failure_id: job.failure_id.clone(),
            cause_job_id: job.cause_job_id.clone(),
        };
        return Ok(v1::ExplainJobResponse {
            job: Some(job),
            reason: Some(v1::Reason { kind: Some(Kind::Ended(ended)) }),
        });
    };
    let kind = match explanation {
        Explanation::WaitsForJobs { count } => {
            Kind::WaitsForJobs(v1::WaitsForJobs { count, jobs: waited_for(handle, id).await? })
        }
        // About to end: what it waited for tells why.
        Explanation::Settling | Explanation::Cancelling => Kind::WaitsForJobs(v1::WaitsForJobs {
            count: view.waiting_for,
            jobs: waited_for(handle, id).await?,
        }),
        Explanation::Evaluating { is_gathering } => {
            let what =
                if is_gathering { v1::EvaluatingWhat::Outputs } else { decided_by(handle, id).await? };
            Kind::Evaluating(v1::Evaluating { what: what.into() })
        }
        Explanation::WaitsForElements { elements, unfinished, jobs } => {
            let jobs = jobs.iter().map(convert::unfinished_job).collect();
            Kind::WaitsForElements(v1::WaitsForElements { elements, unfinished, jobs })
        }
        Explanation::NotSealed { submission } => {
            Kind::NotSealed(v1::NotSealed { submission_id: convert::id(submission.as_bytes()) })
        }
        Explanation::HandedBack { times, until } => {
            let now = handle.clock().now();
            let left = u64::try_from(until.since(now.steady).as_micros()).unwrap_or(u64::MAX);
            let until = Timestamp(now.wall.0.saturating_add(left));
            Kind::HandedBack(v1::HandedBack { times, until: Some(convert::timestamp(until)) })
        }
        Explanation::NoInstance { instances } => {
            let elf_known = handle.registry().elf(&view.head.elf).is_some();
            Kind::NoInstance(v1::NoInstance { elf_known, instances })
        }
        Explanation::NoFreeWindow { instances, window, held, jobs_before } => {
            Kind::NoFreeWindow(v1::NoFreeWindow {
                instances,
                window: u32::try_from(window).unwrap_or(u32::MAX),
                held: u32::try_from(held).unwrap_or(u32::MAX),
                jobs_before,
                late_by: late_by_of_elf(handle, view.head.elf.clone()).await?,
            })
        }
        Explanation::Held { running, connected } => Kind::Held(v1::Held {
            instance_id: convert::id(running.instance.as_bytes()),
            connected,
            since: Some(convert::timestamp(running.since)),
            late_by: late_by(handle, running.session).map(convert::duration),
        }),
    };
    Ok(v1::ExplainJobResponse {
        job: Some(convert::unfinished_job(&view)),
        reason: Some(v1::Reason { kind: Some(kind) }),
    })
}

/// For how long the tasks of a session have stood still, if they do.
fn late_by(handle: &Handle, session: SessionId) -> Option<Duration> {
    handle.processes().get(session)?.late_by
}

/// The same of the sessions that serve an elf now: the longest.
async fn late_by_of_elf(handle: &Handle, elf: Arc<str>) -> Result<Option<prost_types::Duration>, Error> {
    let view = handle.query(move |core, _| core.elf(&elf)).await?;
    let instances = view.into_iter().flat_map(|view| view.instances);
    let late = instances
        .filter(|instance| instance.connected)
        .filter_map(|instance| late_by(handle, instance.session));
    Ok(late.max().map(convert::duration))
}

/// What is computed to decide how a job goes on.
async fn decided_by(handle: &Handle, id: JobId) -> Result<v1::EvaluatingWhat, Error> {
    let spec = handle.read(move |store| read_spec(store, id)).await?;
    Ok(match spec.and_then(|spec| spec.for_each) {
        Some(_) => v1::EvaluatingWhat::Elements,
        None => v1::EvaluatingWhat::Condition,
    })
}

/// Some of the jobs that a job waits for.
async fn waited_for(handle: &Handle, id: JobId) -> Result<Vec<v1::Job>, Error> {
    let spec = handle.read(move |store| Ok(store.specs(&[id])?.pop().flatten())).await?;
    let depends_on = spec.map(|spec| spec.depends_on).unwrap_or_default();
    let unfinished = handle.query(move |core, _| {
        depends_on.iter().filter_map(|on| core.job(*on)).take(WAITS_FOR_SHOWN_MAX).collect::<Vec<_>>()
    });
    Ok(unfinished.await?.iter().map(convert::unfinished_job).collect())
}
