//! Turns what the core decided into a batch for the store.

use std::collections::HashMap;
use std::sync::Arc;

use mycelium_core::effects::{self, Effects, End, FailedAttempt, FailedBy, FinishedJob, JobRecord, JobWrite};
use mycelium_core::ids::{Attachment, Attempt, FailureId, JobId, Timestamp};
use mycelium_core::image::Counters;

use super::message::{Body, FailureBody};
use crate::store::record::Encoded;
use crate::store::{
    Batch, BlobDigest, BlobRole, BlobUse, ElfRecord, JobChange, NewFailure, OccurrenceRecord, RevisionRecord,
    SpecRecord,
};

/// The core named a body that its commands did not carry: a defect in the broker, which it answers by rebuilding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler named attachment {} of job {job}, which is not of the expected kind", attachment.0)]
pub(crate) struct AttachmentMismatch {
    job: JobId,
    attachment: Attachment,
}

/// The failure that ended a job in this batch, for those who watch.
#[derive(Debug, Clone)]
pub(crate) struct EndedBy {
    pub(crate) failure: FailureId,
    pub(crate) message: Arc<str>,
}

/// A batch for the store, and what watchers will want to know of it.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) batch: Batch,
    pub(crate) failures: HashMap<JobId, EndedBy>,
    /// What ran beside jobs that end because they were lost with their elves.
    blamed: HashMap<JobId, Vec<JobId>>,
}

/// Takes the records out of `effects` and joins them with the bodies that the commands carried.
pub(crate) fn build(
    effects: &mut Effects,
    counters: Counters,
    bodies: &[Body],
    elves: Vec<ElfRecord>,
    revisions: Vec<RevisionRecord>,
) -> Result<Built, AttachmentMismatch> {
    let records = std::mem::take(&mut effects.records);
    let jobs = Vec::with_capacity(effects.jobs.len());
    let batch = Batch { counters, jobs, records, elves, revisions, ..Batch::default() };
    let blamed = std::mem::take(&mut effects.blamed).into_iter().collect();
    let mut built = Built { batch, failures: HashMap::new(), blamed };
    for failed in effects.failed.drain(..) {
        add_failed_attempt(failed, bodies, &mut built)?;
    }
    for write in effects.jobs.drain(..) {
        let change = job_change(write, bodies, &mut built)?;
        built.batch.jobs.push(change);
    }
    Ok(built)
}

fn job_change(write: JobWrite, bodies: &[Body], built: &mut Built) -> Result<JobChange, AttachmentMismatch> {
    let JobWrite { id, flow, created, revived, after } = write;
    let created = created.map(|created| new_spec(created, bodies, built)).transpose()?;
    let after = match after {
        JobRecord::Live(live) => JobRecord::Live(live),
        JobRecord::Evaluate => JobRecord::Evaluate,
        JobRecord::Dropped => JobRecord::Dropped,
        JobRecord::Finished(finished) => {
            let end = end(&finished, bodies, built)?;
            JobRecord::Finished(finished.with_end(end))
        }
    };
    Ok(JobChange { id, flow, created, revived, after })
}

fn new_spec(
    created: effects::SpecRecord,
    bodies: &[Body],
    built: &mut Built,
) -> Result<SpecRecord, AttachmentMismatch> {
    let effects::SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body: attachment } =
        created;
    let Some(Body::Spec { body, blobs }) = bodies.get(attachment.0 as usize) else {
        return Err(AttachmentMismatch { job: head.id, attachment });
    };
    keep_blobs(head.id, blobs, built);
    Ok(SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body: body.clone() })
}

/// A job names blobs in what is stored of it.
fn keep_blobs(job: JobId, blobs: &[BlobDigest], built: &mut Built) {
    let uses = blobs.iter().map(|blob| BlobUse { blob: *blob, job, role: BlobRole::Kept });
    built.batch.blob_uses_begun.extend(uses);
}

fn end(
    finished: &FinishedJob,
    bodies: &[Body],
    built: &mut Built,
) -> Result<End<Encoded>, AttachmentMismatch> {
    let job = finished.head.id;
    Ok(match finished.end {
        End::Done(attachment) => match bodies.get(attachment.0 as usize) {
            Some(Body::Outputs { encoded, blobs, .. }) => {
                keep_blobs(job, blobs, built);
                End::Done(encoded.clone())
            }
            Some(Body::Spec { .. } | Body::Failure(_)) | None => {
                return Err(AttachmentMismatch { job, attachment });
            }
        },
        End::Failed(FailedBy::Reported(attachment)) => match bodies.get(attachment.0 as usize) {
            Some(Body::Failure(failure)) => End::Failed(add_failure(failure.clone(), finished, built)),
            Some(Body::Spec { .. } | Body::Outputs { .. }) | None => {
                return Err(AttachmentMismatch { job, attachment });
            }
        },
        End::Failed(FailedBy::ElvesLost(times)) => {
            let beside = built.blamed.remove(&job).unwrap_or_default();
            let FinishedJob { head, elves_lost, .. } = finished;
            let failure = FailureBody::elves_lost(times, *elves_lost, &beside);
            End::Failed(add_failure(failure.in_task(&head.elf, &head.task, None), finished, built))
        }
        End::Failed(FailedBy::TimedOut(run)) => {
            let FinishedJob { head, .. } = finished;
            let failure = FailureBody::timed_out(run).in_task(&head.elf, &head.task, None);
            End::Failed(add_failure(failure, finished, built))
        }
        End::Failed(FailedBy::Silent(within)) => {
            let FinishedJob { head, .. } = finished;
            let failure = FailureBody::silent(within).in_task(&head.elf, &head.task, None);
            End::Failed(add_failure(failure, finished, built))
        }
        End::UpstreamFailed(cause) => End::UpstreamFailed(cause),
        End::Cancelled => End::Cancelled,
        End::Expired(why) => End::Expired(why),
        End::Skipped => End::Skipped,
    })
}

fn add_failure(failure: FailureBody, finished: &FinishedJob, built: &mut Built) -> FailureId {
    let FinishedJob { head, attempt, finished_at, .. } = finished;
    let id = failure.id;
    built.failures.insert(head.id, EndedBy { failure: id, message: Arc::from(failure.message.as_str()) });
    let (elf, task) = (Arc::clone(&head.elf), Arc::clone(&head.task));
    built.batch.failures.push(occurrence((head.id, *attempt), *finished_at, failure, (elf, task)));
    id
}

/// The failure of an attempt whose job is tried again.
fn add_failed_attempt(
    failed: FailedAttempt,
    bodies: &[Body],
    built: &mut Built,
) -> Result<(), AttachmentMismatch> {
    let FailedAttempt { job, elf, task, attempt, ended_at, id: _, held: _, by } = failed;
    let failure = match by {
        FailedBy::Reported(attachment) => match bodies.get(attachment.0 as usize) {
            Some(Body::Failure(failure)) => failure.clone(),
            Some(Body::Spec { .. } | Body::Outputs { .. }) | None => {
                return Err(AttachmentMismatch { job, attachment });
            }
        },
        FailedBy::TimedOut(run) => FailureBody::timed_out(run).in_task(&elf, &task, None),
        FailedBy::Silent(within) => FailureBody::silent(within).in_task(&elf, &task, None),
        // A job that was lost with its elves ends.
        FailedBy::ElvesLost(_) => return Ok(()),
    };
    let new = occurrence((job, attempt), ended_at, failure, (elf, task));
    built.batch.failures.push(new);
    Ok(())
}

fn occurrence(
    (job, attempt): (JobId, Attempt),
    at: Timestamp,
    failure: FailureBody,
    (elf, task): (Arc<str>, Arc<str>),
) -> NewFailure {
    let FailureBody { id, encoded: body, failed: _, message, details, cause_messages } = failure;
    let cause_messages = cause_messages.into_vec();
    let occurrence = OccurrenceRecord { job, attempt, at, message, details, cause_messages };
    NewFailure { id, body, occurrence, elf, task }
}
