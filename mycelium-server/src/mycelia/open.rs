//! A mycelium while it runs, and why it may not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::broker::{CallError, EndedReceiver, Handle, Running, StartError, collect_blobs};
use crate::compute;
use crate::report::Report;
use crate::store;

/// A mycelium that runs.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) handle: Handle,
    /// Whoever uses it holds a copy.
    pub(super) in_use: Arc<()>,
    stop: CancellationToken,
    /// `None` for the one that the broker stands and falls with.
    pub(super) ended: Option<EndedReceiver>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Open {
    pub(super) fn new(
        running: Running,
        drain: &CancellationToken,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (Self, EndedReceiver) {
        let Running { handle, evaluations, ended } = running;
        let stop = drain.child_token();
        let tasks = handle.tasks();
        // Ends by itself when the owner of the core has.
        tasks.spawn("evaluations", compute::run_evaluations(handle.clone(), evaluations));
        tasks.spawn("unused blobs", collect_blobs(handle.clone(), stop.clone()));
        let open = Self { handle, in_use: Arc::new(()), stop, ended: None, _permit: permit };
        (open, ended)
    }

    pub(super) fn lend(&self) -> Handle {
        self.handle.in_use(&self.in_use)
    }

    /// Whether anybody uses it. To be asked while nobody can begin to.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.in_use) > 1
    }

    /// Whether nothing happens in it by itself: no elf serves it, nothing is computed, and no time is waited for.
    pub(super) async fn is_at_rest(&self) -> bool {
        let asked = self.handle.query(|core, _| {
            core.status().sessions == 0 && core.next_deadline().is_none() && !core.has_work()
        });
        asked.await.unwrap_or(false)
    }

    /// Waits until nobody uses it any more; `false` if somebody still does. To be asked while nobody can begin to.
    pub(super) async fn is_let_go_of(&self, within: Duration) -> bool {
        is_let_go_of(&self.in_use, within).await
    }

    /// Closes it, and waits until those who use it have let go of it, but not longer than `within`.
    pub(super) async fn close_for_all(self, within: Duration) {
        let in_use = Arc::clone(&self.in_use);
        self.close().await;
        if !is_let_go_of(&in_use, within).await {
            tracing::warn!("a mycelium that is deleted is still used");
        }
    }

    /// Writes it out, and waits until it has ended.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.handle.stop().await;
        if let Some(ended) = self.ended {
            match ended.await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(error = %Report(&error), "a mycelium ended with an error"),
            }
        }
    }
}

/// How often it is looked whether a mycelium is still used. There is no event for it: uses are counted and no more.
const LET_GO_POLL: Duration = Duration::from_millis(10);

/// Waits until this is the only copy.
async fn is_let_go_of(in_use: &Arc<()>, within: Duration) -> bool {
    let begun = Instant::now();
    while Arc::strong_count(in_use) > 1 {
        if begun.elapsed() >= within {
            return false;
        }
        tokio::time::sleep(LET_GO_POLL).await;
    }
    true
}

/// Why a mycelium cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("it was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl OpenError {
    /// What its callers are told; the rest is in the log.
    pub(super) fn told(&self, name: &str) -> CallError {
        match self {
            Self::Store(error) | Self::Start(StartError::Store(error)) if error.is_damage() => {
                CallError::Unreadable(format!("the mycelium `{name}` cannot be opened: {error}"))
            }
            Self::Start(StartError::Restore(error)) => {
                CallError::Unreadable(format!("the mycelium `{name}` cannot be opened: {error}"))
            }
            Self::Store(error) => match error.lack() {
                Some(store::Lack::Space) => CallError::StoreFull,
                Some(store::Lack::Writing) => CallError::StoreReadOnly,
                None => CallError::StoreUnavailable,
            },
            Self::Start(_) | Self::BrokenOff(_) => CallError::StoreUnavailable,
        }
    }
}
