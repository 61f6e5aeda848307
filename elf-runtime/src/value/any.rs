//! Arguments for tasks that the program was not compiled with.

use std::borrow::Cow;

use serde::Serialize;

use super::node::Node;

/// What may stand where nothing is known of the type: all that serde can write, values, jobs, and references to them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a value, nor a job, nor something that serde can write",
    note = "lists and maps of values are made with `any_list!` and `any_map!`"
)]
pub trait IntoAnyValue {
    #[doc(hidden)]
    fn into_any_node(self) -> Node;
}

impl<T: Serialize> IntoAnyValue for T {
    fn into_any_node(self) -> Node {
        Node::literal(&self)
    }
}

/// Arguments by the names of the parameters, for [`Flow::call`](crate::Flow::call). [`args!`](crate::args) makes them
/// where the names are known when the program is written.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    arguments: Vec<(Cow<'static, str>, Node)>,
}

impl Arguments {
    /// No arguments.
    #[must_use]
    pub const fn new() -> Self {
        Self { arguments: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, parameter: impl Into<Cow<'static, str>>, value: impl IntoAnyValue) -> Self {
        self.arguments.push((parameter.into(), value.into_any_node()));
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub fn with_node(mut self, parameter: &'static str, node: Node) -> Self {
        self.arguments.push((Cow::Borrowed(parameter), node));
        self
    }

    pub(crate) fn as_slice(&self) -> &[(Cow<'static, str>, Node)] {
        &self.arguments
    }
}
