//! The edges of the graph of jobs, as a specification tells them.

use std::collections::{BTreeSet, HashSet};

use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, value_node};

/// One job depends on another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    /// A value flows: from an output (empty: the whole) into a parameter.
    Value { from: JobId, output: String, parameter: String },
    /// It was named in `after`.
    After { from: JobId },
}

/// The edges that end in a job, each once, in a fixed order.
pub(crate) fn edges_of(spec: &v1::JobSpec) -> Vec<Edge> {
    let mut edges = BTreeSet::new();
    for argument in &spec.arguments {
        let mut seen = HashSet::new();
        let mut stack = vec![argument.node];
        while let Some(index) = stack.pop() {
            if !seen.insert(index) {
                continue;
            }
            match spec.nodes.get(index as usize).and_then(|node| node.kind.as_ref()) {
                Some(value_node::Kind::Output(output)) => {
                    if let Some(from) = JobId::from_slice(&output.job_id) {
                        edges.insert(Edge::Value {
                            from,
                            output: output.name.clone(),
                            parameter: argument.parameter.clone(),
                        });
                    }
                }
                Some(value_node::Kind::List(list)) => stack.extend(&list.items),
                Some(value_node::Kind::Map(map)) => stack.extend(map.entries.iter().map(|entry| entry.node)),
                // What a body takes from outside is an operand of its operation.
                Some(value_node::Kind::Operation(operation)) => stack.extend(&operation.inputs),
                Some(value_node::Kind::Literal(_) | value_node::Kind::BodyInput(_)) | None => {}
            }
        }
    }
    edges.extend(spec.after.iter().filter_map(|id| JobId::from_slice(id)).map(|from| Edge::After { from }));
    edges.into_iter().collect()
}
