use bytes::Bytes;
use mycelium_proto::v1::payload;

use super::*;
use crate::values::testing::NoBlobs;

fn node(kind: value_node::Kind) -> v1::ValueNode {
    v1::ValueNode { kind: Some(kind) }
}

fn payload(json: &str) -> v1::Payload {
    let content = Some(payload::Content::Inline(Bytes::copy_from_slice(json.as_bytes())));
    v1::Payload { encoding: String::new(), content }
}

fn literal(json: &str) -> v1::ValueNode {
    node(value_node::Kind::Literal(payload(json)))
}

fn output(job: u8) -> v1::ValueNode {
    let job_id = Bytes::copy_from_slice(&[job; 16]);
    node(value_node::Kind::Output(v1::OutputRef { job_id, name: "value".to_owned() }))
}

fn operation(name: &str, inputs: &[u32]) -> v1::ValueNode {
    let (name, inputs) = (name.to_owned(), inputs.to_vec());
    node(value_node::Kind::Operation(v1::Operation { name, inputs, body: None }))
}

/// A job whose argument is this node.
fn spec(nodes: Vec<v1::ValueNode>, argument: Option<u32>) -> v1::JobSpec {
    let argument = argument.map(|node| v1::Argument { parameter: "x".to_owned(), node });
    v1::JobSpec { nodes, arguments: argument.into_iter().collect(), ..v1::JobSpec::default() }
}

fn job(number: u8) -> JobId {
    JobId::new([number; 16])
}

fn outputs(values: &[(u8, &str)]) -> OutputsByJob {
    let value = |json: &str| v1::NamedOutput { name: "value".to_owned(), payload: Some(payload(json)) };
    let outputs = |json: &str| v1::Outputs { outputs: vec![value(json)] };
    values.iter().map(|(number, json)| (job(*number), outputs(json).into())).collect()
}

fn shown(decision: Decision) -> String {
    match decision {
        Decision::Run => "run".to_owned(),
        Decision::Skip => "skip".to_owned(),
        Decision::Expand(elements) => {
            let texts = elements.iter().map(|element| String::from_utf8(element.to_json().to_vec()).unwrap());
            format!("over {}", texts.collect::<Vec<_>>().join(" | "))
        }
        Decision::Fail(problem) => problem,
    }
}

fn decided(spec: &v1::JobSpec, values: &[(u8, &str)], skipped: &[u8]) -> String {
    let skipped: HashSet<JobId> = skipped.iter().copied().map(job).collect();
    let outputs = outputs(values);
    let computed = jobs_computed(spec, &skipped);
    assert!(computed.iter().all(|job| outputs.contains_key(job)), "it needs {computed:?}");
    shown(decide(spec, &outputs, &skipped, &NoBlobs))
}

#[test]
fn a_condition_is_a_bool() {
    let conditional = v1::JobSpec { run_if: Some(0), ..spec(vec![output(1)], None) };
    assert_eq!(decided(&conditional, &[(1, "true")], &[]), "run");
    assert_eq!(decided(&conditional, &[(1, " false ")], &[]), "skip");
    assert_eq!(
        decided(&conditional, &[(1, "0")], &[]),
        "node 0: the condition is int, and must be bool (wrong_type)"
    );
    assert_eq!(decided(&conditional, &[], &[1]), "skip", "its condition is gone");
    let computed = v1::JobSpec { run_if: Some(1), ..spec(vec![output(1), operation("not", &[0])], None) };
    assert_eq!(decided(&computed, &[(1, "false")], &[]), "run");
    let nodes = vec![output(1), operation("subtract", &[0, 0])];
    let computed = v1::JobSpec { run_if: Some(1), ..spec(nodes, None) };
    let problem = decided(&computed, &[(1, "[]")], &[]);
    assert!(problem.starts_with("the condition: node 1, subtract(list, list): "), "{problem}");
}

#[test]
fn a_job_is_skipped_if_it_needs_what_was_skipped() {
    let whole = spec(vec![output(1)], Some(0));
    assert_eq!(decided(&whole, &[], &[1]), "skip");
    let only_after = spec(vec![literal("1")], Some(0));
    assert_eq!(decided(&only_after, &[], &[1]), "run");
    let list = node(value_node::Kind::List(v1::ListNode { items: vec![0, 1] }));
    let within = spec(vec![output(1), output(2), list], Some(2));
    assert_eq!(decided(&within, &[], &[1]), "skip");
    let operand = spec(vec![output(1), operation("is_null", &[0])], Some(1));
    assert_eq!(decided(&operand, &[], &[1]), "skip");
    // A node that no argument needs is no need.
    let unused = spec(vec![output(1), output(2)], Some(1));
    assert_eq!(decided(&unused, &[], &[1]), "run");
}

#[test]
fn operands_that_are_not_taken_are_not_needed() {
    let joined =
        |taken| spec(vec![literal(taken), output(1), output(2), operation("select", &[0, 1, 2])], Some(3));
    assert_eq!(decided(&joined("true"), &[(1, "7")], &[2]), "run");
    assert_eq!(decided(&joined("false"), &[(1, "7")], &[2]), "skip");
    let coalesced = spec(vec![output(1), output(2), operation("coalesce", &[0, 1])], Some(2));
    assert_eq!(decided(&coalesced, &[(1, "7")], &[2]), "run");
    assert_eq!(decided(&coalesced, &[(1, "null")], &[2]), "skip");
    // What goes wrong apart from that goes wrong when it is dispatched.
    let failing =
        spec(vec![output(1), output(2), operation("add", &[0, 0]), operation("and", &[2, 1])], Some(3));
    assert_eq!(decided(&failing, &[(1, "\"a\"")], &[2]), "run");
}

#[test]
fn a_list_is_taken_apart_without_touching_its_elements() {
    let over = |json: &str| {
        let list = v1::ForEach { list: 0 };
        let spec = v1::JobSpec { for_each: Some(list), ..spec(vec![output(1)], None) };
        decided(&spec, &[(1, json)], &[])
    };
    assert_eq!(over(" [1.10, \"a\\u0062\", [ 2 ], null] "), "over 1.10 | \"a\\u0062\" | [ 2 ] | null");
    assert_eq!(over("[]"), "over ");
    assert_eq!(over("{}"), "the list: node 0: the value is map, and must be list (wrong_type)");
    let long = format!("[{}0]", "0,".repeat(limits::FOR_EACH_ELEMENTS_MAX));
    assert_eq!(
        over(&long),
        "node 0: the list has 100001 elements, and a job may be run over 100000 (wrong_type)"
    );
    let unmet = v1::JobSpec {
        run_if: Some(1),
        for_each: Some(v1::ForEach { list: 0 }),
        ..spec(vec![output(1), literal("false")], None)
    };
    assert_eq!(decided(&unmet, &[(1, "[1]")], &[]), "skip");
    assert_eq!(decided(&unmet, &[], &[1]), "skip", "its list is gone");
}
