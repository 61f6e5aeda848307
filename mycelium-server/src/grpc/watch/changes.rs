//! Changes as a message carries them, assembled as far as there is room.

use std::collections::VecDeque;

use mycelium_core::ids::JobId;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::v1;

use super::super::convert;
use super::outgoing::Room;
use crate::broker::{CallError, WatchedChange};
use crate::documents;
use crate::queries::Job;
use crate::store::{Reads, isolate};

/// About what a change takes beside its outputs and its text.
pub(super) const CHANGE_BYTES: usize = 256;
/// What outputs that have to be read are taken for before that. Most are smaller; a message ends where the room does.
const READ_BYTES: usize = 4 * 1024;
/// How many outputs are read in the first request for a message, when nothing is known of their sizes.
const READ_FIRST: usize = 4;
/// The most outputs that are read in one request. Each may come to 1 MiB, and few watches read at once.
const READ_MAX: usize = 16;
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

/// The outputs that have to be read for a message, read some at a time: what does not fit any more should not be held in
/// memory, and the store may be far away.
struct StoredOutputs {
    /// The jobs whose outputs have not been read yet.
    jobs: VecDeque<JobId>,
    /// What was read; `None` what is damaged.
    read: VecDeque<Option<bytes::Bytes>>,
    /// How many are read in one request.
    at_once: usize,
}

impl StoredOutputs {
    fn of(drafts: &[Draft]) -> Self {
        let jobs = drafts.iter().filter(|draft| draft.is_to_be_read()).map(|draft| draft.job).collect();
        Self { jobs, read: VecDeque::new(), at_once: READ_FIRST }
    }

    /// The next ones, for a message that has so much room left. `None` if they are damaged: that is told to those who ask
    /// for them, and does not end the watch.
    async fn next(&mut self, store: &dyn Reads, room: usize) -> Result<Option<bytes::Bytes>, CallError> {
        if self.read.is_empty() {
            let n = self.at_once.min(self.jobs.len());
            let jobs: Vec<JobId> = self.jobs.drain(..n).collect();
            let outputs = isolate(&jobs, |ids| store.outputs(ids)).await?;
            self.read.extend(outputs.into_iter().map(|outputs| outputs.ok().map(Option::unwrap_or_default)));
            let bytes: usize = self.read.iter().flatten().map(bytes::Bytes::len).sum();
            self.at_once = (room / (bytes / n.max(1)).max(1)).clamp(1, READ_MAX);
        }
        Ok(self.read.pop_front().flatten())
    }
}

/// Assembles a message of the first of `drafts`, as far as there is room, and at least one. Outputs that are too large
/// for what is left of the budget are left out, and the change says so.
pub(super) async fn assemble(
    store: &dyn Reads,
    drafts: Vec<Draft>,
    room: &mut Room,
) -> Result<Vec<v1::JobChange>, CallError> {
    let mut stored = StoredOutputs::of(&drafts);
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
            Outputs::Stored => {
                let outputs = stored.next(store, room.bytes().saturating_sub(bytes)).await?;
                message.outputs_omitted = outputs.is_none();
                outputs
            }
        };
        bytes += bare;
        if let Some(encoded) = encoded {
            let size = encoded.len();
            let is_first = changes.is_empty();
            let fits = bytes + size <= room.bytes()
                || (is_first && size <= OUTPUTS_BYTES_MAX && room.try_grow_to(bytes + size));
            if fits {
                bytes += size;
                message.outputs = v1::Outputs::from(documents::Outputs::decode(job, encoded)?).outputs;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{FaultyStore, MemoryStore};

    #[tokio::test]
    async fn outputs_are_read_some_at_a_time() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let jobs = (0..100).map(|number| JobId::new([number; 16])).collect();
        let mut stored = StoredOutputs { jobs, read: VecDeque::new(), at_once: READ_FIRST };
        for _ in 0..100 {
            assert_eq!(stored.next(&store, 1_000).await.unwrap(), Some(bytes::Bytes::new()));
        }
        assert_eq!(store.reads(), 1 + (100 - READ_FIRST).div_ceil(READ_MAX));

        let jobs = VecDeque::from([JobId::new([1; 16])]);
        let mut stored = StoredOutputs { jobs, read: VecDeque::new(), at_once: READ_FIRST };
        stored.next(&store, 0).await.unwrap();
        assert_eq!(stored.at_once, 1, "without room no more is read than has to be");
    }
}
