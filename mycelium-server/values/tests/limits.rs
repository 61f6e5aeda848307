//! Limits are reached by what a value would take, before it is made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use mycelium_values::vector::{Vector, VectorError};
use mycelium_values::{ErrorKind, Limits};

fn fails(json: &str, limits: Limits) -> String {
    let vector = Vector::read(json.as_bytes()).unwrap().remove(0);
    let begun = Instant::now();
    let error = match vector.evaluate(limits) {
        Err(VectorError::Evaluation(error)) => error,
        other => panic!("a failure was expected, and not {other:?}"),
    };
    // Generous: what is refused before it is made takes no time at all.
    assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
    assert_eq!(error.failure.kind, ErrorKind::LimitExceeded, "{error}");
    error.to_string()
}

fn gives(json: &str, limits: Limits) -> String {
    let vector = Vector::read(json.as_bytes()).unwrap().remove(0);
    String::from_utf8(vector.evaluate(limits).unwrap().to_json().to_vec()).unwrap()
}

/// `[x]`, doubled so many times.
fn doubled(times: usize) -> String {
    let nodes: Vec<String> = std::iter::once(r#"{"literal":[1]}"#.to_owned())
        .chain((0..times).map(|n| format!(r#"{{"operation":"list.extend","inputs":[{n},{n}]}}"#)))
        .collect();
    format!(r#"{{"nodes":[{}],"result":{times}}}"#, nodes.join(","))
}

#[test]
fn a_doubling_chain_stops_exactly_at_the_size_of_a_value() {
    // After n doublings the list has 2^n elements, and takes 2^(n+1) + 1 bytes.
    let limits = Limits { value_bytes: 129, ..Limits::default() };
    assert_eq!(gives(&doubled(6), limits).len(), 129);
    let error = fails(&doubled(7), limits);
    assert!(error.starts_with("node 7, list.extend(list, list): the value would have 25"), "{error}");
    fails(&doubled(1_000), Limits::default());
}

#[test]
fn what_is_asked_for_in_billions_is_refused_before_it_is_made() {
    for nodes in [
        r#"{"literal":0},{"literal":1000000000},{"operation":"list.range","inputs":[0,1]}"#,
        r#"{"literal":[0]},{"literal":1000000000},{"operation":"list.repeat","inputs":[0,1]}"#,
        r#"{"literal":"a"},{"literal":1000000000},{"operation":"string.repeat","inputs":[0,1]}"#,
        r#"{"literal":"a"},{"literal":1000000000},{"operation":"string.pad_end","inputs":[0,1]}"#,
        r#"{"literal":"a"},{"literal":18446744073709551615},{"operation":"string.pad_start","inputs":[0,1]}"#,
        r#"{"literal":-9223372036854775808},{"literal":18446744073709551615},{"operation":"list.range","inputs":[0,1]}"#,
    ] {
        fails(&format!(r#"{{"nodes":[{nodes}],"result":2}}"#), Limits::default());
    }
}

#[test]
fn maps_in_maps_over_long_lists_run_out_of_steps() {
    let inner = r#"{"nodes":[{"body_input":1},{"operation":"list.map","inputs":[0],"body":{"nodes":[{"body_input":0}],"result":0}}],"result":1}"#;
    let nodes = format!(
        r#"{{"literal":0}},{{"literal":20000}},{{"operation":"list.range","inputs":[0,1]}},{{"operation":"list.map","inputs":[2,2],"body":{inner}}}"#
    );
    fails(&format!(r#"{{"nodes":[{nodes}],"result":3}}"#), Limits::default());
}

#[test]
fn steps_are_counted_exactly() {
    // The node and its two operands, the operand that is looked up twice, and the element.
    let json = r#"{"nodes":[{"literal":2},{"operation":"add","inputs":[0,0]}],"result":1}"#;
    let steps = (0..100)
        .find(|steps| {
            let vector = Vector::read(json.as_bytes()).unwrap().remove(0);
            vector.evaluate(Limits { steps: *steps, ..Limits::default() }).is_ok()
        })
        .unwrap();
    assert_eq!(steps, 4, "two nodes, and an operand for each of the two inputs");
}

#[test]
fn what_operations_build_nests_no_deeper_than_the_limit() {
    let nest = |times: usize| {
        let nodes: Vec<String> = std::iter::once(r#"{"literal":[]}"#.to_owned())
            .chain((0..times).map(|n| format!(r#"{{"list":[{n}]}}"#)))
            .chain([format!(r#"{{"operation":"list.reverse","inputs":[{times}]}}"#)])
            .collect();
        format!(r#"{{"nodes":[{}],"result":{}}}"#, nodes.join(","), times + 1)
    };
    assert_eq!(gives(&nest(128), Limits::default()), format!("{}{}", "[".repeat(129), "]".repeat(129)));
    fails(&nest(129), Limits::default());
}

#[test]
fn texts_that_nest_deeply_are_passed_on_and_compared_no_deeper_than_the_limit() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let nodes = |n: usize, last: &str| {
        let text = serde_json::to_string(&deep(n)).unwrap();
        let mut nodes = vec![
            format!(r#"{{"literal":{text}}}"#),
            r#"{"operation":"json.decode","inputs":[0]}"#.to_owned(),
            r#"{"operation":"json.decode","inputs":[0]}"#.to_owned(),
        ];
        // Each in ten lists more: 3 to 22.
        nodes.extend((1..=20).map(|inner| format!(r#"{{"list":[{inner}]}}"#)));
        nodes.push(last.to_owned());
        format!(r#"{{"nodes":[{}],"result":23}}"#, nodes.join(","))
    };
    let both = gives(&nodes(128, r#"{"list":[21,22]}"#), Limits::default());
    assert_eq!(both, format!("[{0},{0}]", deep(138)));
    fails(&nodes(128, r#"{"operation":"equal","inputs":[21,22]}"#), Limits::default());
    // What nests deeper by itself is no JSON to begin with.
    let vector = Vector::read(nodes(129, r#"{"list":[21,22]}"#).as_bytes()).unwrap().remove(0);
    let error = vector.evaluate(Limits::default()).unwrap_err();
    assert!(error.to_string().contains("byte 128: nests more than 128 deep (invalid_value)"), "{error}");
}

#[test]
fn a_chain_of_a_hundred_thousand_operations_does_not_recurse() {
    let times = 100_000;
    let nodes: Vec<String> = [r#"{"literal":1}"#.to_owned()]
        .into_iter()
        .chain((0..times).map(|n| format!(r#"{{"operation":"add","inputs":[{n},0]}}"#)))
        .collect();
    let json = format!(r#"{{"nodes":[{}],"result":{times}}}"#, nodes.join(","));
    assert_eq!(gives(&json, Limits::default()), "100001");
}

/// A map over the numbers up to `n`, with a text of 2.7 MB captured by its body.
fn over_a_long_text(n: usize, body: &str) -> String {
    format!(
        r#"{{"nodes":[{{"literal":"{}"}},{{"literal":2700}},{{"operation":"string.repeat","inputs":[0,1]}},{{"literal":0}},{{"literal":{n}}},{{"operation":"list.range","inputs":[3,4]}},{{"operation":"list.map","inputs":[5,2],"body":{{"nodes":[{body}],"result":1}}}}],"result":6}}"#,
        "a".repeat(1_000)
    )
}

#[test]
fn what_is_read_again_and_again_is_paid_again_and_again() {
    let captured = r#"{"body_input":1}"#;
    for body in [
        format!(r#"{captured},{{"list":[0]}}"#),
        format!(r#"{captured},{{"operation":"string.starts_with","inputs":[0,0]}}"#),
        format!(r#"{captured},{{"operation":"string.find","inputs":[0,0]}}"#),
        format!(r#"{captured},{{"operation":"string.upper","inputs":[0]}}"#),
    ] {
        fails(&over_a_long_text(100_000, &body), Limits::default());
    }
}

#[test]
fn so_many_operands_are_refused_before_they_are_gathered() {
    let inputs = vec!["0"; 2_000_000].join(",");
    let json = format!(
        r#"{{"nodes":[{{"literal":[1]}},{{"operation":"list.concat","inputs":[{inputs}]}}],"result":1}}"#
    );
    fails(&json, Limits::default());
}

#[test]
fn a_table_that_a_body_looks_into_is_parsed_once() {
    let table: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let json = format!(
        r#"{{"nodes":[{{"input":"table"}},{{"literal":0}},{{"literal":1000}},{{"operation":"list.range","inputs":[1,2]}},{{"operation":"list.map","inputs":[3,0],"body":{{"nodes":[{{"body_input":1}},{{"body_input":0}},{{"operation":"get","inputs":[0,1]}}],"result":2}}}},{{"operation":"list.sum","inputs":[4]}}],"result":5,"inputs":{{"table":[{}]}}}}"#,
        table.join(",")
    );
    assert_eq!(gives(&json, Limits::default()), (0..1_000).sum::<u32>().to_string());
}

#[test]
fn a_list_that_grows_by_an_element_at_a_time_lets_go_of_what_it_was() {
    let json = r#"{"nodes":[{"literal":0},{"literal":3000},{"operation":"list.range","inputs":[0,1]},{"literal":[]},{"operation":"list.reduce","inputs":[2,3],"body":{"nodes":[{"body_input":0},{"body_input":1},{"operation":"list.append","inputs":[0,1]}],"result":2}},{"operation":"length","inputs":[4]}],"result":5}"#;
    assert_eq!(gives(json, Limits::default()), "3000");
}

#[test]
fn what_an_operation_gives_does_not_depend_on_which_was_computed_before() {
    let of = |first: &str, second: &str| {
        format!(
            r#"{{"nodes":[{{"input":"x"}},{{"literal":1}},{first},{second},{{"list":[2,3]}}],"result":4,"inputs":{{"x":1.50}}}}"#
        )
    };
    let (add, text) = (r#"{"operation":"add","inputs":[0,1]}"#, r#"{"operation":"to_string","inputs":[0]}"#);
    assert_eq!(gives(&of(add, text), Limits::default()), r#"[2.5,"1.5"]"#);
    assert_eq!(gives(&of(text, add), Limits::default()), r#"["1.5",2.5]"#);
}
