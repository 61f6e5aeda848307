//! The queues of ready jobs: one for each kind of jobs of a task, so that one that nobody takes holds nobody up.

use std::collections::{BTreeMap, BTreeSet};

use super::Names;
use crate::index::{DeclarationIdx, QueueIdx, TaskIdx};
use crate::jobs::slab::Place;
use crate::signature::{Judged, Shape};
use crate::suspicion::Suspicion;

/// What tells which declarations take a job of a task, and beside what it may run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) shape: Shape,
    pub(crate) judged: Judged,
    pub(crate) suspicion: Suspicion,
}

/// The ready ones of the jobs of one kind, for as long as there is an unfinished one of it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) task: TaskIdx,
    pub(crate) kind: Kind,
    pub(crate) ready: BTreeSet<Place>,
    /// The declarations that take its jobs: found out once for each, and not with every job.
    pub(crate) takers: Vec<DeclarationIdx>,
    /// How many unfinished jobs are of this kind.
    pub(crate) users: u64,
}

impl Names {
    pub(crate) fn queue(&self, queue: QueueIdx) -> &Queue {
        &self.queues[queue]
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = (QueueIdx, &Queue)> {
        self.queues.iter()
    }

    /// The queue of a kind of jobs, with one more user.
    pub(super) fn use_queue(&mut self, task: TaskIdx, kind: Kind) -> QueueIdx {
        if let Some(&queue) = self.tasks[task].queues.get(&kind) {
            self.queues[queue].users += 1;
            return queue;
        }
        let of_elf = self.elves[self.tasks[task].elf].declarations.values();
        let takers = of_elf.filter(|index| self.declarations[**index].takes(task, &kind)).copied().collect();
        let entry = Queue { task, kind: kind.clone(), ready: BTreeSet::new(), takers, users: 1 };
        let queue = self.queues.insert(entry);
        let task = &mut self.tasks[task];
        task.queues.insert(kind, queue);
        task.users += 1;
        queue
    }

    /// One user less; the queue, which is empty then, goes with the last one, and its task with its last queue.
    pub(in crate::jobs) fn unuse_queue(&mut self, queue: QueueIdx) {
        let entry = &mut self.queues[queue];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if let Some(entry) = self.queues.remove(queue) {
            self.tasks[entry.task].queues.remove(&entry.kind);
            self.unuse_task(entry.task);
        }
    }

    /// The queue to which a job of this one goes whose arguments a declaration has turned down, with one more user; `None` if
    /// no further signature can be remembered.
    pub(crate) fn use_queue_without(
        &mut self,
        queue: QueueIdx,
        declaration: DeclarationIdx,
    ) -> Option<QueueIdx> {
        let Queue { task, kind, .. } = &self.queues[queue];
        let (task, refused) = (*task, self.declarations[declaration].signature(*task)?.id());
        let others = kind.judged.iter().filter(|(id, _)| *id != refused);
        let mut judged: BTreeMap<_, _> = others.collect();
        if judged.len() >= Judged::MAX {
            // What nobody declares any more is not asked again either.
            let elf = &self.elves[self.tasks[task].elf];
            let declared: BTreeSet<_> = elf.declarations.keys().flatten().map(|(_, id)| *id).collect();
            judged.retain(|id, _| declared.contains(id));
        }
        if judged.len() >= Judged::MAX {
            return None;
        }
        judged.insert(refused, false);
        let kind = Kind { judged: Judged::by(judged), ..kind.clone() };
        Some(self.use_queue(task, kind))
    }

    /// The queue to which a job of this one goes that is under such a suspicion, with one more user.
    pub(in crate::jobs) fn use_queue_under(&mut self, queue: QueueIdx, suspicion: Suspicion) -> QueueIdx {
        let Queue { task, kind, .. } = &self.queues[queue];
        let kind = Kind { suspicion, ..kind.clone() };
        self.use_queue(*task, kind)
    }

    /// Puts a job into its queue.
    pub(in crate::jobs) fn enqueue(&mut self, queue: QueueIdx, place: Place) {
        let entry = &mut self.queues[queue];
        let head_before = entry.ready.first().copied();
        entry.ready.insert(place);
        let task = &self.tasks[entry.task];
        if head_before.is_none_or(|head| place < head) && !task.is_paused {
            for &taker in &entry.takers {
                let heads = &mut self.declarations[taker].heads;
                if let Some((rank, _)) = head_before {
                    heads.remove(&(rank, queue));
                }
                heads.insert((place.0, queue));
            }
        }
        let elf = task.elf;
        if !self.elves[elf].laden.is_empty() {
            self.to_recall.insert(elf);
        }
        if !entry.takers.is_empty() && !self.elves[elf].free_slots.is_empty() {
            self.to_place.insert(elf);
        }
    }

    /// Takes a job out of its queue.
    pub(in crate::jobs) fn dequeue(&mut self, queue: QueueIdx, place: Place) {
        let entry = &mut self.queues[queue];
        let was_head = entry.ready.first() == Some(&place);
        entry.ready.remove(&place);
        if was_head && !self.tasks[entry.task].is_paused {
            let next = entry.ready.first().map(|(rank, _)| *rank);
            for &taker in &entry.takers {
                let heads = &mut self.declarations[taker].heads;
                heads.remove(&(place.0, queue));
                heads.extend(next.map(|rank| (rank, queue)));
            }
        }
    }
}
