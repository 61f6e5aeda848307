//! Jobs that finished not long ago.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::ids::{Attempt, Commit, ContentDigest, FinishNumber, JobId, SessionId};
use crate::index::FlowIdx;
use crate::status::FinalStatus;

/// A finished job that is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    pub(crate) id: JobId,
    pub(crate) flow: FlowIdx,
    pub(crate) digest: ContentDigest,
    pub(crate) status: FinalStatus,
    /// The job to name as the cause in jobs that depend on it, if it did not end done.
    pub(crate) cause: JobId,
    pub(crate) attempt: Attempt,
    /// The session whose report ended it; 0 if none did.
    pub(crate) settled_by: SessionId,
    pub(crate) finish_number: FinishNumber,
    /// The commit it finished with.
    pub(crate) commit: Commit,
}

/// The finished jobs that are remembered, first finished first out.
#[derive(Debug, Default)]
pub(crate) struct Recents {
    /// A job that was brought back leaves `None`.
    queue: VecDeque<Option<Recent>>,
    /// The place of the queue's first entry in the order of all there ever were.
    base: u64,
    index: HashTable<u64>,
    hasher: FixedState,
}

impl Recents {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self { hasher: FixedState::with_seed(hash_seed), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn get(&self, id: &JobId) -> Option<&Recent> {
        let place = self.index.find(self.hasher.hash_one(id), |&place| self.is_at(place, id))?;
        self.at(*place)
    }

    /// Adds a job; its id must not be there.
    pub(crate) fn push(&mut self, recent: Recent) {
        let place = self.base + self.queue.len() as u64;
        let hash = self.hasher.hash_one(recent.id);
        self.queue.push_back(Some(recent));
        let Self { queue, base, index, hasher } = self;
        index.insert_unique(hash, place, |&place| hasher.hash_one(id_at(queue, *base, place)));
    }

    /// Takes out a job that is brought back.
    pub(crate) fn remove(&mut self, id: &JobId) -> Option<Recent> {
        let hash = self.hasher.hash_one(id);
        let Self { queue, base, index, .. } = self;
        let entry = index.find_entry(hash, |&place| id_at(queue, *base, place) == *id).ok()?;
        let (place, _) = entry.remove();
        self.queue[usize::try_from(place - self.base).expect("places lie within the queue")].take()
    }

    /// Takes out all that are of this kind. Goes through all that are remembered.
    pub(crate) fn remove_all(&mut self, is_one: impl Fn(&Recent) -> bool) -> Vec<Recent> {
        let ids: Vec<JobId> =
            self.newest_first().filter(|recent| is_one(recent)).map(|recent| recent.id).collect();
        ids.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out the one that finished first; `Some(None)` if that had been taken out before.
    pub(crate) fn pop(&mut self) -> Option<Option<Recent>> {
        let first = *self.queue.front()?;
        if let Some(recent) = first {
            let hash = self.hasher.hash_one(recent.id);
            let base = self.base;
            self.index
                .find_entry(hash, |&place| place == base)
                .expect("every job that is remembered is in the index")
                .remove();
        }
        self.queue.pop_front();
        self.base += 1;
        Some(first)
    }

    /// Last finished first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Recent> {
        self.queue.iter().rev().flatten()
    }

    fn at(&self, place: u64) -> Option<&Recent> {
        self.queue.get(usize::try_from(place.checked_sub(self.base)?).ok()?)?.as_ref()
    }

    fn is_at(&self, place: u64, id: &JobId) -> bool {
        self.at(place).is_some_and(|recent| recent.id == *id)
    }
}

/// The id of an entry that is in the index.
fn id_at(queue: &VecDeque<Option<Recent>>, base: u64, place: u64) -> JobId {
    usize::try_from(place - base)
        .ok()
        .and_then(|offset| queue.get(offset))
        .and_then(Option::as_ref)
        .map_or_else(JobId::default, |recent| recent.id)
}
