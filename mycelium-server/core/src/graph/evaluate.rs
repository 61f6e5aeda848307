//! Evaluations of jobs, and the jobs for the elements of their lists.

use crate::command::{Elements, Evaluated, EvaluationResult};
use crate::effects::{Effects, End, Evaluation, EvaluationWhat, FailedBy, Refusal};
use crate::graph::Graph;
use crate::ids::{Clocks, JobId};
use crate::index::Slot;
use crate::jobs::{Ending, State};
use crate::preconditions::Finished;

impl Graph<'_> {
    /// Begins to evaluate a job that is pending in one way or another: nothing that is counted changes.
    pub(super) fn evaluate(&mut self, slot: Slot) {
        let state = self.evaluations.begin(self.jobs[slot].flow, slot);
        self.jobs.set_detail(slot, state);
    }

    /// Hands out evaluations, as many as may be in the shell's hands.
    pub(crate) fn hand_out_evaluations(&mut self, effects: &mut Effects) {
        while let Some((slot, number)) = self.evaluations.next(self.config.evaluations_max()) {
            let job = &self.jobs[slot];
            if job.state != (State::Evaluating { number }) {
                continue;
            }
            let elements = self.evaluations.expansion(slot).and_then(|expansion| expansion.elements);
            let what =
                elements.map_or(EvaluationWhat::Decide, |elements| EvaluationWhat::Gather { elements });
            let flow = self.jobs.flow_of(job).id;
            effects.evaluations.push(Evaluation { job: job.id, flow, number, what });
            self.evaluations.hand_out(number);
        }
    }

    pub(crate) fn on_evaluated(&mut self, now: Clocks, evaluated: &[Evaluated]) {
        for Evaluated { job, number, result } in evaluated {
            self.evaluations.answered(*number);
            if let Some(slot) = self.jobs.find(job)
                && self.jobs[slot].state == (State::Evaluating { number: *number })
            {
                self.go_on_evaluated(now, slot, *result);
            }
        }
    }

    fn go_on_evaluated(&mut self, now: Clocks, slot: Slot, result: EvaluationResult) {
        let end = match result {
            EvaluationResult::Run => {
                let ready = self.ready(slot);
                return self.jobs.set_state(slot, ready);
            }
            EvaluationResult::Again => return self.evaluate(slot),
            EvaluationResult::Expanded { elements } => return self.expanded(slot, elements),
            EvaluationResult::Skip => End::Skipped,
            EvaluationResult::Failed(failure) => End::Failed(FailedBy::Reported(failure)),
            EvaluationResult::Gathered(outputs) => End::Done(outputs),
        };
        self.finish(now, slot, Ending::unreported(end, None));
    }

    fn expanded(&mut self, slot: Slot, elements: u32) {
        let is_cancelling = self.is_cancelling_elements(slot);
        let expansion = self.evaluations.expand(slot);
        // If not all that were said to be submitted are linked, nothing is known of the others.
        if is_cancelling || expansion.linked != elements {
            return self.evaluate(slot);
        }
        expansion.elements = Some(elements);
        if expansion.unfinished == 0 {
            self.evaluate(slot);
        } else {
            self.jobs.set_detail(slot, State::Gathering);
        }
    }

    /// Whether jobs may be submitted as these elements.
    pub(crate) fn check_elements(&self, elements: Elements) -> Result<(), Refusal> {
        let over = Refusal::EvaluationOver(elements.of);
        let Some(slot) = self.jobs.find(&elements.of) else { return Err(over) };
        let job = &self.jobs[slot];
        let is_under_way = job.state == (State::Evaluating { number: elements.number });
        let linked = self.evaluations.expansion(slot).map_or(0, |expansion| expansion.linked);
        let is_closed = self.evaluations.expansion(slot).is_some_and(|expansion| expansion.is_closed);
        let is_cancelling = self.jobs.is_cancelling(job);
        if !is_under_way || is_closed || is_cancelling || elements.first > linked {
            return Err(over);
        }
        Ok(())
    }

    /// Makes the job that has the list wait for the jobs of its elements, all of which have been taken in, or were
    /// there.
    pub(crate) fn link_elements(&mut self, elements: Elements, jobs: &[JobId], finished: &Finished) {
        let Some(of) = self.jobs.find(&elements.of) else { return };
        for (index, id) in (elements.first..).zip(jobs) {
            let expansion = self.evaluations.expand(of);
            // It was linked in an earlier try of the same evaluation.
            if index < expansion.linked {
                continue;
            }
            expansion.linked += 1;
            if let Some(slot) = self.jobs.find(id) {
                expansion.unfinished += 1;
                expansion.jobs.push(self.jobs.edge_to(slot));
                self.jobs.add_dependent(slot, of);
                continue;
            }
            let ended = match self.jobs.recents().get(id) {
                Some(recent) => Some((recent.status, recent.cause)),
                None => finished.find(id).map(|known| (known.status, *id)),
            };
            if let Some((status, cause)) = ended
                && !status.lets_dependents_go_on()
            {
                expansion.unfinished += 1;
                expansion.is_closed = true;
                let cause = self.jobs.cause_to_name(*id, cause);
                self.propagation.begin(*id, cause, vec![self.jobs.edge_to(of)]);
                return;
            }
        }
    }

    /// One of the jobs of a list's elements has ended, and the job that has the list goes on.
    pub(crate) fn element_ended(&mut self, slot: Slot) {
        let Some(expansion) = self.evaluations.expansion_mut(slot) else { return };
        expansion.unfinished = expansion.unfinished.saturating_sub(1);
        let is_last = expansion.unfinished == 0 && self.jobs[slot].state == State::Gathering;
        // Elements that are cancelled are nothing to gather.
        if is_last && !self.is_cancelling_elements(slot) {
            self.evaluate(slot);
        }
    }

    /// Whether the jobs of the elements are being cancelled, and the job that has the list after them.
    pub(crate) fn is_cancelling_elements(&self, slot: Slot) -> bool {
        let job = &self.jobs[slot];
        self.evaluations
            .expansion(slot)
            .is_some_and(|expansion| expansion.is_cancelling || self.jobs.is_cancelling(job))
    }

    /// Takes out one of the jobs of the elements that is unfinished.
    pub(crate) fn pop_unfinished_element(&mut self, slot: Slot) -> Option<Slot> {
        let expansion = self.evaluations.expansion_mut(slot)?;
        while let Some(edge) = expansion.jobs.pop() {
            if self.jobs.follow(edge).is_some() {
                return Some(edge.slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
