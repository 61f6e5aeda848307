//! The submission of the jobs of a flow.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use mycelium_proto::{limits, v1};
use prost::Message as _;
use tokio::sync::OwnedMutexGuard;
use v1::payload::Content;
use v1::value_node::Kind;

use super::recording::{LargeLiteral, Recording};
use crate::blobs::{Blob, Digest};
use crate::problem::{FlowError, Problem, ProblemKind};

/// The submission of the jobs of a flow. Unless it is committed, they return to the flow when it is dropped,
/// to be submitted again; their ids stay, so that it does no harm if they had arrived after all.
pub(crate) struct Submission {
    recording: Arc<Recording>,
    jobs: Vec<v1::JobSpec>,
    /// The number of the first of them in the flow.
    jobs_from: u64,
    /// Their literals that travel as blobs.
    large: Vec<LargeLiteral>,
    parts: Vec<Range<usize>>,
    /// Whether the broker has acknowledged them.
    committed: bool,
    /// The turn of this submission among those of the flow.
    _turn: OwnedMutexGuard<()>,
}

impl Submission {
    pub(super) fn begin(recording: Arc<Recording>, turn: OwnedMutexGuard<()>) -> Result<Self, FlowError> {
        // Jobs of other flows are asked without the lock of this one: two flows may need each other.
        let foreign = {
            let state = recording.lock();
            if !state.problems.is_empty() {
                return Err(state.problems.clone());
            }
            state.foreign.clone()
        };
        let missing: Vec<_> = foreign.into_iter().filter(|(_, job)| !job.is_submitted()).collect();

        let mut state = recording.lock();
        if !missing.is_empty() {
            let mut error = FlowError::default();
            for (number, job) in missing {
                let index = usize::try_from(number - state.pending_from).ok();
                let kind = ProblemKind::NotSubmitted { job: job.id() };
                error.push(match index.and_then(|index| state.pending.get(index)) {
                    Some(spec) => Problem::new(&spec.elf, &spec.task, None, kind),
                    None => Problem::of_flow(kind),
                });
            }
            return Err(error);
        }
        let jobs = std::mem::take(&mut state.pending);
        let large = std::mem::take(&mut state.large);
        let jobs_from = state.pending_from;
        state.pending_from += jobs.len() as u64;
        let taken_to = state.pending_from;
        state.foreign.retain(|(number, _)| *number >= taken_to);
        drop(state);
        let parts = split(&jobs);
        Ok(Self { recording, jobs, jobs_from, large, parts, committed: false, _turn: turn })
    }

    /// The jobs in the order they were recorded, in parts that fit a call each. None if there are no jobs.
    pub(crate) fn parts(&self) -> impl ExactSizeIterator<Item = &[v1::JobSpec]> {
        self.parts.iter().map(|part| &self.jobs[part.clone()])
    }

    /// Gives the literals that travel as blobs their names, and returns what is to be written before the jobs are sent,
    /// each once.
    pub(crate) async fn name_large(&mut self) -> Vec<Blob> {
        let mut blobs: HashMap<Digest, Blob> = HashMap::new();
        // A value that several jobs share is hashed once.
        let mut named: HashMap<(usize, usize), v1::BlobRef> = HashMap::new();
        for LargeLiteral { number, node, bytes } in &self.large {
            let place = (bytes.as_ptr() as usize, bytes.len());
            let name = match named.entry(place) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let blob = Blob::of(bytes.clone()).await;
                    let name = blob.to_wire();
                    blobs.entry(blob.digest()).or_insert(blob);
                    entry.insert(name)
                }
            };
            let spec =
                usize::try_from(number - self.jobs_from).ok().and_then(|index| self.jobs.get_mut(index));
            let node = spec.and_then(|spec| spec.nodes.get_mut(*node as usize));
            if let Some(Kind::Literal(payload)) = node.and_then(|node| node.kind.as_mut()) {
                payload.content = Some(Content::Blob(name.clone()));
            }
        }
        blobs.into_values().collect()
    }

    /// How many jobs there are.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The broker has acknowledged them.
    pub(crate) fn commit(mut self) {
        self.recording.mark().add_submitted(self.jobs.len() as u64);
        self.committed = true;
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // What was recorded meanwhile comes after them.
        let state = &mut *self.recording.lock();
        state.pending_from -= self.jobs.len() as u64;
        self.jobs.append(&mut state.pending);
        state.pending = std::mem::take(&mut self.jobs);
        self.large.append(&mut state.large);
        state.large = std::mem::take(&mut self.large);
    }
}

/// Cuts the jobs into parts by number and size.
fn split(jobs: &[v1::JobSpec]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, job) in jobs.iter().enumerate() {
        let job_bytes = job.encoded_len();
        let is_full =
            index - start >= limits::SUBMIT_JOBS_MAX || bytes + job_bytes > limits::SUBMIT_BYTES_TARGET;
        if is_full && index > start {
            parts.push(start..index);
            start = index;
            bytes = 0;
        }
        bytes += job_bytes;
    }
    if start < jobs.len() {
        parts.push(start..jobs.len());
    }
    parts
}
