//! What operators have asked for: pauses, and actions on many jobs.

use mycelium_core::ids::ActionId;
use mycelium_core::image::{ActionRecord, PauseRecord, PauseTarget};
use serde::{Deserialize, Serialize};

use super::key;
use crate::store::action::ActionText;
use crate::store::pause::PauseText;

const PAUSE: &str = "pause";
const ACTION: &str = "action";

/// An action on many jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct ActionDocument {
    #[serde(rename = "_key", skip_deserializing)]
    key: String,
    #[serde(flatten)]
    action: ActionText,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

impl From<&ActionRecord> for ActionDocument {
    fn from(action: &ActionRecord) -> Self {
        Self { key: action_key(&action.id), action: action.into(), load: 1 }
    }
}

impl TryFrom<ActionDocument> for ActionRecord {
    type Error = &'static str;

    fn try_from(document: ActionDocument) -> Result<Self, &'static str> {
        document.action.try_into()
    }
}

/// A pause.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct PauseDocument {
    #[serde(rename = "_key", skip_deserializing)]
    key: String,
    #[serde(flatten)]
    pause: PauseText,
    /// It is read when a broker starts.
    #[serde(skip_deserializing)]
    load: u8,
}

impl From<&PauseRecord> for PauseDocument {
    fn from(pause: &PauseRecord) -> Self {
        Self { key: pause_key(&pause.target), pause: pause.into(), load: 1 }
    }
}

impl TryFrom<PauseDocument> for PauseRecord {
    type Error = &'static str;

    fn try_from(document: PauseDocument) -> Result<Self, &'static str> {
        document.pause.try_into()
    }
}

pub(super) fn pause_key(target: &PauseTarget) -> String {
    match target {
        PauseTarget::Mycelium => key::join(&[&PAUSE, &"mycelium"]),
        PauseTarget::Elf(elf) => key::join(&[&PAUSE, &"elf", &key::of_name(elf)]),
        PauseTarget::Task { elf, task } => {
            key::join(&[&PAUSE, &"task", &key::of_name(elf), &key::of_name(task)])
        }
        PauseTarget::Flow(flow) => key::join(&[&PAUSE, &"flow", flow]),
    }
}

pub(super) fn action_key(id: &ActionId) -> String {
    key::join(&[&ACTION, id])
}
