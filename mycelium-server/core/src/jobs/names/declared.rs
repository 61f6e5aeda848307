//! What elves are declared to take. Sessions that declare the same share it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Kind, Names};
use crate::command::TaskOffer;
use crate::ids::SignatureId;
use crate::index::{DeclarationIdx, ElfIdx, QueueIdx, TaskIdx};
use crate::jobs::Rank;
use crate::signature::Signature;

/// What an elf is declared to take, for as long as a session offers it so.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) elf: ElfIdx,
    pub(crate) tasks: BTreeMap<TaskIdx, Arc<Signature>>,
    /// The first of each queue whose jobs it takes, with the queue: what a session that declares this could take next is
    /// found here without looking at every queue.
    pub(crate) heads: BTreeSet<(Rank, QueueIdx)>,
    /// How many sessions offer the elf so.
    pub(crate) users: u64,
}

impl Declaration {
    /// What it says of a task.
    pub(crate) fn signature(&self, task: TaskIdx) -> Option<&Signature> {
        self.tasks.get(&task).map(Arc::as_ref)
    }

    /// Whether it takes jobs of this kind of the task.
    pub(crate) fn takes(&self, task: TaskIdx, kind: &Kind) -> bool {
        let Some(signature) = self.signature(task) else { return false };
        kind.judged.by_signature(signature.id()) != Some(false) && signature.takes(&kind.shape)
    }

    pub(super) fn key(&self) -> Vec<(TaskIdx, SignatureId)> {
        self.tasks.iter().map(|(task, signature)| (*task, signature.id())).collect()
    }
}

impl Names {
    pub(crate) fn declaration(&self, declaration: DeclarationIdx) -> &Declaration {
        &self.declarations[declaration]
    }

    pub(crate) fn declarations(&self) -> impl Iterator<Item = (DeclarationIdx, &Declaration)> {
        self.declarations.iter()
    }

    /// What these offers declare of an elf, with one more user; and the tasks, in the order of the offers.
    pub(crate) fn use_declaration(
        &mut self,
        elf: ElfIdx,
        offers: &[TaskOffer],
    ) -> (DeclarationIdx, Vec<TaskIdx>) {
        let indexes: Vec<TaskIdx> = offers.iter().map(|offer| self.use_task(elf, &offer.task)).collect();
        let signatures = offers.iter().map(|offer| Arc::clone(&offer.signature));
        let tasks = indexes.iter().copied().zip(signatures).collect();
        let entry = Declaration { elf, tasks, heads: BTreeSet::new(), users: 1 };
        let key = entry.key();
        let declaration = match self.elves[elf].declarations.get(&key) {
            Some(&declaration) => {
                self.declarations[declaration].users += 1;
                declaration
            }
            None => self.insert_declaration(entry),
        };
        // The declaration is a user of each of them.
        indexes.iter().for_each(|task| self.unuse_task(*task));
        (declaration, indexes)
    }

    fn insert_declaration(&mut self, mut entry: Declaration) -> DeclarationIdx {
        let (elf, key) = (entry.elf, entry.key());
        let mut taken = Vec::new();
        for &task in entry.tasks.keys() {
            self.tasks[task].users += 1;
            for (kind, &queue) in &self.tasks[task].queues {
                if entry.takes(task, kind) {
                    taken.push(queue);
                    let first = self.queues[queue].ready.first();
                    let first = first.filter(|_| !self.tasks[task].is_paused);
                    entry.heads.extend(first.map(|(rank, _)| (*rank, queue)));
                }
            }
        }
        let declaration = self.declarations.insert(entry);
        taken.into_iter().for_each(|queue| self.queues[queue].takers.push(declaration));
        self.elves[elf].declarations.insert(key, declaration);
        declaration
    }

    /// One user less; it goes with the last one.
    pub(crate) fn unuse_declaration(&mut self, declaration: DeclarationIdx) {
        let entry = &mut self.declarations[declaration];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let Some(entry) = self.declarations.remove(declaration) else { return };
        self.elves[entry.elf].declarations.remove(&entry.key());
        for &task in entry.tasks.keys() {
            let of_task: Vec<QueueIdx> = self.tasks[task].queues.values().copied().collect();
            for queue in of_task {
                self.queues[queue].takers.retain(|taker| *taker != declaration);
            }
            self.unuse_task(task);
        }
    }
}
