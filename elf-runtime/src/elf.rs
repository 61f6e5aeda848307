//! What an elf is.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::call::{TaskCall, TaskOutputs};
use crate::context::TaskContext;
use crate::declaration::ElfDeclaration;
use crate::task_error::TaskError;

/// An elf: an agent that offers tasks. `#[machine_elf]` generates the implementation; written by hand it looks like
/// this:
///
/// ```
/// use std::sync::Arc;
/// use elf_runtime::{Elf, ElfDeclaration, Output, TaskCall, TaskContext, TaskDeclaration, TaskError, TaskOutputs};
/// use futures::future::BoxFuture;
///
/// struct Scale { grams_per_letter: i64 }
///
/// impl Elf for Scale {
///     fn declaration(&self) -> ElfDeclaration {
///         ElfDeclaration::new(include_str!(file!())).docs("Weighs animals.").task(
///             TaskDeclaration::new("task_weigh", "version 1")
///                 .signature("async fn task_weigh(&self, species: String) -> i64")
///                 .parameter::<String>("species")
///                 .outputs::<i64>(),
///         )
///     }
///
///     fn call(
///         self: Arc<Self>,
///         mut call: TaskCall,
///         _context: TaskContext,
///     ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
///         Box::pin(async move {
///             match call.task() {
///                 "task_weigh" => {
///                     let species: String = call.argument("species")?;
///                     call.finish()?;
///                     let grams = self.grams_per_letter * species.len() as i64;
///                     Ok(grams.into_outputs()?)
///                 }
///                 _ => Err(call.unknown_task()),
///             }
///         })
///     }
/// }
/// # let call = TaskCall::new("task_weigh", vec![("species".into(), elf_runtime::Payload::json("bee").unwrap())]);
/// # let scale = Arc::new(Scale { grams_per_letter: 7 });
/// # let outputs = futures::executor::block_on(scale.call(call, TaskContext::for_test())).unwrap();
/// # assert_eq!(outputs.get("value").unwrap().read::<i64>().unwrap(), 21);
/// ```
pub trait Elf: Send + Sync + 'static {
    /// The declaration that it sends when it connects. Called once per worker, before it connects.
    fn declaration(&self) -> ElfDeclaration;

    /// Runs a task. The future may be dropped at any `.await`, when the attempt is cancelled or a time limit is
    /// over. A panic in it is caught and becomes a failure of this attempt only.
    fn call(
        self: Arc<Self>,
        call: TaskCall,
        context: TaskContext,
    ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>>;
}
