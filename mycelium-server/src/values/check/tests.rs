use bytes::Bytes;

use super::*;

fn literal(json: &str) -> v1::ValueNode {
    node(value_node::Kind::Literal(v1::Payload {
        encoding: String::new(),
        content: Some(payload::Content::Inline(Bytes::copy_from_slice(json.as_bytes()))),
    }))
}

fn node(kind: value_node::Kind) -> v1::ValueNode {
    v1::ValueNode { kind: Some(kind) }
}

fn list(items: Vec<u32>) -> v1::ValueNode {
    node(value_node::Kind::List(v1::ListNode { items }))
}

fn output(job: u8) -> v1::ValueNode {
    node(value_node::Kind::Output(v1::OutputRef {
        job_id: Bytes::copy_from_slice(&[job; 16]),
        name: "value".to_owned(),
    }))
}

fn spec(nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
    let arguments = match nodes.len() {
        0 => vec![],
        n => vec![v1::Argument { parameter: "x".to_owned(), node: u32::try_from(n - 1).unwrap() }],
    };
    v1::JobSpec {
        job_id: Bytes::copy_from_slice(&[1; 16]),
        elf: "scale".to_owned(),
        task: "task_weigh".to_owned(),
        arguments,
        nodes,
        after: vec![],
        ..v1::JobSpec::default()
    }
}

fn operation(name: &str, inputs: &[u32], body: Option<v1::OperationBody>) -> v1::ValueNode {
    let inputs = inputs.to_vec();
    node(value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body }))
}

fn with_operations(nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
    v1::JobSpec { operations_version: 1, ..spec(nodes) }
}

fn refused(spec: &v1::JobSpec) -> String {
    let error = check_spec(spec).unwrap_err();
    format!("{}: {error}", error.field())
}

#[test]
fn dependencies_come_from_values_and_after_each_once() {
    let mut spec = spec(vec![output(9), output(3), list(vec![0, 1, 0])]);
    spec.after = vec![Bytes::copy_from_slice(&[9; 16]), Bytes::copy_from_slice(&[2; 16])];
    let checked = check_spec(&spec).unwrap();
    assert_eq!(checked.id, JobId::new([1; 16]));
    assert_eq!(checked.depends_on, [2u8, 3, 9].map(|n| JobId::new([n; 16])));
}

#[test]
fn malformed_specifications_are_refused_by_field() {
    assert_eq!(refused(&v1::JobSpec { job_id: Bytes::new(), ..spec(vec![]) }), "job_id: must be 16 bytes");
    assert_eq!(refused(&v1::JobSpec { elf: String::new(), ..spec(vec![]) }), "elf: must not be empty");
    assert_eq!(
        refused(&v1::JobSpec { elf: "a\nb".to_owned(), ..spec(vec![]) }),
        "elf: must not contain control characters"
    );
    assert_eq!(
        refused(&v1::JobSpec { task: "weigh".to_owned(), ..spec(vec![]) }),
        "task: must begin with `task_`"
    );
    assert_eq!(
        refused(&v1::JobSpec { elf: "x".repeat(256), ..spec(vec![]) }),
        "elf: must be at most 255 bytes"
    );
    assert_eq!(refused(&spec(vec![output(1)])), "after: the job waits for itself");
    assert_eq!(refused(&spec(vec![literal("{")])), "nodes[0].literal: byte 1: is not valid JSON");
    assert_eq!(refused(&spec(vec![v1::ValueNode { kind: None }])), "nodes[0]: says nothing");
    assert_eq!(
        refused(&spec(vec![list(vec![0])])),
        "nodes[0]: refers to node 0, which does not stand before it"
    );
    let mut missing = spec(vec![literal("1")]);
    missing.arguments[0].node = 7;
    assert_eq!(refused(&missing), "arguments[0].node: there is no node 7");
    let mut twice = spec(vec![literal("1")]);
    twice.arguments.push(twice.arguments[0].clone());
    assert_eq!(refused(&twice), "arguments[1].parameter: `x` is given twice");
}

#[test]
fn conditions_and_lists_are_nodes_that_can_be_them() {
    let input = |index| node(value_node::Kind::BodyInput(index));
    let with = |nodes: Vec<v1::ValueNode>, run_if: Option<u32>, list: Option<u32>| v1::JobSpec {
        run_if,
        for_each: list.map(|list| v1::ForEach { list }),
        ..spec(nodes)
    };
    let over_elements = with(vec![output(9), input(0), input(1), list(vec![1, 2])], None, Some(0));
    assert_eq!(check_spec(&over_elements).unwrap().depends_on, [JobId::new([9; 16])]);
    assert!(check_spec(&with(vec![literal("true"), list(vec![])], Some(0), Some(1))).is_ok());
    let computed = with(vec![output(9), operation("not", &[0], None)], Some(1), None);
    assert!(check_spec(&v1::JobSpec { operations_version: 1, ..computed }).is_ok());
    for (spec, reason) in [
        (with(vec![output(9)], Some(1), None), "run_if: there is no node 1"),
        (with(vec![output(9)], None, Some(7)), "for_each.list: there is no node 7"),
        (with(vec![literal("1")], Some(0), None), "run_if: is int, and must be bool"),
        (with(vec![literal("{}")], None, Some(0)), "for_each.list: is map, and must be list"),
        (with(vec![input(0)], Some(0), None), "nodes[0]: is the input of a body, and stands in none"),
        (
            with(vec![output(9), input(2)], None, Some(0)),
            "nodes[1]: is input 2, and there are 0, the element, and 1, its index",
        ),
        (
            with(vec![output(9), input(0)], Some(1), Some(0)),
            "run_if: needs node 1, which is there for each element alone",
        ),
        (
            with(vec![input(1), list(vec![0])], None, Some(1)),
            "for_each.list: needs node 0, which is there for each element alone",
        ),
    ] {
        assert_eq!(refused(&spec), reason);
    }
    let computed = with(vec![output(9), operation("add", &[0, 0], None)], Some(1), None);
    let computed = v1::JobSpec { operations_version: 1, ..computed };
    assert_eq!(refused(&computed), "run_if: is int or float, and must be bool");
    let forged = v1::JobSpec { element_of: Some(v1::ElementOf::default()), ..spec(vec![]) };
    assert_eq!(refused(&forged), "element_of: is set by the broker alone");
    let traced = v1::JobSpec { trace: Some(v1::TraceContext::default()), ..spec(vec![]) };
    assert_eq!(refused(&traced), "trace: is set by the broker alone: give it with the submission");
}

#[test]
fn operations_that_cannot_be_computed_are_refused_with_their_reason() {
    let input = |index| node(value_node::Kind::BodyInput(index));
    let body = |nodes, result| Some(v1::OperationBody { nodes, result });
    assert!(check_spec(&with_operations(vec![output(9), operation("add", &[0, 0], None)])).is_ok());
    for (nodes, reason) in [
        (
            vec![operation("explode", &[], None)],
            "nodes[0]: there is no operation `explode`; `ListOperations` tells those there are",
        ),
        (vec![output(9), operation("add", &[0], None)], "nodes[1]: `add` takes 2 operands, and 1 are given"),
        (vec![operation("add", &[0, 0], None)], "nodes[0]: refers to node 0, which does not stand before it"),
        (
            vec![literal("\"a\""), operation("add", &[0, 0], None)],
            "nodes[1]: `add`: `left` is string, and must be int or float",
        ),
        (vec![output(9), operation("list.map", &[0], None)], "nodes[1]: `list.map` needs a body"),
        (
            vec![output(9), operation("add", &[0, 0], body(vec![input(0)], 0))],
            "nodes[1]: `add` takes no body",
        ),
        (
            vec![output(9), operation("list.map", &[0], body(vec![output(9)], 0))],
            "nodes[1]: node 0 of the body of `list.map`: is the output of a job, and a body sees only its \
             inputs: pass it on as an operand",
        ),
        (
            vec![output(9), operation("list.map", &[0], body(vec![input(1)], 0))],
            "nodes[1]: node 0 of the body of `list.map`: is input 1, and the body has 1, from 0",
        ),
        (
            vec![output(9), operation("list.map", &[0], body(vec![input(0)], 1))],
            "nodes[1]: node 1 of the body of `list.map`: is the result of the body, and does not exist",
        ),
        (vec![input(0)], "nodes[0]: is the input of a body, and stands in none"),
    ] {
        let version =
            u32::from(nodes.iter().any(|node| matches!(node.kind, Some(value_node::Kind::Operation(_)))));
        let spec = v1::JobSpec { operations_version: version, ..spec(nodes) };
        assert_eq!(refused(&spec), reason);
    }
}

#[test]
fn bodies_nest_no_deeper_than_their_limit() {
    let nested = |depth: usize| {
        let mut body = v1::OperationBody { nodes: vec![node(value_node::Kind::BodyInput(0))], result: 0 };
        for _ in 1..depth {
            let nodes = vec![node(value_node::Kind::BodyInput(0)), operation("list.map", &[0], Some(body))];
            body = v1::OperationBody { nodes, result: 1 };
        }
        with_operations(vec![output(9), operation("list.map", &[0], Some(body))])
    };
    assert!(check_spec(&nested(limits::BODY_DEPTH_MAX)).is_ok());
    assert_eq!(
        refused(&nested(limits::BODY_DEPTH_MAX + 1)),
        "nodes[1]: bodies stand more than 8 deep in each other"
    );
}

#[test]
fn a_graph_names_the_version_of_its_operations() {
    let nodes = || vec![output(9), operation("negate", &[0], None)];
    assert_eq!(
        refused(&spec(nodes())),
        "operations_version: must be given for a value graph with operations"
    );
    assert_eq!(
        refused(&v1::JobSpec { operations_version: 3, ..spec(nodes()) }),
        "operations_version: is 3, and this broker knows those up to 2"
    );
    assert_eq!(
        refused(&with_operations(vec![literal("1")])),
        "operations_version: must be 0 for a value graph without operations"
    );
}

#[test]
fn payloads_over_the_limit_are_refused_with_their_size() {
    let big = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX));
    assert_eq!(
        refused(&spec(vec![literal(&big)])),
        "nodes[0].literal: the payload has 65538 bytes inline, and the most is 65536: send what is larger as a blob"
    );
}

#[test]
fn nesting_stops_exactly_at_its_limit() {
    let nested = |depth: usize| {
        let mut nodes = vec![literal("1")];
        nodes.extend((0..depth).map(|inner| list(vec![u32::try_from(inner).unwrap()])));
        spec(nodes)
    };
    assert!(check_spec(&nested(limits::VALUE_DEPTH_MAX)).is_ok());
    assert_eq!(refused(&nested(limits::VALUE_DEPTH_MAX + 1)), "nodes[129]: nests more than 128 deep");
}
