//! What may stand where a task takes a `T`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use super::handle::Value;
use super::node::Node;
use crate::output::{Element, Output};

/// What may stand where a task takes a `T`: a `T`, a [`Value<T>`], a [`Job<T>`](crate::Job), references to those, a `&str` for a
/// `String`, and vectors and maps of values for vectors and maps.
///
/// `Place` only serves the compiler's messages: it is named like the parameter.
#[diagnostic::on_unimplemented(
    message = "wrong type for `{Place}`: expected a `{T}`, or a value of one, and found a `{Self}`",
    label = "not a `{T}`, nor a `Value` or `Job` of one",
    note = "where a task takes a `T`, a flow takes a `T`, a `Value<T>` or a `Job<T>`"
)]
pub trait IntoValue<T: Output, Place = AnyPlace> {
    /// The value.
    fn into_value(self) -> Value<T>;

    /// The value as an argument; `None` if the argument is left out.
    #[doc(hidden)]
    fn into_argument(self) -> Option<Value<T>>
    where
        Self: Sized,
    {
        Some(self.into_value())
    }
}

/// A place without a name: an element of a list, for example.
#[derive(Debug, Clone, Copy)]
pub struct AnyPlace;

/// A parameter that may be left out. The macro marks those with `#[task(default = …)]`, and those that are an `Option`.
#[diagnostic::on_unimplemented(message = "`{Self}` has no default and must be given")]
pub trait OptionalPlace {}

/// Leaves the choice of an argument to the task, for a parameter with `#[task(default = …)]` or one that is an `Option`,
/// which is `None` then. The default is taken where and when the task runs.
///
/// ```
/// use elf_runtime::{machine_elf, Flow, UseDefault};
///
/// struct Scale;
/// #[machine_elf]
/// impl Scale {
///     async fn task_weigh(&self, species: String, #[task(default = 2)] digits: u32) -> f64 {
///         # let _ = (species, digits);
///         7.25
///     }
/// }
///
/// let flow = Flow::detached("docs");
/// let scale = Scale::tasks(&flow, "scale");
/// scale.task_weigh("bee", 4);
/// scale.task_weigh("bee", UseDefault);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct UseDefault;

impl<T: Output, Place: OptionalPlace> IntoValue<T, Place> for UseDefault {
    fn into_value(self) -> Value<T> {
        Value::from_node(Node::invalid("a default is no value of its own".to_owned()))
    }

    fn into_argument(self) -> Option<Value<T>> {
        None
    }
}

impl<T: Output, Place> IntoValue<T, Place> for T {
    fn into_value(self) -> Value<T> {
        Value::literal(&self)
    }
}

impl<T: Output, Place> IntoValue<T, Place> for &T {
    fn into_value(self) -> Value<T> {
        Value::literal(self)
    }
}

impl<Place> IntoValue<String, Place> for &str {
    fn into_value(self) -> Value<String> {
        Value::from_node(Node::literal(self))
    }
}

/// What is, or holds, a value: it stands wherever one may, where an `Option` of one may, where its type gives that of the
/// result, and where nothing is known of the type. Given are the value and its node.
macro_rules! stands_for_a_value {
    ($($from:ty, $this:ident => $value:expr, $node:expr;)*) => {
        $(impl<T: Output, Place> $crate::value::IntoValue<T, Place> for $from {
            fn into_value(self) -> Value<T> {
                let $this = self;
                $value
            }
        }

        impl<T: Output, Place> $crate::value::IntoValue<Option<T>, Place> for $from
        where
            Option<T>: Output,
        {
            fn into_value(self) -> Value<Option<T>> {
                Value::from_node($crate::value::IntoAnyValue::into_any_node(self))
            }
        }

        impl<T: Output> $crate::value::Computed for $from {
            type Type = T;

            fn into_computed(self) -> Value<T> {
                let $this = self;
                $value
            }
        }

        impl<T: Output> $crate::value::IntoAnyValue for $from {
            fn into_any_node(self) -> Node {
                let $this = self;
                $node.clone()
            }
        })*
    };
}
pub(crate) use stands_for_a_value;
stands_for_a_value! {
    Value<T>, this => this, this.node();
    &Value<T>, this => this.clone(), this.node();
}

impl<T: Output, V: IntoValue<T>> FromIterator<V> for Value<Vec<T>>
where
    Vec<T>: Output,
{
    fn from_iter<I: IntoIterator<Item = V>>(items: I) -> Self {
        Self::list(items.into_iter().map(|item| item.into_value().node().clone()).collect())
    }
}

impl<T: Output, Place> IntoValue<Vec<T>, Place> for Vec<Value<T>>
where
    Vec<T>: Output,
{
    fn into_value(self) -> Value<Vec<T>> {
        self.into_iter().collect()
    }
}

impl<T: Output, Place, V: IntoValue<T>, const N: usize> IntoValue<Vec<T>, Place> for [V; N]
where
    Vec<T>: Output,
{
    fn into_value(self) -> Value<Vec<T>> {
        self.into_iter().collect()
    }
}

impl<T: Output + Element, Place, S> IntoValue<HashMap<String, T, S>, Place> for HashMap<String, Value<T>, S>
where
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn into_value(self) -> Value<HashMap<String, T, S>> {
        // In an order of its own, so that the same map makes the same graph.
        let sorted: BTreeMap<String, Value<T>> = self.into_iter().collect();
        Value::from_node(map_node(sorted))
    }
}

impl<T: Output + Element, Place> IntoValue<BTreeMap<String, T>, Place> for BTreeMap<String, Value<T>> {
    fn into_value(self) -> Value<BTreeMap<String, T>> {
        Value::from_node(map_node(self))
    }
}

/// `map!` makes a `HashMap`; a task that takes a `BTreeMap` can have it as well.
impl<T: Output + Element, Place> IntoValue<BTreeMap<String, T>, Place> for Value<HashMap<String, T>> {
    fn into_value(self) -> Value<BTreeMap<String, T>> {
        Value::from_node(self.node().clone())
    }
}

fn map_node<T: Output>(entries: impl IntoIterator<Item = (String, Value<T>)>) -> Node {
    Node::map(entries.into_iter().map(|(key, value)| (Cow::Owned(key), value.node().clone())).collect())
}
