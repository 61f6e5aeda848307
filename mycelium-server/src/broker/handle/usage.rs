//! How much of a mycelium is used, for those who look after it and must not keep it open.

use std::sync::{Arc, Weak};

use super::{Handle, Inner};
use crate::metrics::Shown;

/// What keeps no mycelium in memory.
#[derive(Clone)]
pub(crate) struct WeakHandle(Weak<Inner>);

impl WeakHandle {
    /// The mycelium, if it still runs.
    pub(crate) fn upgrade(&self) -> Option<Handle> {
        let inner = self.0.upgrade()?;
        Some(Handle { inner, _in_use: None }).filter(|handle| !handle.has_ended())
    }
}

impl std::fmt::Debug for WeakHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakHandle")
    }
}

/// How much of it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Streams of elves.
    pub(crate) streams: u64,
    pub(crate) watches: u64,
    /// Requests and reports that wait for the owner of the core.
    pub(crate) messages: u64,
}

impl Handle {
    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(Arc::downgrade(&self.inner))
    }

    /// What the owner of the core shows of it without being asked.
    pub(crate) fn shown(&self) -> &Arc<Shown> {
        &self.inner.shown
    }

    pub(crate) fn usage(&self) -> Usage {
        let Inner { sessions, watches, inbox, config, .. } = &*self.inner;
        let taken = |max: usize, free: usize| max.saturating_sub(free) as u64;
        Usage {
            streams: taken(config.sessions_max, sessions.available_permits()),
            watches: taken(config.watches_max, watches.available_permits()),
            messages: taken(inbox.max_capacity(), inbox.capacity()),
        }
    }
}
