//! Operations on values of several types.

use super::operand::{any, bad_index, int_or, list, place, text, with_article, wrong_type};
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::order::equal;
use crate::table::{Lazy, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::Value;

const BOOL: Types = Types::of(&[Type::Bool]);
const HOLDERS: Types = Types::of(&[Type::List, Type::Map, Type::String]);
const SEQUENCES: Types = Types::of(&[Type::List, Type::String]);
const KEY: Types = Types::of(&[Type::Int, Type::String]);
const INT_OR_NULL: Types = Types::of(&[Type::Int, Type::Null]);

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "get",
        parameters: &[Parameter::new("value", HOLDERS), Parameter::new("key", KEY)],
        body: None,
        result: Types::ANY,
        errors: &[ErrorKind::MissingKey, ErrorKind::BadIndex],
        cost: "0",
        docs: "The element of a list or the code point of a string with this index, or the value of a map with this \
               key. Negative indexes count from the end.",
        run: Run::Eager(|operands, budget| get(any(operands, 0)?, any(operands, 1)?, budget)),
    },
    Operation {
        name: "get_path",
        parameters: &[Parameter::any("value"), Parameter::new("path", Types::of(&[Type::List]))],
        body: None,
        result: Types::ANY,
        errors: &[ErrorKind::MissingKey, ErrorKind::BadIndex],
        cost: "1 for each key",
        docs: "`get` with each key of the path in turn. An empty path gives the value itself.",
        run: Run::Eager(get_path),
    },
    Operation {
        name: "get_or",
        parameters: &[
            Parameter::new("value", Types::of(&[Type::List, Type::Map, Type::String, Type::Null])),
            Parameter::new("key", KEY),
            Parameter::any("default").lazy(),
        ],
        body: None,
        result: Types::ANY,
        errors: &[],
        cost: "0",
        docs: "As `get`, but `default` if the value is null, or has no such key or index. Otherwise `default` is not \
               computed.",
        run: Run::Lazy(Lazy::GetOr),
    },
    Operation {
        name: "slice",
        parameters: &[
            Parameter::new("value", SEQUENCES),
            Parameter::new("start", INT_OR_NULL),
            Parameter::new("stop", INT_OR_NULL),
            Parameter::new("step", INT_OR_NULL).optional(),
        ],
        body: None,
        result: SEQUENCES,
        errors: &[ErrorKind::InvalidValue],
        cost: "1 for each element taken",
        docs: "`value[start:stop:step]` as in Python: null stands for an end, negative indexes count from the end, a \
               negative step goes backwards. A step of 0 is invalid.",
        run: Run::Eager(slice),
    },
    Operation {
        name: "length",
        parameters: &[Parameter::new("value", HOLDERS)],
        body: None,
        result: Types::of(&[Type::Int]),
        errors: &[],
        cost: "0",
        docs: "How many elements, entries or code points there are.",
        run: Run::Eager(|operands, budget| {
            Ok(Value::count(match any(operands, 0)? {
                Value::List(list) => list.items().len(),
                Value::Map(map) => map.entries().len(),
                Value::Text(text) => {
                    budget.scan(text.len())?;
                    text.chars().count()
                }
                other => return Err(wrong_type("`value`", other.kind(), "a list, a map or a string")),
            }))
        }),
    },
    Operation {
        name: "contains",
        parameters: &[Parameter::new("value", HOLDERS), Parameter::any("item")],
        body: None,
        result: BOOL,
        errors: &[],
        cost: "1 for each part that is compared",
        docs: "Whether a list has an equal element, a map this key, or a string this part.",
        run: Run::Eager(contains),
    },
    Operation {
        name: "type_of",
        parameters: &[Parameter::any("value")],
        body: None,
        result: Types::of(&[Type::String]),
        errors: &[],
        cost: "0",
        docs: "The name of its type: `null`, `bool`, `int`, `float`, `string`, `list` or `map`.",
        run: Run::Eager(|operands, _| Ok(Value::text(any(operands, 0)?.kind().name()))),
    },
];

/// `value[key]`.
pub(crate) fn get(value: &Value, key: &Value, budget: &mut Budget) -> Result<Value, Failure> {
    match (value, key) {
        (Value::List(list), Value::Int(index)) => match place(index.get(), list.items().len()) {
            Some(place) => Ok(list.items()[place].clone()),
            None => Err(bad_index(list.items().len(), "list")),
        },
        (Value::Text(text), Value::Int(index)) => {
            budget.scan(text.len())?;
            let len = text.chars().count();
            let found = place(index.get(), len).and_then(|place| text.chars().nth(place));
            match found {
                Some(one) => Ok(Value::text(one.to_string())),
                None => Err(bad_index(len, "string")),
            }
        }
        (Value::Map(map), Value::Text(key)) => match map.entries().get(key) {
            Some(value) => Ok(value.clone()),
            None => Err(missing_key()),
        },
        (value, key) => Err(Failure::new(
            ErrorKind::WrongType,
            format!(
                "{} has no element with {} for its key",
                with_article(value.kind()),
                with_article(key.kind())
            ),
        )),
    }
}

pub(crate) fn missing_key() -> Failure {
    Failure::new(ErrorKind::MissingKey, "the map has no such key")
}

fn get_path(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let path = list(operands, 1)?;
    let mut value = any(operands, 0)?.clone();
    for key in path.items() {
        budget.steps(1)?;
        value.look(budget)?;
        value = get(&value, &key.looked(budget)?, budget)?;
    }
    Ok(value)
}

/// The indexes of `value[start:stop:step]`: the first, the step, and how many.
fn indexes(
    start: Option<i128>,
    stop: Option<i128>,
    step: i128,
    len: usize,
) -> Result<(i128, i128, usize), Failure> {
    if step == 0 {
        return Err(Failure::invalid("the step of a slice must not be 0"));
    }
    let len = len as i128;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |index: Option<i128>, default: i128| match index {
        None => default,
        Some(index) => (if index < 0 { index.saturating_add(len) } else { index }).clamp(low, high),
    };
    let start = bound(start, if step > 0 { low } else { high });
    let stop = bound(stop, if step > 0 { high } else { low });
    let distance = if step > 0 { stop - start } else { start - stop };
    let width = step.abs();
    let count = if distance <= 0 { 0 } else { (distance + width - 1) / width };
    // At most as many as there are elements.
    Ok((start, step, usize::try_from(count).unwrap_or(0)))
}

fn slice(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let end = |index: usize| match operands.get(index) {
        Some(Value::Int(int)) => Some(int.get()),
        Some(_) | None => None,
    };
    let (start, stop) = (end(1), end(2));
    let step = int_or(operands, 3, 1)?;
    match any(operands, 0)? {
        Value::List(list) => {
            let items = list.items();
            let (first, step, count) = indexes(start, stop, step, items.len())?;
            let taken = places(first, step, count).filter_map(|place| items.get(place));
            let bytes = taken.clone().fold(0usize, |sum, item| sum.saturating_add(item.encoded_len() + 1));
            super::operand::take_list(count, bytes, budget)?;
            Value::list(taken.cloned().collect(), budget)
        }
        Value::Text(text) => {
            budget.memory(text.len().saturating_mul(4))?;
            budget.scan(text.len())?;
            let points: Vec<char> = text.chars().collect();
            let (first, step, count) = indexes(start, stop, step, points.len())?;
            budget.value(count, text.len())?;
            let taken: String = places(first, step, count).filter_map(|place| points.get(place)).collect();
            Ok(Value::text(taken))
        }
        other => Err(wrong_type("`value`", other.kind(), "a list or a string")),
    }
}

fn places(first: i128, step: i128, count: usize) -> impl Iterator<Item = usize> + Clone {
    (0..count).filter_map(move |n| usize::try_from(first.saturating_add(step.saturating_mul(n as i128))).ok())
}

fn contains(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let item = &any(operands, 1)?.looked(budget)?;
    let found = match any(operands, 0)? {
        Value::List(list) => {
            let mut found = false;
            for element in list.items() {
                if equal(element, item, budget)? {
                    found = true;
                    break;
                }
            }
            found
        }
        Value::Map(map) => match item.looked(budget)? {
            Value::Text(key) => map.entries().contains_key(&key),
            other => return Err(wrong_type("a key", other.kind(), "a string")),
        },
        Value::Text(_) => {
            let whole = text(operands, 0)?;
            match item.looked(budget)? {
                Value::Text(part) => {
                    budget.scan(whole.len().saturating_add(part.len()))?;
                    part.len() <= whole.len() && whole.contains(&*part)
                }
                other => return Err(wrong_type("a part of a string", other.kind(), "a string")),
            }
        }
        other => return Err(wrong_type("`value`", other.kind(), "a list, a map or a string")),
    };
    Ok(Value::Bool(found))
}
