//! Computes a job's arguments from its value graph and the outputs of the jobs it depends on.
//!
//! A graph without operations is never parsed: lists and maps are put together from the bytes of their parts. The size
//! of the result is computed before a byte of it is allocated, so that a small graph that doubles itself thirty times
//! is refused and not built. A graph with operations is left to [`mycelium_values::evaluate`].

mod nodes;

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::{EvaluationError, Limits, Value};

use mycelium_values::json::{is_json_encoding, separators, string_len, write_string};

/// Why an argument could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DerivationError {
    #[error("parameter `{parameter}`, node {node}: job {job} has no output `{output}`; it has {available}")]
    OutputMissing { parameter: String, node: usize, job: JobId, output: String, available: String },
    #[error(
        "parameter `{parameter}`, node {node}: a value encoded as `{encoding}` cannot be part of a list or a map"
    )]
    NotJson { parameter: String, node: usize, encoding: String },
    #[error("parameter `{parameter}` comes to {bytes} bytes, and all arguments of a job may come to {max}")]
    TooLarge { parameter: String, bytes: usize, max: usize },
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

pub(crate) use nodes::{Uncomputed, compute_nodes, whole_outputs};

/// Outputs of jobs that are DONE.
pub(crate) type OutputsByJob = HashMap<JobId, v1::Outputs>;

/// Computes the arguments of a job. `spec` has passed [`check_spec`](super::check_spec).
pub(crate) fn derive_arguments(
    spec: &v1::JobSpec,
    outputs: &OutputsByJob,
) -> Result<Vec<v1::ArgumentValue>, DerivationError> {
    let graph = Graph { nodes: &spec.nodes, outputs };
    let mut computed = if has_operations(spec) { graph.compute(spec)? } else { HashMap::new() };
    let mut sizes: Option<Vec<Result<usize, NodeError>>> = None;
    let mut arguments = Vec::with_capacity(spec.arguments.len());
    let mut bytes_total = 0usize;
    for argument in &spec.arguments {
        let root = argument.node as usize;
        let payload = match (graph.leaf(root), computed.remove(&argument.parameter)) {
            (Some(leaf), _) => leaf.map(Leaf::into_payload),
            (None, Some(value)) => {
                let bytes = value.encoded_len();
                if bytes_total.saturating_add(bytes) > limits::JOB_BYTES_MAX {
                    Err(NodeError::TooLarge(bytes))
                } else {
                    Ok(v1::Payload {
                        encoding: String::new(),
                        content: Some(payload::Content::Inline(value.to_json())),
                    })
                }
            }
            (None, None) => {
                let sizes = sizes.get_or_insert_with(|| graph.sizes());
                match sizes.get(root).cloned().unwrap_or(Err(NodeError::Malformed(root))) {
                    Ok(bytes) if bytes_total.saturating_add(bytes) > limits::JOB_BYTES_MAX => {
                        Err(NodeError::TooLarge(bytes))
                    }
                    Ok(bytes) => Ok(v1::Payload {
                        encoding: String::new(),
                        content: Some(payload::Content::Inline(graph.write(root, bytes))),
                    }),
                    Err(error) => Err(error),
                }
            }
        }
        .map_err(|error| error.of(&argument.parameter))?;
        let bytes = match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes.len(),
            Some(payload::Content::Blob(_)) | None => 0,
        };
        bytes_total = bytes_total.saturating_add(bytes);
        if bytes_total > limits::JOB_BYTES_MAX {
            return Err(NodeError::TooLarge(bytes).of(&argument.parameter));
        }
        arguments.push(v1::ArgumentValue { parameter: argument.parameter.clone(), payload: Some(payload) });
    }
    Ok(arguments)
}

/// Whether a job's values take more to compute than putting bytes together.
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
    TooLarge(usize),
    /// The table does not keep the rules that were checked at submission: as if the output were missing.
    Malformed(usize),
}

impl NodeError {
    fn of(self, parameter: &str) -> DerivationError {
        let parameter = parameter.to_owned();
        match self {
            Self::OutputMissing { node, job, output, available } => {
                DerivationError::OutputMissing { parameter, node, job, output, available }
            }
            Self::NotJson { node, encoding } => DerivationError::NotJson { parameter, node, encoding },
            Self::TooLarge(bytes) => {
                DerivationError::TooLarge { parameter, bytes, max: limits::JOB_BYTES_MAX }
            }
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
    /// All outputs of a job, as a map.
    Map(&'a [v1::Output]),
    Null,
}

impl Leaf<'_> {
    fn into_payload(self) -> v1::Payload {
        let bytes = match self {
            Self::Payload(payload) => return payload.clone(),
            Self::Null => Bytes::from_static(b"null"),
            Self::Map(outputs) => {
                let mut buffer = BytesMut::new();
                write_outputs(&mut buffer, outputs);
                buffer.freeze()
            }
        };
        v1::Payload { encoding: String::new(), content: Some(payload::Content::Inline(bytes)) }
    }
}

fn inline(payload: &v1::Payload) -> &[u8] {
    match &payload.content {
        Some(payload::Content::Inline(bytes)) => bytes,
        Some(payload::Content::Blob(_)) | None => b"null",
    }
}

fn output_bytes(output: &v1::Output) -> &[u8] {
    output.payload.as_ref().map_or(b"null", inline)
}

fn write_outputs(buffer: &mut BytesMut, outputs: &[v1::Output]) {
    buffer.put_u8(b'{');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            buffer.put_u8(b',');
        }
        write_string(buffer, &output.name);
        buffer.put_u8(b':');
        buffer.put_slice(output_bytes(output));
    }
    buffer.put_u8(b'}');
}

struct Graph<'a> {
    nodes: &'a [v1::ValueNode],
    outputs: &'a OutputsByJob,
}

impl<'a> Graph<'a> {
    /// The node's value, if it is one by itself; `None` for lists and maps.
    fn leaf(&self, index: usize) -> Option<Result<Leaf<'a>, NodeError>> {
        match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::Literal(payload)) => Some(Ok(Leaf::Payload(payload))),
            Some(value_node::Kind::Output(output)) => Some(self.output(index, output)),
            Some(value_node::Kind::List(_) | value_node::Kind::Map(_) | value_node::Kind::Operation(_)) => {
                None
            }
            Some(value_node::Kind::BodyInput(_)) | None => Some(Err(NodeError::Malformed(index))),
        }
    }

    /// The values of the arguments that are no leaves, by parameter.
    fn compute(&self, spec: &v1::JobSpec) -> Result<HashMap<String, Value>, EvaluationError> {
        let wanted: Vec<&v1::Argument> =
            spec.arguments.iter().filter(|argument| self.leaf(argument.node as usize).is_none()).collect();
        let nodes: Vec<u32> = wanted.iter().map(|argument| argument.node).collect();
        let source = Source { graph: self, wholes: RefCell::default() };
        let values = mycelium_values::evaluate(self.nodes, &nodes, &source, Limits::default())?;
        Ok(wanted.into_iter().map(|argument| argument.parameter.clone()).zip(values).collect())
    }

    fn output(&self, node: usize, output: &v1::OutputRef) -> Result<Leaf<'a>, NodeError> {
        let job = JobId::from_slice(&output.job_id).ok_or(NodeError::Malformed(node))?;
        let missing = |available: String| NodeError::OutputMissing {
            node,
            job,
            output: output.name.clone(),
            available,
        };
        let outputs = &self.outputs.get(&job).ok_or_else(|| missing("none".to_owned()))?.outputs;
        if output.name.is_empty() {
            return Ok(match outputs.as_slice() {
                [] => Leaf::Null,
                [only] if only.name == "value" => only.payload.as_ref().map_or(Leaf::Null, Leaf::Payload),
                all => {
                    check_all_json(node, all)?;
                    Leaf::Map(all)
                }
            });
        }
        let found = outputs.iter().find(|candidate| candidate.name == output.name);
        match found {
            Some(found) => Ok(found.payload.as_ref().map_or(Leaf::Null, Leaf::Payload)),
            None => {
                let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                Err(missing(if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
            }
        }
    }

    /// The size in bytes of every node's value as part of a larger one.
    fn sizes(&self) -> Vec<Result<usize, NodeError>> {
        let mut sizes: Vec<Result<usize, NodeError>> = Vec::with_capacity(self.nodes.len());
        for index in 0..self.nodes.len() {
            let size = self.size(index, &sizes);
            sizes.push(size);
        }
        sizes
    }

    fn size(&self, index: usize, sizes: &[Result<usize, NodeError>]) -> Result<usize, NodeError> {
        if let Some(leaf) = self.leaf(index) {
            return match leaf? {
                Leaf::Payload(payload) if is_json_encoding(&payload.encoding) => Ok(inline(payload).len()),
                Leaf::Payload(payload) => {
                    Err(NodeError::NotJson { node: index, encoding: payload.encoding.clone() })
                }
                Leaf::Null => Ok(4),
                Leaf::Map(outputs) => Ok(outputs.iter().fold(separators(outputs.len()), |sum, output| {
                    sum + string_len(&output.name) + 1 + output_bytes(output).len()
                })),
            };
        }
        let part = |inner: u32| match sizes.get(inner as usize) {
            Some(Ok(size)) => Ok(*size),
            Some(Err(error)) => Err(error.clone()),
            None => Err(NodeError::Malformed(index)),
        };
        match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::List(list)) => list
                .items
                .iter()
                .try_fold(separators(list.items.len()), |sum, item| Ok(sum.saturating_add(part(*item)?))),
            Some(value_node::Kind::Map(map)) => {
                map.entries.iter().try_fold(separators(map.entries.len()), |sum, entry| {
                    Ok(sum.saturating_add(string_len(&entry.key) + 1).saturating_add(part(entry.node)?))
                })
            }
            Some(
                value_node::Kind::Literal(_)
                | value_node::Kind::Output(_)
                | value_node::Kind::Operation(_)
                | value_node::Kind::BodyInput(_),
            )
            | None => Err(NodeError::Malformed(index)),
        }
    }

    /// Writes the value of a list or map whose size was computed before. The work is bounded by that size: every
    /// list and map writes at least two bytes.
    fn write(&self, root: usize, bytes: usize) -> Bytes {
        enum Step<'a> {
            Node(usize),
            Byte(u8),
            Key(&'a str),
        }
        let mut buffer = BytesMut::with_capacity(bytes);
        let mut steps = vec![Step::Node(root)];
        while let Some(step) = steps.pop() {
            let index = match step {
                Step::Byte(byte) => {
                    buffer.put_u8(byte);
                    continue;
                }
                Step::Key(key) => {
                    write_string(&mut buffer, key);
                    buffer.put_u8(b':');
                    continue;
                }
                Step::Node(index) => index,
            };
            match self.leaf(index) {
                Some(Ok(Leaf::Payload(payload))) => buffer.put_slice(inline(payload)),
                Some(Ok(Leaf::Map(outputs))) => write_outputs(&mut buffer, outputs),
                // A leaf with an error has no size, so nothing that contains it is written.
                Some(Ok(Leaf::Null) | Err(_)) => buffer.put_slice(b"null"),
                None => match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
                    Some(value_node::Kind::List(list)) => {
                        buffer.put_u8(b'[');
                        steps.push(Step::Byte(b']'));
                        for (position, item) in list.items.iter().enumerate().rev() {
                            steps.push(Step::Node(*item as usize));
                            if position > 0 {
                                steps.push(Step::Byte(b','));
                            }
                        }
                    }
                    Some(value_node::Kind::Map(map)) => {
                        buffer.put_u8(b'{');
                        steps.push(Step::Byte(b'}'));
                        for (position, entry) in map.entries.iter().enumerate().rev() {
                            steps.push(Step::Node(entry.node as usize));
                            steps.push(Step::Key(&entry.key));
                            if position > 0 {
                                steps.push(Step::Byte(b','));
                            }
                        }
                    }
                    Some(
                        value_node::Kind::Literal(_)
                        | value_node::Kind::Output(_)
                        | value_node::Kind::Operation(_)
                        | value_node::Kind::BodyInput(_),
                    )
                    | None => {}
                },
            }
        }
        debug_assert_eq!(buffer.len(), bytes, "the size computed is the size written");
        buffer.freeze()
    }
}

/// What the evaluator takes outputs from.
struct Source<'a> {
    graph: &'a Graph<'a>,
    /// All outputs of a job as one map, which is written once however many nodes stand for it.
    wholes: RefCell<HashMap<Bytes, Bytes>>,
}

impl mycelium_values::Outputs for Source<'_> {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, String> {
        if output.name.is_empty()
            && let Some(written) = self.wholes.borrow().get(&output.job_id)
        {
            return Ok(written.clone());
        }
        let leaf = self.graph.output(0, output).map_err(|error| match error {
            NodeError::OutputMissing { job, output, available, .. } => {
                format!("job {job} has no output `{output}`; it has {available}")
            }
            NodeError::NotJson { encoding, .. } => not_json(&encoding),
            NodeError::TooLarge(_) | NodeError::Malformed(_) => "the value graph is malformed".to_owned(),
        })?;
        let payload = leaf.into_payload();
        if !is_json_encoding(&payload.encoding) {
            return Err(not_json(&payload.encoding));
        }
        let json = match payload.content {
            Some(payload::Content::Inline(json)) => json,
            Some(payload::Content::Blob(_)) | None => Bytes::from_static(b"null"),
        };
        if output.name.is_empty() {
            self.wholes.borrow_mut().insert(output.job_id.clone(), json.clone());
        }
        Ok(json)
    }
}

fn not_json(encoding: &str) -> String {
    format!("a value encoded as `{encoding}` can be passed on as a whole only")
}

fn check_all_json(node: usize, outputs: &[v1::Output]) -> Result<(), NodeError> {
    for payload in outputs.iter().filter_map(|output| output.payload.as_ref()) {
        if !is_json_encoding(&payload.encoding) {
            return Err(NodeError::NotJson { node, encoding: payload.encoding.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
