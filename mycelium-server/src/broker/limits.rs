//! What the mycelia of a broker share, since the machine has it once: cores, and memory; and what counts all of them.

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mycelium_core::ids::FlowId;

use super::handle::{Handle, WeakHandle};
use super::watch::WatchLimits;
use crate::config::Config;
use crate::fair::Turns;
use crate::metrics::Switch;

/// Who wants values to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// Jobs of a flow, which go on with them.
    Flow(FlowId),
    /// Those who look at them.
    Readers,
}

/// Who submits or watches: the far end of a connection; `None` for what the broker itself submits.
pub(crate) type Peer = Option<SocketAddr>;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    watches: WatchLimits,
    /// Evaluations at once, in turn by flow: each takes all of a core, and one after the other of its jobs may take
    /// memory up to the limit.
    evaluations: Turns<Party>,
    /// Submissions that are checked and encoded at once, in turn by peer: each takes all of a core.
    preparations: Turns<Peer>,
    unfinished_max: u64,
    unfinished: AtomicU64,
    counted: Switch,
    /// Those that are open, with their names, and some that were.
    open: Mutex<Vec<(Arc<str>, WeakHandle)>>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            inner: Arc::new(Inner {
                watches: WatchLimits::new(),
                evaluations: Turns::new(cores),
                preparations: Turns::new(cores),
                unfinished_max: config.unfinished_total_max,
                unfinished: AtomicU64::new(0),
                counted: Switch::default(),
                open: Mutex::default(),
            }),
        }
    }

    /// Whether things are counted.
    pub(crate) fn counted(&self) -> &Switch {
        &self.inner.counted
    }

    /// A mycelium has been opened.
    pub(super) fn opened(&self, name: &str, handle: &Handle) {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, handle)| handle.upgrade().is_some());
        open.push((Arc::from(name), handle.downgrade()));
    }

    /// The mycelia that are open.
    pub(crate) fn open(&self) -> Vec<(Arc<str>, Handle)> {
        let open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(|(name, handle)| Some((Arc::clone(name), handle.upgrade()?))).collect()
    }

    pub(crate) fn watches(&self) -> &WatchLimits {
        &self.inner.watches
    }

    pub(super) fn evaluations(&self) -> &Turns<Party> {
        &self.inner.evaluations
    }

    pub(super) fn preparations(&self) -> &Turns<Peer> {
        &self.inner.preparations
    }

    /// The part of a mycelium in the unfinished jobs of all.
    pub(super) fn backlog(&self) -> Backlog {
        Backlog { limits: self.clone(), own: 0 }
    }
}

/// The part of one mycelium in the unfinished jobs of all, for as long as it is open.
#[derive(Debug)]
pub(super) struct Backlog {
    limits: Limits,
    own: u64,
}

impl Backlog {
    /// Tells how many it has.
    pub(super) fn set(&mut self, own: u64) {
        let all = &self.limits.inner.unfinished;
        if own > self.own {
            all.fetch_add(own - self.own, Ordering::Relaxed);
        } else {
            all.fetch_sub(self.own - own, Ordering::Relaxed);
        }
        self.own = own;
    }

    /// How many it may have, as things stand. Others may take of the same room meanwhile: what is too much then is at most
    /// what comes in one batch of each.
    pub(super) fn max(&self) -> u64 {
        let Inner { unfinished, unfinished_max, .. } = &*self.limits.inner;
        self.own + unfinished_max.saturating_sub(unfinished.load(Ordering::Relaxed))
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mycelium_has_is_missing_to_the_others() {
        let limits = Limits::new(&Config { unfinished_total_max: 10, ..Config::default() });
        let (mut first, mut second) = (limits.backlog(), limits.backlog());
        first.set(7);
        assert_eq!((first.max(), second.max()), (10, 3));
        second.set(5);
        assert_eq!(
            (first.max(), second.max()),
            (7, 5),
            "what was opened with more than there was room for stays"
        );
        first.set(2);
        assert_eq!((first.max(), second.max()), (5, 8));
        drop(second);
        assert_eq!(first.max(), 10);
    }
}
