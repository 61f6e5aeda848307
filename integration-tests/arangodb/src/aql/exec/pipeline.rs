//! Clauses: row by row as far as it goes, and all rows together where a clause needs them.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::{Row, Run};
use crate::aql::ast::{Clause, For, Query, Source, Target};
use crate::aql::plan::collection_of;
use crate::error::{Failure, Outcome};
use crate::value::Value;

/// What a result takes beside its parts, which it shares.
const RESULT_BYTES: usize = 16;

/// Where rows go, and how far limits have got.
struct Stage<'q> {
    query: &'q Query,
    /// The clause before which rows are gathered.
    end: usize,
    rows: Vec<Row>,
    results: Vec<Value>,
    /// Rows skipped and passed by the limit at each place.
    limits: HashMap<usize, (i64, i64)>,
    seen: BTreeSet<Value>,
    skipped_sort: Option<usize>,
    /// Rows go on to be counted after a limit is reached.
    count_all: Option<usize>,
}

impl<'q> Run<'_, '_, 'q> {
    /// Runs a query for one row. `full_count`: counts what its last limit cut off.
    pub(super) fn query(&mut self, query: &'q Query, row: &mut Row, full_count: bool) -> Outcome<Vec<Value>> {
        let last_limit = query.clauses.iter().rposition(|clause| matches!(clause, Clause::Limit { .. }));
        let mut stage = Stage {
            query,
            end: 0,
            rows: vec![row.clone()],
            results: Vec::new(),
            limits: HashMap::new(),
            seen: BTreeSet::new(),
            skipped_sort: None,
            count_all: last_limit.filter(|_| full_count),
        };
        let held = self.memory;
        let mut start = 0;
        while start < query.clauses.len() {
            stage.skipped_sort = stage.skipped_sort.or(self.sort_served(query, start)?);
            stage.end = (start..query.clauses.len())
                .find(|at| gathers(&query.clauses[*at]) && stage.skipped_sort != Some(*at))
                .unwrap_or(query.clauses.len());
            for mut row in std::mem::take(&mut stage.rows) {
                if self.push(&mut stage, start, &mut row)?.is_break() {
                    break;
                }
            }
            if let Some(clause) = query.clauses.get(stage.end) {
                let rows = std::mem::take(&mut stage.rows);
                stage.rows = self.gathered(clause, rows)?;
            }
            start = stage.end + 1;
        }
        if let Some((skipped, passed)) = stage.count_all.and_then(|at| stage.limits.get(&at)) {
            self.stats.full_count = Some(skipped + passed);
        }
        // Its rows are gone; what it gives is shared with whoever takes it.
        self.memory = held;
        Ok(stage.results)
    }

    /// The sort that the index of the first loop from there makes unnecessary.
    fn sort_served(&mut self, query: &'q Query, start: usize) -> Outcome<Option<usize>> {
        for (at, clause) in query.clauses.iter().enumerate().skip(start) {
            match clause {
                Clause::For(for_in) => {
                    return match collection_of(for_in) {
                        Some(name) => Ok(self.access(query, at, for_in, name)?.sorted.map(|(sort, _)| sort)),
                        None => Ok(None),
                    };
                }
                clause if gathers(clause) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    fn gathered(&mut self, clause: &'q Clause, rows: Vec<Row>) -> Outcome<Vec<Row>> {
        match clause {
            Clause::Sort(keys) => self.sort(keys, rows),
            Clause::Collect(collect) => self.collect(collect, rows),
            Clause::Modify(modify) => self.modify(modify, rows),
            Clause::Let { slot, value, .. } => {
                let mut rows = rows;
                for row in &mut rows {
                    let value = self.eval(value, row)?;
                    row[*slot] = value;
                }
                Ok(rows)
            }
            Clause::For(_)
            | Clause::Traverse(_)
            | Clause::Filter(_)
            | Clause::Limit { .. }
            | Clause::Return { .. } => Ok(rows),
        }
    }

    fn sort(&mut self, keys: &'q [(crate::aql::ast::Expr, bool)], rows: Vec<Row>) -> Outcome<Vec<Row>> {
        let mut keyed = Vec::with_capacity(rows.len());
        for mut row in rows {
            let values = keys.iter().map(|(key, _)| self.eval(key, &mut row)).collect::<Outcome<Vec<_>>>()?;
            keyed.push((values, row));
        }
        keyed.sort_by(|(one, _), (other, _)| {
            let orders = one.iter().zip(other).zip(keys).map(|((one, other), (_, down))| {
                let order = one.cmp(other);
                if *down { order.reverse() } else { order }
            });
            orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    /// Sends a row through the clauses from that place on. A break: no more rows are wanted.
    fn push(&mut self, stage: &mut Stage<'q>, at: usize, row: &mut Row) -> Outcome<ControlFlow<()>> {
        if at == stage.end {
            if at < stage.query.clauses.len() {
                self.hold(row.len() * size_of::<Value>())?;
                stage.rows.push(row.clone());
            }
            return Ok(ControlFlow::Continue(()));
        }
        match &stage.query.clauses[at] {
            Clause::For(for_in) => self.push_for(stage, at, for_in, row),
            Clause::Traverse(traverse) => {
                for (vertex, edge, path, pruned) in self.traverse(traverse, row)? {
                    row[traverse.vertex] = vertex;
                    traverse.edge.iter().for_each(|slot| row[*slot] = edge.clone());
                    traverse.path.iter().for_each(|slot| row[*slot] = path.clone());
                    if let Some((Some(slot), _)) = &traverse.prune {
                        row[*slot] = pruned;
                    }
                    if self.push(stage, at + 1, row)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Clause::Filter(condition) => {
                if self.eval(condition, row)?.is_true() {
                    return self.push(stage, at + 1, row);
                }
                self.stats.filtered += 1;
                Ok(ControlFlow::Continue(()))
            }
            Clause::Let { slot, value, .. } => {
                let value = self.eval(value, row)?;
                row[*slot] = value;
                self.push(stage, at + 1, row)
            }
            Clause::Sort(_) => self.push(stage, at + 1, row),
            Clause::Limit { skip, count } => {
                let (skip, count) = (self.limit(skip, row)?, self.limit(count, row)?);
                let (skipped, passed) = stage.limits.entry(at).or_default();
                if *skipped < skip {
                    *skipped += 1;
                    return Ok(ControlFlow::Continue(()));
                }
                *passed += 1;
                let passed = *passed;
                let counts = stage.count_all == Some(at);
                if passed <= count && self.push(stage, at + 1, row)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                Ok(if passed >= count && !counts {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            }
            Clause::Return { distinct, value } => {
                let value = self.eval(value, row)?;
                if !*distinct || stage.seen.insert(value.clone()) {
                    self.hold(RESULT_BYTES)?;
                    stage.results.push(value);
                }
                Ok(ControlFlow::Continue(()))
            }
            Clause::Collect(_) | Clause::Modify(_) => Ok(ControlFlow::Continue(())),
        }
    }

    fn limit(&mut self, bound: &'q crate::aql::ast::Expr, row: &mut Row) -> Outcome<i64> {
        match self.eval(bound, row)? {
            Value::Int(number) if number >= 0 => Ok(number),
            // As many as there are.
            Value::Null => Ok(i64::MAX),
            _ => Err(Failure::new(1504, "AQL: LIMIT value is not a number or out of range")),
        }
    }

    fn push_for(
        &mut self,
        stage: &mut Stage<'q>,
        at: usize,
        for_in: &'q For,
        row: &mut Row,
    ) -> Outcome<ControlFlow<()>> {
        match &for_in.source {
            Source::Collection(name) => {
                let access = self.access(stage.query, at, for_in, name)?;
                // A copy that writes of the same statement do not change.
                let collection = self.session.collection(name)?.clone();
                let full = access.index.is_none();
                for document in self.documents(&collection, &access, row)? {
                    self.step()?;
                    *(if full { &mut self.stats.scanned_full } else { &mut self.stats.scanned_index }) += 1;
                    bind(&for_in.target, document.clone(), row);
                    if self.push(stage, at + 1, row)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Source::Values(values) => {
                let values = self.eval(values, row)?;
                let Value::Array(values) = values else {
                    return Err(Failure::new(
                        1563,
                        format!(
                            "AQL: collection or array expected as operand to FOR loop; you provided a value of type \
                             '{}' (while executing)",
                            values.type_name()
                        ),
                    ));
                };
                for value in values.iter() {
                    self.step()?;
                    bind(&for_in.target, value.clone(), row);
                    if self.push(stage, at + 1, row)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn bind(target: &Target, value: Value, row: &mut Row) {
    match target {
        Target::Slot(slot) => row[*slot] = value,
        Target::Array(_, slots) => {
            for (at, slot) in slots.iter().enumerate() {
                row[*slot] = value.as_array().and_then(|values| values.get(at)).cloned().unwrap_or_default();
            }
        }
    }
}

/// The clause needs all rows before it gives the first.
fn gathers(clause: &Clause) -> bool {
    match clause {
        Clause::Sort(_) | Clause::Collect(_) | Clause::Modify(_) => true,
        Clause::Let { writes, .. } => *writes,
        Clause::For(_)
        | Clause::Traverse(_)
        | Clause::Filter(_)
        | Clause::Limit { .. }
        | Clause::Return { .. } => false,
    }
}
