use std::borrow::Borrow;

use super::*;
use crate::values::testing::NoBlobs;

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

fn done(job: u8, outputs: &[(&str, &str)]) -> (JobId, Outputs) {
    let outputs = outputs
        .iter()
        .map(|(name, json)| v1::NamedOutput { name: (*name).to_owned(), payload: Some(payload(json, "")) })
        .collect();
    (JobId::new([job; 16]), v1::Outputs { outputs }.into())
}

/// A value as text, with `<n>` for a blob of n bytes. What it says of its size is true.
fn text_of(value: &DerivedValue) -> String {
    let (pieces, bytes) = match value {
        DerivedValue::Payload(payload) => {
            let Some(payload::Content::Inline(bytes)) = &payload.content else { panic!("a blob") };
            return String::from_utf8(bytes.to_vec()).unwrap();
        }
        DerivedValue::Spliced { pieces, bytes } => (pieces, *bytes),
    };
    assert_eq!(splice::pieces_len(pieces), bytes);
    let text = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Piece::Blob(blob) => format!("<{}>", blob.size),
    };
    pieces.iter().map(text).collect()
}

/// The argument that the last node of `nodes` gives.
fn derive(nodes: Vec<v1::ValueNode>, outputs: impl Borrow<OutputsByJob>) -> Result<String, DerivationError> {
    let node = u32::try_from(nodes.len() - 1).unwrap();
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node }];
    let spec = v1::JobSpec { nodes, arguments, ..v1::JobSpec::default() };
    let derived = derive_arguments(&spec, outputs.borrow(), &NoBlobs)?;
    assert_eq!(derived.len(), 1);
    assert_eq!(derived[0].parameter, "x");
    Ok(text_of(&derived[0].value))
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
    assert!(matches!(error, DerivationError::TooLarge { bytes: u64::MAX, .. }), "{error}");
}

fn blob(size: u64) -> v1::Payload {
    let digest = Bytes::copy_from_slice(&[7; 32]);
    v1::Payload {
        encoding: String::new(),
        content: Some(payload::Content::Blob(v1::BlobRef { digest, size })),
    }
}

#[test]
fn what_is_put_together_comes_to_8_mib_or_to_eight_times_its_parts() {
    let derived = |times: u32, part: v1::Payload| {
        let literal = v1::ValueNode { kind: Some(value_node::Kind::Literal(part)) };
        let spec = v1::JobSpec {
            nodes: vec![literal, list(vec![0; 8])],
            arguments: (0..times).map(|i| v1::Argument { parameter: format!("p{i}"), node: 1 }).collect(),
            ..v1::JobSpec::default()
        };
        derive_arguments(&spec, &OutputsByJob::new(), &NoBlobs).map(|arguments| arguments.len())
    };
    // With its brackets and commas, a list of 8 is 9 bytes more than they.
    let small = payload(&"x".repeat(64 * 1024), "");
    assert_eq!(derived(15, small.clone()), Ok(15));
    let error = derived(16, small).unwrap_err();
    assert!(
        matches!(&error, DerivationError::TooLarge { parameter, max: 8_388_608, .. } if parameter == "p15"),
        "{error}"
    );

    let gib = 1 << 30;
    assert_eq!(
        derive(
            vec![v1::ValueNode { kind: Some(value_node::Kind::Literal(blob(gib))) }, list(vec![0; 7])],
            OutputsByJob::new()
        )
        .unwrap(),
        format!("[{}]", vec![format!("<{gib}>"); 7].join(","))
    );
    assert!(matches!(derived(1, blob(gib)), Err(DerivationError::TooLarge { .. })));
}

#[test]
fn blobs_are_pieces_and_operations_read_those_they_look_into() {
    struct OneBlob;
    impl ReadBlob for OneBlob {
        fn read(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure> {
            if blob.size == 5 {
                Ok(Bytes::from_static(b"[1,2]"))
            } else {
                Err(Failure::invalid("it was not to be read"))
            }
        }

        fn begin(&self, blob: &v1::BlobRef, _max: usize) -> Result<Bytes, Failure> {
            self.read(blob)
        }
    }
    let large = v1::NamedOutput { name: "large".to_owned(), payload: Some(blob(1 << 30)) };
    let small = v1::NamedOutput { name: "small".to_owned(), payload: Some(blob(5)) };
    let outputs = v1::Outputs { outputs: vec![large, small] };
    let outputs = OutputsByJob::from([(JobId::new([1; 16]), outputs.into())]);
    let nodes = vec![
        output(1, "large"),
        output(1, "small"),
        operation("length", &[1]),
        list(vec![0, 2, 1]),
        output(1, ""),
        map(&[("parts", 3), ("whole", 4)]),
    ];
    let argument = |parameter: &str, node| v1::Argument { parameter: parameter.to_owned(), node };
    let spec = v1::JobSpec {
        nodes,
        arguments: vec![argument("whole", 0), argument("parts", 5)],
        operations_version: 1,
        ..v1::JobSpec::default()
    };
    let derived = derive_arguments(&spec, &outputs, &OneBlob).unwrap();
    assert_eq!(derived[0].value, DerivedValue::Payload(blob(1 << 30)));
    assert_eq!(
        text_of(&derived[1].value),
        r#"{"parts":[<1073741824>,2,<5>],"whole":{"large":<1073741824>,"small":<5>}}"#
    );
    // What an operation looks into has to be read.
    let spec = v1::JobSpec {
        nodes: vec![output(1, ""), operation("length", &[0])],
        arguments: vec![argument("x", 1)],
        ..spec
    };
    let error = derive_arguments(&spec, &outputs, &OneBlob).unwrap_err().to_string();
    assert_eq!(error, "node 0: it was not to be read (invalid_value)");
}

/// As [`derive`], with operations.
fn compute(nodes: Vec<v1::ValueNode>, outputs: &OutputsByJob) -> Result<String, DerivationError> {
    let node = u32::try_from(nodes.len() - 1).unwrap();
    let arguments = vec![v1::Argument { parameter: "x".to_owned(), node }];
    let spec = v1::JobSpec { nodes, arguments, operations_version: 1, ..v1::JobSpec::default() };
    let derived = derive_arguments(&spec, outputs, &NoBlobs)?;
    Ok(text_of(&derived[0].value))
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
        "node 2, get(list, int): the index lies outside of a list of 1 element (bad_index)"
    );
    let nodes = vec![output(1, "weights"), operation("length", &[0])];
    assert_eq!(
        compute(nodes, &outputs).unwrap_err().to_string(),
        "node 0: job 01010101-0101-0101-0101-010101010101 has no output `weights`; it has names (invalid_value)"
    );
}

#[test]
fn a_value_that_is_not_json_passes_beside_operations_and_is_no_operand() {
    let image = payload("\u{1}png", "image/png");
    let raw = v1::NamedOutput { name: "image".to_owned(), payload: Some(image) };
    let outputs = OutputsByJob::from([(JobId::new([1; 16]), v1::Outputs { outputs: vec![raw] }.into())]);
    let nodes = vec![output(1, "image"), operation("length", &[0])];
    assert_eq!(
        compute(nodes, &outputs).unwrap_err().to_string(),
        "node 0: a value encoded as `image/png` can be passed on as a whole only (invalid_value)"
    );
}
