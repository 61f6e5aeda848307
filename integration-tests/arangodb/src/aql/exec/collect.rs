//! Groups.

use std::collections::BTreeMap;

use super::{Row, Run};
use crate::aql::ast::{Aggregate, Collect, Member};
use crate::aql::functions;
use crate::error::Outcome;
use crate::value::Value;

/// What has come of a group so far.
struct Group {
    row: Row,
    count: usize,
    /// Values of each aggregate.
    values: Vec<Vec<Value>>,
    members: Vec<Value>,
}

impl<'q> Run<'_, '_, 'q> {
    pub(super) fn collect(&mut self, collect: &'q Collect, rows: Vec<Row>) -> Outcome<Vec<Row>> {
        let mut groups: BTreeMap<Vec<Value>, Group> = BTreeMap::new();
        for mut row in rows {
            self.step()?;
            let key = collect
                .groups
                .iter()
                .map(|(_, value)| self.eval(value, &mut row))
                .collect::<Outcome<Vec<_>>>()?;
            let values = collect
                .aggregates
                .iter()
                .map(|(_, _, value)| self.eval(value, &mut row))
                .collect::<Outcome<Vec<_>>>()?;
            let member = match collect.into.as_ref().map(|into| &into.member) {
                Some(Member::Value(value)) => Some(self.eval(value, &mut row)?),
                Some(Member::Variables(kept)) => {
                    Some(Value::object(kept.iter().map(|(name, slot)| (name.clone(), row[*slot].clone()))))
                }
                None => None,
            };
            let group = groups.entry(key).or_insert_with(|| Group {
                row,
                count: 0,
                values: vec![Vec::new(); collect.aggregates.len()],
                members: Vec::new(),
            });
            group.count += 1;
            group.values.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
            group.members.extend(member);
        }
        // Without groups to tell apart there is one, also of no rows.
        if collect.groups.is_empty() && groups.is_empty() {
            let row = vec![Value::Null; self.width];
            let values = vec![Vec::new(); collect.aggregates.len()];
            groups.insert(Vec::new(), Group { row, count: 0, values, members: Vec::new() });
        }
        let mut rows: Vec<Row> = groups
            .into_iter()
            .map(|(key, group)| self.grouped(collect, key, group))
            .collect::<Outcome<_>>()?;
        // Without an order here too, so that nobody relies on one.
        if collect.hashed {
            rows.reverse();
        }
        Ok(rows)
    }

    fn grouped(&mut self, collect: &'q Collect, key: Vec<Value>, group: Group) -> Outcome<Row> {
        let mut row = group.row;
        for ((slot, _), value) in collect.groups.iter().zip(key) {
            row[*slot] = value;
        }
        for ((slot, aggregate, _), values) in collect.aggregates.iter().zip(group.values) {
            row[*slot] = self.aggregated(*aggregate, values)?;
        }
        if let Some(slot) = collect.count {
            row[slot] = Value::count(group.count);
        }
        if let Some(into) = &collect.into {
            row[into.slot] = Value::array(group.members);
        }
        Ok(row)
    }

    fn aggregated(&mut self, aggregate: Aggregate, mut values: Vec<Value>) -> Outcome<Value> {
        let name = match aggregate {
            Aggregate::Count => return Ok(Value::count(values.len())),
            Aggregate::Push => return Ok(Value::array(values)),
            // As an aggregate it is null without numbers.
            Aggregate::Sum if values.iter().all(Value::is_null) => {
                return Ok(if values.is_empty() { Value::Null } else { Value::Int(0) });
            }
            Aggregate::Sum => "SUM",
            Aggregate::Average => "AVERAGE",
            Aggregate::Min => "MIN",
            Aggregate::Max => "MAX",
            Aggregate::Unique => "UNIQUE",
            Aggregate::SortedUnique => "SORTED_UNIQUE",
            Aggregate::CountUnique => "COUNT_UNIQUE",
        };
        let function = functions::find(name)?;
        self.calls.name = function.name;
        (function.call)(&mut self.calls, &[Value::array(std::mem::take(&mut values))])
    }
}
