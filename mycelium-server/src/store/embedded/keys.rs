//! The layout of all keys. Numbers are big-endian, so that they sort; where a list runs from the newest down, their
//! complement stands in the key, so that it is read forwards.
//!
//! | table | key | value |
//! |---|---|---|
//! | `specs` | job | specification |
//! | `live` | job | unfinished job |
//! | `ends` | job | finish number, and the outputs if they are small |
//! | `outputs` | job | outputs that are not small; job and `c`: its checkpoint |
//! | `finished` | finish number, descending | finished job |
//! | `index` | see [`index`] | nothing, but for words |
//! | `catalog` | see [`catalog`] | everything there are few of |
//!
//! Finished jobs are stored in the order they finish, and not by job: writes then append, pages of the list of all
//! read neighbours, and no index of all is needed. `ends` leads from a job to its place.

use mycelium_core::ids::{FinishNumber, FlowId, JobId};

use crate::store::cursor::{descending, from_descending};

/// The longest name that goes into a key, in bytes. The database would panic on a key over 65,535 bytes.
pub(super) const NAME_BYTES_MAX: usize = 4096;

/// A key that is put together.
#[derive(Debug, Clone)]
pub(super) struct Key(Vec<u8>);

impl Key {
    fn new(tag: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(tag);
        Self(bytes)
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    /// A name followed by more needs its length before it, lest `a` + `b...` be taken for `ab` + `...`.
    fn with_name(self, name: &str) -> Self {
        let bytes = u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.with(&bytes).with(name.as_bytes())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The key of the checkpoint of a job in `outputs`: no job has an id of so many bytes.
pub(super) fn checkpoint(job: JobId) -> [u8; 17] {
    let mut key = [b'c'; 17];
    key[..16].copy_from_slice(job.as_bytes());
    key
}

/// The key of a finished job.
pub(super) fn finished(number: FinishNumber) -> [u8; 8] {
    descending(number.0)
}

/// The finish number at the end of a key.
pub(super) fn finish_number(key: &[u8]) -> Option<FinishNumber> {
    from_descending(key.last_chunk::<8>()?).map(FinishNumber)
}

/// Before all words, in `catalog` and `index`.
const WORD: u8 = b'w';

/// A word.
pub(super) fn word(number: u32) -> Key {
    words().with(&number.to_be_bytes())
}

/// All words; ends with the number.
pub(super) fn words() -> Key {
    Key::new(WORD)
}

/// The number of a word.
pub(super) fn word_number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// Keys of `index`. Values are empty, but for those of words.
pub(super) mod index {
    use super::*;
    use mycelium_core::ids::Timestamp;
    use mycelium_core::status::FinalStatus;

    use crate::store::{BlobDigest, BlobRole, BlobUse};

    const FLOW: u8 = b'f';
    const FLOW_AND_STATUS: u8 = b'F';
    const ELF: u8 = b'e';
    const ELF_AND_STATUS: u8 = b'E';
    const STATUS: u8 = b's';
    const LABEL: u8 = b'l';
    const TIME: u8 = b't';
    const DEPENDENT: u8 = b'd';
    const BLOB: u8 = b'b';
    const CHECKPOINT: u8 = b'c';

    /// A job has a checkpoint.
    pub(in super::super) fn checkpoint(job: JobId) -> Key {
        checkpoints().with(job.as_bytes())
    }

    /// The jobs that have one; ends with the job.
    pub(in super::super) fn checkpoints() -> Key {
        Key::new(CHECKPOINT)
    }

    /// The job that has one.
    pub(in super::super) fn checkpoint_of(key: &[u8]) -> Option<JobId> {
        JobId::from_slice(key.get(1..)?)
    }

    /// Finished jobs of a flow, with one status or any; ends with the finish number.
    pub(in super::super) fn of_flow(flow: FlowId, status: Option<FinalStatus>) -> Key {
        match status {
            None => Key::new(FLOW).with(flow.as_bytes()),
            Some(status) => Key::new(FLOW_AND_STATUS).with(flow.as_bytes()).with(&[status_tag(status)]),
        }
    }

    /// Finished jobs of an elf, with one status or any; ends with the finish number.
    pub(in super::super) fn of_elf(elf: &str, status: Option<FinalStatus>) -> Key {
        match status {
            None => Key::new(ELF).with_name(elf),
            Some(status) => Key::new(ELF_AND_STATUS).with_name(elf).with(&[status_tag(status)]),
        }
    }

    /// Finished jobs with one status; ends with the finish number.
    pub(in super::super) fn of_status(status: FinalStatus) -> Key {
        Key::new(STATUS).with(&[status_tag(status)])
    }

    /// Finished jobs with one label; ends with the finish number.
    pub(in super::super) fn of_label((key, value): (&str, &str)) -> Key {
        Key::new(LABEL).with_name(key).with_name(value)
    }

    impl Key {
        /// The entry of a finished job in a list.
        pub(in super::super) fn at(self, number: FinishNumber) -> Key {
            self.with(&descending(number.0))
        }
    }

    /// A signpost from time to finish numbers.
    pub(in super::super) fn time(at: Timestamp, number: FinishNumber) -> Key {
        Key::new(TIME).with(&at.0.to_be_bytes()).with(&number.0.to_be_bytes())
    }

    /// All signposts, in the order of time.
    pub(in super::super) fn times() -> Vec<u8> {
        vec![TIME]
    }

    /// The finish number of a signpost.
    pub(in super::super) fn time_number(key: &[u8]) -> Option<FinishNumber> {
        Some(FinishNumber(u64::from_be_bytes(*key.last_chunk::<8>()?)))
    }

    /// The edge from a job to one that depends on it.
    pub(in super::super) fn dependent(job: JobId, dependent: JobId) -> Key {
        Key::new(DEPENDENT).with(job.as_bytes()).with(dependent.as_bytes())
    }

    /// The edges from a job; they end with the dependent.
    pub(in super::super) fn dependents(job: JobId) -> Key {
        Key::new(DEPENDENT).with(job.as_bytes())
    }

    /// The dependent of an edge.
    pub(in super::super) fn dependent_of(key: &[u8]) -> Option<JobId> {
        JobId::from_slice(key.last_chunk::<16>()?)
    }

    /// A use of a blob.
    pub(in super::super) fn blob_use(used: &BlobUse) -> Key {
        blob_uses(used.blob).with(used.job.as_bytes()).with(&[role_tag(used.role)])
    }

    /// The uses of a blob; they end with the job and the role.
    pub(in super::super) fn blob_uses(blob: BlobDigest) -> Key {
        all_blob_uses().with(blob.as_bytes())
    }

    /// The uses of all blobs; they end with the blob, the job and the role.
    pub(in super::super) fn all_blob_uses() -> Key {
        Key::new(BLOB)
    }

    /// The blob of a use.
    pub(in super::super) fn blob_of(key: &[u8]) -> Option<BlobDigest> {
        BlobDigest::from_slice(key.get(1..33)?)
    }

    /// The use that a key stands for.
    pub(in super::super) fn blob_use_of(blob: BlobDigest, key: &[u8]) -> Option<BlobUse> {
        let (tag, rest) = key.split_last()?;
        let job = JobId::from_slice(rest.last_chunk::<16>()?)?;
        let role = [BlobRole::Kept, BlobRole::Argument].into_iter().find(|role| role_tag(*role) == *tag)?;
        Some(BlobUse { blob, job, role })
    }

    /// Part of the format.
    fn role_tag(role: BlobRole) -> u8 {
        match role {
            BlobRole::Kept => 1,
            BlobRole::Argument => 2,
        }
    }

    /// How a status stands in keys and records. Part of the format.
    pub(in super::super) fn status_tag(status: FinalStatus) -> u8 {
        match status {
            FinalStatus::Done => 1,
            FinalStatus::Failed => 2,
            FinalStatus::UpstreamFailed => 3,
            FinalStatus::Cancelled => 4,
            FinalStatus::Skipped => 5,
            FinalStatus::Expired => 6,
        }
    }
}

/// Keys of `catalog`.
pub(super) mod catalog {
    use super::*;
    use mycelium_core::ids::{ActionId, FailureId, FlowNumber, PolicyId, Revision, SessionId, SubmissionId};
    use mycelium_core::image::{DeletionRecord, DeletionStage, FlowRecord, PauseTarget};

    use crate::store::{FailureCursor, RevisionCursor};

    /// The numbers that only rise.
    pub(in super::super) const COUNTERS: &[u8] = b"c";
    const FLOW: u8 = b'f';
    const FLOW_BY_NUMBER: u8 = b'n';
    const FLOW_BY_NAME: u8 = b'm';
    const FLOW_BY_LABEL: u8 = b'l';
    /// Before all sessions.
    pub(in super::super) const SESSION: u8 = b's';
    const SUBMISSION: u8 = b'u';
    /// Before all propagations.
    pub(in super::super) const PROPAGATION: u8 = b'x';
    /// Before all policies.
    pub(in super::super) const POLICY: u8 = b'p';
    /// Before all deletions.
    pub(in super::super) const DELETION: u8 = b'D';
    /// Before all actions.
    pub(in super::super) const ACTION: u8 = b'A';
    /// Before all pauses.
    pub(in super::super) const PAUSE: u8 = b'P';
    const FAILURE: u8 = b'F';
    const FAILURE_BY_TIME: u8 = b'L';
    const OCCURRENCE: u8 = b'O';
    const OCCURRENCE_OF: u8 = b'J';
    const ELF: u8 = b'e';
    const REVISION: u8 = b'r';
    const REVISION_BY_TIME: u8 = b'R';

    /// A flow.
    pub(in super::super) fn flow(id: FlowId) -> Key {
        Key::new(FLOW).with(id.as_bytes())
    }

    /// All flows, newest first; ends with the number. The value is the flow's id, as in the other lists of flows.
    pub(in super::super) fn flows() -> Key {
        Key::new(FLOW_BY_NUMBER)
    }

    /// Flows of one name, newest first; ends with the number.
    pub(in super::super) fn flows_named(name: &str) -> Key {
        Key::new(FLOW_BY_NAME).with_name(name)
    }

    /// Flows with one label, newest first; ends with the number.
    pub(in super::super) fn flows_labelled((key, value): (&str, &str)) -> Key {
        Key::new(FLOW_BY_LABEL).with_name(key).with_name(value)
    }

    /// The entries of a flow in lists.
    pub(in super::super) fn flow_entries(flow: &FlowRecord) -> impl Iterator<Item = Key> {
        let lists = [flows(), flows_named(&flow.name)].into_iter();
        lists.chain(flow.labels.iter().map(flows_labelled)).map(|list| list.at_flow(flow.number))
    }

    impl Key {
        /// The entry of a flow in a list.
        pub(in super::super) fn at_flow(self, number: FlowNumber) -> Key {
            self.with(&descending(number.0))
        }

        /// A place in a list, as a caller gave it.
        pub(in super::super) fn at_place(self, place: &[u8]) -> Key {
            self.with(place)
        }
    }

    /// A session.
    pub(in super::super) fn session(id: SessionId) -> Key {
        Key::new(SESSION).with(&id.0.to_be_bytes())
    }

    /// A submission.
    pub(in super::super) fn submission(id: SubmissionId) -> Key {
        submissions().with(id.as_bytes())
    }

    /// All submissions; ends with the id.
    pub(in super::super) fn submissions() -> Key {
        Key::new(SUBMISSION)
    }

    /// The id of a submission.
    pub(in super::super) fn submission_of(key: &[u8]) -> Option<SubmissionId> {
        SubmissionId::from_slice(key.get(1..)?)
    }

    /// A propagation. The value is empty.
    pub(in super::super) fn propagation(cause: JobId) -> Key {
        Key::new(PROPAGATION).with(cause.as_bytes())
    }

    /// The cause of a propagation.
    pub(in super::super) fn propagation_cause(key: &[u8]) -> Option<JobId> {
        JobId::from_slice(key.get(1..)?)
    }

    /// A policy.
    pub(in super::super) fn policy(id: PolicyId) -> Key {
        Key::new(POLICY).with(&id.0.to_be_bytes())
    }

    /// The id of a policy.
    pub(in super::super) fn policy_of(key: &[u8]) -> Option<PolicyId> {
        Some(PolicyId(u32::from_be_bytes(key.get(1..)?.try_into().ok()?)))
    }

    /// The deletion of a flow. The value is its stage.
    pub(in super::super) fn deletion(flow: FlowId) -> Key {
        Key::new(DELETION).with(flow.as_bytes())
    }

    /// The flow of a deletion, and its stage.
    pub(in super::super) fn deletion_of(key: &[u8], value: &[u8]) -> Option<DeletionRecord> {
        let [tag] = value else { return None };
        let stage = STAGES.into_iter().find(|stage| stage_tag(*stage) == *tag)?;
        Some(DeletionRecord { flow: FlowId::from_slice(key.get(1..)?)?, stage })
    }

    /// An action.
    pub(in super::super) fn action(id: ActionId) -> Key {
        Key::new(ACTION).with(id.as_bytes())
    }

    /// The id of an action.
    pub(in super::super) fn action_of(key: &[u8]) -> Option<ActionId> {
        ActionId::from_slice(key.get(1..)?)
    }

    /// A pause.
    pub(in super::super) fn pause(target: &PauseTarget) -> Key {
        let key = Key::new(PAUSE);
        match target {
            PauseTarget::Mycelium => key.with(b"m"),
            PauseTarget::Elf(elf) => key.with(b"e").with_name(elf),
            PauseTarget::Task { elf, task } => key.with(b"t").with_name(elf).with_name(task),
            PauseTarget::Flow(flow) => key.with(b"f").with(flow.as_bytes()),
        }
    }

    const STAGES: [DeletionStage; 3] =
        [DeletionStage::Checking, DeletionStage::Removing, DeletionStage::Stubbing];

    /// Part of the format.
    pub(in super::super) fn stage_tag(stage: DeletionStage) -> u8 {
        match stage {
            DeletionStage::Checking => 1,
            DeletionStage::Removing => 2,
            DeletionStage::Stubbing => 3,
        }
    }

    /// A failure.
    pub(in super::super) fn failure(id: FailureId) -> Key {
        Key::new(FAILURE).with(id.as_bytes())
    }

    /// Failures, last seen first; ends with the place. The value is empty.
    pub(in super::super) fn failures() -> Key {
        Key::new(FAILURE_BY_TIME)
    }

    /// The entry of a failure in the list.
    pub(in super::super) fn failure_at(place: &FailureCursor) -> Key {
        failures().with(&place.0)
    }

    /// The failure of an entry in the list.
    pub(in super::super) fn failure_of(key: &[u8]) -> Option<FailureId> {
        FailureId::from_slice(key.last_chunk::<16>()?)
    }

    /// Occurrences of a failure, last first; ends with the number.
    pub(in super::super) fn occurrences(id: FailureId) -> Key {
        Key::new(OCCURRENCE).with(id.as_bytes())
    }

    /// An occurrence.
    pub(in super::super) fn occurrence(id: FailureId, number: u64) -> Key {
        occurrences(id).with(&descending(number))
    }

    /// From a failure and a job to the occurrences of the one in the other, first one first. Ends with the number, and the
    /// value is empty; earlier versions wrote one key without a number, with that of the latest as its value.
    pub(in super::super) fn occurrences_in(id: FailureId, job: JobId) -> Key {
        Key::new(OCCURRENCE_OF).with(id.as_bytes()).with(job.as_bytes())
    }

    /// The entry of an occurrence in that list.
    pub(in super::super) fn occurrence_in(id: FailureId, job: JobId, number: u64) -> Key {
        occurrences_in(id, job).with(&number.to_be_bytes())
    }

    /// The number of an occurrence.
    pub(in super::super) fn occurrence_number(key: &[u8]) -> Option<u64> {
        from_descending(key.last_chunk::<8>()?)
    }

    /// Elves by name; ends with the name.
    pub(in super::super) fn elves() -> Key {
        Key::new(ELF)
    }

    /// An elf.
    pub(in super::super) fn elf(name: &str) -> Key {
        elves().with(name.as_bytes())
    }

    /// A revision.
    pub(in super::super) fn revision(elf: &str, task: &str, revision: Revision) -> Key {
        Key::new(REVISION).with_name(elf).with_name(task).with(revision.as_bytes())
    }

    /// Revisions of an elf, newest first; ends with the place. The value is empty.
    pub(in super::super) fn revisions(elf: &str) -> Key {
        Key::new(REVISION_BY_TIME).with_name(elf)
    }

    /// The entry of a revision in the list of its elf.
    pub(in super::super) fn revision_at(elf: &str, place: &RevisionCursor) -> Key {
        revisions(elf).with(&place.0)
    }
}
