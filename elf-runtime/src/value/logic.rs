//! Operations on values of any type: comparisons, logic, choices, options, conversions.

use super::handle::Value;
use super::into::IntoValue;
use super::kinds::Ordered;
use super::node::Node;
use super::operation::{Computed, operand, operations, ordered, record};
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

operations! {
    /// For values of all types but derived structs, whose fields go by these names; those have them behind
    /// [`Value::untyped`].
    [T: Output<Fields = NoFields>] Value<T>:

    /// Its text: strings as they are, everything else as compact JSON.
    to_text() -> Value<String> = "to_string";

    /// Whether it is anything: false are null, false, 0, and what is empty.
    to_bool() -> Value<bool> = "to_bool";

    /// Its compact JSON, as a text.
    encode_json() -> Value<String> = "json.encode";

    /// The name of its JSON type: `null`, `bool`, `int`, `float`, `string`, `list` or `map`.
    type_of() -> Value<String> = "type_of";
}

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
}

operations! {
    /// Comparisons. A value that its type says is a number, a text or a list is never null: one that is all the same (of an
    /// `Option` that was taken for [`required`](Value::required), say) is not the least of all, but fails the job that takes
    /// the result with `wrong_type`. The order of all values is that of [`Value::untyped`].
    [T: Ordered] Value<T>:

    /// Whether it is less. Strings are ordered by code point.
    less_than(other: T) -> Value<bool> = ordered!(T, "less");

    /// Whether it is less or equal.
    less_or_equal(other: T) -> Value<bool> = ordered!(T, "less_or_equal");

    /// Whether it is greater.
    greater_than(other: T) -> Value<bool> = ordered!(T, "greater");

    /// Whether it is greater or equal.
    greater_or_equal(other: T) -> Value<bool> = ordered!(T, "greater_or_equal");

    /// The lesser of the two; this one if they are equal. For more than two see [`Value::minimum_of`].
    minimum(other: T) -> Self = ordered!(T, "minimum");

    /// The greater of the two; this one if they are equal. For more than two see [`Value::maximum_of`].
    maximum(other: T) -> Self = ordered!(T, "maximum");
}

impl<T: Ordered> Value<T> {
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

operations! {
    [] Value<bool>:

    /// Whether both are true. The other one is computed only if this one is.
    and(other: bool) -> Self = "and";

    /// Whether one of them is true. The other one is computed only if this one is not.
    or(other: bool) -> Self = "or";

    /// Whether it is false. Also written `!value`.
    not() -> Self = "not";

    /// 1 for true, 0 for false.
    to_int() -> Value<i64> = "to_int";

    /// 1.0 for true, 0.0 for false.
    to_float() -> Value<f64> = "to_float";
}

operations! {
    [T: Output] Value<Option<T>>:

    /// Whether there is none.
    is_null() -> Value<bool> = "is_null";

    /// The value, or another one if there is none. The other one is computed only then.
    unwrap_or(otherwise: T) -> Value<T> = "coalesce";

    /// The value, or another one, which may be none too. The other one is computed only if there is none.
    or_else(otherwise: Option<T>) -> Self = "coalesce";
}

impl<T: Output> Value<Option<T>> {
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

operations! {
    [A: Output, B: Output] Value<(A, B)>:

    /// The first of the two.
    first() -> Value<A> = "get", 0;

    /// The second of the two.
    second() -> Value<B> = "get", 1;
}

operations! {
    [A: Output, B: Output, C: Output] Value<(A, B, C)>:

    /// The first of the three.
    first() -> Value<A> = "get", 0;

    /// The second of the three.
    second() -> Value<B> = "get", 1;

    /// The third of the three.
    third() -> Value<C> = "get", 2;
}
