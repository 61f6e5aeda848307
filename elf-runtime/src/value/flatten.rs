//! From shared nodes to the one table of nodes that a job carries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mycelium_proto::{limits, v1};
use v1::value_node::Kind as WireKind;

use super::node::{Node, NodeKind};
use crate::flow::{ProblemKind, RecordedJob};

/// The value graph of one job as it travels.
#[derive(Debug, Default)]
pub(crate) struct Flattened {
    pub(crate) arguments: Vec<v1::Argument>,
    pub(crate) nodes: Vec<v1::ValueNode>,
}

/// Writes the arguments of a job as one table of nodes in which every node comes after those it refers to. A node that
/// several others share stands in it once. Works in a loop, not by recursion.
///
/// `origin` is told of every job that a value comes from.
///
/// # Errors
/// The first mistake, with its parameter.
pub(crate) fn flatten(
    arguments: &[(Cow<'static, str>, Node)],
    mut origin: impl FnMut(&Arc<RecordedJob>),
) -> Result<Flattened, (Option<String>, ProblemKind)> {
    if arguments.len() > limits::PARAMETERS_MAX {
        return Err((None, ProblemKind::TooManyArguments { count: arguments.len() }));
    }
    let mut table = Table::default();
    let mut flattened = Vec::with_capacity(arguments.len());
    for (parameter, root) in arguments {
        let in_parameter = |problem| (Some(parameter.to_string()), problem);
        if parameter.is_empty() || parameter.len() > limits::NAME_BYTES_MAX {
            return Err(in_parameter(ProblemKind::InvalidName {
                what: "parameter",
                name: parameter.to_string(),
            }));
        }
        if flattened.iter().any(|other: &v1::Argument| other.parameter == *parameter) {
            return Err(in_parameter(ProblemKind::GivenTwice));
        }
        let node = table.add(root, &mut origin).map_err(in_parameter)?;
        flattened.push(v1::Argument { parameter: parameter.to_string(), node });
    }
    Ok(Flattened { arguments: flattened, nodes: table.nodes })
}

#[derive(Default)]
struct Table {
    nodes: Vec<v1::ValueNode>,
    /// Where each shared node stands in the table, by its address. The nodes live as long as the table is made.
    placed: HashMap<usize, u32>,
    literal_bytes: usize,
}

impl Table {
    fn add(&mut self, root: &Node, origin: &mut impl FnMut(&Arc<RecordedJob>)) -> Result<u32, ProblemKind> {
        if root.depth() as usize > limits::VALUE_DEPTH_MAX {
            return Err(ProblemKind::TooDeep { depth: root.depth() });
        }
        // Each level is a node whose children are being placed, with the places of those that are.
        let mut levels: Vec<(&Node, Vec<u32>)> = Vec::new();
        let mut next = root;
        loop {
            // Down to a node that is placed or has no (more) children...
            let mut place = match self.placed_or_leaf(next, origin)? {
                Some(place) => place,
                None => {
                    levels.push((next, Vec::with_capacity(child_count(next))));
                    match child(next, 0) {
                        Some(first) => {
                            next = first;
                            continue;
                        }
                        None => self.close(&mut levels)?,
                    }
                }
            };
            // ... and up until there is one with a child left.
            loop {
                let Some((parent, places)) = levels.last_mut() else { return Ok(place) };
                places.push(place);
                if let Some(sibling) = child(parent, places.len()) {
                    next = sibling;
                    break;
                }
                place = self.close(&mut levels)?;
            }
        }
    }

    /// Places a node that refers to no others, or finds one that is placed. `None` for one that has to wait for its
    /// children.
    fn placed_or_leaf(
        &mut self,
        node: &Node,
        origin: &mut impl FnMut(&Arc<RecordedJob>),
    ) -> Result<Option<u32>, ProblemKind> {
        if node.is_shared()
            && let Some(place) = self.placed.get(&node.address())
        {
            return Ok(Some(*place));
        }
        let kind = match node.kind() {
            NodeKind::Invalid(message) => return Err(ProblemKind::InvalidValue(message.clone())),
            NodeKind::List(_) | NodeKind::Map(_) => return Ok(None),
            NodeKind::Literal(payload) => {
                self.literal_bytes += payload.bytes().len();
                if self.literal_bytes > limits::JOB_BYTES_MAX {
                    return Err(ProblemKind::ArgumentsTooLarge { bytes: self.literal_bytes });
                }
                WireKind::Literal(payload.clone().into())
            }
            NodeKind::Output { job, name } => {
                if name.len() > limits::NAME_BYTES_MAX {
                    return Err(ProblemKind::InvalidName { what: "output", name: name.to_string() });
                }
                origin(job);
                WireKind::Output(v1::OutputRef { job_id: job.id().to_wire(), name: name.to_string() })
            }
        };
        self.place(node, kind).map(Some)
    }

    /// Places the node of the last level, whose children are all placed.
    fn close(&mut self, levels: &mut Vec<(&Node, Vec<u32>)>) -> Result<u32, ProblemKind> {
        let (node, places) = levels.pop().unwrap_or_else(|| unreachable!("closed without an open node"));
        let kind = match node.kind() {
            NodeKind::List(_) => WireKind::List(v1::ListNode { items: places }),
            NodeKind::Map(entries) => {
                let entries = entries.iter().zip(places);
                WireKind::Map(v1::MapNode {
                    entries: entries
                        .map(|((key, _), node)| v1::MapEntry { key: key.to_string(), node })
                        .collect(),
                })
            }
            NodeKind::Literal(_) | NodeKind::Output { .. } | NodeKind::Invalid(_) => {
                unreachable!("only nodes with children are kept open")
            }
        };
        self.place(node, kind)
    }

    fn place(&mut self, node: &Node, kind: WireKind) -> Result<u32, ProblemKind> {
        if self.nodes.len() >= limits::VALUE_NODES_MAX {
            return Err(ProblemKind::TooManyNodes);
        }
        let place = u32::try_from(self.nodes.len()).map_err(|_| ProblemKind::TooManyNodes)?;
        self.nodes.push(v1::ValueNode { kind: Some(kind) });
        if node.is_shared() {
            self.placed.insert(node.address(), place);
        }
        Ok(place)
    }
}

fn child_count(node: &Node) -> usize {
    match node.kind() {
        NodeKind::Literal(_) | NodeKind::Output { .. } | NodeKind::Invalid(_) => 0,
        NodeKind::List(items) => items.len(),
        NodeKind::Map(entries) => entries.len(),
    }
}

fn child(node: &Node, index: usize) -> Option<&Node> {
    match node.kind() {
        NodeKind::Literal(_) | NodeKind::Output { .. } | NodeKind::Invalid(_) => None,
        NodeKind::List(items) => items.get(index),
        NodeKind::Map(entries) => entries.get(index).map(|(_, node)| node),
    }
}
