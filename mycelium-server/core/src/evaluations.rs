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

use crate::ids::EvaluationNumber;
use crate::index::{FlowIdx, Slot};
use crate::invariants::{InvariantViolation, check};
use crate::jobs::{Edge, State};

/// Evaluations that wait: those of each flow in the order they came up, and the flows in turn, so that one with many
/// does not hold up the others. Some may be over already.
#[derive(Debug, Default)]
struct Waiting {
    by_flow: BTreeMap<FlowIdx, VecDeque<(Slot, EvaluationNumber)>>,
    /// The flows that have some, each once; the first is next.
    turns: VecDeque<FlowIdx>,
}

impl Waiting {
    fn push(&mut self, flow: FlowIdx, slot: Slot, number: EvaluationNumber) {
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

    fn iter(&self) -> impl Iterator<Item = (Slot, EvaluationNumber)> {
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

/// The evaluations that wait, and those in the shell's hands; and the lists that they came to.
#[derive(Debug, Default)]
pub(crate) struct Evaluations {
    waiting: Waiting,
    /// Handed out and not answered, whether or not they still matter.
    handed_out: BTreeSet<EvaluationNumber>,
    last: EvaluationNumber,
    /// The expansions under way, by the job that has the list.
    expansions: BTreeMap<Slot, Expansion>,
}

impl Evaluations {
    /// None yet; they are numbered on from `last`.
    pub(crate) fn after(last: EvaluationNumber) -> Self {
        Self { last, ..Self::default() }
    }

    /// The newest number.
    pub(crate) fn last(&self) -> EvaluationNumber {
        self.last
    }

    /// Begins an evaluation of a job of `flow`, and gives the state it is in from now on.
    pub(crate) fn begin(&mut self, flow: FlowIdx, slot: Slot) -> State {
        let number = EvaluationNumber(self.last.0 + 1);
        self.last = number;
        self.waiting.push(flow, slot, number);
        State::Evaluating { number }
    }

    /// Whether some wait that may be handed out, if `max` may be in the shell's hands.
    pub(crate) fn may_hand_out(&self, max: usize) -> bool {
        !self.waiting.turns.is_empty() && self.handed_out.len() < max
    }

    /// The next that may be handed out, if `max` may be in the shell's hands. It may be over already.
    pub(crate) fn next(&mut self, max: usize) -> Option<(Slot, EvaluationNumber)> {
        if self.handed_out.len() < max { self.waiting.pop() } else { None }
    }

    /// It is in the shell's hands.
    pub(crate) fn hand_out(&mut self, number: EvaluationNumber) {
        self.handed_out.insert(number);
    }

    /// It has been answered.
    pub(crate) fn answered(&mut self, number: EvaluationNumber) {
        self.handed_out.remove(&number);
    }

    /// Checks what takes no time to check, if `max` may be in the shell's hands.
    pub(crate) fn check_totals(&self, max: usize) -> Result<(), InvariantViolation> {
        let handed_out = self.handed_out.len();
        check(handed_out <= max, "evaluations are bounded", || format!("{handed_out} of {max}"))?;
        let (turns, by_flow) = (self.waiting.turns.len(), self.waiting.by_flow.len());
        check(turns == by_flow, "every flow with evaluations has its turn", || {
            format!("{turns} of {by_flow}")
        })
    }

    /// The numbers in the shell's hands.
    pub(crate) fn handed_out(&self) -> &BTreeSet<EvaluationNumber> {
        &self.handed_out
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Slot, EvaluationNumber)> {
        self.waiting.iter()
    }

    /// The expansion of a job that has a list.
    pub(crate) fn expansion(&self, slot: Slot) -> Option<&Expansion> {
        self.expansions.get(&slot)
    }

    /// The expansion of a job that has a list, for what changes of it.
    pub(crate) fn expansion_mut(&mut self, slot: Slot) -> Option<&mut Expansion> {
        self.expansions.get_mut(&slot)
    }

    /// The expansion of a job that has a list; it begins if it has not.
    pub(crate) fn expand(&mut self, slot: Slot) -> &mut Expansion {
        self.expansions.entry(slot).or_default()
    }

    /// The job that has the list has ended.
    pub(crate) fn remove_expansion(&mut self, slot: Slot) -> Option<Expansion> {
        self.expansions.remove(&slot)
    }

    /// All expansions.
    pub(crate) fn expansions(&self) -> impl Iterator<Item = (Slot, &Expansion)> {
        self.expansions.iter().map(|(&slot, expansion)| (slot, expansion))
    }
}
