//! The test vectors of the contract, whose expected results come from plain Python or were written by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use mycelium_values::vector::{Vector, VectorError};
use mycelium_values::{ErrorKind, Limits, Operation};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/testdata/value-graphs")
}

fn vectors() -> Vec<(String, Vector)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut vectors = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let read =
            Vector::read(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        vectors.extend(read.into_iter().map(|vector| (name.clone(), vector)));
    }
    vectors
}

/// Equal as the contract has it: ints exactly, floats by value, the order of keys too.
fn equal(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| equal(left, right)))
        }
        (left, right) => left == right,
    }
}

/// Without the blanks between the parts of a JSON text.
fn blankless(json: &str) -> String {
    let (mut in_string, mut is_escaped) = (false, false);
    let keeps = |one: &char| {
        if !in_string {
            in_string = *one == '"';
            return !one.is_ascii_whitespace();
        }
        if is_escaped {
            is_escaped = false;
        } else if *one == '\\' {
            is_escaped = true;
        } else if *one == '"' {
            in_string = false;
        }
        true
    };
    json.chars().filter(keeps).collect()
}

fn problem(vector: &Vector) -> Option<String> {
    let result = vector.evaluate(Limits::default());
    match (result, &vector.expect, &vector.error) {
        (Ok(value), Some(expected), None) => {
            let json = value.to_json();
            let got: Json = serde_json::from_slice(&json).unwrap();
            let wanted: Json = serde_json::from_str(expected.get()).unwrap();
            // The order of keys shows in the text; how a float is written need not be the same.
            let text = String::from_utf8_lossy(&json);
            let is_same = blankless(&text) == blankless(expected.get())
                || (equal(&got, &wanted)
                    && (expected.get().contains(['.', 'e', 'E', '\\']) || text.contains('\\')));
            (!is_same).then(|| format!("gave {}, expected {expected}", String::from_utf8_lossy(&json)))
        }
        (Ok(value), None, Some(kind)) => {
            Some(format!("gave {}, expected the error {kind}", String::from_utf8_lossy(&value.to_json())))
        }
        (Err(VectorError::Evaluation(error)), None, Some(kind)) => {
            (error.failure.kind.name() != kind).then(|| format!("failed: {error}; expected the error {kind}"))
        }
        // What can be told from the graph alone is refused before anything is computed.
        (Err(VectorError::Refused { .. }), None, Some(kind)) if kind == ErrorKind::WrongType.name() => None,
        (Err(error), ..) => Some(format!("failed: {error}")),
        (Ok(_), ..) => Some("expects both a result and an error, or neither".to_owned()),
    }
}

#[test]
fn every_vector_gives_what_it_expects() {
    let vectors = vectors();
    assert!(vectors.len() >= 200, "there are {} vectors only", vectors.len());
    let problems: Vec<String> = vectors
        .iter()
        .filter_map(|(file, vector)| Some(format!("{file}, {}: {}", vector.name, problem(vector)?)))
        .collect();
    assert!(problems.is_empty(), "{} of {} vectors:\n{}", problems.len(), vectors.len(), problems.join("\n"));
}

#[test]
fn every_operation_and_every_error_has_a_vector() {
    let vectors = vectors();
    let mut names = BTreeSet::new();
    for (_, vector) in &vectors {
        let mut nodes = vector.nodes().unwrap();
        while let Some(node) = nodes.pop() {
            if let Some(mycelium_proto::v1::value_node::Kind::Operation(operation)) = node.kind {
                names.insert(operation.name);
                nodes.extend(operation.body.into_iter().flat_map(|body| body.nodes));
            }
        }
    }
    let missing: Vec<&str> =
        Operation::all().map(|operation| operation.name).filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "no vector has {missing:?}");
    let errors: BTreeSet<&str> = vectors.iter().filter_map(|(_, vector)| vector.error.as_deref()).collect();
    let missing: Vec<&str> = ErrorKind::ALL
        .iter()
        .map(|kind| kind.name())
        // Limits are tested with limits of their own.
        .filter(|name| *name != ErrorKind::LimitExceeded.name() && !errors.contains(name))
        .collect();
    assert!(missing.is_empty(), "no vector fails with {missing:?}");
}

#[test]
fn names_are_distinct() {
    let mut names = BTreeSet::new();
    for (file, vector) in vectors() {
        assert!(names.insert(vector.name.clone()), "{file}: two vectors are named {:?}", vector.name);
    }
}
