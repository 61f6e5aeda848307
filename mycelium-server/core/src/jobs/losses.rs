//! What is known of jobs that were lost with their elf: how often, and what ran beside them.

use std::collections::BTreeMap;

use super::Jobs;
use crate::ids::JobId;
use crate::image::BESIDE_KEPT;
use crate::index::Slot;
use crate::suspicion::Suspicion;

/// The jobs that can have been running beside each job that was lost with its elf. Most jobs are not here.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<Slot, Vec<JobId>>);

impl Losses {
    /// Those that ran beside a job.
    pub(super) fn beside(&self, slot: Slot) -> &[JobId] {
        self.0.get(&slot).map(Vec::as_slice).unwrap_or_default()
    }

    /// These ran beside it as well. The latest are kept, each once.
    pub(super) fn push(&mut self, slot: Slot, jobs: impl IntoIterator<Item = JobId>) {
        let mut kept = self.remove(slot);
        for job in jobs {
            kept.retain(|other| *other != job);
            kept.push(job);
            if kept.len() > BESIDE_KEPT {
                kept.remove(0);
            }
        }
        if !kept.is_empty() {
            self.0.insert(slot, kept);
        }
    }

    /// The job ends.
    pub(super) fn remove(&mut self, slot: Slot) -> Vec<JobId> {
        self.0.remove(&slot).unwrap_or_default()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.0.keys().copied()
    }
}

impl Jobs {
    /// It can have been started in one more process that was lost, and these beside it. `is_alone`: the process held nothing
    /// else. Returns in how many it was alone. It must not stand in its queue.
    pub(crate) fn count_elf_lost(
        &mut self,
        slot: Slot,
        beside: impl IntoIterator<Item = JobId>,
        is_alone: bool,
    ) -> u32 {
        let job = &mut self.slab[slot];
        job.elves_lost = job.elves_lost.saturating_add(1);
        job.elves_lost_alone = job.elves_lost_alone.saturating_add(u8::from(is_alone));
        let alone = job.elves_lost_alone.into();
        let queue = self.names.use_queue_under(job.queue, Suspicion::of(job.elves_lost));
        let before = std::mem::replace(&mut job.queue, queue);
        self.names.unuse_queue(before);
        self.losses.push(slot, beside);
        alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_that_ran_beside_are_kept_once_each() {
        let id = |number: usize| JobId::new([u8::try_from(number).unwrap_or(u8::MAX); 16]);
        let slot = Slot::MIN;
        let mut losses = Losses::default();
        losses.push(slot, []);
        assert_eq!(losses.slots().count(), 0);
        losses.push(slot, (0..BESIDE_KEPT).map(id));
        losses.push(slot, [id(0), id(100)]);
        let mut kept: Vec<JobId> = (2..BESIDE_KEPT).map(id).collect();
        kept.extend([id(0), id(100)]);
        assert_eq!(losses.beside(slot), kept);
        assert_eq!(losses.remove(slot), kept);
        assert_eq!(losses.beside(slot), []);
    }
}
