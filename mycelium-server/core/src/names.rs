//! Elves and tasks: their names, their queues, and the instances that have room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::arena::Arena;
use crate::ids::{JobNumber, SessionId};
use crate::image::JobHead;
use crate::slab::Slot;

/// A place in a queue: highest priority first, then earliest submitted.
pub(crate) type Place = (Reverse<i32>, JobNumber, Slot);

/// A session with room for one more job of an elf: the one that holds fewest first, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Room {
    pub(crate) held: u32,
    pub(crate) id: SessionId,
    pub(crate) session: u32,
}

/// A task of an elf, for as long as a job or a session names it.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) elf: u32,
    pub(crate) name: Arc<str>,
    pub(crate) queue: BTreeSet<Place>,
    /// How many unfinished jobs and offers name it.
    pub(crate) users: u64,
}

/// An elf, for as long as it has a task or a session names it.
#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) name: Arc<str>,
    pub(crate) tasks: BTreeMap<Arc<str>, u32>,
    /// The first of each task's queue, with the task: what an instance could take next is found here without
    /// looking at every task.
    pub(crate) heads: BTreeSet<(Reverse<i32>, JobNumber, u32)>,
    /// The sessions that could take a job now.
    pub(crate) rooms: BTreeSet<Room>,
    /// All sessions that offer it or hold jobs of it.
    pub(crate) sessions: BTreeMap<SessionId, u32>,
    pub(crate) ready: u64,
    pub(crate) running: u64,
}

/// All names in use.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) elves: Arena<Elf>,
    pub(crate) tasks: Arena<Task>,
    by_name: BTreeMap<Arc<str>, u32>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { elves: Arena::new(), tasks: Arena::new(), by_name: BTreeMap::new() }
    }

    pub(crate) fn find_elf(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The elf's index; it is made if it is not there, and then must be used before the next
    /// [`drop_elf_if_unused`](Self::drop_elf_if_unused).
    pub(crate) fn intern_elf(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&elf) = self.by_name.get(name) {
            return elf;
        }
        let elf = self.elves.insert(Elf {
            name: Arc::clone(name),
            tasks: BTreeMap::new(),
            heads: BTreeSet::new(),
            rooms: BTreeSet::new(),
            sessions: BTreeMap::new(),
            ready: 0,
            running: 0,
        });
        self.by_name.insert(Arc::clone(name), elf);
        elf
    }

    /// The index of the task of a job, with one more user.
    pub(crate) fn use_task_of(&mut self, head: &JobHead) -> u32 {
        let elf = self.intern_elf(&head.elf);
        self.use_task(elf, &head.task)
    }

    /// The task's index, with one more user.
    pub(crate) fn use_task(&mut self, elf: u32, name: &Arc<str>) -> u32 {
        let task = match self.elves[elf].tasks.get(name) {
            Some(&task) => task,
            None => {
                let entry = Task { elf, name: Arc::clone(name), queue: BTreeSet::new(), users: 0 };
                let task = self.tasks.insert(entry);
                self.elves[elf].tasks.insert(Arc::clone(name), task);
                task
            }
        };
        self.tasks[task].users += 1;
        task
    }

    /// One user less; the task goes with the last one, and its elf with its last task.
    pub(crate) fn unuse_task(&mut self, task: u32) {
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

    /// Forgets an elf that neither has tasks nor sessions.
    pub(crate) fn drop_elf_if_unused(&mut self, elf: u32) {
        let entry = &self.elves[elf];
        if entry.tasks.is_empty()
            && entry.sessions.is_empty()
            && let Some(entry) = self.elves.remove(elf)
        {
            self.by_name.remove(&entry.name);
        }
    }

    pub(crate) fn elf_of(&self, task: u32) -> u32 {
        self.tasks[task].elf
    }

    /// Puts a job into its task's queue. Says whether it might be taken at once.
    pub(crate) fn enqueue(&mut self, task: u32, place: Place) -> bool {
        let entry = &mut self.tasks[task];
        let elf = &mut self.elves[entry.elf];
        let head_before = entry.queue.first().copied();
        entry.queue.insert(place);
        if head_before.is_none_or(|head| place < head) {
            if let Some((priority, number, _)) = head_before {
                elf.heads.remove(&(priority, number, task));
            }
            elf.heads.insert((place.0, place.1, task));
        }
        !elf.rooms.is_empty()
    }

    /// Takes a job out of its task's queue.
    pub(crate) fn dequeue(&mut self, task: u32, place: Place) {
        let entry = &mut self.tasks[task];
        let was_head = entry.queue.first() == Some(&place);
        entry.queue.remove(&place);
        if was_head {
            let elf = &mut self.elves[entry.elf];
            elf.heads.remove(&(place.0, place.1, task));
            if let Some(&(priority, number, _)) = entry.queue.first() {
                elf.heads.insert((priority, number, task));
            }
        }
    }
}
