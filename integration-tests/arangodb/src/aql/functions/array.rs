//! Functions of arrays.

use std::collections::{BTreeMap, BTreeSet};

use super::{Calls, Function, MANY, argument, function};
use crate::error::Outcome;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    function("APPEND", 2, 3, append),
    function("COUNT", 1, 1, length),
    function("LENGTH", 1, 1, length),
    function("COUNT_DISTINCT", 1, 1, count_distinct),
    function("COUNT_UNIQUE", 1, 1, count_distinct),
    function("FIRST", 1, 1, |calls, a| with(calls, a, |v| v.first().cloned().unwrap_or_default())),
    function("LAST", 1, 1, |calls, a| with(calls, a, |v| v.last().cloned().unwrap_or_default())),
    function("NTH", 2, 2, |calls, a| {
        let at = usize::try_from(a[1].to_i64()).ok();
        with(calls, a, |v| at.and_then(|at| v.get(at)).cloned().unwrap_or_default())
    }),
    function("FLATTEN", 1, 2, flatten),
    function("INTERLEAVE", 1, MANY, interleave),
    function("INTERSECTION", 2, MANY, |calls, a| by_occurrence(calls, a, |n, of| n == of)),
    function("OUTERSECTION", 2, MANY, |calls, a| by_occurrence(calls, a, |n, _| n == 1)),
    function("UNION", 2, MANY, |calls, a| all(a).map_or_else(|| calls.mismatch(), |v| Ok(Value::array(v)))),
    function("UNION_DISTINCT", 2, MANY, |calls, a| by_occurrence(calls, a, |_, _| true)),
    function("MINUS", 2, MANY, minus),
    function("JACCARD", 2, 2, jaccard),
    function("POP", 1, 1, |calls, a| changed(calls, a, |v| drop(v.pop()))),
    function("SHIFT", 1, 1, |calls, a| changed(calls, a, |v| drop(v.drain(..1.min(v.len()))))),
    function("PUSH", 2, 3, |calls, a| {
        let once = argument(a, 2).is_true();
        if a[0].is_null() {
            return Ok(Value::array(vec![a[1].clone()]));
        }
        changed(calls, a, |v| {
            if !(once && v.contains(&a[1])) {
                v.push(a[1].clone())
            }
        })
    }),
    function("UNSHIFT", 2, 3, |calls, a| {
        let once = argument(a, 2).is_true();
        if a[0].is_null() {
            return Ok(Value::array(vec![a[1].clone()]));
        }
        changed(calls, a, |v| {
            if !(once && v.contains(&a[1])) {
                v.insert(0, a[1].clone())
            }
        })
    }),
    function("POSITION", 2, 3, position),
    function("CONTAINS_ARRAY", 2, 3, position),
    function("REMOVE_NTH", 2, 2, |calls, a| {
        changed(calls, a, |v| {
            if let Some(at) = from_either_end(v.len(), a[1].to_i64()) {
                v.remove(at);
            }
        })
    }),
    function("REMOVE_VALUE", 2, 3, |calls, a| {
        let mut left = if a.len() > 2 { a[2].to_i64() } else { i64::MAX };
        changed(calls, a, |v| {
            v.retain(|value| {
                let gone = *value == a[1] && left > 0;
                left -= i64::from(gone);
                !gone
            });
        })
    }),
    function("REMOVE_VALUES", 2, 2, |calls, a| {
        let gone = a[1].as_array().cloned().unwrap_or_default();
        changed(calls, a, |v| v.retain(|value| !gone.contains(value)))
    }),
    function("REPLACE_NTH", 3, 4, replace_nth),
    function("SLICE", 2, 3, slice),
    function("SORTED", 1, 1, |calls, a| changed(calls, a, |v| v.sort())),
    function("SORTED_UNIQUE", 1, 1, |calls, a| {
        changed(calls, a, |v| {
            v.sort();
            v.dedup();
        })
    }),
    function("UNIQUE", 1, 1, |calls, a| changed(calls, a, unique)),
];

fn with(calls: &mut Calls, a: &[Value], give: impl FnOnce(&[Value]) -> Value) -> Outcome<Value> {
    match a[0].as_array() {
        Some(values) => Ok(give(values)),
        None => calls.mismatch(),
    }
}

fn changed(calls: &mut Calls, a: &[Value], change: impl FnOnce(&mut Vec<Value>)) -> Outcome<Value> {
    with(calls, a, |values| {
        let mut values = values.to_vec();
        change(&mut values);
        Value::array(values)
    })
}

/// Without later copies.
pub(crate) fn unique(values: &mut Vec<Value>) {
    let mut seen = BTreeSet::new();
    values.retain(|value| seen.insert(value.clone()));
}

fn all(a: &[Value]) -> Option<Vec<Value>> {
    let arrays: Option<Vec<&Vec<Value>>> = a.iter().map(Value::as_array).collect();
    arrays.map(|arrays| arrays.into_iter().flatten().cloned().collect())
}

fn length(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    Ok(Value::count(match &a[0] {
        Value::Null | Value::Bool(false) => 0,
        Value::Bool(true) => 1,
        Value::Int(_) | Value::Double(_) => a[0].to_text().len(),
        Value::Str(text) => text.chars().count(),
        Value::Array(values) => values.len(),
        Value::Object(object) => object.len(),
    }))
}

fn append(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let once = argument(a, 2).is_true();
    if a[1].is_null() {
        return Ok(a[0].clone());
    }
    let added = a[1].as_array().cloned().unwrap_or_else(|| vec![a[1].clone()]);
    if a[0].is_null() {
        return Ok(Value::array(added));
    }
    changed(calls, a, |values| {
        values.extend(added);
        if once {
            unique(values);
        }
    })
}

fn count_distinct(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    with(calls, a, |values| Value::count(values.iter().collect::<BTreeSet<_>>().len()))
}

fn flatten(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let depth = if a.len() > 1 { a[1].to_i64().max(1) } else { 1 };
    with(calls, a, |values| Value::array(flat(values, depth)))
}

/// Without that many levels of arrays.
pub(crate) fn flat(values: &[Value], depth: i64) -> Vec<Value> {
    let mut out = Vec::new();
    for value in values {
        match value {
            Value::Array(inner) if depth > 0 => out.extend(flat(inner, depth - 1)),
            _ => out.push(value.clone()),
        }
    }
    out
}

fn interleave(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(arrays) = a.iter().map(Value::as_array).collect::<Option<Vec<_>>>() else {
        return calls.mismatch();
    };
    let longest = arrays.iter().map(|values| values.len()).max().unwrap_or_default();
    let values = (0..longest).flat_map(|at| arrays.iter().filter_map(move |values| values.get(at).cloned()));
    Ok(Value::array(values.collect()))
}

/// The values that lie in as many of the arrays as wanted. Their order is nobody's promise: here it is that of their
/// first occurrences, backwards, so that nobody relies on it.
fn by_occurrence(calls: &mut Calls, a: &[Value], wanted: impl Fn(usize, usize) -> bool) -> Outcome<Value> {
    let Some(mut values) = all(a) else { return calls.mismatch() };
    let mut counts: BTreeMap<&Value, usize> = BTreeMap::new();
    for array in a.iter().filter_map(Value::as_array) {
        for value in array.iter().collect::<BTreeSet<_>>() {
            *counts.entry(value).or_default() += 1;
        }
    }
    unique(&mut values);
    values.retain(|value| wanted(counts.get(value).copied().unwrap_or_default(), a.len()));
    values.reverse();
    Ok(Value::array(values))
}

fn minus(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(gone) = all(&a[1..]) else { return calls.mismatch() };
    let gone: BTreeSet<Value> = gone.into_iter().collect();
    changed(calls, a, |values| {
        unique(values);
        values.retain(|value| !gone.contains(value));
        values.reverse();
    })
}

fn jaccard(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (Some(one), Some(other)) = (a[0].as_array(), a[1].as_array()) else { return calls.mismatch() };
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.iter().collect(), other.iter().collect());
    let common = one.intersection(&other).count();
    let union = one.len() + other.len() - common;
    Ok(if union == 0 { Value::Int(1) } else { Value::double(common as f64 / union as f64) })
}

fn position(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let as_index = argument(a, 2).is_true();
    with(calls, a, |values| match (values.iter().position(|value| *value == a[1]), as_index) {
        (found, false) => found.is_some().into(),
        (Some(at), true) => Value::count(at),
        (None, true) => Value::Int(-1),
    })
}

/// A place from the start, or from the end where it is negative.
pub(crate) fn from_either_end(length: usize, at: i64) -> Option<usize> {
    let at = if at < 0 { at + i64::try_from(length).ok()? } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

fn replace_nth(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(values) = a[0].as_array() else { return calls.mismatch() };
    let at = a[1].to_i64();
    let at = usize::try_from(if at < 0 { at + values.len() as i64 } else { at }).unwrap_or_default();
    if at > values.len() && a.len() < 4 {
        return calls.mismatch();
    }
    changed(calls, a, |values| {
        while values.len() < at {
            values.push(argument(a, 3));
        }
        if at == values.len() {
            values.push(a[2].clone());
        } else {
            values[at] = a[2].clone();
        }
    })
}

fn slice(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (start, count) = (a[1].to_i64(), a.get(2).map(Value::to_i64));
    with(calls, a, |values| {
        let length = values.len() as i64;
        let start = if start < 0 { (start + length).max(0) } else { start.min(length) };
        let end = match count {
            None => length,
            Some(count) if count < 0 => length + count,
            Some(count) => start.saturating_add(count).min(length),
        };
        let range =
            usize::try_from(start).unwrap_or_default()..usize::try_from(end.max(start)).unwrap_or_default();
        Value::array(values[range].to_vec())
    })
}
