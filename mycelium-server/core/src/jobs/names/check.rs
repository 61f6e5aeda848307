//! Checks queues and declarations against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::Names;
use crate::index::{DeclarationIdx, QueueIdx, TaskIdx};
use crate::invariants::{InvariantViolation, check};

impl Names {
    /// Checks everything, between two batches, with the number of jobs that each queue has.
    pub(in crate::jobs) fn check(
        &self,
        mut users: BTreeMap<QueueIdx, u64>,
    ) -> Result<(), InvariantViolation> {
        let mut of_tasks: BTreeMap<TaskIdx, u64> = BTreeMap::new();
        let mut heads: BTreeMap<DeclarationIdx, BTreeSet<_>> = BTreeMap::new();
        for (index, queue) in self.queues() {
            *of_tasks.entry(queue.task).or_default() += 1;
            let counted = users.remove(&index).unwrap_or_default();
            check(queue.users == counted && counted > 0, "queues count their users", || {
                format!("{index:?}: counted {counted}, kept {}", queue.users)
            })?;
            let task = self.task(queue.task);
            let is_found = task.queues.get(&queue.kind) == Some(&index);
            check(is_found, "queues are found by what they are for", || format!("{:?}", queue.kind))?;
            let takes = |(_, taker): &(_, &super::Declaration)| taker.takes(queue.task, &queue.kind);
            let takers: BTreeSet<_> = self.declarations().filter(takes).map(|(taker, _)| taker).collect();
            let kept: BTreeSet<_> = queue.takers.iter().copied().collect();
            let holds = takers == kept && kept.len() == queue.takers.len();
            check(holds, "queues know who takes their jobs", || format!("{index:?}: {takers:?} {kept:?}"))?;
            if let Some(&(rank, _)) = queue.ready.first().filter(|_| !task.is_paused) {
                takers.into_iter().for_each(|taker| {
                    heads.entry(taker).or_default().insert((rank, index));
                });
            }
        }
        check(users.is_empty(), "the queue of every job is kept", || format!("{users:?}"))?;
        for (index, declaration) in self.declarations() {
            declaration.tasks.keys().for_each(|task| *of_tasks.entry(*task).or_default() += 1);
            let taken = heads.remove(&index).unwrap_or_default();
            check(taken == declaration.heads, "declarations know the heads of what they take", || {
                format!("{index:?}: {taken:?} {:?}", declaration.heads)
            })?;
            let is_found = self.elf(declaration.elf).declarations.get(&declaration.key()) == Some(&index);
            check(is_found, "declarations are found by what they say", || format!("{index:?}"))?;
        }
        for (index, task) in self.tasks() {
            let counted = of_tasks.remove(&index).unwrap_or_default();
            check(task.users == counted && counted > 0, "tasks count their users", || {
                format!("{}: counted {counted}, kept {}", task.name, task.users)
            })?;
        }
        check(of_tasks.is_empty(), "the task of every queue is kept", || format!("{of_tasks:?}"))
    }
}
