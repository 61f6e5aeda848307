//! Records as bytes: a byte that numbers the record's form, then a protobuf message. Fields may be added; what changes
//! meaning gets the next number, and this module goes on reading the earlier ones.
//!
//! Nothing here panics on what it reads: bytes that cannot be right give [`Malformed`].

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use mycelium_core::effects::End;
use mycelium_core::ids::{
    Attempt, Commit, ContentDigest, FailureId, FinishNumber, FlowId, FlowNumber, InstanceId, JobId,
    JobNumber, PolicyId, Revision, SecretDigest, SessionId, SubmissionId, Timestamp,
};
use mycelium_core::image::{
    AttemptEnd, Counters, FlowRecord, JobHead, LiveJob, PastAttempt, Running, SessionRecord, SubmissionRecord,
};
use mycelium_core::status::{FinalCounts, FinalStatus};
use prost::Message;

use super::keys::index::status_tag;
use super::message;
use super::signposts::Behind;
use crate::store::{ElfRecord, FailureRecord, FinishedRecord, OccurrenceRecord, RevisionRecord, SpecRecord};

/// The form that is written.
const FORM: u8 = 1;

/// Bytes that are no record, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// A record that is stored under a key which tells part of it.
pub(super) trait Record: Sized {
    /// The protobuf message.
    type Message: Message + Default;
    /// What the key tells.
    type Key: Copy;

    fn to_message(&self) -> Self::Message;
    fn from_message(key: Self::Key, message: Self::Message) -> Result<Self, Malformed>;
}

/// Writes a record into `buffer`, in place of what was there.
pub(super) fn encode<R: Record>(record: &R, buffer: &mut Vec<u8>) {
    let message = record.to_message();
    buffer.clear();
    buffer.reserve(1 + message.encoded_len());
    buffer.push(FORM);
    message.encode_raw(buffer);
}

/// Reads a record.
pub(super) fn decode<R: Record>(key: R::Key, mut bytes: Bytes) -> Result<R, Malformed> {
    let message = match bytes.try_get_u8() {
        Ok(FORM) => R::Message::decode(bytes).map_err(|error| Malformed(error.to_string()))?,
        Ok(form) => return Err(Malformed(format!("the record has the unknown form {form}"))),
        Err(_) => return Err(Malformed("the record is empty".to_owned())),
    };
    R::from_message(key, message)
}

/// Makes names that are the same share their memory: a million jobs have a handful of elves and tasks.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    pub(super) fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.0.get(name) {
            *name = known.clone();
        } else {
            self.0.insert(name.clone());
        }
    }
}

fn id<I>(bytes: &[u8], from: impl Fn(&[u8]) -> Option<I>, what: &str) -> Result<I, Malformed> {
    from(bytes).ok_or_else(|| Malformed(format!("the {what} has {} bytes", bytes.len())))
}

fn optional<I>(
    bytes: Option<&Vec<u8>>,
    from: impl Fn(&[u8]) -> Option<I>,
    what: &str,
) -> Result<Option<I>, Malformed> {
    bytes.map(|bytes| id(bytes, from, what)).transpose()
}

fn pack(jobs: &[JobId]) -> Vec<u8> {
    jobs.iter().flat_map(JobId::as_bytes).copied().collect()
}

fn unpack(bytes: &[u8]) -> Result<Vec<JobId>, Malformed> {
    let (jobs, rest) = bytes.as_chunks::<16>();
    if rest.is_empty() {
        Ok(jobs.iter().copied().map(JobId::new).collect())
    } else {
        Err(Malformed(format!("a list of jobs has {} bytes", bytes.len())))
    }
}

fn status(tag: u32) -> Result<FinalStatus, Malformed> {
    FinalStatus::ALL
        .into_iter()
        .find(|status| u32::from(status_tag(*status)) == tag)
        .ok_or_else(|| Malformed(format!("{tag} is no status")))
}

/// What the messages of a job have in common.
macro_rules! head {
    ($($message:ident),*) => {$(
        impl message::$message {
            /// The message of that job; the rest is unset.
            fn of(head: &JobHead) -> Self {
                let JobHead { id: _, flow, elf, task, priority, labels, policy, number, submitted_at } = head;
                Self {
                    flow: flow.as_bytes().to_vec(),
                    elf: elf.to_string(),
                    task: task.to_string(),
                    priority: *priority,
                    labels: labels.into(),
                    policy: policy.0,
                    number: number.0,
                    submitted_at: submitted_at.0,
                    ..Self::default()
                }
            }

            /// The head of the job with this id.
            fn take_head(&mut self, job: JobId) -> Result<JobHead, Malformed> {
                Ok(JobHead {
                    id: job,
                    flow: id(&self.flow, FlowId::from_slice, "flow")?,
                    elf: std::mem::take(&mut self.elf).into(),
                    task: std::mem::take(&mut self.task).into(),
                    priority: self.priority,
                    labels: std::mem::take(&mut self.labels).into(),
                    policy: PolicyId(self.policy),
                    number: JobNumber(self.number),
                    submitted_at: Timestamp(self.submitted_at),
                })
            }
        }
    )*};
}

head!(Spec, Live, Finished);

impl Record for SpecRecord {
    type Message = message::Spec;
    type Key = JobId;

    fn to_message(&self) -> message::Spec {
        message::Spec {
            digest: self.digest.0,
            depends_on: pack(&self.depends_on),
            body: self.body.clone(),
            evaluate: self.evaluate,
            gathered_by: self.gathered_by.map(|job| job.as_bytes().to_vec()),
            ..message::Spec::of(&self.head)
        }
    }

    fn from_message(key: JobId, mut message: message::Spec) -> Result<Self, Malformed> {
        Ok(Self {
            head: message.take_head(key)?,
            digest: ContentDigest(message.digest),
            depends_on: unpack(&message.depends_on)?,
            evaluate: message.evaluate,
            gathered_by: optional(message.gathered_by.as_ref(), JobId::from_slice, "job")?,
            body: message.body,
        })
    }
}

impl Record for LiveJob {
    type Message = message::Live;
    type Key = JobId;

    fn to_message(&self) -> message::Live {
        message::Live {
            digest: self.digest.0,
            waits_for: pack(&self.waits_for),
            submission: self.submission.map(|submission| submission.as_bytes().to_vec()),
            attempt: self.attempt.0,
            elves_lost: self.elves_lost,
            running: self.running.map(message::Running::of),
            evaluate: self.evaluate,
            attempts: self.attempts.iter().map(message::PastAttempt::of).collect(),
            ..message::Live::of(&self.head)
        }
    }

    fn from_message(key: JobId, mut message: message::Live) -> Result<Self, Malformed> {
        Ok(Self {
            head: message.take_head(key)?,
            digest: ContentDigest(message.digest),
            waits_for: unpack(&message.waits_for)?,
            submission: optional(message.submission.as_ref(), SubmissionId::from_slice, "submission")?,
            attempt: Attempt(message.attempt),
            elves_lost: message.elves_lost,
            evaluate: message.evaluate,
            running: message.running.map(message::Running::read).transpose()?,
            attempts: attempts(message.attempts)?,
        })
    }
}

impl Record for FinishedRecord {
    type Message = message::Finished;
    type Key = FinishNumber;

    fn to_message(&self) -> message::Finished {
        message::Finished {
            id: self.head.id.as_bytes().to_vec(),
            status: u32::from(status_tag(self.end.status())),
            failure: self.end.failure().map(|failure| failure.as_bytes().to_vec()),
            cause: self.end.cause().map(|cause| cause.as_bytes().to_vec()),
            finished_at: self.finished_at.0,
            attempt: self.attempt.0,
            elves_lost: self.elves_lost,
            ran: self.ran.map(|ran| message::Ran {
                instance: ran.instance.as_bytes().to_vec(),
                revision: ran.revision.as_bytes().to_vec(),
                since: ran.since.0,
                session: ran.session.0,
            }),
            elements: self.elements,
            attempts: self.attempts.iter().map(message::PastAttempt::of).collect(),
            ..message::Finished::of(&self.head)
        }
    }

    fn from_message(key: FinishNumber, mut message: message::Finished) -> Result<Self, Malformed> {
        let ran = |ran: message::Ran| {
            Ok(Running {
                session: SessionId(ran.session),
                instance: id(&ran.instance, InstanceId::from_slice, "instance")?,
                revision: id(&ran.revision, Revision::from_slice, "revision")?,
                since: Timestamp(ran.since),
            })
        };
        Ok(Self {
            head: message.take_head(id(&message.id, JobId::from_slice, "job")?)?,
            finish_number: key,
            end: match status(message.status)? {
                FinalStatus::Done => End::Done(()),
                FinalStatus::Failed => {
                    let failure = message.failure.as_deref().unwrap_or_default();
                    End::Failed(id(failure, FailureId::from_slice, "failure")?)
                }
                FinalStatus::UpstreamFailed => {
                    let cause = message.cause.as_deref().unwrap_or_default();
                    End::UpstreamFailed(id(cause, JobId::from_slice, "cause")?)
                }
                FinalStatus::Cancelled => End::Cancelled,
                FinalStatus::Skipped => End::Skipped,
            },
            finished_at: Timestamp(message.finished_at),
            attempt: Attempt(message.attempt),
            elves_lost: message.elves_lost,
            ran: message.ran.map(ran).transpose()?,
            elements: message.elements,
            attempts: attempts(message.attempts)?,
        })
    }
}

impl message::Running {
    fn of(running: Running) -> Self {
        Self {
            session: running.session.0,
            instance: running.instance.as_bytes().to_vec(),
            revision: running.revision.as_bytes().to_vec(),
            since: running.since.0,
        }
    }

    fn read(self) -> Result<Running, Malformed> {
        Ok(Running {
            session: SessionId(self.session),
            instance: id(&self.instance, InstanceId::from_slice, "instance")?,
            revision: id(&self.revision, Revision::from_slice, "revision")?,
            since: Timestamp(self.since),
        })
    }
}

impl message::PastAttempt {
    fn of(attempt: &PastAttempt) -> Self {
        Self {
            number: attempt.number.0,
            held: Some(message::Running::of(attempt.held)),
            ended_at: attempt.ended_at.0,
            how: match attempt.how {
                AttemptEnd::Returned => 1,
                AttemptEnd::Failed => 2,
                AttemptEnd::Cancelled => 3,
                AttemptEnd::HandedBack => 4,
                AttemptEnd::NotHeld => 5,
                AttemptEnd::ElfLost => 6,
                AttemptEnd::ElfLostBefore => 7,
            },
        }
    }

    fn read(self) -> Result<PastAttempt, Malformed> {
        Ok(PastAttempt {
            number: Attempt(self.number),
            held: self.held.unwrap_or_default().read()?,
            ended_at: Timestamp(self.ended_at),
            how: match self.how {
                1 => AttemptEnd::Returned,
                2 => AttemptEnd::Failed,
                3 => AttemptEnd::Cancelled,
                4 => AttemptEnd::HandedBack,
                5 => AttemptEnd::NotHeld,
                6 => AttemptEnd::ElfLost,
                7 => AttemptEnd::ElfLostBefore,
                how => return Err(Malformed(format!("an attempt ended in the unknown way {how}"))),
            },
        })
    }
}

fn attempts(messages: Vec<message::PastAttempt>) -> Result<Vec<PastAttempt>, Malformed> {
    messages.into_iter().map(message::PastAttempt::read).collect()
}

/// Where to find what is left of a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndRecord {
    /// Its place among the finished jobs.
    pub(super) finish_number: FinishNumber,
    /// Its outputs.
    pub(super) outputs: Outputs,
}

/// Where the outputs of a job are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outputs {
    /// It has none.
    None,
    /// Here.
    Here(Bytes),
    /// In a table of their own.
    Apart,
}

impl Record for EndRecord {
    type Message = message::End;
    type Key = ();

    fn to_message(&self) -> message::End {
        message::End {
            finish_number: self.finish_number.0,
            outputs: match &self.outputs {
                Outputs::None => None,
                Outputs::Here(outputs) => Some(message::Outputs::Here(outputs.clone())),
                Outputs::Apart => Some(message::Outputs::Apart(true)),
            },
        }
    }

    fn from_message((): (), message: message::End) -> Result<Self, Malformed> {
        Ok(Self {
            finish_number: FinishNumber(message.finish_number),
            outputs: match message.outputs {
                None => Outputs::None,
                Some(message::Outputs::Here(outputs)) => Outputs::Here(outputs),
                Some(message::Outputs::Apart(_)) => Outputs::Apart,
            },
        })
    }
}

/// What is written with every commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The numbers that only rise.
    pub(super) counters: Counters,
    /// The latest moment at which a job finished.
    pub(super) finished_until: Timestamp,
    /// Jobs that finished before that although they came later, because the clock had been set back.
    pub(super) behind: Vec<Behind>,
}

impl Record for Head {
    type Message = message::Head;
    type Key = ();

    fn to_message(&self) -> message::Head {
        message::Head {
            commit: self.counters.commit.0,
            job: self.counters.job.0,
            flow: self.counters.flow.0,
            finish: self.counters.finish.0,
            session: self.counters.session.0,
            finished_until: self.finished_until.0,
            behind: self
                .behind
                .iter()
                .map(|Behind { lowest, last }| message::Behind { lowest: lowest.0, last: last.0 })
                .collect(),
        }
    }

    fn from_message((): (), message: message::Head) -> Result<Self, Malformed> {
        Ok(Self {
            counters: Counters {
                commit: Commit(message.commit),
                job: JobNumber(message.job),
                flow: FlowNumber(message.flow),
                finish: FinishNumber(message.finish),
                session: SessionId(message.session),
            },
            finished_until: Timestamp(message.finished_until),
            behind: message
                .behind
                .iter()
                .map(|behind| Behind { lowest: Timestamp(behind.lowest), last: FinishNumber(behind.last) })
                .collect(),
        })
    }
}

impl Record for FlowRecord {
    type Message = message::Flow;
    type Key = FlowId;

    fn to_message(&self) -> message::Flow {
        let FinalCounts { done, failed, upstream_failed, cancelled, skipped } = self.finished;
        message::Flow {
            name: self.name.to_string(),
            labels: (&self.labels).into(),
            number: self.number.0,
            created_at: self.created_at.0,
            done,
            failed,
            upstream_failed,
            cancelled,
            skipped,
        }
    }

    fn from_message(key: FlowId, message: message::Flow) -> Result<Self, Malformed> {
        let message::Flow {
            name,
            labels,
            number,
            created_at,
            done,
            failed,
            upstream_failed,
            cancelled,
            skipped,
        } = message;
        Ok(Self {
            id: key,
            name: name.into(),
            labels: labels.into(),
            number: FlowNumber(number),
            created_at: Timestamp(created_at),
            finished: FinalCounts { done, failed, upstream_failed, cancelled, skipped },
        })
    }
}

impl Record for SessionRecord {
    type Message = message::Session;
    type Key = SessionId;

    fn to_message(&self) -> message::Session {
        message::Session {
            instance: self.instance.as_bytes().to_vec(),
            secret: self.secret.map(|secret| secret.as_bytes().to_vec()).unwrap_or_default(),
        }
    }

    fn from_message(key: SessionId, message: message::Session) -> Result<Self, Malformed> {
        let message::Session { instance, secret } = message;
        let secret = match secret.as_slice() {
            [] => None,
            secret => Some(id(secret, SecretDigest::from_slice, "secret")?),
        };
        Ok(Self { id: key, instance: id(&instance, InstanceId::from_slice, "instance")?, secret })
    }
}

impl Record for SubmissionRecord {
    type Message = message::Submission;
    type Key = SubmissionId;

    fn to_message(&self) -> message::Submission {
        message::Submission {
            flow: self.flow.as_bytes().to_vec(),
            next_part: self.next_part,
            sealed: self.sealed,
        }
    }

    fn from_message(key: SubmissionId, message: message::Submission) -> Result<Self, Malformed> {
        let flow = id(&message.flow, FlowId::from_slice, "flow")?;
        Ok(Self { id: key, flow, next_part: message.next_part, sealed: message.sealed })
    }
}

impl Record for FailureRecord {
    type Message = message::Failure;
    type Key = FailureId;

    fn to_message(&self) -> message::Failure {
        message::Failure {
            body: self.body.clone(),
            occurrences: self.occurrences,
            first_seen: self.first_seen.0,
            last_seen: self.last_seen.0,
            elf: self.elf.to_string(),
            task: self.task.to_string(),
        }
    }

    fn from_message(key: FailureId, message: message::Failure) -> Result<Self, Malformed> {
        Ok(Self {
            id: key,
            body: message.body,
            occurrences: message.occurrences,
            first_seen: Timestamp(message.first_seen),
            last_seen: Timestamp(message.last_seen),
            elf: message.elf.into(),
            task: message.task.into(),
        })
    }
}

impl Record for OccurrenceRecord {
    type Message = message::Occurrence;
    type Key = ();

    fn to_message(&self) -> message::Occurrence {
        message::Occurrence {
            job: self.job.as_bytes().to_vec(),
            attempt: self.attempt.0,
            at: self.at.0,
            message: self.message.clone(),
            details: self.details.clone(),
            cause_messages: self.cause_messages.clone(),
        }
    }

    fn from_message((): (), message: message::Occurrence) -> Result<Self, Malformed> {
        Ok(Self {
            job: id(&message.job, JobId::from_slice, "job")?,
            attempt: Attempt(message.attempt),
            at: Timestamp(message.at),
            message: message.message,
            details: message.details,
            cause_messages: message.cause_messages,
        })
    }
}

impl Record for ElfRecord {
    type Message = message::Elf;
    type Key = ();

    fn to_message(&self) -> message::Elf {
        message::Elf {
            name: self.name.to_string(),
            body: self.body.clone(),
            first_seen: self.first_seen.0,
            last_seen: self.last_seen.0,
        }
    }

    fn from_message((): (), message: message::Elf) -> Result<Self, Malformed> {
        Ok(Self {
            name: message.name.into(),
            body: message.body,
            first_seen: Timestamp(message.first_seen),
            last_seen: Timestamp(message.last_seen),
        })
    }
}

impl Record for RevisionRecord {
    type Message = message::Revision;
    type Key = ();

    fn to_message(&self) -> message::Revision {
        message::Revision {
            elf: self.elf.to_string(),
            task: self.task.to_string(),
            revision: self.revision.as_bytes().to_vec(),
            first_seen: self.first_seen.0,
            body: self.body.clone(),
        }
    }

    fn from_message((): (), message: message::Revision) -> Result<Self, Malformed> {
        Ok(Self {
            elf: message.elf.into(),
            task: message.task.into(),
            revision: id(&message.revision, Revision::from_slice, "revision")?,
            first_seen: Timestamp(message.first_seen),
            body: message.body,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mycelium_core::labels::Labels;
    use proptest::prelude::*;

    use super::*;

    /// Reads bytes as every record; what comes out is of no matter, as long as something does.
    fn decode_as_everything(bytes: &Bytes) {
        fn decode_as<R: Record>(key: R::Key, bytes: &Bytes) {
            let _: Result<R, Malformed> = decode(key, bytes.clone());
        }
        decode_as::<SpecRecord>(JobId::default(), bytes);
        decode_as::<LiveJob>(JobId::default(), bytes);
        decode_as::<FinishedRecord>(FinishNumber(1), bytes);
        decode_as::<EndRecord>((), bytes);
        decode_as::<Head>((), bytes);
        decode_as::<FlowRecord>(FlowId::default(), bytes);
        decode_as::<SessionRecord>(SessionId(1), bytes);
        decode_as::<SubmissionRecord>(SubmissionId::default(), bytes);
        decode_as::<FailureRecord>(FailureId::default(), bytes);
        decode_as::<OccurrenceRecord>((), bytes);
        decode_as::<ElfRecord>((), bytes);
        decode_as::<RevisionRecord>((), bytes);
    }

    fn labels() -> Labels {
        BTreeMap::from([("team".to_owned(), "apiary".to_owned()), ("empty".to_owned(), String::new())]).into()
    }

    fn live() -> LiveJob {
        LiveJob {
            head: JobHead {
                id: JobId::new([1; 16]),
                flow: FlowId::new([2; 16]),
                elf: "scale".into(),
                task: "task_weigh".into(),
                priority: i32::MIN,
                labels: labels(),
                policy: PolicyId(u32::MAX),
                number: JobNumber(u64::MAX),
                submitted_at: Timestamp(1),
            },
            digest: ContentDigest(u64::MAX),
            waits_for: vec![JobId::new([3; 16]), JobId::new([4; 16])],
            submission: Some(SubmissionId::new([5; 16])),
            attempt: Attempt(u32::MAX),
            elves_lost: 6,
            evaluate: true,
            running: Some(Running {
                session: SessionId(7),
                instance: InstanceId::new([8; 16]),
                revision: Revision::new([9; 32]),
                since: Timestamp(10),
            }),
            attempts: vec![PastAttempt {
                number: Attempt(11),
                held: Running {
                    session: SessionId(12),
                    instance: InstanceId::new([13; 16]),
                    revision: Revision::new([14; 32]),
                    since: Timestamp(15),
                },
                ended_at: Timestamp(16),
                how: AttemptEnd::ElfLostBefore,
            }],
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_form in any::<bool>()) {
            if let (true, Some(form)) = (is_form, bytes.first_mut()) {
                *form = FORM;
            }
            decode_as_everything(&bytes.into());
        }

        #[test]
        fn no_damage_to_a_record_makes_it_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode(&live(), &mut bytes);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            decode_as_everything(&bytes.into());
        }
    }

    #[test]
    fn records_read_as_they_were_written() {
        let mut bytes = Vec::new();
        encode(&live(), &mut bytes);
        assert_eq!(decode(live().head.id, bytes.into()), Ok(live()));
    }

    #[test]
    fn bytes_that_are_no_record_say_why() {
        let read =
            |bytes: &'static [u8]| decode::<Head>((), Bytes::from_static(bytes)).unwrap_err().to_string();
        assert_eq!(read(&[]), "the record is empty");
        assert_eq!(read(&[2, 0]), "the record has the unknown form 2");
        let mut bytes = Vec::new();
        encode(&live(), &mut bytes);
        bytes[2] = 15;
        let error = decode::<LiveJob>(live().head.id, bytes.into()).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
