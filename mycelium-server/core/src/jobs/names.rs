//! Elves and tasks: their names, their queues, what they are declared to take, and the instances that have free slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Named, TraitSets};
use crate::ids::{SessionId, SignatureId};
use crate::image::{JobHead, PauseTarget};
use crate::index::{Arena, DeclarationIdx, ElfIdx, QueueIdx, SessionIdx, TaskIdx, of};
use crate::invariants::{InvariantViolation, check};
use crate::pauses::Pauses;
use crate::signature::Judged;
use crate::suspicion::Suspicion;

mod check;
mod declared;
mod paused;
mod queues;

pub(crate) use declared::Declaration;
pub(crate) use queues::{Kind, Queue};

/// A session that has a free slot for a job of an elf: those that could start it at once first, then the one that holds
/// fewest, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FreeSlot {
    /// Whether the job would wait there for others to end.
    pub(crate) is_busy: bool,
    pub(crate) held: u32,
    pub(crate) id: SessionId,
    pub(crate) session: SessionIdx,
}

/// A session that holds jobs of an elf that wait there for others to end, and gives back what is recalled: the one where
/// fewest wait first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Laden {
    pub(crate) waiting: u32,
    pub(crate) id: SessionId,
    pub(crate) session: SessionIdx,
}

/// A task of an elf, for as long as a queue or a declaration names it.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) elf: ElfIdx,
    pub(crate) name: Arc<str>,
    /// Its queues, one for each kind of its unfinished jobs.
    pub(crate) queues: BTreeMap<Kind, QueueIdx>,
    /// How many queues and declarations name it.
    pub(crate) users: u64,
    /// Whether it is paused, by itself.
    pub(crate) is_paused: bool,
}

/// An elf, for as long as it has a task or a session names it.
#[derive(Debug, Default)]
pub(crate) struct Elf {
    pub(crate) name: Arc<str>,
    pub(crate) tasks: BTreeMap<Arc<str>, TaskIdx>,
    /// What it is declared to take by the sessions that offer it: the signature of each task.
    pub(crate) declarations: BTreeMap<Vec<(TaskIdx, SignatureId)>, DeclarationIdx>,
    /// The sessions that could take a job now.
    pub(crate) free_slots: BTreeSet<FreeSlot>,
    /// The sessions of which jobs could be recalled.
    pub(crate) laden: BTreeSet<Laden>,
    /// How many attempts are recalled, and neither given back nor started.
    pub(crate) recalled: u32,
    /// All sessions that offer it or hold jobs of it.
    pub(crate) sessions: BTreeMap<SessionId, SessionIdx>,
    pub(crate) ready: u64,
    pub(crate) assigned: u64,
    pub(crate) running: u64,
    /// Whether it is paused.
    pub(crate) is_paused: bool,
}

/// All names in use.
#[derive(Debug, Default)]
pub(crate) struct Names {
    elves: Arena<of::Elf, Elf>,
    tasks: Arena<of::Task, Task>,
    queues: Arena<of::Queue, Queue>,
    declarations: Arena<of::Declaration, Declaration>,
    traits: TraitSets,
    by_name: BTreeMap<Arc<str>, ElfIdx>,
    /// The elves for which there may be both a job and a free slot.
    to_place: BTreeSet<ElfIdx>,
    /// The elves of which something may have to be recalled.
    to_recall: BTreeSet<ElfIdx>,
    /// What is paused, whether it is in use or not.
    pauses: Pauses,
}

impl Names {
    pub(crate) fn find_elf(&self, name: &str) -> Option<ElfIdx> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn elf(&self, elf: ElfIdx) -> &Elf {
        &self.elves[elf]
    }

    pub(crate) fn task(&self, task: TaskIdx) -> &Task {
        &self.tasks[task]
    }

    /// The elf's index; it is made if it is not there, and then must be used before the next
    /// [`drop_elf_if_unused`](Self::drop_elf_if_unused).
    pub(crate) fn intern_elf(&mut self, name: &Arc<str>) -> ElfIdx {
        if let Some(&elf) = self.by_name.get(name) {
            return elf;
        }
        let is_paused = self.pauses.has(|| PauseTarget::Elf(Arc::clone(name)));
        let elf = self.elves.insert(Elf { name: Arc::clone(name), is_paused, ..Elf::default() });
        self.by_name.insert(Arc::clone(name), elf);
        elf
    }

    /// What a job names, with one more user.
    pub(super) fn use_of(&mut self, head: &JobHead, judged: Judged, suspicion: Suspicion) -> Named {
        let elf = self.intern_elf(&head.elf);
        let task = self.use_task(elf, &head.task);
        let queue = self.use_queue(task, Kind { shape: head.shape.clone(), judged, suspicion });
        self.unuse_task(task);
        Named { queue, traits: self.traits.use_of(head) }
    }

    /// A job less that names this.
    pub(super) fn unuse(&mut self, named: Named) {
        self.unuse_queue(named.queue);
        self.traits.unuse(named.traits);
    }

    pub(crate) fn traits(&self) -> &TraitSets {
        &self.traits
    }

    pub(crate) fn traits_mut(&mut self) -> &mut TraitSets {
        &mut self.traits
    }

    /// The task's index, with one more user.
    fn use_task(&mut self, elf: ElfIdx, name: &Arc<str>) -> TaskIdx {
        let task = match self.elves[elf].tasks.get(name) {
            Some(&task) => task,
            None => {
                let of_elf = &self.elves[elf].name;
                let is_paused =
                    self.pauses.has(|| PauseTarget::Task { elf: Arc::clone(of_elf), task: Arc::clone(name) });
                let entry =
                    Task { elf, name: Arc::clone(name), queues: BTreeMap::new(), users: 0, is_paused };
                let task = self.tasks.insert(entry);
                self.elves[elf].tasks.insert(Arc::clone(name), task);
                task
            }
        };
        self.tasks[task].users += 1;
        task
    }

    /// One user less; the task goes with the last one, and its elf with its last task.
    fn unuse_task(&mut self, task: TaskIdx) {
        let entry = &mut self.tasks[task];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let elf = entry.elf;
        if let Some(entry) = self.tasks.remove(task) {
            self.elves[elf].tasks.remove(&entry.name);
        }
        self.drop_elf_if_unused(elf);
    }

    /// A session offers an elf, or holds jobs of it.
    pub(crate) fn add_session(&mut self, elf: ElfIdx, id: SessionId, session: SessionIdx) {
        self.elves[elf].sessions.insert(id, session);
    }

    /// A session neither offers an elf any more nor holds jobs of it.
    pub(crate) fn remove_session(&mut self, elf: ElfIdx, id: SessionId) {
        self.elves[elf].sessions.remove(&id);
        self.drop_elf_if_unused(elf);
    }

    /// Forgets an elf that neither has tasks nor sessions.
    fn drop_elf_if_unused(&mut self, elf: ElfIdx) {
        let entry = &self.elves[elf];
        if entry.tasks.is_empty()
            && entry.sessions.is_empty()
            && let Some(entry) = self.elves.remove(elf)
        {
            self.by_name.remove(&entry.name);
            self.to_place.remove(&elf);
            self.to_recall.remove(&elf);
        }
    }

    /// The elf of the jobs of a queue.
    pub(super) fn elf_of(&mut self, queue: QueueIdx) -> &mut Elf {
        &mut self.elves[self.tasks[self.queues[queue].task].elf]
    }

    /// What a session has free for an elf has changed.
    pub(crate) fn set_free_slot(&mut self, elf: ElfIdx, before: Option<FreeSlot>, now: Option<FreeSlot>) {
        let entry = &mut self.elves[elf];
        if let Some(before) = before {
            entry.free_slots.remove(&before);
        }
        if let Some(now) = now {
            entry.free_slots.insert(now);
            if entry.declarations.values().any(|&index| !self.declarations[index].heads.is_empty()) {
                self.to_place.insert(elf);
            }
        }
    }

    /// What can be recalled of a session for an elf has changed.
    pub(crate) fn set_laden(&mut self, elf: ElfIdx, before: Option<Laden>, now: Option<Laden>) {
        let entry = &mut self.elves[elf];
        if before != now {
            if let Some(before) = before {
                entry.laden.remove(&before);
            }
            entry.laden.extend(now);
        }
        if !entry.laden.is_empty() {
            self.to_recall.insert(elf);
        }
    }

    /// Something can be recalled now that could not before.
    pub(crate) fn look_to_recall(&mut self, elf: ElfIdx) {
        if !self.elves[elf].laden.is_empty() {
            self.to_recall.insert(elf);
        }
    }

    /// An attempt is recalled, or is no longer.
    pub(crate) fn count_recalled(&mut self, elf: ElfIdx, is_recalled: bool) {
        let recalled = &mut self.elves[elf].recalled;
        *recalled = *recalled - u32::from(!is_recalled) + u32::from(is_recalled);
    }

    /// Takes out an elf of which something may have to be recalled.
    pub(crate) fn pop_to_recall(&mut self) -> Option<ElfIdx> {
        self.to_recall.pop_first()
    }

    /// Takes out an elf for which there may be both a job and a free slot.
    pub(crate) fn pop_to_place(&mut self) -> Option<ElfIdx> {
        self.to_place.pop_first()
    }

    /// Looks at an elf once more, in this batch or the next.
    pub(crate) fn keep_to_place(&mut self, elf: ElfIdx) {
        self.to_place.insert(elf);
    }

    /// Whether there may be something to place. While the mycelium is paused there is not.
    pub(crate) fn has_to_place(&self) -> bool {
        !self.to_place.is_empty() && !self.pauses.has_all()
    }

    /// Whether an elf is yet to be looked at.
    pub(crate) fn is_to_place(&self, elf: ElfIdx) -> bool {
        self.to_place.contains(&elf)
    }

    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let (elves, by_name) = (self.elves.len(), self.by_name.len());
        check(elves == by_name, "every elf is found by its name", || format!("{by_name} of {elves}"))
    }

    pub(crate) fn elves(&self) -> impl Iterator<Item = (ElfIdx, &Elf)> {
        self.elves.iter()
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = (TaskIdx, &Task)> {
        self.tasks.iter()
    }
}
