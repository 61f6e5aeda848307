//! Failures, equal ones together, and when they occurred.

use mycelium_core::ids::FailureId;

use super::page::{self, Filled, Page, PageOf, Weigh, left_out};
use crate::broker::{CallError, Handle};
use crate::documents::{Failure, cut_words};
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
    pub(crate) failure: Failure,
}

impl FailureGroup {
    fn of(record: FailureRecord) -> Result<Self, CallError> {
        Ok(Self { failure: Failure::decode(record.id, record.body.clone())?, record })
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
        page::fill(page.limit(), CHUNK, after, read, |one| Ok(within_limits(one))).await?;
    let next = next.map(|next| page::token(OCCURRENCES, &next.to_be_bytes())).unwrap_or_default();
    Ok((failure, Page { entries, next, unreadable: 0 }))
}

fn within_limits(mut occurrence: OccurrenceRecord) -> OccurrenceRecord {
    let OccurrenceRecord { message, details, cause_messages, .. } = &mut occurrence;
    cut_words(message, details, cause_messages);
    occurrence
}
