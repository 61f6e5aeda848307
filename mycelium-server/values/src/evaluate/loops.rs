//! Operations with a body: it is computed for one element after the other.

use std::sync::Arc;

use mycelium_proto::v1;

use super::{Machine, Scope, Work, malformed};
use crate::budget::ELEMENT_BYTES;
use crate::error::{ErrorKind, Failure};
use crate::operations::operand::with_article;
use crate::operations::whole::{group_key, sorted};
use crate::order::Order;
use crate::table::{Loop, Operation};
use crate::value::{Entries, List, Text, Value};

/// A body on its way through a list.
pub(super) struct LoopState<'a> {
    pub(super) node: u32,
    run: Loop,
    body: &'a v1::OperationBody,
    list: Arc<List>,
    /// How many elements the body was computed for.
    done: usize,
    is_in_body: bool,
    results: Vec<Value>,
    accumulator: Value,
    captured: Vec<Value>,
    descending: bool,
    /// What was left of the memory before the first element...
    memory_left: usize,
    /// ...and what of it is taken by results. All else that a body makes is let go with its element.
    kept: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn begin_loop(
        &mut self,
        node: u32,
        run: Loop,
        operation: &'a v1::Operation,
        known: &Operation,
        mut operands: Vec<Value>,
    ) -> Result<(), Failure> {
        let Some(Value::List(list)) = operands.first() else { return Err(malformed()) };
        let list = Arc::clone(list);
        let descending = matches!(run, Loop::Sort(_)) && matches!(operands.get(1), Some(Value::Bool(true)));
        let Some(body) = &operation.body else {
            let Loop::Sort(order) = run else { return Err(malformed()) };
            let keys = list.items().to_vec();
            return self.end_sort(node, &list, keys, descending, order);
        };
        let captured = operands.split_off(known.parameters.len().min(operands.len()));
        let accumulator =
            if run == Loop::Reduce { operands.pop().ok_or_else(malformed)? } else { Value::Null };
        self.budget.value(list.items().len(), 0)?;
        // The table of values of the body, which is used again for each element.
        self.budget.value(body.nodes.len(), 0)?;
        let state = LoopState {
            node,
            run,
            body,
            results: Vec::with_capacity(if run == Loop::Reduce { 0 } else { list.items().len() }),
            list,
            done: 0,
            is_in_body: false,
            accumulator,
            captured,
            descending,
            memory_left: self.budget.memory_left(),
            kept: 0,
        };
        self.work.push(Work::Loop(Box::new(state)));
        Ok(())
    }

    /// Takes what the body gave for the last element, and begins with the next or ends.
    pub(super) fn next_element(&mut self, mut state: Box<LoopState<'a>>) -> Result<(), Failure> {
        if state.is_in_body {
            let result = self.scope()?.value(state.body.result).cloned().ok_or_else(malformed)?;
            let memory = result.memory();
            if state.run == Loop::Reduce {
                state.kept = memory;
                state.accumulator = result;
            } else {
                state.kept = state.kept.saturating_add(memory);
                state.results.push(result);
            }
            state.done += 1;
            let scope = self.scope()?;
            scope.begin_again();
            let looked = scope.looked.values().fold(0usize, |sum, value| sum.saturating_add(value.memory()));
            self.budget.restore_memory(state.memory_left, state.kept.saturating_add(looked));
        }
        let Some(element) = state.list.items().get(state.done).cloned() else {
            if state.is_in_body {
                self.scopes.pop();
            }
            return self.end_loop(*state);
        };
        let inputs_count = if state.is_in_body { 2 } else { 2 + state.captured.len() };
        if let Err(failure) = self.budget.steps(inputs_count + state.body.nodes.len()) {
            // The failure is that of the operation, which stands outside of the body.
            if state.is_in_body {
                self.scopes.pop();
            }
            return Err(failure);
        }
        let own = if state.run == Loop::Reduce {
            vec![std::mem::replace(&mut state.accumulator, Value::Null), element]
        } else {
            vec![element]
        };
        if state.is_in_body {
            let scope = self.scope()?;
            for (place, input) in scope.inputs.iter_mut().zip(own) {
                *place = input;
            }
        } else {
            let own_inputs = own.len();
            let mut inputs = own;
            inputs.append(&mut state.captured);
            let mut scope = Scope::new(&state.body.nodes, inputs);
            scope.owner = state.node;
            scope.own_inputs = own_inputs;
            self.scopes.push(scope);
            state.is_in_body = true;
        }
        let result = state.body.result;
        self.work.push(Work::Loop(state));
        self.work.push(Work::Compute(result));
        Ok(())
    }

    /// The body was computed for all elements.
    fn end_loop(&mut self, state: LoopState<'a>) -> Result<(), Failure> {
        let LoopState { node, run, list, results, accumulator, descending, .. } = state;
        let value = match run {
            Loop::Reduce => accumulator,
            Loop::Map => self.new_list(results)?,
            Loop::Filter => {
                let mut kept = Vec::new();
                for (item, keeps) in list.items().iter().zip(results) {
                    match keeps.looked(&mut self.budget)? {
                        Value::Bool(true) => kept.push(item.clone()),
                        Value::Bool(false) => {}
                        other => {
                            return Err(Failure::new(
                                ErrorKind::WrongType,
                                format!("the body gave {}, and must give a bool", with_article(other.kind())),
                            ));
                        }
                    }
                }
                self.new_list(kept)?
            }
            Loop::GroupBy => {
                let mut groups: indexmap::IndexMap<Text, Vec<Value>> = indexmap::IndexMap::new();
                for (item, key) in list.items().iter().zip(results) {
                    let key = group_key(&key, &mut self.budget)?;
                    self.budget.steps(1)?;
                    self.budget.memory(6 * ELEMENT_BYTES + key.len())?;
                    groups.entry(key).or_default().push(item.clone());
                }
                let mut entries = Entries::with_capacity(groups.len());
                for (key, items) in groups {
                    entries.insert(key, self.new_list(items)?);
                }
                let map = Value::map(entries, &self.budget)?;
                self.budget.value(0, map.encoded_len())?;
                map
            }
            Loop::Sort(order) => return self.end_sort(node, &list, results, descending, order),
        };
        self.scope()?.set(node, value);
        Ok(())
    }

    fn end_sort(
        &mut self,
        node: u32,
        list: &List,
        keys: Vec<Value>,
        descending: bool,
        order: Order,
    ) -> Result<(), Failure> {
        self.budget.value(list.items().len().saturating_mul(2), 0)?;
        let places = sorted(keys, descending, order, &mut self.budget)?;
        let items = places.into_iter().filter_map(|place| list.items().get(place).cloned()).collect();
        let value = self.new_list(items)?;
        self.scope()?.set(node, value);
        Ok(())
    }

    /// A list of values that are there; the place of each was counted before.
    fn new_list(&mut self, items: Vec<Value>) -> Result<Value, Failure> {
        let bytes = items.iter().fold(2usize, |sum, item| sum.saturating_add(item.encoded_len() + 1));
        self.budget.value(0, bytes - usize::from(!items.is_empty()))?;
        Value::list(items, &self.budget)
    }
}
