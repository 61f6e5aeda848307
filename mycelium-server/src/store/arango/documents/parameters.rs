//! What flows into a job, for people: a document for each argument, for the condition, and for the list that a job is run
//! over, with its value graph, and an edge from it to each result it is made of. Nothing here is read back: the broker
//! reads the specification itself.

use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, value_node};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::key;
use super::text::Text;
use super::values::{Shown, result_key};
use crate::store::indexed::{Destination, Input, InputKind, Origin, Source};

/// So many nodes of a value graph are shown, each once.
const NODES_MAX: usize = 1_000;
/// Larger literals within a value graph are not shown, in bytes: they can be deep, too.
const LITERAL_BYTES_MAX: usize = 1_024;
/// So deep are bodies of operations shown in each other.
const BODIES_MAX: usize = 8;

/// A document of Parameters.
#[derive(Debug, Serialize)]
pub(in super::super) struct ParameterDocument<'a> {
    #[serde(rename = "_key")]
    pub(in super::super) key: String,
    pub(in super::super) job: Text<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) name: Option<&'a str>,
    role: Role,
    kind: Kind,
    #[serde(flatten)]
    shown: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Nodes<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Argument,
    Condition,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Literal,
    Reference,
    Computed,
}

impl<'a> ParameterDocument<'a> {
    /// Of an input of a job.
    pub(in super::super) fn of(job: JobId, input: &Input<'a>) -> Self {
        let (key, name, role) = match input.into {
            Destination::Parameter(name) => {
                (key::join(&[&job, &key::of_name(name)]), Some(name), Role::Argument)
            }
            Destination::Condition => (format!("{job}!condition"), None, Role::Condition),
            Destination::List => (format!("{job}!list"), None, Role::List),
        };
        let (kind, shown) = match input.kind {
            InputKind::Literal(payload) => (Kind::Literal, Some(Shown::for_people(payload))),
            InputKind::Reference => (Kind::Reference, None),
            InputKind::Computed => (Kind::Computed, None),
        };
        let (table, root) = input.graph();
        let nodes = (kind != Kind::Literal).then_some(Nodes { table, root, bodies: 0 });
        Self { key, job: Text(job), name, role, kind, shown, nodes }
    }
}

/// An edge of ParameterOrigins.
#[derive(Debug, Serialize)]
pub(in super::super) struct OriginEdge<'a> {
    #[serde(rename = "_key")]
    key: String,
    #[serde(rename = "_from")]
    from: String,
    #[serde(rename = "_to")]
    to: String,
    /// The output; not there if it is all that the job returned.
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    /// Where in the parameter it stands.
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
}

/// The edges from a parameter to the results it is made of, or to the job where all that it returned is meant: which
/// results that will be is not known when a job is submitted.
pub(in super::super) fn origins<'a>(
    parameter: &str,
    input: &Input<'a>,
) -> impl Iterator<Item = OriginEdge<'a>> {
    let edge = move |(place, Origin { source, path }): (usize, Origin<'a>)| {
        let Source::Output { job, name } = source else { return None };
        let to = match name {
            "" => format!("Jobs/{job}"),
            name => format!("Results/{}", result_key(job, Some(name))),
        };
        Some(OriginEdge {
            key: key::join(&[&parameter, &place]),
            from: format!("Parameters/{parameter}"),
            to,
            name,
            path,
        })
    };
    input.origins().enumerate().filter_map(edge)
}

/// The value graph of a parameter: its nodes, each with its number in the job's table, those it is made of before it.
#[derive(Debug, Clone, Copy)]
struct Nodes<'a> {
    table: &'a [v1::ValueNode],
    root: u32,
    bodies: usize,
}

impl<'a> Nodes<'a> {
    /// The numbers of the nodes that the root is made of, upwards: nodes refer to earlier ones only.
    fn numbers(&self) -> Vec<u32> {
        let mut numbers = std::collections::BTreeSet::from([self.root]);
        let mut next = self.root.checked_add(1);
        // Downwards from the root, each node adds those it refers to, which are below it.
        while let Some(above) = next
            && numbers.len() < NODES_MAX
        {
            let Some(number) = numbers.range(..above).next_back().copied() else { break };
            next = Some(number);
            self.each_operand(number, |operand| {
                if operand < number && numbers.len() < NODES_MAX {
                    numbers.insert(operand);
                }
            });
        }
        numbers.into_iter().collect()
    }

    fn kind(&self, number: u32) -> Option<&'a value_node::Kind> {
        self.table.get(usize::try_from(number).ok()?)?.kind.as_ref()
    }

    fn each_operand(&self, number: u32, mut each: impl FnMut(u32)) {
        match self.kind(number) {
            Some(value_node::Kind::List(list)) => list.items.iter().copied().for_each(each),
            Some(value_node::Kind::Map(map)) => map.entries.iter().for_each(|entry| each(entry.node)),
            Some(value_node::Kind::Operation(operation)) => operation.inputs.iter().copied().for_each(each),
            Some(
                value_node::Kind::Literal(_) | value_node::Kind::Output(_) | value_node::Kind::BodyInput(_),
            )
            | None => {}
        }
    }
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes = self.numbers().into_iter();
        serializer.collect_seq(nodes.map(|number| Node { graph: self, number }))
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    graph: &'a Nodes<'a>,
    number: u32,
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            key: &'a str,
            node: u32,
        }
        let mut node = serializer.serialize_map(None)?;
        node.serialize_entry("node", &self.number)?;
        match self.graph.kind(self.number) {
            Some(value_node::Kind::Literal(payload)) => match shown_within(payload) {
                Some(shown) => node.serialize_entry("literal", &shown)?,
                None => node.serialize_entry("literal_left_out", &true)?,
            },
            Some(value_node::Kind::Output(output)) => {
                if let Some(job) = JobId::from_slice(&output.job_id) {
                    node.serialize_entry("job", &Text(job))?;
                }
                node.serialize_entry("output", &output.name)?;
            }
            Some(value_node::Kind::List(list)) => node.serialize_entry("list", &list.items)?,
            Some(value_node::Kind::Map(map)) => {
                let entries = map.entries.iter().map(|entry| Entry { key: &entry.key, node: entry.node });
                node.serialize_entry("map", &entries.collect::<Vec<_>>())?;
            }
            Some(value_node::Kind::Operation(operation)) => {
                node.serialize_entry("operation", &operation.name)?;
                node.serialize_entry("inputs", &operation.inputs)?;
                if let Some(body) = &operation.body
                    && self.graph.bodies < BODIES_MAX
                {
                    let bodies = self.graph.bodies + 1;
                    node.serialize_entry("body", &Nodes { table: &body.nodes, root: body.result, bodies })?;
                }
            }
            Some(value_node::Kind::BodyInput(number)) => node.serialize_entry("body_input", number)?,
            None => {}
        }
        node.end()
    }
}

/// A literal within a value graph, if it is small.
fn shown_within(payload: &v1::Payload) -> Option<Shown<'_>> {
    let bytes = match &payload.content {
        Some(v1::payload::Content::Inline(bytes)) => bytes.len(),
        Some(v1::payload::Content::Blob(_)) | None => 0,
    };
    // What is so small may still be too deep to stand in a graph.
    let is_flat = |bytes: &[u8]| bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= 16;
    match &payload.content {
        Some(v1::payload::Content::Inline(inline)) if !is_flat(inline) => None,
        _ => (bytes <= LITERAL_BYTES_MAX).then(|| Shown::for_people(payload)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mycelium_core::image::JobHead;
    use prost::Message as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::SpecRecord;
    use crate::store::indexed::Inputs;

    fn literal(text: &str) -> value_node::Kind {
        let content = Some(v1::payload::Content::Inline(Bytes::copy_from_slice(text.as_bytes())));
        value_node::Kind::Literal(v1::Payload { encoding: String::new(), content })
    }

    fn output(of: u8, name: &str) -> value_node::Kind {
        value_node::Kind::Output(v1::OutputRef { job_id: Bytes::from(vec![of; 16]), name: name.to_owned() })
    }

    fn operation(name: &str, inputs: &[u32], body: Option<v1::OperationBody>) -> value_node::Kind {
        value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs: inputs.to_vec(), body })
    }

    /// The documents and edges of a job with these nodes, of which each argument names one.
    fn documents(nodes: Vec<value_node::Kind>, arguments: &[(&str, u32)]) -> (Vec<Value>, Vec<Value>) {
        let argument = |(parameter, node): &(&str, u32)| v1::Argument {
            parameter: (*parameter).to_owned(),
            node: *node,
        };
        let spec = v1::JobSpec {
            nodes: nodes.into_iter().map(|kind| v1::ValueNode { kind: Some(kind) }).collect(),
            arguments: arguments.iter().map(argument).collect(),
            ..v1::JobSpec::default()
        };
        let record = SpecRecord {
            head: JobHead::default(),
            digest: Default::default(),
            depends_on: Vec::new(),
            evaluate: false,
            gathered_by: None,
            begins_at: None,
            body: Bytes::from(spec.encode_to_vec()),
        };
        let inputs = Inputs::of(&record).unwrap();
        let (mut documents, mut edges) = (Vec::new(), Vec::new());
        for input in inputs.iter() {
            let document = ParameterDocument::of(JobId::new([9; 16]), &input);
            edges.extend(origins(&document.key, &input).map(|edge| serde_json::to_value(edge).unwrap()));
            documents.push(serde_json::to_value(document).unwrap());
        }
        (documents, edges)
    }

    #[test]
    fn a_parameter_shows_its_value_or_the_graph_of_it_and_leads_to_its_origins() {
        let body = v1::OperationBody {
            nodes: vec![
                v1::ValueNode { kind: Some(value_node::Kind::BodyInput(0)) },
                v1::ValueNode { kind: Some(literal("2")) },
                v1::ValueNode { kind: Some(operation("multiply", &[0, 1], None)) },
            ],
            result: 2,
        };
        let nodes = vec![
            literal("{\"a\":1.0}"),
            output(1, "weights"),
            output(2, ""),
            operation("list.map", &[1], Some(body)),
            value_node::Kind::List(v1::ListNode { items: vec![3, 2] }),
            literal("5"),
        ];
        let (documents, edges) = documents(nodes, &[("plain", 0), ("whole", 2), ("all", 4)]);
        let job = JobId::new([9; 16]).to_string();
        assert_eq!(
            documents[0],
            json!({"_key": format!("{job}.plain"), "job": job, "name": "plain", "role": "argument", "kind": "literal",
                "value": {"a": 1.0}})
        );
        assert_eq!(documents[1]["kind"], "reference");
        let (one, two) = (JobId::new([1; 16]).to_string(), JobId::new([2; 16]).to_string());
        assert_eq!(documents[1]["nodes"], json!([{"node": 2, "job": two, "output": ""}]));
        assert_eq!(documents[2]["kind"], "computed");
        assert_eq!(
            documents[2]["nodes"],
            json!([
                {"node": 1, "job": one, "output": "weights"},
                {"node": 2, "job": two, "output": ""},
                {"node": 3, "operation": "list.map", "inputs": [1], "body": [
                    {"node": 0, "body_input": 0},
                    {"node": 1, "literal": {"value": 2}},
                    {"node": 2, "operation": "multiply", "inputs": [0, 1]},
                ]},
                {"node": 4, "list": [3, 2]},
            ]),
            "and not the node that it has nothing of"
        );
        let ends: Vec<_> = edges.iter().map(|edge| (edge["_from"].clone(), edge["_to"].clone())).collect();
        assert_eq!(
            ends,
            [
                (json!(format!("Parameters/{job}.whole")), json!(format!("Jobs/{two}"))),
                (json!(format!("Parameters/{job}.all")), json!(format!("Results/{one}.weights"))),
                (json!(format!("Parameters/{job}.all")), json!(format!("Jobs/{two}"))),
            ]
        );
        assert_eq!((&edges[2]["path"], edges[2].get("name")), (&json!("[1]"), None));
    }

    #[test]
    fn a_value_graph_is_shown_as_far_as_it_is_small() {
        let many = u32::try_from(NODES_MAX).unwrap() + 500;
        let mut nodes: Vec<_> = (0..many).map(|number| literal(&number.to_string())).collect();
        nodes.push(value_node::Kind::List(v1::ListNode { items: (0..many).collect() }));
        nodes.push(literal(&format!("\"{}\"", "x".repeat(LITERAL_BYTES_MAX))));
        nodes.push(literal(&format!("{}{}", "[".repeat(60), "]".repeat(60))));
        nodes.push(value_node::Kind::List(v1::ListNode { items: vec![many + 1, many + 2] }));
        let (documents, edges) = documents(nodes, &[("long", many), ("large", many + 3)]);
        assert_eq!((documents[0]["nodes"].as_array().unwrap().len(), edges.len()), (NODES_MAX, 0));
        let large = documents[1]["nodes"].as_array().unwrap();
        assert!(large[..2].iter().all(|node| node["literal_left_out"] == true), "{large:?}");
    }
}
