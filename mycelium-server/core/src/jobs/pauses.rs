//! Which jobs are paused: elves, tasks and flows in memory know it of themselves, so that nobody has to look it up.

use std::sync::Arc;

use super::{Job, Jobs};
use crate::ids::FlowId;
use crate::image::{PauseRecord, PauseTarget};
use crate::index::FlowIdx;
use crate::invariants::{InvariantViolation, check};
use crate::pauses::Pauses;

impl Jobs {
    pub(crate) fn pauses(&self) -> &Pauses {
        self.names.pauses()
    }

    pub(crate) fn pauses_mut(&mut self) -> &mut Pauses {
        self.names.pauses_mut()
    }

    /// Takes in a pause as the store has it.
    pub(crate) fn restore_pause(&mut self, record: PauseRecord) {
        let target = record.target.clone();
        self.pauses_mut().restore(record);
        self.mark(&target, true);
    }

    pub(crate) fn begin_pause(&mut self, record: PauseRecord) {
        let target = record.target.clone();
        self.pauses_mut().begin(record);
        self.mark(&target, true);
    }

    /// Returns the pause, if there was one.
    pub(crate) fn end_pause(&mut self, target: &PauseTarget) -> Option<PauseRecord> {
        let record = self.pauses_mut().end(target)?;
        self.mark(target, false);
        Some(record)
    }

    fn mark(&mut self, target: &PauseTarget, is_paused: bool) {
        match target {
            // What is to be placed is kept until it is resumed.
            PauseTarget::Mycelium => {}
            PauseTarget::Elf(elf) => self.names.set_elf_paused(elf, is_paused),
            PauseTarget::Task { elf, task } => self.names.set_task_paused(elf, task, is_paused),
            PauseTarget::Flow(flow) => {
                if let Some(flow) = self.find_flow(*flow) {
                    self.flows.get_mut(flow).is_paused = is_paused;
                }
            }
        }
    }

    /// A flow has been taken in.
    pub(super) fn mark_flow(&mut self, flow: FlowIdx, id: FlowId) -> FlowIdx {
        self.flows.get_mut(flow).is_paused = self.pauses().has(|| PauseTarget::Flow(id));
        flow
    }

    /// Whether a job is not to be assigned, because somebody has paused it.
    pub(crate) fn is_paused(&self, job: &Job) -> bool {
        if self.pauses().is_empty() {
            return false;
        }
        let task = self.task_of(job);
        let names = task.is_paused || self.elf(task.elf).is_paused || self.pauses().has_all();
        names || self.flow_of(job).is_paused
    }

    /// Whether a job whose turn it is leaves its queue instead: it will be cancelled with its flow, or that is paused.
    pub(crate) fn is_held_back(&self, job: &Job) -> bool {
        let flow = self.flow_of(job);
        flow.is_paused || flow.is_cancelling(job.number)
    }

    /// The pauses that keep a job from being assigned.
    pub(crate) fn pauses_of(&self, job: &Job) -> Vec<PauseRecord> {
        let task = self.task_of(job);
        let elf = &self.elf(task.elf).name;
        let targets = [
            PauseTarget::Mycelium,
            PauseTarget::Elf(Arc::clone(elf)),
            PauseTarget::Task { elf: Arc::clone(elf), task: Arc::clone(&task.name) },
            PauseTarget::Flow(self.flow_of(job).id),
        ];
        targets.iter().filter_map(|target| self.pauses().get(target).cloned()).collect()
    }

    /// Elves, tasks and flows know whether they are paused.
    pub(super) fn check_pauses(&self) -> Result<(), InvariantViolation> {
        let pauses = self.pauses();
        let is_known = |is_paused: bool, target: PauseTarget| {
            check(is_paused == pauses.get(&target).is_some(), "what is paused knows it", || {
                format!("{target:?}")
            })
        };
        for (_, elf) in self.names.elves() {
            is_known(elf.is_paused, PauseTarget::Elf(Arc::clone(&elf.name)))?;
        }
        for (_, task) in self.names.tasks() {
            let elf = Arc::clone(&self.elf(task.elf).name);
            is_known(task.is_paused, PauseTarget::Task { elf, task: Arc::clone(&task.name) })?;
        }
        for (_, flow) in self.flows.iter() {
            is_known(flow.is_paused, PauseTarget::Flow(flow.id))?;
        }
        Ok(())
    }
}
