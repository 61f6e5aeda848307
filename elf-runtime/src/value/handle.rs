//! The handle that programs hold on a value.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;

use super::node::Node;
use crate::output::{Fields, Output};

/// A value of the type `T` that may not be there yet: what a job returns, a literal, lists, maps and structs of
/// those, and what is computed of them. Recorded when it is made, computed by the broker when the job that takes it
/// begins.
///
/// Wherever a task takes a `T`, a flow takes a `T`, a `Value<T>` or a `Job<T>`. Values are cheap to clone. The fields
/// of a derived struct are values too, by methods of their names:
///
/// ```
/// use elf_runtime::{list, Flow, Output, Value};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Output, Serialize, Deserialize)]
/// struct Measurement { species: String, weight: i64 }
///
/// let flow = Flow::detached("docs");
/// let bee: Value<Measurement> = Value::literal(&Measurement { species: "bee".into(), weight: 7 });
/// let weight: Value<i64> = bee.weight();
/// assert_eq!(weight.to_string(), "7");
///
/// let all: Value<Vec<Measurement>> = list![bee, Measurement { species: "dog".into(), weight: 9 }];
/// assert_eq!(all.to_string(), r#"[{"species":"bee","weight":7}, {"species":"dog","weight":9}]"#);
/// ```
///
/// One computes with values as with what they stand for: with operators, with methods by their type, with closures.
/// Nothing is computed while that is recorded; a mistake that only shows then (a division by zero, a key that is not
/// there) is a failure of the job that takes the result. Of a job it is [`Job::value`](crate::Job::value) that one
/// computes with.
///
/// ```
/// use elf_runtime::{list, Value};
///
/// let bee: Value<i64> = Value::literal(&7);
/// let mut weights: Value<Vec<i64>> = list![&bee, 9];
/// weights.push(2 * &bee + 1);
/// let heavy = weights.filter(|weight| weight.greater_than(&bee));
/// let size = Value::select(heavy.length().less_than(2), "few", "many");
/// assert_eq!(size.to_string(), r#""few" if length([7, 9, 2 * 7 + 1].filter(x -> x > 7)) < 2 else "many""#);
/// ```
///
/// Methods that change a value (`push`, `insert`, `+=`) make the handle stand for the changed value; clones of it,
/// and what was recorded with it, keep what they had.
pub struct Value<T: Output> {
    /// The node, inside of the companion whose methods are reached through `Deref`.
    fields: T::Fields,
}

impl<T: Output> Value<T> {
    /// A value that is known now. If it cannot be written, or is larger than what travels (64 GiB), the flow says so
    /// when it is submitted, with the task and the parameter.
    #[must_use]
    pub fn literal(value: &T) -> Self {
        Self::from_node(Node::literal(value))
    }

    /// Its fields. Also there by themselves (`value.weight()`), but for those whose names are taken by methods of
    /// [`Value`].
    #[must_use]
    pub fn fields(&self) -> &T::Fields {
        &self.fields
    }

    pub(crate) fn list(items: Vec<Node>) -> Self {
        Self::from_node(Node::list(items))
    }

    #[doc(hidden)]
    #[must_use]
    pub fn from_node(node: Node) -> Self {
        Self { fields: T::Fields::from_node(node) }
    }

    #[doc(hidden)]
    #[must_use]
    pub fn node(&self) -> &Node {
        self.fields.node()
    }
}

impl<T: Output> Value<T> {
    /// The node, held by nobody else if the value was the only one.
    pub(super) fn into_node(self) -> Node {
        let node = self.node().clone();
        drop(self);
        node
    }

    /// Takes the node out, to put another one in its place.
    pub(super) fn take_node(&mut self) -> Node {
        std::mem::replace(self, Self::from_node(Node::placeholder())).into_node()
    }

    /// Makes the handle stand for another value. Clones of it keep theirs.
    pub(super) fn rebind(&mut self, node: Node) {
        self.fields = T::Fields::from_node(node);
    }

    /// The same value, of another type.
    pub(super) fn retyped<U: Output>(&self) -> Value<U> {
        Value::from_node(self.node().clone())
    }
}

impl Value<serde_json::Value> {
    /// A value of any type that serde can write.
    #[must_use]
    pub fn any<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::from_node(Node::literal(value))
    }

    /// The value as one of the type `T`. Nothing is checked here: if it is none, the job that takes it fails with an
    /// `ArgumentTypeError`.
    ///
    /// ```
    /// # use elf_runtime::{args, Flow, Value};
    /// # let flow = Flow::detached("docs");
    /// let job = flow.call("scale", "task_weigh", args! { species: "ant" });
    /// let weight: Value<i64> = job.output("weight").typed();
    /// ```
    #[must_use]
    pub fn typed<T: Output>(&self) -> Value<T> {
        Value::from_node(self.node().clone())
    }
}

impl<T: Output> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { fields: self.fields.clone() }
    }
}

impl<T: Output> Deref for Value<T> {
    type Target = T::Fields;

    fn deref(&self) -> &T::Fields {
        &self.fields
    }
}

/// How the value is computed: `7`, `job 0190…/weight`, `[1, job 0190…/weight]`; long ones are cut.
impl<T: Output> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node().fmt(f)
    }
}

impl<T: Output> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value<{}>({})", crate::type_name::short(std::any::type_name::<T>()), self.node())
    }
}

impl<T: Output> From<T> for Value<T> {
    fn from(value: T) -> Self {
        Self::literal(&value)
    }
}
