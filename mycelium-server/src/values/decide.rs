//! Whether a job is to run, and over what.

use std::collections::HashSet;

use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, value_node};
use mycelium_values::{ErrorKind, EvaluationError, Failure, Limits, Value};

use super::derive::{OutputsByJob, ReadBlob, Uncomputed, compute_nodes};

/// How a job goes on.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It runs.
    Run,
    /// Its condition is not met, or it needs an output of a job that was skipped.
    Skip,
    /// It is run over these.
    Expand(Vec<Value>),
    /// It cannot be decided, with a human-readable reason.
    Fail(String),
}

/// The jobs whose outputs the decision or the arguments of a job name: if some of them were skipped, that may matter.
pub(crate) fn jobs_named(spec: &v1::JobSpec) -> HashSet<JobId> {
    let decided = deciding_nodes(spec);
    let arguments = argument_nodes(spec);
    jobs_from(&spec.nodes, decided.chain(arguments).collect())
}

/// The jobs whose outputs have to be known to decide, if `skipped` were skipped.
pub(crate) fn jobs_computed(spec: &v1::JobSpec, skipped: &HashSet<JobId>) -> HashSet<JobId> {
    let mut roots: Vec<u32> = deciding_nodes(spec).collect();
    if !skipped.is_empty() {
        roots.extend(needed(spec).operations);
    }
    let mut jobs = jobs_from(&spec.nodes, roots);
    jobs.retain(|job| !skipped.contains(job));
    jobs
}

/// Decides how a job goes on, all that it waits for having ended, and `skipped` of it skipped. `spec` has passed
/// [`check_spec`](super::check_spec).
pub(crate) fn decide(
    spec: &v1::JobSpec,
    outputs: &OutputsByJob,
    skipped: &HashSet<JobId>,
    blobs: &dyn ReadBlob,
) -> Decision {
    let compute = |node: u32| {
        let mut values = compute_nodes(&spec.nodes, &[node], outputs, skipped, blobs)?;
        values.pop().ok_or_else(|| Uncomputed::Failed(at(node, "the value graph is malformed".to_owned())))
    };
    if let Some(node) = spec.run_if {
        match compute(node) {
            Err(Uncomputed::Skipped) => return Decision::Skip,
            Err(Uncomputed::Failed(error)) => return Decision::Fail(format!("the condition: {error}")),
            Ok(value) => match value.as_bool() {
                Some(true) => {}
                Some(false) => return Decision::Skip,
                None => {
                    let error = at(node, format!("the condition is {}, and must be bool", value.kind()));
                    return Decision::Fail(error.to_string());
                }
            },
        }
    }
    if let Some(v1::ForEach { list: node }) = spec.for_each {
        let elements = match compute(node) {
            Err(Uncomputed::Skipped) => return Decision::Skip,
            Err(Uncomputed::Failed(error)) => return Decision::Fail(format!("the list: {error}")),
            Ok(list) => list.into_elements(Limits::default()),
        };
        return match elements {
            Ok(elements) if elements.len() > limits::FOR_EACH_ELEMENTS_MAX => {
                let (len, max) = (elements.len(), limits::FOR_EACH_ELEMENTS_MAX);
                let problem = format!("the list has {len} elements, and a job may be run over {max}");
                Decision::Fail(at(node, problem).to_string())
            }
            Ok(elements) => Decision::Expand(elements),
            Err(failure) => Decision::Fail(format!("the list: {}", failed_at(node, failure))),
        };
    }
    if skipped.is_empty() {
        return Decision::Run;
    }
    let needed = needed(spec);
    if needed.jobs.iter().any(|job| skipped.contains(job)) {
        return Decision::Skip;
    }
    if needed.operations.is_empty() {
        return Decision::Run;
    }
    match compute_nodes(&spec.nodes, &needed.operations, outputs, skipped, blobs) {
        Err(Uncomputed::Skipped) => Decision::Skip,
        // Whatever else goes wrong goes wrong again when it is dispatched, and is told with its parameter then.
        Ok(_) | Err(Uncomputed::Failed(_)) => Decision::Run,
    }
}

fn at(node: u32, message: String) -> EvaluationError {
    failed_at(node, Failure { kind: ErrorKind::WrongType, message })
}

fn failed_at(node: u32, failure: Failure) -> EvaluationError {
    let node = node as usize;
    EvaluationError { node, body_nodes: Vec::new(), operation: String::new(), operands: Vec::new(), failure }
}

fn deciding_nodes(spec: &v1::JobSpec) -> impl Iterator<Item = u32> {
    spec.run_if.into_iter().chain(spec.for_each.map(|for_each| for_each.list))
}

/// None for a template: whether its arguments are there is decided for each element.
fn argument_nodes(spec: &v1::JobSpec) -> impl Iterator<Item = u32> {
    let arguments = if spec.for_each.is_some() { &[] } else { spec.arguments.as_slice() };
    arguments.iter().map(|argument| argument.node)
}

/// What the arguments of a job need whatever comes out.
#[derive(Default)]
struct Needed {
    /// The jobs whose outputs are passed on as they are, alone or within lists and maps.
    jobs: HashSet<JobId>,
    /// The operations that are computed.
    operations: Vec<u32>,
}

fn needed(spec: &v1::JobSpec) -> Needed {
    let mut needed = Needed::default();
    let mut stack: Vec<u32> = argument_nodes(spec).collect();
    let mut seen = HashSet::new();
    while let Some(index) = stack.pop() {
        if !seen.insert(index) {
            continue;
        }
        match spec.nodes.get(index as usize).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::Output(output)) => {
                needed.jobs.extend(JobId::from_slice(&output.job_id));
            }
            Some(value_node::Kind::List(list)) => stack.extend(&list.items),
            Some(value_node::Kind::Map(map)) => stack.extend(map.entries.iter().map(|entry| entry.node)),
            Some(value_node::Kind::Operation(_)) => needed.operations.push(index),
            Some(value_node::Kind::Literal(_) | value_node::Kind::BodyInput(_)) | None => {}
        }
    }
    // The order in which they are computed decides which failure is met first.
    needed.operations.sort_unstable();
    needed
}

/// The jobs whose outputs stand below `roots`.
fn jobs_from(nodes: &[v1::ValueNode], roots: Vec<u32>) -> HashSet<JobId> {
    super::expand::below(nodes, roots)
        .into_iter()
        .filter_map(|index| match nodes.get(index as usize)?.kind.as_ref()? {
            value_node::Kind::Output(output) => JobId::from_slice(&output.job_id),
            value_node::Kind::Literal(_)
            | value_node::Kind::List(_)
            | value_node::Kind::Map(_)
            | value_node::Kind::Operation(_)
            | value_node::Kind::BodyInput(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
