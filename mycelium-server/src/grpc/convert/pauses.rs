//! Pauses.

use std::sync::Arc;

use mycelium_core::image::{PauseRecord, PauseTarget};
use mycelium_proto::{limits, v1};

use super::{flow_id, id, timestamp};
use crate::error::Error;
use crate::values::check_name;

/// Reads what is to be paused or resumed.
pub(crate) fn pause_target(target: Option<&v1::PauseTarget>) -> Result<PauseTarget, Error> {
    use v1::pause_target::Kind;
    let name = |field: &str, name: &str| match check_name(field, name) {
        Ok(()) => Ok(Arc::from(name)),
        Err(error) => Err(Error::field(field, error.to_string())),
    };
    match target.and_then(|target| target.kind.as_ref()) {
        None | Some(Kind::All(false)) => {
            Err(Error::field("target", "names nothing: give a flow, an elf, a task, or `all`"))
        }
        Some(Kind::All(true)) => Ok(PauseTarget::Mycelium),
        Some(Kind::Elf(elf)) => Ok(PauseTarget::Elf(name("target.elf", elf)?)),
        Some(Kind::Task(v1::PausedTask { elf, task })) => Ok(PauseTarget::Task {
            elf: name("target.task.elf", elf)?,
            task: name("target.task.task", task)?,
        }),
        Some(Kind::FlowId(flow)) => Ok(PauseTarget::Flow(flow_id("target.flow_id", flow)?)),
    }
}

/// Reads who asks for something, or why.
pub(crate) fn said(field: &str, text: &str) -> Result<Arc<str>, Error> {
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(Error::field(field, format!("must be at most {} bytes", limits::NAME_BYTES_MAX)));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::field(field, "must not contain control characters"));
    }
    Ok(Arc::from(text))
}

pub(crate) fn pause(pause: &PauseRecord) -> v1::Pause {
    use v1::pause_target::Kind;
    let kind = match &pause.target {
        PauseTarget::Mycelium => Kind::All(true),
        PauseTarget::Elf(elf) => Kind::Elf(elf.to_string()),
        PauseTarget::Task { elf, task } => {
            Kind::Task(v1::PausedTask { elf: elf.to_string(), task: task.to_string() })
        }
        PauseTarget::Flow(flow) => Kind::FlowId(id(flow.as_bytes())),
    };
    v1::Pause {
        target: Some(v1::PauseTarget { kind: Some(kind) }),
        since: Some(timestamp(pause.since)),
        by: pause.by.to_string(),
        reason: pause.reason.to_string(),
    }
}
