//! Operations that go over whole lists.

use std::cmp::Ordering;

use super::number::{Pair, float_of};
use super::operand::{any, int, int_or, list, take_list, truth, with_article, wrong_type};
use crate::budget::{Budget, ELEMENT_BYTES};
use crate::error::{ErrorKind, Failure};
use crate::order::{Order, compare};
use crate::table::{BodyShape, Function, Loop, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::{List, Text, Value};

const LIST: Types = Types::of(&[Type::List]);
const INT: Types = Types::of(&[Type::Int]);
const BOOL: Types = Types::of(&[Type::Bool]);
const LIST_PARAMETER: Parameter = Parameter::new("list", LIST);
const EACH: &str = "1 for each element";
pub(super) const EACH_BODY: &str = "1 for each element, and what its body takes";
pub(super) const ELEMENT: BodyShape = BodyShape { inputs: &["element"], is_optional: false };

const fn eager(
    name: &'static str,
    parameters: &'static [Parameter],
    result: Types,
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Function,
) -> Operation {
    Operation { name, parameters, body: None, result, errors, cost: EACH, docs, run: Run::Eager(run) }
}

const fn looping(
    name: &'static str,
    parameters: &'static [Parameter],
    body: BodyShape,
    result: Types,
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Loop,
) -> Operation {
    Operation {
        name,
        parameters,
        body: Some(body),
        result,
        errors,
        cost: EACH_BODY,
        docs,
        run: Run::Loop(run),
    }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    looping(
        "list.map",
        &[LIST_PARAMETER],
        ELEMENT,
        LIST,
        &[],
        "What the body makes of each element, in order.",
        Loop::Map,
    ),
    looping(
        "list.filter",
        &[LIST_PARAMETER],
        ELEMENT,
        LIST,
        &[],
        "The elements for which the body is true; the body has to give a bool.",
        Loop::Filter,
    ),
    looping(
        "list.reduce",
        &[LIST_PARAMETER, Parameter::any("initial")],
        BodyShape { inputs: &["accumulator", "element"], is_optional: false },
        Types::ANY,
        &[],
        "What the body makes of what it made of the elements before (at first `initial`) and the next element.",
        Loop::Reduce,
    ),
    looping(
        "list.group_by",
        &[LIST_PARAMETER],
        ELEMENT,
        Types::of(&[Type::Map]),
        &[],
        "A map from what the body makes of the elements (a string, an int or a bool) to the list of those elements, \
         in the order in which they first appear.",
        Loop::GroupBy,
    ),
    looping(
        "list.sort",
        &[LIST_PARAMETER, Parameter::new("descending", BOOL).optional()],
        BodyShape { inputs: &["element"], is_optional: true },
        LIST,
        &[],
        "The elements in the order of all values, or of what the body makes of them; equal ones keep their order, \
         descending too.",
        Loop::Sort(Order::All),
    ),
    Operation {
        name: "list.unique",
        parameters: &[LIST_PARAMETER],
        body: None,
        result: LIST,
        errors: &[],
        cost: "1 for each part that is compared, about log2(n) times for each of n elements",
        docs: "The elements without those that equal an earlier one.",
        run: Run::Eager(unique),
    },
    eager(
        "list.concat",
        &[Parameter::new("lists", LIST).variadic()],
        LIST,
        &[],
        "The elements of all lists, one list after the other.",
        |operands, budget| {
            let lists = all_lists(operands)?;
            joined(lists.iter().map(|list| list.items()), budget)
        },
    ),
    eager(
        "list.repeat",
        &[LIST_PARAMETER, Parameter::new("count", INT)],
        LIST,
        &[],
        "The list so many times one after the other; the empty list if the count is not positive.",
        repeat,
    ),
    eager(
        "list.flatten",
        &[LIST_PARAMETER],
        LIST,
        &[],
        "The elements of the lists that are the elements of the list.",
        |operands, budget| {
            let outer = list(operands, 0)?;
            let mut inner = Vec::with_capacity(outer.items().len());
            for item in outer.items() {
                match item.looked(budget)? {
                    Value::List(list) => inner.push(list),
                    other => return Err(wrong_type("an element", other.kind(), "a list")),
                }
            }
            joined(inner.iter().map(|list| list.items()), budget)
        },
    ),
    eager(
        "list.zip",
        &[Parameter::new("lists", LIST).variadic()],
        LIST,
        &[],
        "Lists of the first elements of all lists, of the second and so on, until the shortest ends.",
        zip,
    ),
    eager(
        "list.enumerate",
        &[LIST_PARAMETER, Parameter::new("start", INT).optional()],
        LIST,
        &[ErrorKind::Overflow],
        "Lists of a number and an element, numbered from `start` (0).",
        enumerate,
    ),
    eager(
        "list.range",
        &[Parameter::new("start", INT), Parameter::new("stop", INT), Parameter::new("step", INT).optional()],
        LIST,
        &[ErrorKind::InvalidValue],
        "The ints from `start` on, before `stop`, each `step` (1) from the last. A step of 0 is invalid.",
        range,
    ),
    eager(
        "list.sum",
        &[LIST_PARAMETER],
        Types::NUMBER,
        &[ErrorKind::Overflow],
        "The sum of the numbers, added from left to right; 0 if there are none.",
        |operands, budget| sum(&*list(operands, 0)?, budget),
    ),
    eager(
        "list.mean",
        &[LIST_PARAMETER],
        Types::of(&[Type::Float]),
        &[ErrorKind::Empty, ErrorKind::Overflow],
        "The sum of the numbers by their count.",
        |operands, budget| {
            let list = list(operands, 0)?;
            if list.items().is_empty() {
                return Err(empty("mean"));
            }
            let sum = match sum(&list, budget)? {
                Value::Float(sum) => sum,
                Value::Int(sum) => float_of(sum.get()),
                other => return Err(wrong_type("the sum", other.kind(), "a number")),
            };
            Value::float(sum / float_of(list.items().len() as i128))
        },
    ),
    eager(
        "list.min",
        &[LIST_PARAMETER],
        Types::ANY,
        &[ErrorKind::Empty],
        "The least element in the order of all values; of equal ones the first.",
        |operands, budget| extreme(list(operands, 0)?.items(), Ordering::Less, "least", Order::All, budget),
    ),
    eager(
        "list.max",
        &[LIST_PARAMETER],
        Types::ANY,
        &[ErrorKind::Empty],
        "The greatest element in the order of all values; of equal ones the first.",
        |operands, budget| {
            extreme(list(operands, 0)?.items(), Ordering::Greater, "greatest", Order::All, budget)
        },
    ),
    eager("list.any", &[LIST_PARAMETER], BOOL, &[], "Whether one element is true.", |operands, budget| {
        for item in list(operands, 0)?.items() {
            budget.steps(1)?;
            if truth(item, budget)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    eager("list.all", &[LIST_PARAMETER], BOOL, &[], "Whether all elements are true.", |operands, budget| {
        for item in list(operands, 0)?.items() {
            budget.steps(1)?;
            if !truth(item, budget)? {
                return Ok(Value::Bool(false));
            }
        }
        Ok(Value::Bool(true))
    }),
];

fn empty(what: &str) -> Failure {
    Failure::new(ErrorKind::Empty, format!("the list is empty, and has no {what}"))
}

fn all_lists(operands: &[Value]) -> Result<Vec<std::sync::Arc<List>>, Failure> {
    (0..operands.len()).map(|index| list(operands, index)).collect()
}

/// One list of all elements, counted before they are copied.
fn joined<'a>(
    lists: impl Iterator<Item = &'a [Value]> + Clone,
    budget: &mut Budget,
) -> Result<Value, Failure> {
    let items = lists.flatten();
    let (count, bytes) = items.clone().fold((0usize, 0usize), |(count, bytes), item| {
        (count + 1, bytes.saturating_add(item.encoded_len() + 1))
    });
    take_list(count, bytes, budget)?;
    Value::list(items.cloned().collect(), budget)
}

fn repeat(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let list = list(operands, 0)?;
    let count = usize::try_from(int(operands, 1)?.max(0)).unwrap_or(usize::MAX);
    let items = list.items();
    let bytes = any(operands, 0)?.encoded_len().saturating_sub(1);
    if items.is_empty() {
        return Value::list(Vec::new(), budget);
    }
    take_list(items.len().saturating_mul(count), bytes.saturating_mul(count), budget)?;
    Value::list(items.iter().cycle().take(items.len() * count).cloned().collect(), budget)
}

fn zip(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let lists = all_lists(operands)?;
    let rows = lists.iter().map(|list| list.items().len()).min().unwrap_or(0);
    let items = lists.iter().flat_map(|list| list.items().get(..rows).unwrap_or(&[]));
    // Brackets for each row, and a comma behind each element and each row but the last.
    let bytes = items.fold(rows.saturating_mul(2), |sum, item| sum.saturating_add(item.encoded_len() + 1));
    budget.steps(rows.saturating_mul(lists.len()))?;
    budget.memory(rows.saturating_mul(lists.len() + 3).saturating_mul(ELEMENT_BYTES))?;
    take_list(rows, bytes, budget)?;
    let mut zipped = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut items = Vec::with_capacity(lists.len());
        items.extend(lists.iter().filter_map(|list| list.items().get(row)).cloned());
        zipped.push(Value::list(items, budget)?);
    }
    Value::list(zipped, budget)
}

fn enumerate(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let list = list(operands, 0)?;
    let start = int_or(operands, 1, 0)?;
    let count = list.items().len();
    let mut bytes = 0usize;
    for (index, item) in list.items().iter().enumerate() {
        // Two brackets and two commas.
        let number = Value::int(start + index as i128)?;
        bytes = bytes.saturating_add(number.encoded_len() + 4).saturating_add(item.encoded_len());
    }
    budget.memory(count.saturating_mul(5 * ELEMENT_BYTES))?;
    take_list(count, bytes, budget)?;
    let mut pairs = Vec::with_capacity(count);
    for (index, item) in list.items().iter().enumerate() {
        let number = Value::int(start + index as i128)?;
        pairs.push(Value::list(vec![number, item.clone()], budget)?);
    }
    Value::list(pairs, budget)
}

fn range(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let (start, stop, step) = (int(operands, 0)?, int(operands, 1)?, int_or(operands, 2, 1)?);
    if step == 0 {
        return Err(Failure::invalid("the step of a range must not be 0"));
    }
    let distance = if step > 0 { stop - start } else { start - stop };
    let width = step.abs();
    let count = if distance <= 0 { 0 } else { (distance + width - 1) / width };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let longest = Value::int(start)?.encoded_len().max(Value::int(stop)?.encoded_len());
    take_list(count, count.saturating_mul(longest + 1), budget)?;
    let mut items = Vec::with_capacity(count);
    for index in 0..count {
        items.push(Value::int(start + step * index as i128)?);
    }
    Value::list(items, budget)
}

fn sum(list: &List, budget: &mut Budget) -> Result<Value, Failure> {
    let mut sum = Value::int(0)?;
    for item in list.items() {
        budget.steps(1)?;
        let item = item.looked(budget)?;
        if !Types::NUMBER.contains(item.kind()) {
            return Err(wrong_type("an element", item.kind(), "a number"));
        }
        sum = Pair::of(&sum, &item)?.exactly(i128::checked_add, |left, right| left + right)?;
    }
    Ok(sum)
}

pub(super) fn extreme(
    items: &[Value],
    wanted: Ordering,
    what: &str,
    order: Order,
    budget: &mut Budget,
) -> Result<Value, Failure> {
    let mut items = items.iter();
    let mut best = items.next().ok_or_else(|| empty(&format!("{what} element")))?;
    let memory_left = budget.memory_left();
    let mut best_looked = best.looked(budget)?;
    order.check(&best_looked)?;
    for candidate in items {
        let looked = candidate.looked(budget)?;
        if order.compare(&looked, &best_looked, budget)? == wanted {
            (best, best_looked) = (candidate, looked);
        }
        budget.restore_memory(memory_left, best_looked.memory());
    }
    Ok(best.clone())
}

fn unique(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let list = list(operands, 0)?;
    budget.value(list.items().len().saturating_mul(2), any(operands, 0)?.encoded_len())?;
    let order = sorted(list.items().to_vec(), false, Order::All, budget)?;
    let mut is_repeated = vec![false; list.items().len()];
    for pair in order.windows(2) {
        if let [before, after] = pair
            && compare(&list.items()[*before], &list.items()[*after], budget)? == Ordering::Equal
        {
            is_repeated[*after] = true;
        }
    }
    let kept = list.items().iter().zip(is_repeated).filter(|(_, is_repeated)| !is_repeated);
    Value::list(kept.map(|(item, _)| item.clone()).collect(), budget)
}

/// The places of the keys in their order; equal ones as they stand. The first failure of a comparison ends it.
pub(crate) fn sorted(
    mut keys: Vec<Value>,
    descending: bool,
    order: Order,
    budget: &mut Budget,
) -> Result<Vec<usize>, Failure> {
    let n = keys.len();
    for key in &mut keys {
        // Looked into once, and not for each comparison.
        key.look(budget)?;
        order.check(key)?;
    }
    let mut failure = None;
    let mut places: Vec<usize> = (0..n).collect();
    places.sort_by(|left, right| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        match order.compare(&keys[*left], &keys[*right], budget) {
            Ok(ordering) if descending => ordering.reverse(),
            Ok(ordering) => ordering,
            Err(error) => {
                failure = Some(error);
                Ordering::Equal
            }
        }
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(places),
    }
}

/// The key of a group, from what a body made of an element.
pub(crate) fn group_key(key: &Value, budget: &mut Budget) -> Result<Text, Failure> {
    let key = key.looked(budget)?;
    match key {
        Value::Text(text) => Ok(text),
        Value::Int(int) => Ok(Text::from(int.get().to_string())),
        Value::Bool(truth) => Ok(Text::from(truth.to_string())),
        other => Err(Failure::new(
            ErrorKind::WrongType,
            format!(
                "the key of a group is {}, and must be a string, an int or a bool",
                with_article(other.kind())
            ),
        )),
    }
}
