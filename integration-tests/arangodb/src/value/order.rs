//! The order over all values: null, booleans, numbers, strings, arrays, objects.
//!
//! Strings compare by code point, which is what the server does for ASCII in a database of 3.12 (`en_US_POSIX`).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{Object, Value};

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Double(_) => 2,
        Value::Str(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Int(a), Self::Double(b)) => exactly(*a, *b),
            (Self::Double(a), Self::Int(b)) => exactly(*b, *a).reverse(),
            (Self::Double(a), Self::Double(b)) => plain(*a).total_cmp(&plain(*b)),
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => arrays(a, b),
            (Self::Object(a), Self::Object(b)) => objects(a, b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// As numbers, also where a double no longer tells neighbours apart.
fn exactly(whole: i64, double: f64) -> Ordering {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    match double {
        _ if double >= BOUND => Ordering::Less,
        _ if double < -BOUND => Ordering::Greater,
        _ => whole.cmp(&(double.trunc() as i64)).then_with(|| 0.0_f64.total_cmp(&plain(double.fract()))),
    }
}

/// Zero has no sign for comparisons.
fn plain(number: f64) -> f64 {
    if number == 0.0 { 0.0 } else { number }
}

/// Element by element; what one array lacks compares as null.
fn arrays(a: &[Value], b: &[Value]) -> Ordering {
    (0..a.len().max(b.len()))
        .map(|i| a.get(i).unwrap_or(&Value::Null).cmp(b.get(i).unwrap_or(&Value::Null)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Attribute by attribute in the order of their names; what one object lacks compares as null.
fn objects(a: &Object, b: &Object) -> Ordering {
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).map(AsRef::as_ref).collect();
    names
        .into_iter()
        .map(|name| a.get(name).unwrap_or(&Value::Null).cmp(b.get(name).unwrap_or(&Value::Null)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}
