//! What the broker keeps: a trait in the words of the project, and its backends.
//!
//! A store is used by one broker at a time. All its methods block for as long as the disk (or network) behind it
//! takes; the broker calls [`Store::commit`] from the one thread that owns the scheduler, and the reads from threads
//! that may block.

mod cursor;
pub mod embedded;
pub mod faulty;
mod known;
pub mod memory;
pub mod record;

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use mycelium_core::ids::{
    Commit, FailureId, FinishNumber, FlowId, FlowNumber, JobId, Revision, SubmissionId,
};
use mycelium_core::image::{FlowRecord, Image, LiveJob, SubmissionRecord};
use mycelium_core::labels::Labels;

pub use embedded::EmbeddedStore;
pub use faulty::FaultyStore;
pub use known::Knowledge;
pub use memory::MemoryStore;
pub use record::{
    Batch, BlobDigest, BlobRole, BlobUse, Edges, ElfRecord, FailureRecord, FinishedRecord, JobAfter,
    JobChange, Known, NewFailure, OccurrenceRecord, RevisionRecord, Seen, SpecRecord,
};

/// Among how many of a failure's latest occurrences that of a job is looked for, if no key leads to it.
pub const OCCURRENCES_SEARCHED: usize = 4_096;

/// What a store does for the broker.
///
/// To be correct, an implementation sees to it that
/// - [`commit`](Self::commit) is atomic, and durable when it returns `Ok` (if [`is_durable`](Self::is_durable));
/// - after `commit` has returned `Ok`, every read that begins later sees all of the batch;
/// - a read that runs beside a commit sees, for each record, the one before or the one after it;
/// - commits are numbered without gaps by the caller ([`Batch::counters`]); a store refuses one that does not follow
///   the last, since that tells of two writers;
/// - lists are served by indexes: a page reads at most `limit` + 1 index entries, whatever the size of the store.
pub trait Store: Send + Sync + fmt::Debug {
    /// The backend's name, as `GetStatus` gives it: `memory`, `embedded`.
    fn kind(&self) -> &'static str;

    /// Whether what [`commit`](Self::commit) acknowledges survives the death of process and machine.
    fn is_durable(&self) -> bool;

    /// Reads what a scheduler is rebuilt from: hands every unfinished job to `each`, in no particular order, and then
    /// returns the rest, with the flows and submissions of just these jobs. Reads neither specifications nor history.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what it finds cannot be right; [`Error::Unavailable`] if it cannot be read now.
    fn load(&self, each: &mut dyn FnMut(LiveJob)) -> Result<Image, Error>;

    /// Stores a batch, all of it or nothing. Reads nothing of what is stored: what has to be known of it stands in
    /// [`Batch::known`].
    ///
    /// # Errors
    /// Any. Unless [`Error::is_certainly_not_applied`], the batch may have been stored; the caller then has to
    /// [`load`](Self::load) again to know.
    fn commit(&self, batch: &Batch) -> Result<(), Error>;

    /// Specifications, in the order of `ids`; `None` for jobs that are not known.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`]; so do all reads below.
    fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<SpecRecord>>, Error>;

    /// Records of unfinished jobs, in the order of `ids`; `None` for jobs that are finished or not known.
    fn unfinished(&self, ids: &[JobId]) -> Result<Vec<Option<LiveJob>>, Error>;

    /// Records of finished jobs, in the order of `ids`; `None` for jobs that are unfinished or not known.
    fn finished(&self, ids: &[JobId]) -> Result<Vec<Option<FinishedRecord>>, Error>;

    /// The outputs of jobs that are DONE, in the order of `ids`; `None` for others.
    fn outputs(&self, ids: &[JobId]) -> Result<Vec<Option<Bytes>>, Error>;

    /// Finished jobs, last finished first.
    fn list_finished(&self, query: &FinishedQuery) -> Result<FinishedPage, Error>;

    /// Jobs that depend directly on `job`, and the one that gathers its outputs in a list, in the order of their ids, beginning after `after`; at most `limit`.
    /// Ids of jobs whose submission was dropped may be among them.
    fn dependents(&self, job: JobId, after: Option<JobId>, limit: usize) -> Result<Vec<JobId>, Error>;

    /// A flow.
    fn flow(&self, id: FlowId) -> Result<Option<FlowRecord>, Error>;

    /// The newest flow of that name.
    fn flow_named(&self, name: &str) -> Result<Option<FlowRecord>, Error>;

    /// Flows, newest first.
    fn list_flows(&self, query: &FlowQuery) -> Result<FlowPage, Error>;

    /// A submission of several parts, sealed or open.
    fn submission(&self, id: SubmissionId) -> Result<Option<SubmissionRecord>, Error>;

    /// An elf.
    fn elf(&self, name: &str) -> Result<Option<ElfRecord>, Error>;

    /// Elves by name, beginning after `after`; at most `limit`.
    fn list_elves(&self, after: Option<&str>, limit: usize) -> Result<Vec<ElfRecord>, Error>;

    /// The latest occurrence of a failure in a job. One that was stored by an earlier version is looked for among the
    /// latest [`OCCURRENCES_SEARCHED`] alone.
    fn occurrence_of(&self, id: FailureId, job: JobId) -> Result<Option<OccurrenceRecord>, Error>;

    /// Revisions of an elf and its tasks, first seen last, beginning after `after`; at most `limit`.
    fn list_revisions(
        &self,
        elf: &str,
        after: Option<&RevisionCursor>,
        limit: usize,
    ) -> Result<Vec<(RevisionCursor, RevisionRecord)>, Error>;

    /// One revision; `task` is empty for the elf as a whole.
    fn revision(&self, elf: &str, task: &str, revision: Revision) -> Result<Option<RevisionRecord>, Error>;

    /// A failure.
    fn failure(&self, id: FailureId) -> Result<Option<FailureRecord>, Error>;

    /// Failures, last seen first, beginning after `after`; at most `limit`.
    fn list_failures(
        &self,
        after: Option<&FailureCursor>,
        limit: usize,
    ) -> Result<Listed<(FailureCursor, FailureRecord)>, Error>;

    /// Occurrences of a failure, last first, beginning after the one numbered `after`; at most `limit`. The number is
    /// the occurrence's own, from 1, in the order they were recorded.
    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, OccurrenceRecord)>, Error>;

    /// Jobs that use a blob, in the order of [`BlobUse`], beginning after `after`; at most `limit`. Those of jobs that
    /// have ended, or whose submission was dropped, are among them until a batch removes them.
    fn blob_uses(
        &self,
        blob: BlobDigest,
        after: Option<&BlobUse>,
        limit: usize,
    ) -> Result<Vec<BlobUse>, Error>;

    /// Whether changes can be stored, as far as that can be told without one. After a commit that failed, and after a
    /// [`load`](Self::load) that could only read, it is an error.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; with an [`Error::lack`] if the disk is full or read-only.
    fn check_writable(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Keeps this moment, to be read from beginning to end while others go on.
    ///
    /// # Errors
    /// [`Error::Refused`] if this store cannot be copied.
    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, Error> {
        Err(Error::Refused { what: format!("a store of the kind {} cannot be copied", self.kind()) })
    }

    /// The folder in which a broker on this store keeps its blobs: values too large to travel inline, which what is
    /// stored names. `None` if it keeps them in memory, which only suits a store that is gone with the process.
    fn blobs_folder(&self) -> Option<PathBuf> {
        None
    }

    /// Writes out what is still in memory, before the process ends. Nothing acknowledged depends on it.
    fn close(&self) -> Result<(), Error>;
}

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

/// Reads several records with `read`, and each by itself if one of them is damaged: what is wrong with one,
/// in words, does not keep the others from being read.
///
/// # Errors
/// Those of `read`, but for [`Error::Damaged`].
pub(crate) fn isolate<K, T>(
    ids: &[K],
    read: impl Fn(&[K]) -> Result<Vec<T>, Error>,
) -> Result<Vec<Result<T, String>>, Error> {
    match read(ids) {
        Ok(records) => return Ok(records.into_iter().map(Ok).collect()),
        Err(Error::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        match read(std::slice::from_ref(id)) {
            Ok(record) => records.extend(record.into_iter().map(Ok)),
            Err(Error::Damaged { what }) => records.push(Err(what)),
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// Which finished jobs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinishedQuery {
    /// Only of this flow.
    pub flow: Option<FlowId>,
    /// Only of this elf.
    pub elf: Option<String>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only with one of these statuses; empty: any.
    pub statuses: Vec<mycelium_core::status::FinalStatus>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those that finished at or after this moment, in microseconds since the Unix epoch.
    pub finished_from: Option<mycelium_core::ids::Timestamp>,
    /// Only those that finished before this moment.
    pub finished_before: Option<mycelium_core::ids::Timestamp>,
    /// Begin with jobs that finished before the one with this number.
    pub after: Option<FinishNumber>,
    /// At most so many, and read at most one index entry more. 0 counts as 1.
    pub limit: usize,
}

impl FinishedQuery {
    /// Whether a job fits the filters.
    fn fits(&self, job: &FinishedRecord) -> bool {
        self.flow.is_none_or(|flow| flow == job.head.flow)
            && self.elf.as_deref().is_none_or(|elf| elf == &*job.head.elf)
            && self.task.as_deref().is_none_or(|task| task == &*job.head.task)
            && (self.statuses.is_empty() || self.statuses.contains(&job.end.status()))
            && job.head.labels.contain(&self.labels)
            && self.finished_from.is_none_or(|from| from <= job.finished_at)
            && self.finished_before.is_none_or(|before| job.finished_at < before)
    }
}

/// Which flows to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowQuery {
    /// Only of this name.
    pub name: Option<String>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Begin with flows that were made before the one with this number.
    pub after: Option<FlowNumber>,
    /// At most so many. 0 counts as 1.
    pub limit: usize,
}

impl FlowQuery {
    /// Whether a flow fits the filters.
    fn fits(&self, flow: &FlowRecord) -> bool {
        self.name.as_deref().is_none_or(|name| name == &*flow.name) && flow.labels.contain(&self.labels)
    }

    /// How many entries of a list are read for a page: one more tells whether there are more.
    fn read_max(&self) -> usize {
        self.limit.max(1).saturating_add(1)
    }

    /// The page that comes of so many entries of a list.
    fn page(&self, mut listed: Listed<FlowRecord>) -> FlowPage {
        let mut next = None;
        if listed.entries.len() == self.read_max() {
            listed.entries.pop();
            next = listed.entries.last().map(|flow| flow.number);
        }
        listed.entries.retain(|flow| self.fits(flow));
        FlowPage { flows: listed.entries, next, damaged: listed.damaged }
    }
}

/// A page of flows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowPage {
    /// The flows: those among the entries read that fit the filters.
    pub flows: Vec<FlowRecord>,
    /// Where the next page begins; `None` if there are no more. May be set with fewer flows than asked for, when no
    /// index serves the filters together.
    pub next: Option<FlowNumber>,
    /// What is wrong with each record or stretch of records that is left out because it is damaged.
    pub damaged: Vec<String>,
}

/// A page of finished jobs.
#[derive(Debug, Clone, Default)]
pub struct FinishedPage {
    /// The jobs: those among the entries read that fit the filters.
    pub jobs: Vec<FinishedRecord>,
    /// Where the next page begins; `None` if there are no more. May be set with fewer jobs than asked for, when no
    /// index serves the filters together.
    pub next: Option<FinishNumber>,
    /// What is wrong, in words, with those that are left out because their records are damaged.
    pub damaged: Vec<String>,
    /// How many index entries were read.
    pub entries_read: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What can be read, as many as asked for if there are as many.
    pub entries: Vec<T>,
    /// What is wrong, in words, with each record or stretch of records that is left out because it is damaged.
    pub damaged: Vec<String>,
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(entries: Vec<T>) -> Self {
        Self { entries, damaged: Vec::new() }
    }
}

/// A place in a list of revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionCursor(pub Vec<u8>);

/// A place in a list of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCursor(pub Vec<u8>);

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder is in use by another broker.
    #[error("the data folder {folder} is in use by another broker")]
    InUse {
        /// The folder.
        folder: String,
    },
    /// The folder holds something else than a store of ours, or one of a version that this program cannot read.
    #[error("{folder} is not a data folder of this version of mycelium: {why}")]
    Foreign {
        /// The folder.
        folder: String,
        /// What speaks against it.
        why: String,
    },
    /// What is stored cannot be right.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is wrong, and where.
        what: String,
    },
    /// The store cannot be read or written now: it is full, read-only or away.
    #[error("the store is not available: {what}")]
    Unavailable {
        /// What failed.
        what: String,
        /// Whether a batch that was being stored has certainly not been stored.
        certainly_not_applied: bool,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The batch is not one that can be stored after the last.
    #[error("commit {given} does not follow commit {last}: another broker has written to this store")]
    OutOfOrder {
        /// The last commit.
        last: Commit,
        /// The one that was given.
        given: Commit,
    },
    /// The batch cannot be stored by this store, now or later: it breaks a limit that the caller should have kept.
    #[error("the batch cannot be stored: {what}")]
    Refused {
        /// What is wrong with it.
        what: String,
    },
}

/// What a store needs to take changes, and does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Space: the disk is full, or a quota is used up.
    Space,
    /// A file system that can be written: it is read-only.
    Writing,
}

/// Whether an error comes of a disk that is full or read-only, which is told by what it was caused by.
pub(crate) fn lack_in(error: &(dyn std::error::Error + 'static)) -> Option<Lack> {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(StorageFull | QuotaExceeded) => return Some(Lack::Space),
            Some(ReadOnlyFilesystem) => return Some(Lack::Writing),
            Some(_) | None => next = error.source(),
        }
    }
    None
}

impl Error {
    /// What is missing, if the store cannot be written for want of space, or because it is read-only. What is stored can
    /// be read all the same.
    pub fn lack(&self) -> Option<Lack> {
        lack_in(self)
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::InUse { .. }
            | Self::Foreign { .. }
            | Self::Damaged { .. }
            | Self::OutOfOrder { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Whether something that is stored is damaged, while the rest may well be read.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether a batch that was being stored has certainly not been stored, not even in part.
    pub fn is_certainly_not_applied(&self) -> bool {
        match self {
            Self::Unavailable { certainly_not_applied, .. } => *certainly_not_applied,
            Self::InUse { .. } | Self::Foreign { .. } | Self::OutOfOrder { .. } | Self::Refused { .. } => {
                true
            }
            Self::Damaged { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn unavailable(kind: io::ErrorKind) -> Error {
        let source = fjall::Error::Storage(fjall::LsmError::Io(io::Error::from(kind)));
        Error::Unavailable {
            what: "a test".to_owned(),
            certainly_not_applied: true,
            source: Some(Box::new(source)),
        }
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_is_told_apart_from_one_that_is_away() {
        assert_eq!(unavailable(io::ErrorKind::StorageFull).lack(), Some(Lack::Space));
        assert_eq!(unavailable(io::ErrorKind::QuotaExceeded).lack(), Some(Lack::Space));
        assert_eq!(unavailable(io::ErrorKind::ReadOnlyFilesystem).lack(), Some(Lack::Writing));
        assert_eq!(unavailable(io::ErrorKind::PermissionDenied).lack(), None);
        assert_eq!(Error::Damaged { what: "a test".to_owned() }.lack(), None);
    }

    #[test]
    fn what_is_damaged_is_isolated_and_a_store_that_is_away_is_not() {
        let ids: Vec<JobId> = (1..=3).map(|number| JobId::new([number; 16])).collect();
        let damaged = |read: &[JobId]| match read.contains(&ids[1]) {
            true => Err(Error::Damaged { what: "the second".to_owned() }),
            false => Ok(read.to_vec()),
        };
        let isolated = isolate(&ids, damaged).unwrap();
        assert_eq!(isolated, [Ok(ids[0]), Err("the second".to_owned()), Ok(ids[2])]);
        assert_eq!(isolate(&ids[..1], damaged).unwrap(), [Ok(ids[0])]);

        let away = |_: &[JobId]| Err::<Vec<()>, _>(unavailable(io::ErrorKind::Other));
        assert!(isolate(&ids, away).unwrap_err().is_retryable());
        // It may go away while records are read one by one.
        let then_away = |read: &[JobId]| match read.len() {
            1 => Err::<Vec<()>, _>(unavailable(io::ErrorKind::Other)),
            _ => Err(Error::Damaged { what: "one of them".to_owned() }),
        };
        assert!(isolate(&ids, then_away).unwrap_err().is_retryable());
    }
}
