//! What is done with mycelia without anybody asking: each is opened once when the broker begins, and closed when it is idle.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Mycelia, State, millis};
use crate::broker::CallError;
use crate::error::Error;

/// How often those that are idle are looked for, if that is not oftener than they may be idle.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The longest pause before one that could not be opened is tried again; it doubles up to that.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(60);

impl Mycelia {
    /// Opens those that hold something, each once and one after another, so that what its last broker left goes on without being
    /// asked for: actions, deletions, and what waits for a moment. Those in which nothing does are closed again by the sweep.
    /// One that cannot be opened now is tried again later, as long as that may end by itself.
    pub(crate) async fn resume(self) {
        let mut names: Vec<_> = self.slots().keys().map(Arc::clone).collect();
        let mut pause = SWEEP_EVERY.min(self.shared.config.mycelium_idle);
        loop {
            let mut left = Vec::new();
            for name in names {
                match self.resume_one(&name).await {
                    Err(Error::Call(error)) if may_end(&error) => left.push(name),
                    Ok(()) | Err(_) => {}
                }
            }
            if left.is_empty() {
                return;
            }
            names = left;
            tokio::select! {
                () = self.shared.drain.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESUME_PAUSE_MAX);
        }
    }

    /// What stands in the way is in the log, and told to who asks for it.
    async fn resume_one(&self, name: &str) -> Result<(), Error> {
        let Some((slot, state)) = self.locked(name).await else { return Ok(()) };
        let State::Closed = &*state else { return Ok(()) };
        let (home, name) = (self.shared.home.clone(), Arc::clone(&slot.name));
        match tokio::task::spawn_blocking(move || home.may_hold(&name)).await {
            Ok(false) => Ok(()),
            Ok(true) | Err(_) => self.open(slot, state).await.map(drop),
        }
    }

    /// Closes those that nobody uses, until the broker stops.
    pub(crate) async fn sweep(self) {
        let every = SWEEP_EVERY.min(self.shared.config.mycelium_idle);
        loop {
            tokio::select! {
                () = self.shared.drain.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let before = self.now().saturating_sub(millis(self.shared.config.mycelium_idle));
            let slots: Vec<_> = self.slots().values().map(Arc::clone).collect();
            for slot in slots {
                if slot.used_at.load(Ordering::Relaxed) <= before {
                    self.close_idle(&slot).await;
                }
            }
        }
    }
}

/// Whether what keeps a mycelium from being opened may be over without anybody doing anything to it.
fn may_end(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Busy | CallError::StoreUnavailable | CallError::StoreFull | CallError::StoreReadOnly
    )
}
