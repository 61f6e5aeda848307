//! Sessions that somebody has told to drain.

use super::Sessions;
use crate::ids::{InstanceId, Steady};
use crate::index::SessionIdx;
use crate::jobs::Jobs;

impl Sessions {
    /// The sessions of an instance, the oldest first.
    pub(crate) fn of_instance(&self, instance: InstanceId) -> Vec<SessionIdx> {
        let of_it = self.by_id.values().filter(|session| self.arena[**session].instance == instance);
        of_it.copied().collect()
    }

    /// Whether it knows what to do when it is told to drain.
    pub(crate) fn set_knows_drain(&mut self, session: SessionIdx, knows_drain: bool) {
        self.arena[session].knows_drain = knows_drain;
    }

    /// It takes no more jobs, on this stream and the next ones, and is to have left by then.
    pub(crate) fn set_leaves_by(&mut self, jobs: &mut Jobs, session: SessionIdx, by: Steady) {
        self.arena[session].leaves_by = Some(by);
        self.set_draining(jobs, session);
    }

    /// It takes jobs, whoever has told it to drain.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn forget_draining(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        self.arena[session].is_draining = false;
        self.refresh_free_slots(jobs, session);
    }
}
