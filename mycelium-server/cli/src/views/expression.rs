//! A value graph as people would write it: `job.weight * 2 + 1`.

use std::borrow::Cow;

use mycelium_proto::notation::{Body, Graph, Limits, Shown, print};
use mycelium_proto::v1::{Operation, OperationBody, ValueNode, value_node::Kind};

use super::{Names, Payload as Bytes};
use crate::output::format;

/// How much is shown of a value.
const LIMITS: Limits = Limits { bytes: 2_000, items: usize::MAX, collections: 64, operations: 64 };

/// Writes a node as an expression, in which outputs go by the names that they get in `names`.
pub(crate) fn expression(nodes: &[ValueNode], index: u32, names: &mut Names) -> String {
    print(&mut Messages { nodes, names }, Node { nodes, index, below: u32::MAX }, LIMITS)
}

/// Nodes as they are sent: those of a job, and in its operations those of bodies.
struct Messages<'a, 'n> {
    /// Those of the job.
    nodes: &'a [ValueNode],
    names: &'n mut Names,
}

/// A node in its table. Nodes refer to earlier ones only, and one that does not is not followed.
#[derive(Clone, Copy)]
struct Node<'a> {
    nodes: &'a [ValueNode],
    index: u32,
    /// The node that refers to it.
    below: u32,
}

impl<'a> Node<'a> {
    fn kind(self) -> Option<&'a Kind> {
        self.nodes.get(self.index as usize).filter(|_| self.index < self.below)?.kind.as_ref()
    }

    /// A node that this one refers to.
    fn at(self, index: u32) -> Self {
        Self { index, below: self.index, ..self }
    }

    fn all(self, indexes: &[u32]) -> Vec<Self> {
        indexes.iter().map(|index| self.at(*index)).collect()
    }
}

impl<'a> Graph<'a> for Messages<'a, '_> {
    type Node = Node<'a>;

    fn show(&mut self, node: Node<'a>) -> Shown<'a, Node<'a>> {
        match node.kind() {
            Some(Kind::Literal(payload)) => Shown::Text(Bytes::from(payload).text().into()),
            Some(Kind::Output(output)) => Shown::Text(self.names.name(output).to_owned().into()),
            Some(Kind::List(list)) => Shown::List(node.all(&list.items)),
            Some(Kind::Map(map)) => {
                let entries = map.entries.iter();
                Shown::Map(entries.map(|entry| (Cow::Borrowed(&*entry.key), node.at(entry.node))).collect())
            }
            Some(Kind::Operation(Operation { name, inputs, body })) => Shown::Operation {
                name: format::one_line(name).into(),
                operands: node.all(inputs),
                body: body.as_ref().map(|OperationBody { nodes, result }| Body {
                    scope: scope(nodes),
                    inputs: inputs_of(nodes),
                    result: Node { nodes, index: *result, below: u32::MAX },
                }),
            },
            // Not in a body: what a job is run for.
            Some(Kind::BodyInput(input)) if std::ptr::eq(node.nodes, self.nodes) => {
                Shown::Text(Cow::Borrowed(if *input == 0 { "element" } else { "index" }))
            }
            Some(Kind::BodyInput(input)) => Shown::Input { scope: scope(node.nodes), index: *input as usize },
            None => Shown::Text(Cow::Borrowed("?")),
        }
    }
}

/// Tells the bodies apart.
fn scope(nodes: &[ValueNode]) -> u64 {
    nodes.as_ptr().addr() as u64
}

/// How many inputs a body has, as far as it uses them: its own, and after them what it is given from outside, which are
/// the last operands of its operation.
fn inputs_of(nodes: &[ValueNode]) -> usize {
    let inputs = nodes.iter().filter_map(|node| match node.kind {
        Some(Kind::BodyInput(input)) => Some(input as usize + 1),
        _ => None,
    });
    // A table of nodes has fewer than this; a body that names more is none that a broker has taken.
    inputs.filter(|inputs| *inputs <= nodes.len()).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{ListNode, OutputRef, Payload, payload, value_node};

    use super::*;

    fn node(kind: value_node::Kind) -> ValueNode {
        ValueNode { kind: Some(kind) }
    }

    fn list(items: &[u32]) -> ValueNode {
        node(value_node::Kind::List(ListNode { items: items.to_vec() }))
    }

    fn literal(json: &'static str) -> ValueNode {
        let content = Some(payload::Content::Inline(json.into()));
        node(value_node::Kind::Literal(Payload { content, ..Payload::default() }))
    }

    fn weight() -> ValueNode {
        let output = OutputRef { job_id: vec![0x11; 16].into(), name: "weight".to_owned() };
        node(value_node::Kind::Output(output))
    }

    fn operation(name: &str, inputs: &[u32], body: Option<OperationBody>) -> ValueNode {
        let inputs = inputs.to_vec();
        node(value_node::Kind::Operation(Operation { name: name.to_owned(), inputs, body }))
    }

    fn last(nodes: &[ValueNode]) -> String {
        expression(nodes, u32::try_from(nodes.len() - 1).unwrap(), &mut Names::default())
            .replace("weight", "w")
    }

    #[test]
    fn a_value_graph_reads_as_an_expression() {
        assert_eq!(last(&[literal("\"bee\""), weight(), list(&[0, 1])]), "[\"bee\", w]");
        let doubled = [weight(), literal("2"), operation("multiply", &[0, 1], None)];
        let plus_one = [&doubled[..], &[operation("add", &[2, 1], None)]].concat();
        assert_eq!(last(&plus_one), "w * 2 + 2");
        let squared = [&plus_one[..], &[operation("multiply", &[3, 3], None)]].concat();
        assert_eq!(last(&squared), "(w * 2 + 2) * (w * 2 + 2)");
        assert_eq!(
            last(&[
                weight(),
                literal("1"),
                operation("subtract", &[1, 0], None),
                operation("subtract", &[1, 2], None)
            ]),
            "1 - (1 - w)"
        );
        assert_eq!(last(&[weight(), literal("0"), operation("get", &[0, 1], None)]), "w[0]");
        assert_eq!(
            last(&[weight(), literal("1"), literal("null"), operation("slice", &[0, 1, 2], None)]),
            "w[1:]"
        );
        assert_eq!(last(&[weight(), operation("string.upper", &[0], None)]), "w.upper()");
        let compared = |name| last(&[weight(), literal("7"), operation(name, &[0, 1], None)]);
        assert_eq!(compared("strict.less_or_equal"), "w <= 7");
        assert_eq!(compared("strict.minimum"), compared("minimum"));
        assert_eq!(last(&[weight(), operation("strict.sort", &[0], None)]), "w.sort()");
        assert_eq!(
            last(&[weight(), literal("true"), operation("select", &[1, 0, 1], None)]),
            "w if true else true"
        );
        let body = OperationBody {
            nodes: vec![
                node(value_node::Kind::BodyInput(0)),
                literal("2"),
                operation("multiply", &[0, 1], None),
            ],
            result: 2,
        };
        assert_eq!(last(&[weight(), operation("list.map", &[0], Some(body))]), "w.map(x -> x * 2)");
        let scaled = OperationBody {
            nodes: vec![
                node(value_node::Kind::BodyInput(0)),
                node(value_node::Kind::BodyInput(1)),
                operation("multiply", &[0, 1], None),
            ],
            result: 2,
        };
        let captured = [weight(), literal("3"), operation("list.map", &[0, 1], Some(scaled))];
        assert_eq!(last(&captured), "w.map(3, (x, y) -> x * y)", "what comes from outside is an input too");
        assert_eq!(last(&[literal("-7"), literal("2"), operation("power", &[0, 1], None)]), "(-7) ** 2");
        let [element, index] = [0, 1].map(|input| node(value_node::Kind::BodyInput(input)));
        assert_eq!(last(&[element, index, operation("get", &[0, 1], None)]), "element[index]");
    }

    #[test]
    fn a_graph_that_doubles_with_each_node_or_refers_to_itself_is_cut() {
        let doubling: Vec<ValueNode> = (0..100_u32).map(|n| list(&[n.saturating_sub(1); 2])).collect();
        assert!(last(&doubling).len() < LIMITS.bytes * 2);
        assert_eq!(last(&[list(&[0])]), "[?]");
        let chain: Vec<ValueNode> = std::iter::once(literal("1"))
            .chain((0..100_000_u32).map(|n| operation("negate", &[n], None)))
            .collect();
        assert!(last(&chain).ends_with('…'));
    }
}
