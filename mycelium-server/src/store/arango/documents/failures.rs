//! Failures and their occurrences.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use mycelium_core::ids::{Attempt, FailureId, JobId};
use mycelium_proto::v1;
use serde::{Deserialize, Serialize};

use super::text::Text;
use super::time::Date;
use super::{base64, count, key};
use crate::documents::Failure;
use crate::store::{FailureRecord, NewFailure, OccurrenceRecord, Seen, cursor};

/// A document of `Failures`.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct FailureDocument {
    #[serde(rename = "_key")]
    id: Text<FailureId>,
    #[serde(rename = "type", skip_deserializing)]
    kind: Option<String>,
    /// Of the latest occurrence.
    #[serde(skip_deserializing)]
    message: Option<String>,
    /// Where it was raised, innermost first, and what caused it.
    #[serde(skip_deserializing)]
    traceback: Option<String>,
    #[serde(with = "base64")]
    body: Bytes,
    #[serde(with = "count")]
    occurrences: u64,
    first_seen_date: Date,
    #[serde(skip_deserializing)]
    first_seen_ms: u64,
    last_seen_date: Date,
    #[serde(skip_deserializing)]
    last_seen_ms: u64,
    machine_elf: String,
    task: String,
    /// The place among all failures.
    #[serde(skip_deserializing)]
    place: String,
}

impl From<FailureRecord> for FailureDocument {
    fn from(record: FailureRecord) -> Self {
        let FailureRecord { id, body, occurrences, first_seen, last_seen, elf, task } = record;
        let failure = Failure::decode(id, body.clone()).ok().map(v1::Failure::from);
        let traceback = failure.as_ref().map(traceback);
        let (kind, message) = failure.map(|failure| (failure.r#type, failure.message)).unzip();
        let (first_seen_date, last_seen_date) = (Date(first_seen), Date(last_seen));
        Self {
            id: Text(id),
            kind,
            message,
            traceback,
            body,
            occurrences,
            first_seen_date,
            first_seen_ms: first_seen_date.ms(),
            last_seen_date,
            last_seen_ms: last_seen_date.ms(),
            machine_elf: elf.to_string(),
            task: task.to_string(),
            place: key::hex(&cursor::failure(last_seen, id).0),
        }
    }
}

impl From<FailureDocument> for FailureRecord {
    fn from(document: FailureDocument) -> Self {
        let FailureDocument {
            id, body, occurrences, first_seen_date, last_seen_date, machine_elf, task, ..
        } = document;
        Self {
            id: id.0,
            body,
            occurrences,
            first_seen: first_seen_date.0,
            last_seen: last_seen_date.0,
            elf: machine_elf.into(),
            task: task.into(),
        }
    }
}

/// A line for each frame, innermost first, and one for each cause.
fn traceback(failure: &v1::Failure) -> String {
    let mut text = String::new();
    for frame in &failure.frames {
        let _written = match (&*frame.function, &*frame.file, frame.line) {
            (function, "", _) => writeln!(text, "at {function}"),
            ("", file, line) => writeln!(text, "at {file}:{line}"),
            (function, file, line) => writeln!(text, "at {function} ({file}:{line})"),
        };
    }
    for cause in &failure.causes {
        let _written = writeln!(text, "caused by {}: {}", cause.r#type, cause.message);
    }
    text
}

/// A document of `JobFailures`: an edge from a job to a failure that it ended with, or an attempt of it.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct OccurrenceDocument {
    #[serde(rename = "_from", skip_deserializing)]
    from: String,
    #[serde(rename = "_to", skip_deserializing)]
    to: String,
    job: Text<JobId>,
    /// The key of the failure.
    #[serde(skip_deserializing)]
    failure: String,
    attempt: u32,
    /// Given to it by the statement that writes it.
    #[serde(skip_serializing, with = "count")]
    number: u64,
    at_date: Date,
    #[serde(skip_deserializing)]
    at_ms: u64,
    message: String,
    details: String,
    cause_messages: Vec<String>,
}

impl OccurrenceDocument {
    fn new(id: FailureId, occurrence: &OccurrenceRecord) -> Self {
        let OccurrenceRecord { job, attempt, at, message, details, cause_messages } = occurrence;
        Self {
            from: format!("Jobs/{job}"),
            to: format!("Failures/{id}"),
            job: Text(*job),
            failure: id.to_string(),
            attempt: attempt.0,
            number: 0,
            at_date: Date(*at),
            at_ms: Date(*at).ms(),
            message: message.clone(),
            details: details.clone(),
            cause_messages: cause_messages.clone(),
        }
    }
}

impl From<OccurrenceDocument> for (u64, OccurrenceRecord) {
    fn from(document: OccurrenceDocument) -> Self {
        let OccurrenceDocument { job, attempt, number, at_date, message, details, cause_messages, .. } =
            document;
        let attempt = Attempt(attempt);
        (number, OccurrenceRecord { job: job.0, attempt, at: at_date.0, message, details, cause_messages })
    }
}

/// An occurrence to be written.
#[derive(Debug, Serialize)]
pub(in super::super) struct NewOccurrence {
    /// How many of the same failure come after it in its batch.
    back: u64,
    document: OccurrenceDocument,
}

/// What a batch writes to `Failures` and `JobFailures`.
#[derive(Debug, Default)]
pub(in super::super) struct NewFailures {
    /// Whole documents of keys that differ, as if their failures had not been seen before: `occurrences` is how often each
    /// was seen in the batch. Of one that is there already all is to be updated but for `first_seen_*`, of which the
    /// earlier stays, and `occurrences`, which is to be added; what is null in it is to be removed.
    pub(in super::super) failures: Vec<FailureDocument>,
    /// An edge's `number` is what `occurrences` of its failure is then, less what it has in `back`; `number` is to be set,
    /// and `_key`, which is `<failure>.<number>`.
    pub(in super::super) occurrences: Vec<NewOccurrence>,
}

/// What a batch writes of failures that were seen.
pub(in super::super) fn failures(seen: &[NewFailure]) -> NewFailures {
    let mut counted: BTreeMap<FailureId, (Seen, &NewFailure)> = BTreeMap::new();
    let mut occurrences = Vec::with_capacity(seen.len());
    for failure in seen {
        let before = counted.get(&failure.id).map(|(before, _)| *before);
        counted.insert(failure.id, (failure.counted_on(before), failure));
    }
    let mut left: BTreeMap<FailureId, u64> =
        counted.iter().map(|(id, (seen, _))| (*id, seen.occurrences)).collect();
    for failure in seen {
        let back = left.entry(failure.id).and_modify(|left| *left -= 1).or_default();
        let document = OccurrenceDocument::new(failure.id, &failure.occurrence);
        occurrences.push(NewOccurrence { back: *back, document });
    }
    let documents = counted.into_values().map(|(seen, latest)| latest.record(seen).into());
    NewFailures { failures: documents.collect(), occurrences }
}
