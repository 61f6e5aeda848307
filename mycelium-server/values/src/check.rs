//! What can be said of operations before any value is there.

use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};

use crate::json::{self, is_json_encoding};
use crate::table::Operation;
use crate::types::{Type, Types};

/// What is wrong with an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphProblem {
    /// There is no such operation.
    #[error("there is no operation `{name}`; `ListOperations` tells those there are")]
    UnknownOperation {
        /// The name, cut.
        name: String,
    },
    /// Too few or too many operands.
    #[error("`{operation}` takes {takes}, and {given} are given")]
    WrongArity {
        /// The operation.
        operation: &'static str,
        /// How many it takes, as text.
        takes: String,
        /// How many are given.
        given: usize,
    },
    /// An operand that cannot have a type that is taken.
    #[error("`{operation}`: `{parameter}` is {is}, and must be {wanted}")]
    WrongType {
        /// The operation.
        operation: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The types that the operand may have.
        is: Types,
        /// The types that are taken.
        wanted: Types,
    },
    /// A body where there must be none, or none where there must be one.
    #[error("`{operation}` {what}")]
    Body {
        /// The operation.
        operation: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A node of a body is wrong.
    #[error("node {node} of the body of `{operation}`: {problem}")]
    InBody {
        /// The operation.
        operation: &'static str,
        /// The node, in the table of the body.
        node: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Bodies in bodies, too many.
    #[error("bodies stand more than {} deep in each other", limits::BODY_DEPTH_MAX)]
    TooDeep,
    /// Too many nodes, those of bodies counted.
    #[error("the value graph has more than {} nodes, those of bodies counted", limits::VALUE_NODES_MAX)]
    TooManyNodes,
}

/// Checks an operation whose operands may have these types, and counts the nodes of its bodies into `nodes`. Gives the
/// types that its result may have.
///
/// # Errors
/// The first problem.
pub fn check_operation(
    operation: &v1::Operation,
    operands: &[Types],
    nodes: &mut usize,
) -> Result<Types, GraphProblem> {
    check_at(operation, operands, nodes, 0)
}

fn check_at(
    operation: &v1::Operation,
    operands: &[Types],
    nodes: &mut usize,
    depth: usize,
) -> Result<Types, GraphProblem> {
    let Some(known) = Operation::find(&operation.name) else {
        return Err(GraphProblem::UnknownOperation { name: crate::value::shorten(&operation.name) });
    };
    let given = operands.len();
    let min = known.operands_min();
    let max = match (known.operands_max(), &operation.body) {
        // What is beyond the parameters is for the body. All parameters have to be there then: an operand in the
        // place of an optional one is for that.
        (Some(_), Some(_)) => None,
        (max, _) => max,
    };
    if given < min || max.is_some_and(|max| given > max) {
        return Err(GraphProblem::WrongArity { operation: known.name, takes: takes(known), given });
    }
    for (index, is) in operands.iter().enumerate() {
        if let Some(parameter) = known.parameter(index)
            && !parameter.types.meets(*is)
        {
            let wanted = parameter.types;
            return Err(GraphProblem::WrongType {
                operation: known.name,
                parameter: parameter.name,
                is: *is,
                wanted,
            });
        }
    }
    match (&operation.body, known.body) {
        (None, None) => {}
        (None, Some(shape)) if shape.is_optional => {}
        (None, Some(_)) => {
            return Err(GraphProblem::Body { operation: known.name, what: "needs a body" });
        }
        (Some(_), None) => {
            return Err(GraphProblem::Body { operation: known.name, what: "takes no body" });
        }
        (Some(body), Some(shape)) => {
            if depth >= limits::BODY_DEPTH_MAX {
                return Err(GraphProblem::TooDeep);
            }
            let captured = given.saturating_sub(known.parameters.len());
            check_body(known, body, shape.inputs.len() + captured, nodes, depth + 1)?;
        }
    }
    Ok(known.result)
}

/// How many operands an operation takes, as text.
fn takes(operation: &Operation) -> String {
    let min = operation.operands_min();
    let s = |n: usize| if n == 1 { "operand" } else { "operands" };
    match operation.operands_max() {
        Some(max) if max == min => format!("{min} {}", s(min)),
        Some(max) => format!("{min} to {max} operands"),
        None => format!("at least {min} {}", s(min)),
    }
}

fn check_body(
    operation: &Operation,
    body: &v1::OperationBody,
    inputs: usize,
    nodes: &mut usize,
    depth: usize,
) -> Result<(), GraphProblem> {
    *nodes = nodes.saturating_add(body.nodes.len());
    if *nodes > limits::VALUE_NODES_MAX {
        return Err(GraphProblem::TooManyNodes);
    }
    let in_body =
        |node: usize, problem: String| GraphProblem::InBody { operation: operation.name, node, problem };
    let mut types: Vec<Types> = Vec::with_capacity(body.nodes.len());
    for (index, node) in body.nodes.iter().enumerate() {
        let earlier = |inner: u32| {
            types.get(inner as usize).copied().ok_or_else(|| {
                in_body(index, format!("refers to node {inner}, which does not stand before it in the body"))
            })
        };
        let kind = node.kind.as_ref().ok_or_else(|| in_body(index, "says nothing".to_owned()))?;
        let result = match kind {
            value_node::Kind::Output(_) => {
                let problem =
                    "is the output of a job, and a body sees only its inputs: pass it on as an operand";
                return Err(in_body(index, problem.to_owned()));
            }
            value_node::Kind::BodyInput(input) if *input as usize >= inputs => {
                let problem = format!("is input {input}, and the body has {inputs}, from 0");
                return Err(in_body(index, problem));
            }
            value_node::Kind::BodyInput(_) => Types::ANY,
            value_node::Kind::Literal(literal) => {
                check_literal(literal).map_err(|problem| in_body(index, problem.to_string()))?;
                result_types(kind).unwrap_or(Types::ANY)
            }
            value_node::Kind::List(list) => {
                list.items.iter().try_for_each(|item| earlier(*item).map(drop))?;
                Types::of(&[Type::List])
            }
            value_node::Kind::Map(map) => {
                let mut keys = std::collections::HashSet::with_capacity(map.entries.len());
                for entry in &map.entries {
                    earlier(entry.node)?;
                    if !keys.insert(entry.key.as_str()) {
                        return Err(in_body(index, "has a key twice".to_owned()));
                    }
                }
                Types::of(&[Type::Map])
            }
            value_node::Kind::Operation(inner) => {
                let operands =
                    inner.inputs.iter().map(|input| earlier(*input)).collect::<Result<Vec<_>, _>>()?;
                check_at(inner, &operands, nodes, depth).map_err(|problem| match problem {
                    GraphProblem::TooDeep | GraphProblem::TooManyNodes => problem,
                    other => in_body(index, other.to_string()),
                })?
            }
        };
        types.push(result);
    }
    if body.result as usize >= body.nodes.len() {
        return Err(in_body(
            body.result as usize,
            "is the result of the body, and does not exist".to_owned(),
        ));
    }
    Ok(())
}

/// What is wrong with a literal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LiteralProblem {
    #[error("has no content")]
    Empty,
    #[error("has {bytes} bytes, and the most is {}", limits::PAYLOAD_BYTES_MAX)]
    TooLarge { bytes: usize },
    #[error("is not encoded as JSON")]
    OtherEncoding,
    #[error(transparent)]
    Json(#[from] json::JsonError),
}

pub(crate) fn check_literal(literal: &v1::Payload) -> Result<(), LiteralProblem> {
    let Some(payload::Content::Inline(bytes)) = &literal.content else {
        return Err(LiteralProblem::Empty);
    };
    if bytes.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(LiteralProblem::TooLarge { bytes: bytes.len() });
    }
    if !is_json_encoding(&literal.encoding) {
        return Err(LiteralProblem::OtherEncoding);
    }
    json::check(bytes)?;
    Ok(())
}

/// The types that the value of a node may have, as far as the node alone tells; `None` for operations.
#[must_use]
pub fn result_types(kind: &value_node::Kind) -> Option<Types> {
    match kind {
        value_node::Kind::Literal(literal) => match &literal.content {
            Some(payload::Content::Inline(json)) if literal.encoding.is_empty() => {
                Some(Types::of(&[crate::Value::raw(json).kind()]))
            }
            Some(payload::Content::Inline(_) | payload::Content::Blob(_)) | None => Some(Types::ANY),
        },
        value_node::Kind::Output(_) | value_node::Kind::BodyInput(_) => Some(Types::ANY),
        value_node::Kind::List(_) => Some(Types::of(&[Type::List])),
        value_node::Kind::Map(_) => Some(Types::of(&[Type::Map])),
        value_node::Kind::Operation(_) => None,
    }
}
