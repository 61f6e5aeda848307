//! The attempts of unfinished jobs that are over.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Jobs;
use crate::image::{ATTEMPTS_KEPT, PastAttempt};
use crate::index::Slot;

/// The latest attempts of each job that had more than the one it ends with. Most jobs are not here: they run once.
#[derive(Debug, Default)]
pub(crate) struct Attempts(BTreeMap<Slot, Vec<PastAttempt>>);

impl Attempts {
    /// Those of a job, in the order of their numbers.
    pub(crate) fn of(&self, slot: Slot) -> &[PastAttempt] {
        self.0.get(&slot).map(Vec::as_slice).unwrap_or_default()
    }

    /// One more is over.
    pub(crate) fn push(&mut self, slot: Slot, attempt: PastAttempt) {
        let attempts = self.0.entry(slot).or_default();
        if attempts.len() >= ATTEMPTS_KEPT {
            attempts.remove(0);
        }
        attempts.push(attempt);
    }

    /// Takes in those of a job that is taken in.
    pub(crate) fn insert(&mut self, slot: Slot, mut attempts: Vec<PastAttempt>) {
        attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_KEPT));
        if !attempts.is_empty() {
            self.0.insert(slot, attempts);
        }
    }

    /// The job ends.
    pub(crate) fn remove(&mut self, slot: Slot) -> Vec<PastAttempt> {
        self.0.remove(&slot).unwrap_or_default()
    }

    /// Those of jobs after one, in the order of their places.
    pub(crate) fn after(&self, after: Option<Slot>) -> impl Iterator<Item = (Slot, &[PastAttempt])> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((begin, Bound::Unbounded)).map(|(&slot, attempts)| (slot, attempts.as_slice()))
    }
}

impl Jobs {
    /// The attempts of an unfinished job that are over.
    pub(crate) fn attempts(&self, slot: Slot) -> &[PastAttempt] {
        self.attempts.of(slot)
    }

    /// The attempts that are over of unfinished jobs after one, of those that have any.
    pub(crate) fn attempts_after(&self, after: Option<Slot>) -> impl Iterator<Item = (Slot, &[PastAttempt])> {
        self.attempts.after(after)
    }
}

#[cfg(test)]
mod tests;
