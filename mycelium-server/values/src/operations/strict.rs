//! Comparisons of values whose types are known: of one kind, and never null. In the order of all values null is less
//! than every number, so that a number that is missing would be the least one, unseen.

use std::cmp::Ordering;

use super::operand::{any, list};
use super::whole::{ELEMENT, extreme as extreme_of};
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::order::Order;
use crate::table::{BodyShape, Function, Loop, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::Value;

const BOOL: Types = Types::of(&[Type::Bool]);
const LIST: Types = Types::of(&[Type::List]);
/// What is compared here.
const COMPARED: Types = Types::of(&[Type::Int, Type::Float, Type::String, Type::List]);
const BOTH: &[Parameter] = &[Parameter::new("left", COMPARED), Parameter::new("right", COMPARED)];
const ALL: &[Parameter] = &[Parameter::new("value", COMPARED), Parameter::new("others", COMPARED).variadic()];
const LIST_PARAMETER: Parameter = Parameter::new("list", LIST);

const fn operation(
    name: &'static str,
    parameters: &'static [Parameter],
    result: Types,
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Function,
) -> Operation {
    let cost = "1 for each part that is compared";
    Operation { name, parameters, body: None, result, errors, cost, docs, run: Run::Eager(run) }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    operation("strict.equal", BOTH, BOOL, &[], "As `equal`, of values of one kind.", |operands, budget| {
        holds(operands, budget, Ordering::is_eq)
    }),
    operation(
        "strict.not_equal",
        BOTH,
        BOOL,
        &[],
        "As `not_equal`, of values of one kind.",
        |operands, budget| holds(operands, budget, Ordering::is_ne),
    ),
    operation("strict.less", BOTH, BOOL, &[], "As `less`, of values of one kind.", |operands, budget| {
        holds(operands, budget, Ordering::is_lt)
    }),
    operation(
        "strict.less_or_equal",
        BOTH,
        BOOL,
        &[],
        "As `less_or_equal`, of values of one kind.",
        |operands, budget| holds(operands, budget, Ordering::is_le),
    ),
    operation(
        "strict.greater",
        BOTH,
        BOOL,
        &[],
        "As `greater`, of values of one kind.",
        |operands, budget| holds(operands, budget, Ordering::is_gt),
    ),
    operation(
        "strict.greater_or_equal",
        BOTH,
        BOOL,
        &[],
        "As `greater_or_equal`, of values of one kind.",
        |operands, budget| holds(operands, budget, Ordering::is_ge),
    ),
    operation(
        "strict.minimum",
        ALL,
        COMPARED,
        &[],
        "As `minimum`, of values of one kind.",
        |operands, budget| extreme_of(operands, Ordering::Less, "least", Order::Strict, budget),
    ),
    operation(
        "strict.maximum",
        ALL,
        COMPARED,
        &[],
        "As `maximum`, of values of one kind.",
        |operands, budget| extreme_of(operands, Ordering::Greater, "greatest", Order::Strict, budget),
    ),
    Operation {
        name: "strict.sort",
        parameters: &[LIST_PARAMETER, Parameter::new("descending", BOOL).optional()],
        body: Some(BodyShape { is_optional: true, ..ELEMENT }),
        result: LIST,
        errors: &[],
        cost: super::whole::EACH_BODY,
        docs: "As `list.sort`, of elements, or of what the body makes of them, that are all of one kind.",
        run: Run::Loop(Loop::Sort(Order::Strict)),
    },
    operation(
        "strict.min",
        &[LIST_PARAMETER],
        COMPARED,
        &[ErrorKind::Empty],
        "As `list.min`, of elements that are all of one kind.",
        |operands, budget| {
            extreme_of(list(operands, 0)?.items(), Ordering::Less, "least", Order::Strict, budget)
        },
    ),
    operation(
        "strict.max",
        &[LIST_PARAMETER],
        COMPARED,
        &[ErrorKind::Empty],
        "As `list.max`, of elements that are all of one kind.",
        |operands, budget| {
            extreme_of(list(operands, 0)?.items(), Ordering::Greater, "greatest", Order::Strict, budget)
        },
    ),
];

fn holds(operands: &[Value], budget: &mut Budget, holds: fn(Ordering) -> bool) -> Result<Value, Failure> {
    let ordering = Order::Strict.compare(any(operands, 0)?, any(operands, 1)?, budget)?;
    Ok(Value::Bool(holds(ordering)))
}
