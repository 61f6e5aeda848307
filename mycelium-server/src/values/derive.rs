//! Computes a job's arguments from its value graph and the outputs of the jobs it depends on.
//!
//! A graph without operations is never parsed: lists and maps are assembled from the bytes of their parts, of which
//! blobs stay where they are. The size of the result is computed before a byte of it is allocated, so that a small graph
//! that doubles itself thirty times is refused and not built. A graph with operations is left to
//! [`mycelium_values::evaluate`].

mod nodes;
mod splice;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::json::{is_json_encoding, write_string};
use mycelium_values::{ErrorKind, EvaluationError, Failure, Limits, Value};

use crate::blobs::Piece;
use crate::documents::Outputs;
use splice::Sizes;

/// Why an argument could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DerivationError {
    #[error("parameter `{parameter}`, node {node}: job {job} has no output `{output}`; it has {available}")]
    OutputMissing { parameter: String, node: usize, job: JobId, output: String, available: String },
    #[error(
        "parameter `{parameter}`, node {node}: a value encoded as `{encoding}` cannot be part of a list or a map"
    )]
    NotJson { parameter: String, node: usize, encoding: String },
    #[error(
        "parameter `{parameter}` comes to {bytes} bytes, and what is assembled for a job may come to {max}"
    )]
    TooLarge { parameter: String, bytes: u64, max: u64 },
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

impl DerivationError {
    /// What went wrong, wherever it stands in the graph of one job: failures are told apart by it.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::OutputMissing { parameter, .. } => format!("{parameter}: output missing"),
            Self::NotJson { parameter, .. } => format!("{parameter}: not JSON"),
            Self::TooLarge { parameter, .. } => format!("{parameter}: too large"),
            Self::Evaluation(error) => format!("{}: {}", error.operation, error.failure.kind.name()),
        }
    }
}

pub(crate) use nodes::{Uncomputed, compute_nodes, splice_whole};

/// Outputs of jobs that are DONE.
pub(crate) type OutputsByJob = HashMap<JobId, Outputs>;

/// An argument that was computed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Derived {
    pub(crate) parameter: String,
    pub(crate) value: DerivedValue,
}

/// What an argument comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DerivedValue {
    /// A value that was there already, passed on as it is.
    Payload(v1::Payload),
    /// JSON assembled from pieces, with its size in bytes.
    Spliced { pieces: Vec<Piece>, bytes: u64 },
}

/// Where operations read blobs, and how much they may take.
pub(crate) trait ReadBlob {
    /// What the operations of a job may take.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Told if they would take more.
    fn limit_exceeded(&self) {}

    /// All of a blob.
    ///
    /// # Errors
    /// If it is too large for an operation or cannot be read.
    fn read(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure>;

    /// The first bytes of a blob of whatever size, at most `max`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn begin(&self, blob: &v1::BlobRef, max: usize) -> Result<Bytes, Failure>;
}

/// Computes the arguments of a job. `spec` has passed [`check_spec`](super::check_spec). Blocks while operations read
/// blobs; without operations none is read.
pub(crate) fn derive_arguments(
    spec: &v1::JobSpec,
    outputs: &OutputsByJob,
    blobs: &dyn ReadBlob,
) -> Result<Vec<Derived>, DerivationError> {
    let mut graph = Graph { nodes: &spec.nodes, outputs, computed: HashMap::new() };
    if has_operations(spec) {
        graph.compute(spec, blobs)?;
    }
    let mut sizes: Option<Sizes> = None;
    let mut arguments = Vec::with_capacity(spec.arguments.len());
    let mut bytes_total = 0u64;
    for argument in &spec.arguments {
        let root = argument.node as usize;
        let value = match graph.leaf(root) {
            Some(Ok(Leaf::Payload(payload))) => DerivedValue::Payload(payload.clone()),
            Some(Err(error)) => return Err(error.of(&argument.parameter)),
            Some(Ok(Leaf::Computed(_) | Leaf::Map(_) | Leaf::Null)) | None => {
                let sizes = sizes.get_or_insert_with(|| graph.sizes());
                let bytes = sizes.of(root).map_err(|error| error.of(&argument.parameter))?;
                let max = graph.spliced_bytes_max();
                if bytes_total.saturating_add(bytes) > max {
                    return Err(NodeError::TooLarge { bytes, max }.of(&argument.parameter));
                }
                bytes_total += bytes;
                DerivedValue::Spliced { pieces: graph.splice(root), bytes }
            }
        };
        arguments.push(Derived { parameter: argument.parameter.clone(), value });
    }
    Ok(arguments)
}

/// Whether a job's values take more to compute than assembling bytes.
pub(crate) fn has_operations(spec: &v1::JobSpec) -> bool {
    spec.operations_version != 0
}

/// What went wrong at a node, before it is known for which parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeError {
    OutputMissing {
        node: usize,
        job: JobId,
        output: String,
        available: String,
    },
    NotJson {
        node: usize,
        encoding: String,
    },
    TooLarge {
        bytes: u64,
        max: u64,
    },
    /// The table does not keep the rules that were checked at submission: as if the output were missing.
    Malformed(usize),
}

impl NodeError {
    /// The same, where no parameter is known.
    fn failure(self) -> Failure {
        match self {
            Self::OutputMissing { job, output, available, .. } => {
                Failure::invalid(format!("job {job} has no output `{output}`; it has {available}"))
            }
            Self::NotJson { encoding, .. } => not_json(&encoding),
            Self::TooLarge { .. } | Self::Malformed(_) => Failure::invalid("the value graph is malformed"),
        }
    }

    fn of(self, parameter: &str) -> DerivationError {
        let parameter = parameter.to_owned();
        match self {
            Self::OutputMissing { node, job, output, available } => {
                DerivationError::OutputMissing { parameter, node, job, output, available }
            }
            Self::NotJson { node, encoding } => DerivationError::NotJson { parameter, node, encoding },
            Self::TooLarge { bytes, max } => DerivationError::TooLarge { parameter, bytes, max },
            Self::Malformed(node) => DerivationError::OutputMissing {
                parameter,
                node,
                job: JobId::default(),
                output: String::new(),
                available: "no such node".to_owned(),
            },
        }
    }
}

/// A node that is a value by itself.
enum Leaf<'a> {
    Payload(&'a v1::Payload),
    /// What an operation gave, as JSON.
    Computed(&'a Bytes),
    /// All outputs of a job, as a map.
    Map(&'a [v1::NamedOutput]),
    Null,
}

struct Graph<'a> {
    nodes: &'a [v1::ValueNode],
    outputs: &'a OutputsByJob,
    /// What the operations gave that arguments are made of, by node.
    computed: HashMap<usize, Bytes>,
}

impl<'a> Graph<'a> {
    /// The node's value, if it is one by itself; `None` for lists and maps.
    fn leaf(&self, index: usize) -> Option<Result<Leaf<'_>, NodeError>> {
        match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::Literal(payload)) => Some(Ok(Leaf::Payload(payload))),
            Some(value_node::Kind::Output(output)) => Some(self.output(index, output)),
            Some(value_node::Kind::List(_) | value_node::Kind::Map(_)) => None,
            Some(value_node::Kind::Operation(_)) => {
                Some(self.computed.get(&index).map(Leaf::Computed).ok_or(NodeError::Malformed(index)))
            }
            Some(value_node::Kind::BodyInput(_)) | None => Some(Err(NodeError::Malformed(index))),
        }
    }

    /// Computes the operations whose results stand in arguments: by themselves, or in lists and maps.
    fn compute(&mut self, spec: &v1::JobSpec, blobs: &dyn ReadBlob) -> Result<(), EvaluationError> {
        let wanted = self.operations_in(spec.arguments.iter().map(|argument| argument.node));
        let source = Source { graph: self, blobs, wholes: RefCell::default() };
        let values = mycelium_values::evaluate(self.nodes, &wanted, &source, blobs.limits())
            .inspect_err(|error| tell_limit(error, blobs))?;
        self.computed =
            wanted.iter().map(|node| *node as usize).zip(values.iter().map(Value::to_json)).collect();
        Ok(())
    }

    /// The operations that values are assembled from, without those that other operations need.
    fn operations_in(&self, roots: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut waiting: Vec<u32> = roots.collect();
        waiting.reverse();
        while let Some(node) = waiting.pop() {
            if !seen.insert(node) {
                continue;
            }
            match self.nodes.get(node as usize).and_then(|node| node.kind.as_ref()) {
                Some(value_node::Kind::Operation(_)) => found.push(node),
                Some(value_node::Kind::List(list)) => waiting.extend(list.items.iter().rev()),
                Some(value_node::Kind::Map(map)) => {
                    waiting.extend(map.entries.iter().rev().map(|entry| entry.node));
                }
                Some(
                    value_node::Kind::Literal(_)
                    | value_node::Kind::Output(_)
                    | value_node::Kind::BodyInput(_),
                )
                | None => {}
            }
        }
        found
    }

    fn output(&self, node: usize, output: &v1::OutputRef) -> Result<Leaf<'a>, NodeError> {
        let job = JobId::from_slice(&output.job_id).ok_or(NodeError::Malformed(node))?;
        let missing = |available: String| NodeError::OutputMissing {
            node,
            job,
            output: output.name.clone(),
            available,
        };
        let outputs = self.outputs.get(&job).ok_or_else(|| missing("none".to_owned()))?;
        if output.name.is_empty() {
            return Ok(match outputs.all() {
                [] => Leaf::Null,
                [only] if only.name == "value" => only.payload.as_ref().map_or(Leaf::Null, Leaf::Payload),
                all => {
                    check_all_json(node, all)?;
                    Leaf::Map(all)
                }
            });
        }
        let found = outputs.named(&output.name).ok_or_else(|| missing(outputs.names()))?;
        Ok(found.payload.as_ref().map_or(Leaf::Null, Leaf::Payload))
    }
}

/// What the evaluator takes outputs from.
struct Source<'a> {
    graph: &'a Graph<'a>,
    blobs: &'a dyn ReadBlob,
    /// All outputs of a job as one map, which is written once however many nodes stand for it.
    wholes: RefCell<HashMap<Bytes, Bytes>>,
}

impl Source<'_> {
    fn json(&self, payload: &v1::Payload) -> Result<Bytes, Failure> {
        match &payload.content {
            _ if !is_json_encoding(&payload.encoding) => Err(not_json(&payload.encoding)),
            Some(payload::Content::Inline(json)) => Ok(json.clone()),
            Some(payload::Content::Blob(blob)) => self.blobs.read(blob),
            None => Ok(Bytes::from_static(b"null")),
        }
    }

    fn whole(&self, outputs: &[v1::NamedOutput]) -> Result<Bytes, Failure> {
        let mut buffer = BytesMut::new();
        for (index, output) in outputs.iter().enumerate() {
            buffer.extend_from_slice(if index > 0 { b"," } else { b"{" });
            write_string(&mut buffer, &output.name);
            buffer.extend_from_slice(b":");
            match &output.payload {
                Some(payload) => buffer.extend_from_slice(&self.json(payload)?),
                None => buffer.extend_from_slice(b"null"),
            }
            if buffer.len() > limits::OPERAND_BYTES_MAX {
                let max = limits::OPERAND_BYTES_MAX;
                let problem = format!("the outputs of the job come to more than {max} bytes together");
                return Err(Failure::invalid(problem));
            }
        }
        buffer.extend_from_slice(b"}");
        Ok(buffer.freeze())
    }
}

impl mycelium_values::Outputs for Source<'_> {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure> {
        if output.name.is_empty()
            && let Some(written) = self.wholes.borrow().get(&output.job_id)
        {
            return Ok(written.clone());
        }
        let leaf = self.graph.output(0, output).map_err(NodeError::failure)?;
        let json = match leaf {
            Leaf::Payload(payload) => self.json(payload)?,
            Leaf::Computed(json) => json.clone(),
            Leaf::Null => Bytes::from_static(b"null"),
            Leaf::Map(outputs) => self.whole(outputs)?,
        };
        if output.name.is_empty() {
            self.wholes.borrow_mut().insert(output.job_id.clone(), json.clone());
        }
        Ok(json)
    }

    fn blob(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        self.blobs.read(blob)
    }
}

/// Passes it on if that is what went wrong.
fn tell_limit(error: &EvaluationError, blobs: &dyn ReadBlob) {
    if error.failure.kind == ErrorKind::LimitExceeded {
        blobs.limit_exceeded();
    }
}

fn not_json(encoding: &str) -> Failure {
    Failure::invalid(format!("a value encoded as `{encoding}` can be passed on as a whole only"))
}

fn check_all_json(node: usize, outputs: &[v1::NamedOutput]) -> Result<(), NodeError> {
    for payload in outputs.iter().filter_map(|output| output.payload.as_ref()) {
        if !is_json_encoding(&payload.encoding) {
            return Err(NodeError::NotJson { node, encoding: payload.encoding.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
