//! A number of bytes that many share, and what each has taken of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::broker::Peer;

/// One peer may take one part in so many.
const PARTS: usize = 4;

/// Bytes that are shared.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
    /// What it is a part of: what is taken of the part is taken of the whole.
    whole: Option<Arc<Budget>>,
}

/// How far a budget may be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fill {
    Half,
    All,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0), whole: None })
    }

    /// How much is taken of it.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How much is left of it, and of the whole.
    pub(crate) fn free(&self) -> usize {
        let own = self.max.saturating_sub(self.used());
        self.whole.as_ref().map_or(own, |whole| own.min(whole.free()))
    }

    /// How much is left of as much again, for those who have taken next to nothing while others have taken all.
    pub(crate) fn reserve(&self) -> usize {
        let whole = self.whole.as_deref().unwrap_or(self);
        whole.max.saturating_mul(2).saturating_sub(whole.used())
    }

    /// Takes `bytes`, if as much is left.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        // What is not left of the whole is given back with it.
        let here = self.try_take_here(bytes, Fill::All)?;
        match &self.whole {
            Some(whole) if !whole.add(bytes, Fill::All) => None,
            Some(_) => Some(here.and_of_the_whole()),
            None => Some(here),
        }
    }

    /// Takes `bytes` of this alone, if as much is left: of a part, what the whole was charged with already, once for
    /// several parts.
    pub(crate) fn try_take_here(self: &Arc<Self>, bytes: usize, fill: Fill) -> Option<Charge> {
        let charge = || Charge { budget: Arc::clone(self), bytes, is_of_the_whole: false };
        self.add(bytes, fill).then(charge)
    }

    /// Takes `bytes`, whatever is left: for the little that nobody can do without.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Charge {
        let whole = self.whole.as_deref();
        for budget in [Some(self.as_ref()), whole].into_iter().flatten() {
            budget.used.fetch_add(bytes, Ordering::Relaxed);
        }
        Charge { budget: Arc::clone(self), bytes, is_of_the_whole: whole.is_some() }
    }

    fn add(&self, bytes: usize, fill: Fill) -> bool {
        let max = match fill {
            Fill::Half => self.max / 2,
            Fill::All => self.max,
        };
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// Bytes that were taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
    /// Whether they were taken of what the budget is a part of, too.
    is_of_the_whole: bool,
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what is missing to `bytes`, if as much is left.
    pub(crate) fn try_grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let Some(taken) = self.budget.try_take(more) else { return false };
        self.join(taken);
        true
    }

    /// Gives back what is above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        let whole = self.budget.whole.as_deref().filter(|_| self.is_of_the_whole);
        for budget in [Some(self.budget.as_ref()), whole].into_iter().flatten() {
            budget.used.fetch_sub(less, Ordering::Relaxed);
        }
    }

    /// Takes over what another was charged with, of the same budget and in the same way.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    fn and_of_the_whole(mut self) -> Self {
        self.is_of_the_whole = true;
        self
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// A budget of which each peer may take a part.
#[derive(Debug)]
pub(crate) struct Parts {
    whole: Arc<Budget>,
    parts: Mutex<HashMap<Peer, Weak<Budget>>>,
}

impl Parts {
    pub(crate) fn new(max: usize) -> Self {
        Self { whole: Budget::new(max), parts: Mutex::default() }
    }

    pub(crate) fn whole(&self) -> &Arc<Budget> {
        &self.whole
    }

    /// The part of one peer: the same for as long as somebody has it.
    pub(crate) fn of(&self, peer: Peer) -> Arc<Budget> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(&peer).and_then(Weak::upgrade) {
            return part;
        }
        parts.retain(|_, part| part.strong_count() > 0);
        let (max, whole) = (self.whole.max / PARTS, Some(Arc::clone(&self.whole)));
        let part = Arc::new(Budget { max, used: AtomicUsize::new(0), whole });
        parts.insert(peer, Arc::downgrade(&part));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none() && budget.try_take_here(1, Fill::Half).is_none());
        let mut second = budget.try_take(30).unwrap();
        assert!(!second.try_grow_to(41) && second.try_grow_to(40));
        assert_eq!((budget.free(), second.bytes()), (0, 40));
        let beyond = budget.take(50);
        assert!(budget.try_take(1).is_none());
        drop(first);
        assert_eq!(budget.free(), 10);
        second.shrink_to(5);
        assert_eq!((budget.free(), second.bytes()), (45, 5));
        drop((second, beyond));
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn a_peer_takes_its_part_and_all_together_no_more_than_the_whole() {
        let parts = Parts::new(100);
        let peers: Vec<Peer> = (1..=5).map(|port| Some(([127, 0, 0, 1], port).into())).collect();
        let budgets: Vec<_> = peers.iter().map(|peer| parts.of(*peer)).collect();
        let taken: Vec<_> = budgets[..4].iter().map(|part| part.try_take(25).unwrap()).collect();
        assert!(parts.of(peers[0]).try_take(1).is_none(), "it is the same part");
        assert_eq!((parts.whole().free(), budgets[4].free(), budgets[4].used()), (0, 0, 0));
        assert!(budgets[4].try_take(1).is_none(), "nothing is left for it");
        assert_eq!(budgets[4].used(), 0, "what failed is given back");
        // Of what the whole was charged with already, each takes its own.
        let here = budgets[4].try_take_here(12, Fill::Half).unwrap();
        assert!(budgets[4].try_take_here(1, Fill::Half).is_none());
        assert_eq!((parts.whole().used(), budgets[4].used()), (100, 12));
        drop((taken, here));
        assert_eq!((parts.whole().used(), budgets[4].used()), (0, 0));
        drop(budgets);
        let _new = parts.of(peers[0]);
        assert_eq!(parts.parts.lock().unwrap().len(), 1, "those that nobody has are forgotten");
    }
}
