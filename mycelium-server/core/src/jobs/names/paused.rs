//! Elves and tasks that are paused.

use std::sync::Arc;

use super::Names;
use crate::index::QueueIdx;
use crate::pauses::Pauses;

impl Names {
    pub(in crate::jobs) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    pub(in crate::jobs) fn pauses_mut(&mut self) -> &mut Pauses {
        &mut self.pauses
    }

    /// An elf was paused or resumed.
    pub(in crate::jobs) fn set_elf_paused(&mut self, elf: &str, is_paused: bool) {
        let Some(elf) = self.find_elf(elf) else { return };
        self.elves[elf].is_paused = is_paused;
        if !is_paused {
            self.to_place.insert(elf);
        }
    }

    /// A task was paused or resumed: its queues leave what declarations could take next, or come back.
    pub(in crate::jobs) fn set_task_paused(&mut self, elf: &str, task: &Arc<str>, is_paused: bool) {
        let Some(elf) = self.find_elf(elf) else { return };
        let Some(&task) = self.elves[elf].tasks.get(task) else { return };
        self.tasks[task].is_paused = is_paused;
        let queues: Vec<QueueIdx> = self.tasks[task].queues.values().copied().collect();
        for queue in queues {
            let entry = &self.queues[queue];
            let Some(&(rank, _)) = entry.ready.first() else { continue };
            for &taker in &entry.takers {
                let heads = &mut self.declarations[taker].heads;
                match is_paused {
                    true => heads.remove(&(rank, queue)),
                    false => heads.insert((rank, queue)),
                };
            }
        }
        // What stands behind a paused job may go where that was not to wait.
        self.to_place.insert(elf);
    }
}
