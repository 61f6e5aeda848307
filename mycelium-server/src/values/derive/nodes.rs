//! Single nodes as values: what decides how a job goes on, and what the jobs of elements returned.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;
use mycelium_values::json::is_json_encoding;
use mycelium_values::{EvaluationError, Failure, Outputs, Value};

use super::{Graph, Leaf, NodeError, OutputsByJob, ReadBlob, Source, not_json, tell_limit};
use crate::blobs::Piece;

/// Why nodes have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uncomputed {
    /// They need an output of a job that was skipped.
    Skipped,
    Failed(EvaluationError),
}

/// Computes `wanted` nodes of a job's table, of whatever kind. An operand that is not needed may come from a job that was
/// skipped.
pub(crate) fn compute_nodes(
    nodes: &[v1::ValueNode],
    wanted: &[u32],
    outputs: &OutputsByJob,
    skipped: &HashSet<JobId>,
    blobs: &dyn ReadBlob,
) -> Result<Vec<Value>, Uncomputed> {
    let graph = Graph { nodes, outputs, computed: HashMap::new() };
    let source = Source { graph: &graph, blobs, wholes: RefCell::default() };
    let source = UnlessSkipped { source, skipped, is_skipped: Cell::new(false) };
    let computed = mycelium_values::evaluate(nodes, wanted, &source, blobs.limits())
        .inspect_err(|error| tell_limit(error, blobs));
    match computed {
        Err(_) if source.is_skipped.get() => Err(Uncomputed::Skipped),
        computed => computed.map_err(Uncomputed::Failed),
    }
}

/// Outputs, but for those of jobs that were skipped.
struct UnlessSkipped<'a> {
    source: Source<'a>,
    skipped: &'a HashSet<JobId>,
    /// Whether one of those was asked for.
    is_skipped: Cell<bool>,
}

impl Outputs for UnlessSkipped<'_> {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure> {
        if JobId::from_slice(&output.job_id).is_some_and(|job| self.skipped.contains(&job)) {
            self.is_skipped.set(true);
            return Err(Failure::invalid("the job was skipped"));
        }
        self.source.output(output)
    }

    fn blob(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        self.source.blob(blob)
    }
}

/// The whole of what a job returned, in pieces; null if it has no outputs because it was skipped.
///
/// # Errors
/// If an output is not JSON.
pub(crate) fn splice_whole(job: JobId, outputs: &OutputsByJob) -> Result<Vec<Piece>, Failure> {
    let graph = Graph { nodes: &[], outputs, computed: HashMap::new() };
    if !outputs.contains_key(&job) {
        return Ok(vec![Piece::Bytes(Bytes::from_static(b"null"))]);
    }
    let job_id = Bytes::copy_from_slice(job.as_bytes());
    let leaf = graph.output(0, &v1::OutputRef { job_id, name: String::new() });
    match leaf.map_err(NodeError::failure)? {
        Leaf::Payload(payload) if !is_json_encoding(&payload.encoding) => Err(not_json(&payload.encoding)),
        leaf => Ok(leaf.splice()),
    }
}
