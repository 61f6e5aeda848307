//! Specifications and outputs that were stored lately, kept in memory: whoever dispatches a job reads those that were
//! written a moment before, and need not ask a database that is far away. Only the owner of a mycelium writes it, so what
//! it has written is what is there.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mycelium_core::effects::End;
use mycelium_core::ids::JobId;

use crate::store::{Batch, JobAfter, SpecRecord};

/// As many bytes are kept of either kind at most, and half of that at least, with what keeping them takes.
const BYTES_MAX: usize = 32 << 20;
/// What an entry takes beside its body and the ids in it.
const ENTRY_BYTES: usize = 256;

/// What was stored lately.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    specs: Generations<SpecRecord>,
    outputs: Generations<Bytes>,
}

impl Recent {
    /// Takes note of a batch that was stored.
    pub(super) fn note(&self, batch: &Batch) {
        let mut kept = self.kept();
        for change in &batch.jobs {
            if change.revived.is_some() {
                kept.outputs.remove(change.id);
            }
            if let Some(created) = &change.created {
                // Of its own: what it was part of may be much larger.
                let body = Bytes::copy_from_slice(&created.body);
                let bytes = body.len() + 16 * created.depends_on.len();
                kept.specs.put(change.id, SpecRecord { body, ..created.clone() }, bytes);
            }
            match &change.after {
                JobAfter::Finished(finished) => {
                    kept.specs.remove(change.id);
                    if let End::Done(outputs) = &finished.end {
                        kept.outputs.put(change.id, Bytes::copy_from_slice(outputs), outputs.len());
                    }
                }
                JobAfter::Dropped => kept.specs.remove(change.id),
                JobAfter::Live(_) | JobAfter::Evaluate => {}
            }
        }
        for erased in &batch.erased {
            kept.specs.remove(erased.head.id);
            kept.outputs.remove(erased.head.id);
        }
    }

    /// Forgets all: the mycelium may have been another's.
    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
    }

    /// The specifications that are known.
    pub(super) fn specs(&self, ids: &[JobId]) -> Vec<Option<SpecRecord>> {
        let kept = self.kept();
        ids.iter().map(|id| kept.specs.get(*id).cloned()).collect()
    }

    /// The outputs that are known.
    pub(super) fn outputs(&self, ids: &[JobId]) -> Vec<Option<Bytes>> {
        let kept = self.kept();
        ids.iter().map(|id| kept.outputs.get(*id).cloned()).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries in two halves, of which the older goes as a whole.
#[derive(Debug)]
struct Generations<T> {
    newer: HashMap<JobId, T>,
    older: HashMap<JobId, T>,
    /// Of the newer half.
    bytes: usize,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new(), bytes: 0 }
    }
}

impl<T> Generations<T> {
    fn get(&self, id: JobId) -> Option<&T> {
        self.newer.get(&id).or_else(|| self.older.get(&id))
    }

    fn put(&mut self, id: JobId, entry: T, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        if self.bytes + bytes > BYTES_MAX / 2 {
            self.older = mem::take(&mut self.newer);
            self.bytes = 0;
        }
        // What is larger than all that is kept is read when it is needed.
        if bytes <= BYTES_MAX / 2 {
            self.bytes += bytes;
            self.newer.insert(id, entry);
        }
    }

    fn remove(&mut self, id: JobId) {
        self.newer.remove(&id);
        self.older.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_within_their_bytes() {
        let mut kept = Generations::default();
        let id = |number: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            JobId::new(bytes)
        };
        let each = 1 << 20;
        for number in 0..200 {
            kept.put(id(number), number, each);
            let all = kept.newer.len() + kept.older.len();
            assert!(all * each <= BYTES_MAX, "{all} are kept");
            let latest = number.saturating_sub(10)..=number;
            assert!(latest.clone().all(|number| kept.get(id(number)) == Some(&number)), "{latest:?}");
        }
        assert_eq!(kept.get(id(0)), None);
        kept.put(id(0), 0, BYTES_MAX);
        assert_eq!(kept.get(id(0)), None, "too large");
        kept.remove(id(199));
        assert_eq!(kept.get(id(199)), None);
    }
}
