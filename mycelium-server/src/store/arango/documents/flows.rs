//! Flows.

use std::collections::BTreeMap;

use mycelium_core::ids::{Attempt, FlowId, FlowNumber, JobId, Token};
use mycelium_core::image::FlowRecord;
use mycelium_core::status::FinalCounts;
use serde::{Deserialize, Serialize};

use super::jobs::label_list;
use super::text::Text;
use super::time::Date;
use super::{count, sorted};

/// A document of `Flows`.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct FlowDocument {
    #[serde(rename = "_key")]
    id: Text<FlowId>,
    name: String,
    labels: BTreeMap<String, String>,
    /// `key=value`, to be searched by people.
    #[serde(skip_deserializing)]
    label_list: Option<Vec<String>>,
    /// The number, by which flows are listed.
    #[serde(with = "sorted")]
    ord: u64,
    creation_date: Date,
    #[serde(skip_deserializing)]
    creation_ms: u64,
    finished: Finished,
    /// The attempt during which it was submitted, if a task has submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<OnBehalfOf>,
    /// Whether it is not to be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    /// When its values were deleted, if a stub of it is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletion_date: Option<Date>,
}

/// An attempt.
#[derive(Debug, Serialize, Deserialize)]
struct OnBehalfOf {
    job: Text<JobId>,
    attempt: u32,
}

/// How many jobs of a flow have ended how.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    #[serde(with = "count")]
    done: u64,
    #[serde(with = "count")]
    failed: u64,
    #[serde(with = "count")]
    upstream_failed: u64,
    #[serde(with = "count")]
    cancelled: u64,
    #[serde(with = "count")]
    skipped: u64,
    /// Not there where it was not counted: there were none.
    #[serde(default, with = "count")]
    expired: u64,
}

impl From<&FlowRecord> for FlowDocument {
    fn from(record: &FlowRecord) -> Self {
        let FlowRecord { id, name, labels, number, created_at, finished, on_behalf_of, pinned, deleted_at } =
            record;
        let FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired } = *finished;
        let creation_date = Date(*created_at);
        Self {
            id: Text(*id),
            name: name.to_string(),
            labels: labels.into(),
            label_list: label_list(labels),
            ord: number.0,
            creation_date,
            creation_ms: creation_date.ms(),
            finished: Finished { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of: on_behalf_of
                .map(|Token { job, attempt }| OnBehalfOf { job: Text(job), attempt: attempt.0 }),
            pinned: *pinned,
            deletion_date: deleted_at.map(Date),
        }
    }
}

impl From<FlowDocument> for FlowRecord {
    fn from(document: FlowDocument) -> Self {
        let Finished { done, failed, upstream_failed, cancelled, skipped, expired } = document.finished;
        Self {
            id: document.id.0,
            name: document.name.into(),
            labels: document.labels.into(),
            number: FlowNumber(document.ord),
            created_at: document.creation_date.0,
            finished: FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of: document
                .on_behalf_of
                .map(|of| Token { job: of.job.0, attempt: Attempt(of.attempt) }),
            pinned: document.pinned,
            deleted_at: document.deletion_date.map(|date| date.0),
        }
    }
}

/// What a batch writes to `Flows`: whole documents, of keys that differ.
pub(in super::super) fn flows(records: &[FlowRecord]) -> Vec<FlowDocument> {
    records.iter().map(FlowDocument::from).collect()
}
