//! The records of jobs.

use bytes::Bytes;
use mycelium_core::effects::{Contents, End};
use mycelium_core::ids::{
    Attempt, ContentDigest, FailureId, FinishNumber, FlowId, InstanceId, JobId, JobNumber, PolicyId,
    Revision, SessionId, SubmissionId, Timestamp,
};
use mycelium_core::image::{AttemptEnd, JobHead, LiveJob, PastAttempt, Running, Tries};
use mycelium_core::signature::Shape;
use mycelium_core::status::{ExpiredWhy, FinalStatus};

use super::super::keys::index::status_tag;
use super::super::message;
use super::super::words::{Call, Program};
use super::{Malformed, Numbering, Record, Words, build, id, optional};
use crate::store::record::Started;
use crate::store::{FinishedRecord, SpecRecord};

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

/// Which time of a job was over: part of the format.
fn expired_tag<C: Contents>(end: &End<C>) -> u32 {
    match end.expired() {
        None => 0,
        Some(ExpiredWhy::Queue) => 1,
        Some(ExpiredWhy::Total) => 2,
    }
}

fn expired(tag: u32) -> Result<ExpiredWhy, Malformed> {
    match tag {
        1 => Ok(ExpiredWhy::Queue),
        2 => Ok(ExpiredWhy::Total),
        tag => Err(Malformed(format!("a job expired for the unknown reason {tag}"))),
    }
}

/// What the messages of a job have in common.
macro_rules! head {
    ($($message:ident),*) => {$(
        impl message::$message {
            /// The message of that job; the rest is unset.
            fn of(head: &JobHead, words: Option<&mut Numbering<'_>>) -> Self {
                let JobHead {
                    id: _,
                    flow,
                    elf,
                    task,
                    priority,
                    labels,
                    policy,
                    number,
                    submitted_at,
                    shape,
                } = head;
                let message = Self {
                    flow: flow.as_bytes().to_vec(),
                    priority: *priority,
                    labels: labels.into(),
                    policy: policy.0,
                    number: number.0,
                    submitted_at: submitted_at.0,
                    ..Self::default()
                };
                match words.and_then(|words| words.call(head)) {
                    Some(call) => Self { call, ..message },
                    None => Self {
                        elf: elf.to_string(),
                        task: task.to_string(),
                        shape: message::Shape::of(shape),
                        ..message
                    },
                }
            }

            /// The head of the job with this id.
            fn take_head(&mut self, job: JobId, words: Option<&Words>) -> Result<JobHead, Malformed> {
                let Call { elf, task, shape } = match self.call {
                    0 => Call {
                        elf: std::mem::take(&mut self.elf).into(),
                        task: std::mem::take(&mut self.task).into(),
                        shape: self.shape.take().map_or(Shape::UNKNOWN, message::Shape::read),
                    },
                    number => known(words)?.call(number)?,
                };
                Ok(JobHead {
                    id: job,
                    flow: id(&self.flow, FlowId::from_slice, "flow")?,
                    elf,
                    task,
                    priority: self.priority,
                    labels: std::mem::take(&mut self.labels).into(),
                    policy: PolicyId(self.policy),
                    number: JobNumber(self.number),
                    submitted_at: Timestamp(self.submitted_at),
                    shape,
                })
            }
        }
    )*};
}

/// The words that a record needs.
fn known(words: Option<&Words>) -> Result<&Words, Malformed> {
    words.ok_or_else(|| Malformed("its words are not known".to_owned()))
}

head!(Spec, Live, Finished);

impl message::Shape {
    pub(super) fn of(shape: &Shape) -> Option<Self> {
        let names = shape.names()?.iter().map(|name| name.to_string()).collect();
        Some(Self { names })
    }

    pub(super) fn read(self) -> Shape {
        Shape::of(self.names.into_iter().map(Into::into))
    }
}

impl Record for SpecRecord {
    type Message = message::Spec;
    type Key = JobId;

    fn to_message(&self, words: Option<&mut Numbering<'_>>) -> message::Spec {
        message::Spec {
            digest: self.digest.0,
            depends_on: pack(&self.depends_on),
            body: self.body.clone(),
            evaluate: self.evaluate,
            gathered_by: self.gathered_by.map(|job| job.as_bytes().to_vec()),
            begins_at: self.begins_at.map_or(0, |at| at.0),
            ..message::Spec::of(&self.head, words)
        }
    }

    fn from_message(
        key: JobId,
        mut message: message::Spec,
        words: Option<&Words>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            head: message.take_head(key, words)?,
            digest: ContentDigest(message.digest),
            depends_on: unpack(&message.depends_on)?,
            evaluate: message.evaluate,
            gathered_by: optional(message.gathered_by.as_ref(), JobId::from_slice, "job")?,
            begins_at: moment(message.begins_at),
            body: message.body,
        })
    }
}

/// A moment that may be missing.
fn moment(at: u64) -> Option<Timestamp> {
    (at > 0).then_some(Timestamp(at))
}

impl Record for LiveJob {
    type Message = message::Live;
    type Key = JobId;

    fn to_message(&self, mut words: Option<&mut Numbering<'_>>) -> message::Live {
        message::Live {
            digest: self.digest.0,
            waits_for: pack(&self.waits_for),
            submission: self.submission.map(|submission| submission.as_bytes().to_vec()),
            attempt: self.attempt.0,
            elves_lost: self.elves_lost,
            elves_lost_alone: self.elves_lost_alone,
            beside: pack(&self.beside),
            running: self.running.map(|running| message::Running::of(running, words.as_deref_mut())),
            evaluate: self.evaluate,
            attempts: all_of(&self.attempts, words.as_deref_mut()),
            expires_at: self.expires_at.map_or(0, |at| at.0),
            queued_at: self.queued_at.map_or(0, |at| at.0),
            failed: self.tries.failed,
            failed_max: self.tries.failed_max,
            not_before: self.tries.not_before.map_or(0, |at| at.0),
            ..message::Live::of(&self.head, words)
        }
    }

    fn from_message(
        key: JobId,
        mut message: message::Live,
        words: Option<&Words>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            head: message.take_head(key, words)?,
            digest: ContentDigest(message.digest),
            waits_for: unpack(&message.waits_for)?,
            submission: optional(message.submission.as_ref(), SubmissionId::from_slice, "submission")?,
            attempt: Attempt(message.attempt),
            elves_lost: message.elves_lost,
            elves_lost_alone: message.elves_lost_alone,
            beside: unpack(&message.beside)?,
            evaluate: message.evaluate,
            running: message.running.map(|running| running.read(words)).transpose()?,
            attempts: attempts(message.attempts, words)?,
            expires_at: moment(message.expires_at),
            queued_at: moment(message.queued_at),
            tries: Tries {
                failed: message.failed,
                failed_max: message.failed_max,
                not_before: moment(message.not_before),
            },
        })
    }
}

impl Record for FinishedRecord {
    type Message = message::Finished;
    type Key = FinishNumber;

    fn to_message(&self, mut words: Option<&mut Numbering<'_>>) -> message::Finished {
        message::Finished {
            id: self.head.id.as_bytes().to_vec(),
            status: u32::from(status_tag(self.end.status())),
            failure: self.end.failure().map(|failure| failure.as_bytes().to_vec()),
            cause: self.end.cause().map(|cause| cause.as_bytes().to_vec()),
            expired: expired_tag(&self.end),
            finished_at: self.finished_at.0,
            attempt: self.attempt.0,
            elves_lost: self.elves_lost,
            ran: self.ran.map(|ran| message::Ran::of(ran, words.as_deref_mut())),
            elements: self.elements,
            attempts: all_of(&self.attempts, words.as_deref_mut()),
            ..message::Finished::of(&self.head, words)
        }
    }

    fn from_message(
        key: FinishNumber,
        mut message: message::Finished,
        words: Option<&Words>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            head: message.take_head(id(&message.id, JobId::from_slice, "job")?, words)?,
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
                FinalStatus::Expired => End::Expired(expired(message.expired)?),
                FinalStatus::Skipped => End::Skipped,
            },
            finished_at: Timestamp(message.finished_at),
            attempt: Attempt(message.attempt),
            elves_lost: message.elves_lost,
            ran: message.ran.map(|ran| ran.read(words)).transpose()?,
            elements: message.elements,
            attempts: attempts(message.attempts, words)?,
        })
    }
}

/// What the messages have in common that say who holds a job, or held it.
macro_rules! running {
    ($($message:ident),*) => {$(
        impl message::$message {
            fn of(running: Running, words: Option<&mut Numbering<'_>>) -> Self {
                let Started { at, unstarted } = Started::of(&running);
                let message = Self {
                    session: running.session.0,
                    instance: running.instance.as_bytes().to_vec(),
                    since: running.since.0,
                    started: at.map_or(0, |at| at.0),
                    unstarted,
                    ..Self::default()
                };
                match words.and_then(|words| words.program(&running)) {
                    Some(program) => Self { program, ..message },
                    None => Self {
                        revision: running.revision.as_bytes().to_vec(),
                        build: running.build.as_str().to_owned(),
                        ..message
                    },
                }
            }

            fn read(self, words: Option<&Words>) -> Result<Running, Malformed> {
                let Program { revision, build } = match self.program {
                    0 => Program {
                        revision: id(&self.revision, Revision::from_slice, "revision")?,
                        build: build(&self.build)?,
                    },
                    number => known(words)?.program(number)?,
                };
                let since = Timestamp(self.since);
                let at = (self.started > 0).then_some(Timestamp(self.started));
                Ok(Running {
                    session: SessionId(self.session),
                    instance: id(&self.instance, InstanceId::from_slice, "instance")?,
                    revision,
                    build,
                    since,
                    started: Started { at, unstarted: self.unstarted }.read(since),
                })
            }
        }
    )*};
}

running!(Running, Ran);

impl message::PastAttempt {
    fn of(attempt: &PastAttempt, words: Option<&mut Numbering<'_>>) -> Self {
        Self {
            number: attempt.number.0,
            held: Some(message::Running::of(attempt.held, words)),
            ended_at: attempt.ended_at.0,
            how: match attempt.how {
                AttemptEnd::Returned => 1,
                AttemptEnd::Failed => 2,
                AttemptEnd::Cancelled => 3,
                AttemptEnd::HandedBack => 4,
                AttemptEnd::NotHeld => 5,
                AttemptEnd::ElfLost => 6,
                AttemptEnd::ElfLostBefore => 7,
                AttemptEnd::TimedOut => 8,
            },
            failure: attempt.failure.map(|failure| failure.as_bytes().to_vec()),
        }
    }

    fn read(self, words: Option<&Words>) -> Result<PastAttempt, Malformed> {
        Ok(PastAttempt {
            number: Attempt(self.number),
            failure: optional(self.failure.as_ref(), FailureId::from_slice, "failure")?,
            held: self.held.unwrap_or_default().read(words)?,
            ended_at: Timestamp(self.ended_at),
            how: match self.how {
                1 => AttemptEnd::Returned,
                2 => AttemptEnd::Failed,
                3 => AttemptEnd::Cancelled,
                4 => AttemptEnd::HandedBack,
                5 => AttemptEnd::NotHeld,
                6 => AttemptEnd::ElfLost,
                7 => AttemptEnd::ElfLostBefore,
                8 => AttemptEnd::TimedOut,
                how => return Err(Malformed(format!("an attempt ended in the unknown way {how}"))),
            },
        })
    }
}

fn all_of(attempts: &[PastAttempt], mut words: Option<&mut Numbering<'_>>) -> Vec<message::PastAttempt> {
    attempts.iter().map(|attempt| message::PastAttempt::of(attempt, words.as_deref_mut())).collect()
}

fn attempts(
    messages: Vec<message::PastAttempt>,
    words: Option<&Words>,
) -> Result<Vec<PastAttempt>, Malformed> {
    messages.into_iter().map(|attempt| attempt.read(words)).collect()
}

/// Where to find what is left of a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct EndRecord {
    /// Its place among the finished jobs.
    pub(in super::super) finish_number: FinishNumber,
    /// Its outputs.
    pub(in super::super) outputs: Outputs,
}

/// Where the outputs of a job are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Outputs {
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

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::End {
        message::End {
            finish_number: self.finish_number.0,
            outputs: match &self.outputs {
                Outputs::None => None,
                Outputs::Here(outputs) => Some(message::Outputs::Here(outputs.clone())),
                Outputs::Apart => Some(message::Outputs::Apart(true)),
            },
        }
    }

    fn from_message((): (), message: message::End, _: Option<&Words>) -> Result<Self, Malformed> {
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
