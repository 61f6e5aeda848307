//! Between the messages of the contract and the words of the broker.

mod answers;
mod explained;
mod pauses;

use std::time::Duration;

use bytes::Bytes;
use mycelium_core::JobView;
use mycelium_core::effects::Verdict;
use mycelium_core::ids::{FlowId, JobId, Timestamp, Token};
use mycelium_core::image::{JobHead, Running};
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::{limits, v1};

use crate::broker::WatchedChange;
use crate::error::Error;
use crate::queries::Job;
use crate::store::FinishedRecord;

pub(crate) use answers::{
    attempts, elf, failure_group, flow, flow_deletion, graph, job_outputs, lineage, occurrence, revision,
    values,
};
pub(crate) use explained::explained;
pub(crate) use pauses::{pause, pause_target, said};

pub(crate) fn id(bytes: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(crate) fn job_id(field: &str, bytes: &[u8]) -> Result<JobId, Error> {
    JobId::from_slice(bytes).ok_or_else(|| Error::field(field, "must be 16 bytes"))
}

pub(crate) fn flow_id(field: &str, bytes: &[u8]) -> Result<FlowId, Error> {
    FlowId::from_slice(bytes).ok_or_else(|| Error::field(field, "must be 16 bytes"))
}

/// The ids of jobs, of which there are not too many.
pub(crate) fn job_ids(field: &str, ids: &[Bytes]) -> Result<Vec<JobId>, Error> {
    if ids.len() > limits::JOB_IDS_MAX {
        return Err(Error::field(field, format!("must be at most {}", limits::JOB_IDS_MAX)));
    }
    ids.iter().enumerate().map(|(index, id)| job_id(&format!("{field}[{index}]"), id)).collect()
}

pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(crate) fn timestamp(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(moment.0 / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(moment.0 % 1_000_000 * 1_000).unwrap_or(0),
    }
}

/// Reads a moment; those before the epoch are taken as the epoch.
pub(crate) fn moment(timestamp: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let micros = u64::try_from(timestamp.nanos).unwrap_or(0) / 1_000;
    Timestamp(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

pub(crate) fn token(token: &Token) -> v1::Token {
    v1::Token { job_id: id(token.job.as_bytes()), attempt: token.attempt.0 }
}

pub(crate) fn attempt_name(token: &Token) -> v1::AttemptName {
    v1::AttemptName { job_id: id(token.job.as_bytes()), attempt: token.attempt.0 }
}

pub(crate) fn outcome_ack(of: &Token, verdict: Verdict) -> v1::OutcomeAck {
    let verdict = match verdict {
        Verdict::Recorded => v1::OutcomeVerdict::Recorded,
        Verdict::Duplicate => v1::OutcomeVerdict::Duplicate,
        Verdict::Stale => v1::OutcomeVerdict::Stale,
        Verdict::Refused => v1::OutcomeVerdict::Refused,
    };
    v1::OutcomeAck { token: Some(token(of)), verdict: verdict.into() }
}

pub(crate) fn status(status: Status) -> v1::JobStatus {
    match status {
        Status::Pending => v1::JobStatus::Pending,
        Status::Ready => v1::JobStatus::Ready,
        Status::Assigned => v1::JobStatus::Assigned,
        Status::Running => v1::JobStatus::Running,
        Status::Final(end) => final_status(end),
    }
}

fn final_status(status: FinalStatus) -> v1::JobStatus {
    match status {
        FinalStatus::Done => v1::JobStatus::Done,
        FinalStatus::Failed => v1::JobStatus::Failed,
        FinalStatus::UpstreamFailed => v1::JobStatus::UpstreamFailed,
        FinalStatus::Cancelled => v1::JobStatus::Cancelled,
        FinalStatus::Expired => v1::JobStatus::Expired,
        FinalStatus::Skipped => v1::JobStatus::Skipped,
    }
}

/// A job as it stands.
pub(crate) fn job(job: &Job) -> v1::Job {
    match job {
        Job::Unfinished(view) => unfinished_job(view),
        Job::Finished(record) => finished_job(record),
    }
}

fn finished_job(record: &FinishedRecord) -> v1::Job {
    v1::Job {
        status: final_status(record.end.status()).into(),
        attempt: record.attempt.0,
        elves_lost: record.elves_lost,
        assigned_at: record.ran.map(|ran| timestamp(ran.since)),
        started_at: record.ran.and_then(|ran| ran.started).map(timestamp),
        finished_at: Some(timestamp(record.finished_at)),
        instance_id: record.ran.map(|ran| id(ran.instance.as_bytes())).unwrap_or_default(),
        revision: record.ran.map(revision_of).unwrap_or_default(),
        build: record.ran.map(build_of).unwrap_or_default(),
        failure_id: record.end.failure().map(|failure| id(failure.as_bytes())).unwrap_or_default(),
        cause_job_id: record.end.cause().map(|cause| id(cause.as_bytes())).unwrap_or_default(),
        elements: record.elements,
        ..any_job(&record.head)
    }
}

/// What any job has; the rest is unset.
fn any_job(head: &JobHead) -> v1::Job {
    let JobHead { id: job, flow, elf, task, priority, labels, policy: _, number: _, submitted_at, shape: _ } =
        head;
    v1::Job {
        job_id: id(job.as_bytes()),
        flow_id: id(flow.as_bytes()),
        elf: elf.as_ref().to_owned(),
        task: task.as_ref().to_owned(),
        priority: *priority,
        labels: labels.into(),
        submitted_at: Some(timestamp(*submitted_at)),
        ..v1::Job::default()
    }
}

fn revision_of(ran: Running) -> Bytes {
    Bytes::copy_from_slice(ran.revision.as_bytes())
}

fn build_of(ran: Running) -> String {
    ran.build.as_str().to_owned()
}

/// A job as it stands, told as if that were a change.
pub(crate) fn standing(of: &Job) -> v1::JobChange {
    let v1::Job { job_id, status, attempt, failure_id, cause_job_id, .. } = job(of);
    v1::JobChange { job_id, status, attempt, failure_id, cause_job_id, ..v1::JobChange::default() }
}

pub(crate) fn change(change: &WatchedChange) -> v1::JobChange {
    v1::JobChange {
        job_id: id(change.job.as_bytes()),
        status: status(change.status).into(),
        attempt: change.attempt.0,
        outputs: Vec::new(),
        outputs_omitted: false,
        failure_id: change.failure.map(|failure| id(failure.as_bytes())).unwrap_or_default(),
        cause_job_id: change.cause.map(|cause| id(cause.as_bytes())).unwrap_or_default(),
        failure_message: change.failure_message.as_deref().unwrap_or_default().to_owned(),
    }
}

fn unfinished_job(view: &JobView) -> v1::Job {
    v1::Job {
        status: status(view.status).into(),
        attempt: view.attempt.0,
        elves_lost: view.elves_lost,
        waiting_for: view.waiting_for,
        assigned_at: view.running.map(|running| timestamp(running.since)),
        started_at: view.running.and_then(|running| running.started).map(timestamp),
        instance_id: view.running.map(|running| id(running.instance.as_bytes())).unwrap_or_default(),
        revision: view.running.map(revision_of).unwrap_or_default(),
        build: view.running.map(build_of).unwrap_or_default(),
        elements: view.elements,
        failed_attempts: view.tries.failed,
        not_before: view.tries.not_before.map(timestamp),
        expires_at: view.expires_at.map(timestamp),
        ..any_job(&view.head)
    }
}
