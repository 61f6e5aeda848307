//! Whatever comes as a specification is refused or taken; what is taken can be followed, drawn and decided on.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, payload, value_node};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use prost::Message as _;

use super::testing::NoBlobs;
use super::{check_spec, decide, jobs_computed, jobs_named};
use crate::documents::Spec;

const JSON: [&str; 9] = ["null", "true", "3", "-0.5", "\"a\"", "[1,2,3]", "{\"a\":1}", "[]", "0"];

fn literal() -> impl Strategy<Value = value_node::Kind> {
    let json = prop::sample::select(JSON.to_vec());
    json.prop_map(|json| {
        let content = payload::Content::Inline(Bytes::from_static(json.as_bytes()));
        value_node::Kind::Literal(v1::Payload { encoding: String::new(), content: Some(content) })
    })
}

/// A node that refers to nodes before it; the first, if at all, to itself.
fn node(before: u32, depth: u32) -> BoxedStrategy<v1::ValueNode> {
    let index = move || 0..before + u32::from(before == 0);
    // What each is called, how many operands it takes, and whether it has a body. One is none.
    const OPERATIONS: [(&str, usize, bool); 8] = [
        ("equal", 2, false),
        ("type_of", 1, false),
        ("select", 3, false),
        ("add", 2, false),
        ("length", 1, false),
        ("list.map", 1, true),
        ("list.reduce", 2, true),
        ("nothing.like.it", 0, false),
    ];
    let bodies = if depth > 0 { table(depth - 1, 4) } else { Just(Vec::new()).boxed() };
    let operation = (prop::sample::select(&OPERATIONS[..]), prop::collection::vec(index(), 4), bodies);
    let operation = operation.prop_map(|((name, arity, has_body), mut inputs, nodes)| {
        inputs.truncate(arity);
        let result = (nodes.len() as u32).saturating_sub(1);
        let body = has_body.then_some(v1::OperationBody { result, nodes });
        value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body })
    });
    let output = (0u8..4).prop_map(|job| {
        let job_id = Bytes::copy_from_slice(&[job; 16]);
        value_node::Kind::Output(v1::OutputRef { job_id, name: "n".to_owned() })
    });
    let list =
        prop::collection::vec(index(), 0..4).prop_map(|items| value_node::Kind::List(v1::ListNode { items }));
    let kind = prop_oneof![
        3 => literal(),
        2 => output,
        1 => list,
        3 => operation,
        u32::from(depth < 2) => (0u32..2).prop_map(value_node::Kind::BodyInput),
    ];
    kind.prop_map(|kind| v1::ValueNode { kind: Some(kind) }).boxed()
}

fn table(depth: u32, most: u32) -> BoxedStrategy<Vec<v1::ValueNode>> {
    (1..most).prop_flat_map(move |n| (0..n).map(|before| node(before, depth)).collect::<Vec<_>>()).boxed()
}

fn spec() -> impl Strategy<Value = v1::JobSpec> {
    let root = || prop::option::weighted(0.2, any::<prop::sample::Index>());
    let roots = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (table(2, 7), roots, root(), root(), prop::bool::weighted(0.95)).prop_map(
        |(nodes, arguments, run_if, list, is_versioned)| {
            let place = |root: prop::sample::Index| root.index(nodes.len()) as u32;
            let is_operation =
                |node: &v1::ValueNode| matches!(node.kind, Some(value_node::Kind::Operation(_)));
            v1::JobSpec {
                job_id: Bytes::from_static(&[9; 16]),
                elf: "scale".to_owned(),
                task: "task_weigh".to_owned(),
                arguments: arguments
                    .into_iter()
                    .zip(["a", "b", "c"])
                    .map(|(root, parameter)| v1::Argument {
                        parameter: parameter.to_owned(),
                        node: place(root),
                    })
                    .collect(),
                run_if: run_if.map(place),
                for_each: list.map(|list| v1::ForEach { list: place(list) }),
                operations_version: u32::from(nodes.iter().any(is_operation) == is_versioned),
                nodes,
                ..v1::JobSpec::default()
            }
        },
    )
}

/// Checks it, and does with one that is taken what the broker does. Says whether it was taken.
fn take(spec: v1::JobSpec) -> bool {
    let checked = match check_spec(&spec) {
        Ok(checked) => checked,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "messages are cut: {error}");
            return false;
        }
    };
    // It waits for every job whose outputs it may need.
    let mut named = jobs_named(&spec);
    named.extend(jobs_computed(&spec, &HashSet::new()));
    let depends_on: HashSet<_> = checked.depends_on.iter().copied().collect();
    assert!(named.is_subset(&depends_on), "{named:?} of {:?}", checked.depends_on);
    assert!(depends_on.len() == checked.depends_on.len() && !depends_on.contains(&checked.id));

    let outputs = HashMap::new();
    let _decided = decide(&spec, &outputs, &HashSet::new(), &NoBlobs);
    let arguments = spec.arguments.clone();
    let mut stored = Spec::from(spec);
    let _drawn = (stored.edges(), stored.list_edges());
    for argument in arguments {
        let _made_of = stored.tracer().made_of(argument.node);
        let _shown = stored.preview(&outputs, &argument.parameter, argument.node, &NoBlobs);
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn specifications_are_refused_or_can_be_worked_with(spec in spec()) {
        take(spec);
    }

    #[test]
    fn damaged_specifications_are_refused_or_can_be_worked_with(
        spec in spec(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = spec.encode_to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(spec) = Spec::decode(JobId::default(), bytes.into()) {
            take(spec.into());
        }
    }
}

#[test]
fn a_good_part_of_them_is_taken() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let taken = (0..500).filter(|_| take(spec().new_tree(&mut runner).unwrap().current())).count();
    assert!((50..450).contains(&taken), "{taken} of 500");
}
