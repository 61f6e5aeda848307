//! Single nodes as values: what decides how a job goes on, and what the jobs of elements returned.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;
use mycelium_values::{EvaluationError, Limits, Outputs, Value};

use super::{Graph, OutputsByJob, Source};

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
) -> Result<Vec<Value>, Uncomputed> {
    let graph = Graph { nodes, outputs };
    let source = Source { graph: &graph, wholes: RefCell::default() };
    let source = UnlessSkipped { source, skipped, is_skipped: Cell::new(false) };
    let computed = mycelium_values::evaluate(nodes, wanted, &source, Limits::default());
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
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, String> {
        if JobId::from_slice(&output.job_id).is_some_and(|job| self.skipped.contains(&job)) {
            self.is_skipped.set(true);
            return Err("the job was skipped".to_owned());
        }
        self.source.output(output)
    }
}

/// The whole of what each of `jobs` returned, as JSON text; null for those that have no outputs because they were skipped.
///
/// # Errors
/// In words, if an output is not JSON.
pub(crate) fn whole_outputs(jobs: &[JobId], outputs: &OutputsByJob) -> Result<Vec<Bytes>, String> {
    let graph = Graph { nodes: &[], outputs };
    let source = Source { graph: &graph, wholes: RefCell::default() };
    let whole = |job: &JobId| match outputs.get(job) {
        None => Ok(Bytes::from_static(b"null")),
        Some(_) => {
            let job_id = Bytes::copy_from_slice(job.as_bytes());
            source.output(&v1::OutputRef { job_id, name: String::new() })
        }
    };
    jobs.iter().map(whole).collect()
}
