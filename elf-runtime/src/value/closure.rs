//! Closures: recorded once, with elements that stand for all.

use std::borrow::Cow;
use std::sync::Arc;

use mycelium_proto::{limits, v1};
use v1::value_node::Kind as WireKind;

use super::body::Body;
use super::flatten::{Place, Table, escaped};
use super::node::{Node, NodeKind};
use super::scopes::Scope;
use crate::problem::ProblemKind;
use crate::recorded::RecordedJob;

/// Records an operation with a body. The closure is called once, with nodes that stand for what it will be given.
///
/// What it uses from outside, small literals aside, is computed outside: the largest parts that do not depend on what it is
/// given become operands of the operation, each once, and inputs of the body after its own.
pub(super) fn with_body<const N: usize>(
    name: &'static str,
    mut operands: Vec<Node>,
    closure: impl FnOnce([Node; N]) -> Node,
) -> Node {
    let scope = Scope::fresh();
    let mut own_inputs = 0;
    let inputs = std::array::from_fn(|_| {
        own_inputs += 1;
        Node::new(NodeKind::BodyInput { scope, index: own_inputs - 1 })
    });
    let result = closure(inputs);
    match close(scope, own_inputs, result) {
        Ok((body, mut captured)) => {
            operands.append(&mut captured);
            let name = Cow::Borrowed(name);
            Node::new(NodeKind::Operation { name, inputs: operands, body: Some(Box::new(body)) })
        }
        Err(problem) => Node::invalid(problem.to_string()),
    }
}

/// Writes what a closure returned as a table of its own, and gives the values from outside that it uses.
fn close(scope: Scope, own_inputs: u32, result: Node) -> Result<(Body<Node>, Vec<Node>), ProblemKind> {
    let mut table = Table::new(OfBody { scope, own_inputs, captured: Vec::new() });
    let place = table.add(&result)?;
    let nested = table.bodies_nested + 1;
    if nested as usize > limits::BODY_DEPTH_MAX {
        return Err(ProblemKind::InvalidValue(format!(
            "closures are nested {nested} deep, and at most {} is allowed",
            limits::BODY_DEPTH_MAX
        )));
    }
    let captured = table.place.captured;
    let body = Body {
        wire: v1::OperationBody { nodes: table.nodes, result: place },
        scope,
        own_inputs,
        captured: captured.len(),
        result,
        node_count: table.node_count,
        literal_bytes: table.literal_bytes,
        operations_version: table.operations_version,
        nested,
    };
    Ok((body, captured))
}

/// The table of a body.
struct OfBody {
    scope: Scope,
    own_inputs: u32,
    /// Values from outside, in the order of the inputs that stand for them.
    captured: Vec<Node>,
}

impl Place for OfBody {
    fn elsewhere(&mut self, node: &Node) -> Option<WireKind> {
        // A large literal comes from outside as well, so that only the table of a job has blobs.
        if matches!(node.kind(), NodeKind::Literal(payload) if !payload.is_large())
            || node.scopes().contains(self.scope)
        {
            return None;
        }
        // Held here it is shared, so that the table finds it again where it is met again.
        self.captured.push(node.clone());
        let index = u32::try_from(self.captured.len() - 1).unwrap_or(u32::MAX);
        Some(WireKind::BodyInput(self.own_inputs.saturating_add(index)))
    }

    fn origin(&mut self, _job: &Arc<RecordedJob>) -> Result<(), ProblemKind> {
        unreachable!("outputs of jobs depend on no closure, so they are captured");
    }

    fn body_input(&mut self, scope: Scope, index: u32) -> Result<WireKind, ProblemKind> {
        if scope == self.scope { Ok(WireKind::BodyInput(index)) } else { Err(escaped()) }
    }
}
