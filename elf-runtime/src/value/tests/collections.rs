use std::collections::{BTreeMap, HashMap};

use super::{Measurement, graphs, outputs};
use crate::{Value, list, map};

#[test]
fn lists() {
    let v = outputs();
    let all: Value<Vec<Vec<i64>>> = list![&v.xs, &v.ys];
    graphs! {
        v.xs.length() => "length(xs)";
        v.xs.get(0) + 1 => "add(get(xs, 0), 1)";
        v.xs.get(&v.i) => "get(xs, i)";
        v.xs.get_or(0, 7) => "get_or(xs, 0, 7)";
        v.xs.first() => "get(xs, 0)";
        v.xs.last() => "get(xs, -1)";
        v.xs.slice(1, -1) => "slice(xs, 1, -1)";
        v.xs.slice_from(1) => "slice(xs, 1, null)";
        v.xs.slice_to(&v.i) => "slice(xs, null, i)";
        v.xs.slice_step(None, Some(3), 2) => "slice(xs, null, 3, 2)";
        v.xs.contains(1) => "contains(xs, 1)";
        v.xs.index_of(1) => "list.index_of(xs, 1)";
        v.xs.count(1) => "list.count(xs, 1)";
        v.xs.any_true() => "list.any(xs)";
        v.xs.all_true() => "list.all(xs)";
        v.xs.reversed() => "list.reverse(xs)";
        v.xs.unique() => "list.unique(xs)";
        v.xs.concat(&v.ys) => "list.concat(xs, ys)";
        v.xs.concat(vec![1, 2]) => "list.concat(xs, [1,2])";
        Value::<Vec<i64>>::concat_of([&v.xs, &v.ys, &v.xs]) => "list.concat(xs, ys, xs)";
        v.xs.repeat(2) => "list.repeat(xs, 2)";
        all.flatten() => "list.flatten([xs, ys])";
        v.xs.zip(&v.words).first().second() => "get(get(list.zip(xs, words), 0), 1)";
        v.xs.enumerate() => "list.enumerate(xs)";
        v.xs.enumerate_from(1) => "list.enumerate(xs, 1)";
        v.xs.sorted() => "strict.sort(xs)";
        v.words.sorted_descending() => "strict.sort(words, true)";
        v.xs.min() => "strict.min(xs)";
        v.words.max() => "strict.max(words)";
        v.xs.sum() => "list.sum(xs)";
        v.xs.mean() => "list.mean(xs)";
        Value::range(0, &v.i) => "list.range(0, i)";
        Value::range_step(10, 0, -2) => "list.range(10, 0, -2)";
        v.animals.get(0).weight() => r#"get(get(animals, 0), "weight")"#;
    }
}

#[test]
fn maps() {
    let v = outputs();
    let hashed: Value<HashMap<String, i64>> = map! { "a" => &v.i };
    let items: Value<Vec<(String, i64)>> = v.words.zip(&v.xs);
    graphs! {
        v.m.length() => "length(m)";
        v.m.get("k") + 1 => r#"add(get(m, "k"), 1)"#;
        v.m.get(&v.s) => "get(m, s)";
        v.m.get_or("k", 0) => r#"get_or(m, "k", 0)"#;
        v.m.contains_key("k") => r#"contains(m, "k")"#;
        v.m.keys() => "map.keys(m)";
        v.m.values().sum() => "list.sum(map.values(m))";
        v.m.items() => "map.items(m)";
        Value::<BTreeMap<String, i64>>::from_items(items) => "map.from_items(list.zip(words, xs))";
        v.m.pick(vec!["a".to_owned()]) => r#"map.pick(m, ["a"])"#;
        v.m.pick(["a", "b"]) => r#"map.pick(m, ["a", "b"])"#;
        v.m.omit(&v.words) => "map.omit(m, words)";
        hashed.get("a") => r#"get({a: i}, "a")"#;
    }
}

#[test]
fn lists_change_under_their_handle_only() {
    let v = outputs();
    let mut xs = v.xs.clone();
    xs.push(1);
    let kept = xs.clone();
    xs.push(&v.i);
    graphs! {
        kept => "list.append(xs, 1)";
        xs => "list.append(list.append(xs, 1), i)";
        v.xs => "xs";
    }

    let change = |change: &dyn Fn(&mut Value<Vec<i64>>)| {
        let mut xs = v.xs.clone();
        change(&mut xs);
        xs
    };
    graphs! {
        change(&|xs| xs.extend(&v.ys)) => "list.extend(xs, ys)";
        change(&|xs| xs.extend(list![1, &v.i])) => "list.extend(xs, [1, i])";
        change(&|xs| xs.insert(0, 5)) => "list.insert(xs, 0, 5)";
        change(&|xs| xs.set(-1, &v.i)) => "list.set(xs, -1, i)";
        change(&|xs| xs.remove(5)) => "list.remove(xs, 5)";
        change(&|xs| xs.delete(2)) => "list.delete(xs, 2)";
        change(&|xs| { xs.push(1); xs.push(2); xs.set(0, 3); xs.push(4); })
            => "list.append(list.set(list.extend(xs, [1, 2]), 0, 3), 4)";
    }
    let mut xs = v.xs.clone();
    let last = xs.pop();
    let first = xs.pop_at(0);
    graphs! {
        last => "list.pop(xs)";
        first => "list.pop(list.delete(xs, -1), 0)";
        xs => "list.delete(list.delete(xs, -1), 0)";
    }
}

#[test]
fn maps_change_under_their_handle_only() {
    let v = outputs();
    let mut m = v.m.clone();
    m.insert("a", 1);
    let kept = m.clone();
    m.insert(&v.s, 2);
    graphs! {
        kept => r#"map.set(m, "a", 1)"#;
        m => r#"map.set(map.set(m, "a", 1), s, 2)"#;
        v.m => "m";
    }
    let mut m = v.m.clone();
    m.insert("a", 1);
    m.insert("b", &v.i);
    m.insert("a", 3);
    graphs! { m => "map.merge(m, {a: 3, b: i})"; }
    m.merge(&v.m);
    graphs! { m => "map.merge(m, {a: 3, b: i}, m)"; }
    let gone = m.remove("a");
    graphs! {
        gone => r#"get(map.merge(m, {a: 3, b: i}, m), "a")"#;
        m => r#"map.remove(map.merge(m, {a: 3, b: i}, m), "a")"#;
    }
    let mut built: Value<HashMap<String, i64>> = map! { "a" => 1 };
    built.insert("b", 2);
    built.insert("a", &v.i);
    graphs! { built => "{a: i, b: 2}"; }
}

#[test]
fn fields_of_structs_are_got_from_what_is_not_there_yet() {
    let v = outputs();
    let heaviest = v.animals.sorted_by_descending(|animal| animal.weight()).first();
    let chosen = Value::select(&v.b, &heaviest, Measurement { species: "ant".into(), weight: 1 });
    graphs! {
        heaviest.species() => r#"get(get(strict.sort(animals, true; get($0, "weight")), 0), "species")"#;
        v.animals.filter(|animal| animal.weight().greater_than(3)).map(|animal| animal.species())
            => r#"list.map(list.filter(animals; strict.greater(get($0, "weight"), 3)); get($0, "species"))"#;
        chosen.weight() => concat!(
            r#"get(select(b, get(strict.sort(animals, true; get($0, "weight")), 0), "#,
            r#"{"species":"ant","weight":1}), "weight")"#,
        );
    }
}
