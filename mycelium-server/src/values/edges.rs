//! The edges of the graph of jobs, as a specification tells them.

use std::collections::BTreeSet;

use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, value_node};

use super::expand::below;
use crate::documents::Spec;

/// One job depends on another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    /// A value flows: from an output (empty: the whole) into a parameter.
    Value { from: JobId, output: String, parameter: String },
    /// A value flows into the condition.
    Condition { from: JobId, output: String },
    /// A value flows into the list, or the element was taken from it.
    Element { from: JobId, output: String },
    /// It was named in `after`.
    After { from: JobId },
}

impl Spec {
    /// The edges that end in the job, each once, in a fixed order. Of the job for an element they do not tell what the
    /// element was taken from: those are the [`list_edges`](Self::list_edges) of the job that has the list.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let spec = self.message();
        let mut edges = BTreeSet::new();
        for argument in &spec.arguments {
            let parameter = &argument.parameter;
            edges.extend(outputs_below(spec, argument.node).map(|(from, output)| Edge::Value {
                from,
                output,
                parameter: parameter.clone(),
            }));
        }
        if let Some(condition) = spec.run_if {
            edges.extend(
                outputs_below(spec, condition).map(|(from, output)| Edge::Condition { from, output }),
            );
        }
        edges.extend(self.list_edges());
        edges.extend(
            spec.after.iter().filter_map(|id| JobId::from_slice(id)).map(|from| Edge::After { from }),
        );
        edges.into_iter().collect()
    }

    /// The edges by which values flow into the list that the job is run over, each once, in a fixed order.
    pub(crate) fn list_edges(&self) -> Vec<Edge> {
        let spec = self.message();
        let Some(v1::ForEach { list }) = spec.for_each else { return Vec::new() };
        let edges: BTreeSet<Edge> =
            outputs_below(spec, list).map(|(from, output)| Edge::Element { from, output }).collect();
        edges.into_iter().collect()
    }
}

/// The outputs that a node is made of, with the jobs they come from.
fn outputs_below(spec: &v1::JobSpec, root: u32) -> impl Iterator<Item = (JobId, String)> {
    below(&spec.nodes, vec![root]).into_iter().filter_map(|index| {
        match spec.nodes.get(index as usize)?.kind.as_ref()? {
            value_node::Kind::Output(output) => {
                Some((JobId::from_slice(&output.job_id)?, output.name.clone()))
            }
            value_node::Kind::Literal(_)
            | value_node::Kind::List(_)
            | value_node::Kind::Map(_)
            | value_node::Kind::Operation(_)
            | value_node::Kind::BodyInput(_) => None,
        }
    })
}
