//! Graphs of jobs.

use mycelium_proto::v1;
use serde::Serialize;

use super::{JobView, ValueView, text_if_any};
use crate::output::format;

/// Jobs and the edges that end in them.
#[derive(Debug, Serialize)]
pub(crate) struct GraphView<'a> {
    pub(crate) jobs: Vec<JobView<'a>>,
    pub(crate) edges: Vec<EdgeView<'a>>,
    /// Around a job: whether jobs were left out because there are too many.
    pub(crate) truncated: bool,
    /// The values of the jobs, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Vec<ValuesView<'a>>>,
}

/// What one job was given, or will be.
#[derive(Debug, Serialize)]
pub(crate) struct ValuesView<'a> {
    pub(crate) job_id: String,
    pub(crate) values: Vec<ValueView<'a>>,
}

/// What a result came from, or what was made of it.
#[derive(Debug, Serialize)]
pub(crate) struct LineageView<'a> {
    /// Nearest first.
    pub(crate) jobs: Vec<LineageJobView<'a>>,
    pub(crate) edges: Vec<EdgeView<'a>>,
    /// Whether some were left out because there are too many.
    pub(crate) truncated: bool,
    /// How many jobs those are, at least.
    pub(crate) jobs_left_out: u64,
}

/// A job in a lineage.
#[derive(Debug, Serialize)]
pub(crate) struct LineageJobView<'a> {
    #[serde(flatten)]
    pub(crate) job: JobView<'a>,
    /// The least number of edges between it and the job asked for.
    pub(crate) distance: u32,
    /// What it was given, or will be.
    pub(crate) values: Vec<ValueView<'a>>,
}

/// One job depends on another.
#[derive(Debug, Serialize)]
pub(crate) struct EdgeView<'a> {
    /// `VALUE`, `AFTER`, `CONDITION`, `ELEMENT` or `GATHER`.
    pub(crate) kind: &'static str,
    pub(crate) from_job_id: String,
    pub(crate) to_job_id: String,
    /// Null for the whole of what the job returned, and for `AFTER` and `GATHER`.
    pub(crate) output: Option<&'a str>,
    /// Null but for `VALUE`.
    pub(crate) parameter: Option<&'a str>,
}

impl<'a> From<&'a v1::JobEdge> for EdgeView<'a> {
    fn from(edge: &'a v1::JobEdge) -> Self {
        Self {
            kind: edge_kind_name(edge.kind()),
            from_job_id: format::id(&edge.from_job_id),
            to_job_id: format::id(&edge.to_job_id),
            output: text_if_any(&edge.output),
            parameter: text_if_any(&edge.parameter),
        }
    }
}

/// The name of a kind of edge: `VALUE`, `AFTER`.
pub(super) fn edge_kind_name(kind: v1::JobEdgeKind) -> &'static str {
    match kind {
        v1::JobEdgeKind::Unspecified => "UNKNOWN",
        v1::JobEdgeKind::Value => "VALUE",
        v1::JobEdgeKind::After => "AFTER",
        v1::JobEdgeKind::Condition => "CONDITION",
        v1::JobEdgeKind::Element => "ELEMENT",
        v1::JobEdgeKind::Gather => "GATHER",
    }
}
