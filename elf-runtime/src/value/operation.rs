//! How operations are recorded, whatever they do.

use std::borrow::Cow;

use super::any::IntoAnyValue;
use super::closure::with_body;
use super::handle::Value;
use super::into::IntoValue;
use super::node::{Added, Node, NodeKind};
use crate::output::Output;

/// What has a type of its own, so that the type of a result can follow from it: what closures return, and where a
/// [`Value`] is made of a first operand. A `T`, a [`Value<T>`], a [`Job<T>`](crate::Job), references to those two, or a `&str`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a value, nor a job, nor something that travels between tasks",
    note = "write a `Value<T>`, a `Job<T>`, or a `T` that travels between tasks"
)]
pub trait Computed {
    /// What it is, or will be.
    type Type: Output;

    /// The value.
    fn into_computed(self) -> Value<Self::Type>;
}

impl<T: Output> Computed for T {
    type Type = T;

    fn into_computed(self) -> Value<T> {
        Value::literal(&self)
    }
}

impl Computed for &str {
    type Type = String;

    fn into_computed(self) -> Value<String> {
        Value::from_node(Node::literal(self))
    }
}

/// The name of the operation that compares values of a type: of one kind, if they are.
macro_rules! ordered {
    ($type:ty, $name:literal) => {
        if <$type as $crate::value::kinds::Ordered>::IS_STRICT { concat!("strict.", $name) } else { $name }
    };
    ($type:ty, $strict:literal else $name:literal) => {
        if <$type as $crate::value::kinds::Ordered>::IS_STRICT { $strict } else { $name }
    };
}
pub(super) use ordered;

/// Records an operation.
pub(super) fn record<R: Output>(name: &'static str, inputs: Vec<Node>) -> Value<R> {
    Value::from_node(Node::operation(name, inputs))
}

/// Methods that record an operation of their value and of operands: their documentation, what they take and give, the
/// name of the operation, and a literal that is its last operand.
macro_rules! operations {
    (
        $(#[$about:meta])*
        [$($generics:tt)*] $value:ty:
        $($(#[$docs:meta])* $method:ident($($operand:ident: $type:ty),*) -> $result:ty = $name:expr $(, $last:expr)?;)*
    ) => {
        $(#[$about])*
        impl<$($generics)*> $value {
            $($(#[$docs])*
            #[must_use]
            pub fn $method(&self $(, $operand: impl IntoValue<$type>)*) -> $result {
                record($name, vec![
                    self.node().clone()
                    $(, operand::<$type>($operand))*
                    $(, $crate::value::node::Node::literal(&$last))?
                ])
            })*
        }
    };
}
pub(super) use operations;

/// The node of an operand.
pub(super) fn operand<T: Output>(value: impl IntoValue<T>) -> Node {
    value.into_value().into_node()
}

/// Records an operation with a body that is given one element.
pub(super) fn record_each<T: Output, C: Computed, R: Output>(
    name: &'static str,
    operands: Vec<Node>,
    closure: impl FnOnce(Value<T>) -> C,
) -> Value<R> {
    Value::from_node(with_body(name, operands, |[element]| {
        closure(Value::from_node(element)).into_computed().into_node()
    }))
}

/// Records an operation that takes any number of operands, and of which `f(f(a, b), c)` is `f(a, b, c)`: what is
/// already such an operation, and is held by nobody else, is given one operand more. So a long chain is one
/// operation.
pub(super) fn chain<R: Output>(name: &'static str, mut first: Node, next: Node) -> Value<R> {
    let mut next = Some(next);
    let has_grown = first.grow(|kind| match kind {
        NodeKind::Operation { name: own, inputs, body: None } if own == name => {
            let added = next.take()?;
            let told = Added::of(&added);
            inputs.push(added);
            Some(told)
        }
        _ => None,
    });
    match next {
        Some(next) if !has_grown => record(name, vec![first, next]),
        Some(_) | None => Value::from_node(first),
    }
}

impl Value<serde_json::Value> {
    /// Records an operation by its name, for those that this runtime has no method for. Nothing is checked here: the
    /// broker refuses what it does not know, and the job fails if the operands are of the wrong types.
    ///
    /// ```
    /// # use elf_runtime::{any_list, Value};
    /// let weight: Value<i64> = Value::literal(&7);
    /// let rounded: Value<i64> = Value::operation("floor", [any_list![weight].get(0)]).typed();
    /// assert_eq!(rounded.to_string(), "floor([7][0])");
    /// ```
    #[must_use]
    pub fn operation<V: IntoAnyValue>(
        name: impl Into<Cow<'static, str>>,
        inputs: impl IntoIterator<Item = V>,
    ) -> Self {
        let inputs = inputs.into_iter().map(IntoAnyValue::into_any_node).collect();
        Self::from_node(Node::operation(name, inputs))
    }
}
