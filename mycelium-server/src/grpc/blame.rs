//! Why a job did not end well: its own failure, and the job that is to blame.

use mycelium_core::ids::JobId;
use mycelium_core::status::FinalStatus;
use mycelium_proto::v1;
use prost::Message as _;

use super::convert;
use super::jobs::Found;
use crate::broker::{CallError, Handle, cut_failure};
use crate::store::{FailureRecord, FinishedRecord, Store};

/// The most links from a job to the one that is to blame.
const CAUSES_MAX: usize = 1_000;

/// Why a job did not end well.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// The failure of the job, or of the one that is to blame.
    pub(super) failure: Option<v1::Failure>,
    /// If the job is UPSTREAM_FAILED: the one that is to blame, unless it came back meanwhile.
    pub(super) root_cause: Option<v1::Job>,
}

/// Finds out why a job did not end well. Empty for one that did, or has not ended.
pub(super) async fn blame(handle: &Handle, found: &Found) -> Result<Blame, CallError> {
    let Found::Finished(record) = found else { return Ok(Blame::default()) };
    let record = match record.status {
        FinalStatus::Failed | FinalStatus::UpstreamFailed => record.clone(),
        FinalStatus::Done | FinalStatus::Cancelled | FinalStatus::Skipped => return Ok(Blame::default()),
    };
    handle.read(move |store| read_blame(store, record)).await
}

fn read_blame(store: &dyn Store, record: FinishedRecord) -> Result<Blame, CallError> {
    if record.status == FinalStatus::Failed {
        return Ok(Blame { failure: failure_of(store, &record)?, root_cause: None });
    }
    let mut last = record;
    for _ in 0..CAUSES_MAX {
        let Some(cause) = last.cause else { break };
        let Some(record) = store.finished(&[cause])?.pop().flatten() else { return Ok(Blame::default()) };
        last = record;
        match last.status {
            FinalStatus::UpstreamFailed => {}
            FinalStatus::Failed | FinalStatus::Cancelled => break,
            // It was brought back, and ended well.
            FinalStatus::Done | FinalStatus::Skipped => return Ok(Blame::default()),
        }
    }
    Ok(Blame { failure: failure_of(store, &last)?, root_cause: Some(convert::finished_job(&last)) })
}

/// The failure of a job, with the words of its own occurrence.
fn failure_of(store: &dyn Store, record: &FinishedRecord) -> Result<Option<v1::Failure>, CallError> {
    let Some(id) = record.failure else { return Ok(None) };
    let Some(group) = store.failure(id)? else { return Ok(None) };
    let mut failure = failure_in(&group)?;
    match store.occurrence_of(id, record.id)? {
        Some(own) => {
            failure.message = own.message;
            failure.details = own.details;
            let messages = own.cause_messages.into_iter().chain(std::iter::repeat_with(String::new));
            for (cause, message) in failure.causes.iter_mut().zip(messages) {
                cause.message = message;
            }
        }
        None => forget_words(&mut failure, record.id),
    }
    cut_failure(&mut failure);
    Ok(Some(failure))
}

/// The words of a failure's latest occurrence are not those of another.
fn forget_words(failure: &mut v1::Failure, job: JobId) {
    failure.message = format!("the message of job {job} is not found among those of later ones");
    failure.details.clear();
    failure.causes.iter_mut().for_each(|cause| cause.message.clear());
}

/// The failure in the record of a group, with the words of its latest occurrence.
pub(super) fn failure_in(group: &FailureRecord) -> Result<v1::Failure, CallError> {
    let mut failure = v1::Failure::decode(group.body.clone())
        .map_err(|error| CallError::Unreadable(format!("failure {}: {error}", group.id)))?;
    // One that an earlier version has stored may be larger than is taken now.
    cut_failure(&mut failure);
    Ok(failure)
}
