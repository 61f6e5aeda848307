//! What a session offers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::pace::Pace;
use crate::command::Window;
use crate::ids::Revision;
use crate::index::{DeclarationIdx, ElfIdx, TaskIdx};
use crate::jobs::{FreeSlot, Laden};
use crate::policy::Policy;

/// What a session offers for one elf.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// What the session declares of it; `None` if it is no longer offered.
    pub(crate) declared: Option<Declared>,
    pub(crate) window: Window,
    /// How fast it does its jobs, if it tells.
    pub(crate) pace: Option<Pace>,
    /// How many attempts of it the instance holds, cancelled ones included.
    pub(crate) held: u32,
    /// How many of those are recalled.
    pub(crate) recalled: u32,
    /// How it stands among those with free slots for the elf, if it does.
    pub(crate) free_slot: Option<FreeSlot>,
    /// How it stands among those from which jobs of the elf can be recalled, if it does.
    pub(crate) laden: Option<Laden>,
}

impl Offer {
    pub(crate) fn is_offered(&self) -> bool {
        self.declared.is_some()
    }

    /// How many jobs of it the session is given: its window, or less if it takes it long to come to them.
    pub(crate) fn limit(&self) -> u32 {
        let jobs = self.window.jobs;
        match (self.pace, self.window.places()) {
            // Nothing would begin there.
            (_, Some(0)) => 0,
            (Some(pace), Some(places)) => jobs.min(places.saturating_add(pace.prefetch())),
            (_, None) | (None, _) => jobs,
        }
    }

    /// How many of what is held and not recalled wait there for others to end; `None` if none does, or that is not known.
    pub(super) fn waiting(&self) -> Option<u32> {
        (self.held - self.recalled).checked_sub(self.window.places()?).filter(|waiting| *waiting > 0)
    }

    /// How many jobs more it could start at once; one, if it holds none and does not say how many.
    pub(crate) fn can_start(&self) -> u32 {
        self.window.places().unwrap_or(1).saturating_sub(self.held)
    }

    /// Whether it runs all that it can, as far as is known: what it is given now waits there.
    pub(crate) fn is_busy(&self) -> bool {
        self.window.places().is_some_and(|places| self.held >= places)
    }
}

/// What a session declares of an elf.
#[derive(Debug)]
pub(crate) struct Declared {
    /// What it takes.
    pub(crate) declaration: DeclarationIdx,
    /// Its tasks.
    pub(crate) tasks: BTreeMap<TaskIdx, DeclaredTask>,
}

/// What a session declares of a task, beside what the task takes.
#[derive(Debug)]
pub(crate) struct DeclaredTask {
    pub(crate) revision: Revision,
    /// By which rules its jobs are tried again and timed out where they leave it open, if it says.
    pub(crate) policy: Option<Arc<Policy>>,
}

impl Session {
    /// By which rules jobs of a task are tried again and timed out there, where they leave it open, if it is declared.
    pub(crate) fn policy(&self, elf: ElfIdx, task: TaskIdx) -> Option<&Policy> {
        self.offers.get(&elf)?.declared.as_ref()?.tasks.get(&task)?.policy.as_deref()
    }
}
