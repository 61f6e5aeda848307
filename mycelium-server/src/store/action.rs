//! Actions in words: as a database has them, and the lines of an export.

use std::sync::Arc;

use mycelium_core::ids::Timestamp;
use mycelium_core::image::{ActionKind, ActionRecord};
use serde::{Deserialize, Serialize};

/// An action. Times are microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActionText {
    action: String,
    does: Kind,
    filter: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    by: String,
    began_us: u64,
    upto: u64,
    place: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    done: u64,
    refused: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Retry,
    Cancel,
    Delete,
}

impl From<&ActionRecord> for ActionText {
    fn from(record: &ActionRecord) -> Self {
        let does = match record.kind {
            ActionKind::Retry => Kind::Retry,
            ActionKind::Cancel => Kind::Cancel,
            ActionKind::Delete => Kind::Delete,
        };
        Self {
            action: record.id.to_string(),
            does,
            filter: record.filter.to_string(),
            flow: record.flow.map(|flow| flow.to_string()),
            failure: record.failure.map(|failure| failure.to_string()),
            by: record.by.to_string(),
            began_us: record.began_at.0,
            upto: record.upto,
            place: record.place,
            total: record.total,
            done: record.done,
            refused: record.refused,
            ended_us: record.ended_at.map(|at| at.0),
        }
    }
}

impl TryFrom<ActionText> for ActionRecord {
    type Error = &'static str;

    fn try_from(text: ActionText) -> Result<Self, &'static str> {
        let kind = match text.does {
            Kind::Retry => ActionKind::Retry,
            Kind::Cancel => ActionKind::Cancel,
            Kind::Delete => ActionKind::Delete,
        };
        Ok(Self {
            id: text.action.parse().map_err(|_| "the name of an action is no id")?,
            kind,
            filter: Arc::from(text.filter),
            flow: text.flow.map(|id| id.parse()).transpose().map_err(|_| "the flow of an action is no id")?,
            failure: text
                .failure
                .map(|id| id.parse())
                .transpose()
                .map_err(|_| "the failure of an action is no id")?,
            by: Arc::from(text.by),
            began_at: Timestamp(text.began_us),
            upto: text.upto,
            place: text.place,
            total: text.total,
            done: text.done,
            refused: text.refused,
            ended_at: text.ended_us.map(Timestamp),
        })
    }
}
