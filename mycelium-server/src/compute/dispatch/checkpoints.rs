//! What earlier attempts have left for those that are assigned.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use mycelium_core::ids::JobId;
use mycelium_proto::v1;

use crate::broker::{CallError, FailureBody, Handle};
use crate::documents::{self, Undecodable};
use crate::store::{CheckpointRecord, Damage, isolate};

/// The checkpoints of jobs that are assigned.
#[derive(Default)]
pub(super) struct Checkpoints(HashMap<JobId, Result<Option<CheckpointRecord>, Damage>>);

impl Checkpoints {
    /// Reads those of jobs that have one. Most have none, and nothing is read then.
    pub(super) async fn read(handle: &Handle, jobs: impl Iterator<Item = JobId>) -> Result<Self, CallError> {
        let jobs = handle.checkpointed().among(jobs);
        if jobs.is_empty() {
            return Ok(Self::default());
        }
        let read = isolate(&jobs, |jobs| handle.store().checkpoints(jobs)).await?;
        Ok(Self(jobs.into_iter().zip(read).collect()))
    }

    /// Takes that of a job, if it has one.
    ///
    /// # Errors
    /// The failure of its attempt, if it is damaged.
    pub(super) fn take(&mut self, job: JobId) -> Result<Option<v1::LastCheckpoint>, FailureBody> {
        match self.0.remove(&job) {
            None | Some(Ok(None)) => Ok(None),
            Some(Ok(Some(record))) => {
                message(record).map(Some).map_err(|error| FailureBody::record_damaged(error.to_string()))
            }
            Some(Err(damage)) => {
                Err(FailureBody::record_damaged(format!("the checkpoint of job {job}: {damage}")))
            }
        }
    }
}

fn message(record: CheckpointRecord) -> Result<v1::LastCheckpoint, Undecodable> {
    let CheckpointRecord { job, attempt, at, body } = record;
    Ok(v1::LastCheckpoint {
        attempt: attempt.0,
        stored_at: Some((UNIX_EPOCH + Duration::from_micros(at.0)).into()),
        payload: Some(documents::checkpoint(job, body)?),
    })
}
