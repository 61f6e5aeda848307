//! Functions of objects.

use std::sync::Arc;

use super::{Calls, Function, MANY, argument, function};
use crate::aql::functions::array::from_either_end;
use crate::error::Outcome;
use crate::value::{Object, Value};

pub(super) const TABLE: &[Function] = &[
    function("ATTRIBUTES", 1, 3, attributes),
    function("KEYS", 1, 3, attributes),
    function("VALUES", 1, 2, values),
    function("ENTRIES", 1, 1, entries),
    function("HAS", 2, 2, |_, a| {
        Ok(a[0].as_object().is_some_and(|object| object.contains_key(&*a[1].to_text())).into())
    }),
    function("KEEP", 2, MANY, |calls, a| chosen(calls, a, false, true)),
    function("UNSET", 2, MANY, |calls, a| chosen(calls, a, false, false)),
    function("KEEP_RECURSIVE", 2, MANY, |calls, a| chosen(calls, a, true, true)),
    function("UNSET_RECURSIVE", 2, MANY, |calls, a| chosen(calls, a, true, false)),
    function("MERGE", 1, MANY, |calls, a| merge(calls, a, false)),
    function("MERGE_RECURSIVE", 1, MANY, |calls, a| merge(calls, a, true)),
    function("MATCHES", 2, 3, matches_example),
    function("TRANSLATE", 2, 3, |calls, a| match a[1].as_object() {
        Some(lookup) => {
            let other = if a.len() > 2 { a[2].clone() } else { a[0].clone() };
            Ok(lookup.get(&*a[0].to_text()).cloned().unwrap_or(other))
        }
        None => calls.mismatch(),
    }),
    function("VALUE", 2, 2, value_at),
    function("ZIP", 2, 2, zip),
];

fn object(a: &[Value]) -> Option<&Object> {
    a[0].as_object()
}

fn is_internal(name: &str) -> bool {
    name.starts_with('_')
}

/// The order is nobody's promise unless it is asked for; here it is always that of the names.
fn attributes(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let without_internal = argument(a, 1).is_true();
    let Some(object) = object(a) else { return calls.mismatch() };
    let mut names: Vec<_> =
        object.keys().filter(|name| !(without_internal && is_internal(name))).cloned().collect();
    names.sort();
    Ok(Value::array(names.into_iter().map(Value::Str).collect()))
}

fn values(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let without_internal = argument(a, 1).is_true();
    let Some(object) = object(a) else { return calls.mismatch() };
    let kept = object.iter().filter(|(name, _)| !(without_internal && is_internal(name)));
    Ok(Value::array(kept.map(|(_, value)| value.clone()).collect()))
}

fn entries(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(object) = object(a) else { return calls.mismatch() };
    let pairs =
        object.iter().map(|(name, value)| Value::array(vec![Value::Str(name.clone()), value.clone()]));
    Ok(Value::array(pairs.collect()))
}

/// `KEEP` and `UNSET`.
fn chosen(calls: &mut Calls, a: &[Value], recursive: bool, keep: bool) -> Outcome<Value> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for argument in &a[1..] {
        match argument {
            Value::Str(name) => names.push(name.clone()),
            Value::Array(list) => names.extend(list.iter().filter_map(|v| v.as_str().map(Arc::from))),
            _ => return calls.mismatch(),
        }
    }
    match object(a) {
        Some(object) => Ok(Value::Object(Arc::new(choose(object, &names, recursive, keep)))),
        None => calls.mismatch(),
    }
}

fn choose(object: &Object, names: &[Arc<str>], recursive: bool, keep: bool) -> Object {
    let kept = object.iter().filter(|(name, _)| names.contains(name) == keep);
    kept.map(|(name, value)| match value {
        Value::Object(inner) if recursive => {
            (name.clone(), Value::Object(Arc::new(choose(inner, names, true, keep))))
        }
        _ => (name.clone(), value.clone()),
    })
    .collect()
}

fn merge(calls: &mut Calls, a: &[Value], recursive: bool) -> Outcome<Value> {
    let parts = match a {
        [Value::Array(parts)] => parts.as_slice(),
        parts => parts,
    };
    let mut merged = Object::default();
    for part in parts {
        let Some(part) = part.as_object() else { return calls.mismatch() };
        merged = merge_two(merged, part, recursive);
    }
    Ok(Value::Object(Arc::new(merged)))
}

fn merge_two(mut one: Object, other: &Object, recursive: bool) -> Object {
    for (name, value) in other {
        let value = match (one.get(name), value) {
            (Some(Value::Object(one)), Value::Object(other)) if recursive => {
                Value::Object(Arc::new(merge_two(one.as_ref().clone(), other, true)))
            }
            (_, value) => value.clone(),
        };
        one.insert(name.clone(), value);
    }
    one
}

fn matches_example(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let as_index = argument(a, 2).is_true();
    let Some(object) = object(a) else { return Ok(Value::Bool(false)) };
    let examples = match &a[1] {
        Value::Array(examples) => examples.as_ref().clone(),
        example => vec![example.clone()],
    };
    for (at, example) in examples.iter().enumerate() {
        let Some(example) = example.as_object() else { return calls.mismatch() };
        if example.iter().all(|(name, value)| object.get(name).unwrap_or(&Value::Null) == value) {
            return Ok(if as_index { Value::count(at) } else { Value::Bool(true) });
        }
    }
    Ok(if as_index { Value::Int(-1) } else { Value::Bool(false) })
}

fn value_at(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(path) = a[1].as_array() else { return calls.mismatch() };
    Ok(path.iter().fold(a[0].clone(), |value, step| match (&value, step) {
        (Value::Object(_), Value::Str(name)) => value.get(name),
        (Value::Array(values), Value::Int(at)) => {
            from_either_end(values.len(), *at).map(|at| values[at].clone()).unwrap_or_default()
        }
        _ => Value::Null,
    }))
}

fn zip(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    match (a[0].as_array(), a[1].as_array()) {
        (Some(names), Some(values)) if names.len() == values.len() => {
            Ok(Value::object(names.iter().map(Value::to_text).zip(values.iter().cloned())))
        }
        _ => calls.mismatch(),
    }
}
