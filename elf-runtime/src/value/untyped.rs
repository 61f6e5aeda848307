//! Operations on values whose types are not known here.

use super::any::IntoAnyValue;
use super::handle::Value;
use super::into::IntoValue;
use super::node::Node;
use super::operation::{operand, operations, record};

/// What a value of any type can be looked up by: a key of a map (`&str`, `String`, a value of one) or a position in a
/// list or a text (`i64`, a value of one).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a position",
    note = "keys are texts or values of texts, positions are `i64` or values of those"
)]
pub trait Key {
    #[doc(hidden)]
    fn into_key(self) -> Node;
}

macro_rules! keys {
    ($($key:ty),*) => {
        $(impl Key for $key {
            fn into_key(self) -> Node {
                self.into_any_node()
            }
        })*
    };
}
keys!(&str, String, &String, i64, Value<String>, &Value<String>, Value<i64>, &Value<i64>);

operations! {
    /// Operations on values of any type. [`Value::typed`] gives those of one type.
    [] Value<serde_json::Value>:

    /// How many elements, entries or code points it has.
    length() -> Value<i64> = "length";

    /// The part of a list or a text from one position up to, and without, another. What is beyond the ends is left
    /// out.
    slice(start: i64, stop: i64) -> Self = "slice";

    /// The part of a list or a text from a position on.
    slice_from(start: i64) -> Self = "slice", ();

    /// Every so many-th element or code point from one position up to another, as Python's `[start:stop:step]`:
    /// `None` is where it begins or ends, a negative step goes backwards. The job that takes it fails with
    /// `invalid_value` if the step is 0.
    slice_step(start: Option<i64>, stop: Option<i64>, step: i64) -> Self = "slice";

    /// Whether it is null.
    is_null() -> Value<bool> = "is_null";

    /// The value as an integer: of a bool, a number, or a text of decimal digits.
    to_int() -> Value<i64> = "to_int";

    /// The value as a float: of a bool, a number, or the text of a decimal number.
    to_float() -> Value<f64> = "to_float";
}

impl Value<serde_json::Value> {
    /// The value of a key, the element or the code point at a position. The job that takes it fails with
    /// `missing_key`, `bad_index` or `wrong_type`.
    ///
    /// ```
    /// # use elf_runtime::{args, Flow, Value};
    /// # let flow = Flow::detached("docs");
    /// let ant = flow.call("scale", "task_weigh", args! { species: "ant" });
    /// let first: Value<i64> = ant.output("weights").get(0).get("grams").typed();
    /// ```
    #[must_use]
    pub fn get(&self, key: impl Key) -> Self {
        record("get", vec![self.node().clone(), key.into_key()])
    }

    /// As `get`, but another value if there is nothing at that key or position, or this value is null itself. The
    /// other value is computed only then.
    #[must_use]
    pub fn get_or(&self, key: impl Key, otherwise: impl IntoAnyValue) -> Self {
        record("get_or", vec![self.node().clone(), key.into_key(), otherwise.into_any_node()])
    }

    /// What is found by several keys and positions, each in what the one before gave: `get_path(("animals", 0,
    /// "name"))`.
    #[must_use]
    pub fn get_path(&self, path: impl IntoAnyValue) -> Self {
        record("get_path", vec![self.node().clone(), path.into_any_node()])
    }

    /// Whether this is an element, a key or a part of it.
    #[must_use]
    pub fn contains(&self, item: impl IntoAnyValue) -> Value<bool> {
        record("contains", vec![self.node().clone(), item.into_any_node()])
    }

    /// The part of a list or a text up to, and without, a position.
    #[must_use]
    pub fn slice_to(&self, stop: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), Node::literal(&()), operand(stop)])
    }

    /// The value, or another one if it is null. The other one is computed only then.
    #[must_use]
    pub fn unwrap_or(&self, otherwise: impl IntoAnyValue) -> Self {
        record("coalesce", vec![self.node().clone(), otherwise.into_any_node()])
    }
}
