//! Tasks of the broker. Each has a name, somebody who waits for it, and a policy for a stop and for its own panic.
//!
//! A group of tasks belongs to whoever starts and stops something: a mycelium. Its end waits for them, so that nothing goes
//! on working for what has stopped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::defect::{self, Defect};

/// Tasks that end together. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskGroup {
    tracker: TaskTracker,
    /// Cancelled when those that have not ended by themselves are dropped where they stand.
    cut: CancellationToken,
}

/// What a stop does to a piece of work.
#[derive(Debug)]
pub(crate) enum OnStop<'a> {
    /// It goes on until it ends by itself.
    Finish,
    /// It is dropped where it stands, as soon as this is cancelled.
    Cut(&'a CancellationToken),
}

/// Why a piece of work did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfinished {
    #[error("it was stopped before its end")]
    Stopping,
    /// It panicked; the log has it.
    #[error(transparent)]
    Defect(Defect),
}

/// Waits for a task. May be dropped: the task goes on.
#[derive(Debug)]
pub(crate) struct Joined<T>(JoinHandle<Result<T, Unfinished>>);

impl<T> Future for Joined<T> {
    type Output = Result<T, Unfinished>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Panics are caught within; what is left is a runtime that stops.
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or(Err(Unfinished::Stopping)))
    }
}

/// Does a piece of work, whose panic and whose cancellation are told to whoever waits for it. `name` says in the log what
/// panicked.
///
/// # Errors
/// If it panicked, or was cut.
pub(crate) fn guarded<'a, T: 'a, F: Future<Output = T> + 'a>(
    name: &'static str,
    on_stop: OnStop<'a>,
    work: F,
) -> impl Future<Output = Result<T, Unfinished>> + use<'a, T, F> {
    // Each layer around it would have room for all of it once more: thousands of watches are such futures.
    let work = Box::pin(work);
    async move {
        let work = defect::catch_async(name, work);
        let ended = match on_stop {
            OnStop::Finish => work.await,
            OnStop::Cut(stop) => stop.run_until_cancelled(work).await.ok_or(Unfinished::Stopping)?,
        };
        ended.map_err(Unfinished::Defect)
    }
}

impl TaskGroup {
    /// Runs a task. If it panics, the log has it under `name`, and nobody else notices: what is to be told to others is told
    /// by itself, with [`guarded`].
    pub(crate) fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.run(name, work));
    }

    /// Runs a task whose result somebody waits for. It goes on to its end if they no longer do.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Joined<T> {
        let cut = self.cut.clone();
        let work = Box::pin(work);
        Joined(self.tracker.spawn(async move { guarded(name, OnStop::Cut(&cut), work).await }))
    }

    /// Waits for all tasks. Those that have not ended in time are dropped where they stand.
    pub(crate) async fn end(&self, within: Duration) {
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "tasks have not ended in time and are cut");
            self.cut().await;
        }
    }

    /// Drops all tasks where they stand, and waits until that is done.
    pub(crate) async fn cut(&self) {
        self.tracker.close();
        self.cut.cancel();
        self.tracker.wait().await;
    }

    /// Drops all tasks where they stand once the guard is dropped.
    pub(crate) fn cut_on_drop(&self) -> DropGuard {
        self.cut.clone().drop_guard()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts when it is dropped.
    struct Ended(Arc<AtomicUsize>);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn an_end_waits_for_tasks_and_cuts_those_that_do_not_end() {
        let (tasks, ended) = (TaskGroup::default(), Arc::new(AtomicUsize::new(0)));
        for name in ["one that ends", "one that panics", "one that does not end"] {
            let mark = Ended(Arc::clone(&ended));
            tasks.spawn(name, async move {
                let _mark = mark;
                match name {
                    "one that ends" => tokio::task::yield_now().await,
                    "one that panics" => panic!("planned"),
                    _ => std::future::pending().await,
                }
            });
        }
        tasks.end(Duration::from_millis(50)).await;
        assert_eq!(ended.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_task_goes_on_when_nobody_waits_for_it_until_its_group_is_cut() {
        let (tasks, ended) = (TaskGroup::default(), Arc::new(AtomicUsize::new(0)));
        assert_eq!(tasks.run("a sum", async { 1 + 1 }).await, Ok(2));
        let (go_on, wait) = tokio::sync::oneshot::channel();
        let mark = Ended(Arc::clone(&ended));
        drop(tasks.run("one that waits", async move {
            let _mark = mark;
            wait.await
        }));
        go_on.send(()).unwrap();
        tasks.end(Duration::from_secs(60)).await;
        assert_eq!(ended.load(Ordering::SeqCst), 1);

        let tasks = TaskGroup::default();
        let endless = tasks.run("one that does not end", std::future::pending::<()>());
        drop(tasks.cut_on_drop());
        assert_eq!(endless.await, Err(Unfinished::Stopping));
        tasks.cut().await;
    }

    #[tokio::test]
    async fn whoever_waits_is_told_how_a_piece_of_work_ended() {
        let stop = CancellationToken::new();
        assert_eq!(guarded("a sum", OnStop::Cut(&stop), async { 1 + 1 }).await, Ok(2));
        let panics = guarded("a panic", OnStop::Finish, async { panic!("planned") }).await.map(|(): ()| ());
        assert!(matches!(panics, Err(Unfinished::Defect(_))), "{panics:?}");
        stop.cancel();
        let cut = guarded("a wait", OnStop::Cut(&stop), std::future::pending::<()>()).await;
        assert_eq!(cut, Err(Unfinished::Stopping));
    }
}
