//! The records of jobs.

use bytes::Bytes;
use mycelium_core::effects::End;
use mycelium_core::ids::{
    Attempt, Build, ContentDigest, FailureId, FinishNumber, FlowId, InstanceId, JobId, JobNumber, PolicyId,
    Revision, SessionId, SubmissionId, Timestamp,
};
use mycelium_core::image::{AttemptEnd, JobHead, LiveJob, PastAttempt, Running};
use mycelium_core::signature::Shape;
use mycelium_core::status::FinalStatus;

use super::super::keys::index::status_tag;
use super::super::message;
use super::{Malformed, Record, id, optional};
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

/// What the messages of a job have in common.
macro_rules! head {
    ($($message:ident),*) => {$(
        impl message::$message {
            /// The message of that job; the rest is unset.
            fn of(head: &JobHead) -> Self {
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
                Self {
                    flow: flow.as_bytes().to_vec(),
                    elf: elf.to_string(),
                    task: task.to_string(),
                    priority: *priority,
                    labels: labels.into(),
                    policy: policy.0,
                    number: number.0,
                    submitted_at: submitted_at.0,
                    shape: message::Shape::of(shape),
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
                    shape: self.shape.take().map_or(Shape::UNKNOWN, message::Shape::read),
                })
            }
        }
    )*};
}

head!(Spec, Live, Finished);

impl message::Shape {
    fn of(shape: &Shape) -> Option<Self> {
        let names = shape.names()?.iter().map(|name| name.to_string()).collect();
        Some(Self { names })
    }

    fn read(self) -> Shape {
        Shape::of(self.names.into_iter().map(Into::into))
    }
}

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
            elves_lost_alone: self.elves_lost_alone,
            beside: pack(&self.beside),
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
            elves_lost_alone: message.elves_lost_alone,
            beside: unpack(&message.beside)?,
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
            ran: self.ran.map(message::Ran::of),
            elements: self.elements,
            attempts: self.attempts.iter().map(message::PastAttempt::of).collect(),
            ..message::Finished::of(&self.head)
        }
    }

    fn from_message(key: FinishNumber, mut message: message::Finished) -> Result<Self, Malformed> {
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
            ran: message.ran.map(message::Ran::read).transpose()?,
            elements: message.elements,
            attempts: attempts(message.attempts)?,
        })
    }
}

/// What the messages have in common that say who holds a job, or held it.
macro_rules! running {
    ($($message:ident),*) => {$(
        impl message::$message {
            fn of(running: Running) -> Self {
                let Started { at, unstarted } = Started::of(&running);
                Self {
                    session: running.session.0,
                    instance: running.instance.as_bytes().to_vec(),
                    revision: running.revision.as_bytes().to_vec(),
                    build: running.build.as_str().to_owned(),
                    since: running.since.0,
                    started: at.map_or(0, |at| at.0),
                    unstarted,
                }
            }

            fn read(self) -> Result<Running, Malformed> {
                let since = Timestamp(self.since);
                let at = (self.started > 0).then_some(Timestamp(self.started));
                Ok(Running {
                    session: SessionId(self.session),
                    instance: id(&self.instance, InstanceId::from_slice, "instance")?,
                    revision: id(&self.revision, Revision::from_slice, "revision")?,
                    build: Build::new(&self.build)
                        .ok_or_else(|| Malformed(format!("a build of {} bytes", self.build.len())))?,
                    since,
                    started: Started { at, unstarted: self.unstarted }.read(since),
                })
            }
        }
    )*};
}

running!(Running, Ran);

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
