//! Operations on lists. Those that change a list are in `edit`.

use std::collections::BTreeMap;

use super::closure::with_body;
use super::handle::Value;
use super::into::IntoValue;
use super::kinds::{GroupKey, Number, Ordered};
use super::node::Node;
use super::operation::{Computed, operand, operations, ordered, record, record_each};
use crate::output::Output;

operations! {
    /// Operations on lists. Positions count from 0; negative ones from the end, as in Python.
    ///
    /// Closures are called once, while the flow is recorded, with an element that stands for all. What they return is
    /// computed by the broker for each element. They may use values from outside:
    ///
    /// ```
    /// # use elf_runtime::{list, Value};
    /// let factor: Value<i64> = Value::literal(&3);
    /// let weights: Value<Vec<i64>> = list![1, 2, 3];
    /// let scaled = weights.map(|weight| weight * &factor + 1);
    /// assert_eq!(scaled.to_string(), "[1, 2, 3].map(x -> x * 3 + 1)");
    /// ```
    [T: Output] Value<Vec<T>>:

    /// How many elements it has.
    length() -> Value<i64> = "length";

    /// The element at a position. The job that takes it fails with `bad_index` if there is none.
    get(index: i64) -> Value<T> = "get";

    /// The first element. The job that takes it fails with `bad_index` if there is none.
    first() -> Value<T> = "get", 0;

    /// The last element. The job that takes it fails with `bad_index` if there is none.
    last() -> Value<T> = "get", -1;

    /// The element at a position, or another value if the list is not as long. The other value is computed only then.
    get_or(index: i64, otherwise: T) -> Value<T> = "get_or";

    /// The elements from one position up to, and without, another. What is beyond the ends is left out.
    slice(start: i64, stop: i64) -> Self = "slice";

    /// The elements from a position on.
    slice_from(start: i64) -> Self = "slice", ();

    /// Every so many-th element from one position up to another, as Python's `[start:stop:step]`: `None` is where the
    /// list begins or ends, a negative step goes backwards. The job that takes it fails with `invalid_value` if the
    /// step is 0.
    slice_step(start: Option<i64>, stop: Option<i64>, step: i64) -> Self = "slice";

    /// Whether an element is equal to this.
    contains(item: T) -> Value<bool> = "contains";

    /// The position of the first element that is equal to this; none if there is none.
    index_of(item: T) -> Value<Option<i64>> = "list.index_of";

    /// How many elements are equal to this.
    count(item: T) -> Value<i64> = "list.count";

    /// Whether an element is true, in the sense of [`Value::to_bool`].
    any_true() -> Value<bool> = "list.any";

    /// Whether all elements are true, in the sense of [`Value::to_bool`].
    all_true() -> Value<bool> = "list.all";

    /// The list from its end to its beginning.
    reversed() -> Self = "list.reverse";

    /// The list without the elements that are equal to an earlier one.
    unique() -> Self = "list.unique";

    /// The elements of this list, and then those of another one.
    concat(other: Vec<T>) -> Self = "list.concat";

    /// The list so many times, one after the other; an empty one for numbers below 1.
    repeat(count: i64) -> Self = "list.repeat";

    /// Pairs of positions and elements.
    enumerate() -> Value<Vec<(i64, T)>> = "list.enumerate";

    /// Pairs of numbers and elements; the numbers begin with this one.
    enumerate_from(start: i64) -> Value<Vec<(i64, T)>> = "list.enumerate";
}

impl<T: Output> Value<Vec<T>> {
    /// The elements up to, and without, a position.
    #[must_use]
    pub fn slice_to(&self, stop: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), Node::literal(&()), operand(stop)])
    }

    /// The elements of several lists, one list after the other.
    #[must_use]
    pub fn concat_of(lists: impl IntoIterator<Item: IntoValue<Vec<T>>>) -> Self {
        record("list.concat", lists.into_iter().map(operand::<Vec<T>>).collect())
    }

    /// Pairs of the elements of two lists at the same position, as many as the shorter one has.
    #[must_use]
    pub fn zip<C, U: Output>(&self, other: C) -> Value<Vec<(T, U)>>
    where
        C: Computed<Type = Vec<U>>,
    {
        record("list.zip", vec![self.node().clone(), other.into_computed().into_node()])
    }

    /// The list of what the closure makes of each element.
    #[must_use]
    pub fn map<C: Computed>(&self, closure: impl FnOnce(Value<T>) -> C) -> Value<Vec<C::Type>> {
        record_each("list.map", vec![self.node().clone()], closure)
    }

    /// The elements for which the closure gives true.
    #[must_use]
    pub fn filter<C: Computed<Type = bool>>(&self, closure: impl FnOnce(Value<T>) -> C) -> Self {
        record_each("list.filter", vec![self.node().clone()], closure)
    }

    /// All elements brought together into one of their type: the closure is given what there is so far, at first
    /// `initial`, and the next element. [`Value::fold`] is for results of other types.
    ///
    /// ```
    /// # use elf_runtime::{list, Value};
    /// let weights: Value<Vec<i64>> = list![1, 2, 3];
    /// let product = weights.reduce(1, |product, weight| product * weight);
    /// assert_eq!(product.to_string(), "[1, 2, 3].reduce(1, (x, y) -> x * y)");
    /// ```
    #[must_use]
    pub fn reduce<C: Computed<Type = T>>(
        &self,
        initial: impl IntoValue<T>,
        closure: impl FnOnce(Value<T>, Value<T>) -> C,
    ) -> Value<T> {
        self.fold(initial.into_value(), closure)
    }

    /// All elements brought together into a value of any type: the closure is given what there is so far, at first
    /// `initial`, and the next element.
    #[must_use]
    pub fn fold<A: Computed, C: Computed<Type = A::Type>>(
        &self,
        initial: A,
        closure: impl FnOnce(Value<A::Type>, Value<T>) -> C,
    ) -> Value<A::Type> {
        let operands = vec![self.node().clone(), initial.into_computed().into_node()];
        Value::from_node(with_body("list.reduce", operands, |[so_far, element]| {
            closure(Value::from_node(so_far), Value::from_node(element)).into_computed().into_node()
        }))
    }

    /// The elements in lists by what the closure makes of them, in a map whose keys are the texts of that, in the
    /// order in which they first appear.
    #[must_use]
    pub fn group_by<C: Computed<Type: GroupKey>>(
        &self,
        closure: impl FnOnce(Value<T>) -> C,
    ) -> Value<BTreeMap<String, Vec<T>>> {
        record_each("list.group_by", vec![self.node().clone()], closure)
    }

    /// The elements in the order of what the closure makes of them. Equal ones stay in the order they are in. The job that
    /// takes it fails with `wrong_type` if that is null for one of them.
    #[must_use]
    pub fn sorted_by<C: Computed<Type: Ordered>>(&self, closure: impl FnOnce(Value<T>) -> C) -> Self {
        self.sorted_by_key(false, closure)
    }

    /// The elements in the order of what the closure makes of them, the greatest first. Equal ones stay in the order
    /// they are in.
    #[must_use]
    pub fn sorted_by_descending<C: Computed<Type: Ordered>>(
        &self,
        closure: impl FnOnce(Value<T>) -> C,
    ) -> Self {
        self.sorted_by_key(true, closure)
    }

    fn sorted_by_key<C: Computed<Type: Ordered>>(
        &self,
        descending: bool,
        closure: impl FnOnce(Value<T>) -> C,
    ) -> Self {
        let name = ordered!(C::Type, "strict.sort" else "list.sort");
        record_each(name, vec![self.node().clone(), Node::literal(&descending)], closure)
    }
}

operations! {
    [T: Ordered] Value<Vec<T>>:

    /// The elements in their order. Equal ones stay in the order they are in.
    sorted() -> Self = ordered!(T, "strict.sort" else "list.sort");

    /// The elements in their order, the greatest first. Equal ones stay in the order they are in.
    sorted_descending() -> Self = ordered!(T, "strict.sort" else "list.sort"), true;

    /// The least element, the first of equal ones. The job that takes it fails with `empty` if there is none.
    min() -> Value<T> = ordered!(T, "strict.min" else "list.min");

    /// The greatest element, the first of equal ones. The job that takes it fails with `empty` if there is none.
    max() -> Value<T> = ordered!(T, "strict.max" else "list.max");
}

operations! {
    [N: Number] Value<Vec<N>>:

    /// The sum of all elements; 0 if there are none.
    sum() -> Value<N> = "list.sum";

    /// The mean of all elements. The job that takes it fails with `empty` if there are none.
    mean() -> Value<f64> = "list.mean";
}

impl Value<Vec<i64>> {
    /// The integers from one up to, and without, another.
    #[must_use]
    pub fn range(start: impl IntoValue<i64>, stop: impl IntoValue<i64>) -> Self {
        record("list.range", vec![operand(start), operand(stop)])
    }

    /// Every so many-th integer from one up to, and without, another. A negative step goes down. The job that takes
    /// it fails with `invalid_value` if the step is 0.
    #[must_use]
    pub fn range_step(
        start: impl IntoValue<i64>,
        stop: impl IntoValue<i64>,
        step: impl IntoValue<i64>,
    ) -> Self {
        record("list.range", vec![operand(start), operand(stop), operand(step)])
    }
}

operations! {
    [T: Output] Value<Vec<Vec<T>>>:

    /// The elements of all its lists, one list after the other.
    flatten() -> Value<Vec<T>> = "list.flatten";
}

operations! {
    [] Value<Vec<String>>:

    /// All its texts, with a separator between each two.
    join(separator: String) -> Value<String> = "string.join";
}
