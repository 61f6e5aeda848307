//! Values that are not there yet: what a program that orchestrates passes from task to task.

mod any;
mod append;
mod body;
mod closure;
mod edit;
mod entries;
mod flatten;
mod handle;
mod into;
mod kinds;
mod list;
mod logic;
mod macros;
mod map;
pub(crate) mod node;
mod number;
mod operation;
mod operators;
pub(crate) mod payload;
mod scopes;
mod show;
#[cfg(test)]
mod tests;
mod text;
mod untyped;

pub use any::{Arguments, IntoAnyValue};
pub(crate) use append::{Appended, append, node_count};
pub(crate) use flatten::{Flattened, flatten, version_of};
pub use handle::Value;
pub(crate) use into::stands_for_a_value;
pub use into::{AnyPlace, IntoValue, OptionalPlace, UseDefault};
pub use kinds::{GroupKey, Number, Ordered, Signed};
pub use operation::Computed;
pub(crate) use scopes::Scope;
pub use untyped::Key;
