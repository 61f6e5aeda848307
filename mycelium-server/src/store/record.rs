//! What is stored: the records, and the batch that changes them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::{self, Contents, End, FinishedJob, JobRecord, JobWrite, Records};
use mycelium_core::ids::{Attempt, FailureId, FinishNumber, JobId, Revision, Timestamp};
use mycelium_core::image::{AttemptEnd, Counters, JobHead, LiveJob, PastAttempt, Running};
use mycelium_core::status::FinalStatus;

use super::RevisionKey;

/// One atomic change of the store.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The numbers after it; `counters.commit` is its own.
    pub counters: Counters,
    /// Jobs, each once.
    pub jobs: Vec<JobChange>,
    /// Flows and sessions, submissions, propagations and policies.
    pub records: Records,
    /// Failures that were seen, which are counted under their identity.
    pub failures: Vec<NewFailure>,
    /// Elves to write: what they last said of themselves. `first_seen` of one that is there already stays.
    pub elves: Vec<ElfRecord>,
    /// Revisions to keep, unless they are kept already.
    pub revisions: Vec<RevisionRecord>,
    /// Uses of blobs to write.
    pub blob_uses_begun: Vec<BlobUse>,
    /// Uses of blobs to remove, written before or not.
    pub blob_uses_ended: Vec<BlobUse>,
    /// Finished jobs to remove, each once, and none that is among `jobs`. These, and [`Records::flows_removed`], may be gone
    /// although the rest of the batch was not stored.
    pub erased: Vec<Erased>,
    /// Occurrences of failures to remove, as failure, job and number. They, and the failures, may be gone although the rest of
    /// the batch was not stored.
    pub occurrences_removed: Vec<(FailureId, JobId, u64)>,
    /// Failures to remove of which no occurrence is left, with how often they were seen: those that were seen more often since
    /// stay.
    pub failures_removed: Vec<(FailureId, u64)>,
    /// What goes of elves that nothing refers to any more, each once: not of those that have connected since.
    pub elves_swept: Vec<SweptElf>,
    /// What attempts have left for those that come after them: each job once, in place of what was there of it.
    pub checkpoints: Vec<CheckpointRecord>,
    /// Jobs of which no checkpoint is kept any more, none of them among those.
    pub checkpoints_removed: Vec<JobId>,
    /// What is stored already of all that, as far as it matters: [`Knowledge::prepare`](super::Knowledge::prepare) fills
    /// it in.
    pub known: Known,
}

/// What a store holds, before a batch, of what the batch changes. With it a commit reads nothing: whatever is not here
/// is new.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Failures that were seen before.
    pub failures: HashMap<FailureId, Seen>,
    /// When elves were first seen.
    pub elves: HashMap<Arc<str>, Timestamp>,
    /// Revisions that are kept already.
    pub revisions: HashSet<RevisionKey>,
    /// The records of jobs that become [`JobAfter::Evaluate`].
    pub waiting: HashMap<JobId, LiveJob>,
    /// The edges of jobs that become [`JobAfter::Dropped`].
    pub edges: HashMap<JobId, Edges>,
}

/// When an attempt was started, as records say it. Those from before there was more to say than when it was handed out
/// say nothing, and mean that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    /// When, if that is not when it was handed out.
    pub(crate) at: Option<Timestamp>,
    /// It is not known to have been.
    pub(crate) unstarted: bool,
}

impl Started {
    /// What is stored of an attempt.
    pub(crate) fn of(running: &Running) -> Self {
        let at = running.started.filter(|at| *at != running.since);
        Self { at, unstarted: running.started.is_none() }
    }

    /// When an attempt was started that was handed out then.
    pub(crate) fn read(self, since: Timestamp) -> Option<Timestamp> {
        (!self.unstarted).then(|| self.at.unwrap_or(since))
    }
}

/// How often a failure was seen, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub occurrences: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// A job, and one that depends on it or gathers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The job.
    pub job: JobId,
    /// The one that waits for it.
    pub dependent: JobId,
}

/// What a job depends on, and what gathers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edges {
    /// The jobs it depends on.
    pub depends_on: Vec<JobId>,
    /// The job that has the list of which it is an element.
    pub gathered_by: Option<JobId>,
}

/// SHA-256 of the bytes of a blob: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; 32]);

impl BlobDigest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest with these bytes; `None` unless there are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobDigest({self})")
    }
}

/// A text that is not the digest of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a blob is 64 hexadecimal digits")]
pub struct ParseBlobDigestError;

impl FromStr for BlobDigest {
    type Err = ParseBlobDigestError;

    fn from_str(text: &str) -> Result<Self, ParseBlobDigestError> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(ParseBlobDigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(ParseBlobDigestError);
            // Two digits of 16 fit a byte.
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| ParseBlobDigestError)?;
        }
        Ok(Self(bytes))
    }
}

/// What a job uses a blob for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobRole {
    /// It stands in the job's specification or outputs, and is needed for as long as the job is known.
    Kept,
    /// It was made for an attempt of the job, and is needed until the job has ended.
    Argument,
}

/// A job that needs a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobUse {
    /// The blob.
    pub blob: BlobDigest,
    /// The job.
    pub job: JobId,
    /// For what.
    pub role: BlobRole,
}

/// What stands in a job's records where they are stored: the bytes themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {}

impl Contents for Encoded {
    type Spec = Bytes;
    type Outputs = Bytes;
    type Failure = FailureId;
}

/// What stands in the records of jobs where their bodies are read by themselves, or not at all: of a specification its
/// size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {}

impl Contents for Bare {
    type Spec = usize;
    type Outputs = ();
    type Failure = FailureId;
}

/// A change of a job. If it was finished before, its finished record, its outputs and its index entries go. For a new
/// one the store keeps an edge for each job that it depends on, and one from it to the job that gathers it, see
/// [`Reads::dependents`](super::Reads::dependents).
pub type JobChange = JobWrite<Encoded>;

/// What a job is after a batch.
pub type JobAfter = JobRecord<Encoded>;

/// What never changes of a job. Its body is opaque to a store, but for one that [indexes](super::indexed) what stands in
/// it.
pub type SpecRecord = effects::SpecRecord<Encoded>;

/// A specification with the size of its body in bytes, in place of the body, which may be large.
pub type Outline = effects::SpecRecord<Bare>;

/// A job that has ended.
pub type FinishedRecord = FinishedJob<Bare>;

/// A specification without its body.
pub(crate) fn outline(spec: SpecRecord) -> Outline {
    let SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body } = spec;
    Outline { head, digest, depends_on, evaluate, gathered_by, begins_at, body: body.len() }
}

/// The attempts of a job that has ended, as far as they are kept, with the failure of the one that it ended with.
pub(crate) fn attempts_of(job: &FinishedRecord) -> Vec<PastAttempt> {
    let mut attempts = job.all_attempts();
    if let (Some(last), End::Failed(failure)) = (attempts.last_mut(), job.end)
        && (last.number, last.how) == (job.attempt, AttemptEnd::Failed)
    {
        last.failure = Some(failure);
    }
    attempts
}

/// The record of a job that ends, and its outputs if it has any.
pub(crate) fn split_outputs(finished: &FinishedJob<Encoded>) -> (FinishedRecord, Option<&Bytes>) {
    let (end, outputs) = match &finished.end {
        End::Done(outputs) => (End::Done(()), Some(outputs)),
        End::Failed(failure) => (End::Failed(*failure), None),
        End::UpstreamFailed(cause) => (End::UpstreamFailed(*cause), None),
        End::Cancelled => (End::Cancelled, None),
        End::Expired(why) => (End::Expired(*why), None),
        End::Skipped => (End::Skipped, None),
    };
    (finished.clone().with_end(end), outputs)
}

/// A finished job that is deleted: its records go, and its entries in every list. What leads from it to others stays until
/// they are deleted too. Occurrences of failures in it are removed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// What it is.
    pub head: JobHead,
    /// Its place in the order of finishing.
    pub finish_number: FinishNumber,
    /// How it ended.
    pub status: FinalStatus,
    /// How many bytes its outputs have.
    pub outputs_bytes: usize,
    /// What leads to it, and to what gathers it.
    pub edges: Edges,
    /// If a stub of it stays: its specification, without values. Then its outputs become empty if it is DONE, and all that is
    /// known beside them stays as it is.
    pub stub: Option<SpecRecord>,
}

/// What an attempt has left for those that come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: Attempt,
    /// When.
    pub at: Timestamp,
    /// What it left, opaque to the store.
    pub body: Bytes,
}

/// A failure that was seen.
#[derive(Debug, Clone)]
pub struct NewFailure {
    /// Digest of its identity.
    pub id: FailureId,
    /// The failure with this occurrence's message and details, opaque to the store.
    pub body: Bytes,
    /// The occurrence.
    pub occurrence: OccurrenceRecord,
    /// The elf whose task failed.
    pub elf: Arc<str>,
    /// The task.
    pub task: Arc<str>,
}

impl NewFailure {
    /// How often the failure was seen once this occurrence is counted on what was `known` of it: the occurrence's own
    /// number.
    pub(super) fn counted_on(&self, known: Option<Seen>) -> Seen {
        let at = self.occurrence.at;
        Seen {
            occurrences: known.map_or(0, |known| known.occurrences).saturating_add(1),
            first: known.map_or(at, |known| known.first.min(at)),
            // By the clock as it is now: it may have been wrong before.
            last: at,
        }
    }

    /// The failure's record, with this occurrence as the latest.
    pub(super) fn record(&self, seen: Seen) -> FailureRecord {
        let Seen { occurrences, first, last } = seen;
        FailureRecord {
            id: self.id,
            body: self.body.clone(),
            occurrences,
            first_seen: first,
            last_seen: last,
            elf: self.elf.clone(),
            task: self.task.clone(),
        }
    }
}

/// One time that a failure was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceRecord {
    /// The job.
    pub job: JobId,
    /// Its attempt; 0 if it failed before the first.
    pub attempt: Attempt,
    /// When.
    pub at: Timestamp,
    /// The message of this occurrence.
    pub message: String,
    /// The details of this occurrence.
    pub details: String,
    /// The messages of the causes in this occurrence, nearest first.
    pub cause_messages: Vec<String>,
}

/// A failure, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRecord {
    /// Digest of its identity.
    pub id: FailureId,
    /// The failure with the latest occurrence's message and details, opaque to the store.
    pub body: Bytes,
    /// How often it was seen.
    pub occurrences: u64,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// The elf whose task failed with it last.
    pub elf: Arc<str>,
    /// The task.
    pub task: Arc<str>,
}

impl FailureRecord {
    /// How often it was seen, and when.
    pub(super) fn seen(&self) -> Seen {
        Seen { occurrences: self.occurrences, first: self.first_seen, last: self.last_seen }
    }
}

/// An elf, as it last described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfRecord {
    /// Its name.
    pub name: Arc<str>,
    /// What it said of itself, opaque to the store.
    pub body: Bytes,
    /// When it first connected.
    pub first_seen: Timestamp,
    /// When it last connected.
    pub last_seen: Timestamp,
}

/// What goes of an elf. It may be gone although the rest of its batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptElf {
    /// Its name.
    pub name: Arc<str>,
    /// When it last connected, as far as whoever removes it knows: if it was later, all stays.
    pub last_seen: Timestamp,
    /// Revisions of it and its tasks, as task, revision and when that was first seen.
    pub revisions: Vec<(Arc<str>, Revision, Timestamp)>,
    /// Whether it goes itself.
    pub whole: bool,
}

/// What was seen of an elf or a task under one digest of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRecord {
    /// The elf.
    pub elf: Arc<str>,
    /// The task; empty for the elf as a whole.
    pub task: Arc<str>,
    /// The digest.
    pub revision: Revision,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Documentation, signature and source, opaque to the store.
    pub body: Bytes,
}
