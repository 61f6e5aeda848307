//! The document of a job: what never changes of it, written when it is submitted, and what it is now. One document, so
//! that people find all of a job in one place; an update rewrites only the attributes it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob};
use mycelium_core::ids::{
    Attempt, ContentDigest, FailureId, FinishNumber, FlowId, InstanceId, JobId, JobNumber, PolicyId,
    SessionId, SubmissionId,
};
use mycelium_core::image::{AttemptEnd, JobHead, LiveJob, PastAttempt, Running};
use mycelium_core::labels::Labels;
use mycelium_core::status::FinalStatus;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::text::{RevisionText, Text};
use super::time::Date;
use super::{base64, sorted};
use crate::store::record::Encoded;
use crate::store::{Error, FinishedRecord, JobAfter, JobChange, Outline, SpecRecord};

/// A specification of more bytes stands in a document of its own, which is not rewritten whenever the job changes.
pub(in super::super) const BODY_HERE_BYTES_MAX: usize = 16 * 1024;

/// What a job is, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in super::super) enum JobStatus {
    /// It waits for others, or for an elf: READY is not stored.
    Pending,
    Running,
    Done,
    Failed,
    UpstreamFailed,
    Cancelled,
    Skipped,
}

impl From<FinalStatus> for JobStatus {
    fn from(status: FinalStatus) -> Self {
        match status {
            FinalStatus::Done => Self::Done,
            FinalStatus::Failed => Self::Failed,
            FinalStatus::UpstreamFailed => Self::UpstreamFailed,
            FinalStatus::Cancelled => Self::Cancelled,
            FinalStatus::Skipped => Self::Skipped,
        }
    }
}

/// Who holds a job, or held it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in super::super) struct Held {
    session: u64,
    instance: Text<InstanceId>,
    revision: RevisionText,
    since_date: Date,
    since_ms: u64,
}

impl From<Running> for Held {
    fn from(running: Running) -> Self {
        let since = Date(running.since);
        Self {
            session: running.session.0,
            instance: Text(running.instance),
            revision: RevisionText(running.revision),
            since_date: since,
            since_ms: since.ms(),
        }
    }
}

impl From<Held> for Running {
    fn from(held: Held) -> Self {
        Self {
            session: SessionId(held.session),
            instance: held.instance.0,
            revision: held.revision.0,
            since: held.since_date.0,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(remote = "AttemptEnd", rename_all = "SCREAMING_SNAKE_CASE")]
enum How {
    Returned,
    Failed,
    Cancelled,
    HandedBack,
    NotHeld,
    ElfLost,
    ElfLostBefore,
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in super::super) struct AttemptDocument {
    number: u32,
    #[serde(with = "How")]
    how: AttemptEnd,
    ended_date: Date,
    ended_ms: u64,
    held: Held,
}

impl From<&PastAttempt> for AttemptDocument {
    fn from(attempt: &PastAttempt) -> Self {
        let ended = Date(attempt.ended_at);
        Self {
            number: attempt.number.0,
            how: attempt.how,
            ended_date: ended,
            ended_ms: ended.ms(),
            held: attempt.held.into(),
        }
    }
}

impl From<AttemptDocument> for PastAttempt {
    fn from(attempt: AttemptDocument) -> Self {
        Self {
            number: Attempt(attempt.number),
            held: attempt.held.into(),
            ended_at: attempt.ended_date.0,
            how: attempt.how,
        }
    }
}

/// What a batch makes of the document of a job: a document to be inserted over what is there.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct JobUpdate<'a> {
    change: &'a JobChange,
    /// The names of its outputs, if it ends with any that can be told apart.
    outputs: Option<&'a [&'a str]>,
}

impl<'a> JobUpdate<'a> {
    /// The update for a change; `None` if there is nothing to write: it was made and dropped in the same batch.
    pub(in super::super) fn of(change: &'a JobChange, outputs: Option<&'a [&'a str]>) -> Option<Self> {
        let comes_and_goes = change.created.is_some() && matches!(change.after, JobAfter::Dropped);
        (!comes_and_goes).then_some(Self { change, outputs })
    }
}

/// Writes attributes. What is not there is null, which removes what was there before; for a new document it is left out.
struct Attributes<M> {
    map: M,
    is_new: bool,
}

impl<M: SerializeMap> Attributes<M> {
    fn put<T: Serialize>(&mut self, name: &'static str, value: T) -> Result<(), M::Error> {
        self.map.serialize_entry(name, &value)
    }

    fn put_some<T: Serialize>(&mut self, name: &'static str, value: Option<T>) -> Result<(), M::Error> {
        match value {
            Some(value) => self.put(name, value),
            None if self.is_new => Ok(()),
            None => self.put(name, ()),
        }
    }
}

impl Serialize for JobUpdate<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let change = self.change;
        let mut document =
            Attributes { map: serializer.serialize_map(None)?, is_new: change.created.is_some() };
        document.put("_key", Text(change.id))?;
        if let Some(created) = &change.created {
            document.spec(created)?;
        }
        match &change.after {
            JobAfter::Live(live) => document.live(live)?,
            JobAfter::Evaluate => document.put("evaluate", true)?,
            JobAfter::Finished(finished) => document.finished(finished, self.outputs)?,
            JobAfter::Dropped => document.dropped()?,
        }
        document.map.end()
    }
}

impl<M: SerializeMap> Attributes<M> {
    fn spec(&mut self, spec: &SpecRecord) -> Result<(), M::Error> {
        let SpecRecord { head, digest, depends_on, evaluate, gathered_by, body } = spec;
        let JobHead { id: _, flow, elf, task, priority, labels, policy, number, submitted_at } = head;
        // One of the same id may have been dropped, and not be removed yet.
        self.put("gone", ())?;
        self.put("flow", Text(flow))?;
        self.put("machine_elf", &**elf)?;
        self.put("task", &**task)?;
        self.put("priority", priority)?;
        self.put_some("labels", LabelsText::some(labels))?;
        self.put_some("label_list", label_list(labels))?;
        self.put_some("policy", Some(policy.0).filter(|policy| *policy != 0))?;
        self.put("ord", sorted::text(number.0))?;
        self.put("submit_date", Date(*submitted_at))?;
        self.put("submit_ms", Date(*submitted_at).ms())?;
        self.put("digest", sorted::text(digest.0))?;
        self.put_some("depends_on", texts(depends_on))?;
        self.put_some("gathered_by", gathered_by.map(Text))?;
        self.put_some("decide", evaluate.then_some(true))?;
        self.put("body_bytes", body.len())?;
        self.put_some("body", (body.len() <= BODY_HERE_BYTES_MAX).then_some(Base64(body)))
    }

    fn live(&mut self, live: &LiveJob) -> Result<(), M::Error> {
        let LiveJob {
            head: _,
            digest: _,
            waits_for,
            submission,
            attempt,
            elves_lost,
            evaluate,
            running,
            attempts,
        } = live;
        let status = if running.is_some() { JobStatus::Running } else { JobStatus::Pending };
        self.put("status", status)?;
        self.put("open", 1)?;
        self.put_some("waits_for", texts(waits_for))?;
        self.put_some("submission", submission.map(Text))?;
        self.put_some("evaluate", evaluate.then_some(true))?;
        self.tried(*attempt, *elves_lost, *running, attempts)?;
        if self.is_new {
            return Ok(());
        }
        self.nothing(&["fin", "end_date", "end_ms", "failure", "cause", "elements", "outputs"])
    }

    fn finished(&mut self, job: &FinishedJob<Encoded>, outputs: Option<&[&str]>) -> Result<(), M::Error> {
        let FinishedJob {
            head: _,
            finish_number,
            end,
            finished_at,
            attempt,
            elves_lost,
            ran,
            elements,
            attempts,
        } = job;
        self.put("status", JobStatus::from(end.status()))?;
        self.put("fin", sorted::text(finish_number.0))?;
        self.put("end_date", Date(*finished_at))?;
        self.put("end_ms", Date(*finished_at).ms())?;
        self.put_some("failure", end.failure().copied().map(Text))?;
        self.put_some("cause", end.cause().map(Text))?;
        self.put_some("elements", *elements)?;
        self.put_some("outputs", outputs)?;
        self.tried(*attempt, *elves_lost, *ran, attempts)?;
        if self.is_new {
            return Ok(());
        }
        self.nothing(&["open", "waits_for", "submission", "evaluate"])
    }

    fn tried(
        &mut self,
        attempt: Attempt,
        elves_lost: u32,
        held: Option<Running>,
        attempts: &[PastAttempt],
    ) -> Result<(), M::Error> {
        self.put_some("attempt", Some(attempt.0).filter(|attempt| *attempt != 0))?;
        self.put_some("elves_lost", Some(elves_lost).filter(|lost| *lost != 0))?;
        self.put_some("held", held.map(Held::from))?;
        let started = held.or_else(|| attempts.last().map(|last| last.held)).map(|held| Date(held.since));
        self.put_some("start_date", started)?;
        self.put_some("start_ms", started.map(Date::ms))?;
        let past = (!attempts.is_empty()).then(|| Each(attempts, AttemptDocument::from));
        self.put_some("attempts", past)
    }

    fn dropped(&mut self) -> Result<(), M::Error> {
        self.put("gone", 1)?;
        self.nothing(&[
            "status",
            "flow",
            "machine_elf",
            "task",
            "priority",
            "labels",
            "label_list",
            "policy",
            "ord",
            "submit_date",
            "submit_ms",
            "digest",
            "depends_on",
            "gathered_by",
            "decide",
            "body_bytes",
            "body",
            "open",
            "waits_for",
            "submission",
            "evaluate",
            "attempt",
            "elves_lost",
            "held",
            "start_date",
            "start_ms",
            "attempts",
            "fin",
            "end_date",
            "end_ms",
            "failure",
            "cause",
            "elements",
            "outputs",
        ])
    }

    fn nothing(&mut self, names: &[&'static str]) -> Result<(), M::Error> {
        names.iter().try_for_each(|name| self.put(name, ()))
    }
}

/// Ids in a list; `None` for none of them.
fn texts(ids: &[JobId]) -> Option<impl Serialize> {
    (!ids.is_empty()).then(|| Each(ids, |id: &JobId| Text(*id)))
}

/// A list that is written without being made.
struct Each<'a, T, U>(&'a [T], fn(&'a T) -> U);

impl<T, U: Serialize> Serialize for Each<'_, T, U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(self.1))
    }
}

struct Base64<'a>(&'a Bytes);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        base64::serialize(self.0, serializer)
    }
}

/// Labels as an object.
pub(in super::super) struct LabelsText<'a>(&'a Labels);

impl<'a> LabelsText<'a> {
    /// `None` for none of them.
    pub(in super::super) fn some(labels: &'a Labels) -> Option<Self> {
        (!labels.is_empty()).then_some(Self(labels))
    }
}

impl Serialize for LabelsText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Labels as an array, for filters such as `"site=north" IN job.label_list`.
pub(in super::super) fn label_list(labels: &Labels) -> Option<Vec<String>> {
    (!labels.is_empty()).then(|| labels.iter().map(|(key, value)| format!("{key}={value}")).collect())
}

/// A job as it is read: all of it, or what a statement asked for.
#[derive(Debug, Deserialize)]
pub(in super::super) struct JobDocument {
    #[serde(rename = "_key")]
    pub(in super::super) key: Text<JobId>,
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
    #[serde(default, deserialize_with = "optional_number")]
    digest: Option<u64>,
    depends_on: Option<Vec<Text<JobId>>>,
    gathered_by: Option<Text<JobId>>,
    decide: Option<bool>,
    body_bytes: Option<usize>,
    #[serde(default, with = "base64::optional")]
    body: Option<Bytes>,
    open: Option<u8>,
    waits_for: Option<Vec<Text<JobId>>>,
    submission: Option<Text<SubmissionId>>,
    evaluate: Option<bool>,
    attempt: Option<u32>,
    elves_lost: Option<u32>,
    held: Option<Held>,
    attempts: Option<Vec<AttemptDocument>>,
    #[serde(default, deserialize_with = "optional_number")]
    fin: Option<u64>,
    end_date: Option<Date>,
    failure: Option<Text<FailureId>>,
    cause: Option<Text<JobId>>,
    elements: Option<u32>,
    outputs: Option<Vec<String>>,
}

fn optional_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Number(#[serde(with = "sorted")] u64);
    Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

impl JobDocument {
    /// Whether it is unfinished.
    pub(in super::super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it has ended.
    pub(in super::super) fn is_finished(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether it is DONE.
    pub(in super::super) fn is_done(&self) -> bool {
        self.status == Some(JobStatus::Done)
    }

    /// The names of its outputs, if they can be told apart.
    pub(in super::super) fn outputs(&self) -> Option<&[String]> {
        self.outputs.as_deref()
    }

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
        })
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
    pub(in super::super) fn spec(mut self) -> Result<SpecRecord, Error> {
        let body = self.body.take();
        let body = self.need(body, "body")?;
        if self.need(self.body_bytes, "body_bytes")? != body.len() {
            return Err(self.damaged("`body` has another length than `body_bytes` says"));
        }
        let outline = self.outline()?;
        let Outline { head, digest, depends_on, evaluate, gathered_by, body: _ } = outline;
        Ok(SpecRecord { head, digest, depends_on, evaluate, gathered_by, body })
    }

    /// The same without its body.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super) fn outline(mut self) -> Result<Outline, Error> {
        Ok(Outline {
            head: self.head()?,
            digest: ContentDigest(self.need(self.digest, "digest")?),
            depends_on: Self::ids(self.depends_on.take()),
            evaluate: self.decide.unwrap_or_default(),
            gathered_by: self.gathered_by.map(|Text(job)| job),
            body: self.need(self.body_bytes, "body_bytes")?,
        })
    }

    /// The record of an unfinished job.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super) fn live(mut self) -> Result<LiveJob, Error> {
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
            evaluate: self.evaluate.unwrap_or_default(),
            running,
            attempts: self.past(),
        })
    }

    /// The record of a finished job.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(in super::super) fn finished(mut self) -> Result<FinishedRecord, Error> {
        Ok(FinishedRecord {
            finish_number: FinishNumber(self.need(self.fin, "fin")?),
            end: match self.need(self.status, "status")? {
                JobStatus::Done => End::Done(()),
                JobStatus::Failed => End::Failed(self.need(self.failure, "failure")?.0),
                JobStatus::UpstreamFailed => End::UpstreamFailed(self.need(self.cause, "cause")?.0),
                JobStatus::Cancelled => End::Cancelled,
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

#[cfg(test)]
mod tests;
