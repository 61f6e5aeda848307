//! What the fuzz targets share: graphs that are made from bytes, and what must be true of each.

use bytes::Bytes;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::vector::check_nodes;
use mycelium_values::{ErrorKind, Failure, Limits, Operation, Outputs, evaluate};

/// Small, so that a graph that takes more is found in milliseconds.
const SMALL: Limits = Limits { steps: 20_000, memory_bytes: 1 << 20, value_bytes: 1 << 16, depth: 16 };
/// The most nodes of a table.
const NODES_MAX: u8 = 12;
/// The most bodies in each other.
const BODIES_MAX: u8 = 3;
/// The most nodes that are computed of one graph.
const COMPUTED_MAX: usize = 64;

/// Literals that operations have a use for.
const LITERALS: [&str; 24] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "1e300",
    "0.5",
    "-0.0",
    "9223372036854775807",
    "18446744073709551615",
    "-9223372036854775808",
    "123456789012345678901234567890",
    r#""""#,
    r#""a""#,
    r#""\u00e4 \"b\" \ud83d\udc1d""#,
    "[]",
    "[3,1,2,1]",
    r#"["b","a"]"#,
    r#"[[1,2.5],"a",null,{"a":[1]}]"#,
    "{}",
    r#"{"a":1,"b":[1,2]}"#,
    r#"[["a",1],["b",2]]"#,
];

/// Every job returns its output's name, or all literals at once.
struct Anything;

impl Outputs for Anything {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure> {
        match output.name.as_str() {
            "missing" => Err(Failure::invalid("there is none")),
            "" => Ok(Bytes::from(format!("[{}]", LITERALS.join(",")))),
            name => serde_json::to_vec(name).map(Bytes::from).map_err(|error| Failure::invalid(error.to_string())),
        }
    }

    fn blob(&self, _blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        Err(Failure::invalid("there is none"))
    }
}

/// Computes each node by itself.
///
/// # Panics
/// If something is not as it must be: that is what a fuzzer looks for.
pub fn compute(nodes: &[v1::ValueNode], is_sound: bool) {
    for node in (0..u32::try_from(nodes.len()).unwrap_or(u32::MAX)).rev().take(COMPUTED_MAX) {
        match evaluate(nodes, &[node], &Anything, SMALL) {
            Ok(values) if is_sound => {
                assert_eq!(values.len(), 1);
                let json = values[0].to_json();
                assert_eq!(json.len(), values[0].encoded_len(), "the length is known before it is written");
                let text = std::str::from_utf8(&json).expect("sound graphs give UTF-8");
                serde_json::from_str::<serde::de::IgnoredAny>(text).expect("sound graphs give JSON");
                let again = evaluate(nodes, &[node], &Anything, SMALL).expect("the same graph, the same result");
                assert_eq!(again[0].to_json(), json, "the same graph, the same result");
            }
            Ok(_) => {}
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 2_000, "messages are cut: {text}");
                assert!(
                    !is_sound || error.failure.kind != ErrorKind::InvalidValue || !text.contains("malformed"),
                    "a graph that passed the check is none that is malformed: {text}"
                );
            }
        }
    }
}

/// Bytes that are read as choices.
pub struct Recipe<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Recipe<'a> {
    /// From bytes of any origin.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    /// A value graph that passes the check.
    pub fn graph(&mut self) -> Vec<v1::ValueNode> {
        self.table(0, None)
    }

    /// 0 when the bytes are used up.
    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// The nodes of a table: of a job, or of a body that has so many inputs.
    fn table(&mut self, depth: u8, inputs: Option<usize>) -> Vec<v1::ValueNode> {
        let wanted = 1 + usize::from(self.byte() % NODES_MAX);
        let mut nodes: Vec<v1::ValueNode> = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            let kind = self.kind(nodes.len(), depth, inputs);
            nodes.push(v1::ValueNode { kind: Some(kind) });
            // Types that cannot fit are refused, and the node is left out. A body is checked with its operation.
            if inputs.is_none() && check_nodes(&nodes).is_err() {
                nodes.pop();
            }
        }
        if nodes.is_empty() {
            nodes.push(v1::ValueNode { kind: Some(literal("null")) });
        }
        nodes
    }

    fn kind(&mut self, before: usize, depth: u8, inputs: Option<usize>) -> value_node::Kind {
        match (self.byte() % 8, before, inputs) {
            (0, _, _) | (2.., 0, None) => literal(LITERALS[self.below(LITERALS.len())]),
            (1, _, None) => {
                let name = ["", "a", "missing"][self.below(3)].to_owned();
                value_node::Kind::Output(v1::OutputRef { job_id: Bytes::from_static(&[1; 16]), name })
            }
            (1, _, Some(inputs)) | (2.., 0, Some(inputs)) => {
                let input = if inputs == 0 { 0 } else { self.below(inputs) };
                value_node::Kind::BodyInput(u32::try_from(input).unwrap_or(0))
            }
            (2, _, _) => value_node::Kind::List(v1::ListNode { items: self.indexes(before, 4) }),
            (3, _, _) => {
                let keys = ["a", "b", "\u{e4}\""];
                let entries = keys.iter().zip(self.indexes(before, keys.len()));
                let entries = entries.map(|(key, node)| v1::MapEntry { key: (*key).to_owned(), node });
                value_node::Kind::Map(v1::MapNode { entries: entries.collect() })
            }
            _ => value_node::Kind::Operation(self.operation(before, depth)),
        }
    }

    /// Up to `most` indexes of earlier nodes.
    fn indexes(&mut self, before: usize, most: usize) -> Vec<u32> {
        let count = self.below(most + 1);
        (0..count).map(|_| u32::try_from(self.below(before)).unwrap_or(0)).collect()
    }

    fn operation(&mut self, before: usize, depth: u8) -> v1::Operation {
        let all: Vec<&Operation> = Operation::all().collect();
        let known = all[usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % all.len()];
        let count = known.operands_min() + self.below(3);
        let inputs = (0..count).map(|_| u32::try_from(self.below(before)).unwrap_or(0)).collect();
        let body = known.body.filter(|_| depth < BODIES_MAX).map(|shape| {
            let captured = count.saturating_sub(known.parameters.len());
            let nodes = self.table(depth + 1, Some(shape.inputs.len() + captured));
            v1::OperationBody { result: u32::try_from(nodes.len() - 1).unwrap_or(0), nodes }
        });
        v1::Operation { name: known.name.to_owned(), inputs, body }
    }
}

fn literal(json: &'static str) -> value_node::Kind {
    value_node::Kind::Literal(v1::Payload {
        encoding: String::new(),
        content: Some(payload::Content::Inline(Bytes::from_static(json.as_bytes()))),
    })
}
