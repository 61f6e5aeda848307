use std::borrow::Borrow;

use super::*;

fn payload(text: &str, encoding: &str) -> v1::Payload {
    v1::Payload {
        encoding: encoding.to_owned(),
        content: Some(payload::Content::Inline(Bytes::copy_from_slice(text.as_bytes()))),
    }
}

fn literal(json: &str) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::Literal(payload(json, ""))) }
}

fn output(job: u8, name: &str) -> v1::ValueNode {
    let reference = v1::OutputRef { job_id: Bytes::copy_from_slice(&[job; 16]), name: name.to_owned() };
    v1::ValueNode { kind: Some(value_node::Kind::Output(reference)) }
}

fn list(items: Vec<u32>) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::List(v1::ListNode { items })) }
}

fn map(entries: &[(&str, u32)]) -> v1::ValueNode {
    let entries =
        entries.iter().map(|(key, node)| v1::MapEntry { key: (*key).to_owned(), node: *node }).collect();
    v1::ValueNode { kind: Some(value_node::Kind::Map(v1::MapNode { entries })) }
}

fn done(job: u8, outputs: &[(&str, &str)]) -> (JobId, v1::Outputs) {
    let outputs = outputs
        .iter()
        .map(|(name, json)| v1::Output { name: (*name).to_owned(), payload: Some(payload(json, "")) })
        .collect();
    (JobId::new([job; 16]), v1::Outputs { outputs })
}

/// The argument that the last node of `nodes` gives.
fn derive(nodes: Vec<v1::ValueNode>, outputs: impl Borrow<OutputsByJob>) -> Result<String, DerivationError> {
    let node = u32::try_from(nodes.len() - 1).unwrap();
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node }];
    let spec = v1::JobSpec { nodes, arguments, ..v1::JobSpec::default() };
    let derived = derive_arguments(&spec, outputs.borrow())?;
    assert_eq!(derived.len(), 1);
    assert_eq!(derived[0].parameter, "x");
    Ok(String::from_utf8(inline(derived[0].payload.as_ref().unwrap()).to_vec()).unwrap())
}

#[test]
fn whole_values_pass_as_they_are() {
    assert_eq!(
        derive(vec![literal(" 9007199254740993 ")], OutputsByJob::new()).unwrap(),
        " 9007199254740993 "
    );
    let outputs = OutputsByJob::from([done(1, &[("weight", "7"), ("species", "\"bee\"")])]);
    assert_eq!(derive(vec![output(1, "species")], outputs).unwrap(), "\"bee\"");
}

#[test]
fn the_whole_of_a_job_is_null_its_value_or_a_map() {
    let nodes = || vec![output(1, "")];
    assert_eq!(derive(nodes(), OutputsByJob::from([done(1, &[])])).unwrap(), "null");
    assert_eq!(derive(nodes(), OutputsByJob::from([done(1, &[("value", "[1]")])])).unwrap(), "[1]");
    let two = OutputsByJob::from([done(1, &[("a", "1"), ("b\"", "2")])]);
    assert_eq!(derive(nodes(), two).unwrap(), r#"{"a":1,"b\"":2}"#);
}

#[test]
fn lists_and_maps_are_put_together_from_bytes() {
    let outputs = OutputsByJob::from([done(1, &[("value", "1.50")])]);
    let nodes = vec![
        output(1, "value"),
        literal("\"ä\""),
        list(vec![]),
        list(vec![0, 1, 2]),
        map(&[("k\n\u{1}", 3), ("", 0)]),
        map(&[]),
        list(vec![4, 5]),
    ];
    assert_eq!(derive(nodes, outputs).unwrap(), "[{\"k\\n\\u0001\":[1.50,\"ä\",[]],\"\":1.50},{}]");
}

#[test]
fn a_missing_output_names_job_and_what_there_is() {
    let outputs = OutputsByJob::from([done(1, &[("a", "1"), ("b", "2")])]);
    let error = derive(vec![output(1, "c"), list(vec![0])], outputs).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter `x`, node 0: job 01010101-0101-0101-0101-010101010101 has no output `c`; it has a, b"
    );
}

#[test]
fn other_encodings_pass_whole_and_not_as_parts() {
    let cbor =
        || v1::ValueNode { kind: Some(value_node::Kind::Literal(payload("\u{1}", "application/cbor"))) };
    assert_eq!(derive(vec![cbor()], OutputsByJob::new()).unwrap(), "\u{1}");
    let error = derive(vec![cbor(), list(vec![0])], OutputsByJob::new()).unwrap_err();
    assert_eq!(
        error,
        DerivationError::NotJson {
            parameter: "x".to_owned(),
            node: 0,
            encoding: "application/cbor".to_owned()
        }
    );
}

#[test]
fn a_graph_that_doubles_itself_is_refused_before_it_is_built() {
    let mut nodes = vec![literal("1")];
    nodes.extend((0..100).map(|inner| list(vec![inner, inner])));
    let error = derive(nodes, OutputsByJob::new()).unwrap_err();
    assert!(matches!(error, DerivationError::TooLarge { bytes: usize::MAX, .. }), "{error}");
}

#[test]
fn arguments_together_stop_at_the_limit_of_a_job() {
    let text = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX - 2));
    let spec_with = |n: u32| v1::JobSpec {
        nodes: vec![literal(&text)],
        arguments: (0..n).map(|i| v1::Argument { parameter: format!("p{i}"), node: 0 }).collect(),
        ..v1::JobSpec::default()
    };
    assert_eq!(derive_arguments(&spec_with(8), &OutputsByJob::new()).unwrap().len(), 8);
    let error = derive_arguments(&spec_with(9), &OutputsByJob::new()).unwrap_err();
    assert!(matches!(&error, DerivationError::TooLarge { parameter, .. } if parameter == "p8"), "{error}");
}

#[test]
fn the_length_of_a_string_is_what_the_writer_writes() {
    for text in ["", "plain", "\"\\\n\r\t\u{8}\u{c}", "\u{0}\u{1}\u{1f}\u{7f}", "ä€😀"] {
        assert_eq!(string_len(text), serde_json::to_string(text).unwrap().len(), "{text:?}");
    }
}

/// As [`derive`], with operations.
fn compute(nodes: Vec<v1::ValueNode>, outputs: &OutputsByJob) -> Result<String, DerivationError> {
    let node = u32::try_from(nodes.len() - 1).unwrap();
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node }];
    let spec = v1::JobSpec { nodes, arguments, operations_version: 1, ..v1::JobSpec::default() };
    let derived = derive_arguments(&spec, outputs)?;
    Ok(String::from_utf8(inline(derived[0].payload.as_ref().unwrap()).to_vec()).unwrap())
}

fn operation(name: &str, inputs: &[u32]) -> v1::ValueNode {
    let operation = v1::Operation { name: name.to_owned(), inputs: inputs.to_vec(), body: None };
    v1::ValueNode { kind: Some(value_node::Kind::Operation(operation)) }
}

#[test]
fn operations_are_computed_from_outputs_and_the_rest_is_spliced() {
    let outputs = OutputsByJob::from([done(1, &[("weight", "7"), ("note", r#"{"a": 1.10}"#)])]);
    let nodes = vec![
        output(1, "weight"),
        literal("2"),
        operation("multiply", &[0, 1]),
        output(1, "note"),
        list(vec![2, 3, 0]),
        map(&[("all", 4)]),
    ];
    assert_eq!(compute(nodes, &outputs).unwrap(), r#"{"all":[14,{"a": 1.10},7]}"#);
    // Several outputs together are a map of them.
    let nodes = vec![output(1, ""), literal("\"weight\""), operation("get", &[0, 1])];
    assert_eq!(compute(nodes, &outputs).unwrap(), "7");
}

#[test]
fn a_failing_operation_names_its_node_and_the_types_of_its_operands() {
    let outputs = OutputsByJob::from([done(1, &[("names", r#"["ant"]"#)])]);
    let nodes = vec![output(1, "names"), literal("3"), operation("get", &[0, 1])];
    assert_eq!(
        compute(nodes, &outputs).unwrap_err().to_string(),
        "node 2, get(list, int): the index 3 lies outside of a list of 1 element (bad_index)"
    );
    let nodes = vec![output(1, "weights"), operation("length", &[0])];
    assert_eq!(
        compute(nodes, &outputs).unwrap_err().to_string(),
        "node 0: job 01010101-0101-0101-0101-010101010101 has no output `weights`; it has names (invalid_value)"
    );
}

#[test]
fn a_value_that_is_not_json_passes_beside_operations_and_is_no_operand() {
    let (job, mut raw) = done(1, &[("image", "1")]);
    raw.outputs[0].payload = Some(payload("\u{1}png", "image/png"));
    let outputs = OutputsByJob::from([(job, raw)]);
    let nodes = vec![output(1, "image"), operation("length", &[0])];
    assert_eq!(
        compute(nodes, &outputs).unwrap_err().to_string(),
        "node 0: a value encoded as `image/png` can be passed on as a whole only (invalid_value)"
    );
}
