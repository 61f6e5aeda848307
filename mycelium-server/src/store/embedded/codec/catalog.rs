//! The records of the catalogue: flows, sessions, submissions, policies, pauses, actions, failures and elves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use mycelium_core::ids::{
    ActionId, Attempt, FailureId, FlowId, FlowNumber, InstanceId, JobId, PolicyId, Revision, SecretDigest,
    SessionId, SubmissionId, Timestamp, Token,
};
use mycelium_core::image::{
    ActionKind, ActionRecord, FlowRecord, PauseRecord, PauseTarget, SessionRecord, SubmissionRecord,
};
use mycelium_core::policy::{Policy, PolicyRecord, RetryPolicy, Timeouts};
use mycelium_core::status::FinalCounts;

use super::super::message;
use super::{Malformed, Numbering, Record, Words, id};
use crate::store::policy::micros;
use crate::store::{CheckpointRecord, ElfRecord, FailureRecord, OccurrenceRecord, RevisionRecord};

impl Record for FlowRecord {
    type Message = message::Flow;
    type Key = FlowId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Flow {
        let FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired } = self.finished;
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
            expired,
            of_job: self.on_behalf_of.map(|of| of.job.as_bytes().to_vec()).unwrap_or_default(),
            of_attempt: self.on_behalf_of.map_or(0, |of| of.attempt.0),
            pinned: self.pinned,
            deleted_at: self.deleted_at.map_or(0, |at| at.0),
        }
    }

    fn from_message(key: FlowId, message: message::Flow, _: Option<&Words>) -> Result<Self, Malformed> {
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
            expired,
            of_job,
            of_attempt,
            pinned,
            deleted_at,
        } = message;
        let on_behalf_of = match of_job.as_slice() {
            [] => None,
            job => Some(Token { job: id(job, JobId::from_slice, "of_job")?, attempt: Attempt(of_attempt) }),
        };
        Ok(Self {
            id: key,
            name: name.into(),
            labels: labels.into(),
            number: FlowNumber(number),
            created_at: Timestamp(created_at),
            finished: FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of,
            pinned,
            deleted_at: (deleted_at != 0).then_some(Timestamp(deleted_at)),
        })
    }
}

impl Record for SessionRecord {
    type Message = message::Session;
    type Key = SessionId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Session {
        message::Session {
            instance: self.instance.as_bytes().to_vec(),
            secret: self.secret.map(|secret| secret.as_bytes().to_vec()).unwrap_or_default(),
        }
    }

    fn from_message(key: SessionId, message: message::Session, _: Option<&Words>) -> Result<Self, Malformed> {
        let message::Session { instance, secret } = message;
        let secret = match secret.as_slice() {
            [] => None,
            secret => Some(id(secret, SecretDigest::from_slice, "secret")?),
        };
        Ok(Self { id: key, instance: id(&instance, InstanceId::from_slice, "instance")?, secret })
    }
}

/// The message of a checkpoint, in `outputs`. Tags are part of the format.
#[derive(Clone, PartialEq, prost::Message)]
pub(in super::super) struct Checkpoint {
    #[prost(uint32, tag = "1")]
    pub(in super::super) attempt: u32,
    #[prost(uint64, tag = "2")]
    pub(in super::super) at: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(in super::super) body: Bytes,
}

impl Record for CheckpointRecord {
    type Message = Checkpoint;
    type Key = JobId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> Checkpoint {
        Checkpoint { attempt: self.attempt.0, at: self.at.0, body: self.body.clone() }
    }

    fn from_message(job: JobId, message: Checkpoint, _: Option<&Words>) -> Result<Self, Malformed> {
        let Checkpoint { attempt, at, body } = message;
        Ok(Self { job, attempt: Attempt(attempt), at: Timestamp(at), body })
    }
}

impl Record for SubmissionRecord {
    type Message = message::Submission;
    type Key = SubmissionId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Submission {
        message::Submission {
            flow: self.flow.as_bytes().to_vec(),
            next_part: self.next_part,
            sealed: self.sealed,
        }
    }

    fn from_message(
        key: SubmissionId,
        message: message::Submission,
        _: Option<&Words>,
    ) -> Result<Self, Malformed> {
        let flow = id(&message.flow, FlowId::from_slice, "flow")?;
        Ok(Self { id: key, flow, next_part: message.next_part, sealed: message.sealed })
    }
}

impl Record for PolicyRecord {
    type Message = message::Policy;
    type Key = PolicyId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Policy {
        let Policy { retry, timeouts } = &self.policy;
        let RetryPolicy { attempts, first, factor, cap, jitter, never, panics, argument_errors } = retry;
        let Timeouts { queue, run, total, progress } = *timeouts;
        let types = |names: &Arc<[Arc<str>]>| message::FailureTypes {
            types: names.iter().map(|name| name.to_string()).collect(),
        };
        message::Policy {
            attempts: *attempts,
            first: first.map(micros),
            factor: *factor,
            cap: cap.map(micros),
            jitter: *jitter,
            never: never.as_ref().map(types),
            panics: *panics,
            argument_errors: *argument_errors,
            queue: queue.map(micros),
            run: run.map(micros),
            total: total.map(micros),
            progress: progress.map(micros),
        }
    }

    fn from_message(key: PolicyId, message: message::Policy, _: Option<&Words>) -> Result<Self, Malformed> {
        let retry = RetryPolicy {
            attempts: message.attempts,
            first: message.first.map(Duration::from_micros),
            factor: message.factor,
            cap: message.cap.map(Duration::from_micros),
            jitter: message.jitter,
            never: message.never.map(|names| names.types.into_iter().map(Arc::from).collect()),
            panics: message.panics,
            argument_errors: message.argument_errors,
        };
        let timeouts = Timeouts {
            queue: message.queue.map(Duration::from_micros),
            run: message.run.map(Duration::from_micros),
            total: message.total.map(Duration::from_micros),
            progress: message.progress.map(Duration::from_micros),
        };
        Ok(Self { id: key, policy: Policy { retry, timeouts } })
    }
}

impl Record for FailureRecord {
    type Message = message::Failure;
    type Key = FailureId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Failure {
        message::Failure {
            body: self.body.clone(),
            occurrences: self.occurrences,
            first_seen: self.first_seen.0,
            last_seen: self.last_seen.0,
            elf: self.elf.to_string(),
            task: self.task.to_string(),
        }
    }

    fn from_message(key: FailureId, message: message::Failure, _: Option<&Words>) -> Result<Self, Malformed> {
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

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Occurrence {
        message::Occurrence {
            job: self.job.as_bytes().to_vec(),
            attempt: self.attempt.0,
            at: self.at.0,
            message: self.message.clone(),
            details: self.details.clone(),
            cause_messages: self.cause_messages.clone(),
        }
    }

    fn from_message((): (), message: message::Occurrence, _: Option<&Words>) -> Result<Self, Malformed> {
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

impl Record for ActionRecord {
    type Message = message::Action;
    type Key = ActionId;

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Action {
        message::Action {
            kind: match self.kind {
                ActionKind::Retry => 1,
                ActionKind::Cancel => 2,
                ActionKind::Delete => 3,
            },
            filter: self.filter.to_string(),
            flow: self.flow.map(|flow| flow.as_bytes().to_vec()),
            failure: self.failure.map(|failure| failure.as_bytes().to_vec()),
            by: self.by.to_string(),
            began_at: self.began_at.0,
            upto: self.upto,
            place: self.place,
            total: self.total,
            done: self.done,
            refused: self.refused,
            ended_at: self.ended_at.map(|at| at.0),
        }
    }

    fn from_message(key: ActionId, message: message::Action, _: Option<&Words>) -> Result<Self, Malformed> {
        let kind = match message.kind {
            1 => ActionKind::Retry,
            2 => ActionKind::Cancel,
            3 => ActionKind::Delete,
            kind => return Err(Malformed(format!("an action of the unknown kind {kind}"))),
        };
        Ok(Self {
            id: key,
            kind,
            filter: message.filter.into(),
            flow: message.flow.map(|flow| id(&flow, FlowId::from_slice, "flow")).transpose()?,
            failure: message.failure.map(|one| id(&one, FailureId::from_slice, "failure")).transpose()?,
            by: message.by.into(),
            began_at: Timestamp(message.began_at),
            upto: message.upto,
            place: message.place,
            total: message.total,
            done: message.done,
            refused: message.refused,
            ended_at: message.ended_at.map(Timestamp),
        })
    }
}

impl Record for PauseRecord {
    type Message = message::Pause;
    type Key = ();

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Pause {
        let (since, by, reason) = (self.since.0, self.by.to_string(), self.reason.to_string());
        let of = message::Pause { since, by, reason, ..message::Pause::default() };
        match &self.target {
            PauseTarget::Mycelium => of,
            PauseTarget::Elf(elf) => message::Pause { elf: Some(elf.to_string()), ..of },
            PauseTarget::Task { elf, task } => {
                message::Pause { elf: Some(elf.to_string()), task: Some(task.to_string()), ..of }
            }
            PauseTarget::Flow(flow) => message::Pause { flow: Some(flow.as_bytes().to_vec()), ..of },
        }
    }

    fn from_message((): (), message: message::Pause, _: Option<&Words>) -> Result<Self, Malformed> {
        let message::Pause { elf, task, flow, since, by, reason } = message;
        let target = match (elf, task, flow) {
            (None, None, None) => PauseTarget::Mycelium,
            (Some(elf), None, None) => PauseTarget::Elf(elf.into()),
            (Some(elf), Some(task), None) => PauseTarget::Task { elf: elf.into(), task: task.into() },
            (None, None, Some(flow)) => PauseTarget::Flow(id(&flow, FlowId::from_slice, "flow")?),
            _ => return Err(Malformed("a pause of several things".to_owned())),
        };
        Ok(Self { target, since: Timestamp(since), by: by.into(), reason: reason.into() })
    }
}

impl Record for ElfRecord {
    type Message = message::Elf;
    type Key = ();

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Elf {
        message::Elf {
            name: self.name.to_string(),
            body: self.body.clone(),
            first_seen: self.first_seen.0,
            last_seen: self.last_seen.0,
        }
    }

    fn from_message((): (), message: message::Elf, _: Option<&Words>) -> Result<Self, Malformed> {
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

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Revision {
        message::Revision {
            elf: self.elf.to_string(),
            task: self.task.to_string(),
            revision: self.revision.as_bytes().to_vec(),
            first_seen: self.first_seen.0,
            body: self.body.clone(),
        }
    }

    fn from_message((): (), message: message::Revision, _: Option<&Words>) -> Result<Self, Malformed> {
        Ok(Self {
            elf: message.elf.into(),
            task: message.task.into(),
            revision: id(&message.revision, Revision::from_slice, "revision")?,
            first_seen: Timestamp(message.first_seen),
            body: message.body,
        })
    }
}
