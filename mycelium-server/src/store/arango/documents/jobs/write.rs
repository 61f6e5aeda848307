//! How a change of a job becomes an update of its document.

use bytes::Bytes;
use mycelium_core::effects::FinishedJob;
use mycelium_core::ids::{Attempt, JobId};
use mycelium_core::image::{JobHead, LiveJob, PastAttempt, Running, Tries};
use mycelium_core::labels::Labels;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::text::Text;
use super::super::time::Date;
use super::super::{base64, sorted};
use super::{AttemptDocument, ExpiredTime, Held, JobStatus};
use crate::store::record::Encoded;
use crate::store::{Erased, JobAfter, JobChange, SpecRecord};

/// A specification of more bytes stands in a document of its own, which is not rewritten whenever the job changes.
pub(in super::super::super) const BODY_HERE_BYTES_MAX: usize = 16 * 1024;

/// What a batch makes of the document of a job: a document to be inserted over what is there.
#[derive(Debug, Clone, Copy)]
pub(in super::super::super) struct JobUpdate<'a> {
    change: &'a JobChange,
    /// The names of its outputs, if it ends with any that can be told apart.
    outputs: Option<&'a [&'a str]>,
}

impl<'a> JobUpdate<'a> {
    /// The update for a change; `None` if there is nothing to write: it was made and dropped in the same batch.
    pub(in super::super::super) fn of(change: &'a JobChange, outputs: Option<&'a [&'a str]>) -> Option<Self> {
        let comes_and_goes = change.created.is_some() && matches!(change.after, JobAfter::Dropped);
        (!comes_and_goes).then_some(Self { change, outputs })
    }
}

/// What is left of the document of a job that becomes a stub.
#[derive(Serialize)]
pub(in super::super::super) struct StubUpdate<'a> {
    #[serde(rename = "_key")]
    key: Text<JobId>,
    body_bytes: usize,
    body: Base64<'a>,
}

impl<'a> StubUpdate<'a> {
    /// Of a job that is deleted, if a stub of it stays.
    pub(in super::super::super) fn of(erased: &'a Erased) -> Option<Self> {
        let stub = erased.stub.as_ref()?;
        Some(Self { key: Text(erased.head.id), body_bytes: stub.body.len(), body: Base64(&stub.body) })
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
        let SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body } = spec;
        let JobHead { id: _, flow, elf, task, priority, labels, policy: _, number, submitted_at, shape } =
            head;
        self.put("flow", Text(flow))?;
        self.put("machine_elf", &**elf)?;
        self.put("task", &**task)?;
        self.put("priority", priority)?;
        self.put_some("labels", LabelsText::some(labels))?;
        self.put_some("label_list", label_list(labels))?;
        self.put("ord", sorted::text(number.0))?;
        self.put("submit_date", Date(*submitted_at))?;
        self.put("submit_ms", Date(*submitted_at).ms())?;
        self.put_some("argument_names", shape.names().map(|names| Each(names, |name| &**name)))?;
        self.put("digest", sorted::text(digest.0))?;
        self.put_some("depends_on", texts(depends_on))?;
        self.put_some("gathered_by", gathered_by.map(Text))?;
        self.put_some("begins_date", begins_at.map(Date))?;
        self.put_some("decide", evaluate.then_some(true))?;
        self.put("body_bytes", body.len())?;
        self.put_some("body", (body.len() <= BODY_HERE_BYTES_MAX).then_some(Base64(body)))
    }

    /// A retry may give a job another.
    fn policy(&mut self, head: &JobHead) -> Result<(), M::Error> {
        self.put_some("policy", Some(head.policy.0).filter(|policy| *policy != 0))
    }

    fn live(&mut self, live: &LiveJob) -> Result<(), M::Error> {
        let LiveJob {
            head,
            digest: _,
            waits_for,
            submission,
            attempt,
            elves_lost,
            elves_lost_alone,
            beside,
            evaluate,
            running,
            attempts,
            expires_at,
            queued_at,
            tries: Tries { failed, failed_max, not_before },
        } = live;
        let status = if running.is_some() { JobStatus::Running } else { JobStatus::Pending };
        self.put("status", status)?;
        self.put("open", 1)?;
        self.policy(head)?;
        self.put_some("waits_for", texts(waits_for))?;
        self.put_some("submission", submission.map(Text))?;
        self.put_some("evaluate", evaluate.then_some(true))?;
        self.put_some("elves_lost_alone", Some(*elves_lost_alone).filter(|lost| *lost != 0))?;
        self.put_some("beside", texts(beside))?;
        self.put_some("expires_date", expires_at.map(Date))?;
        self.put_some("queued_date", queued_at.map(Date))?;
        self.put_some("failed", Some(*failed).filter(|failed| *failed != 0))?;
        self.put_some("failed_max", Some(*failed_max).filter(|max| *max != 0))?;
        self.put_some("not_before_date", not_before.map(Date))?;
        self.tried(*attempt, *elves_lost, *running, attempts)?;
        if self.is_new {
            return Ok(());
        }
        self.nothing(&["fin", "end_date", "end_ms", "failure", "cause", "expired", "elements", "outputs"])
    }

    fn finished(&mut self, job: &FinishedJob<Encoded>, outputs: Option<&[&str]>) -> Result<(), M::Error> {
        let FinishedJob {
            head,
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
        self.policy(head)?;
        self.put("fin", sorted::text(finish_number.0))?;
        self.put("end_date", Date(*finished_at))?;
        self.put("end_ms", Date(*finished_at).ms())?;
        self.put_some("failure", end.failure().copied().map(Text))?;
        self.put_some("cause", end.cause().map(Text))?;
        self.put_some("expired", end.expired().map(ExpiredTime::from))?;
        self.put_some("elements", *elements)?;
        self.put_some("outputs", outputs)?;
        self.tried(*attempt, *elves_lost, *ran, attempts)?;
        if self.is_new {
            return Ok(());
        }
        self.nothing(&OF_UNFINISHED)
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
        let latest = held.or_else(|| attempts.last().map(|last| last.held));
        let assigned = latest.map(|held| Date(held.since));
        self.put_some("assign_date", assigned)?;
        self.put_some("assign_ms", assigned.map(Date::ms))?;
        let started = latest.and_then(|held| held.started).map(Date);
        self.put_some("start_date", started)?;
        self.put_some("start_ms", started.map(Date::ms))?;
        let past = (!attempts.is_empty()).then_some(Each(attempts, AttemptDocument::from));
        self.put_some("attempts", past)
    }

    fn dropped(&mut self) -> Result<(), M::Error> {
        self.put("gone", 1)?;
        self.nothing(&OF_UNFINISHED)?;
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
            "argument_names",
            "digest",
            "depends_on",
            "gathered_by",
            "begins_date",
            "decide",
            "body_bytes",
            "body",
            "attempt",
            "elves_lost",
            "held",
            "assign_date",
            "assign_ms",
            "start_date",
            "start_ms",
            "attempts",
            "fin",
            "end_date",
            "end_ms",
            "failure",
            "cause",
            "expired",
            "elements",
            "outputs",
        ])
    }

    fn nothing(&mut self, names: &[&'static str]) -> Result<(), M::Error> {
        names.iter().try_for_each(|name| self.put(name, ()))
    }
}

/// What a job has as long as it is unfinished, and no longer.
const OF_UNFINISHED: [&str; 11] = [
    "open",
    "waits_for",
    "submission",
    "evaluate",
    "elves_lost_alone",
    "beside",
    "expires_date",
    "queued_date",
    "failed",
    "failed_max",
    "not_before_date",
];

/// Ids in a list; `None` for none of them.
fn texts(ids: &[JobId]) -> Option<impl Serialize> {
    (!ids.is_empty()).then_some(Each(ids, |id: &JobId| Text(*id)))
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
struct LabelsText<'a>(&'a Labels);

impl<'a> LabelsText<'a> {
    /// `None` for none of them.
    fn some(labels: &'a Labels) -> Option<Self> {
        (!labels.is_empty()).then_some(Self(labels))
    }
}

impl Serialize for LabelsText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Labels as an array, for filters such as `"site=north" IN job.label_list`.
pub(in super::super::super) fn label_list(labels: &Labels) -> Option<Vec<String>> {
    (!labels.is_empty()).then(|| labels.iter().map(|(key, value)| format!("{key}={value}")).collect())
}
