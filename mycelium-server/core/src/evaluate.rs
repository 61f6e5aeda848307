//! What is computed before a job goes on: whether it runs at all, the jobs for the elements of a list, and the list of
//! what those returned.
//!
//! The shell computes, and answers with a command. An answer counts only while the job is still in that evaluation. Of
//! all this the store has no more than the flag `evaluate` of a job: what is evaluated is what has the flag and waits
//! for nothing more, and equal inputs give an equal result, so a core that is rebuilt begins each evaluation again.
//!
//! A job that was expanded over a list waits for the jobs of its elements like for others, by edges from them, but
//! their numbers are higher than its own, and what it stores does not name them. Its evaluation submits them again after a
//! restart or a retry, which creates none twice, and that links them again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::{Elements, Evaluated, EvaluationResult};
use crate::core::Core;
use crate::effects::{Effects, End, Evaluation, EvaluationWhat, FailedBy, Refusal};
use crate::ids::{Clocks, EvaluationNumber, JobId};
use crate::slab::{Edge, Slot, State};
use crate::submit::FinishedFacts;
use crate::transitions::Ending;

/// The evaluations that wait, and those in the shell's hands.
#[derive(Debug)]
pub(crate) struct Evaluations {
    pub(crate) waiting: Waiting,
    /// Handed out and not answered, whether or not they still matter.
    pub(crate) handed_out: BTreeSet<EvaluationNumber>,
    pub(crate) last: EvaluationNumber,
}

/// Evaluations that wait: those of each flow in the order they came up, and the flows in turn, so that one with many
/// does not hold up the others. Some may be over already.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_flow: BTreeMap<u32, VecDeque<(Slot, EvaluationNumber)>>,
    /// The flows that have some, each once; the first is next.
    turns: VecDeque<u32>,
}

impl Waiting {
    fn push(&mut self, flow: u32, slot: Slot, number: EvaluationNumber) {
        let of_flow = self.by_flow.entry(flow).or_default();
        if of_flow.is_empty() {
            self.turns.push_back(flow);
        }
        of_flow.push_back((slot, number));
    }

    fn pop(&mut self) -> Option<(Slot, EvaluationNumber)> {
        let flow = self.turns.pop_front()?;
        let of_flow = self.by_flow.get_mut(&flow)?;
        let next = of_flow.pop_front();
        if of_flow.is_empty() {
            self.by_flow.remove(&flow);
        } else {
            self.turns.push_back(flow);
        }
        next
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, EvaluationNumber)> {
        self.by_flow.values().flatten().copied()
    }
}

/// A job that is expanded over a list: the jobs of its elements, as far as they have been submitted.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    /// How many are linked, from the first.
    pub(crate) linked: u32,
    /// How many of those it still waits for.
    pub(crate) unfinished: u32,
    /// How many there are, once all have been submitted.
    pub(crate) elements: Option<u32>,
    /// Those that were unfinished when they were linked. Some may be over already.
    pub(crate) jobs: Vec<Edge>,
    /// No more are taken in: one did not end well, or they are being cancelled.
    pub(crate) is_closed: bool,
    /// They are being cancelled, and the job after them; that they do not end well is no reason for it to end.
    pub(crate) is_cancelling: bool,
}

/// The expansions under way, by the job that has the list.
pub(crate) type Expansions = BTreeMap<Slot, Expansion>;

impl Evaluations {
    pub(crate) fn after(last: EvaluationNumber) -> Self {
        Self { waiting: Waiting::default(), handed_out: BTreeSet::new(), last }
    }

    /// Begins an evaluation of the job in `slot`, of `flow`, and gives the state it is in from now on.
    fn begin(&mut self, flow: u32, slot: Slot) -> State {
        let number = EvaluationNumber(self.last.0 + 1);
        self.last = number;
        self.waiting.push(flow, slot, number);
        State::Evaluating { number }
    }
}

impl Core {
    /// The newest number of an evaluation. The core that takes this one's place is to begin after it
    /// ([`Config::evaluations_after`](crate::Config)).
    pub fn last_evaluation(&self) -> EvaluationNumber {
        self.evaluations.last
    }

    /// Where a job stands for which nothing is left to wait.
    pub(crate) fn waited(&mut self, slot: Slot) -> State {
        let job = &self.slab[slot];
        if job.evaluate { self.evaluations.begin(job.flow, slot) } else { State::Ready { queued: true } }
    }

    /// Begins to evaluate a job that is pending in one way or another: nothing that is counted changes.
    pub(crate) fn evaluate(&mut self, slot: Slot) {
        self.slab[slot].state = self.evaluations.begin(self.slab[slot].flow, slot);
    }

    /// Whether evaluations wait that may be handed out, as they do in a core that was just rebuilt.
    pub(crate) fn may_hand_out_evaluations(&self) -> bool {
        let Evaluations { waiting, handed_out, .. } = &self.evaluations;
        !waiting.turns.is_empty() && handed_out.len() < self.config.evaluations_max.max(1)
    }

    /// Hands out evaluations, as many as may be in the shell's hands.
    pub(crate) fn hand_out_evaluations(&mut self, effects: &mut Effects) {
        let max = self.config.evaluations_max.max(1);
        while self.evaluations.handed_out.len() < max
            && let Some((slot, number)) = self.evaluations.waiting.pop()
        {
            let job = &self.slab[slot];
            if job.state != (State::Evaluating { number }) {
                continue;
            }
            let elements = self.expansions.get(&slot).and_then(|expansion| expansion.elements);
            let what =
                elements.map_or(EvaluationWhat::Decide, |elements| EvaluationWhat::Gather { elements });
            let flow = self.flows.arena[job.flow].id;
            effects.evaluations.push(Evaluation { job: job.id, flow, number, what });
            self.evaluations.handed_out.insert(number);
        }
    }

    pub(crate) fn on_evaluated(&mut self, now: Clocks, evaluated: &[Evaluated]) {
        for Evaluated { job, number, result } in evaluated {
            self.evaluations.handed_out.remove(number);
            if let Some(slot) = self.slab.find(job)
                && self.slab[slot].state == (State::Evaluating { number: *number })
            {
                self.go_on_evaluated(now, slot, *result);
            }
        }
    }

    fn go_on_evaluated(&mut self, now: Clocks, slot: Slot, result: EvaluationResult) {
        let end = match result {
            EvaluationResult::Run => return self.set_state(slot, State::Ready { queued: true }),
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
        let expansion = self.expansions.entry(slot).or_default();
        // If not all that were said to be submitted are linked, nothing is known of the others.
        if is_cancelling || expansion.linked != elements {
            return self.evaluate(slot);
        }
        expansion.elements = Some(elements);
        if expansion.unfinished == 0 {
            self.evaluate(slot);
        } else {
            self.slab[slot].state = State::Gathering;
        }
    }

    /// Whether jobs may be submitted as these elements.
    pub(crate) fn check_elements(&self, elements: Elements) -> Result<(), Refusal> {
        let over = Refusal::EvaluationOver(elements.of);
        let Some(slot) = self.slab.find(&elements.of) else { return Err(over) };
        let job = &self.slab[slot];
        let is_under_way = job.state == (State::Evaluating { number: elements.number });
        let linked = self.expansions.get(&slot).map_or(0, |expansion| expansion.linked);
        let is_closed = self.expansions.get(&slot).is_some_and(|expansion| expansion.is_closed);
        let is_cancelling = self.flows.arena[job.flow].is_cancelling(job.number);
        if !is_under_way || is_closed || is_cancelling || elements.first > linked {
            return Err(over);
        }
        Ok(())
    }

    /// Makes the job that has the list wait for the jobs of its elements, all of which have been taken in, or were
    /// there.
    pub(crate) fn link_elements(&mut self, elements: Elements, jobs: &[JobId], facts: &FinishedFacts) {
        let Some(of) = self.slab.find(&elements.of) else { return };
        for (index, id) in (elements.first..).zip(jobs) {
            let expansion = self.expansions.entry(of).or_default();
            // It was linked in an earlier try of the same evaluation.
            if index < expansion.linked {
                continue;
            }
            expansion.linked += 1;
            if let Some(slot) = self.slab.find(id) {
                expansion.unfinished += 1;
                expansion.jobs.push(self.slab.edge_to(slot));
                self.slab.add_dependent(slot, of);
                continue;
            }
            let ended = match self.recents.get(id) {
                Some(recent) => Some((recent.status, recent.cause)),
                None => facts.find(id).map(|fact| (fact.status, *id)),
            };
            if let Some((status, cause)) = ended
                && !status.lets_dependents_go_on()
            {
                expansion.unfinished += 1;
                expansion.is_closed = true;
                let cause = self.cause_to_name(*id, cause);
                let edges = vec![self.slab.edge_to(of)];
                self.settle_dependents(*id, cause, edges);
                return;
            }
        }
    }

    /// One of the jobs of a list's elements has ended, and the job that has the list goes on.
    pub(crate) fn element_ended(&mut self, slot: Slot) {
        let Some(expansion) = self.expansions.get_mut(&slot) else { return };
        expansion.unfinished = expansion.unfinished.saturating_sub(1);
        let is_last = expansion.unfinished == 0 && self.slab[slot].state == State::Gathering;
        // Elements that are cancelled are nothing to gather.
        if is_last && !self.is_cancelling_elements(slot) {
            self.evaluate(slot);
        }
    }

    /// Whether the jobs of the elements are being cancelled, and the job that has the list after them.
    pub(crate) fn is_cancelling_elements(&self, slot: Slot) -> bool {
        let job = &self.slab[slot];
        self.expansions.get(&slot).is_some_and(|expansion| {
            expansion.is_cancelling || self.flows.arena[job.flow].is_cancelling(job.number)
        })
    }

    /// Takes out one of the jobs of the elements that is unfinished.
    pub(crate) fn pop_unfinished_element(&mut self, slot: Slot) -> Option<Slot> {
        let expansion = self.expansions.get_mut(&slot)?;
        while let Some(edge) = expansion.jobs.pop() {
            if self.slab.follow(edge).is_some() {
                return Some(edge.slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
