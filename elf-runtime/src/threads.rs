//! The threads that run blocking tasks: who started one knows when it lets go.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

tokio::task_local! {
    /// The threads of the attempt that runs here.
    static THREADS: Arc<Threads>;
}

/// The threads on which the blocking code of an attempt runs, or waits to.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    busy: AtomicUsize,
    let_go: Notify,
}

impl Threads {
    /// Runs a future. The blocking code that it starts counts here.
    pub(crate) fn scope<F: Future>(self: Arc<Self>, future: F) -> impl Future<Output = F::Output> {
        THREADS.scope(self, future)
    }

    /// Whether a thread has not let go.
    pub(crate) fn are_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Waits until all threads have let go.
    pub(crate) async fn free(&self) {
        while self.are_busy() {
            // Who lets go between the two has left a permit.
            self.let_go.notified().await;
        }
    }
}

/// One thread more is busy for the attempt that runs here, if there is one, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Option<Arc<Threads>>);

impl Busy {
    pub(crate) fn here() -> Self {
        let threads = THREADS.try_with(Arc::clone).ok();
        threads.iter().for_each(|threads| _ = threads.busy.fetch_add(1, Ordering::AcqRel));
        Self(threads)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(threads) = &self.0
            && threads.busy.fetch_sub(1, Ordering::AcqRel) == 1
        {
            threads.let_go.notify_one();
        }
    }
}
