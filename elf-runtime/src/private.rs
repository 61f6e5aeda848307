//! What generated code refers to. Not part of the public interface: it changes without notice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use futures::future::BoxFuture;
pub use schemars;
pub use serde_json;

use crate::call::TaskOutputs;
use crate::flow::{Flow, Job};
use crate::output::{Element, Output, TaskReturn};
use crate::task_error::TaskError;
pub use crate::value::node::Node;
use crate::value::{Arguments, IntoValue, Value};

pub use crate::output::{
    record_from_outputs, record_into_outputs, value_declaration, value_from_outputs, value_into_outputs,
};
pub use crate::schema::{output_schema_of, schema_of};

/// Where the tasks of an elf are recorded: what the generated handle wraps.
#[derive(Clone)]
pub struct Tasks {
    flow: Flow,
    elf: Arc<str>,
}

impl Tasks {
    /// The tasks of the elf served under this name.
    #[must_use]
    pub fn new(flow: &Flow, elf: impl Into<String>) -> Self {
        Self { flow: flow.clone(), elf: elf.into().into() }
    }

    /// Records a call.
    #[expect(clippy::needless_pass_by_value, reason = "they are made for this call")]
    pub fn call<T: Output>(&self, task: &'static str, arguments: Arguments) -> Job<T> {
        self.flow.record(&self.elf, task, &arguments)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("elf", &self.elf).field("flow", &self.flow.id()).finish()
    }
}

/// What a task returned, as outputs. A failure has the place of the call, which the macro writes at the task's.
#[track_caller]
pub fn outputs<R: TaskReturn>(task: &str, returned: R) -> Result<TaskOutputs, TaskError> {
    match returned.into_result()?.into_outputs() {
        Ok(outputs) => Ok(outputs),
        Err(error) => Err(TaskOutputs::result_error(task, &error)),
    }
}

/// Runs a blocking task off the async threads. Its outputs are made there too, so that large ones do not hold others
/// up.
pub fn blocking(
    task: impl FnOnce() -> Result<TaskOutputs, TaskError> + Send + 'static,
) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
    Box::pin(async move { crate::capture::run_blocking(task).await? })
}

/// Adds an argument, unless it is left out.
#[must_use]
pub fn argument<T: Output, Place>(
    arguments: Arguments,
    parameter: &'static str,
    value: impl IntoValue<T, Place>,
) -> Arguments {
    match value.into_argument() {
        Some(value) => arguments.with_node(parameter, value.node().clone()),
        None => arguments,
    }
}

/// The name of a parameter without the mark of a raw identifier.
#[must_use]
pub fn identifier(written: &'static str) -> &'static str {
    written.strip_prefix("r#").unwrap_or(written)
}

/// An item of a list or map of `T`s.
pub fn item<T: Output, V: IntoValue<T>>(item: V) -> Value<T> {
    item.into_value()
}

/// What `list!` makes.
#[must_use]
pub fn list<T: Output>(items: Vec<Value<T>>) -> Value<Vec<T>>
where
    Vec<T>: Output,
{
    items.into_iter().collect()
}

/// What `map!` makes.
#[must_use]
pub fn map<T: Output + Element>(entries: Vec<(Cow<'static, str>, Value<T>)>) -> Value<HashMap<String, T>> {
    Value::from_node(Node::map(entries.into_iter().map(|(key, item)| (key, item.node().clone())).collect()))
}

/// What `any_list!` makes.
#[must_use]
pub fn any_list(items: Vec<Node>) -> Value<serde_json::Value> {
    Value::list(items)
}

/// What `any_map!` makes.
#[must_use]
pub fn any_map(entries: Vec<(Cow<'static, str>, Node)>) -> Value<serde_json::Value> {
    Value::from_node(Node::map(entries))
}
