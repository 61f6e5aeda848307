//! The attempts of a job.

use mycelium_core::effects::Refusal;
use mycelium_core::ids::{Attempt, JobId};
use mycelium_core::image::{PastAttempt, Running};

use crate::broker::{CallError, Handle};
use crate::store::attempts_of;

/// What is known of the attempts of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// How many there were.
    pub(crate) total: Attempt,
    /// The latest that are over, in the order of their numbers.
    pub(crate) over: Vec<PastAttempt>,
    /// Who holds the one that is under way, which is the last.
    pub(crate) under_way: Option<Running>,
}

/// The attempts of a job.
///
/// The core is asked first, and again if the store does not have the job as finished: then it was retried in between.
pub(crate) async fn attempts(handle: &Handle, id: JobId) -> Result<Attempts, CallError> {
    for _ in 0..2 {
        let unfinished = handle.query(move |core, _| {
            let (view, over) = core.job(id).zip(core.attempts(id))?;
            Some(Attempts { total: view.attempt, over, under_way: view.running })
        });
        if let Some(attempts) = unfinished.await? {
            return Ok(attempts);
        }
        let record = handle.store().finished(&[id]).await?.pop().flatten();
        if let Some(record) = record {
            let (total, over) = (record.attempt, attempts_of(&record));
            return Ok(Attempts { total, over, under_way: None });
        }
    }
    Err(Refusal::JobNotFound(id).into())
}
