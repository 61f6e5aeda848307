//! What operations read from their operands, whose types were checked before.

use std::sync::Arc;

use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::types::Type;
use crate::value::{List, Map, Text, Value};

/// An operand is not what its parameter asks for: those that are computed are checked before, so this is for elements.
pub(crate) fn wrong_type(what: &str, is: Type, wanted: &str) -> Failure {
    Failure::new(ErrorKind::WrongType, format!("{what} is {}, and {wanted} is needed", with_article(is)))
}

/// A type in a sentence.
pub(crate) fn with_article(kind: Type) -> String {
    match kind {
        Type::Null => "null".to_owned(),
        Type::Int => "an int".to_owned(),
        Type::Bool | Type::Float | Type::String | Type::List | Type::Map => format!("a {kind}"),
    }
}

/// The list that an operand is.
pub(crate) fn list(operands: &[Value], index: usize) -> Result<Arc<List>, Failure> {
    match operands.get(index) {
        Some(Value::List(list)) => Ok(Arc::clone(list)),
        other => Err(not_as_checked(other, "a list")),
    }
}

/// The map that an operand is.
pub(crate) fn map(operands: &[Value], index: usize) -> Result<Arc<Map>, Failure> {
    match operands.get(index) {
        Some(Value::Map(map)) => Ok(Arc::clone(map)),
        other => Err(not_as_checked(other, "a map")),
    }
}

/// The string that an operand is.
pub(crate) fn text(operands: &[Value], index: usize) -> Result<Text, Failure> {
    match operands.get(index) {
        Some(Value::Text(text)) => Ok(text.clone()),
        other => Err(not_as_checked(other, "a string")),
    }
}

/// The int that an operand is.
pub(crate) fn int(operands: &[Value], index: usize) -> Result<i128, Failure> {
    match operands.get(index) {
        Some(Value::Int(int)) => Ok(int.get()),
        other => Err(not_as_checked(other, "an int")),
    }
}

/// The int that an operand is, or what stands for one that is left out or null.
pub(crate) fn int_or(operands: &[Value], index: usize, default: i128) -> Result<i128, Failure> {
    match operands.get(index) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => int(operands, index),
    }
}

pub(crate) fn any(operands: &[Value], index: usize) -> Result<&Value, Failure> {
    operands.get(index).ok_or_else(|| not_as_checked(None, "a value"))
}

fn not_as_checked(operand: Option<&Value>, wanted: &str) -> Failure {
    match operand {
        Some(value) => wrong_type("an operand", value.kind(), wanted),
        None => Failure::new(ErrorKind::WrongType, format!("an operand is missing, and {wanted} is needed")),
    }
}

/// The place in a list or string of `len` that an index means; negative ones count from the end.
pub(crate) fn place(index: i128, len: usize) -> Option<usize> {
    let place = if index < 0 { index + len as i128 } else { index };
    usize::try_from(place).ok().filter(|place| *place < len)
}

pub(crate) fn bad_index(len: usize, of: &str) -> Failure {
    let s = if len == 1 { "" } else { "s" };
    Failure::new(ErrorKind::BadIndex, format!("the index lies outside of a {of} of {len} element{s}"))
}

/// The truth of a value: false are null, false, 0, and what is empty.
pub(crate) fn truth(value: &Value, budget: &mut Budget) -> Result<bool, Failure> {
    let memory_left = budget.memory_left();
    let looked = value.looked(budget)?;
    budget.restore_memory(memory_left, 0);
    Ok(match looked {
        Value::Null => false,
        Value::Bool(truth) => truth,
        Value::Int(int) => int.get() != 0,
        Value::Float(float) => float != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(list) => !list.items().is_empty(),
        Value::Map(map) => !map.entries().is_empty(),
        // What was looked into is text no longer.
        Value::Raw(_) | Value::Wide(_) => true,
    })
}

/// Takes memory for a list of `count` elements, which take `bytes` bytes as JSON text, each with a comma behind it.
pub(crate) fn take_list(count: usize, bytes: usize, budget: &mut Budget) -> Result<(), Failure> {
    // The last has no comma; the brackets are two.
    budget.value(count, bytes.saturating_add(2 - usize::from(count > 0)))
}
