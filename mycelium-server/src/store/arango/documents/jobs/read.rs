//! How the document of a job becomes its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::End;
use mycelium_core::ids::{
    Attempt, ContentDigest, FailureId, FinishNumber, FlowId, JobId, JobNumber, PolicyId, SubmissionId,
};
use mycelium_core::image::{JobHead, LiveJob, PastAttempt, Running, Tries};
use mycelium_core::signature::Shape;
use serde::Deserialize;

use super::super::text::Text;
use super::super::time::Date;
use super::super::{base64, sorted};
use super::{AttemptDocument, ExpiredTime, Held, JobStatus};
use crate::store::{Error, FinishedRecord, Outline, SpecRecord};

/// A job as it is read: all of it, or what a statement asked for.
#[derive(Debug, Deserialize)]
pub(in super::super::super) struct JobDocument {
    #[serde(rename = "_key")]
    pub(in super::super::super) key: Text<JobId>,
    status: Option<JobStatus>,
    flow: Option<Text<FlowId>>,
    machine_elf: Option<String>,
    task: Option<String>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    policy: Option<u32>,
    #[serde(default, deserialize_with = "optional_number")]
    ord: Option<u64>,
    submit_date: Option<Date>,
    argument_names: Option<Vec<String>>,
    #[serde(default, deserialize_with = "optional_number")]
    digest: Option<u64>,
    depends_on: Option<Vec<Text<JobId>>>,
    gathered_by: Option<Text<JobId>>,
    begins_date: Option<Date>,
    decide: Option<bool>,
    body_bytes: Option<usize>,
    #[serde(default, with = "base64::optional")]
    body: Option<Bytes>,
    waits_for: Option<Vec<Text<JobId>>>,
    submission: Option<Text<SubmissionId>>,
    evaluate: Option<bool>,
    attempt: Option<u32>,
    elves_lost: Option<u32>,
    elves_lost_alone: Option<u32>,
    beside: Option<Vec<Text<JobId>>>,
    expires_date: Option<Date>,
    queued_date: Option<Date>,
    failed: Option<u32>,
    failed_max: Option<u32>,
    not_before_date: Option<Date>,
    held: Option<Held>,
    attempts: Option<Vec<AttemptDocument>>,
    #[serde(default, deserialize_with = "optional_number")]
    fin: Option<u64>,
    end_date: Option<Date>,
    failure: Option<Text<FailureId>>,
    cause: Option<Text<JobId>>,
    expired: Option<ExpiredTime>,
    elements: Option<u32>,
}

fn optional_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Number(#[serde(with = "sorted")] u64);
    Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

impl JobDocument {
    fn damaged(&self, what: &str) -> Error {
        Error::Damaged { what: format!("document Jobs/{}: {what}", self.key.0) }
    }

    fn need<T>(&self, value: Option<T>, name: &str) -> Result<T, Error> {
        value.ok_or_else(|| self.damaged(&format!("attribute `{name}` is missing")))
    }

    fn take(&mut self, from: fn(&mut Self) -> &mut Option<String>, name: &str) -> Result<Arc<str>, Error> {
        let text = from(self).take();
        self.need(text, name).map(Arc::from)
    }

    fn head(&mut self) -> Result<JobHead, Error> {
        Ok(JobHead {
            id: self.key.0,
            flow: self.need(self.flow, "flow")?.0,
            elf: self.take(|job| &mut job.machine_elf, "machine_elf")?,
            task: self.take(|job| &mut job.task, "task")?,
            priority: self.priority,
            labels: std::mem::take(&mut self.labels).into(),
            policy: PolicyId(self.policy.unwrap_or_default()),
            number: JobNumber(self.need(self.ord, "ord")?),
            submitted_at: self.need(self.submit_date, "submit_date")?.0,
            shape: self.shape(),
        })
    }

    fn shape(&mut self) -> Shape {
        let names = self.argument_names.take();
        names.map_or(Shape::UNKNOWN, |names| Shape::of(names.into_iter().map(Arc::from)))
    }

    fn ids(ids: Option<Vec<Text<JobId>>>) -> Vec<JobId> {
        ids.unwrap_or_default().into_iter().map(|Text(id)| id).collect()
    }

    fn past(&mut self) -> Vec<PastAttempt> {
        self.attempts.take().unwrap_or_default().into_iter().map(PastAttempt::from).collect()
    }

    /// What never changes of it, with its body, which the statement has put into `body` wherever it stands.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super::super) fn spec(mut self) -> Result<SpecRecord, Error> {
        let body = self.body.take();
        let body = self.need(body, "body")?;
        if self.need(self.body_bytes, "body_bytes")? != body.len() {
            return Err(self.damaged("`body` has another length than `body_bytes` says"));
        }
        let outline = self.outline()?;
        let Outline { head, digest, depends_on, evaluate, gathered_by, begins_at, body: _ } = outline;
        Ok(SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body })
    }

    /// The same without its body.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super::super) fn outline(mut self) -> Result<Outline, Error> {
        Ok(Outline {
            // What a job is now may have another.
            head: JobHead { policy: PolicyId::default(), ..self.head()? },
            digest: ContentDigest(self.need(self.digest, "digest")?),
            depends_on: Self::ids(self.depends_on.take()),
            evaluate: self.decide.unwrap_or_default(),
            gathered_by: self.gathered_by.map(|Text(job)| job),
            begins_at: self.begins_date.map(|Date(at)| at),
            body: self.need(self.body_bytes, "body_bytes")?,
        })
    }

    /// The record of an unfinished job.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super::super) fn live(mut self) -> Result<LiveJob, Error> {
        let running = self.held.filter(|_| self.status == Some(JobStatus::Running)).map(Running::from);
        if running.is_none() && self.need(self.status, "status")? != JobStatus::Pending {
            return Err(self.damaged("an unfinished job is neither PENDING nor RUNNING with `held`"));
        }
        Ok(LiveJob {
            head: self.head()?,
            digest: ContentDigest(self.need(self.digest, "digest")?),
            waits_for: Self::ids(self.waits_for.take()),
            submission: self.submission.map(|Text(submission)| submission),
            attempt: Attempt(self.attempt.unwrap_or_default()),
            elves_lost: self.elves_lost.unwrap_or_default(),
            elves_lost_alone: self.elves_lost_alone.unwrap_or_default(),
            beside: Self::ids(self.beside.take()),
            evaluate: self.evaluate.unwrap_or_default(),
            running,
            attempts: self.past(),
            expires_at: self.expires_date.map(|Date(at)| at),
            queued_at: self.queued_date.map(|Date(at)| at),
            tries: Tries {
                failed: self.failed.unwrap_or_default(),
                failed_max: self.failed_max.unwrap_or_default(),
                not_before: self.not_before_date.map(|Date(at)| at),
            },
        })
    }

    /// The record of a finished job.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super::super) fn finished(mut self) -> Result<FinishedRecord, Error> {
        Ok(FinishedRecord {
            finish_number: FinishNumber(self.need(self.fin, "fin")?),
            end: match self.need(self.status, "status")? {
                JobStatus::Done => End::Done(()),
                JobStatus::Failed => End::Failed(self.need(self.failure, "failure")?.0),
                JobStatus::UpstreamFailed => End::UpstreamFailed(self.need(self.cause, "cause")?.0),
                JobStatus::Cancelled => End::Cancelled,
                JobStatus::Expired => End::Expired(self.need(self.expired, "expired")?.into()),
                JobStatus::Skipped => End::Skipped,
                JobStatus::Pending | JobStatus::Running => {
                    return Err(self.damaged("a finished job has the status of an unfinished one"));
                }
            },
            finished_at: self.need(self.end_date, "end_date")?.0,
            attempt: Attempt(self.attempt.unwrap_or_default()),
            elves_lost: self.elves_lost.unwrap_or_default(),
            ran: self.held.map(Running::from),
            elements: self.elements,
            attempts: self.past(),
            head: self.head()?,
        })
    }
}
