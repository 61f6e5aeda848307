//! A mycelium while it runs, and why it may not.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::actions::run_actions;
use crate::broker::{
    CallError, EndedReceiver, Handle, Running, StartError, collect_blobs, delete_flows, keep_to_rules,
    watch_size,
};
use crate::compute;
use crate::logs::write_logs;
use crate::report::Report;
use crate::store;

/// A mycelium that runs.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) handle: Handle,
    /// Whoever uses it holds a receiver. Nothing is sent: only that the last one is gone is waited for.
    in_use: watch::Sender<()>,
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
        tasks.spawn("deletions", delete_flows(handle.clone(), stop.clone()));
        tasks.spawn("actions on many jobs", run_actions(handle.clone(), stop.clone()));
        tasks.spawn("the logs of attempts", write_logs(handle.clone(), stop.clone()));
        tasks.spawn("retention", keep_to_rules(handle.clone(), stop.clone()));
        tasks.spawn("the size of the store", watch_size(handle.clone(), stop.clone()));
        let open = Self { handle, in_use: watch::Sender::new(()), stop, ended: None, _permit: permit };
        (open, ended)
    }

    pub(super) fn lend(&self) -> Handle {
        self.handle.in_use(self.in_use.subscribe())
    }

    /// Whether anybody uses it. To be asked while nobody can begin to.
    pub(super) fn is_used(&self) -> bool {
        self.in_use.receiver_count() > 0
    }

    /// Whether nothing happens in it by itself: no elf serves it, nothing is computed, and no time is waited for.
    pub(super) async fn is_at_rest(&self) -> bool {
        let asked = self.handle.query(|core, _| {
            core.status().sessions == 0
                && core.next_deadline().is_none()
                && !core.has_work()
                && core.deletions().is_empty()
                && core.actions().iter().all(|action| action.ended_at.is_some())
        });
        asked.await.unwrap_or(false)
    }

    /// Waits until nobody uses it any more; `false` if somebody still does. To be asked while nobody can begin to.
    pub(super) async fn is_let_go_of(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.in_use.closed()).await.is_ok()
    }

    /// Closes it, and waits until those who use it have let go of it, but not longer than `within`.
    pub(super) async fn close_for_all(self, within: Duration) {
        let in_use = self.in_use.clone();
        self.close().await;
        if tokio::time::timeout(within, in_use.closed()).await.is_err() {
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
            Self::Start(error @ (StartError::Restore(_) | StartError::Importing)) => {
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
