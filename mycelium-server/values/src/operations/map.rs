//! Maps.

use std::collections::{HashMap, HashSet};

use super::generic::missing_key;
use super::operand::{any, list, map, take_list, text, wrong_type};
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::json::string_len;
use crate::table::{Function, Operation, Parameter, Run};
use crate::types::{Type, Types};
use crate::value::{Entries, Map, Text, Value};

const MAP: Types = Types::of(&[Type::Map]);
const LIST: Types = Types::of(&[Type::List]);
const STRING: Types = Types::of(&[Type::String]);
const MAP_PARAMETER: Parameter = Parameter::new("map", MAP);

const fn operation(
    name: &'static str,
    parameters: &'static [Parameter],
    result: Types,
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Function,
) -> Operation {
    Operation {
        name,
        parameters,
        body: None,
        result,
        errors,
        cost: "2 for each entry of the result",
        docs,
        run: Run::Eager(run),
    }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    operation(
        "map.set",
        &[MAP_PARAMETER, Parameter::new("key", STRING), Parameter::any("value")],
        MAP,
        &[],
        "The map with this value for the key. A new key goes last, any other keeps its place.",
        |operands, budget| {
            let (map, key, value) = (map(operands, 0)?, text(operands, 1)?, any(operands, 2)?.clone());
            let size = any(operands, 0)?.encoded_len();
            let bytes = match map.entries().get(&key) {
                Some(old) => size - old.encoded_len() + value.encoded_len(),
                // A colon, and a comma if there is another.
                None => {
                    let entry = string_len(&key) + 1 + value.encoded_len();
                    size.saturating_add(entry).saturating_add(usize::from(!map.entries().is_empty()))
                }
            };
            take_map(map.entries().len() + 1, bytes, budget)?;
            let mut entries = map.entries().clone();
            entries.insert(key, value);
            Value::map(entries, budget)
        },
    ),
    operation(
        "map.remove",
        &[MAP_PARAMETER, Parameter::new("key", STRING)],
        MAP,
        &[ErrorKind::MissingKey],
        "The map without this key.",
        |operands, budget| {
            let (map, key) = (map(operands, 0)?, text(operands, 1)?);
            if !map.entries().contains_key(&key) {
                return Err(missing_key());
            }
            filtered(&map, |other| **other != *key, budget)
        },
    ),
    operation(
        "map.merge",
        &[MAP_PARAMETER, Parameter::new("others", MAP).variadic()],
        MAP,
        &[],
        "The entries of all maps. Of a key that is in several the last value counts, in the first one's place.",
        merge,
    ),
    operation("map.keys", &[MAP_PARAMETER], LIST, &[], "The keys, in order.", |operands, budget| {
        let map = map(operands, 0)?;
        let bytes = map.entries().keys().fold(0usize, |sum, key| sum.saturating_add(string_len(key) + 1));
        take_list(map.entries().len(), bytes, budget)?;
        Value::list(map.entries().keys().map(|key| Value::Text(key.clone())).collect(), budget)
    }),
    operation("map.values", &[MAP_PARAMETER], LIST, &[], "The values, in order.", |operands, budget| {
        let map = map(operands, 0)?;
        let values = map.entries().values();
        let bytes = values.fold(0usize, |sum, value| sum.saturating_add(value.encoded_len() + 1));
        take_list(map.entries().len(), bytes, budget)?;
        Value::list(map.entries().values().cloned().collect(), budget)
    }),
    operation(
        "map.items",
        &[MAP_PARAMETER],
        LIST,
        &[],
        "Lists of a key and its value, in order.",
        |operands, budget| {
            let map = map(operands, 0)?;
            let count = map.entries().len();
            let size = any(operands, 0)?.encoded_len().saturating_add(count.saturating_mul(2));
            take_map(count.saturating_mul(2), size, budget)?;
            let mut items = Vec::with_capacity(count);
            for (key, value) in map.entries() {
                items.push(Value::list(vec![Value::Text(key.clone()), value.clone()], budget)?);
            }
            Value::list(items, budget)
        },
    ),
    operation(
        "map.from_items",
        &[Parameter::new("items", LIST)],
        MAP,
        &[ErrorKind::InvalidValue],
        "A map of lists of a key and a value. Of a key that is there twice the last value counts, in the first one's \
         place.",
        from_items,
    ),
    operation(
        "map.pick",
        &[MAP_PARAMETER, Parameter::new("keys", LIST)],
        MAP,
        &[],
        "The entries with these keys, in the order of the map. Keys that it has not are nothing.",
        |operands, budget| {
            let keys = keys(operands, budget)?;
            filtered(&*map(operands, 0)?, |key| keys.contains(key), budget)
        },
    ),
    operation(
        "map.omit",
        &[MAP_PARAMETER, Parameter::new("keys", LIST)],
        MAP,
        &[],
        "The entries with other keys than these, in order.",
        |operands, budget| {
            let keys = keys(operands, budget)?;
            filtered(&*map(operands, 0)?, |key| !keys.contains(key), budget)
        },
    ),
];

fn take_map(entries: usize, bytes: usize, budget: &mut Budget) -> Result<(), Failure> {
    budget.value(entries.saturating_mul(2), bytes)
}

fn filtered(map: &Map, keeps: impl Fn(&Text) -> bool, budget: &mut Budget) -> Result<Value, Failure> {
    budget.steps(map.entries().len())?;
    let kept = || map.entries().iter().filter(|(key, _)| keeps(key));
    let (count, bytes) = kept().fold((0usize, 2usize), |(count, bytes), (key, value)| {
        (count + 1, bytes.saturating_add(string_len(key)).saturating_add(value.encoded_len() + 2))
    });
    take_map(count, bytes - usize::from(count > 0), budget)?;
    Value::map(kept().map(|(key, value)| (key.clone(), value.clone())).collect(), budget)
}

fn merge(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let maps = (0..operands.len()).map(|index| map(operands, index)).collect::<Result<Vec<_>, _>>()?;
    let count = maps.iter().map(|map| map.entries().len()).fold(0, usize::saturating_add);
    budget.value(count.saturating_mul(2), 0)?;
    // What the result takes is known once it is known which keys are in several.
    let mut sizes: HashMap<&str, usize> = HashMap::with_capacity(count);
    for (key, value) in maps.iter().flat_map(|map| map.entries()) {
        sizes.insert(key, value.encoded_len());
    }
    let bytes = sizes.iter().fold(2usize, |sum, (key, size)| sum.saturating_add(string_len(key) + 2 + size));
    let commas = usize::from(!sizes.is_empty());
    drop(sizes);
    take_map(count, bytes - commas, budget)?;
    let mut entries = Entries::with_capacity(count);
    for map in maps {
        entries.extend(map.entries().iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Value::map(entries, budget)
}

fn from_items(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let items = list(operands, 0)?;
    take_map(items.items().len(), any(operands, 0)?.encoded_len(), budget)?;
    let mut entries = Entries::with_capacity(items.items().len());
    for item in items.items() {
        let pair = match item.looked(budget)? {
            Value::List(pair) => pair,
            other => return Err(wrong_type("an item", other.kind(), "a list of a key and a value")),
        };
        let [key, value] = pair.items() else {
            return Err(Failure::invalid(format!(
                "an item has {} elements, and must be a key and a value",
                pair.items().len()
            )));
        };
        match key.looked(budget)? {
            Value::Text(key) => drop(entries.insert(key, value.clone())),
            other => return Err(wrong_type("a key", other.kind(), "a string")),
        }
    }
    Value::map(entries, budget)
}

/// The keys that are listed.
fn keys(operands: &[Value], budget: &mut Budget) -> Result<HashSet<Text>, Failure> {
    let list = list(operands, 1)?;
    budget.value(list.items().len(), 0)?;
    let mut keys = HashSet::with_capacity(list.items().len());
    for key in list.items() {
        match key.looked(budget)? {
            Value::Text(key) => drop(keys.insert(key)),
            other => return Err(wrong_type("a key", other.kind(), "a string")),
        }
    }
    Ok(keys)
}
