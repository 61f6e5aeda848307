//! What a graph is made of, as other programs read it: nodes and edges, each with attributes that are texts.

use std::collections::BTreeSet;

use mycelium_proto::v1::{Job, JobEdge};

use super::Graph;
use crate::output::format;
use crate::views::{edge_kind_name, status_name};

/// What is told of a node.
pub(super) const NODE: [&str; 4] = ["task", "elf", "status", "flow"];
/// What is told of an edge: what it stands for, of which output it takes the value, and for which parameter.
pub(super) const EDGE: [&str; 3] = ["kind", "output", "parameter"];

/// A job of the graph, or one beyond it that an edge comes from.
pub(super) struct Node<'a> {
    pub(super) id: String,
    /// None of a job beyond the graph, of which nothing else is known.
    pub(super) job: Option<&'a Job>,
}

impl Graph {
    /// All that an edge begins or ends at, each once: the jobs first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let shown: BTreeSet<_> = self.jobs.iter().map(|job| &job.job_id).collect();
        let ends = self.edges.iter().flat_map(|edge| [&edge.from_job_id, &edge.to_job_id]);
        let beyond: BTreeSet<_> = ends.filter(|id| !shown.contains(id)).collect();
        let jobs = self.jobs.iter().map(|job| Node { id: format::id(&job.job_id), job: Some(job) });
        jobs.chain(beyond.into_iter().map(|id| Node { id: format::id(id), job: None }))
    }
}

impl Node<'_> {
    /// What is known of [what is told](NODE), by name.
    pub(super) fn attributes(&self) -> Vec<(&'static str, String)> {
        let Some(job) = self.job else { return Vec::new() };
        let status = status_name(job.status()).to_owned();
        known(NODE, [job.task.clone(), job.elf.clone(), status, format::id(&job.flow_id)])
    }
}

/// What is known of [what is told](EDGE) of an edge, by name.
pub(super) fn attributes(edge: &JobEdge) -> Vec<(&'static str, String)> {
    let kind = edge_kind_name(edge.kind()).to_owned();
    known(EDGE, [kind, edge.output.clone(), edge.parameter.clone()])
}

fn known<const N: usize>(names: [&'static str; N], values: [String; N]) -> Vec<(&'static str, String)> {
    names.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect()
}
