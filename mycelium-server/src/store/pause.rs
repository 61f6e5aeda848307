//! Pauses in words: as a database has them, and the lines of an export.

use std::sync::Arc;

use mycelium_core::ids::{FlowId, Timestamp};
use mycelium_core::image::{PauseRecord, PauseTarget};
use serde::{Deserialize, Serialize};

/// What is paused: the mycelium, if it names nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PauseText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elf: Option<String>,
    /// With its elf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    /// Microseconds since the epoch.
    since_us: u64,
    by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<&PauseRecord> for PauseText {
    fn from(PauseRecord { target, since, by, reason }: &PauseRecord) -> Self {
        let (elf, task, flow) = match target {
            PauseTarget::Mycelium => (None, None, None),
            PauseTarget::Elf(elf) => (Some(elf.to_string()), None, None),
            PauseTarget::Task { elf, task } => (Some(elf.to_string()), Some(task.to_string()), None),
            PauseTarget::Flow(flow) => (None, None, Some(flow.to_string())),
        };
        Self { elf, task, flow, since_us: since.0, by: by.to_string(), reason: reason.to_string() }
    }
}

impl TryFrom<PauseText> for PauseRecord {
    type Error = &'static str;

    fn try_from(text: PauseText) -> Result<Self, &'static str> {
        let PauseText { elf, task, flow, since_us, by, reason } = text;
        let target = match (elf, task, flow) {
            (None, None, None) => PauseTarget::Mycelium,
            (Some(elf), None, None) => PauseTarget::Elf(elf.into()),
            (Some(elf), Some(task), None) => PauseTarget::Task { elf: elf.into(), task: task.into() },
            (None, None, Some(flow)) => {
                PauseTarget::Flow(flow.parse::<FlowId>().map_err(|_| "the flow of a pause is no id")?)
            }
            _ => return Err("a pause is of several things"),
        };
        Ok(Self { target, since: Timestamp(since_us), by: Arc::from(by), reason: Arc::from(reason) })
    }
}
