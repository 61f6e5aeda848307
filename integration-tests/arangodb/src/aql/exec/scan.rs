//! Documents of a loop.

use std::rc::Rc;
use std::sync::Arc;

use super::{Row, Run};
use crate::aql::ast::{For, Query};
use crate::aql::plan::{self, Access, Attribute, Equal};
use crate::error::Outcome;
use crate::store::{Collection, IndexKind, split_id};
use crate::value::Value;

/// Documents in the order in which they are found.
type Documents<'c> = Box<dyn Iterator<Item = &'c Value> + 'c>;

impl<'q> Run<'_, '_, 'q> {
    pub(super) fn access(
        &mut self,
        query: &'q Query,
        at: usize,
        for_in: &'q For,
        name: &str,
    ) -> Outcome<Rc<Access<'q>>> {
        let address = std::ptr::from_ref(for_in).addr();
        if let Some(access) = self.access.get(&address) {
            return Ok(access.clone());
        }
        let access = Rc::new(plan::choose(query, at, for_in, self.session.collection(name)?)?);
        self.access.insert(address, access.clone());
        Ok(access)
    }

    pub(super) fn documents<'c>(
        &mut self,
        collection: &'c Collection,
        access: &Access<'q>,
        row: &mut Row,
    ) -> Outcome<Documents<'c>> {
        let Some(index) = access.index.and_then(|place| collection.indexes.get(place)) else {
            return Ok(Box::new(collection.scan()));
        };
        let mut equal = Vec::new();
        for condition in &access.equal {
            equal.push(self.wanted(condition, row)?);
        }
        let places: Vec<u64> = match (index.kind, access.equal.first()) {
            (IndexKind::Persistent, _) => {
                let lower = self.bound(access.lower, row)?;
                let upper = self.bound(access.upper, row)?;
                return Ok(in_order(collection, index, &equal, lower, upper, access));
            }
            (_, Some(condition)) => {
                let values = equal.pop().unwrap_or_default();
                values.iter().flat_map(|value| found(collection, condition.attribute, value)).collect()
            }
            (_, None) => {
                let lower = self.bound(access.lower, row)?;
                let upper = self.bound(access.upper, row)?;
                let inside = move |key: &Arc<str>| {
                    let key = Value::Str(key.clone());
                    lower.as_ref().is_none_or(|(bound, with)| key > *bound || *with && key == *bound)
                        && upper.as_ref().is_none_or(|(bound, with)| key < *bound || *with && key == *bound)
                };
                let places = collection.by_key().filter(|(key, _)| inside(key)).map(|(_, place)| place);
                if is_down(access) { places.rev().collect() } else { places.collect() }
            }
        };
        Ok(Box::new(places.into_iter().filter_map(|place| collection.at(place))))
    }

    /// The values that a field may have.
    fn wanted(&mut self, condition: &Equal<'q>, row: &mut Row) -> Outcome<Vec<Value>> {
        let value = self.eval(condition.value, row)?;
        Ok(match (condition.any_of, value) {
            (false, value) => vec![value],
            (true, Value::Array(values)) => {
                let mut values = values.as_ref().clone();
                values.sort();
                values.dedup();
                values
            }
            (true, _) => Vec::new(),
        })
    }

    fn bound(
        &mut self,
        bound: Option<(&'q crate::aql::ast::Expr, bool)>,
        row: &mut Row,
    ) -> Outcome<Option<(Value, bool)>> {
        bound.map(|(value, with)| Ok((self.eval(value, row)?, with))).transpose()
    }
}

fn is_down(access: &Access<'_>) -> bool {
    access.sorted.is_some_and(|(_, down)| down)
}

fn found(collection: &Collection, attribute: Attribute, value: &Value) -> Vec<u64> {
    let Some(text) = value.as_str() else { return Vec::new() };
    match attribute {
        Attribute::Field => collection.place_of(text).into_iter().collect(),
        Attribute::Id => match split_id(text) {
            Some((name, key)) if *name == *collection.name => collection.place_of(key).into_iter().collect(),
            _ => Vec::new(),
        },
        Attribute::From => collection.edges_from(text).collect(),
        Attribute::To => collection.edges_to(text).collect(),
    }
}

fn in_order<'c>(
    collection: &'c Collection,
    index: &'c crate::store::Index,
    equal: &[Vec<Value>],
    lower: Option<(Value, bool)>,
    upper: Option<(Value, bool)>,
    access: &Access<'_>,
) -> Documents<'c> {
    let last = equal.last().cloned().unwrap_or_default();
    let prefix: Vec<Value> = equal
        .iter()
        .take(equal.len().saturating_sub(1))
        .filter_map(|values| values.first().cloned())
        .collect();
    if equal.is_empty() {
        let places = index.places(&[], lower, upper);
        return turned(collection, places, is_down(access));
    }
    let ranges: Vec<Vec<Value>> =
        last.into_iter().map(|value| [prefix.clone(), vec![value]].concat()).collect();
    let places =
        ranges.into_iter().flat_map(move |values| index.places(&values, lower.clone(), upper.clone()));
    turned(collection, places, is_down(access))
}

fn turned<'c>(
    collection: &'c Collection,
    places: impl Iterator<Item = u64> + 'c,
    down: bool,
) -> Documents<'c> {
    if down {
        let mut places: Vec<u64> = places.collect();
        places.reverse();
        return Box::new(places.into_iter().filter_map(|place| collection.at(place)));
    }
    Box::new(places.filter_map(|place| collection.at(place)))
}
