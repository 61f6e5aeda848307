use super::*;

fn node(kind: value_node::Kind) -> v1::ValueNode {
    v1::ValueNode { kind: Some(kind) }
}

fn literal(json: &str) -> v1::ValueNode {
    node(value_node::Kind::Literal(inline(Bytes::copy_from_slice(json.as_bytes()))))
}

fn input(number: u32) -> v1::ValueNode {
    node(value_node::Kind::BodyInput(number))
}

fn output(job: u8) -> v1::ValueNode {
    let job_id = Bytes::copy_from_slice(&[job; 16]);
    node(value_node::Kind::Output(v1::OutputRef { job_id, name: String::new() }))
}

fn list(items: Vec<u32>) -> v1::ValueNode {
    node(value_node::Kind::List(v1::ListNode { items }))
}

const LIST: JobId = JobId::new([9; 16]);

#[test]
fn a_job_for_an_element_has_what_its_arguments_need_and_no_more() {
    let spec = v1::JobSpec {
        job_id: Bytes::copy_from_slice(LIST.as_bytes()),
        elf: "e".to_owned(),
        task: "task_t".to_owned(),
        arguments: vec![
            v1::Argument { parameter: "x".to_owned(), node: 6 },
            v1::Argument { parameter: "y".to_owned(), node: 2 },
        ],
        nodes: vec![
            output(1),
            literal("true"),
            input(0),
            input(1),
            output(2),
            input(0),
            list(vec![5, 3, 4, 2]),
        ],
        after: vec![Bytes::copy_from_slice(&[3; 16])],
        priority: 4,
        run_if: Some(1),
        for_each: Some(v1::ForEach { list: 0 }),
        ..v1::JobSpec::default()
    };
    let template = Template::new(LIST, spec);
    assert_eq!(template.depends_on(), [JobId::new([2; 16])]);
    let made = template.spec(7, inline(Bytes::from_static(b"{\"a\": 1.0}")));
    let expected = v1::JobSpec {
        job_id: Bytes::copy_from_slice(element_id(LIST, 7).as_bytes()),
        elf: "e".to_owned(),
        task: "task_t".to_owned(),
        arguments: vec![
            v1::Argument { parameter: "x".to_owned(), node: 3 },
            v1::Argument { parameter: "y".to_owned(), node: 0 },
        ],
        nodes: vec![literal("{\"a\": 1.0}"), literal("7"), output(2), list(vec![0, 1, 2, 0])],
        priority: 4,
        element_of: Some(v1::ElementOf { job_id: Bytes::copy_from_slice(LIST.as_bytes()), index: 7 }),
        ..v1::JobSpec::default()
    };
    assert_eq!(made, expected);
}

/// Other programs may compute them, and a broker of a later version must: they are part of the contract.
#[test]
fn ids_follow_from_the_list_and_the_index() {
    assert_eq!(element_id(LIST, 0).to_string(), "af9e9f69-0286-da98-91aa-3726c09118c5");
    assert_eq!(element_id(LIST, 99_999).to_string(), "b298feec-374e-5a36-f14f-4d988619c8c8");
    assert_ne!(element_digest(ContentDigest(1), 0), element_digest(ContentDigest(1), 1));
    assert_ne!(element_digest(ContentDigest(1), 0), element_digest(ContentDigest(2), 0));
}

#[test]
fn what_is_too_large_is_refused_with_a_reason() {
    let spec = v1::JobSpec { nodes: vec![input(0)], ..v1::JobSpec::default() };
    let spec = v1::JobSpec { arguments: vec![v1::Argument { parameter: "x".to_owned(), node: 0 }], ..spec };
    let template = Template::new(LIST, spec.clone());
    assert!(template.check_size(100_000).is_ok());
    let wide = v1::JobSpec { elf: "e".repeat(20_000), ..spec };
    assert!(Template::new(LIST, wide).check_size(100_000).is_err());
}
