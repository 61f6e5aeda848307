//! Jobs one by one: as they stand, with their specifications, their outputs and their values.

use std::collections::{BTreeSet, HashMap};

use mycelium_core::JobView;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, JobId};
use mycelium_core::image::JobHead;
use mycelium_core::status::{FinalStatus, Status};

use super::blame::{Blame, blame};
use super::page::Weigh;
use super::specs;
use super::values::{self, JobValues};
use crate::broker::{CallError, Handle};
use crate::documents::{Outputs, Spec};
use crate::report::Report;
use crate::store::{FinishedRecord, Reads, isolate};

/// About how many bytes of outputs go into one answer.
const OUTPUTS_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most that a job takes in an answer beside its texts.
const JOB_BYTES: usize = 324;

/// A job as it stands.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Unfinished(JobView),
    Finished(FinishedRecord),
}

impl Job {
    /// What is true of it from its submission on.
    pub(crate) fn head(&self) -> &JobHead {
        match self {
            Self::Unfinished(view) => &view.head,
            Self::Finished(record) => &record.head,
        }
    }

    pub(crate) fn id(&self) -> JobId {
        self.head().id
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Unfinished(view) => view.status,
            Self::Finished(record) => Status::Final(record.end.status()),
        }
    }
}

impl Weigh for Job {
    fn bytes(&self) -> usize {
        let head = self.head();
        let labels: usize = head.labels.iter().map(|(key, value)| 12 + key.len() + value.len()).sum();
        JOB_BYTES + head.elf.len() + head.task.len() + labels
    }
}

/// Finds jobs, in the order of `ids`.
///
/// The core is asked first: a job that finishes between the two questions is then found in the store. One that is
/// retried in between is in neither, so the core is asked again about what was not found.
pub(crate) async fn find_all(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<Option<Job>>, CallError> {
    let mut found: HashMap<JobId, Job> = HashMap::with_capacity(ids.len());
    for _ in 0..2 {
        let missing: Vec<JobId> = ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
        if missing.is_empty() {
            break;
        }
        let asked = missing.clone();
        let views =
            handle.query(move |core, _| asked.iter().filter_map(|id| core.job(*id)).collect::<Vec<_>>());
        found.extend(views.await?.into_iter().map(|view| (view.head.id, Job::Unfinished(view))));
        let asked: Vec<JobId> = missing.into_iter().filter(|id| !found.contains_key(id)).collect();
        let records = handle.store().finished(&asked).await?;
        found.extend(records.into_iter().flatten().map(|record| (record.head.id, Job::Finished(record))));
    }
    Ok(ids.iter().map(|id| found.remove(id)).collect())
}

/// As [`find_all`], for those who show what can be shown: a job whose record is damaged is left out.
pub(crate) async fn find_readable(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<Option<Job>>, CallError> {
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
pub(crate) async fn find(handle: &Handle, id: JobId) -> Result<Job, CallError> {
    let found = find_all(handle, vec![id]).await?.pop().flatten();
    found.ok_or_else(|| Refusal::JobNotFound(id).into())
}

/// What is shown of a job beside itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shows {
    pub(crate) spec: bool,
    pub(crate) values: bool,
}

/// A job, with what else was asked for.
#[derive(Debug)]
pub(crate) struct JobDetails {
    pub(crate) job: Job,
    /// As it was submitted.
    pub(crate) spec: Option<Spec>,
    pub(crate) values: Option<JobValues>,
    /// Why it did not end well.
    pub(crate) blame: Blame,
}

/// Finds a job, and what else is to be shown of it.
pub(crate) async fn job(handle: &Handle, id: JobId, shows: Shows) -> Result<JobDetails, CallError> {
    let job = find(handle, id).await?;
    let spec = if shows.spec { specs::spec(&**handle.store(), id).await? } else { None };
    let values = if shows.values { values::of_jobs(handle, &[id]).await?.pop() } else { None };
    let blame = blame(handle, &job).await?;
    Ok(JobDetails { job, spec, values, blame })
}

/// The outputs of a job.
#[derive(Debug)]
pub(crate) struct JobOutputs {
    pub(crate) job: JobId,
    pub(crate) status: Status,
    /// None if it is not DONE.
    pub(crate) outputs: Outputs,
}

/// The outputs of the first of some jobs, as many as go into one answer; at least of one.
pub(crate) async fn outputs(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<JobOutputs>, CallError> {
    let mut answered = outputs_that_fit(handle, ids).await?;
    match first_deleted(&**handle.store(), &answered).await? {
        None => {}
        Some(0) => return Err(Refusal::OriginDeleted(answered[0].job).into()),
        // Who goes on asking for the rest is told.
        Some(place) => answered.truncate(place),
    }
    Ok(answered)
}

/// The place of the first whose outputs have been deleted: those of a stub are empty.
async fn first_deleted(store: &dyn Reads, answered: &[JobOutputs]) -> Result<Option<usize>, CallError> {
    let is_empty = |answered: &JobOutputs| {
        answered.status == Status::Final(FinalStatus::Done) && answered.outputs.all().is_empty()
    };
    let empty: Vec<usize> = (0..answered.len()).filter(|&place| is_empty(&answered[place])).collect();
    if empty.is_empty() {
        return Ok(None);
    }
    let jobs: Vec<JobId> = empty.iter().map(|&place| answered[place].job).collect();
    let flows: Vec<Option<FlowId>> = store
        .finished(&jobs)
        .await?
        .into_iter()
        .map(|record| record.map(|record| record.head.flow))
        .collect();
    let known: Vec<FlowId> = flows.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let stubs: BTreeSet<FlowId> = store
        .flows(&known)
        .await?
        .into_iter()
        .flatten()
        .filter(|flow| flow.deleted_at.is_some())
        .map(|flow| flow.id)
        .collect();
    let is_deleted = |flow: &Option<FlowId>| flow.is_none_or(|flow| stubs.contains(&flow));
    Ok(empty.into_iter().zip(flows).find(|(_, flow)| is_deleted(flow)).map(|(place, _)| place))
}

/// Outputs of jobs, whether they were deleted or not.
///
/// Most of those that are asked for are DONE and have outputs, which tells all that there is to tell of them: where the
/// others stand is looked up for them alone.
async fn outputs_that_fit(handle: &Handle, ids: Vec<JobId>) -> Result<Vec<JobOutputs>, CallError> {
    // What is read and does not fit is read in vain.
    const CHUNK: usize = 8;
    let store = handle.store();
    let mut answered = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    let mut statuses: Option<HashMap<JobId, Status>> = None;
    for (place, chunk) in ids.chunks(CHUNK).enumerate() {
        let read = isolate(chunk, |chunk| store.outputs(chunk)).await?;
        for (index, (&id, read)) in chunk.iter().zip(read).enumerate() {
            let mut encoded = match read {
                Ok(encoded) => encoded,
                // Who goes on asking for the rest is told which one is damaged.
                Err(_) if !answered.is_empty() => return Ok(answered),
                Err(what) => return Err(CallError::Unreadable(format!("the outputs of job {id}: {what}"))),
            };
            let mut status = Status::Final(FinalStatus::Done);
            if encoded.is_none() {
                let statuses = match &mut statuses {
                    Some(statuses) => statuses,
                    none => none.insert(statuses_of(handle, &ids[place * CHUNK + index..]).await?),
                };
                status = *statuses.get(&id).ok_or(Refusal::JobNotFound(id))?;
                // It may have ended between the two questions.
                if status == Status::Final(FinalStatus::Done) {
                    encoded = store.outputs(&[id]).await?.pop().flatten();
                }
            }
            let encoded = encoded.unwrap_or_default();
            if !answered.is_empty() && bytes + encoded.len() > OUTPUTS_BYTES_MAX {
                return Ok(answered);
            }
            bytes += encoded.len() + 32;
            answered.push(JobOutputs { job: id, status, outputs: Outputs::decode(id, encoded)? });
        }
    }
    Ok(answered)
}

/// Where those of some jobs stand that there are.
async fn statuses_of(handle: &Handle, ids: &[JobId]) -> Result<HashMap<JobId, Status>, CallError> {
    let found = find_all(handle, ids.to_vec()).await?;
    Ok(found.iter().flatten().map(|job| (job.id(), job.status())).collect())
}
