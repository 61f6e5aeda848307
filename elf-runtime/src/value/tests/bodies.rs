use super::{flat, graphs, node_count, outputs, wire};
use crate::{Flow, Value, any_map, args, list};

#[test]
fn closures_become_bodies() {
    let v = outputs();
    graphs! {
        v.xs.map(|x| x * 2) => "list.map(xs; multiply($0, 2))";
        v.xs.map(|x| &x * &x) => "list.map(xs; multiply($0, $0))";
        v.xs.map(|x| x) => "list.map(xs; $0)";
        v.xs.map(|_| 7) => "list.map(xs; 7)";
        v.xs.map(|_| "bee").join("") => r#"string.join(list.map(xs; "bee"), "")"#;
        v.xs.map(|x| any_map! { "x" => x, "one" => 1 }) => "list.map(xs; {x: $0, one: 1})";
        v.xs.filter(|x| x.greater_than(3)) => "list.filter(xs; strict.greater($0, 3))";
        v.xs.reduce(0, |sum, x| sum + x) => "list.reduce(xs, 0; add($0, $1))";
        v.xs.fold("", |text, x| text + x.to_text()) => r#"list.reduce(xs, ""; string.concat($0, to_string($1)))"#;
        v.words.group_by(|word| word.length()) => "list.group_by(words; length($0))";
        v.words.sorted_by(|word| word.length()) => "strict.sort(words, false; length($0))";
    }
}

#[test]
fn what_does_not_depend_on_the_element_is_captured_once() {
    let v = outputs();
    let factor = &v.i * 2;
    graphs! {
        v.xs.map(|x| x + &factor) => "list.map(xs, multiply(i, 2); add($0, $1))";
        v.xs.map(|x| (x + &factor) * &factor - (&factor + 1))
            => concat!(
                "list.map(xs, multiply(i, 2), add(multiply(i, 2), 1); ",
                "subtract(multiply(add($0, $1), $1), $2))",
            );
        v.xs.map(|_| factor.clone()) => "list.map(xs, multiply(i, 2); $1)";
        v.xs.map(|_| list![1, 2]) => "list.map(xs, [1, 2]; $1)";
        v.xs.reduce(0, |sum, x| sum + x * &v.j) => "list.reduce(xs, 0, j; add($0, multiply($1, $2)))";
        v.xs.sorted_by(|x| x % &v.i) => "strict.sort(xs, false, i; modulo($0, $1))";
    }
    let captured_once = v.xs.map(|x| (x + &factor) * &factor);
    let nodes = flat(&captured_once).unwrap().nodes;
    assert_eq!(nodes.len(), 5, "xs, i, 2, i * 2 and the operation: {nodes:#?}");
}

#[test]
fn closures_stand_in_each_other() {
    let v = outputs();
    let rows: Value<Vec<Vec<i64>>> = list![&v.xs, &v.ys];
    graphs! {
        rows.map(|row| row.map(|x| x + 1)) => "list.map([xs, ys]; list.map($0; add($0, 1)))";
        // The inner one captures the outer element, and both capture what is outside of both.
        rows.map(|row| row.map(|x| x * row.sum() + &v.i))
            => "list.map([xs, ys], i; list.map($0, list.sum($0), $1; add(multiply($0, $1), $2)))";
        // What only the inner one uses is captured by both.
        v.xs.map(|x| v.ys.map(|y| &x + y)) => "list.map(xs, ys; list.map($1, $0; add($0, $1)))"
            .replace("add($0, $1)", "add($1, $0)");
        // An inner list that depends on nothing is computed once.
        v.xs.map(|x| x + v.ys.map(|y| y * 2).sum())
            => "list.map(xs, list.sum(list.map(ys; multiply($0, 2))); add($0, $1))";
    }
}

#[test]
fn an_element_that_escapes_its_closure_is_a_mistake_that_submit_tells() {
    let v = outputs();
    let mut escaped = None;
    let _ = v.xs.map(|x| {
        escaped = Some(x.clone());
        x
    });
    let escaped = escaped.unwrap();
    let told = "it uses what a closure was given (an element of a list, say) outside of that closure: only what the \
                closure returns can be used there";
    let mistake = |value: Value<serde_json::Value>| flat(&value).unwrap_err();
    assert_eq!(mistake(escaped.untyped()), told);
    assert_eq!(mistake((&escaped + 1).untyped()), told);
    assert_eq!(mistake(v.ys.map(|y| y + &escaped).untyped()), told);
    assert_eq!(mistake(v.ys.map(|y| v.xs.map(|x| x + &escaped * &y)).untyped()), told);
    assert_eq!(escaped.to_string(), "<what a closure was given>");

    let flow = Flow::detached("escape");
    let _ = v.xs.map(|x| {
        flow.call("zoo", "task_weigh", args! { species: &x });
        x
    });
    let problems = futures::executor::block_on(flow.begin_submission()).err().unwrap().to_string();
    assert_eq!(problems, format!("call of `task_weigh` of the elf `zoo`: parameter `species`: {told}"));
}

#[test]
fn mistakes_in_a_closure_are_those_of_the_value() {
    let v = outputs();
    let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
    let unwritable = v.words.map(|word| crate::any_list![word, Value::any(&keys)]);
    assert_eq!(
        flat(&unwritable).unwrap_err(),
        "it cannot be written as JSON: at `[0]`: key must be a string"
    );
    let outside = Value::<i64>::from_node(crate::value::node::Node::invalid("no such thing".to_owned()));
    assert_eq!(flat(&v.xs.map(|x| x + &outside)).unwrap_err(), "no such thing");
}

#[test]
fn a_long_computation_before_a_closure_is_not_walked_by_it() {
    // Each closure captures what all before have made: were they walked, this would take forever.
    let v = outputs();
    let mut shared = v.i.clone();
    for _ in 0..100 {
        shared = &shared + &shared;
        shared = v.xs.map(|x| x + &shared).sum();
    }
    // xs, i, and three operations a turn.
    assert_eq!(node_count(&shared), 2 + 300);
}

#[test]
fn closures_stand_in_each_other_up_to_a_limit() {
    fn nested(list: &Value<Vec<i64>>, x: &Value<i64>, levels: u32) -> Value<i64> {
        if levels == 0 {
            return x + 1;
        }
        list.map(|y| nested(list, &(x + y), levels - 1)).sum()
    }
    let v = outputs();
    assert!(wire(&nested(&v.xs, &v.i, 8)).starts_with("list.sum(list.map(xs, "));
    for levels in [9, 30] {
        let problem = flat(&nested(&v.xs, &v.i, levels)).unwrap_err();
        assert_eq!(problem, "closures are nested 9 deep, and at most 8 is allowed");
    }
}
