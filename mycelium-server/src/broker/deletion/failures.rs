//! Removes occurrences of failures in jobs that are deleted, and failures of which none is left.

use std::collections::BTreeSet;

use mycelium_core::ids::{FailureId, JobId};

use super::super::handle::Handle;
use super::super::message::{Beside, CallError};
use crate::report::Report;
use crate::store::{FinishedRecord, attempts_of, isolate};

/// As many occurrences are removed with one batch.
const OCCURRENCES_AT_ONCE: usize = 1_024;
/// As many failures are looked at together.
const FAILURES_AT_ONCE: usize = 64;

/// Removes all occurrences in these jobs, as far as their attempts that are kept name the failure. Returns which failures
/// they were of.
pub(super) async fn remove_occurrences(
    handle: &Handle,
    jobs: &[FinishedRecord],
) -> Result<BTreeSet<FailureId>, CallError> {
    let failures = |job: &FinishedRecord| -> BTreeSet<(FailureId, JobId)> {
        let failed = attempts_of(job).into_iter().filter_map(|attempt| attempt.failure);
        failed.map(|failure| (failure, job.head.id)).collect()
    };
    let mut of: Vec<(FailureId, JobId)> = jobs.iter().flat_map(failures).collect();
    while !of.is_empty() {
        let found = match handle.store().occurrences_in(&of, OCCURRENCES_AT_ONCE).await {
            Ok(found) => found,
            Err(error) if error.is_damage() => {
                of = readable(handle, of).await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let is_last = found.len() < OCCURRENCES_AT_ONCE;
        if !found.is_empty() {
            handle.put_aside(Beside { occurrences_removed: found, ..Beside::default() }).await?;
        }
        if is_last {
            break;
        }
    }
    Ok(of.into_iter().map(|(failure, _)| failure).collect())
}

/// Those whose occurrences can be found. The others stay: what is damaged must not keep a flow from being deleted.
async fn readable(
    handle: &Handle,
    of: Vec<(FailureId, JobId)>,
) -> Result<Vec<(FailureId, JobId)>, CallError> {
    let mut readable = Vec::with_capacity(of.len());
    for pair in of {
        match handle.store().occurrences_in(&[pair], OCCURRENCES_AT_ONCE).await {
            Ok(_) => readable.push(pair),
            Err(error) if error.is_damage() => {
                let (failure, job) = pair;
                let error = Report(&error);
                tracing::error!(%job, %failure, %error, "occurrences that cannot be read stay when their job is deleted");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(readable)
}

/// Removes those of these failures of which no occurrence is left.
pub(super) async fn remove_failures(handle: &Handle, ids: BTreeSet<FailureId>) -> Result<(), CallError> {
    let ids: Vec<FailureId> = ids.into_iter().collect();
    for ids in ids.chunks(FAILURES_AT_ONCE) {
        let records = isolate(ids, |ids| handle.store().failures(ids)).await?;
        let mut over = Vec::new();
        // Of one that is damaged nobody knows how often it was seen: it stays.
        for record in records.into_iter().filter_map(Result::ok).flatten() {
            // One that is seen between the two is not as often seen as this says.
            match handle.store().list_occurrences(record.id, None, 1).await {
                Ok(left) if left.is_empty() => over.push((record.id, record.occurrences)),
                Ok(_) => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !over.is_empty() {
            handle.put_aside(Beside { failures_removed: over, ..Beside::default() }).await?;
        }
    }
    Ok(())
}
