//! Functions of numbers, and of arrays of them.

use super::{Calls, Function, MANY, argument, function};
use crate::error::Outcome;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    function("ABS", 1, 1, |_, a| {
        Ok(match a[0].to_number() {
            Value::Int(number) if number != i64::MIN => Value::Int(number.abs()),
            number => Value::double(number.to_f64().abs()),
        })
    }),
    function("CEIL", 1, 1, |_, a| whole(a, f64::ceil)),
    function("FLOOR", 1, 1, |_, a| whole(a, f64::floor)),
    // Halves go up, also those below zero.
    function("ROUND", 1, 1, |_, a| whole(a, |number| (number + 0.5).floor())),
    function("SQRT", 1, 1, |_, a| Ok(Value::double(a[0].to_f64().sqrt()))),
    function("POW", 2, 2, |_, a| Ok(Value::double(a[0].to_f64().powf(a[1].to_f64())))),
    function("LOG", 1, 1, |_, a| Ok(Value::double(a[0].to_f64().ln()))),
    function("LOG2", 1, 1, |_, a| Ok(Value::double(a[0].to_f64().log2()))),
    function("LOG10", 1, 1, |_, a| Ok(Value::double(a[0].to_f64().log10()))),
    function("EXP", 1, 1, |_, a| Ok(Value::double(a[0].to_f64().exp()))),
    function("MIN", 1, 1, |calls, a| extreme(calls, a, false)),
    function("MAX", 1, 1, |calls, a| extreme(calls, a, true)),
    function("SUM", 1, 1, |calls, a| match numbers(a) {
        Some(numbers) => Ok(sum(&numbers)),
        None => calls.mismatch(),
    }),
    function("AVERAGE", 1, 1, average),
    function("AVG", 1, 1, average),
    function("PRODUCT", 1, 1, |calls, a| match numbers(a) {
        Some(numbers) => Ok(Value::double(numbers.iter().map(Value::to_f64).product())),
        None => calls.mismatch(),
    }),
    function("MEDIAN", 1, 1, |calls, a| percentile_of(calls, a, 0.5, true)),
    function("PERCENTILE", 2, 3, percentile),
    function("RANGE", 2, 3, range),
    function("MINHASH_COUNT", 1, 1, |_, a| Ok(Value::Double((1.0 / a[0].to_f64().powi(2)).ceil()))),
    function("MINHASH_ERROR", 1, 1, |_, a| Ok(Value::double(1.0 / a[0].to_f64().sqrt()))),
    function("BIT_AND", 2, MANY, |_, a| Ok(Value::Int(a.iter().fold(-1, |bits, v| bits & v.to_i64())))),
];

fn whole(a: &[Value], round: impl Fn(f64) -> f64) -> Outcome<Value> {
    Ok(match a[0].to_number() {
        Value::Int(number) => Value::Int(number),
        number => Value::double(round(number.to_f64())),
    })
}

/// The elements that are not null; none where one of them is no number.
fn numbers(a: &[Value]) -> Option<Vec<Value>> {
    let values = a[0].as_array()?;
    let numbers: Vec<Value> = values.iter().filter(|value| !value.is_null()).cloned().collect();
    numbers.iter().all(Value::is_number).then_some(numbers)
}

/// Whole where all numbers are, as long as it fits.
pub(crate) fn sum(numbers: &[Value]) -> Value {
    let whole = numbers.iter().try_fold(0_i64, |sum, number| match number {
        Value::Int(number) => sum.checked_add(*number),
        _ => None,
    });
    whole.map_or_else(|| Value::double(numbers.iter().map(Value::to_f64).sum()), Value::Int)
}

fn extreme(calls: &mut Calls, a: &[Value], greatest: bool) -> Outcome<Value> {
    let Some(values) = a[0].as_array() else { return calls.mismatch() };
    let values = values.iter().filter(|value| !value.is_null());
    let found = if greatest { values.max() } else { values.min() };
    Ok(found.cloned().unwrap_or_default())
}

fn average(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    match numbers(a) {
        Some(numbers) if numbers.is_empty() => Ok(Value::Null),
        Some(numbers) => Ok(Value::double(sum(&numbers).to_f64() / numbers.len() as f64)),
        None => calls.mismatch(),
    }
}

fn percentile(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let method = argument(a, 2);
    let interpolate = match method.as_str() {
        Some("interpolation") => true,
        Some("rank") | None => false,
        Some(_) => return Err(calls.not_known("the method")),
    };
    percentile_of(calls, a, a[1].to_f64() / 100.0, interpolate)
}

fn percentile_of(calls: &mut Calls, a: &[Value], part: f64, interpolate: bool) -> Outcome<Value> {
    let Some(mut numbers) = numbers(a) else { return calls.mismatch() };
    numbers.sort();
    let Some(last) = numbers.last() else { return Ok(Value::Null) };
    if !interpolate {
        let rank = (part * numbers.len() as f64).ceil().max(1.0) as usize;
        return Ok(numbers.get(rank - 1).unwrap_or(last).clone());
    }
    let middle = (numbers.len() + 1) as f64 * part;
    let below = middle.floor();
    let at = |rank: f64| numbers.get((rank as usize).saturating_sub(1)).unwrap_or(last).to_f64();
    Ok(Value::double(at(below) + (middle - below) * (at(below + 1.0) - at(below))))
}

fn range(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    const LONGEST: i64 = 10_000_000;
    let (from, to) = (a[0].to_i64(), a[1].to_i64());
    let step = a.get(2).map_or(if from <= to { 1 } else { -1 }, Value::to_i64);
    if step == 0 || (to - from) / step > LONGEST || a.iter().any(|v| matches!(v, Value::Double(_))) {
        return Err(calls.not_known("a step"));
    }
    let mut values = Vec::new();
    let mut next = from;
    while if step > 0 { next <= to } else { next >= to } {
        values.push(Value::Int(next));
        next += step;
    }
    Ok(Value::array(values))
}
