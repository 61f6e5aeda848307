//! What the broker keeps: a log that takes batches, reads of what is stored, and blobs beside them.
//!
//! A store is used by one broker at a time. Whoever owns the scheduler writes its [`Log`]; all others ask its
//! [`Reads`], many keys a call, since a store may be far away and each call a round trip.

pub(crate) mod action;
mod answer;
pub mod arango;
mod cursor;
pub mod embedded;
mod error;
pub mod faulty;
pub mod indexed;
mod known;
pub mod memory;
mod names;
pub(crate) mod pause;
pub(crate) mod policy;
mod query;
pub mod record;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::ids::{Commit, FailureId, FlowId, JobId, Revision, SubmissionId};
use mycelium_core::image::{FlowRecord, Image, LiveJob, SubmissionRecord};

pub use answer::Answer;
pub(crate) use answer::wait_for;
pub use embedded::EmbeddedStore;
pub(crate) use embedded::{holds_store, is_store_folder};
pub(crate) use error::{Damage, TakesNoChanges, lack_in};
pub use error::{Error, Lack};
pub use faulty::FaultyStore;
pub use known::Knowledge;
pub use memory::MemoryStore;
pub use query::{
    FailureCursor, FailurePrefix, FinishedPage, FinishedQuery, FlowPage, FlowQuery, Listed, RevisionCursor,
};
pub(crate) use record::attempts_of;
pub use record::{
    Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord, Edge, Edges, ElfRecord, Erased, FailureRecord,
    FinishedRecord, JobAfter, JobChange, Known, NewFailure, OccurrenceRecord, Outline, RevisionRecord, Seen,
    SpecRecord, SweptElf,
};

/// Among how many of a failure's latest occurrences that of a job is looked for, if no key leads to it.
pub const OCCURRENCES_SEARCHED: usize = 4_096;

/// What a broker is opened with.
pub trait Storage: Log + Reads {
    /// The backend's name, as `GetStatus` gives it: `memory`, `embedded`, `arangodb`.
    fn kind(&self) -> &'static str;

    /// Whether what [`commit`](Log::commit) acknowledges survives the death of process and machine.
    fn is_durable(&self) -> bool;

    /// The folder in which a broker on this store keeps its blobs: values too large to travel inline, which what is
    /// stored names. `None` if it keeps them in memory, which only suits a store that is gone with the process.
    fn blobs_folder(&self) -> Option<PathBuf> {
        None
    }
}

/// What is written: batches, one after the other, by one owner.
///
/// To be correct, an implementation sees to it that
/// - [`commit`](Self::commit) is atomic, and durable when it answers `Ok` (if [`Storage::is_durable`]);
/// - after it has answered `Ok`, every read that begins later sees all of the batch;
/// - commits are numbered without gaps by the caller ([`Batch::counters`]); one that does not follow the last is refused,
///   since that tells of two writers;
/// - once another owner has loaded it, it refuses those of the one before with [`Error::Fenced`], unless it keeps others
///   from opening it;
/// - a commit takes one request, or a constant number of them, to whatever is behind it.
pub trait Log: Send + Sync + fmt::Debug {
    /// Reads what a scheduler is rebuilt from: hands every unfinished job to `each`, in no particular order, and then
    /// returns the rest, with the flows and submissions of just these jobs. Reads neither specifications nor history.
    /// Whoever does so is the owner from then on. On a disk of this machine the call itself may block.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what it finds cannot be right; [`Error::Unavailable`] if it cannot be read now.
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image>;

    /// Stores a batch, all of it or nothing. Reads nothing of what is stored: what has to be known of it stands in
    /// [`Batch::known`], if it [needs](Self::needs_known) that. On a disk of this machine the call itself may block.
    ///
    /// # Errors
    /// Any. Unless [`Error::is_certainly_not_applied`], the batch may have been stored; the caller then has to
    /// [`load`](Self::load) again to know.
    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()>;

    /// Whether a commit has to be told what is stored already ([`Batch::known`]).
    fn needs_known(&self) -> bool {
        true
    }

    /// Whether whoever has loaded it is still its owner, as far as that can be told at once. An owner that may have been
    /// deposed answers nothing.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::Unavailable`] if it may be another's by now.
    fn check_owner(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether changes can be stored, as far as that can be told without one. After a commit that failed, and after a
    /// [`load`](Self::load) that could only read, it is an error.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; with an [`Error::lack`] if the disk is full or read-only. [`Error::Fenced`].
    fn check_writable(&self) -> Answer<'_, ()> {
        Answer::ready(Ok(()))
    }

    /// How often [`check_owner`](Self::check_owner) is to be asked while nothing happens. `None`: a failed commit tells.
    fn check_every(&self) -> Option<Duration> {
        None
    }

    /// Gives back what room it can of what was removed, if that is much beside what is there; some of it only when it is
    /// called again after the next commit. Reads and commits go on beside it.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn reclaim(&self) -> Answer<'_, ()> {
        Answer::ready(Ok(()))
    }

    /// Writes out what is still in memory, before the process ends. Nothing acknowledged depends on it.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn close(&self) -> Answer<'_, ()>;
}

/// What is read, beside the scheduler. A read that runs beside a commit sees, for each record, the one before or the one
/// after it.
///
/// All that take keys answer in the order of the keys, with `None` for what is not there. Those that list are served by
/// indexes: a page reads at most `limit` + 1 index entries, whatever the size of the store.
///
/// # Errors
/// [`Error::Damaged`] and [`Error::Unavailable`], of all of them.
pub trait Reads: Send + Sync + fmt::Debug {
    /// Specifications.
    fn specs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<SpecRecord>>>;

    /// Specifications without their bodies.
    fn outlines<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Outline>>>;

    /// Records of unfinished jobs.
    fn unfinished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<LiveJob>>>;

    /// Records of finished jobs.
    fn finished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<FinishedRecord>>>;

    /// The outputs of jobs that are DONE.
    fn outputs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Bytes>>>;

    /// Finished jobs, last finished first.
    fn list_finished<'a>(&'a self, query: &'a FinishedQuery) -> Answer<'a, FinishedPage>;

    /// The edges from any of `jobs` to those that depend on it directly, and to the one that gathers its outputs in a
    /// list, in the order of both ends, beginning after `after`; at most `limit`. Ids of jobs whose submission was dropped
    /// may be among them.
    fn dependents<'a>(
        &'a self,
        jobs: &'a [JobId],
        after: Option<Edge>,
        limit: usize,
    ) -> Answer<'a, Vec<Edge>>;

    /// Flows.
    fn flows<'a>(&'a self, ids: &'a [FlowId]) -> Answer<'a, Vec<Option<FlowRecord>>>;

    /// The newest flow of that name.
    fn flow_named<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FlowRecord>>;

    /// Flows, newest first.
    fn list_flows<'a>(&'a self, query: &'a FlowQuery) -> Answer<'a, FlowPage>;

    /// Submissions of several parts, sealed or open.
    fn submissions<'a>(&'a self, ids: &'a [SubmissionId]) -> Answer<'a, Vec<Option<SubmissionRecord>>>;

    /// All submissions of several parts by their ids, beginning after `after`; at most `limit`. For those who go through
    /// all that is stored.
    fn list_submissions(
        &self,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Answer<'_, Vec<SubmissionRecord>>;

    /// Elves.
    fn elves<'a>(&'a self, names: &'a [Arc<str>]) -> Answer<'a, Vec<Option<ElfRecord>>>;

    /// Elves by name, beginning after `after`; at most `limit`.
    fn list_elves<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<ElfRecord>>;

    /// Revisions, by elf, task and digest; the task is empty for the elf as a whole.
    fn revisions<'a>(&'a self, named: &'a [RevisionKey]) -> Answer<'a, Vec<Option<RevisionRecord>>>;

    /// Revisions of an elf and its tasks, first seen last, beginning after `after`; at most `limit`.
    fn list_revisions<'a>(
        &'a self,
        elf: &'a str,
        after: Option<&'a RevisionCursor>,
        limit: usize,
    ) -> Answer<'a, Vec<(RevisionCursor, RevisionRecord)>>;

    /// Failures.
    fn failures<'a>(&'a self, ids: &'a [FailureId]) -> Answer<'a, Vec<Option<FailureRecord>>>;

    /// Failures, last seen first, beginning after `after`; at most `limit`.
    fn list_failures<'a>(
        &'a self,
        after: Option<&'a FailureCursor>,
        limit: usize,
    ) -> Answer<'a, Listed<(FailureCursor, FailureRecord)>>;

    /// The latest occurrences of failures in jobs. One that was stored by an earlier version is looked for among the
    /// latest [`OCCURRENCES_SEARCHED`] of its failure alone.
    fn occurrences_of<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
    ) -> Answer<'a, Vec<Option<OccurrenceRecord>>>;

    /// The numbers of the occurrences of failures in jobs, in no order; at most `limit`. Of those that earlier versions have
    /// stored the latest alone, if a key leads to it.
    fn occurrences_in<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
        limit: usize,
    ) -> Answer<'a, Vec<(FailureId, JobId, u64)>>;

    /// Occurrences of a failure, last first, beginning after the one numbered `after`; at most `limit`. The number is
    /// the occurrence's own, from 1, in the order they were recorded. Those in jobs that were deleted are missing.
    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<(u64, OccurrenceRecord)>>;

    /// Uses of any of `blobs`, in the order of [`BlobUse`], beginning after `after`; at most `limit`. Those of jobs that
    /// have ended, or whose submission was dropped, are among them until a batch removes them.
    fn blob_uses<'a>(
        &'a self,
        blobs: &'a [BlobDigest],
        after: Option<BlobUse>,
        limit: usize,
    ) -> Answer<'a, Vec<BlobUse>>;

    /// As [`blob_uses`](Self::blob_uses), of all blobs: an index in the order of [`BlobUse`] serves both. For those who go
    /// through all that is stored.
    fn list_blob_uses(&self, after: Option<BlobUse>, limit: usize) -> Answer<'_, Vec<BlobUse>>;

    /// The checkpoints of jobs.
    fn checkpoints<'a>(&'a self, jobs: &'a [JobId]) -> Answer<'a, Vec<Option<CheckpointRecord>>>;

    /// The jobs that have a checkpoint, by their ids, beginning after `after`; at most `limit`.
    fn list_checkpoints(&self, after: Option<JobId>, limit: usize) -> Answer<'_, Vec<JobId>>;

    /// How many bytes of disk what is stored takes, with its blobs; `None` if that is not known here.
    fn bytes_stored(&self) -> Answer<'_, Option<u64>> {
        Answer::ready(Ok(None))
    }

    /// Keeps this moment, to be read from beginning to end while others go on.
    ///
    /// # Errors
    /// [`Error::Refused`] if this store cannot be copied.
    fn snapshot(&self) -> Answer<'_, Box<dyn StoreSnapshot>> {
        Answer::ready(Err(Error::Refused { what: "a store of this kind cannot be copied".to_owned() }))
    }
}

/// What names a revision: elf, task (empty for the elf as a whole) and digest.
pub type RevisionKey = (Arc<str>, Arc<str>, Revision);

/// A store at one moment.
pub trait StoreSnapshot: Send {
    /// The newest commit in it.
    fn commit(&self) -> Commit;

    /// The next entries, in the order of tables and keys: about `bytes_max` bytes of them, and at least one. `None`
    /// after the last.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Unavailable`], after which the snapshot is of no use.
    fn next(&mut self, bytes_max: usize) -> Result<Option<TableEntries>, Error>;
}

/// Entries of a table, as they are stored.
#[derive(Debug)]
pub struct TableEntries {
    /// The table.
    pub table: &'static str,
    /// Keys and values.
    pub entries: Vec<(Bytes, Bytes)>,
}

/// Reads several records with `read`, and each by itself if one of them is damaged: the damage of one does not keep the
/// others from being read.
///
/// # Errors
/// Those of `read`, but for [`Error::Damaged`].
pub(crate) async fn isolate<'k, K, T: Send + 'static>(
    keys: &'k [K],
    read: impl Fn(&'k [K]) -> Answer<'k, Vec<T>>,
) -> Result<Vec<Result<T, Damage>>, Error> {
    match read(keys).await {
        Ok(records) => return Ok(records.into_iter().map(Ok).collect()),
        Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut records = Vec::with_capacity(keys.len());
    for key in keys {
        match read(std::slice::from_ref(key)).await {
            Ok(record) => records.extend(record.into_iter().map(Ok)),
            Err(Error::Damaged { what }) => records.push(Err(Damage(what))),
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Error {
        Error::Unavailable { what: "a test".to_owned(), certainly_not_applied: true, source: None }
    }

    #[tokio::test]
    async fn what_is_damaged_is_isolated_and_a_store_that_cannot_be_reached_is_not() {
        let ids: Vec<JobId> = (1..=3).map(|number| JobId::new([number; 16])).collect();
        let damaged = |read: &[JobId]| {
            Answer::ready(match read.contains(&ids[1]) {
                true => Err(Error::Damaged { what: "the second".to_owned() }),
                false => Ok(read.to_vec()),
            })
        };
        let isolated = isolate(&ids, damaged).await.unwrap();
        assert_eq!(isolated, [Ok(ids[0]), Err(Damage("the second".to_owned())), Ok(ids[2])]);
        assert_eq!(isolate(&ids[..1], damaged).await.unwrap(), [Ok(ids[0])]);

        let never = |_: &[JobId]| Answer::<Vec<()>>::ready(Err(unavailable()));
        assert!(isolate(&ids, never).await.unwrap_err().is_retryable());
        // It may become unavailable while records are read one by one.
        let no_longer = |read: &[JobId]| {
            Answer::<Vec<()>>::ready(match read.len() {
                1 => Err(unavailable()),
                _ => Err(Error::Damaged { what: "one of them".to_owned() }),
            })
        };
        assert!(isolate(&ids, no_longer).await.unwrap_err().is_retryable());
    }
}
