//! Jobs, flows and values.

use mycelium_proto::v1;
use mycelium_proto::v1::{payload, value_node};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{FailureSummary, ValueView, status_name};
use crate::output::format;

/// A job as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct JobView<'a> {
    pub(crate) job_id: String,
    pub(crate) flow_id: String,
    pub(crate) elf: &'a str,
    pub(crate) task: &'a str,
    pub(crate) status: &'static str,
    pub(crate) priority: i32,
    /// From 1; 0 before the first.
    pub(crate) attempt: u32,
    pub(crate) elves_lost: u32,
    pub(crate) waiting_for: u32,
    pub(crate) submitted_at: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    pub(crate) instance_id: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) failure_id: Option<String>,
    pub(crate) cause_job_id: Option<String>,
}

impl<'a> From<&'a v1::Job> for JobView<'a> {
    fn from(job: &'a v1::Job) -> Self {
        Self {
            job_id: format::id(&job.job_id),
            flow_id: format::id(&job.flow_id),
            elf: &job.elf,
            task: &job.task,
            status: status_name(job.status()),
            priority: job.priority,
            attempt: job.attempt,
            elves_lost: job.elves_lost,
            waiting_for: job.waiting_for,
            submitted_at: format::rfc3339(job.submitted_at.as_ref()),
            started_at: format::rfc3339(job.started_at.as_ref()),
            finished_at: format::rfc3339(job.finished_at.as_ref()),
            instance_id: format::id_if_any(&job.instance_id),
            revision: (!job.revision.is_empty()).then(|| format::hex(&job.revision)),
            failure_id: format::id_if_any(&job.failure_id),
            cause_job_id: format::id_if_any(&job.cause_job_id),
        }
    }
}

/// A job with what it was given, what it returned, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct JobDetails<'a> {
    #[serde(flatten)]
    pub(crate) job: JobView<'a>,
    /// What it gives for each parameter: the index of a node in `nodes`.
    pub(crate) arguments: Vec<ArgumentView<'a>>,
    /// The value graph of its arguments; nodes refer to earlier ones by index.
    pub(crate) nodes: Vec<NodeView<'a>>,
    /// What it was given, or will be.
    pub(crate) values: Vec<ValueView<'a>>,
    /// The jobs that those values come from.
    pub(crate) origins: Vec<JobView<'a>>,
    /// Ids of jobs that it was told to wait for.
    pub(crate) after: Vec<String>,
    /// What it returned; empty unless DONE.
    pub(crate) outputs: Vec<OutputView<'a>>,
    /// If FAILED.
    pub(crate) failure: Option<FailureSummary<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ArgumentView<'a> {
    parameter: &'a str,
    node: u32,
}

impl<'a> From<&'a v1::Argument> for ArgumentView<'a> {
    fn from(argument: &'a v1::Argument) -> Self {
        Self { parameter: &argument.parameter, node: argument.node }
    }
}

/// A node of a value graph.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum NodeView<'a> {
    Literal {
        #[serde(flatten)]
        payload: PayloadView<'a>,
    },
    /// An output of a job; an empty name means the whole of what it returned.
    Output {
        job_id: String,
        output: &'a str,
    },
    List {
        items: &'a [u32],
    },
    Map {
        entries: Vec<EntryView<'a>>,
    },
    Operation {
        name: &'a str,
        inputs: &'a [u32],
        body: Option<BodyView<'a>>,
    },
    /// What a body is given: its own inputs first, then captured values.
    BodyInput {
        input: u32,
    },
    /// A kind that this program does not know.
    Unknown,
}

/// What is done with each element of a list.
#[derive(Debug, Serialize)]
pub(crate) struct BodyView<'a> {
    nodes: Vec<NodeView<'a>>,
    result: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct EntryView<'a> {
    key: &'a str,
    node: u32,
}

impl<'a> From<&'a v1::ValueNode> for NodeView<'a> {
    fn from(node: &'a v1::ValueNode) -> Self {
        match &node.kind {
            Some(value_node::Kind::Literal(payload)) => Self::Literal { payload: payload.into() },
            Some(value_node::Kind::Output(output)) => {
                Self::Output { job_id: format::id(&output.job_id), output: &output.name }
            }
            Some(value_node::Kind::List(list)) => Self::List { items: &list.items },
            Some(value_node::Kind::Map(map)) => {
                let entry = |entry: &'a v1::MapEntry| EntryView { key: &entry.key, node: entry.node };
                Self::Map { entries: map.entries.iter().map(entry).collect() }
            }
            Some(value_node::Kind::Operation(operation)) => Self::Operation {
                name: &operation.name,
                inputs: &operation.inputs,
                body: operation.body.as_ref().map(|body| BodyView {
                    nodes: body.nodes.iter().map(NodeView::from).collect(),
                    result: body.result,
                }),
            },
            Some(value_node::Kind::BodyInput(input)) => Self::BodyInput { input: *input },
            None => Self::Unknown,
        }
    }
}

/// The bytes of a value.
#[derive(Debug, Serialize)]
pub(crate) struct PayloadView<'a> {
    /// `application/json` unless the runtime chose another.
    pub(crate) encoding: &'a str,
    /// How many bytes it takes.
    pub(crate) bytes: usize,
    /// The value itself, exactly as it travelled, if it is JSON.
    pub(crate) value: Option<&'a RawValue>,
}

impl PayloadView<'_> {
    /// The value as people read it.
    pub(crate) fn text(&self) -> String {
        match self.value {
            Some(value) => value.get().to_owned(),
            None => format!("<{} of {}>", format::count(self.bytes as u64, "byte"), self.encoding),
        }
    }
}

impl<'a> From<&'a v1::Payload> for PayloadView<'a> {
    fn from(payload: &'a v1::Payload) -> Self {
        let encoding = if payload.encoding.is_empty() { "application/json" } else { &payload.encoding };
        let bytes: &[u8] = match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes,
            Some(payload::Content::Blob(_)) | None => &[],
        };
        let value = if encoding == "application/json" { serde_json::from_slice(bytes).ok() } else { None };
        Self { encoding, bytes: bytes.len(), value }
    }
}

/// A named value.
#[derive(Debug, Serialize)]
pub(crate) struct OutputView<'a> {
    pub(crate) name: &'a str,
    #[serde(flatten)]
    pub(crate) payload: PayloadView<'a>,
}

impl<'a> From<&'a v1::Output> for OutputView<'a> {
    fn from(output: &'a v1::Output) -> Self {
        let absent = PayloadView { encoding: "application/json", bytes: 0, value: None };
        Self { name: &output.name, payload: output.payload.as_ref().map_or(absent, PayloadView::from) }
    }
}

/// A flow and how its jobs stand.
#[derive(Debug, Serialize)]
pub(crate) struct FlowView<'a> {
    pub(crate) flow_id: String,
    pub(crate) name: &'a str,
    pub(crate) created_at: Option<String>,
    pub(crate) counts: CountsView,
}

impl<'a> From<&'a v1::Flow> for FlowView<'a> {
    fn from(flow: &'a v1::Flow) -> Self {
        Self {
            flow_id: format::id(&flow.flow_id),
            name: &flow.name,
            created_at: format::rfc3339(flow.created_at.as_ref()),
            counts: flow.counts.unwrap_or_default().into(),
        }
    }
}

/// How many jobs have each status.
#[derive(Debug, Serialize)]
pub(crate) struct CountsView {
    pending: u64,
    ready: u64,
    running: u64,
    done: u64,
    failed: u64,
    upstream_failed: u64,
    cancelled: u64,
}

impl From<v1::JobCounts> for CountsView {
    fn from(counts: v1::JobCounts) -> Self {
        let v1::JobCounts { pending, ready, running, done, failed, upstream_failed, cancelled, skipped: _ } =
            counts;
        Self { pending, ready, running, done, failed, upstream_failed, cancelled }
    }
}
