//! Operators pause and resume.

use std::sync::Arc;

use mycelium_core::command::{Command, Pause, Resume};
use mycelium_core::ids::{FlowId, JobId, RequestId};
use mycelium_core::image::{JobHead, PauseTarget};

use super::super::client::{ELVES, TASKS};
use super::super::oracle::Oracle;
use super::super::seen::Seen;
use super::{Event, SECOND, Waiting, World};

impl World {
    /// Something is paused for a while. Once faults are over, nothing is any more.
    pub(super) fn pause(&mut self) {
        if !self.has_faults {
            let paused: Vec<PauseTarget> = self.store.pauses.keys().cloned().collect();
            paused.into_iter().for_each(|target| self.resume(target));
            return self.after(2 * SECOND, Event::Pause);
        }
        let elf: Arc<str> = Arc::from(self.rng.pick(&ELVES).unwrap());
        let flows: Vec<FlowId> = self.store.flows.keys().copied().collect();
        let target = match (self.rng.below(8), self.rng.pick(&flows)) {
            (0, _) => PauseTarget::Mycelium,
            (1 | 2, _) => PauseTarget::Elf(elf),
            (3 | 4, _) => PauseTarget::Task { elf, task: Arc::from(self.rng.pick(&TASKS).unwrap()) },
            (_, Some(flow)) => PauseTarget::Flow(flow),
            (_, None) => return self.after(5 * SECOND, Event::Pause),
        };
        let pause = Command::Pause(Pause {
            request: self.operator_request(),
            target: target.clone(),
            by: Arc::from("operator"),
            reason: Arc::from(""),
            is_stored: true,
            as_of: self.store.counters.commit,
        });
        self.inbox.push_back(Waiting::Command(Box::new(pause)));
        self.see(Seen::Paused);
        self.after(self.length.apart(8 * SECOND), Event::Resume(target));
        self.after(self.length.apart(10 * SECOND), Event::Pause);
    }

    pub(super) fn resume(&mut self, target: PauseTarget) {
        let resume = Command::Resume(Resume { request: self.operator_request(), target });
        self.inbox.push_back(Waiting::Command(Box::new(resume)));
    }

    fn operator_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// What is paused by the end of the batch, or was at some moment of it.
    pub(super) fn was_paused(&self, job: JobId) -> bool {
        let head = self.store.live.get(&job).map(|live| &live.head);
        head.is_some_and(|head| targets(head).iter().any(|target| self.paused_lately.contains(target)))
    }

    /// Invariant: pauses are as durable as anything else.
    pub(super) fn pauses_hold(&self) {
        let stored: Vec<_> = self.store.pauses.values().cloned().collect();
        same!(RecordsFit, self.core.pauses(), stored, "what is paused");
    }
}

/// What may be paused so that a job is.
pub(super) fn targets(head: &JobHead) -> [PauseTarget; 4] {
    [
        PauseTarget::Mycelium,
        PauseTarget::Elf(Arc::clone(&head.elf)),
        PauseTarget::Task { elf: Arc::clone(&head.elf), task: Arc::clone(&head.task) },
        PauseTarget::Flow(head.flow),
    ]
}

impl Oracle {
    /// Invariant: what is paused is not assigned.
    pub(super) fn nothing_paused_is_assigned(store: &super::super::store::Store, job: JobId) {
        let head = &store.live[&job].head;
        let pause = targets(head).into_iter().find(|target| store.pauses.contains_key(target));
        same!(PausedWaits, pause, None, "job {job} is assigned");
    }
}
