//! Turns what the core decided into a batch for the store.

use std::collections::HashMap;
use std::sync::Arc;

use mycelium_core::effects::{Effects, End, FailedBy, FinishedJob, JobRecord, JobWrite};
use mycelium_core::ids::{Attachment, FailureId, FlowId, JobId, Timestamp};
use mycelium_core::image::Counters;

use super::message::{Body, FailureBody};
use crate::store::{
    Batch, BlobDigest, BlobRole, BlobUse, ElfRecord, Finish, FinishedRecord, JobAfter, JobChange, NewFailure,
    NewSpec, OccurrenceRecord, RevisionRecord, SpecRecord,
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
}

/// Takes the records out of `effects` and puts them together with the bodies that the commands carried.
pub(crate) fn build(
    effects: &mut Effects,
    counters: Counters,
    bodies: &[Body],
    elves: Vec<ElfRecord>,
    revisions: Vec<RevisionRecord>,
) -> Result<Built, AttachmentMismatch> {
    let mut built = Built {
        batch: Batch {
            counters,
            jobs: Vec::with_capacity(effects.jobs.len()),
            flows: std::mem::take(&mut effects.flows),
            sessions_opened: std::mem::take(&mut effects.sessions_opened),
            sessions_ended: std::mem::take(&mut effects.sessions_ended),
            submissions: std::mem::take(&mut effects.submissions),
            submissions_dropped: std::mem::take(&mut effects.submissions_dropped),
            settling_begun: std::mem::take(&mut effects.settling_begun),
            settling_ended: std::mem::take(&mut effects.settling_ended),
            failures: Vec::new(),
            elves,
            revisions,
            blob_uses_begun: Vec::new(),
            blob_uses_ended: Vec::new(),
        },
        failures: HashMap::new(),
    };
    for write in effects.jobs.drain(..) {
        let change = job_change(write, bodies, &mut built)?;
        built.batch.jobs.push(change);
    }
    Ok(built)
}

fn job_change(write: JobWrite, bodies: &[Body], built: &mut Built) -> Result<JobChange, AttachmentMismatch> {
    let JobWrite { id, flow, created, revived, after } = write;
    let created = match created {
        None => None,
        Some(created) => {
            let Some(Body::Spec { body, digest, evaluate, gathered_by, blobs }) =
                bodies.get(created.spec.0 as usize)
            else {
                return Err(AttachmentMismatch { job: id, attachment: created.spec });
            };
            if !matches!(after, JobRecord::Dropped) {
                keep_blobs(id, blobs, built);
            }
            let (body, digest, evaluate, gathered_by) = (body.clone(), *digest, *evaluate, *gathered_by);
            let spec = match &after {
                JobRecord::Live(live) => Some(SpecRecord {
                    flow,
                    elf: Arc::clone(&live.elf),
                    task: Arc::clone(&live.task),
                    priority: live.priority,
                    number: live.number,
                    submitted_at: live.submitted_at,
                    digest,
                    depends_on: created.depends_on,
                    evaluate,
                    gathered_by,
                    body,
                }),
                JobRecord::Finished(finished) => Some(SpecRecord {
                    flow,
                    elf: Arc::clone(&finished.elf),
                    task: Arc::clone(&finished.task),
                    priority: finished.priority,
                    number: finished.number,
                    submitted_at: finished.submitted_at,
                    digest,
                    depends_on: created.depends_on,
                    evaluate,
                    gathered_by,
                    body,
                }),
                // A job that is new has a record of its own.
                JobRecord::Evaluate | JobRecord::Dropped => None,
            };
            spec.map(|spec| NewSpec { spec })
        }
    };
    let after = match after {
        JobRecord::Live(live) => JobAfter::Live(live),
        JobRecord::Evaluate => JobAfter::Evaluate,
        JobRecord::Dropped => JobAfter::Dropped,
        JobRecord::Finished(finished) => JobAfter::Finished(finish(id, flow, finished, bodies, built)?),
    };
    Ok(JobChange { id, flow, created, revived, after })
}

/// A job names blobs in what is stored of it.
fn keep_blobs(job: JobId, blobs: &[BlobDigest], built: &mut Built) {
    let uses = blobs.iter().map(|blob| BlobUse { blob: *blob, job, role: BlobRole::Kept });
    built.batch.blob_uses_begun.extend(uses);
}

fn finish(
    id: JobId,
    flow: FlowId,
    finished: FinishedJob,
    bodies: &[Body],
    built: &mut Built,
) -> Result<Finish, AttachmentMismatch> {
    let status = finished.end.status();
    let mut record = FinishedRecord {
        id,
        flow,
        elf: finished.elf,
        task: finished.task,
        priority: finished.priority,
        number: finished.number,
        finish_number: finished.finish_number,
        status,
        failure: None,
        cause: None,
        submitted_at: finished.submitted_at,
        finished_at: finished.finished_at,
        attempt: finished.attempt,
        elves_lost: finished.elves_lost,
        ran: finished.ran,
        elements: finished.elements,
    };
    let mut outputs = None;
    match finished.end {
        End::Done(attachment) => match bodies.get(attachment.0 as usize) {
            Some(Body::Outputs { encoded, blobs, .. }) => {
                outputs = Some(encoded.clone());
                keep_blobs(id, blobs, built);
            }
            Some(Body::Spec { .. } | Body::Failure(_)) | None => {
                return Err(AttachmentMismatch { job: id, attachment });
            }
        },
        End::Failed(FailedBy::Reported(attachment)) => match bodies.get(attachment.0 as usize) {
            Some(Body::Failure(failure)) => add_failure(failure.clone(), &mut record, built),
            Some(Body::Spec { .. } | Body::Outputs { .. }) | None => {
                return Err(AttachmentMismatch { job: id, attachment });
            }
        },
        End::Failed(FailedBy::ElvesLost(times)) => {
            add_failure(FailureBody::elves_lost(times), &mut record, built);
        }
        End::UpstreamFailed(cause) => record.cause = Some(cause),
        End::Cancelled | End::Skipped => {}
    }
    Ok(Finish { record, outputs })
}

fn add_failure(failure: FailureBody, record: &mut FinishedRecord, built: &mut Built) {
    record.failure = Some(failure.id);
    built
        .failures
        .insert(record.id, EndedBy { failure: failure.id, message: Arc::from(failure.message.as_str()) });
    let at: Timestamp = record.finished_at;
    built.batch.failures.push(NewFailure {
        id: failure.id,
        body: failure.encoded,
        occurrence: OccurrenceRecord {
            job: record.id,
            attempt: record.attempt,
            at,
            message: failure.message,
            details: failure.details,
            cause_messages: failure.cause_messages,
        },
        elf: Arc::clone(&record.elf),
        task: Arc::clone(&record.task),
    });
}
