//! Changes as a message carries them, assembled as far as there is room.

use mycelium_core::ids::JobId;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::v1;

use super::super::convert;
use super::outgoing::Room;
use crate::broker::{CallError, WatchedChange};
use crate::queries::Job;
use crate::queries::jobs::decode_outputs;
use crate::store::{Reads, isolate};

/// About what a change takes beside its outputs and its text.
pub(super) const CHANGE_BYTES: usize = 256;
/// What outputs that have to be read are taken for before that. Most are smaller; a message ends where the room does.
const READ_BYTES: usize = 4 * 1024;
/// The most that the outputs of one job may come to in a message. What a broker takes is less.
const OUTPUTS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A change that is to be told.
#[derive(Debug)]
pub(super) struct Draft {
    job: JobId,
    message: v1::JobChange,
    outputs: Outputs,
}

#[derive(Debug)]
enum Outputs {
    /// It has none, or nobody asked for them.
    None,
    /// As they are stored.
    AtHand(bytes::Bytes),
    /// To be read.
    Stored,
}

impl Draft {
    /// A job as it stands.
    pub(super) fn of_job(job: &Job, wants_outputs: bool) -> Self {
        let is_done = job.status() == Status::Final(FinalStatus::Done);
        Self {
            job: job.id(),
            outputs: if is_done && wants_outputs { Outputs::Stored } else { Outputs::None },
            message: convert::standing(job),
        }
    }

    /// A change that happened.
    pub(super) fn of_change(change: &WatchedChange, wants_outputs: bool) -> Self {
        let outputs = match &change.outputs {
            _ if !wants_outputs || change.status != Status::Final(FinalStatus::Done) => Outputs::None,
            Some(outputs) => Outputs::AtHand(outputs.clone()),
            None => Outputs::Stored,
        };
        Self { job: change.job, message: convert::change(change), outputs }
    }

    /// Whether its outputs have to be read.
    pub(super) fn is_to_be_read(&self) -> bool {
        matches!(self.outputs, Outputs::Stored)
    }

    /// About how many bytes it takes, without what has to be read.
    fn bare_bytes(&self) -> usize {
        CHANGE_BYTES + self.message.failure_message.len()
    }

    /// About how many bytes it takes. What has to be read may be as large as a message.
    pub(super) fn bytes(&self) -> usize {
        self.bare_bytes()
            + match &self.outputs {
                Outputs::None => 0,
                Outputs::AtHand(outputs) => outputs.len(),
                Outputs::Stored => READ_BYTES,
            }
    }
}

/// Assembles a message of the first of `drafts`, as far as there is room, and at least one. Outputs that are too large
/// for what is left of the budget are left out, and the change says so.
pub(super) async fn assemble(
    store: &dyn Reads,
    drafts: Vec<Draft>,
    room: &mut Room,
) -> Result<Vec<v1::JobChange>, CallError> {
    let mut changes: Vec<v1::JobChange> = Vec::with_capacity(drafts.len());
    let mut bytes = 0;
    // Whether there was no room for outputs that stood first. Others are then not read in vain.
    let mut is_starved = false;
    for draft in drafts {
        let bare = draft.bare_bytes();
        if bytes + bare > room.bytes() && !changes.is_empty() {
            break;
        }
        let Draft { job, mut message, outputs } = draft;
        let encoded = match outputs {
            Outputs::None => None,
            Outputs::AtHand(outputs) => Some(outputs),
            Outputs::Stored if is_starved => {
                message.outputs_omitted = true;
                None
            }
            // One at a time: what does not fit is not held in memory.
            Outputs::Stored => match isolate(&[job], |ids| store.outputs(ids)).await?.pop() {
                Some(Ok(outputs)) => Some(outputs.unwrap_or_default()),
                // What is damaged is told to those who ask for it, and does not end the watch.
                Some(Err(_)) | None => {
                    message.outputs_omitted = true;
                    None
                }
            },
        };
        bytes += bare;
        if let Some(encoded) = encoded {
            let size = encoded.len();
            let is_first = changes.is_empty();
            let fits = bytes + size <= room.bytes()
                || (is_first && size <= OUTPUTS_BYTES_MAX && room.try_grow_to(bytes + size));
            if fits {
                bytes += size;
                message.outputs = decode_outputs(job, encoded)?;
            } else if is_first || is_starved {
                is_starved = true;
                message.outputs_omitted = true;
            } else {
                bytes -= bare;
                break;
            }
        }
        changes.push(message);
    }
    room.shrink_to(bytes);
    Ok(changes)
}
