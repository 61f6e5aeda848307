//! The records of the broker: its counters, sessions, submissions, propagations of failures, policies, deletions of flows,
//! uses of blobs, and checkpoints; and what leads from labels to flows. What is listed is listed by its key, so that no other index has
//! to be kept.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use mycelium_core::ids::{
    Attempt, Commit, FinishNumber, FlowId, FlowNumber, InstanceId, JobId, JobNumber, PolicyId, SecretDigest,
    SessionId, SubmissionId,
};
use mycelium_core::image::{
    Counters, DeletionRecord, DeletionStage, FlowRecord, PropagationRecord, SessionRecord, SubmissionRecord,
};
use mycelium_core::policy::PolicyRecord;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::operators::{ActionDocument, PauseDocument, action_key, pause_key};
use super::text::Text;
use super::time::Date;
use super::{base64, key, sorted};
use crate::store::policy::PolicyText;
use crate::store::{Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord};

/// A document of `BrokerRecords`. Each is written whole: it replaces the one that is there.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(in super::super) enum RecordDocument {
    Counters(CountersDocument),
    Session(SessionDocument),
    Submission(SubmissionDocument),
    Propagation(PropagationDocument),
    Policy(PolicyDocument),
    Deletion(DeletionDocument),
    Pause(PauseDocument),
    Action(ActionDocument),
    Use(UseDocument),
    Label(LabelDocument),
    Body(BodyDocument),
    Checkpoint(CheckpointDocument),
    #[serde(untagged)]
    Gone(GoneDocument),
}

impl RecordDocument {
    /// What stands in the place of one that is not there any more, until it is removed.
    pub(in super::super) fn gone(key: String) -> Self {
        Self::Gone(GoneDocument { key, gone: 1 })
    }
}

/// One that is not there any more.
#[derive(Debug, Serialize)]
pub(in super::super) struct GoneDocument {
    #[serde(rename = "_key")]
    key: String,
    gone: u8,
}

/// The numbers that only rise.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct CountersDocument {
    #[serde(rename = "_key", skip_deserializing)]
    key: &'static str,
    #[serde(with = "sorted")]
    commit: u64,
    #[serde(with = "sorted")]
    job: u64,
    #[serde(with = "sorted")]
    flow: u64,
    #[serde(with = "sorted")]
    finish: u64,
    #[serde(with = "sorted")]
    session: u64,
}

/// The key of the counters.
pub(in super::super) const COUNTERS: &str = "counters";

impl From<Counters> for CountersDocument {
    fn from(counters: Counters) -> Self {
        let Counters { commit, job, flow, finish, session } = counters;
        let (commit, job, flow, finish, session) = (commit.0, job.0, flow.0, finish.0, session.0);
        Self { key: COUNTERS, commit, job, flow, finish, session }
    }
}

impl From<CountersDocument> for Counters {
    fn from(document: CountersDocument) -> Self {
        let CountersDocument { key: _, commit, job, flow, finish, session } = document;
        Self {
            commit: Commit(commit),
            job: JobNumber(job),
            flow: FlowNumber(flow),
            finish: FinishNumber(finish),
            session: SessionId(session),
        }
    }
}

/// A session.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct SessionDocument {
    #[serde(rename = "_key", serialize_with = "session_key", deserialize_with = "id_of_key")]
    id: u64,
    instance: Text<InstanceId>,
    /// The digest of its secret, if it has one.
    secret: Option<String>,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

impl From<&SessionRecord> for SessionDocument {
    fn from(record: &SessionRecord) -> Self {
        let SessionRecord { id, instance, secret } = record;
        let secret = secret.map(|secret| key::hex(secret.as_bytes()));
        Self { id: id.0, instance: Text(*instance), secret, load: 1 }
    }
}

impl TryFrom<SessionDocument> for SessionRecord {
    type Error = &'static str;

    fn try_from(document: SessionDocument) -> Result<Self, &'static str> {
        let SessionDocument { id, instance, secret, load: _ } = document;
        let digest = |digits: String| {
            let digest = key::from_hex(&digits).and_then(|bytes| SecretDigest::from_slice(&bytes));
            digest.ok_or("`secret` is no digest of 64 hexadecimal digits")
        };
        let secret = secret.map(digest).transpose()?;
        Ok(Self { id: SessionId(id), instance: instance.0, secret })
    }
}

/// A submission of several parts.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct SubmissionDocument {
    #[serde(rename = "_key", serialize_with = "submission_key", deserialize_with = "id_of_key")]
    id: SubmissionId,
    flow: Text<FlowId>,
    next_part: u32,
    sealed: bool,
}

impl From<&SubmissionRecord> for SubmissionDocument {
    fn from(record: &SubmissionRecord) -> Self {
        let SubmissionRecord { id, flow, next_part, sealed } = *record;
        Self { id, flow: Text(flow), next_part, sealed }
    }
}

impl From<SubmissionDocument> for SubmissionRecord {
    fn from(document: SubmissionDocument) -> Self {
        let SubmissionDocument { id, flow, next_part, sealed } = document;
        Self { id, flow: flow.0, next_part, sealed }
    }
}

/// A propagation of a failure that is under way.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct PropagationDocument {
    #[serde(rename = "_key", serialize_with = "propagation_key", deserialize_with = "id_of_key")]
    cause: JobId,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

impl From<PropagationRecord> for PropagationDocument {
    fn from(PropagationRecord { cause }: PropagationRecord) -> Self {
        Self { cause, load: 1 }
    }
}

impl From<PropagationDocument> for PropagationRecord {
    fn from(PropagationDocument { cause, load: _ }: PropagationDocument) -> Self {
        Self { cause }
    }
}

/// A policy of jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct PolicyDocument {
    #[serde(rename = "_key", serialize_with = "policy_key", deserialize_with = "id_of_key")]
    id: u32,
    policy: PolicyText,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

/// A flow that is being deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct DeletionDocument {
    #[serde(rename = "_key", serialize_with = "deletion_key", deserialize_with = "id_of_key")]
    flow: FlowId,
    stage: Stage,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

impl From<&PolicyRecord> for PolicyDocument {
    fn from(PolicyRecord { id, policy }: &PolicyRecord) -> Self {
        Self { id: id.0, policy: policy.into(), load: 1 }
    }
}

impl From<PolicyDocument> for PolicyRecord {
    fn from(PolicyDocument { id, policy, load: _ }: PolicyDocument) -> Self {
        Self { id: PolicyId(id), policy: policy.into() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Checking,
    Removing,
    Stubbing,
}

impl From<DeletionRecord> for DeletionDocument {
    fn from(DeletionRecord { flow, stage }: DeletionRecord) -> Self {
        let stage = match stage {
            DeletionStage::Checking => Stage::Checking,
            DeletionStage::Removing => Stage::Removing,
            DeletionStage::Stubbing => Stage::Stubbing,
        };
        Self { flow, stage, load: 1 }
    }
}

impl From<DeletionDocument> for DeletionRecord {
    fn from(DeletionDocument { flow, stage, load: _ }: DeletionDocument) -> Self {
        let stage = match stage {
            Stage::Checking => DeletionStage::Checking,
            Stage::Removing => DeletionStage::Removing,
            Stage::Stubbing => DeletionStage::Stubbing,
        };
        Self { flow, stage }
    }
}

/// A job that needs a blob. All of it stands in the key, from which it is read.
#[derive(Debug, Serialize)]
pub(in super::super) struct UseDocument {
    #[serde(rename = "_key")]
    key: String,
    blob: Text<BlobDigest>,
    job: Text<JobId>,
    role: &'static str,
}

impl From<&BlobUse> for UseDocument {
    fn from(used: &BlobUse) -> Self {
        let BlobUse { blob, job, role } = *used;
        let name = match role {
            BlobRole::Kept => "kept",
            BlobRole::Argument => "argument",
        };
        Self { key: use_key(used), blob: Text(blob), job: Text(job), role: name }
    }
}

/// The key of a use of a blob: these sort as uses do.
pub(in super::super) fn use_key(used: &BlobUse) -> String {
    let role = match used.role {
        BlobRole::Kept => KEPT,
        BlobRole::Argument => ARGUMENT,
    };
    key::join(&[&USE, &used.blob, &used.job, &role])
}

const KEPT: &str = "0";
const ARGUMENT: &str = "1";

/// Undoes [`use_key`].
pub(in super::super) fn use_of_key(key: &str) -> Option<BlobUse> {
    let mut parts = key.split('.');
    let (USE, blob, job) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?) else {
        return None;
    };
    let role = match (parts.next()?, parts.next()) {
        (KEPT, None) => BlobRole::Kept,
        (ARGUMENT, None) => BlobRole::Argument,
        _ => return None,
    };
    Some(BlobUse { blob, job, role })
}

/// Leads from a label to a flow that has it: no index of a list of labels serves the order of flows.
#[derive(Debug, Serialize)]
pub(in super::super) struct LabelDocument {
    #[serde(rename = "_key")]
    key: String,
    flow: Text<FlowId>,
}

/// A label in keys.
pub(in super::super) fn label_digest((key, value): (&str, &str)) -> String {
    let mut digest = Sha256::new();
    digest.update(key);
    // No text has this byte, so that no two labels come to the same bytes.
    digest.update([0xff]);
    digest.update(value);
    key::hex(&digest.finalize())
}

/// The keys of what leads from its labels to a flow.
pub(in super::super) fn label_keys(flow: &FlowRecord) -> impl Iterator<Item = String> {
    labels(flow).map(|label| label.key)
}

fn labels(flow: &FlowRecord) -> impl Iterator<Item = LabelDocument> {
    flow.labels.iter().map(|label| {
        let number = sorted::text(flow.number.0);
        let key = key::join(&[&LABEL, &label_digest(label), &number, &flow.id]);
        LabelDocument { key, flow: Text(flow.id) }
    })
}

/// The body of a job that is too large to stand in its document.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct BodyDocument {
    #[serde(rename = "_key", serialize_with = "body_key", deserialize_with = "id_of_key")]
    pub(in super::super) job: JobId,
    #[serde(with = "base64")]
    pub(in super::super) body: Bytes,
}

/// What an attempt of a job has left for those that come after it.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct CheckpointDocument {
    #[serde(rename = "_key", serialize_with = "checkpoint_key", deserialize_with = "id_of_key")]
    job: JobId,
    attempt: u32,
    store_date: Date,
    /// For people.
    #[serde(skip_deserializing)]
    store_ms: u64,
    #[serde(with = "base64")]
    body: Bytes,
}

impl From<&CheckpointRecord> for CheckpointDocument {
    fn from(record: &CheckpointRecord) -> Self {
        let CheckpointRecord { job, attempt, at, body } = record;
        Self {
            job: *job,
            attempt: attempt.0,
            store_date: Date(*at),
            store_ms: Date(*at).ms(),
            body: body.clone(),
        }
    }
}

impl From<CheckpointDocument> for CheckpointRecord {
    fn from(document: CheckpointDocument) -> Self {
        let CheckpointDocument { job, attempt, store_date: Date(at), store_ms: _, body } = document;
        Self { job, attempt: Attempt(attempt), at, body }
    }
}

const SESSION: &str = "session";
const PROPAGATION: &str = "propagation";
const POLICY: &str = "policy";
const DELETION: &str = "deletion";
/// Begins the keys of submissions.
pub(in super::super) const SUBMISSION: &str = "submission";
/// Begins the keys of the bodies of jobs.
pub(in super::super) const BODY: &str = "body";
/// Begins the keys of checkpoints.
pub(in super::super) const CHECKPOINT: &str = "checkpoint";
/// Begins the keys of uses of blobs.
pub(in super::super) const USE: &str = "use";
/// Begins the keys of what leads from labels to flows.
pub(in super::super) const LABEL: &str = "label";

/// The key of what belongs to an id.
pub(in super::super) fn record_key(kind: &str, id: &dyn Display) -> String {
    key::join(&[&kind, id])
}

fn session_key<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(SESSION, id))
}

fn submission_key<S: Serializer>(id: &SubmissionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(SUBMISSION, id))
}

fn propagation_key<S: Serializer>(cause: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(PROPAGATION, cause))
}

fn policy_key<S: Serializer>(id: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(POLICY, id))
}

fn deletion_key<S: Serializer>(flow: &FlowId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(DELETION, flow))
}

fn checkpoint_key<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(CHECKPOINT, job))
}

fn body_key<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&record_key(BODY, job))
}

/// Reads the id in a key, behind the word that says what it is of.
fn id_of_key<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let key = String::deserialize(deserializer)?;
    let id = key.split_once('.').and_then(|(_, id)| id.parse().ok());
    id.ok_or_else(|| de::Error::custom("the key has no id"))
}

/// The keys of what a batch ends, written before or not.
pub(in super::super) fn ended(batch: &Batch) -> impl Iterator<Item = String> {
    let records = &batch.records;
    let sessions = records.sessions_ended.iter().map(|id| record_key(SESSION, id));
    let submissions = records.submissions_dropped.iter().map(|id| record_key(SUBMISSION, id));
    let propagations = records.propagations_ended.iter().map(|ended| record_key(PROPAGATION, &ended.cause));
    let policies = records.policies_dropped.iter().map(|id| record_key(POLICY, id));
    let deletions = records.deletions_ended.iter().map(|flow| record_key(DELETION, flow));
    let pauses = records.pauses_ended.iter().map(pause_key);
    let actions = records.actions_forgotten.iter().map(action_key);
    let uses = batch.blob_uses_ended.iter().map(use_key);
    let checkpoints = batch.checkpoints_removed.iter().map(|job| record_key(CHECKPOINT, job));
    let of_jobs = sessions.chain(submissions).chain(propagations).chain(policies);
    of_jobs.chain(deletions).chain(pauses).chain(actions).chain(uses).chain(checkpoints)
}

/// What a batch writes to `BrokerRecords`, but for the bodies of jobs: whole documents of keys that differ, each of which
/// replaces the one that is there.
pub(in super::super) fn records(batch: &Batch) -> Vec<RecordDocument> {
    let records = &batch.records;
    let mut documents: BTreeMap<String, RecordDocument> = BTreeMap::new();
    for session in &records.sessions_opened {
        documents.insert(record_key(SESSION, &session.id), RecordDocument::Session(session.into()));
    }
    for submission in &records.submissions {
        let key = record_key(SUBMISSION, &submission.id);
        documents.insert(key, RecordDocument::Submission(submission.into()));
    }
    for propagation in &records.propagations_begun {
        let key = record_key(PROPAGATION, &propagation.cause);
        documents.insert(key, RecordDocument::Propagation((*propagation).into()));
    }
    for policy in &records.policies {
        documents.insert(record_key(POLICY, &policy.id), RecordDocument::Policy(policy.into()));
    }
    for deletion in &records.deletions {
        documents.insert(record_key(DELETION, &deletion.flow), RecordDocument::Deletion((*deletion).into()));
    }
    for action in &records.actions {
        documents.insert(action_key(&action.id), RecordDocument::Action(action.into()));
    }
    for pause in &records.pauses {
        documents.insert(pause_key(&pause.target), RecordDocument::Pause(pause.into()));
    }
    for used in &batch.blob_uses_begun {
        documents.insert(use_key(used), RecordDocument::Use(used.into()));
    }
    for checkpoint in &batch.checkpoints {
        documents
            .insert(record_key(CHECKPOINT, &checkpoint.job), RecordDocument::Checkpoint(checkpoint.into()));
    }
    for label in records.flows.iter().flat_map(labels) {
        documents.insert(label.key.clone(), RecordDocument::Label(label));
    }
    // What began and ended in the same batch has ended.
    for key in ended(batch) {
        documents.insert(key.clone(), RecordDocument::gone(key));
    }
    documents.insert(COUNTERS.to_owned(), RecordDocument::Counters(batch.counters.into()));
    documents.into_values().collect()
}
