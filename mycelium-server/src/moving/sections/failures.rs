//! Failures, last seen first, each followed by all its occurrences, first one first.
//!
//! How often a failure was seen, and when, follows from its occurrences: they are counted again when they are imported,
//! and get the numbers they had, but for those that come after one in a job that was deleted.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::ids::{Attempt, FailureId, JobId};
use mycelium_proto::v1;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source, Window, undamaged};
use super::super::text::{Base64, Moment, Text};
use super::{Error, Section};
use crate::documents::Failure;
use crate::store::{Batch, FailureCursor, FailureRecord, NewFailure, OccurrenceRecord};

/// How many failures, and how many occurrences, are read at once. Each has 128 KiB at most.
const PAGE: u64 = if cfg!(test) { 2 } else { 64 };

#[derive(Default)]
pub(super) struct Failures {
    /// Read, and not begun.
    listed: VecDeque<(FailureCursor, FailureRecord)>,
    /// The failure that the occurrences are of which are taken now.
    current: Option<Current>,
}

struct Current {
    id: FailureId,
    body: Bytes,
    elf: Arc<str>,
    task: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct FailureLine {
    failure: Text<FailureId>,
    /// For people. Not read back.
    #[serde(default, rename = "type")]
    kind: String,
    elf: String,
    task: String,
    body: Base64,
}

#[derive(Serialize, Deserialize)]
struct OccurrenceLine {
    occurrence: u64,
    of: Text<FailureId>,
    job: Text<JobId>,
    attempt: u32,
    at: Moment,
    message: String,
    details: String,
    cause_messages: Vec<String>,
}

/// How far failures have been read.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Place {
    /// The last failure that was begun.
    failure: Option<Base64>,
    /// If there may be more of its occurrences: its id, how many were read, and how many there are.
    of: Option<(Text<FailureId>, u64, u64)>,
}

impl Section for Failures {
    const NAME: &'static str = "failures";
    type Place = Place;

    fn read(&mut self, source: &Source<'_>, place: &mut Place, out: &mut Out<'_>) -> Result<bool, Error> {
        if let Some((Text(id), read, all)) = place.of.take() {
            if let Some(window) = Window::after(read, all, PAGE) {
                occurrences(source, id, &window, out)?;
                place.of = Some((Text(id), window.last, all));
            }
            return Ok(true);
        }
        if self.listed.is_empty() {
            let after = place.failure.as_ref().map(|Base64(place)| FailureCursor(place.to_vec()));
            let page = source.store.list_failures(after.as_ref(), PAGE as usize).wait()?;
            undamaged(page.damaged)?;
            self.listed.extend(page.entries);
        }
        let Some((FailureCursor(at), failure)) = self.listed.pop_front() else { return Ok(false) };
        *place =
            Place { failure: Some(Base64(at.into())), of: Some((Text(failure.id), 0, failure.occurrences)) };
        out.line(&FailureLine::from(failure))?;
        Ok(true)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Line {
            Failure(FailureLine),
            Occurrence(OccurrenceLine),
        }
        let line = match line::read(line)? {
            Line::Failure(FailureLine { failure, elf, task, body, .. }) => {
                let (elf, task) = (elf.into(), task.into());
                self.current = Some(Current { id: failure.0, body: body.0, elf, task });
                return Ok(());
            }
            Line::Occurrence(occurrence) => occurrence,
        };
        let Some(current) = self.current.as_ref().filter(|current| current.id == line.of.0) else {
            return Err(Malformed(format!("failure {} does not stand before its occurrence", line.of.0)));
        };
        batch.failures.push(NewFailure {
            id: current.id,
            body: current.body.clone(),
            occurrence: line.into(),
            elf: Arc::clone(&current.elf),
            task: Arc::clone(&current.task),
        });
        Ok(())
    }
}

fn occurrences(source: &Source<'_>, id: FailureId, window: &Window, out: &mut Out<'_>) -> Result<(), Error> {
    let page = source.store.list_occurrences(id, Some(window.begin()), window.len()).wait()?;
    // Those in jobs that were deleted are missing.
    for (number, occurrence) in page.into_iter().rev().filter(|(number, _)| window.has(*number)) {
        let OccurrenceRecord { job, attempt, at, message, details, cause_messages } = occurrence;
        out.line(&OccurrenceLine {
            occurrence: number,
            of: Text(id),
            job: Text(job),
            attempt: attempt.0,
            at: at.into(),
            message,
            details,
            cause_messages,
        })?;
    }
    Ok(())
}

impl From<FailureRecord> for FailureLine {
    fn from(record: FailureRecord) -> Self {
        let FailureRecord { id, body, elf, task, .. } = record;
        // What is damaged is for whoever reads it to find.
        let kind = Failure::decode(id, body.clone()).map(|failure| v1::Failure::from(failure).r#type);
        let (elf, task) = (elf.to_string(), task.to_string());
        Self { failure: Text(id), kind: kind.unwrap_or_default(), elf, task, body: Base64(body) }
    }
}

impl From<OccurrenceLine> for OccurrenceRecord {
    fn from(line: OccurrenceLine) -> Self {
        let OccurrenceLine { job, attempt, at, message, details, cause_messages, .. } = line;
        Self { job: job.0, attempt: Attempt(attempt), at: at.into(), message, details, cause_messages }
    }
}
