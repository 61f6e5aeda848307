//! Value graphs as JSON, for people and for test vectors: `proto/testdata/value-graphs` says what they look like.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::budget::Limits;
use crate::check::{check_literal, check_operation, result_types};
use crate::error::{EvaluationError, Failure};
use crate::evaluate::{Outputs, evaluate};
use crate::types::Types;
use crate::value::Value;

/// A value graph with what goes in, and what is expected to come out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What it shows.
    #[serde(default)]
    pub name: String,
    nodes: Vec<Node>,
    result: u32,
    /// The values that the nodes of the kind `input` stand for.
    #[serde(default)]
    inputs: BTreeMap<String, Box<RawValue>>,
    /// The result that is expected.
    #[serde(default, deserialize_with = "present")]
    pub expect: Option<Box<RawValue>>,
    /// The kind of error that is expected.
    pub error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    #[serde(default, deserialize_with = "present")]
    literal: Option<Box<RawValue>>,
    input: Option<String>,
    list: Option<Vec<u32>>,
    map: Option<Vec<(String, u32)>>,
    operation: Option<String>,
    #[serde(default)]
    inputs: Vec<u32>,
    body: Option<Body>,
    body_input: Option<u32>,
}

/// `null` is a value too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    nodes: Vec<Node>,
    result: u32,
}

/// Why a vector has no result.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// It is not a vector.
    #[error("not a value graph: {0}")]
    Malformed(String),
    /// It would be refused at submission.
    #[error("node {node}: {problem}")]
    Refused {
        /// The node.
        node: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// It cannot be computed.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

impl Vector {
    /// Reads one vector, or a list of them.
    ///
    /// # Errors
    /// If it is neither.
    pub fn read(json: &[u8]) -> Result<Vec<Self>, VectorError> {
        let malformed = |error: serde_json::Error| VectorError::Malformed(error.to_string());
        let is_list = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if is_list {
            serde_json::from_slice(json).map_err(malformed)
        } else {
            Ok(vec![serde_json::from_slice(json).map_err(malformed)?])
        }
    }

    /// Checks the graph as a submission is checked, and computes its result.
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn evaluate(&self, limits: Limits) -> Result<Value, VectorError> {
        let nodes = self.nodes.iter().map(Node::to_wire).collect::<Result<Vec<_>, _>>()?;
        check_nodes(&nodes)?;
        if self.result as usize >= nodes.len() {
            return Err(VectorError::Malformed(format!("there is no node {}", self.result)));
        }
        let values = evaluate(&nodes, &[self.result], self, limits)?;
        values.into_iter().next().ok_or_else(|| VectorError::Malformed("no result".to_owned()))
    }

    /// The nodes, as a job carries them.
    ///
    /// # Errors
    /// If a node is none.
    pub fn nodes(&self) -> Result<Vec<v1::ValueNode>, VectorError> {
        self.nodes.iter().map(Node::to_wire).collect()
    }
}

impl Outputs for Vector {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure> {
        match self.inputs.get(&output.name) {
            Some(json) => Ok(Bytes::copy_from_slice(json.get().as_bytes())),
            None => Err(Failure::invalid(format!("there is no input `{}`", output.name))),
        }
    }

    fn blob(&self, _blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        Err(Failure::invalid("a test vector has no blobs"))
    }
}

/// Checks a table of nodes for what a submission is checked for. Its literals have to be JSON, which all but whole
/// values of a job have to be.
///
/// # Errors
/// [`VectorError::Refused`] with the first problem.
pub fn check_nodes(nodes: &[v1::ValueNode]) -> Result<(), VectorError> {
    let mut types: Vec<Types> = Vec::with_capacity(nodes.len());
    let mut count = nodes.len();
    if count > limits::VALUE_NODES_MAX {
        let problem = format!("the value graph has more than {} nodes", limits::VALUE_NODES_MAX);
        return Err(VectorError::Refused { node: limits::VALUE_NODES_MAX, problem });
    }
    for (index, node) in nodes.iter().enumerate() {
        let refused = |problem: String| VectorError::Refused { node: index, problem };
        let earlier = |inner: &u32| {
            let inner = types.get(*inner as usize).copied();
            inner.ok_or_else(|| refused("refers to a node that does not stand before it".to_owned()))
        };
        let result = match &node.kind {
            Some(value_node::Kind::Operation(operation)) => {
                let operands = operation.inputs.iter().map(earlier).collect::<Result<Vec<_>, _>>()?;
                check_operation(operation, &operands, &mut count)
                    .map_err(|error| refused(error.to_string()))?
            }
            Some(value_node::Kind::List(list)) => {
                list.items.iter().try_for_each(|item| earlier(item).map(drop))?;
                Types::ANY
            }
            Some(value_node::Kind::Map(map)) => {
                let mut keys = HashSet::with_capacity(map.entries.len());
                for entry in &map.entries {
                    earlier(&entry.node)?;
                    if !keys.insert(entry.key.as_str()) {
                        return Err(refused("has a key twice".to_owned()));
                    }
                }
                Types::ANY
            }
            Some(value_node::Kind::BodyInput(_)) => {
                return Err(refused("is the input of a body, and stands in none".to_owned()));
            }
            Some(other @ value_node::Kind::Literal(literal)) => {
                check_literal(literal).map_err(|problem| refused(problem.to_string()))?;
                result_types(other).unwrap_or(Types::ANY)
            }
            Some(other @ value_node::Kind::Output(_)) => result_types(other).unwrap_or(Types::ANY),
            None => return Err(refused("says nothing".to_owned())),
        };
        types.push(result);
    }
    Ok(())
}

impl Node {
    fn to_wire(&self) -> Result<v1::ValueNode, VectorError> {
        let kinds = [
            self.literal.as_ref().map(|json| {
                let bytes = Bytes::copy_from_slice(json.get().as_bytes());
                value_node::Kind::Literal(v1::Payload {
                    encoding: String::new(),
                    content: Some(payload::Content::Inline(bytes)),
                })
            }),
            self.input.as_ref().map(|name| {
                value_node::Kind::Output(v1::OutputRef {
                    job_id: Bytes::from_static(&[0; 16]),
                    name: name.clone(),
                })
            }),
            self.list.as_ref().map(|items| value_node::Kind::List(v1::ListNode { items: items.clone() })),
            self.map.as_ref().map(|entries| {
                let entries =
                    entries.iter().map(|(key, node)| v1::MapEntry { key: key.clone(), node: *node });
                value_node::Kind::Map(v1::MapNode { entries: entries.collect() })
            }),
            self.operation()?.map(value_node::Kind::Operation),
            self.body_input.map(value_node::Kind::BodyInput),
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(v1::ValueNode { kind: Some(kind) }),
            _ => Err(VectorError::Malformed(
                "a node is one of literal, input, list, map, operation and body_input".to_owned(),
            )),
        }
    }

    fn operation(&self) -> Result<Option<v1::Operation>, VectorError> {
        let Some(name) = &self.operation else { return Ok(None) };
        let body = match &self.body {
            None => None,
            Some(body) => Some(v1::OperationBody {
                nodes: body.nodes.iter().map(Self::to_wire).collect::<Result<_, _>>()?,
                result: body.result,
            }),
        };
        Ok(Some(v1::Operation { name: name.clone(), inputs: self.inputs.clone(), body }))
    }
}
