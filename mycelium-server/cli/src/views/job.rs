//! Jobs, flows and values.

use std::collections::BTreeMap;

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
    /// If it is run for each element of a list, and was expanded: into how many jobs.
    pub(crate) elements: Option<u32>,
    pub(crate) labels: &'a BTreeMap<String, String>,
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
            elements: job.elements,
            labels: &job.labels,
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
    /// Whether `nodes` or `after` are incomplete, because there is too much of them.
    pub(crate) spec_truncated: bool,
    /// The index of the node that has to be true for it to run.
    pub(crate) run_if: Option<u32>,
    /// If it is run for each element of a list.
    pub(crate) for_each: Option<ForEachView>,
    /// If it is run for one of them.
    pub(crate) element_of: Option<ElementOfView>,
    /// What it returned; empty unless DONE.
    pub(crate) outputs: Vec<OutputView<'a>>,
    /// If FAILED.
    pub(crate) failure: Option<FailureSummary<'a>>,
}

/// What a job is run over.
#[derive(Debug, Serialize)]
pub(crate) struct ForEachView {
    /// The index of the node of the list.
    list: u32,
}

impl From<&v1::ForEach> for ForEachView {
    fn from(for_each: &v1::ForEach) -> Self {
        Self { list: for_each.list }
    }
}

/// Which element of which list a job is run for.
#[derive(Debug, Serialize)]
pub(crate) struct ElementOfView {
    job_id: String,
    index: u32,
}

impl From<&v1::ElementOf> for ElementOfView {
    fn from(element: &v1::ElementOf) -> Self {
        Self { job_id: format::id(&element.job_id), index: element.index }
    }
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
    /// What a body is given: its own inputs first, then captured values. In a job that is run for each element of a
    /// list: 0 the element, 1 its index.
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
    pub(crate) bytes: u64,
    /// The value itself, exactly as it travelled, if it is JSON and no blob.
    pub(crate) value: Option<&'a RawValue>,
    /// If it is a blob, too large to be shown: the SHA-256 of its bytes.
    pub(crate) blob: Option<String>,
}

impl PayloadView<'_> {
    /// The value as people read it.
    pub(crate) fn text(&self) -> String {
        let bytes = || format::count(self.bytes, "byte");
        match (self.value, &self.blob) {
            (Some(value), _) => value.get().to_owned(),
            (None, Some(digest)) => format!("<{}, blob {}…>", bytes(), digest.get(..8).unwrap_or(digest)),
            (None, None) => format!("<{} of {}>", bytes(), self.encoding),
        }
    }
}

impl<'a> From<&'a v1::Payload> for PayloadView<'a> {
    fn from(payload: &'a v1::Payload) -> Self {
        let encoding = if payload.encoding.is_empty() { "application/json" } else { &payload.encoding };
        let inline: &[u8] = match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes,
            Some(payload::Content::Blob(blob)) => {
                return Self {
                    encoding,
                    bytes: blob.size,
                    value: None,
                    blob: Some(format::hex(&blob.digest)),
                };
            }
            None => &[],
        };
        let value = if encoding == "application/json" { serde_json::from_slice(inline).ok() } else { None };
        Self { encoding, bytes: inline.len() as u64, value, blob: None }
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
        let absent = PayloadView { encoding: "application/json", bytes: 0, value: None, blob: None };
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
    pub(crate) labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a v1::Flow> for FlowView<'a> {
    fn from(flow: &'a v1::Flow) -> Self {
        Self {
            flow_id: format::id(&flow.flow_id),
            name: &flow.name,
            created_at: format::rfc3339(flow.created_at.as_ref()),
            counts: flow.counts.unwrap_or_default().into(),
            labels: &flow.labels,
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
    skipped: u64,
}

impl From<v1::JobCounts> for CountsView {
    fn from(counts: v1::JobCounts) -> Self {
        let v1::JobCounts { pending, ready, running, done, failed, upstream_failed, cancelled, skipped } =
            counts;
        Self { pending, ready, running, done, failed, upstream_failed, cancelled, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digits_of_a_number_are_shown() {
        const WIDE: &str = "[340282366920938463463374607431768211455,1.10]";
        let content = Some(payload::Content::Inline(WIDE.into()));
        let output = v1::Output {
            name: "value".to_owned(),
            payload: Some(v1::Payload { content, ..v1::Payload::default() }),
        };
        let view = OutputView::from(&output);
        assert_eq!(view.payload.text(), WIDE);
        assert!(serde_json::to_string(&view).unwrap().contains(WIDE));
    }

    #[test]
    fn a_blob_is_shown_by_its_size_and_the_beginning_of_its_name() {
        let blob = v1::BlobRef { digest: vec![0xab; 32].into(), size: 1_234_567 };
        let payload = v1::Payload { encoding: String::new(), content: Some(payload::Content::Blob(blob)) };
        let view = PayloadView::from(&payload);
        assert_eq!(view.text(), "<1234567 bytes, blob abababab…>");
        let json = serde_json::to_value(&view).unwrap();
        let expected = serde_json::json!({
            "encoding": "application/json", "bytes": 1_234_567, "value": null, "blob": "ab".repeat(32),
        });
        assert_eq!(json, expected);
    }
}
