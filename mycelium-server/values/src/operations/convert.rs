//! From one type to another.

use super::number::{float_of, int_of};
use super::operand::{any, truth, wrong_type};
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::table::{Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::Value;

const SCALARS: Types = Types::of(&[Type::Bool, Type::Int, Type::Float, Type::String]);
/// Longer texts are no numbers.
const NUMBER_TEXT_MAX: usize = 400;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "to_int",
        parameters: &[Parameter::new("value", SCALARS)],
        body: None,
        result: Types::of(&[Type::Int]),
        errors: &[ErrorKind::InvalidValue, ErrorKind::Overflow],
        cost: "0",
        docs: "A float without its fraction; false and true as 0 and 1; a string of decimal digits, with a sign and \
               blanks around it if need be.",
        run: Run::Eager(to_int),
    },
    Operation {
        name: "to_float",
        parameters: &[Parameter::new("value", SCALARS)],
        body: None,
        result: Types::of(&[Type::Float]),
        errors: &[ErrorKind::InvalidValue, ErrorKind::Overflow],
        cost: "0",
        docs: "The nearest float to an int; false and true as 0.0 and 1.0; a string of at most 400 bytes that is a \
               decimal number, with blanks around it if need be.",
        run: Run::Eager(to_float),
    },
    Operation {
        name: "to_string",
        parameters: &[Parameter::any("value")],
        body: None,
        result: Types::of(&[Type::String]),
        errors: &[],
        cost: "0",
        docs: "A string as it is; any other value as its JSON text.",
        run: Run::Eager(|operands, budget| to_string(any(operands, 0)?, budget)),
    },
    Operation {
        name: "to_bool",
        parameters: &[Parameter::any("value")],
        body: None,
        result: Types::of(&[Type::Bool]),
        errors: &[],
        cost: "0",
        docs: "The truth of the value: null, false, 0, 0.0, and what is empty are false.",
        run: Run::Eager(|operands, budget| Ok(Value::Bool(truth(any(operands, 0)?, budget)?))),
    },
];

fn to_int(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    match any(operands, 0)? {
        Value::Bool(truth) => Value::int(i128::from(*truth)),
        Value::Float(float) => int_of(float.trunc()),
        Value::Text(text) => {
            budget.scan(text.len())?;
            let digits = text.trim();
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(no_number("an int"));
            }
            match digits.parse::<i128>() {
                Ok(int) => Value::int(int),
                Err(_) => Err(Failure::new(
                    ErrorKind::Overflow,
                    "the number lies beyond what an int holds, −2^63 to 2^64−1",
                )),
            }
        }
        value => Ok(value.clone()),
    }
}

fn to_float(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    match any(operands, 0)? {
        Value::Bool(truth) => Value::float(f64::from(u8::from(*truth))),
        Value::Int(int) => Value::float(float_of(int.get())),
        Value::Float(float) => Value::float(*float),
        Value::Text(text) => {
            budget.scan(text.len())?;
            let number = text.trim();
            // What Rust reads beyond decimal numbers is `inf` and `nan`.
            let is_decimal = number.len() <= NUMBER_TEXT_MAX
                && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
            match number.parse::<f64>() {
                Ok(float) if is_decimal => Value::float(float),
                Ok(_) | Err(_) => Err(no_number("a number")),
            }
        }
        other => Err(wrong_type("`value`", other.kind(), "a number or a string")),
    }
}

fn no_number(wanted: &str) -> Failure {
    Failure::invalid(format!("the string is not {wanted}"))
}

/// A string as it is, anything else as its JSON text.
pub(crate) fn to_string(value: &Value, budget: &mut Budget) -> Result<Value, Failure> {
    if value.kind() == Type::String {
        return value.looked(budget);
    }
    budget.value(1, value.encoded_len())?;
    let json = compact(value, budget)?;
    match std::str::from_utf8(&json) {
        Ok(text) => Ok(Value::text(text)),
        Err(_) => Err(Failure::invalid("the value is not UTF-8")),
    }
}

/// The JSON text of a value without blanks.
///
/// A number or a string is written in one way, however it came. Within lists and maps they stay as they came.
pub(crate) fn compact(value: &Value, budget: &mut Budget) -> Result<bytes::Bytes, Failure> {
    let json = match value.kind() {
        Type::Float | Type::String => value.looked(budget)?.to_json(),
        Type::Null | Type::Bool | Type::Int | Type::List | Type::Map => value.to_json(),
    };
    budget.scan(json.len())?;
    // Most texts have no blank that could go.
    let mut place = Place::default();
    if json.iter().all(|byte| place.keeps(*byte)) {
        return Ok(json);
    }
    let mut place = Place::default();
    Ok(json.iter().copied().filter(|byte| place.keeps(*byte)).collect())
}

/// Where a scan of JSON text is.
#[derive(Default)]
struct Place {
    in_string: bool,
    is_escaped: bool,
}

impl Place {
    /// Goes on by one byte. Whether it is more than a blank between the parts.
    fn keeps(&mut self, byte: u8) -> bool {
        if !self.in_string {
            self.in_string = byte == b'"';
            return !byte.is_ascii_whitespace();
        }
        if self.is_escaped {
            self.is_escaped = false;
        } else if byte == b'\\' {
            self.is_escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
        }
        true
    }
}
