//! Equality and order over all values.
//!
//! null < false < true < numbers < strings by code point < lists < maps as sorted lists of entries. Numbers compare by
//! what they are, int or float. Works in a loop: values may be as deep as their text.
//!
//! The strict order is that of values of one kind: numbers, strings, or lists whose elements are. All else has none.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::operations::operand::{with_article, wrong_type};
use crate::value::{List, Text, Value};

/// Which values have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All of them.
    All,
    /// Those of one kind. Others are of the wrong type.
    Strict,
}

impl Order {
    /// Compares two values.
    pub(crate) fn compare(
        self,
        left: &Value,
        right: &Value,
        budget: &mut Budget,
    ) -> Result<Ordering, Failure> {
        // Most comparisons are of numbers.
        if let (Value::Int(left), Value::Int(right)) = (left, right) {
            budget.steps(1)?;
            return Ok(left.get().cmp(&right.get()));
        }
        // What is parsed and held on the way is let go in the end.
        let memory_left = budget.memory_left();
        let ordering = compare_deeply(self, left, right, budget);
        budget.restore_memory(memory_left, 0);
        ordering
    }

    /// Checks a value that may have none to be compared with.
    pub(crate) fn check(self, value: &Value) -> Result<(), Failure> {
        match (self, rank(value)) {
            (Self::All, _) | (Self::Strict, NUMBER | STRING | LIST) => Ok(()),
            (Self::Strict, _) => {
                Err(wrong_type("a value that is compared", value.kind(), "a number, a string or a list"))
            }
        }
    }

    fn check_both(self, left: &Value, right: &Value) -> Result<(), Failure> {
        self.check(left)?;
        self.check(right)?;
        if self == Self::All || rank(left) == rank(right) {
            return Ok(());
        }
        let (left, right) = (with_article(left.kind()), with_article(right.kind()));
        let message = format!("{left} is compared with {right}, and both must be of one kind");
        Err(Failure::new(ErrorKind::WrongType, message))
    }
}

/// One step of a comparison under way, innermost last.
enum Step {
    Pair(Value, Value, u32),
    /// The elements of two lists from this one on.
    Items(Arc<List>, Arc<List>, usize, u32),
    /// If all before was equal, this decides.
    Lengths(usize, usize),
    /// Two keys of maps.
    Keys(Text, Text),
}

/// Compares two values in the order of all.
pub(crate) fn compare(left: &Value, right: &Value, budget: &mut Budget) -> Result<Ordering, Failure> {
    Order::All.compare(left, right, budget)
}

fn compare_deeply(
    order: Order,
    left: &Value,
    right: &Value,
    budget: &mut Budget,
) -> Result<Ordering, Failure> {
    let mut steps = vec![Step::Pair(left.clone(), right.clone(), 0)];
    while let Some(step) = steps.pop() {
        let ordering = match step {
            Step::Lengths(left, right) => left.cmp(&right),
            Step::Keys(left, right) => left.cmp(&right),
            Step::Items(left, right, at, depth) => {
                if let (Some(one), Some(other)) = (left.items().get(at), right.items().get(at)) {
                    let pair = Step::Pair(one.clone(), other.clone(), depth);
                    steps.push(Step::Items(left, right, at + 1, depth));
                    steps.push(pair);
                }
                Ordering::Equal
            }
            Step::Pair(mut left, mut right, depth) => {
                budget.steps(1)?;
                if depth > budget.depth_max() {
                    return Err(Failure::new(
                        ErrorKind::LimitExceeded,
                        format!(
                            "the values nest more than {} deep, and are compared no deeper",
                            budget.depth_max()
                        ),
                    ));
                }
                left.look(budget)?;
                right.look(budget)?;
                order.check_both(&left, &right)?;
                one_level(&left, &right, depth, &mut steps, budget)?
            }
        };
        if ordering != Ordering::Equal {
            return Ok(ordering);
        }
    }
    Ok(Ordering::Equal)
}

/// Whether two values are equal.
pub(crate) fn equal(left: &Value, right: &Value, budget: &mut Budget) -> Result<bool, Failure> {
    Ok(compare(left, right, budget)? == Ordering::Equal)
}

fn one_level(
    left: &Value,
    right: &Value,
    depth: u32,
    steps: &mut Vec<Step>,
    budget: &mut Budget,
) -> Result<Ordering, Failure> {
    Ok(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => {
            budget.scan(left.len().min(right.len()))?;
            // UTF-8 keeps the order of code points.
            left.as_bytes().cmp(right.as_bytes())
        }
        (Value::List(left), Value::List(right)) => {
            steps.push(Step::Lengths(left.items().len(), right.items().len()));
            steps.push(Step::Items(Arc::clone(left), Arc::clone(right), 0, depth + 1));
            Ordering::Equal
        }
        (Value::Map(left), Value::Map(right)) => {
            let (left, right) = (left.entries(), right.entries());
            budget.memory(left.len().saturating_add(right.len()).saturating_mul(3 * size_of::<Value>()))?;
            budget.steps(left.len().saturating_add(right.len()))?;
            let sorted = |entries: &crate::value::Entries| {
                let mut sorted: Vec<_> =
                    entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                sorted.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
                sorted
            };
            steps.push(Step::Lengths(left.len(), right.len()));
            // Pairs up to the shorter one's end, the last of them deepest in the stack.
            let pairs: Vec<_> = sorted(left).into_iter().zip(sorted(right)).collect();
            for ((left_key, left), (right_key, right)) in pairs.into_iter().rev() {
                steps.push(Step::Pair(left, right, depth + 1));
                steps.push(Step::Keys(left_key, right_key));
            }
            Ordering::Equal
        }
        (left, right) => match (number(left), number(right)) {
            (Some(left), Some(right)) => compare_numbers(left, right),
            _ => rank(left).cmp(&rank(right)),
        },
    })
}

const NUMBER: u8 = 2;
const STRING: u8 = 3;
const LIST: u8 = 4;

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Float(_) | Value::Raw(_) | Value::Wide(_) => NUMBER,
        Value::Text(_) => STRING,
        Value::List(_) => LIST,
        Value::Map(_) => 5,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(int) => Some(Number::Int(int.get())),
        Value::Float(float) => Some(Number::Float(*float)),
        Value::Null
        | Value::Bool(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Raw(_)
        | Value::Wide(_) => None,
    }
}

fn compare_numbers(left: Number, right: Number) -> Ordering {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => left.cmp(&right),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
        (Number::Int(left), Number::Float(right)) => compare_exactly(left, right),
        (Number::Float(left), Number::Int(right)) => compare_exactly(right, left).reverse(),
    }
}

/// Compares without rounding: 2^53 + 1 is greater than 2.0^53.
fn compare_exactly(int: i128, float: f64) -> Ordering {
    // 2^100 is beyond every int here, and what lies below fits an i128.
    const BEYOND: f64 = 1.267_650_600_228_229_4e30;
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float <= -BEYOND {
        return Ordering::Greater;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it lies within 2^100, and the fraction is looked at next"
    )]
    let whole = float.trunc() as i128;
    int.cmp(&whole).then_with(|| 0.0f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
}
