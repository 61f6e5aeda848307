//! Arithmetic.
//!
//! Ints are exact. Where an int meets a float it becomes a float first. Nothing becomes infinite.

use super::operand::{any, int, wrong_type};
use super::plain;
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::order::compare;
use crate::table::{Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::{Int, Value};

const INT: Types = Types::of(&[Type::Int]);
const FLOAT: Types = Types::of(&[Type::Float]);
const TWO: &[Parameter] = &[Parameter::new("left", Types::NUMBER), Parameter::new("right", Types::NUMBER)];
const ONE: &[Parameter] = &[Parameter::new("value", Types::NUMBER)];
/// The most digits that `round` keeps: a float has no more that matter.
const DIGITS_MAX: i128 = 22;

pub(crate) const OPERATIONS: &[Operation] = &[
    plain("add", TWO, Types::NUMBER, &[ErrorKind::Overflow], "The sum.", |operands, _| {
        two(operands)?.exactly(|left, right| Some(left + right), |left, right| left + right)
    }),
    plain("subtract", TWO, Types::NUMBER, &[ErrorKind::Overflow], "The difference.", |operands, _| {
        two(operands)?.exactly(|left, right| Some(left - right), |left, right| left - right)
    }),
    plain("multiply", TWO, Types::NUMBER, &[ErrorKind::Overflow], "The product.", |operands, _| {
        two(operands)?.exactly(i128::checked_mul, |left, right| left * right)
    }),
    plain(
        "divide",
        TWO,
        FLOAT,
        &[ErrorKind::DivisionByZero, ErrorKind::Overflow],
        "The quotient, always a float.",
        |operands, _| {
            let pair = two(operands)?.nonzero()?;
            let (left, right) = pair.floats();
            Value::float(left / right)
        },
    ),
    plain(
        "integer_divide",
        TWO,
        Types::NUMBER,
        &[ErrorKind::DivisionByZero, ErrorKind::Overflow],
        "The quotient rounded down, to an int if both are ints.",
        |operands, _| {
            let pair = two(operands)?.nonzero()?;
            pair.exactly(
                |left, right| {
                    let rounds_down = left % right != 0 && (left < 0) != (right < 0);
                    Some(left / right - i128::from(rounds_down))
                },
                floor_divide,
            )
        },
    ),
    plain(
        "modulo",
        TWO,
        Types::NUMBER,
        &[ErrorKind::DivisionByZero],
        "What is left after `integer_divide`: it has the sign of the divisor.",
        |operands, _| {
            let pair = two(operands)?.nonzero()?;
            pair.exactly(
                |left, right| {
                    let rest = left % right;
                    Some(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
                },
                modulo,
            )
        },
    ),
    plain(
        "negate",
        ONE,
        Types::NUMBER,
        &[ErrorKind::Overflow],
        "The number with its sign turned.",
        |operands, _| match any(operands, 0)? {
            Value::Float(value) => Value::float(-value),
            _ => Value::int(-int(operands, 0)?),
        },
    ),
    plain("absolute", ONE, Types::NUMBER, &[], "The number without its sign.", |operands, _| {
        match any(operands, 0)? {
            Value::Float(value) => Value::float(value.abs()),
            _ => Value::int(int(operands, 0)?.abs()),
        }
    }),
    plain(
        "floor",
        ONE,
        INT,
        &[ErrorKind::Overflow],
        "The greatest int that is not greater.",
        |operands, _| to_int(operands, f64::floor),
    ),
    plain("ceil", ONE, INT, &[ErrorKind::Overflow], "The least int that is not less.", |operands, _| {
        to_int(operands, f64::ceil)
    }),
    plain(
        "round",
        &[Parameter::new("value", Types::NUMBER), Parameter::new("digits", INT).optional()],
        Types::NUMBER,
        &[ErrorKind::Overflow, ErrorKind::InvalidValue],
        "Without `digits` (0 to 22) the nearest int, of two the even one. With it a float keeps so many digits after \
         the point, and an int stays as it is.",
        round,
    ),
    plain(
        "power",
        TWO,
        Types::NUMBER,
        &[ErrorKind::Overflow, ErrorKind::DivisionByZero, ErrorKind::InvalidValue],
        "The left to the power of the right: exact for ints if the right is not negative, else a float. A negative \
         number has no power that is not whole.",
        power,
    ),
    Operation {
        name: "minimum",
        parameters: &[Parameter::any("value"), Parameter::any("others").variadic()],
        body: None,
        result: Types::ANY,
        errors: &[],
        cost: "1 for each part that is compared",
        docs: "The least of its operands, in the order of all values; of equal ones the first.",
        run: Run::Eager(|operands, budget| extreme(operands, std::cmp::Ordering::Less, budget)),
    },
    Operation {
        name: "maximum",
        parameters: &[Parameter::any("value"), Parameter::any("others").variadic()],
        body: None,
        result: Types::ANY,
        errors: &[],
        cost: "1 for each part that is compared",
        docs: "The greatest of its operands, in the order of all values; of equal ones the first.",
        run: Run::Eager(|operands, budget| extreme(operands, std::cmp::Ordering::Greater, budget)),
    },
];

/// Two numbers.
#[derive(Clone, Copy)]
pub(crate) enum Pair {
    Ints(i128, i128),
    Floats(f64, f64),
}

/// An int as a float, rounded to the nearest.
#[expect(clippy::cast_precision_loss, reason = "the rule for an int that meets a float")]
pub(crate) fn float_of(int: i128) -> f64 {
    int as f64
}

impl Pair {
    pub(crate) fn of(left: &Value, right: &Value) -> Result<Self, Failure> {
        Ok(match (left, right) {
            (Value::Int(left), Value::Int(right)) => Self::Ints(left.get(), right.get()),
            (Value::Int(left), Value::Float(right)) => Self::Floats(float_of(left.get()), *right),
            (Value::Float(left), Value::Int(right)) => Self::Floats(*left, float_of(right.get())),
            (Value::Float(left), Value::Float(right)) => Self::Floats(*left, *right),
            (Value::Int(_) | Value::Float(_), other) | (other, _) => {
                return Err(wrong_type("an operand", other.kind(), "a number"));
            }
        })
    }

    fn floats(self) -> (f64, f64) {
        match self {
            Self::Ints(left, right) => (float_of(left), float_of(right)),
            Self::Floats(left, right) => (left, right),
        }
    }

    fn nonzero(self) -> Result<Self, Failure> {
        let is_zero = match self {
            Self::Ints(_, right) => right == 0,
            Self::Floats(_, right) => right == 0.0,
        };
        if is_zero { Err(Failure::new(ErrorKind::DivisionByZero, "division by zero")) } else { Ok(self) }
    }

    pub(crate) fn exactly(
        self,
        ints: impl FnOnce(i128, i128) -> Option<i128>,
        floats: impl FnOnce(f64, f64) -> f64,
    ) -> Result<Value, Failure> {
        match self {
            Self::Ints(left, right) => match ints(left, right) {
                Some(result) => Value::int(result),
                None => Err(too_large()),
            },
            Self::Floats(left, right) => Value::float(floats(left, right)),
        }
    }
}

fn two(operands: &[Value]) -> Result<Pair, Failure> {
    Pair::of(any(operands, 0)?, any(operands, 1)?)
}

fn too_large() -> Failure {
    Failure::new(ErrorKind::Overflow, "the result lies beyond what an int holds, −2^63 to 2^64−1")
}

/// The rest with the sign of the divisor.
fn modulo(left: f64, right: f64) -> f64 {
    let rest = left % right;
    if rest != 0.0 && (rest < 0.0) != (right < 0.0) { rest + right } else { rest }
}

/// The quotient rounded down. What is left of a division is exact, so that the quotient of the rest is nearly whole.
fn floor_divide(left: f64, right: f64) -> f64 {
    let quotient = (left - modulo(left, right)) / right;
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

/// A float without fraction as an int.
pub(crate) fn int_of(float: f64) -> Result<Value, Failure> {
    // Beyond 2^64 there is no int, and below it the conversion is exact.
    if float.abs() > float_of(Int::MAX) {
        return Err(Failure::new(ErrorKind::Overflow, "the number lies beyond what an int holds"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "it lies within 2^64, and has no fraction")]
    let whole = float as i128;
    Value::int(whole)
}

fn to_int(operands: &[Value], rounded: fn(f64) -> f64) -> Result<Value, Failure> {
    match any(operands, 0)? {
        Value::Float(value) => int_of(rounded(*value)),
        value => Ok(value.clone()),
    }
}

fn round(operands: &mut [Value], _: &mut Budget) -> Result<Value, Failure> {
    let has_digits = operands.len() > 1;
    let digits = if has_digits { int(operands, 1)? } else { 0 };
    let Some(places) = usize::try_from(digits).ok().filter(|_| digits <= DIGITS_MAX) else {
        return Err(Failure::invalid(format!("`digits` must be 0 to {DIGITS_MAX}")));
    };
    match any(operands, 0)? {
        // From 2^53 on a float has no fraction.
        Value::Float(value) if has_digits && value.abs() >= 9_007_199_254_740_992.0 => Value::float(*value),
        Value::Float(value) if has_digits => {
            // Formatting rounds the exact value, and half to even.
            let rounded = format!("{value:.places$}").parse::<f64>();
            Value::float(rounded.unwrap_or(*value))
        }
        Value::Float(value) => int_of(value.round_ties_even()),
        value => Ok(value.clone()),
    }
}

fn power(operands: &mut [Value], _: &mut Budget) -> Result<Value, Failure> {
    let pair = two(operands)?;
    if let Pair::Ints(base, exponent) = pair
        && exponent >= 0
    {
        return match base {
            0 | 1 => Value::int(if exponent == 0 { 1 } else { base }),
            -1 => Value::int(if exponent % 2 == 0 { 1 } else { -1 }),
            // Of any other base the 64th power is out of range already.
            _ => match u32::try_from(exponent).ok().filter(|exponent| *exponent <= 64) {
                Some(exponent) => base.checked_pow(exponent).map_or_else(|| Err(too_large()), Value::int),
                None => Err(too_large()),
            },
        };
    }
    let (base, exponent) = pair.floats();
    if base == 0.0 && exponent < 0.0 {
        return Err(Failure::new(ErrorKind::DivisionByZero, "0 has no negative power"));
    }
    if base < 0.0 && exponent.fract() != 0.0 {
        return Err(Failure::invalid("the left is negative, and has no power that is not whole"));
    }
    Value::float(base.powf(exponent))
}

fn extreme(operands: &[Value], wanted: std::cmp::Ordering, budget: &mut Budget) -> Result<Value, Failure> {
    let mut best = any(operands, 0)?;
    for candidate in operands.iter().skip(1) {
        if compare(candidate, best, budget)? == wanted {
            best = candidate;
        }
    }
    Ok(best.clone())
}
