//! What a job's specification must be like to be taken.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mycelium_core::command::Begins;
use mycelium_core::ids::JobId;
use mycelium_core::policy::Policy;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::json::{self, is_json_encoding};
use mycelium_values::{Type, Types, check_operation};

use super::expand::below;
use crate::blobs::Blob;
use crate::documents::policy::{self, BadPolicy};

/// What was read from a specification on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedSpec {
    pub(crate) id: JobId,
    /// The jobs it depends on, each once, in the order of their ids.
    pub(crate) depends_on: Vec<JobId>,
    /// The blobs that its literals name.
    pub(crate) blobs: Vec<Blob>,
    /// The policy of its own, if it has one.
    pub(crate) policy: Option<Arc<Policy>>,
    /// When it may begin.
    pub(crate) begins: Begins,
}

/// What is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("{problem}")]
    Field { field: String, problem: String },
    #[error("{problem}")]
    Graph { field: String, problem: String },
    #[error("the payload has {bytes} bytes inline, and the most is {max}: send what is larger as a blob")]
    PayloadTooLarge { field: String, bytes: usize, max: usize },
    #[error("the job waits for itself")]
    WaitsForItself,
}

impl SpecError {
    /// The field it is about, as a path within the specification.
    pub(crate) fn field(&self) -> &str {
        match self {
            Self::Field { field, .. } | Self::Graph { field, .. } | Self::PayloadTooLarge { field, .. } => {
                field
            }
            Self::WaitsForItself => "after",
        }
    }
}

fn field(field: impl Into<String>, problem: impl Into<String>) -> SpecError {
    SpecError::Field { field: field.into(), problem: problem.into() }
}

fn graph(node: usize, problem: impl Into<String>) -> SpecError {
    SpecError::Graph { field: format!("nodes[{node}]"), problem: problem.into() }
}

/// Checks all of a specification that can be judged by itself.
pub(crate) fn check_spec(spec: &v1::JobSpec) -> Result<CheckedSpec, SpecError> {
    let id = JobId::from_slice(&spec.job_id).ok_or_else(|| field("job_id", "must be 16 bytes"))?;
    check_name("elf", &spec.elf)?;
    check_name("task", &spec.task)?;
    if !spec.task.starts_with("task_") {
        return Err(field("task", "must begin with `task_`"));
    }

    let mut depends_on = BTreeSet::new();
    if spec.element_of.is_some() {
        return Err(field("element_of", "is set by the broker alone"));
    }
    if spec.trace.is_some() {
        return Err(field("trace", "is set by the broker alone: give it with the submission"));
    }
    let mut blobs = Vec::new();
    let types = check_nodes(&spec.nodes, spec.for_each.is_some(), &mut depends_on, &mut blobs)?;
    check_operations_version(spec.operations_version, types.is_some())?;
    check_decision(spec, types.as_deref())?;
    check_arguments(spec)?;
    if let Some(problem) = refuse_labels(&spec.labels) {
        return Err(field("labels", problem));
    }
    for (index, job) in spec.after.iter().enumerate() {
        let job =
            JobId::from_slice(job).ok_or_else(|| field(format!("after[{index}]"), "must be 16 bytes"))?;
        depends_on.insert(job);
    }
    if depends_on.contains(&id) {
        return Err(SpecError::WaitsForItself);
    }
    let bad = |BadPolicy { field: of, problem }| field(of, problem);
    let policy = policy::of_job(spec).map_err(bad)?;
    let begins = policy::begins(spec).map_err(bad)?;
    Ok(CheckedSpec { id, depends_on: depends_on.into_iter().collect(), blobs, policy, begins })
}

/// Checks a name of an elf, a task, a flow...: not empty, not too long, no control characters.
pub(crate) fn check_name(of: &str, name: &str) -> Result<(), SpecError> {
    if name.is_empty() {
        return Err(field(of, "must not be empty"));
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(field(of, format!("must be at most {} bytes", limits::NAME_BYTES_MAX)));
    }
    if name.chars().any(char::is_control) {
        return Err(field(of, "must not contain control characters"));
    }
    Ok(())
}

/// What is wrong with the labels of a job or a flow.
pub(crate) fn refuse_labels(labels: &BTreeMap<String, String>) -> Option<String> {
    if labels.len() > limits::LABELS_MAX {
        return Some(format!("must be at most {}", limits::LABELS_MAX));
    }
    for (key, value) in labels {
        // The key itself may be too long to be told.
        let problem = if key.is_empty() || key.len() > limits::LABEL_KEY_BYTES_MAX {
            format!("a key must have 1 to {} bytes", limits::LABEL_KEY_BYTES_MAX)
        } else if value.len() > limits::LABEL_VALUE_BYTES_MAX {
            format!("the value of `{key}` must be at most {} bytes", limits::LABEL_VALUE_BYTES_MAX)
        } else if key.chars().chain(value.chars()).any(char::is_control) {
            "must not contain control characters".to_owned()
        } else {
            continue;
        };
        return Some(problem);
    }
    None
}

/// Checks the nodes of the condition and of the list, if there are any.
fn check_decision(spec: &v1::JobSpec, types: Option<&[Types]>) -> Result<(), SpecError> {
    let list = spec.for_each.map(|for_each| for_each.list);
    let condition = ("run_if", spec.run_if, Types::of(&[Type::Bool]));
    let list = ("for_each.list", list, Types::of(&[Type::List]));
    for (name, root, wanted) in [condition, list] {
        let Some(root) = root else { continue };
        let problem = |problem: String| SpecError::Graph { field: name.to_owned(), problem };
        let node = spec.nodes.get(root as usize).and_then(|node| node.kind.as_ref());
        let kind = node.ok_or_else(|| problem(format!("there is no node {root}")))?;
        let is = match types {
            Some(types) => types.get(root as usize).copied(),
            None => mycelium_values::result_types(kind),
        };
        if let Some(is) = is.filter(|is| !is.meets(wanted)) {
            return Err(problem(format!("is {is}, and must be {wanted}")));
        }
        let input = below(&spec.nodes, vec![root]).into_iter().find(|index| {
            let node = spec.nodes.get(*index as usize).and_then(|node| node.kind.as_ref());
            matches!(node, Some(value_node::Kind::BodyInput(_)))
        });
        if let Some(index) = input {
            return Err(problem(format!("needs node {index}, which is there for each element alone")));
        }
    }
    Ok(())
}

fn check_arguments(spec: &v1::JobSpec) -> Result<(), SpecError> {
    if spec.arguments.len() > limits::PARAMETERS_MAX {
        return Err(field("arguments", format!("must be at most {}", limits::PARAMETERS_MAX)));
    }
    let mut seen = HashSet::with_capacity(spec.arguments.len());
    for (index, argument) in spec.arguments.iter().enumerate() {
        check_name(&format!("arguments[{index}].parameter"), &argument.parameter)?;
        if !seen.insert(argument.parameter.as_str()) {
            return Err(field(
                format!("arguments[{index}].parameter"),
                format!("`{}` is given twice", argument.parameter),
            ));
        }
        if argument.node as usize >= spec.nodes.len() {
            return Err(SpecError::Graph {
                field: format!("arguments[{index}].node"),
                problem: format!("there is no node {}", argument.node),
            });
        }
    }
    Ok(())
}

fn check_operations_version(version: u32, has_operations: bool) -> Result<(), SpecError> {
    let newest = mycelium_values::VERSION;
    match (version, has_operations) {
        (0, false) => Ok(()),
        (0, true) => Err(field("operations_version", "must be given for a value graph with operations")),
        (_, false) => Err(field("operations_version", "must be 0 for a value graph without operations")),
        (version, true) if version > newest => Err(field(
            "operations_version",
            format!("is {version}, and this broker knows those up to {newest}"),
        )),
        (_, true) => Ok(()),
    }
}

/// Gives the types that their values may have, if there are operations among them.
fn check_nodes(
    nodes: &[v1::ValueNode],
    has_elements: bool,
    depends_on: &mut BTreeSet<JobId>,
    blobs: &mut Vec<Blob>,
) -> Result<Option<Vec<Types>>, SpecError> {
    if nodes.len() > limits::VALUE_NODES_MAX {
        return Err(field("nodes", format!("must be at most {}", limits::VALUE_NODES_MAX)));
    }
    let mut depths: Vec<usize> = Vec::with_capacity(nodes.len());
    // Only operations ask for the types of what stands before them.
    let has_operations = nodes.iter().any(|node| matches!(node.kind, Some(value_node::Kind::Operation(_))));
    let mut types: Vec<Types> = Vec::with_capacity(if has_operations { nodes.len() } else { 0 });
    let mut node_count = nodes.len();
    let mut literal_bytes = 0usize;
    for (index, node) in nodes.iter().enumerate() {
        let kind = node.kind.as_ref().ok_or_else(|| graph(index, "says nothing"))?;
        let depth_of = |inner: u32| {
            depths.get(inner as usize).copied().ok_or_else(|| {
                graph(index, format!("refers to node {inner}, which does not stand before it"))
            })
        };
        let depth = match kind {
            value_node::Kind::Literal(literal) => {
                match check_payload(&format!("nodes[{index}].literal"), literal)? {
                    Checked::Inline { bytes, depth } => {
                        literal_bytes += bytes;
                        depth
                    }
                    Checked::Blob(blob) => {
                        blobs.push(blob);
                        0
                    }
                }
            }
            value_node::Kind::Output(output) => {
                let job = JobId::from_slice(&output.job_id)
                    .ok_or_else(|| graph(index, "`output.job_id` must be 16 bytes"))?;
                if !output.name.is_empty() {
                    check_name(&format!("nodes[{index}].output.name"), &output.name)?;
                }
                depends_on.insert(job);
                0
            }
            value_node::Kind::List(list) => {
                list.items.iter().try_fold(0, |deepest, item| Ok(deepest.max(depth_of(*item)? + 1)))?
            }
            value_node::Kind::Map(map) => {
                let mut keys = HashSet::with_capacity(map.entries.len());
                let mut deepest = 0;
                for entry in &map.entries {
                    if !keys.insert(entry.key.as_str()) {
                        return Err(graph(index, "has a key twice"));
                    }
                    deepest = deepest.max(depth_of(entry.node)? + 1);
                }
                deepest
            }
            value_node::Kind::Operation(operation) => {
                for input in &operation.inputs {
                    depth_of(*input)?;
                }
                let operands: Vec<Types> =
                    operation.inputs.iter().map(|input| types[*input as usize]).collect();
                let result = check_operation(operation, &operands, &mut node_count)
                    .map_err(|problem| graph(index, problem.to_string()))?;
                types.push(result);
                literal_bytes += body_bytes(operation);
                // How deep its result nests is known when it is computed.
                0
            }
            value_node::Kind::BodyInput(0 | 1) if has_elements => 0,
            value_node::Kind::BodyInput(input) if has_elements => {
                let problem = format!("is input {input}, and there are 0, the element, and 1, its index");
                return Err(graph(index, problem));
            }
            value_node::Kind::BodyInput(_) => {
                return Err(graph(index, "is the input of a body, and stands in none"));
            }
        };
        if has_operations && let Some(known) = mycelium_values::result_types(kind) {
            types.push(known);
        }
        if depth > limits::VALUE_DEPTH_MAX {
            return Err(graph(index, format!("nests more than {} deep", limits::VALUE_DEPTH_MAX)));
        }
        depths.push(depth);
    }
    if literal_bytes > limits::SPEC_BYTES_MAX {
        return Err(SpecError::PayloadTooLarge {
            field: "nodes".to_owned(),
            bytes: literal_bytes,
            max: limits::SPEC_BYTES_MAX,
        });
    }
    Ok(has_operations.then_some(types))
}

/// The bytes of the literals in the bodies of an operation, whose depth was checked before.
fn body_bytes(operation: &v1::Operation) -> usize {
    let nodes = operation.body.iter().flat_map(|body| &body.nodes);
    nodes
        .map(|node| match &node.kind {
            Some(value_node::Kind::Literal(v1::Payload {
                content: Some(payload::Content::Inline(bytes)),
                ..
            })) => bytes.len(),
            Some(value_node::Kind::Operation(inner)) => body_bytes(inner),
            Some(_) | None => 0,
        })
        .sum()
}

/// A payload that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It stands in the message, with so many bytes; in JSON, so many lists and maps stand in each other.
    Inline { bytes: usize, depth: usize },
    /// It is a blob, of which nothing is known but its name.
    Blob(Blob),
}

pub(crate) fn check_payload(of: &str, payload: &v1::Payload) -> Result<Checked, SpecError> {
    match locate_payload(of, payload)? {
        Located::Blob(blob) => Ok(Checked::Blob(blob)),
        Located::Inline(bytes) if is_json_encoding(&payload.encoding) => {
            let depth = json::check(bytes).map_err(|error| field(of, error.to_string()))?;
            Ok(Checked::Inline { bytes: bytes.len(), depth })
        }
        Located::Inline(bytes) => Ok(Checked::Inline { bytes: bytes.len(), depth: 0 }),
    }
}

/// Where the bytes of a payload are. What they are is not checked.
pub(crate) enum Located<'a> {
    Inline(&'a [u8]),
    Blob(Blob),
}

/// Checks all of a payload but its bytes.
pub(crate) fn locate_payload<'a>(of: &str, payload: &'a v1::Payload) -> Result<Located<'a>, SpecError> {
    if payload.encoding.len() > limits::NAME_BYTES_MAX {
        return Err(field(of, format!("`encoding` must be at most {} bytes", limits::NAME_BYTES_MAX)));
    }
    match &payload.content {
        Some(payload::Content::Inline(bytes)) if bytes.len() > limits::PAYLOAD_BYTES_MAX => {
            Err(SpecError::PayloadTooLarge {
                field: of.to_owned(),
                bytes: bytes.len(),
                max: limits::PAYLOAD_BYTES_MAX,
            })
        }
        Some(payload::Content::Inline(bytes)) => Ok(Located::Inline(bytes)),
        Some(payload::Content::Blob(blob)) => {
            Blob::from_message(blob).map(Located::Blob).map_err(|problem| field(of, problem.to_string()))
        }
        None => Err(field(of, "has no content")),
    }
}

#[cfg(test)]
mod tests;
