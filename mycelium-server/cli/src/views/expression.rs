//! A value graph as people would write it: `job.weight * 2 + 1`.

use std::fmt::Write as _;

use mycelium_proto::notation::{Binds, Form};
use mycelium_proto::v1::{Operation, OperationBody, ValueNode, value_node};

use super::{Names, Payload as Shown};
use crate::output::format;

/// Longer texts are not gone on with. A node may be used many times over, so the length of the text is what bounds the
/// work.
const TEXT_BYTES_MAX: usize = 2_000;
/// Nodes in each other beyond these are not shown.
const LEVELS_MAX: u32 = 64;

/// Writes a node as an expression, in which outputs go by the names that they get in `names`.
pub(crate) fn expression(nodes: &[ValueNode], index: u32, names: &mut Names) -> String {
    let mut writer = Writer { text: String::new(), bodies: 0, names };
    writer.node(nodes, index, u32::MAX, Binds::Loosest, LEVELS_MAX);
    writer.text
}

struct Writer<'a> {
    text: String,
    names: &'a mut Names,
    /// How many bodies stand around what is being written: names their inputs apart.
    bodies: usize,
}

impl Writer<'_> {
    fn is_full(&self) -> bool {
        self.text.len() > TEXT_BYTES_MAX
    }

    /// Writes a node; nodes refer to earlier ones only, and one that does not is not followed.
    fn node(&mut self, nodes: &[ValueNode], index: u32, parent: u32, binding: Binds, levels: u32) {
        if self.is_full() {
            return;
        }
        if levels == 0 {
            self.text.push('…');
            return;
        }
        let node = nodes.get(index as usize).filter(|_| index < parent);
        match node.and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::Literal(payload)) => self.text.push_str(&Shown::from(payload).text()),
            Some(value_node::Kind::Output(output)) => {
                let name = self.names.name(output);
                self.text.push_str(name);
            }
            Some(value_node::Kind::List(list)) => {
                self.text.push('[');
                self.separated(&list.items, |writer, item| {
                    writer.node(nodes, *item, index, Binds::Loosest, levels - 1);
                });
                self.text.push(']');
            }
            Some(value_node::Kind::Map(map)) => {
                self.text.push('{');
                self.separated(&map.entries, |writer, entry| {
                    let _infallible = write!(writer.text, "{:?}: ", entry.key);
                    writer.node(nodes, entry.node, index, Binds::Loosest, levels - 1);
                });
                self.text.push('}');
            }
            Some(value_node::Kind::Operation(operation)) => {
                self.operation(nodes, operation, index, binding, levels - 1);
            }
            Some(value_node::Kind::BodyInput(input)) => {
                let name = match (self.bodies, *input) {
                    // Not in a body: what a job is run for.
                    (0, 0) => "element".to_owned(),
                    (0, 1) => "index".to_owned(),
                    (bodies, input) => input_name(bodies, input),
                };
                self.text.push_str(&name);
            }
            None => self.text.push('?'),
        }
    }

    fn separated<T>(&mut self, parts: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (position, part) in parts.iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.text.push_str(if position == 0 { "" } else { ", " });
            write(self, part);
        }
    }

    fn operation(
        &mut self,
        nodes: &[ValueNode],
        operation: &Operation,
        index: u32,
        binding: Binds,
        levels: u32,
    ) {
        let inputs = operation.inputs.as_slice();
        let part = |writer: &mut Self, input: u32, binding: Binds| {
            writer.node(nodes, input, index, binding, levels);
        };
        let form = Form::of(&operation.name, inputs.len(), operation.body.is_some());
        let is_looser = form.binds() < binding;
        self.text.push_str(if is_looser { "(" } else { "" });
        match (form, inputs) {
            (Form::Between(sign, binds), inputs) => {
                let (first, others) = binds.of_operands();
                for (place, input) in inputs.iter().enumerate() {
                    if self.is_full() {
                        break;
                    }
                    if place > 0 {
                        let _infallible = write!(self.text, " {sign} ");
                    }
                    part(self, *input, if place == 0 { first } else { others });
                }
            }
            (Form::Before(sign, binds), [value]) => {
                self.text.push_str(sign);
                part(self, *value, binds);
            }
            (Form::Select, [condition, then, otherwise]) => {
                part(self, *then, Binds::Or);
                self.text.push_str(" if ");
                part(self, *condition, Binds::Or);
                self.text.push_str(" else ");
                part(self, *otherwise, Binds::Select);
            }
            (Form::Element, [value, key]) => {
                part(self, *value, Binds::Tightest);
                self.text.push('[');
                part(self, *key, Binds::Loosest);
                self.text.push(']');
            }
            (Form::Slice, [value, ends @ ..]) => {
                part(self, *value, Binds::Tightest);
                self.text.push('[');
                for (place, end) in ends.iter().enumerate() {
                    self.text.push_str(if place == 0 { "" } else { ":" });
                    if !is_null(nodes, *end) {
                        part(self, *end, Binds::Loosest);
                    }
                }
                self.text.push(']');
            }
            (Form::Method(name), [value, rest @ ..]) => {
                part(self, *value, Binds::Tightest);
                let _infallible = write!(self.text, ".{}(", format::one_line(name));
                self.call(nodes, rest, operation.body.as_ref(), index, levels);
            }
            (Form::Call(name), inputs) => {
                let _infallible = write!(self.text, "{}(", format::one_line(name));
                self.call(nodes, inputs, operation.body.as_ref(), index, levels);
            }
            // Each form comes with as many operands as it is matched with above.
            (Form::Before(..) | Form::Select | Form::Element | Form::Slice | Form::Method(_), _) => {
                self.text.push('?');
            }
        }
        self.text.push_str(if is_looser { ")" } else { "" });
    }

    /// The operands behind the parenthesis, and the body.
    fn call(
        &mut self,
        nodes: &[ValueNode],
        inputs: &[u32],
        body: Option<&OperationBody>,
        index: u32,
        levels: u32,
    ) {
        self.separated(inputs, |writer, input| writer.node(nodes, *input, index, Binds::Loosest, levels));
        if let Some(body) = body {
            self.text.push_str(if inputs.is_empty() { "" } else { ", " });
            self.bodies += 1;
            let name = input_name(self.bodies, 0);
            let _infallible = write!(self.text, "{name} -> ");
            self.node(&body.nodes, body.result, u32::MAX, Binds::Loosest, levels);
            self.bodies -= 1;
        }
        self.text.push(')');
    }
}

/// `x` for the first input of a body, `y` for that of a body within; `x1`, `x2`... for the other inputs. Outside of
/// bodies it is the element that a job is run for, or its index.
fn input_name(bodies: usize, input: u32) -> String {
    if bodies == 0 {
        return if input == 0 { "element".to_owned() } else { "index".to_owned() };
    }
    let letter = ["x", "y", "z", "u", "v", "w"][bodies.saturating_sub(1) % 6];
    if input == 0 { letter.to_owned() } else { format!("{letter}{input}") }
}

fn is_null(nodes: &[ValueNode], index: u32) -> bool {
    match nodes.get(index as usize).and_then(|node| node.kind.as_ref()) {
        Some(value_node::Kind::Literal(payload)) => Shown::from(payload).text() == "null",
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{ListNode, OutputRef, Payload, payload};

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
        let [element, index] = [0, 1].map(|input| node(value_node::Kind::BodyInput(input)));
        assert_eq!(last(&[element, index, operation("get", &[0, 1], None)]), "element[index]");
    }

    #[test]
    fn a_graph_that_doubles_with_each_node_or_refers_to_itself_is_cut() {
        let doubling: Vec<ValueNode> = (0..100_u32).map(|n| list(&[n.saturating_sub(1); 2])).collect();
        assert!(last(&doubling).len() < TEXT_BYTES_MAX * 2);
        assert_eq!(last(&[list(&[0])]), "[?]");
        let chain: Vec<ValueNode> = std::iter::once(literal("1"))
            .chain((0..100_000_u32).map(|n| operation("negate", &[n], None)))
            .collect();
        assert!(last(&chain).ends_with('…'));
    }
}
