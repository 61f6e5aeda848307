//! Which closures the values depend on whose elements they use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The call of one closure that was given symbolic elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope(u64);

impl Scope {
    /// One that is like no other of this process.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells it from all others.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// The scopes whose elements a node uses, in order. Nearly always none.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes(Option<Arc<[Scope]>>);

impl Scopes {
    /// The most that are kept. Closures may not be nested as deep by far, so a node that depends on more
    /// uses elements that have escaped, and those that are kept suffice to tell.
    const MAX: usize = 64;

    pub(super) fn of(scope: Scope) -> Self {
        Self(Some(Arc::new([scope])))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn contains(&self, scope: Scope) -> bool {
        self.0.as_ref().is_some_and(|scopes| scopes.binary_search(&scope).is_ok())
    }

    /// Adds those of another node.
    pub(super) fn merge(&mut self, other: &Self) {
        match (&self.0, &other.0) {
            (_, None) => {}
            (None, Some(_)) => self.0.clone_from(&other.0),
            (Some(own), Some(others)) => {
                if Arc::ptr_eq(own, others) || others.iter().all(|scope| self.contains(*scope)) {
                    return;
                }
                let mut all: Vec<Scope> = own.iter().chain(others.iter()).copied().collect();
                all.sort_unstable();
                all.dedup();
                all.truncate(Self::MAX);
                self.0 = Some(all.into());
            }
        }
    }
}
