//! Expressions.

use std::sync::Arc;

use super::{Row, Run};
use crate::aql::ast::{Binary, Expand, Expr, Quantifier};
use crate::aql::functions::Calls;
use crate::aql::functions::array::{flat, from_either_end};
use crate::aql::functions::string::{like, regex};
use crate::error::{Failure, Outcome};
use crate::store::split_id;
use crate::value::{Object, Value};

/// How many elements a range may have.
const RANGE_MAX: i64 = 10_000_000;

impl<'q> Run<'_, '_, 'q> {
    pub(super) fn eval(&mut self, expr: &'q Expr, row: &mut Row) -> Outcome<Value> {
        match expr {
            Expr::Value(value) => Ok(value.clone()),
            Expr::Slot(slot) => Ok(row[*slot].clone()),
            Expr::Collection(name) => {
                self.session.collection(name)?;
                Err(Failure::unknown(1568, format!("collection '{name}' used as expression operand")))
            }
            Expr::Array(items) => {
                items.iter().map(|item| self.eval(item, row)).collect::<Outcome<Vec<_>>>().map(Value::array)
            }
            Expr::Object(attributes) => {
                let mut object = Object::with_capacity_and_hasher(attributes.len(), Default::default());
                for (name, value) in attributes {
                    let name = self.eval(name, row)?.to_text();
                    let value = self.eval(value, row)?;
                    // Of names that occur twice the first counts before 4.x, and the last from then on.
                    if object.insert(name, value).is_some() {
                        return Err(Failure::unknown(
                            1501,
                            "an object literal with an attribute that occurs twice",
                        ));
                    }
                }
                Ok(Value::Object(Arc::new(object)))
            }
            Expr::Attribute(base, name) => Ok(self.eval(base, row)?.get(name)),
            Expr::Index(base, index) => {
                let base = self.eval(base, row)?;
                Ok(indexed(&base, &self.eval(index, row)?))
            }
            Expr::Expand(expand) => self.expand(expand, row),
            Expr::Not(inner) => Ok((!self.eval(inner, row)?.is_true()).into()),
            Expr::Minus(inner) => Ok(match self.eval(inner, row)?.to_number() {
                Value::Int(number) => {
                    number.checked_neg().map_or(Value::double(-(number as f64)), Value::Int)
                }
                number => Value::double(-number.to_f64()),
            }),
            Expr::Plus(inner) => Ok(self.eval(inner, row)?.to_number()),
            Expr::Binary(operator, left, right) => {
                let left = self.eval(left, row)?;
                match operator {
                    Binary::And if !left.is_true() => Ok(left),
                    Binary::Or if left.is_true() => Ok(left),
                    Binary::And | Binary::Or => self.eval(right, row),
                    operator => {
                        let right = self.eval(right, row)?;
                        binary(&mut self.calls, *operator, &left, &right)
                    }
                }
            }
            Expr::Quantified(quantifier, operator, left, right) => {
                let left = self.eval(left, row)?;
                let right = self.eval(right, row)?;
                self.quantified(*quantifier, *operator, &left, &right)
            }
            Expr::Ternary(condition, then, other) => {
                let condition = self.eval(condition, row)?;
                match (condition.is_true(), then) {
                    (true, Some(then)) => self.eval(then, row),
                    (true, None) => Ok(condition),
                    (false, _) => self.eval(other, row),
                }
            }
            Expr::Range(from, to) => {
                let (from, to) = (self.eval(from, row)?.to_i64(), self.eval(to, row)?.to_i64());
                if to.abs_diff(from) > RANGE_MAX.unsigned_abs() {
                    return Err(Failure::new(1504, "AQL: range is too large"));
                }
                let values: Vec<Value> = if from <= to {
                    (from..=to).map(Value::Int).collect()
                } else {
                    (to..=from).rev().map(Value::Int).collect()
                };
                Ok(Value::array(values))
            }
            Expr::Call(function, arguments) => {
                if let ("LENGTH" | "COUNT", [Expr::Collection(name)]) = (function.name, arguments.as_slice())
                {
                    return Ok(Value::count(self.session.collection(name)?.len()));
                }
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.eval(argument, row)?);
                }
                if function.reads {
                    return self.document(&values);
                }
                self.calls.name = function.name;
                (function.call)(&mut self.calls, &values)
            }
            Expr::Subquery(query) => self.query(query, row, false).map(Value::array),
        }
    }

    /// `DOCUMENT`: null for what is not there.
    fn document(&self, arguments: &[Value]) -> Outcome<Value> {
        let id = match arguments {
            [Value::Str(collection), Value::Str(key)] => format!("{collection}/{key}"),
            [Value::Str(id)] => id.to_string(),
            [Value::Str(_), Value::Array(ids)] | [Value::Array(ids)] => {
                let prefix = &arguments[..arguments.len() - 1];
                let found: Outcome<Vec<Value>> = ids
                    .iter()
                    .map(|id| self.document(&[prefix, std::slice::from_ref(id)].concat()))
                    .collect();
                return found.map(|mut found| {
                    found.retain(|document| !document.is_null());
                    Value::array(found)
                });
            }
            _ => return Ok(Value::Null),
        };
        let Some((collection, key)) = split_id(&id) else { return Ok(Value::Null) };
        Ok(self
            .session
            .collection(collection)?
            .get(key)
            .map(|stored| stored.document.clone())
            .unwrap_or_default())
    }

    fn expand(&mut self, expand: &'q Expand, row: &mut Row) -> Outcome<Value> {
        let Value::Array(base) = self.eval(&expand.base, row)? else {
            return Ok(Value::array(Vec::new()));
        };
        let flattened;
        let items: &[Value] = if expand.flatten > 0 {
            flattened = flat(&base, i64::try_from(expand.flatten).unwrap_or(i64::MAX));
            &flattened
        } else {
            &base
        };
        let (mut skip, mut left) = match &expand.limit {
            Some((skip, count)) => (self.eval(skip, row)?.to_i64(), self.eval(count, row)?.to_i64()),
            None => (0, i64::MAX),
        };
        let mut out = Vec::new();
        for item in items {
            row[expand.current] = item.clone();
            if let Some(filter) = &expand.filter
                && !self.eval(filter, row)?.is_true()
            {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            if left <= 0 {
                break;
            }
            left -= 1;
            let mut value = item.clone();
            for step in [&expand.project, &expand.rest].into_iter().flatten() {
                row[expand.current] = value;
                value = self.eval(step, row)?;
            }
            out.push(value);
        }
        Ok(Value::array(out))
    }

    fn quantified(
        &mut self,
        quantifier: Quantifier,
        operator: Binary,
        left: &Value,
        right: &Value,
    ) -> Outcome<Value> {
        let Some(items) = left.as_array() else { return Ok(Value::Bool(false)) };
        let mut held = 0;
        for item in items {
            held += usize::from(binary(&mut self.calls, operator, item, right)?.is_true());
        }
        Ok(match quantifier {
            Quantifier::All => held == items.len(),
            Quantifier::Any => held > 0,
            Quantifier::None => held == 0,
        }
        .into())
    }
}

fn indexed(base: &Value, index: &Value) -> Value {
    match (base, index) {
        (Value::Array(values), index) if index.is_number() => {
            from_either_end(values.len(), index.to_i64()).map(|at| values[at].clone()).unwrap_or_default()
        }
        (Value::Array(values), Value::Str(text)) => {
            let at = text.parse::<i64>().ok().and_then(|at| from_either_end(values.len(), at));
            at.map(|at| values[at].clone()).unwrap_or_default()
        }
        (Value::Object(_), index) => base.get(&index.to_text()),
        _ => Value::Null,
    }
}

fn binary(calls: &mut Calls, operator: Binary, left: &Value, right: &Value) -> Outcome<Value> {
    let truth = match operator {
        Binary::Equal => left == right,
        Binary::Unequal => left != right,
        Binary::Less => left < right,
        Binary::LessEqual => left <= right,
        Binary::Greater => left > right,
        Binary::GreaterEqual => left >= right,
        Binary::In | Binary::NotIn => {
            let found = right.as_array().is_some_and(|values| values.contains(left));
            // What is no array has no element, also for `NOT IN`, which says so with a warning.
            if right.as_array().is_none() {
                calls.warn(1563, "collection or array expected as second operand of IN");
            }
            found == (operator == Binary::In)
        }
        Binary::Like => like(calls, left, right, false)?,
        Binary::NotLike => !like(calls, left, right, false)?,
        Binary::Matches => regex(calls, right, false)?.is_match(&left.to_text()),
        Binary::NotMatches => !regex(calls, right, false)?.is_match(&left.to_text()),
        Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => {
            return Ok(arithmetic(calls, operator, left, right));
        }
        // Both are decided before the right side is evaluated.
        Binary::And => left.is_true() && right.is_true(),
        Binary::Or => left.is_true() || right.is_true(),
    };
    Ok(truth.into())
}

fn arithmetic(calls: &mut Calls, operator: Binary, left: &Value, right: &Value) -> Value {
    // From 4.x on a plus puts texts together.
    let has_text = left.as_str().is_some() || right.as_str().is_some();
    if calls.is_4 && operator == Binary::Add && has_text {
        return Value::from(format!("{}{}", left.to_text(), right.to_text()));
    }
    let (left, right) = (left.to_number(), right.to_number());
    if matches!(operator, Binary::Divide | Binary::Modulo) && right.to_f64() == 0.0 {
        calls.warn(1562, "division by zero");
        return Value::Null;
    }
    if let (Value::Int(left), Value::Int(right)) = (&left, &right) {
        let whole = match operator {
            Binary::Add => left.checked_add(*right),
            Binary::Subtract => left.checked_sub(*right),
            Binary::Multiply => left.checked_mul(*right),
            Binary::Modulo => left.checked_rem(*right),
            _ => None,
        };
        if let Some(whole) = whole {
            return Value::Int(whole);
        }
    }
    let (left, right) = (left.to_f64(), right.to_f64());
    Value::double(match operator {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide => left / right,
        _ => left % right,
    })
}
