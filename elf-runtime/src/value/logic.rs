//! Operations on values of any type: comparisons, logic, choices, options, conversions.

use std::ops::Not;

use super::handle::Value;
use super::into::IntoValue;
use super::kinds::Ordered;
use super::node::Node;
use super::operation::{Computed, operand, ordered, record};
use crate::output::{NoFields, Output};

impl<T: Output> Value<T> {
    /// One of two values. Only the one that is taken is computed.
    ///
    /// ```
    /// # use elf_runtime::Value;
    /// let weight: Value<i64> = Value::literal(&7);
    /// let size = Value::select(weight.less_than(10), "small", "large");
    /// assert_eq!(size.to_string(), r#""small" if 7 < 10 else "large""#);
    /// ```
    #[must_use]
    pub fn select(
        condition: impl IntoValue<bool>,
        then: impl Computed<Type = T>,
        otherwise: impl IntoValue<T>,
    ) -> Self {
        let inputs = vec![operand(condition), then.into_computed().into_node(), operand::<T>(otherwise)];
        record("select", inputs)
    }

    /// The value without its type, with the operations that there are for values of any type. A struct's field named
    /// `untyped` is reached through [`Value::fields`].
    #[must_use]
    pub fn untyped(&self) -> Value<serde_json::Value> {
        self.retyped()
    }
}

/// For values of all types but derived structs, whose fields go by these names; those have them behind
/// [`Value::untyped`].
impl<T: Output<Fields = NoFields>> Value<T> {
    /// Whether they are equal. Numbers are by their value: 1 equals 1.0; null is no number, and fails the job that takes
    /// the result with `wrong_type`.
    #[must_use]
    pub fn equals(&self, other: impl IntoValue<T>) -> Value<bool> {
        let name = if T::IS_NUMBER { "strict.equal" } else { "equal" };
        record(name, vec![self.node().clone(), operand::<T>(other)])
    }

    /// Whether they differ.
    #[must_use]
    pub fn not_equals(&self, other: impl IntoValue<T>) -> Value<bool> {
        let name = if T::IS_NUMBER { "strict.not_equal" } else { "not_equal" };
        record(name, vec![self.node().clone(), operand::<T>(other)])
    }

    /// Its text: strings as they are, everything else as compact JSON.
    #[must_use]
    pub fn to_text(&self) -> Value<String> {
        record("to_string", vec![self.node().clone()])
    }

    /// Whether it is anything: false are null, false, 0, and what is empty.
    #[must_use]
    pub fn to_bool(&self) -> Value<bool> {
        record("to_bool", vec![self.node().clone()])
    }

    /// Its compact JSON, as a text.
    #[must_use]
    pub fn encode_json(&self) -> Value<String> {
        record("json.encode", vec![self.node().clone()])
    }

    /// The name of its JSON type: `null`, `bool`, `int`, `float`, `string`, `list` or `map`.
    #[must_use]
    pub fn type_of(&self) -> Value<String> {
        record("type_of", vec![self.node().clone()])
    }
}

/// Comparisons. A value that its type says is a number, a text or a list is never null: one that is all the same (of an
/// `Option` that was taken for [`required`](Value::required), say) is not the least of all, but fails the job that takes
/// the result with `wrong_type`. The order of all values is that of [`Value::untyped`].
impl<T: Ordered> Value<T> {
    /// Whether it is less. Strings are ordered by code point.
    #[must_use]
    pub fn less_than(&self, other: impl IntoValue<T>) -> Value<bool> {
        record(ordered!(T, "less"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// Whether it is less or equal.
    #[must_use]
    pub fn less_or_equal(&self, other: impl IntoValue<T>) -> Value<bool> {
        record(ordered!(T, "less_or_equal"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// Whether it is greater.
    #[must_use]
    pub fn greater_than(&self, other: impl IntoValue<T>) -> Value<bool> {
        record(ordered!(T, "greater"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// Whether it is greater or equal.
    #[must_use]
    pub fn greater_or_equal(&self, other: impl IntoValue<T>) -> Value<bool> {
        record(ordered!(T, "greater_or_equal"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// The lesser of the two; this one if they are equal. For more than two see [`Value::minimum_of`].
    #[must_use]
    pub fn minimum(&self, other: impl IntoValue<T>) -> Self {
        record(ordered!(T, "minimum"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// The greater of the two; this one if they are equal. For more than two see [`Value::maximum_of`].
    #[must_use]
    pub fn maximum(&self, other: impl IntoValue<T>) -> Self {
        record(ordered!(T, "maximum"), vec![self.node().clone(), operand::<T>(other)])
    }

    /// The least of several values. For a list that is not there yet see [`Value::min`].
    #[must_use]
    pub fn minimum_of(first: impl Computed<Type = T>, others: impl IntoIterator<Item: IntoValue<T>>) -> Self {
        record(ordered!(T, "minimum"), several(first, others))
    }

    /// The greatest of several values. For a list that is not there yet see [`Value::max`].
    #[must_use]
    pub fn maximum_of(first: impl Computed<Type = T>, others: impl IntoIterator<Item: IntoValue<T>>) -> Self {
        record(ordered!(T, "maximum"), several(first, others))
    }
}

fn several<T: Output>(
    first: impl Computed<Type = T>,
    others: impl IntoIterator<Item: IntoValue<T>>,
) -> Vec<Node> {
    let mut inputs = vec![first.into_computed().into_node()];
    inputs.extend(others.into_iter().map(operand::<T>));
    inputs
}

impl Value<bool> {
    /// Whether both are true. The other one is computed only if this one is.
    #[must_use]
    pub fn and(&self, other: impl IntoValue<bool>) -> Self {
        record("and", vec![self.node().clone(), operand::<bool>(other)])
    }

    /// Whether one of them is true. The other one is computed only if this one is not.
    #[must_use]
    pub fn or(&self, other: impl IntoValue<bool>) -> Self {
        record("or", vec![self.node().clone(), operand::<bool>(other)])
    }

    /// Whether it is false. Also written `!value`.
    #[must_use]
    pub fn not(&self) -> Self {
        record("not", vec![self.node().clone()])
    }

    /// 1 for true, 0 for false.
    #[must_use]
    pub fn to_int(&self) -> Value<i64> {
        record("to_int", vec![self.node().clone()])
    }

    /// 1.0 for true, 0.0 for false.
    #[must_use]
    pub fn to_float(&self) -> Value<f64> {
        record("to_float", vec![self.node().clone()])
    }
}

impl Not for Value<bool> {
    type Output = Self;

    fn not(self) -> Self {
        record("not", vec![self.into_node()])
    }
}

impl Not for &Value<bool> {
    type Output = Value<bool>;

    fn not(self) -> Value<bool> {
        record("not", vec![self.node().clone()])
    }
}

impl<T: Output> Value<Option<T>> {
    /// Whether there is none.
    #[must_use]
    pub fn is_null(&self) -> Value<bool> {
        record("is_null", vec![self.node().clone()])
    }

    /// The value, or another one if there is none. The other one is computed only then.
    #[must_use]
    pub fn unwrap_or(&self, otherwise: impl IntoValue<T>) -> Value<T> {
        record("coalesce", vec![self.node().clone(), operand::<T>(otherwise)])
    }

    /// The value, or another one, which may be none too. The other one is computed only if there is none.
    #[must_use]
    pub fn or_else(&self, otherwise: impl IntoValue<Option<T>>) -> Self {
        record("coalesce", vec![self.node().clone(), operand::<Option<T>>(otherwise)])
    }

    /// The value, for where it is known that there is one. Nothing is checked here: if there is none, the job that
    /// takes it fails.
    #[must_use]
    pub fn required(&self) -> Value<T> {
        self.retyped()
    }

    /// What the closure makes of the value; none if there is none. A closure that gives an `Option` is one for
    /// [`and_then`](Self::and_then): the two levels would be one null.
    #[must_use]
    pub fn map<C: Computed>(&self, closure: impl FnOnce(Value<T>) -> C) -> Value<Option<C::Type>> {
        if std::any::type_name::<C::Type>().starts_with("core::option::Option<") {
            let message =
                "the closure of `map` gives an `Option`, and of two levels JSON keeps one: use `and_then`";
            return Value::from_node(Node::invalid(message.to_owned()));
        }
        self.map_some(closure)
    }

    /// What the closure makes of the value, which may be none; none if there is none.
    #[must_use]
    pub fn and_then<U: Output, C: Computed<Type = Option<U>>>(
        &self,
        closure: impl FnOnce(Value<T>) -> C,
    ) -> Value<Option<U>>
    where
        Option<U>: Output,
    {
        self.map_some(closure)
    }

    fn map_some<C: Computed, R: Output>(&self, closure: impl FnOnce(Value<T>) -> C) -> Value<R> {
        let some = closure(self.required()).into_computed().into_node();
        record("select", vec![self.is_null().into_node(), Node::literal(&()), some])
    }
}

impl<A: Output, B: Output> Value<(A, B)> {
    /// The first of the two.
    #[must_use]
    pub fn first(&self) -> Value<A> {
        record("get", vec![self.node().clone(), Node::literal(&0)])
    }

    /// The second of the two.
    #[must_use]
    pub fn second(&self) -> Value<B> {
        record("get", vec![self.node().clone(), Node::literal(&1)])
    }
}

impl<A: Output, B: Output, C: Output> Value<(A, B, C)> {
    /// The first of the three.
    #[must_use]
    pub fn first(&self) -> Value<A> {
        record("get", vec![self.node().clone(), Node::literal(&0)])
    }

    /// The second of the three.
    #[must_use]
    pub fn second(&self) -> Value<B> {
        record("get", vec![self.node().clone(), Node::literal(&1)])
    }

    /// The third of the three.
    #[must_use]
    pub fn third(&self) -> Value<C> {
        record("get", vec![self.node().clone(), Node::literal(&2)])
    }
}
