//! Values as people write them.

use std::borrow::Cow;
use std::fmt;

use mycelium_proto::notation::{self, Graph, Limits, Shown, print};

use super::node::{Node, NodeKind};

/// How much is shown of a value.
const LIMITS: Limits = Limits { bytes: 8 * 1024, items: 8, collections: 4, operations: 12 };

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(&mut Recorded, self, LIMITS))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

/// Nodes as they are recorded: each holds those it refers to.
struct Recorded;

impl<'a> Graph<'a> for Recorded {
    type Node = &'a Node;

    fn show(&mut self, node: &'a Node) -> Shown<'a, &'a Node> {
        Shown::Text(Cow::Owned(match node.kind() {
            NodeKind::Literal(payload) => payload.to_string(),
            NodeKind::Output { job, name } if name.is_empty() => format!("job {}", job.id()),
            NodeKind::Output { job, name } => format!("job {}/{name}", job.id()),
            NodeKind::Invalid(message) => format!("<{message}>"),
            NodeKind::BodyInput { scope, index } => {
                return Shown::Input { scope: scope.number(), index: *index as usize };
            }
            NodeKind::List(items) => return Shown::List(items.iter().collect()),
            NodeKind::Map(entries) => {
                let entries = entries.iter().map(|(key, item)| (Cow::Borrowed(&**key), item));
                return Shown::Map(entries.collect());
            }
            NodeKind::Operation { name, inputs, body } => {
                // What a body has captured is seen inside of it.
                let captured = body.as_ref().map_or(0, |body| body.captured);
                return Shown::Operation {
                    name: Cow::Borrowed(name),
                    operands: inputs.iter().take(inputs.len().saturating_sub(captured)).collect(),
                    body: body.as_ref().map(|body| notation::Body {
                        scope: body.scope.number(),
                        inputs: body.own_inputs as usize,
                        result: &body.result,
                    }),
                };
            }
        }))
    }
}
