//! What a store may index of a job beside its encoded body: its arguments, what they come from, and what it returned.
//!
//! It is read from the body by a store that wants it, and by no other: one that serves records by their keys never pays
//! for it. A job's edges alone stand in its record, see [`SpecRecord::depends_on`](mycelium_core::effects::SpecRecord).

use std::collections::HashSet;

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, value_node};

pub use crate::documents::Destination;

use super::{Error, SpecRecord};
use crate::documents::{Outputs, Spec};

/// What flows into a job.
#[derive(Debug, Clone)]
pub struct Inputs {
    spec: Spec,
}

/// A value that flows into a job.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Where it flows.
    pub into: Destination<'a>,
    /// What kind of value it is.
    pub kind: InputKind<'a>,
    nodes: &'a [v1::ValueNode],
    root: u32,
}

/// What kind of value an input is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InputKind<'a> {
    /// One that was submitted.
    Literal(&'a v1::Payload),
    /// What another job returned, as it is.
    Reference,
    /// One that is assembled or computed.
    Computed,
}

/// Something that an input is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// What it is.
    pub source: Source<'a>,
    /// Where in the input it stands, such as `[2].name`; empty if it is all of it. Of what stands in several places, the
    /// first; of an operand, that of what the operation gives.
    pub path: String,
}

/// What an input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// What another job returned.
    Output {
        /// The job.
        job: JobId,
        /// The output; empty if it is all that the job returned.
        name: &'a str,
    },
    /// The element of the list that the job is run for, or its index.
    Element,
}

impl Inputs {
    /// What flows into a new job.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its body is no specification.
    pub fn of(created: &SpecRecord) -> Result<Self, Error> {
        Ok(Self { spec: Spec::decode(created.head.id, created.body.clone())? })
    }

    /// Each: the arguments in their order, the condition, and the list.
    pub fn iter(&self) -> impl Iterator<Item = Input<'_>> {
        self.spec.inputs().map(|(into, root)| {
            let nodes = &*self.spec.message().nodes;
            let kind = match kind(nodes, root) {
                Some(value_node::Kind::Literal(payload)) => InputKind::Literal(payload),
                Some(value_node::Kind::Output(_)) => InputKind::Reference,
                Some(_) | None => InputKind::Computed,
            };
            Input { into, kind, nodes, root }
        })
    }
}

impl<'a> Input<'a> {
    /// The table of the job's value graph, and which of its nodes the input is.
    pub(super) fn graph(&self) -> (&'a [v1::ValueNode], u32) {
        (self.nodes, self.root)
    }

    /// What it is made of, each node of the value graph once, in the order in which the value reads. One after the other:
    /// there may be hundreds of thousands.
    pub fn origins(&self) -> impl Iterator<Item = Origin<'a>> + use<'a> {
        Origins {
            nodes: self.nodes,
            waiting: vec![(self.root, None)],
            steps: Vec::new(),
            met: HashSet::new(),
        }
    }
}

/// A walk of a value graph, from a value to what it is made of.
struct Origins<'a> {
    nodes: &'a [v1::ValueNode],
    /// Nodes that are still to be looked at, the next one last, each with the last step to it.
    waiting: Vec<(u32, Option<usize>)>,
    /// Steps into lists and maps, each with the one before it.
    steps: Vec<(Option<usize>, Step<'a>)>,
    met: HashSet<u32>,
}

enum Step<'a> {
    At(usize),
    Key(&'a str),
}

impl<'a> Iterator for Origins<'a> {
    type Item = Origin<'a>;

    fn next(&mut self) -> Option<Origin<'a>> {
        while let Some((node, before)) = self.waiting.pop() {
            if !self.met.insert(node) {
                continue;
            }
            let source = match kind(self.nodes, node) {
                Some(value_node::Kind::Output(output)) => match JobId::from_slice(&output.job_id) {
                    Some(job) => Source::Output { job, name: &output.name },
                    None => continue,
                },
                Some(value_node::Kind::BodyInput(_)) => Source::Element,
                Some(value_node::Kind::List(list)) => {
                    let items = list.items.iter().enumerate();
                    self.step_into(items.map(|(place, item)| (*item, Step::At(place))), before);
                    continue;
                }
                Some(value_node::Kind::Map(map)) => {
                    let entries = map.entries.iter();
                    self.step_into(entries.map(|entry| (entry.node, Step::Key(&entry.key))), before);
                    continue;
                }
                Some(value_node::Kind::Operation(operation)) => {
                    self.waiting.extend(operation.inputs.iter().rev().map(|operand| (*operand, before)));
                    continue;
                }
                Some(value_node::Kind::Literal(_)) | None => continue,
            };
            return Some(Origin { source, path: self.path(before) });
        }
        None
    }
}

impl<'a> Origins<'a> {
    fn step_into(&mut self, inner: impl DoubleEndedIterator<Item = (u32, Step<'a>)>, before: Option<usize>) {
        for (node, step) in inner.rev() {
            self.waiting.push((node, Some(self.steps.len())));
            self.steps.push((before, step));
        }
    }

    fn path(&self, last: Option<usize>) -> String {
        let before = |place: &usize| self.steps[*place].0;
        let mut places: Vec<usize> = std::iter::successors(last, before).collect();
        places.reverse();
        let mut path = String::new();
        for place in places {
            match &self.steps[place].1 {
                Step::At(index) => path.push_str(&format!("[{index}]")),
                Step::Key(key) => {
                    path.push('.');
                    path.push_str(key);
                }
            }
        }
        path
    }
}

fn kind(nodes: &[v1::ValueNode], node: u32) -> Option<&value_node::Kind> {
    nodes.get(usize::try_from(node).ok()?)?.kind.as_ref()
}

/// What a job returned, by name.
///
/// # Errors
/// [`Error::Damaged`] if the bytes are no outputs.
pub fn outputs(job: JobId, encoded: Bytes) -> Result<Vec<v1::NamedOutput>, Error> {
    Ok(v1::Outputs::from(Outputs::decode(job, encoded)?).outputs)
}

#[cfg(test)]
mod tests {
    use mycelium_core::image::JobHead;
    use prost::Message as _;

    use super::*;

    fn job(number: u8) -> JobId {
        JobId::new([number; 16])
    }

    fn output(of: u8, name: &str) -> value_node::Kind {
        let job_id = Bytes::from(vec![of; 16]);
        value_node::Kind::Output(v1::OutputRef { job_id, name: name.to_owned() })
    }

    fn list(items: &[u32]) -> value_node::Kind {
        value_node::Kind::List(v1::ListNode { items: items.to_vec() })
    }

    fn record(body: Vec<u8>) -> SpecRecord {
        SpecRecord {
            head: JobHead::default(),
            digest: Default::default(),
            depends_on: Vec::new(),
            evaluate: false,
            gathered_by: None,
            begins_at: None,
            body: body.into(),
        }
    }

    fn spec(nodes: Vec<value_node::Kind>, arguments: &[(&str, u32)]) -> v1::JobSpec {
        let argument = |(parameter, node): &(&str, u32)| v1::Argument {
            parameter: (*parameter).to_owned(),
            node: *node,
        };
        v1::JobSpec {
            nodes: nodes.into_iter().map(|kind| v1::ValueNode { kind: Some(kind) }).collect(),
            arguments: arguments.iter().map(argument).collect(),
            ..v1::JobSpec::default()
        }
    }

    fn origin<'a>(of: u8, name: &'a str, path: &str) -> Origin<'a> {
        Origin { source: Source::Output { job: job(of), name }, path: path.to_owned() }
    }

    #[test]
    fn inputs_tell_what_they_are_and_what_they_come_from() {
        let literal = v1::Payload::default();
        let entry = |key: &str, node| v1::MapEntry { key: key.to_owned(), node };
        let nodes = vec![
            value_node::Kind::Literal(literal.clone()),
            output(1, "a"),
            output(2, ""),
            list(&[1, 0, 2]),
            value_node::Kind::Map(v1::MapNode { entries: vec![entry("b", 2), entry("c", 3)] }),
            value_node::Kind::Operation(v1::Operation { inputs: vec![2, 1], ..v1::Operation::default() }),
            value_node::Kind::BodyInput(0),
            list(&[5, 6]),
        ];
        let arguments = [("literal", 0), ("reference", 1), ("map", 4), ("list", 7)];
        let spec = v1::JobSpec {
            run_if: Some(5),
            for_each: Some(v1::ForEach { list: 2 }),
            ..spec(nodes, &arguments)
        };
        let inputs = Inputs::of(&record(spec.encode_to_vec())).unwrap();
        let inputs: Vec<(Destination<'_>, InputKind<'_>, Vec<Origin<'_>>)> =
            inputs.iter().map(|input| (input.into, input.kind, input.origins().collect())).collect();
        let element = Origin { source: Source::Element, path: "[1]".to_owned() };
        let expected = [
            (Destination::Parameter("literal"), InputKind::Literal(&literal), vec![]),
            (Destination::Parameter("reference"), InputKind::Reference, vec![origin(1, "a", "")]),
            // The second is met first as the value reads, and once.
            (
                Destination::Parameter("map"),
                InputKind::Computed,
                vec![origin(2, "", ".b"), origin(1, "a", ".c[0]")],
            ),
            (
                Destination::Parameter("list"),
                InputKind::Computed,
                vec![origin(2, "", "[0]"), origin(1, "a", "[0]"), element],
            ),
            (Destination::Condition, InputKind::Computed, vec![origin(2, "", ""), origin(1, "a", "")]),
            (Destination::List, InputKind::Reference, vec![origin(2, "", "")]),
        ];
        assert_eq!(inputs, expected);
    }

    #[test]
    fn a_graph_that_shares_its_nodes_is_walked_once() {
        // Read out it would have 2^100 items.
        let nodes = std::iter::once(output(1, "")).chain((0..100).map(|inner| list(&[inner, inner])));
        let inputs = Inputs::of(&record(spec(nodes.collect(), &[("x", 100)]).encode_to_vec())).unwrap();
        let origins: Vec<Origin<'_>> = inputs.iter().flat_map(|input| input.origins()).collect();
        assert_eq!(origins, [origin(1, "", &"[0]".repeat(100))]);
    }

    #[test]
    fn bytes_that_are_no_specification_are_damaged() {
        assert!(Inputs::of(&record(vec![0xff])).unwrap_err().is_damage());
        assert!(outputs(job(1), Bytes::from_static(&[0xff])).unwrap_err().is_damage());
        let named = v1::NamedOutput { name: "a".to_owned(), payload: None };
        let encoded = v1::Outputs { outputs: vec![named.clone()] }.encode_to_vec();
        assert_eq!(outputs(job(1), encoded.into()).unwrap(), [named]);
    }
}
