//! Tests of types, casts, and what belongs nowhere else.

use super::{Calls, Function, MANY, argument, function};
use crate::error::{Failure, Outcome};
use crate::store::split_id;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    function("IS_NULL", 1, 1, |_, a| Ok(a[0].is_null().into())),
    function("IS_BOOL", 1, 1, |_, a| Ok(matches!(a[0], Value::Bool(_)).into())),
    function("IS_NUMBER", 1, 1, |_, a| Ok(a[0].is_number().into())),
    function("IS_STRING", 1, 1, |_, a| Ok(matches!(a[0], Value::Str(_)).into())),
    function("IS_ARRAY", 1, 1, |_, a| Ok(matches!(a[0], Value::Array(_)).into())),
    function("IS_LIST", 1, 1, |_, a| Ok(matches!(a[0], Value::Array(_)).into())),
    function("IS_OBJECT", 1, 1, |_, a| Ok(matches!(a[0], Value::Object(_)).into())),
    function("IS_DOCUMENT", 1, 1, |_, a| Ok(matches!(a[0], Value::Object(_)).into())),
    function("TYPENAME", 1, 1, |_, a| Ok(Value::str(a[0].type_name()))),
    function("TO_BOOL", 1, 1, |_, a| Ok(a[0].is_true().into())),
    function("TO_NUMBER", 1, 1, |_, a| Ok(a[0].to_number())),
    function("TO_STRING", 1, 1, |_, a| Ok(Value::Str(a[0].to_text()))),
    function("TO_ARRAY", 1, 1, to_array),
    function("NOT_NULL", 1, MANY, |_, a| Ok(a.iter().find(|v| !v.is_null()).cloned().unwrap_or_default())),
    function("FIRST_LIST", 1, MANY, |_, a| Ok(first(a, |v| matches!(v, Value::Array(_))))),
    function("FIRST_DOCUMENT", 1, MANY, |_, a| Ok(first(a, |v| matches!(v, Value::Object(_))))),
    function("NOOPT", 1, 1, |_, a| Ok(a[0].clone())),
    function("PASSTHRU", 1, 1, |_, a| Ok(a[0].clone())),
    function("FAIL", 0, 1, fail),
    function("ASSERT", 2, 2, assert_true),
    function("WARN", 2, 2, warn_unless),
    function("IN_RANGE", 5, 5, in_range),
    function("CHECK_DOCUMENT", 1, 1, |_, a| Ok(matches!(a[0], Value::Object(_)).into())),
    Function { name: "DOCUMENT", least: 1, most: 2, reads: true, call: |_, _| Ok(Value::Null) },
    function("PARSE_IDENTIFIER", 1, 1, |calls, a| {
        parse(calls, &a[0], |collection, key| Value::object([("collection", collection), ("key", key)]))
    }),
    function("PARSE_COLLECTION", 1, 1, |calls, a| parse(calls, &a[0], |collection, _| collection)),
    function("PARSE_KEY", 1, 1, |calls, a| parse(calls, &a[0], |_, key| key)),
    function("IS_SAME_COLLECTION", 2, 2, is_same_collection),
];

fn first(arguments: &[Value], wanted: impl Fn(&Value) -> bool) -> Value {
    arguments.iter().find(|value| wanted(value)).cloned().unwrap_or_default()
}

fn to_array(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    Ok(match &a[0] {
        Value::Null => Value::array(Vec::new()),
        Value::Array(_) => a[0].clone(),
        Value::Object(object) => Value::array(object.values().cloned().collect()),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Str(_) => Value::array(vec![a[0].clone()]),
    })
}

fn fail(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    Err(Failure::new(1569, format!("AQL: FAIL({}) called", argument(a, 0).to_text())))
}

fn assert_true(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    if a[0].is_true() { Ok(Value::Bool(true)) } else { Err(Failure::new(1593, a[1].to_text().to_string())) }
}

fn warn_unless(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    if !a[0].is_true() {
        calls.warn(1594, a[1].to_text().to_string());
    }
    Ok(a[0].is_true().into())
}

fn in_range(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (value, low, high) = (&a[0], &a[1], &a[2]);
    let above = low < value || a[3].is_true() && low == value;
    let below = value < high || a[4].is_true() && value == high;
    Ok((above && below).into())
}

fn id_of(value: &Value) -> Value {
    if matches!(value, Value::Object(_)) { value.get("_id") } else { value.clone() }
}

fn parse(calls: &mut Calls, value: &Value, make: impl Fn(Value, Value) -> Value) -> Outcome<Value> {
    match id_of(value).as_str().and_then(split_id) {
        Some((collection, key)) => Ok(make(Value::str(collection), Value::str(key))),
        None => calls.mismatch(),
    }
}

fn is_same_collection(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let name = |value: &Value| {
        let id = id_of(value);
        id.as_str().map(|id| id.split('/').next().unwrap_or_default().to_owned())
    };
    match (name(&a[0]), name(&a[1])) {
        (Some(one), Some(other)) => Ok((one == other).into()),
        _ => calls.mismatch(),
    }
}
