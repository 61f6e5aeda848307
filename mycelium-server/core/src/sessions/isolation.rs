//! Processes that are kept for one job, which may be what ends processes: nothing else is given to them.

use super::Sessions;
use crate::index::{ElfIdx, SessionIdx};
use crate::jobs::{Edge, Jobs};

/// The job that a session is kept for. It gets it when it holds nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptFor {
    pub(crate) job: Edge,
    pub(crate) elf: ElfIdx,
}

impl Sessions {
    /// The sessions that are kept for a job each.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (SessionIdx, KeptFor)> {
        self.kept.iter().filter_map(|&session| Some((session, self.arena[session].kept_for?)))
    }

    /// The session that is kept for this job.
    pub(crate) fn kept_for(&self, job: Edge) -> Option<SessionIdx> {
        self.kept().find(|(_, kept)| kept.job == job).map(|(session, _)| session)
    }

    /// Keeps a session for a job: it is given nothing else from now on.
    pub(crate) fn keep(&mut self, jobs: &mut Jobs, session: SessionIdx, kept_for: KeptFor) {
        self.arena[session].kept_for = Some(kept_for);
        self.kept.insert(session);
        self.refresh_free_slots(jobs, session);
    }

    /// Keeps a session for nobody.
    pub(crate) fn keep_no_longer(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        self.arena[session].kept_for = None;
        self.kept.remove(&session);
        self.refresh_free_slots(jobs, session);
    }
}
