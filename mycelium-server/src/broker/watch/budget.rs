//! A number of bytes that many share, and what each has taken of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are shared.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    /// How much is left.
    pub(crate) fn free(&self) -> usize {
        self.max.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes `bytes`, if as much is left and `spare` remains.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: usize, spare: usize) -> Option<Charge> {
        let max = self.max.saturating_sub(spare);
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok().then(|| Charge { budget: Arc::clone(self), bytes })
    }

    /// Takes `bytes`, whatever is left: for the little that nobody can do without.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(self), bytes }
    }
}

/// Bytes that were taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what is missing to `bytes`, if as much is left.
    pub(crate) fn try_grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let Some(taken) = self.budget.try_take(more, 0) else { return false };
        self.join(taken);
        true
    }

    /// Gives back what is above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.budget.used.fetch_sub(less, Ordering::Relaxed);
    }

    /// Takes over what another was charged with.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        other.bytes = 0;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let budget = Budget::new(100);
        let first = budget.try_take(60, 0).unwrap();
        assert!(budget.try_take(41, 0).is_none() && budget.try_take(40, 1).is_none());
        let mut second = budget.try_take(30, 10).unwrap();
        assert!(!second.try_grow_to(41) && second.try_grow_to(40));
        assert_eq!((budget.free(), second.bytes()), (0, 40));
        let beyond = budget.take(50);
        assert!(budget.try_take(1, 0).is_none());
        drop(first);
        assert_eq!(budget.free(), 10);
        second.shrink_to(5);
        assert_eq!((budget.free(), second.bytes()), (45, 5));
        drop((second, beyond));
        assert_eq!(budget.free(), 100);
    }
}
