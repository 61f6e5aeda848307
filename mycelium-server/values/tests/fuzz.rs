//! Whatever bytes are taken for a value graph, checking and computing it ends, within its limits and without a panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bytes::Bytes;
use mycelium_proto::v1::{self, value_node};
use mycelium_values::vector::check_nodes;
use mycelium_values::{Failure, Limits, Operation, Outputs, evaluate};
use proptest::prelude::*;
use prost::Message as _;

const SMALL: Limits = Limits { steps: 20_000, memory_bytes: 1 << 20, value_bytes: 1 << 16, depth: 16 };

struct Anything;

impl Outputs for Anything {
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure> {
        match output.name.as_str() {
            "missing" => Err(Failure::invalid("there is none")),
            name => Ok(Bytes::from(serde_json::to_vec(name).unwrap())),
        }
    }

    fn blob(&self, _blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        Err(Failure::invalid("there is none"))
    }
}

/// Computes every node. What a sound graph gives is JSON of the length that was computed for it.
fn compute(nodes: &[v1::ValueNode]) {
    let wanted: Vec<u32> = (0..nodes.len()).map(|node| u32::try_from(node).unwrap()).collect();
    let is_sound = check_nodes(nodes).is_ok();
    for node in &wanted {
        match evaluate(nodes, &[*node], &Anything, SMALL) {
            Ok(values) if is_sound => {
                let json = values[0].to_json();
                assert_eq!(json.len(), values[0].encoded_len());
                let text = std::str::from_utf8(&json).expect("sound graphs give UTF-8");
                serde_json::from_str::<serde::de::IgnoredAny>(text).expect("sound graphs give JSON");
            }
            Ok(_) => {}
            Err(error) => assert!(error.to_string().len() < 2_000, "messages are cut: {error}"),
        }
    }
}

fn literal() -> impl Strategy<Value = value_node::Kind> {
    let json = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        any::<i64>().prop_map(|int| int.to_string()),
        (-3i64..4).prop_map(|int| int.to_string()),
        any::<u64>().prop_map(|int| int.to_string()),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |float| float.is_finite())
            .prop_map(|f| format!("{f:?}")),
        "[a-z \\\\\"\u{e4}\u{1f41d}]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#"[1,2.5,"a",null,[1],{"a":1}]"#.to_owned()),
        Just(r#"[3,1,2,1]"#.to_owned()),
        Just(r#"["b","a"]"#.to_owned()),
        Just(r#"{"a":1,"b":[1,2]}"#.to_owned()),
        Just(r#"[["a",1],["b",2]]"#.to_owned()),
        Just("123456789012345678901234567890".to_owned()),
    ];
    json.prop_map(|json| {
        value_node::Kind::Literal(v1::Payload {
            encoding: String::new(),
            content: Some(v1::payload::Content::Inline(Bytes::from(json))),
        })
    })
}

/// One node of a table that has `before` nodes before it; indexes may be wrong now and then.
fn node(before: u32, depth: u32) -> BoxedStrategy<v1::ValueNode> {
    let index = move || 0..before.max(1) + u32::from(before % 7 == 6);
    let names: Vec<&'static str> = Operation::all().map(|operation| operation.name).collect();
    let operation = (
        proptest::sample::select(names),
        proptest::collection::vec(index(), 0..5),
        if depth == 0 { Just(None).boxed() } else { proptest::option::of(body(depth - 1)).boxed() },
    )
        .prop_map(|(name, inputs, body)| {
            // Without bodies where they belong hardly any graph would be sound.
            let takes = Operation::find(name).is_some_and(|operation| operation.body.is_some());
            let body = if takes { body } else { None };
            value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body })
        });
    let kind = prop_oneof![
        4 => literal(),
        1 => "[a-z]{0,3}|missing".prop_map(|name| value_node::Kind::Output(v1::OutputRef {
            job_id: Bytes::from_static(&[1; 16]),
            name,
        })),
        1 => proptest::collection::vec(index(), 0..4)
            .prop_map(|items| value_node::Kind::List(v1::ListNode { items })),
        1 => proptest::collection::btree_map("[a-c]", index(), 0..3).prop_map(|entries| {
            let entries = entries.into_iter().map(|(key, node)| v1::MapEntry { key, node });
            value_node::Kind::Map(v1::MapNode { entries: entries.collect() })
        }),
        6 => operation,
        u32::from(depth < 2) => (0u32..3).prop_map(value_node::Kind::BodyInput),
    ];
    kind.prop_map(|kind| v1::ValueNode { kind: Some(kind) }).boxed()
}

fn table(depth: u32, most: u32) -> BoxedStrategy<Vec<v1::ValueNode>> {
    (1..most).prop_flat_map(move |n| (0..n).map(|before| node(before, depth)).collect::<Vec<_>>()).boxed()
}

fn body(depth: u32) -> BoxedStrategy<v1::OperationBody> {
    table(depth, 4)
        .prop_map(|nodes| v1::OperationBody { result: u32::try_from(nodes.len() - 1).unwrap(), nodes })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn graphs_are_computed_within_their_limits(nodes in table(2, 10)) {
        compute(&nodes);
    }

    #[test]
    fn bytes_are_read_and_computed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(spec) = v1::JobSpec::decode(bytes.as_slice()) {
            compute(&spec.nodes);
        }
    }

    #[test]
    fn damaged_graphs_are_read_and_computed_or_refused(
        nodes in table(2, 8),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = v1::JobSpec { nodes, ..v1::JobSpec::default() }.encode_to_vec();
        for (place, byte) in damage {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        if let Ok(spec) = v1::JobSpec::decode(bytes.as_slice()) {
            compute(&spec.nodes);
        }
    }
}
