//! What a session offers.

use std::collections::BTreeMap;

use super::pace::Pace;
use crate::command::Window;
use crate::ids::Revision;
use crate::index::{DeclarationIdx, TaskIdx};
use crate::jobs::{FreeSlot, Laden};

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
        let Window { jobs, concurrency } = self.window;
        match self.pace {
            Some(pace) if concurrency > 0 => jobs.min(concurrency.saturating_add(pace.prefetch())),
            Some(_) | None => jobs,
        }
    }

    /// How many of what is held and not recalled wait there for others to end; `None` if none does, or that is not known.
    pub(super) fn waiting(&self) -> Option<u32> {
        let known = Some(self.window.concurrency).filter(|concurrency| *concurrency > 0)?;
        (self.held - self.recalled).checked_sub(known).filter(|waiting| *waiting > 0)
    }

    /// How many jobs more it could start at once; one, if it holds none and does not say how many.
    pub(crate) fn can_start(&self) -> u32 {
        self.window.concurrency.max(1).saturating_sub(self.held)
    }

    /// Whether it runs all that it can, as far as is known: what it is given now waits there.
    pub(crate) fn is_busy(&self) -> bool {
        self.window.concurrency > 0 && self.held >= self.window.concurrency
    }
}

/// What a session declares of an elf.
#[derive(Debug)]
pub(crate) struct Declared {
    /// What it takes.
    pub(crate) declaration: DeclarationIdx,
    /// The revision of each task.
    pub(crate) revisions: BTreeMap<TaskIdx, Revision>,
}
