use std::collections::HashMap;

use mycelium_proto::limits;

use super::{Node, flat, node_count, outputs};
use crate::{Value, list, map};

const LONG: usize = 100_000;

#[test]
fn a_long_chain_of_pushes_is_one_list() {
    let v = outputs();
    let mut built: Value<Vec<i64>> = list![];
    let mut onto = v.xs.clone();
    let mut literal = Value::literal(&vec![1, 2]);
    for _ in 0..LONG {
        built.push(7);
        onto.push(&v.i);
        literal.push(1);
    }
    assert_eq!(node_count(&built), LONG + 1);
    assert_eq!(node_count(&onto), 4, "xs, i, the list and the operation");
    assert_eq!(node_count(&literal), LONG + 3);
    onto.extend(list![1, 2]);
    assert_eq!(node_count(&onto), 6);
}

#[test]
fn a_long_chain_of_inserts_is_one_map() {
    let v = outputs();
    let mut built: Value<HashMap<String, i64>> = map! {};
    let mut onto = v.m.clone();
    for number in 0..LONG {
        built.insert(format!("key {}", number % (LONG / 2)), 7);
        onto.insert(format!("key {number}"), &v.i);
    }
    assert_eq!(node_count(&built), LONG / 2 + 1);
    assert_eq!(node_count(&onto), 4, "m, i, the map and the operation");
}

#[test]
fn a_long_text_is_one_operation() {
    let v = outputs();
    let mut line = v.s.clone() + "";
    for _ in 0..LONG {
        line += &v.s;
    }
    assert_eq!(node_count(&line), 3);
}

/// A list in a list in a list...
fn nested(levels: usize) -> Node {
    (0..levels).fold(Node::literal(&1), |node, _| Node::list(vec![node]))
}

#[test]
fn what_was_pushed_counts_for_depth() {
    let deep: Value<i64> = Value::from_node(nested(100));
    let mut xs: Value<Vec<i64>> = list![];
    xs.push(&deep);
    assert_eq!(xs.node().depth(), 101);
}

#[test]
fn a_long_chain_of_operations_is_built_shown_sent_and_dropped() {
    let v = outputs();
    let mut sum = v.i.clone();
    let mut sorted = v.xs.clone();
    for _ in 0..LONG {
        sum += 1;
        sorted = sorted.map(|x| x + 1);
    }
    // The output, and for each turn a literal and an operation, or an operation alone.
    assert_eq!(node_count(&sum), 1 + 2 * LONG);
    assert_eq!(node_count(&sorted), 1 + LONG);
    assert_eq!(sum.to_string(), format!("…{}", " + 1".repeat(12)));
    assert!(sorted.to_string().starts_with("….map(x -> …).map(x -> x + 1)"), "{sorted}");
    // And inside of a closure.
    assert_eq!(node_count(&v.xs.map(|x| (0..LONG).fold(x, |x, _| x + 1))), 2);
}

#[test]
fn depth_is_allowed_up_to_its_limit() {
    let v = outputs();
    let most = limits::VALUE_DEPTH_MAX;
    let deep = |levels| Value::<i64>::from_node(nested(levels));
    assert!(flat(&deep(most)).is_ok());
    assert_eq!(
        flat(&deep(most + 1)).unwrap_err(),
        "lists and maps are nested 129 deep, and at most 128 is allowed"
    );
    // What is in a body stands in a table of its own, and what operations give is not known yet.
    assert!(flat(&v.xs.map(|x| x + deep(most))).is_ok());
    assert!(flat(&v.xs.map(|x| x + deep(most + 1))).is_err());
    assert!(flat(&(deep(most) + deep(most))).is_ok());
}

#[test]
fn a_graph_that_doubles_at_every_level_is_small() {
    let v = outputs();
    let doubled = |value: Value<i64>| (0..100).fold(value, |value, _| &value + &value);
    assert_eq!(node_count(&doubled(v.i.clone())), 101);
    let body = v.xs.map(doubled);
    assert_eq!(node_count(&body), 2);
    assert!(doubled(v.i).to_string().len() < 30_000, "what is shown is limited");
}

#[test]
fn the_version_of_the_operations_is_told_where_there_are_any() {
    let v = outputs();
    let version = |value: Value<serde_json::Value>| flat(&value).unwrap().operations_version;
    assert_eq!(version(v.i.untyped()), 0);
    assert_eq!(version(list![&v.i, 1].untyped()), 0);
    // The one that has them all, so that an earlier broker refuses only what it does not know.
    assert_eq!(version((&v.i + 1).untyped()), 1);
    assert_eq!(version(v.any.less_than(Value::any(&1)).untyped()), 1);
    assert_eq!(version(v.i.less_than(1).untyped()), limits::OPERATIONS_VERSION);
    assert_eq!(version(v.xs.filter(|x| x.less_than(1)).untyped()), limits::OPERATIONS_VERSION);
    assert_eq!(version(v.xs.sorted_by(|x| x % 2).untyped()), limits::OPERATIONS_VERSION);
}

#[test]
fn names_of_operations_have_a_length() {
    let name = |name: String| flat(&Value::operation(name, [1])).map(|_| ());
    assert_eq!(name("x".repeat(255)), Ok(()));
    let told = name("x".repeat(256)).unwrap_err();
    assert!(told.starts_with("the name of the operation has 256 bytes"), "{told}");
    assert!(name(String::new()).is_err());
}
