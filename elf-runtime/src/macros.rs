//! The macros, with their documentation.

/// Makes a machine elf of a type: its methods `task_*` become tasks, and other programs call them in their flows.
///
/// It stands on an `impl` block. Methods whose names do not begin with `task_` are left alone; the block itself is
/// left as it is. A task
///
/// - takes `&self`; an `async fn` runs among others on the async threads, a plain `fn` may block, for it runs off
///   them;
/// - takes owned values of types that travel (`elf_runtime::Output`): plain names, no patterns, no references;
/// - may take the context of its attempt at any place, as a parameter of type `&TaskContext` or `TaskContext`;
/// - may have defaults: with `#[task(default = expression)]` on a parameter a job may leave it out, and so it may one
///   whose type is an `Option`, which is `None` then;
/// - may declare by which rules its jobs are tried again, as far as they do not say themselves: with
///   `#[task(retry(attempts = 5, first = "1s", factor = 2.0, cap = "1m", jitter = 0.2, never = [NotFound]))]` on the
///   method, and `panics = true`, `argument_errors = true` ([`RetryPolicy`](crate::RetryPolicy) says what each means);
/// - may declare how long things may take with its jobs, as far as they do not say themselves: with
///   `#[task(timeouts(queue = "1m", run = "10s", total = "1h", progress = "30s"))]` on the method, each from 1 ms to 366 days
///   ([`Job::queue_timeout`](crate::Job::queue_timeout), [`Job::run_timeout`](crate::Job::run_timeout),
///   [`Job::total_timeout`](crate::Job::total_timeout), [`Job::progress_timeout`](crate::Job::progress_timeout));
/// - has no `Option<Option<T>>` or `Option<()>` in what it takes and returns: JSON has one null, and would lose a level;
/// - returns a value that travels, or a `Result` of one with any error that turns into a `TaskError`.
///
/// Sent with the elf are, for itself and for each task, the source text as written with its comments, documentation,
/// signature, and a revision, the SHA-256 of the source text. `#[machine_elf(source = false)]` keeps the text to
/// itself and sends the revision only.
///
/// # What it writes
///
/// ```
/// use elf_runtime::{machine_elf, Flow, TaskError};
///
/// struct Scale;
///
/// /// Weighs animals.
/// #[machine_elf]
/// impl Scale {
///     /// Weighs one.
///     async fn task_weigh(&self, species: String) -> Result<i64, TaskError> {
///         Ok(species.len() as i64)
///     }
/// }
///
/// let flow = Flow::detached("docs");
/// Scale::tasks(&flow, "scale").task_weigh("bee");
/// ```
///
/// becomes, besides the block:
///
/// ```
/// # use std::sync::Arc;
/// # use elf_runtime::*;
/// # use futures::future::BoxFuture;
/// # struct Scale;
/// # impl Scale {
/// #     async fn task_weigh(&self, species: String) -> Result<i64, TaskError> { Ok(species.len() as i64) }
/// # }
/// impl Elf for Scale {
///     fn declaration(&self) -> ElfDeclaration {
///         ElfDeclaration::new("#[machine_elf] impl Scale { … }").docs("Weighs animals.").task(
///             TaskDeclaration::new("task_weigh", "/// Weighs one. …")
///                 .docs("Weighs one.")
///                 .signature("async fn task_weigh(&self, species: String) -> Result<i64, TaskError>")
///                 .parameter::<String>("species")
///                 .outputs::<i64>(),
///         )
///     }
///
///     fn call(
///         self: Arc<Self>,
///         mut call: TaskCall,
///         context: TaskContext,
///     ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
///         Box::pin(async move {
///             match call.task() {
///                 "task_weigh" => {
///                     let species: String = call.argument("species")?;
///                     call.finish()?;
///                     Ok(self.task_weigh(species).await?.into_outputs()?)
///                 }
///                 _ => Err(call.unknown_task()),
///             }
///         })
///     }
/// }
///
/// impl Scale {
///     /// The tasks of an elf of this type, as calls that the flow records.
///     pub fn tasks(flow: &Flow, elf: &str) -> ScaleTasks {
///         ScaleTasks { flow: flow.clone(), elf: elf.to_owned() }
///     }
/// }
///
/// pub struct ScaleTasks { flow: Flow, elf: String }
/// impl ScaleTasks {
///     /// Weighs one.
///     pub fn task_weigh(&self, species: impl IntoValue<String>) -> Value<i64> {
///         let call = Arguments::new().with("species", species.into_value());
///         self.flow.call(&self.elf, "task_weigh", call).output("value").typed()
///     }
/// }
/// ```
#[doc(inline)]
pub use elf_macros::machine_elf;

/// Makes a type travel between tasks (`elf_runtime::Output`). Needs serde's `Serialize` and `Deserialize` beside it.
///
/// A struct with named fields is one output for each field, and its fields are values of their own before they are
/// there: `job.weight()`. Any other type, and a struct with `#[output(value)]`, is one output named `value`.
///
/// JSON has one null, so a field that holds an `Option<Option<T>>` or an `Option<()>` is refused: an enum says which of
/// the cases it is.
///
/// It also implements `schemars::JsonSchema` for the type, so that elves can declare it.
///
/// Fields follow serde's `rename` and `rename_all`; attributes with which serde leaves out or merges fields (`skip`,
/// `flatten`, ...) need `#[output(value)]`.
///
/// For `struct Measurement { species: String, weight: i64 }` the companion `MeasurementValues` is made, with the
/// methods `species()` and `weight()`, and with `MeasurementValues::build(species, weight)`, which makes a
/// `Value<Measurement>` from values and literals:
///
/// ```
/// use elf_runtime::{Output, Value};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Output, Serialize, Deserialize)]
/// struct Measurement { species: String, weight: i64 }
///
/// let weight: Value<i64> = Value::literal(&7);
/// let bee: Value<Measurement> = MeasurementValues::build("bee", weight);
/// assert_eq!(bee.to_string(), r#"{"species": "bee", "weight": 7}"#);
/// assert_eq!(bee.species().to_string(), r#""bee""#);
/// ```
#[doc(inline)]
pub use elf_macros::Output;
