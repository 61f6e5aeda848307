//! Failures, equal ones together, and when they occurred.

use mycelium_core::ids::FailureId;
use mycelium_proto::v1;
use prost::Message as _;

use super::blame::failure_in;
use super::page::{self, Filled, Page, PageOf, Weigh, left_out};
use crate::broker::{CallError, Handle, cut_failure};
use crate::error::Error;
use crate::store::{FailureCursor, FailureRecord, OccurrenceRecord};

/// How many failures, or occurrences, are read at once.
const CHUNK: usize = 16;
/// The kinds of the tokens of pages: of failures, and of the occurrences of one.
const FAILURES: char = 'l';
const OCCURRENCES: char = 'o';

/// Equal failures.
#[derive(Debug)]
pub(crate) struct FailureGroup {
    /// How often and when they occurred.
    pub(crate) record: FailureRecord,
    /// With the words of the latest.
    pub(crate) failure: v1::Failure,
}

impl FailureGroup {
    fn of(record: FailureRecord) -> Result<Self, CallError> {
        Ok(Self { failure: failure_in(&record)?, record })
    }
}

impl Weigh for FailureGroup {
    fn bytes(&self) -> usize {
        96 + self.failure.encoded_len() + self.record.elf.len() + self.record.task.len()
    }
}

impl Weigh for OccurrenceRecord {
    fn bytes(&self) -> usize {
        let causes: usize = self.cause_messages.iter().map(|message| message.len() + 6).sum();
        64 + self.message.len() + self.details.len() + causes
    }
}

/// A page of the failures, the latest first.
pub(crate) async fn failures(handle: &Handle, page: &PageOf) -> Result<Page<FailureGroup>, Error> {
    let after = page::read(&page.token, &[FAILURES])?.map(|(_, bytes)| FailureCursor(bytes));
    let read = |after: Option<FailureCursor>, n| async move {
        handle.store().list_failures(after.as_ref(), n).await
    };
    let Filled { entries, next, damaged } =
        page::fill(page.limit(), CHUNK, after, read, FailureGroup::of).await?;
    let unreadable = left_out("failures", &damaged);
    let next = next.map(|next| page::token(FAILURES, &next.0)).unwrap_or_default();
    Ok(Page { entries, next, unreadable })
}

/// Equal failures, and a page of their occurrences.
pub(crate) async fn failure(
    handle: &Handle,
    id: FailureId,
    page: &PageOf,
) -> Result<(FailureGroup, Page<OccurrenceRecord>), Error> {
    let after = page::read_number(&page.token, OCCURRENCES)?;
    let record = handle.store().failures(&[id]).await?.pop().flatten();
    let failure = FailureGroup::of(record.ok_or(CallError::FailureNotFound(id))?)?;
    let read = |after, n| async move { Ok(handle.store().list_occurrences(id, after, n).await?.into()) };
    let Filled { entries, next, .. } =
        page::fill(page.limit(), CHUNK, after, read, |one| Ok(cut_words(one))).await?;
    let next = next.map(|next| page::token(OCCURRENCES, &next.to_be_bytes())).unwrap_or_default();
    Ok((failure, Page { entries, next, unreadable: 0 }))
}

/// One that an earlier version has stored may be larger than is taken now.
fn cut_words(mut occurrence: OccurrenceRecord) -> OccurrenceRecord {
    let mut words = v1::Failure {
        message: occurrence.message,
        details: occurrence.details,
        causes: occurrence
            .cause_messages
            .into_iter()
            .map(|message| v1::FailureCause { message, ..v1::FailureCause::default() })
            .collect(),
        ..v1::Failure::default()
    };
    cut_failure(&mut words);
    occurrence.message = words.message;
    occurrence.details = words.details;
    occurrence.cause_messages = words.causes.into_iter().map(|cause| cause.message).collect();
    occurrence
}
