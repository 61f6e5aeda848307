//! What a job's specification must be like to be taken.

use std::collections::{BTreeSet, HashSet};

use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::{Type, Types, check_operation};

use mycelium_values::json::{is_json, is_json_encoding};

use super::expand::below;
use crate::blobs::Blob;

/// What was read from a specification on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedSpec {
    pub(crate) id: JobId,
    /// The jobs it depends on, each once, in the order of their ids.
    pub(crate) depends_on: Vec<JobId>,
    /// The blobs that its literals name.
    pub(crate) blobs: Vec<Blob>,
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
    let mut blobs = Vec::new();
    let types = check_nodes(&spec.nodes, spec.for_each.is_some(), &mut depends_on, &mut blobs)?;
    check_operations_version(spec.operations_version, types.is_some())?;
    check_decision(spec, types.as_deref())?;
    check_arguments(spec)?;
    for (index, job) in spec.after.iter().enumerate() {
        let job =
            JobId::from_slice(job).ok_or_else(|| field(format!("after[{index}]"), "must be 16 bytes"))?;
        depends_on.insert(job);
    }
    if depends_on.contains(&id) {
        return Err(SpecError::WaitsForItself);
    }
    Ok(CheckedSpec { id, depends_on: depends_on.into_iter().collect(), blobs })
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
                    Checked::Inline(bytes) => literal_bytes += bytes,
                    Checked::Blob(blob) => blobs.push(blob),
                }
                0
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
    /// It stands in the message, with so many bytes.
    Inline(usize),
    /// It is a blob, of which nothing is known but its name.
    Blob(Blob),
}

/// Checks a payload.
pub(crate) fn check_payload(of: &str, payload: &v1::Payload) -> Result<Checked, SpecError> {
    if payload.encoding.len() > limits::NAME_BYTES_MAX {
        return Err(field(of, format!("`encoding` must be at most {} bytes", limits::NAME_BYTES_MAX)));
    }
    let bytes = match &payload.content {
        Some(payload::Content::Inline(bytes)) => bytes,
        Some(payload::Content::Blob(blob)) => {
            return Blob::from_message(blob).map(Checked::Blob).map_err(|problem| field(of, problem));
        }
        None => return Err(field(of, "has no content")),
    };
    if bytes.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(SpecError::PayloadTooLarge {
            field: of.to_owned(),
            bytes: bytes.len(),
            max: limits::PAYLOAD_BYTES_MAX,
        });
    }
    if is_json_encoding(&payload.encoding) && !is_json(bytes) {
        return Err(field(of, "is not valid JSON"));
    }
    Ok(Checked::Inline(bytes.len()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn literal(json: &str) -> v1::ValueNode {
        node(value_node::Kind::Literal(v1::Payload {
            encoding: String::new(),
            content: Some(payload::Content::Inline(Bytes::copy_from_slice(json.as_bytes()))),
        }))
    }

    fn node(kind: value_node::Kind) -> v1::ValueNode {
        v1::ValueNode { kind: Some(kind) }
    }

    fn list(items: Vec<u32>) -> v1::ValueNode {
        node(value_node::Kind::List(v1::ListNode { items }))
    }

    fn output(job: u8) -> v1::ValueNode {
        node(value_node::Kind::Output(v1::OutputRef {
            job_id: Bytes::copy_from_slice(&[job; 16]),
            name: "value".to_owned(),
        }))
    }

    fn spec(nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
        let arguments = match nodes.len() {
            0 => vec![],
            n => vec![v1::Argument { parameter: "x".to_owned(), node: u32::try_from(n - 1).unwrap() }],
        };
        v1::JobSpec {
            job_id: Bytes::copy_from_slice(&[1; 16]),
            elf: "scale".to_owned(),
            task: "task_weigh".to_owned(),
            arguments,
            nodes,
            after: vec![],
            ..v1::JobSpec::default()
        }
    }

    fn operation(name: &str, inputs: &[u32], body: Option<v1::Body>) -> v1::ValueNode {
        let inputs = inputs.to_vec();
        node(value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body }))
    }

    fn with_operations(nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
        v1::JobSpec { operations_version: 1, ..spec(nodes) }
    }

    fn refused(spec: &v1::JobSpec) -> String {
        let error = check_spec(spec).unwrap_err();
        format!("{}: {error}", error.field())
    }

    #[test]
    fn dependencies_come_from_values_and_after_each_once() {
        let mut spec = spec(vec![output(9), output(3), list(vec![0, 1, 0])]);
        spec.after = vec![Bytes::copy_from_slice(&[9; 16]), Bytes::copy_from_slice(&[2; 16])];
        let checked = check_spec(&spec).unwrap();
        assert_eq!(checked.id, JobId::new([1; 16]));
        assert_eq!(checked.depends_on, [2u8, 3, 9].map(|n| JobId::new([n; 16])));
    }

    #[test]
    fn malformed_specifications_are_refused_by_field() {
        assert_eq!(
            refused(&v1::JobSpec { job_id: Bytes::new(), ..spec(vec![]) }),
            "job_id: must be 16 bytes"
        );
        assert_eq!(refused(&v1::JobSpec { elf: String::new(), ..spec(vec![]) }), "elf: must not be empty");
        assert_eq!(
            refused(&v1::JobSpec { elf: "a\nb".to_owned(), ..spec(vec![]) }),
            "elf: must not contain control characters"
        );
        assert_eq!(
            refused(&v1::JobSpec { task: "weigh".to_owned(), ..spec(vec![]) }),
            "task: must begin with `task_`"
        );
        assert_eq!(
            refused(&v1::JobSpec { elf: "x".repeat(256), ..spec(vec![]) }),
            "elf: must be at most 255 bytes"
        );
        assert_eq!(refused(&spec(vec![output(1)])), "after: the job waits for itself");
        assert_eq!(refused(&spec(vec![literal("{")])), "nodes[0].literal: is not valid JSON");
        assert_eq!(refused(&spec(vec![v1::ValueNode { kind: None }])), "nodes[0]: says nothing");
        assert_eq!(
            refused(&spec(vec![list(vec![0])])),
            "nodes[0]: refers to node 0, which does not stand before it"
        );
        let mut missing = spec(vec![literal("1")]);
        missing.arguments[0].node = 7;
        assert_eq!(refused(&missing), "arguments[0].node: there is no node 7");
        let mut twice = spec(vec![literal("1")]);
        twice.arguments.push(twice.arguments[0].clone());
        assert_eq!(refused(&twice), "arguments[1].parameter: `x` is given twice");
    }

    #[test]
    fn conditions_and_lists_are_nodes_that_can_be_them() {
        let input = |index| node(value_node::Kind::BodyInput(index));
        let with = |nodes: Vec<v1::ValueNode>, run_if: Option<u32>, list: Option<u32>| v1::JobSpec {
            run_if,
            for_each: list.map(|list| v1::ForEach { list }),
            ..spec(nodes)
        };
        let over_elements = with(vec![output(9), input(0), input(1), list(vec![1, 2])], None, Some(0));
        assert_eq!(check_spec(&over_elements).unwrap().depends_on, [JobId::new([9; 16])]);
        assert!(check_spec(&with(vec![literal("true"), list(vec![])], Some(0), Some(1))).is_ok());
        let computed = with(vec![output(9), operation("not", &[0], None)], Some(1), None);
        assert!(check_spec(&v1::JobSpec { operations_version: 1, ..computed }).is_ok());
        for (spec, reason) in [
            (with(vec![output(9)], Some(1), None), "run_if: there is no node 1"),
            (with(vec![output(9)], None, Some(7)), "for_each.list: there is no node 7"),
            (with(vec![literal("1")], Some(0), None), "run_if: is int, and must be bool"),
            (with(vec![literal("{}")], None, Some(0)), "for_each.list: is map, and must be list"),
            (with(vec![input(0)], Some(0), None), "nodes[0]: is the input of a body, and stands in none"),
            (
                with(vec![output(9), input(2)], None, Some(0)),
                "nodes[1]: is input 2, and there are 0, the element, and 1, its index",
            ),
            (
                with(vec![output(9), input(0)], Some(1), Some(0)),
                "run_if: needs node 1, which is there for each element alone",
            ),
            (
                with(vec![input(1), list(vec![0])], None, Some(1)),
                "for_each.list: needs node 0, which is there for each element alone",
            ),
        ] {
            assert_eq!(refused(&spec), reason);
        }
        let computed = with(vec![output(9), operation("add", &[0, 0], None)], Some(1), None);
        let computed = v1::JobSpec { operations_version: 1, ..computed };
        assert_eq!(refused(&computed), "run_if: is int or float, and must be bool");
        let forged = v1::JobSpec { element_of: Some(v1::ElementOf::default()), ..spec(vec![]) };
        assert_eq!(refused(&forged), "element_of: is set by the broker alone");
    }

    #[test]
    fn operations_that_cannot_be_computed_are_refused_with_their_reason() {
        let input = |index| node(value_node::Kind::BodyInput(index));
        let body = |nodes, result| Some(v1::Body { nodes, result });
        assert!(check_spec(&with_operations(vec![output(9), operation("add", &[0, 0], None)])).is_ok());
        for (nodes, reason) in [
            (
                vec![operation("explode", &[], None)],
                "nodes[0]: there is no operation `explode`; `ListOperations` tells those there are",
            ),
            (
                vec![output(9), operation("add", &[0], None)],
                "nodes[1]: `add` takes 2 operands, and 1 are given",
            ),
            (
                vec![operation("add", &[0, 0], None)],
                "nodes[0]: refers to node 0, which does not stand before it",
            ),
            (
                vec![literal("\"a\""), operation("add", &[0, 0], None)],
                "nodes[1]: `add`: `left` is string, and must be int or float",
            ),
            (vec![output(9), operation("list.map", &[0], None)], "nodes[1]: `list.map` needs a body"),
            (
                vec![output(9), operation("add", &[0, 0], body(vec![input(0)], 0))],
                "nodes[1]: `add` takes no body",
            ),
            (
                vec![output(9), operation("list.map", &[0], body(vec![output(9)], 0))],
                "nodes[1]: node 0 of the body of `list.map`: is the output of a job, and a body sees only its \
                 inputs: pass it on as an operand",
            ),
            (
                vec![output(9), operation("list.map", &[0], body(vec![input(1)], 0))],
                "nodes[1]: node 0 of the body of `list.map`: is input 1, and the body has 1, from 0",
            ),
            (
                vec![output(9), operation("list.map", &[0], body(vec![input(0)], 1))],
                "nodes[1]: node 1 of the body of `list.map`: is the result of the body, and does not exist",
            ),
            (vec![input(0)], "nodes[0]: is the input of a body, and stands in none"),
        ] {
            let version =
                u32::from(nodes.iter().any(|node| matches!(node.kind, Some(value_node::Kind::Operation(_)))));
            let spec = v1::JobSpec { operations_version: version, ..spec(nodes) };
            assert_eq!(refused(&spec), reason);
        }
    }

    #[test]
    fn bodies_nest_no_deeper_than_their_limit() {
        let nested = |depth: usize| {
            let mut body = v1::Body { nodes: vec![node(value_node::Kind::BodyInput(0))], result: 0 };
            for _ in 1..depth {
                let nodes =
                    vec![node(value_node::Kind::BodyInput(0)), operation("list.map", &[0], Some(body))];
                body = v1::Body { nodes, result: 1 };
            }
            with_operations(vec![output(9), operation("list.map", &[0], Some(body))])
        };
        assert!(check_spec(&nested(limits::BODY_DEPTH_MAX)).is_ok());
        assert_eq!(
            refused(&nested(limits::BODY_DEPTH_MAX + 1)),
            "nodes[1]: bodies stand more than 8 deep in each other"
        );
    }

    #[test]
    fn a_graph_names_the_version_of_its_operations() {
        let nodes = || vec![output(9), operation("negate", &[0], None)];
        assert_eq!(
            refused(&spec(nodes())),
            "operations_version: must be given for a value graph with operations"
        );
        assert_eq!(
            refused(&v1::JobSpec { operations_version: 2, ..spec(nodes()) }),
            "operations_version: is 2, and this broker knows those up to 1"
        );
        assert_eq!(
            refused(&with_operations(vec![literal("1")])),
            "operations_version: must be 0 for a value graph without operations"
        );
    }

    #[test]
    fn payloads_over_the_limit_are_refused_with_their_size() {
        let big = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX));
        assert_eq!(
            refused(&spec(vec![literal(&big)])),
            "nodes[0].literal: the payload has 65538 bytes inline, and the most is 65536: send what is larger as a blob"
        );
    }

    #[test]
    fn nesting_stops_exactly_at_its_limit() {
        let nested = |depth: usize| {
            let mut nodes = vec![literal("1")];
            nodes.extend((0..depth).map(|inner| list(vec![u32::try_from(inner).unwrap()])));
            spec(nodes)
        };
        assert!(check_spec(&nested(limits::VALUE_DEPTH_MAX)).is_ok());
        assert_eq!(refused(&nested(limits::VALUE_DEPTH_MAX + 1)), "nodes[129]: nests more than 128 deep");
    }
}
