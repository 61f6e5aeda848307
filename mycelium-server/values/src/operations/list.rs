//! Lists with an element more, less or changed.

use super::operand::{any, bad_index, int, int_or, list, place, take_list};
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::order::equal;
use crate::table::{Function, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::{List, Value};

const LIST: Types = Types::of(&[Type::List]);
const INT: Types = Types::of(&[Type::Int]);
const COPY: &str = "1 for each element of the result";
const LIST_PARAMETER: Parameter = Parameter::new("list", LIST);

const fn operation(
    name: &'static str,
    parameters: &'static [Parameter],
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Function,
) -> Operation {
    Operation { name, parameters, body: None, result: LIST, errors, cost: COPY, docs, run: Run::Eager(run) }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    operation(
        "list.append",
        &[LIST_PARAMETER, Parameter::any("item")],
        &[],
        "The list with the item behind it.",
        |operands, budget| {
            let list = list(operands, 0)?;
            spliced(&list, list.items().len(), 0, std::slice::from_ref(any(operands, 1)?), budget)
        },
    ),
    operation(
        "list.extend",
        &[LIST_PARAMETER, Parameter::new("other", LIST)],
        &[],
        "The list with the elements of the other behind it.",
        |operands, budget| {
            let (first, other) = (list(operands, 0)?, list(operands, 1)?);
            spliced(&first, first.items().len(), 0, other.items(), budget)
        },
    ),
    operation(
        "list.insert",
        &[LIST_PARAMETER, Parameter::new("index", INT), Parameter::any("item")],
        &[],
        "The list with the item before the element with this index. An index beyond an end means that end.",
        |operands, budget| {
            let list = list(operands, 0)?;
            let len = list.items().len() as i128;
            let index = int(operands, 1)?;
            let at = (if index < 0 { index + len } else { index }).clamp(0, len);
            let at = usize::try_from(at).unwrap_or(0);
            spliced(&list, at, 0, std::slice::from_ref(any(operands, 2)?), budget)
        },
    ),
    operation(
        "list.set",
        &[LIST_PARAMETER, Parameter::new("index", INT), Parameter::any("item")],
        &[ErrorKind::BadIndex],
        "The list with the item in the place of the element with this index.",
        |operands, budget| {
            let list = list(operands, 0)?;
            let at = existing(&list, int(operands, 1)?)?;
            spliced(&list, at, 1, std::slice::from_ref(any(operands, 2)?), budget)
        },
    ),
    operation(
        "list.delete",
        &[LIST_PARAMETER, Parameter::new("index", INT)],
        &[ErrorKind::BadIndex],
        "The list without the element with this index.",
        |operands, budget| {
            let list = list(operands, 0)?;
            let at = existing(&list, int(operands, 1)?)?;
            spliced(&list, at, 1, &[], budget)
        },
    ),
    Operation {
        name: "list.pop",
        parameters: &[LIST_PARAMETER, Parameter::new("index", INT).optional()],
        body: None,
        result: Types::ANY,
        errors: &[ErrorKind::BadIndex, ErrorKind::Empty],
        cost: "0",
        docs: "The element with this index, by default the last. `list.delete` gives the list that is left.",
        run: Run::Eager(|operands, _| {
            let list = list(operands, 0)?;
            if list.items().is_empty() {
                return Err(Failure::new(ErrorKind::Empty, "the list is empty, and has no element to take"));
            }
            let at = existing(&list, int_or(operands, 1, -1)?)?;
            Ok(list.items()[at].clone())
        }),
    },
    Operation {
        name: "list.remove",
        parameters: &[LIST_PARAMETER, Parameter::any("item")],
        body: None,
        result: LIST,
        errors: &[ErrorKind::NotFound],
        cost: "1 for each element of the result and each part that is compared",
        docs: "The list without the first element that equals the item.",
        run: Run::Eager(|operands, budget| {
            let list = list(operands, 0)?;
            let item = any(operands, 1)?.looked(budget)?;
            match position(&list, &item, budget)? {
                Some(at) => spliced(&list, at, 1, &[], budget),
                None => {
                    Err(Failure::new(ErrorKind::NotFound, "the list has no element that equals the item"))
                }
            }
        }),
    },
    operation("list.reverse", &[LIST_PARAMETER], &[], "The list backwards.", |operands, budget| {
        let list = list(operands, 0)?;
        budget.value(list.items().len(), any(operands, 0)?.encoded_len())?;
        Value::list(list.items().iter().rev().cloned().collect(), budget)
    }),
    Operation {
        name: "list.index_of",
        parameters: &[LIST_PARAMETER, Parameter::any("item")],
        body: None,
        result: Types::of(&[Type::Int, Type::Null]),
        errors: &[],
        cost: "1 for each part that is compared",
        docs: "The index of the first element that equals the item; null if there is none.",
        run: Run::Eager(|operands, budget| {
            let item = any(operands, 1)?.looked(budget)?;
            let found = position(&*list(operands, 0)?, &item, budget)?;
            Ok(found.map_or(Value::Null, Value::count))
        }),
    },
    Operation {
        name: "list.count",
        parameters: &[LIST_PARAMETER, Parameter::any("item")],
        body: None,
        result: INT,
        errors: &[],
        cost: "1 for each part that is compared",
        docs: "How many elements equal the item.",
        run: Run::Eager(|operands, budget| {
            let item = &any(operands, 1)?.looked(budget)?;
            let mut count = 0;
            for element in list(operands, 0)?.items() {
                count += usize::from(equal(element, item, budget)?);
            }
            Ok(Value::count(count))
        }),
    },
];

fn existing(list: &List, index: i128) -> Result<usize, Failure> {
    place(index, list.items().len()).ok_or_else(|| bad_index(list.items().len(), "list"))
}

fn position(list: &List, item: &Value, budget: &mut Budget) -> Result<Option<usize>, Failure> {
    for (index, element) in list.items().iter().enumerate() {
        if equal(element, item, budget)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The list with `new` in the place of `removed` elements from `at` on.
fn spliced(
    list: &List,
    at: usize,
    removed: usize,
    new: &[Value],
    budget: &mut Budget,
) -> Result<Value, Failure> {
    let items = list.items();
    let (before, rest) = items.split_at(at.min(items.len()));
    let after = rest.get(removed..).unwrap_or(&[]);
    let count = before.len().saturating_add(new.len()).saturating_add(after.len());
    let parts = || before.iter().chain(new).chain(after);
    let bytes = parts().fold(0usize, |sum, item| sum.saturating_add(item.encoded_len() + 1));
    take_list(count, bytes, budget)?;
    let mut all = Vec::with_capacity(count);
    all.extend(parts().cloned());
    Value::list(all, budget)
}
