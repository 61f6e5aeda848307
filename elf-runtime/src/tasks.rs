//! Tasks that this crate runs for itself. Each has a name, somebody who holds it, and a policy: it is cancelled at its
//! next `.await` when it is dropped by its holder; if it panics, which is a mistake of ours, the log says so with its
//! name, and whoever waits for its result is notified.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A task that was spawned, for its holder.
#[derive(Debug)]
#[must_use = "a task is cancelled when it is dropped"]
pub(crate) struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Spawns a task. `on_panic` is called if it panics.
    pub(crate) fn spawn(
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
        on_panic: impl FnOnce() + Send + 'static,
    ) -> Self {
        // What tasks share is behind locks that forgive a panic.
        let task = AssertUnwindSafe(task).catch_unwind();
        Self(Some(runtime.spawn(async move {
            if task.await.is_err() {
                on_panic();
                tracing::error!(task = name, "a task of the runtime has panicked");
            }
        })))
    }

    /// Lets it run to its end, which it finds by itself.
    pub(crate) fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_is_cancelled_with_its_holder_and_its_panic_is_told() {
        let runtime = Handle::current();
        let (held, dropped) = oneshot::channel::<()>();
        let task = Task::spawn(
            &runtime,
            "test",
            async move {
                let _held = held;
                std::future::pending().await
            },
            || (),
        );
        drop(task);
        dropped.await.unwrap_err();

        let (tell, told) = oneshot::channel();
        let panics = async { std::panic::resume_unwind(Box::new(())) };
        let _task = Task::spawn(&runtime, "test", panics, || tell.send(7).unwrap());
        assert_eq!(told.await.unwrap(), 7);
    }
}
