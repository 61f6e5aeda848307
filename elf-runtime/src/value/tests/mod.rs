//! What operations record. The graph of a value is written as `add(n, 2)`: outputs of jobs by their names, what
//! bodies are given as `$0`, `$1`..., bodies after a semicolon.

mod bodies;
mod chains;
mod collections;
mod scalars;
mod shown;

use std::borrow::Cow;
use std::collections::BTreeMap;

use mycelium_proto::v1;
use v1::value_node::Kind;

use super::node::Node;
use super::payload::Payload;
use super::{Flattened, Value, flatten};
use crate::flow::Flow;
use crate::output::Output;
use crate::{Output as DeriveOutput, args};

#[derive(DeriveOutput, serde::Serialize, serde::Deserialize)]
struct Measurement {
    species: String,
    weight: i64,
}

/// Outputs of a job that has not run.
struct Outputs {
    i: Value<i64>,
    j: Value<i64>,
    f: Value<f64>,
    s: Value<String>,
    b: Value<bool>,
    c: Value<bool>,
    o: Value<Option<i64>>,
    xs: Value<Vec<i64>>,
    ys: Value<Vec<i64>>,
    words: Value<Vec<String>>,
    m: Value<BTreeMap<String, i64>>,
    any: Value<serde_json::Value>,
    animals: Value<Vec<Measurement>>,
}

fn outputs() -> Outputs {
    let flow = Flow::detached("tests");
    let job = flow.call("zoo", "task_all", args! {});
    Outputs {
        i: job.output("i").typed(),
        j: job.output("j").typed(),
        f: job.output("f").typed(),
        s: job.output("s").typed(),
        b: job.output("b").typed(),
        c: job.output("c").typed(),
        o: job.output("o").typed(),
        xs: job.output("xs").typed(),
        ys: job.output("ys").typed(),
        words: job.output("words").typed(),
        m: job.output("m").typed(),
        any: job.output("any"),
        animals: job.output("animals").typed(),
    }
}

fn flat<T: Output>(value: &Value<T>) -> Result<Flattened, String> {
    let arguments = [(Cow::Borrowed("x"), value.node().clone())];
    flatten(&arguments, None, |_| {}).map_err(|(_, problem)| problem.to_string())
}

/// The graph of a value as it travels.
fn wire<T: Output>(value: &Value<T>) -> String {
    let flat = flat(value).unwrap();
    written(&flat.nodes, flat.arguments[0].node)
}

fn written(nodes: &[v1::ValueNode], place: u32) -> String {
    let all = |places: &[u32]| {
        assert!(places.iter().all(|below| *below < place), "nodes come after those they refer to");
        places.iter().map(|place| written(nodes, *place)).collect::<Vec<_>>().join(", ")
    };
    match nodes[place as usize].kind.as_ref().unwrap() {
        Kind::Literal(payload) => match &payload.content {
            Some(v1::payload::Content::Inline(bytes)) => {
                Payload::from_wire(payload.encoding.clone(), bytes.clone()).to_string()
            }
            Some(v1::payload::Content::Blob(blob)) => format!("<blob of {} bytes>", blob.size),
            None => panic!("a literal without content"),
        },
        Kind::Output(output) => output.name.clone(),
        Kind::List(list) => format!("[{}]", all(&list.items)),
        Kind::Map(map) => {
            let entry = |entry: &v1::MapEntry| format!("{}: {}", entry.key, all(&[entry.node]));
            format!("{{{}}}", map.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Kind::BodyInput(index) => format!("${index}"),
        Kind::Operation(operation) => {
            let body = operation.body.as_ref();
            let body =
                body.map_or_else(String::new, |body| format!("; {}", written(&body.nodes, body.result)));
            format!("{}({}{body})", operation.name, all(&operation.inputs))
        }
    }
}

/// Compares graphs: `value => "graph"`.
macro_rules! graphs {
    ($($value:expr => $graph:expr;)*) => {
        $(assert_eq!($crate::value::tests::wire(&$value), $graph, "{}", stringify!($value));)*
    };
}
use graphs;

fn node_count<T: Output>(value: &Value<T>) -> usize {
    flat(value).unwrap().nodes.len()
}

fn _nodes_are_shared_between_threads(node: Node) -> impl Send + Sync {
    node
}
