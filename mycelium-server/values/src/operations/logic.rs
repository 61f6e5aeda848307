//! Comparisons, conditions, and what is true.

use std::cmp::Ordering;

use super::operand::{any, truth};
use crate::budget::Budget;
use crate::error::Failure;
use crate::order::{compare, equal};
use crate::table::{Lazy, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::Value;

const BOOL: Types = Types::of(&[Type::Bool]);
const BOTH: &[Parameter] = &[Parameter::any("left"), Parameter::any("right")];
const COMPARED: &str = "1 for each part that is compared";

const fn comparison(
    name: &'static str,
    docs: &'static str,
    run: fn(&mut [Value], &mut Budget) -> Result<Value, Failure>,
) -> Operation {
    Operation {
        name,
        parameters: BOTH,
        body: None,
        result: BOOL,
        errors: &[],
        cost: COMPARED,
        docs,
        run: Run::Eager(run),
    }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    comparison(
        "equal",
        "Whether both are equal: numbers by what they are (1 equals 1.0), lists element by element, maps whatever the \
         order of their keys.",
        |operands, budget| Ok(Value::Bool(equal(any(operands, 0)?, any(operands, 1)?, budget)?)),
    ),
    comparison("not_equal", "Whether both are not equal.", |operands, budget| {
        Ok(Value::Bool(!equal(any(operands, 0)?, any(operands, 1)?, budget)?))
    }),
    comparison(
        "less",
        "Whether the left comes before the right in the order of all values.",
        |operands, budget| ordered(operands, budget, |ordering| ordering == Ordering::Less),
    ),
    comparison(
        "less_or_equal",
        "Whether the left comes before the right, or equals it.",
        |operands, budget| ordered(operands, budget, |ordering| ordering != Ordering::Greater),
    ),
    comparison(
        "greater",
        "Whether the left comes after the right in the order of all values.",
        |operands, budget| ordered(operands, budget, |ordering| ordering == Ordering::Greater),
    ),
    comparison(
        "greater_or_equal",
        "Whether the left comes after the right, or equals it.",
        |operands, budget| ordered(operands, budget, |ordering| ordering != Ordering::Less),
    ),
    Operation {
        name: "not",
        parameters: &[Parameter::any("value")],
        body: None,
        result: BOOL,
        errors: &[],
        cost: "0",
        docs: "Whether the value is not true.",
        run: Run::Eager(|operands, budget| Ok(Value::Bool(!truth(any(operands, 0)?, budget)?))),
    },
    Operation {
        name: "and",
        parameters: &[Parameter::any("value"), Parameter::any("others").variadic().lazy()],
        body: None,
        result: BOOL,
        errors: &[],
        cost: "0",
        docs: "Whether all are true. What comes after one that is not true is not computed.",
        run: Run::Lazy(Lazy::And),
    },
    Operation {
        name: "or",
        parameters: &[Parameter::any("value"), Parameter::any("others").variadic().lazy()],
        body: None,
        result: BOOL,
        errors: &[],
        cost: "0",
        docs: "Whether one is true. What comes after one that is true is not computed.",
        run: Run::Lazy(Lazy::Or),
    },
    Operation {
        name: "select",
        parameters: &[
            Parameter::any("condition"),
            Parameter::any("then").lazy(),
            Parameter::any("otherwise").lazy(),
        ],
        body: None,
        result: Types::ANY,
        errors: &[],
        cost: "0",
        docs: "`then` if the condition is true, else `otherwise`. The other one is not computed.",
        run: Run::Lazy(Lazy::Select),
    },
    Operation {
        name: "coalesce",
        parameters: &[Parameter::any("value"), Parameter::any("others").variadic().lazy()],
        body: None,
        result: Types::ANY,
        errors: &[],
        cost: "0",
        docs: "The first that is not null; null if there is none. What comes after it is not computed.",
        run: Run::Lazy(Lazy::Coalesce),
    },
    Operation {
        name: "is_null",
        parameters: &[Parameter::any("value")],
        body: None,
        result: BOOL,
        errors: &[],
        cost: "0",
        docs: "Whether the value is null.",
        run: Run::Eager(|operands, _| Ok(Value::Bool(any(operands, 0)?.kind() == Type::Null))),
    },
];

fn ordered(operands: &[Value], budget: &mut Budget, holds: fn(Ordering) -> bool) -> Result<Value, Failure> {
    Ok(Value::Bool(holds(compare(any(operands, 0)?, any(operands, 1)?, budget)?)))
}
