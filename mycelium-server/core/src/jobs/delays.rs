//! Jobs that wait for a moment, those that were tried in vain, and those that ended and came back.

use std::collections::{BTreeMap, BTreeSet};

use super::Jobs;
use crate::effects::FailedAttempt;
use crate::ids::Timestamp;
use crate::image::{AttemptEnd, PastAttempt, Tries};
use crate::index::Slot;

/// What is known of each. Most jobs are not here.
#[derive(Debug, Default)]
pub(super) struct Delays {
    /// How many attempts of each have failed, and how many may.
    failed: BTreeMap<Slot, (u32, u32)>,
    /// Before which moment each does not stand in its queue.
    not_before: BTreeMap<Slot, Timestamp>,
    /// Those that have been brought back, or may have been, before the core began.
    come_back: BTreeSet<Slot>,
}

impl Delays {
    pub(super) fn is_delayed(&self, slot: Slot) -> bool {
        self.not_before.contains_key(&slot)
    }

    /// The job is gone. Its timer is the caller's.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.failed.remove(&slot);
        self.not_before.remove(&slot);
        self.come_back.remove(&slot);
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.failed.keys().chain(self.not_before.keys()).chain(&self.come_back).copied()
    }
}

impl Jobs {
    /// How often a job was tried in vain, and until when it waits.
    pub(crate) fn tries(&self, slot: Slot) -> Tries {
        let (failed, failed_max) = self.delays.failed.get(&slot).copied().unwrap_or_default();
        Tries { failed, failed_max, not_before: self.delays.not_before.get(&slot).copied() }
    }

    /// A job has been brought back, or may have been.
    pub(super) fn set_come_back(&mut self, slot: Slot) {
        self.delays.come_back.insert(slot);
    }

    /// Whether a job has been brought back, or may have been.
    pub(crate) fn has_come_back(&self, slot: Slot) -> bool {
        self.delays.come_back.contains(&slot)
    }

    /// Takes in what the store has of a job.
    pub(crate) fn restore_tries(&mut self, slot: Slot, tries: Tries) {
        let Tries { failed, failed_max, not_before } = tries;
        if failed > 0 {
            self.delays.failed.insert(slot, (failed, failed_max));
        }
        if let Some(not_before) = not_before {
            self.set_not_before(slot, not_before);
        }
    }

    /// An attempt of a job has failed, at most so many may, and the job goes on. The record is to be stored with the failure.
    pub(crate) fn fail_attempt(&mut self, slot: Slot, failed: FailedAttempt, failed_max: u32) {
        self.touch_record(slot);
        let FailedAttempt { attempt: number, held, ended_at, id, .. } = failed;
        let how = if id.is_some() { AttemptEnd::Failed } else { AttemptEnd::TimedOut };
        self.attempts.push(slot, PastAttempt { number, held, ended_at, how, failure: id });
        let entry = self.delays.failed.entry(slot).or_default();
        *entry = (entry.0.saturating_add(1), failed_max);
        self.failed.push(failed);
    }

    /// A job is not to stand in its queue before this moment, once it is ready.
    pub(crate) fn set_not_before(&mut self, slot: Slot, moment: Timestamp) {
        self.delays.not_before.insert(slot, moment);
    }

    /// A job waits for no moment any more. Its timer is the caller's. Says whether it did.
    pub(crate) fn forget_not_before(&mut self, slot: Slot) -> bool {
        self.delays.not_before.remove(&slot).is_some()
    }
}
