//! Why a job did not end well: its own failure, and the job that is to blame.

use mycelium_core::ids::JobId;
use mycelium_core::status::FinalStatus;

use super::jobs::{Job, find_all};
use super::specs::outlines;
use crate::broker::{CallError, Handle};
use crate::documents::Failure;
use crate::store::{FinishedRecord, Reads};

/// The most links from a job to the one that is to blame.
const CAUSES_MAX: usize = 1_000;
/// How many of the jobs that one depends on are read at once.
const DEPENDENCIES_READ: usize = 1_000;

/// Why a job did not end well.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    /// The failure of the job, or of the one that is to blame.
    pub(crate) failure: Option<Failure>,
    /// If the job is UPSTREAM_FAILED: the one that is to blame, or the one that was and came back meanwhile.
    pub(crate) root_cause: Option<Job>,
    /// The job that was to blame, if it came back and there is no other.
    came_back: Option<JobId>,
}

/// Finds out why a job did not end well. Empty for one that did, or has not ended.
pub(super) async fn blame(handle: &Handle, found: &Job) -> Result<Blame, CallError> {
    let Job::Finished(record) = found else { return Ok(Blame::default()) };
    let record = match record.end.status() {
        FinalStatus::Failed | FinalStatus::UpstreamFailed => record.clone(),
        FinalStatus::Done | FinalStatus::Cancelled | FinalStatus::Expired | FinalStatus::Skipped => {
            return Ok(Blame::default());
        }
    };
    let mut blame = read_blame(&**handle.store(), record).await?;
    if let Some(job) = blame.came_back {
        blame.root_cause = find_all(handle, vec![job]).await?.pop().flatten();
    }
    Ok(blame)
}

async fn read_blame(store: &dyn Reads, record: FinishedRecord) -> Result<Blame, CallError> {
    if record.end.failure().is_some() {
        return Ok(Blame { failure: failure_of(store, &record).await?, ..Blame::default() });
    }
    let mut last = record;
    // One by one: each names the next.
    for _ in 0..CAUSES_MAX {
        let Some(cause) = last.end.cause() else { break };
        match cause_of(store, &last, cause).await? {
            Some(record) => last = record,
            None => return Ok(Blame { came_back: Some(cause), ..Blame::default() }),
        }
    }
    Ok(Blame {
        failure: failure_of(store, &last).await?,
        root_cause: Some(Job::Finished(last)),
        came_back: None,
    })
}

/// Why a job is UPSTREAM_FAILED: because of the one that is recorded as its cause or, if that was brought back meanwhile,
/// of another that it depends on.
async fn cause_of(
    store: &dyn Reads,
    job: &FinishedRecord,
    cause: JobId,
) -> Result<Option<FinishedRecord>, CallError> {
    let keeps_it = |record: &FinishedRecord| !record.end.status().lets_dependents_go_on();
    if let Some(record) = store.finished(&[cause]).await?.pop().flatten().filter(keeps_it) {
        return Ok(Some(record));
    }
    // What a damaged specification names is not known.
    let spec = outlines(store, &[job.head.id]).await?.pop().flatten();
    for others in spec.iter().flat_map(|spec| spec.depends_on.chunks(DEPENDENCIES_READ)) {
        if let Some(record) = store.finished(others).await?.into_iter().flatten().find(keeps_it) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The failure of a job, with the words of its own occurrence.
async fn failure_of(store: &dyn Reads, record: &FinishedRecord) -> Result<Option<Failure>, CallError> {
    let Some(&id) = record.end.failure() else { return Ok(None) };
    let Some(group) = store.failures(&[id]).await?.pop().flatten() else { return Ok(None) };
    let failure = Failure::decode(id, group.body)?;
    Ok(Some(match store.occurrences_of(&[(id, record.head.id)]).await?.pop().flatten() {
        Some(own) => failure.reword(own.message, own.details, own.cause_messages),
        None => failure.without_words(record.head.id),
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mycelium_core::effects::{Contents, End, FinishedJob};
    use mycelium_core::ids::{Attempt, FinishNumber, FlowId, Timestamp};
    use mycelium_core::image::JobHead;

    use super::*;
    use crate::store::record::Encoded;
    use crate::store::{Batch, JobAfter, JobChange, Log as _, MemoryStore};

    const fn id(number: u8) -> JobId {
        JobId::new([number; 16])
    }

    fn ended<C: Contents>(number: u8, end: End<C>) -> FinishedJob<C> {
        let head = JobHead { id: id(number), flow: FlowId::new([9; 16]), ..JobHead::default() };
        FinishedJob {
            head,
            finish_number: FinishNumber(number.into()),
            end,
            finished_at: Timestamp(2),
            attempt: Attempt(1),
            elves_lost: 0,
            ran: None,
            elements: None,
            attempts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_cause_that_came_back_without_its_dependents_is_named_as_it_stands() {
        // Job 1 came back and is done, job 4 came back and runs; what was behind them did not come back with them.
        let ends = [
            (1, End::Done(Bytes::new())),
            (2, End::UpstreamFailed(id(1))),
            (3, End::UpstreamFailed(id(2))),
            (5, End::UpstreamFailed(id(4))),
        ];
        let store = MemoryStore::new();
        let change = |(number, end): (u8, End<Encoded>)| JobChange {
            id: id(number),
            flow: FlowId::new([9; 16]),
            created: None,
            revived: None,
            after: JobAfter::Finished(ended(number, end)),
        };
        let mut batch = Batch { jobs: ends.into_iter().map(change).collect(), ..Batch::default() };
        batch.counters.commit.0 = 1;
        store.commit(&batch).await.unwrap();
        for (number, recorded, cause) in [(2, 1, 1), (3, 2, 1), (5, 4, 4)] {
            let record = ended(number, End::UpstreamFailed(id(recorded)));
            assert_eq!(read_blame(&store, record).await.unwrap().came_back, Some(id(cause)));
        }
    }
}
