//! Ends the jobs that wait for one that ended otherwise than done or skipped.

use crate::effects::End;
use crate::graph::Graph;
use crate::ids::{Clocks, JobId};
use crate::index::Slot;
use crate::jobs::{Edge, Ending, State};
use crate::propagation::Step;

impl Graph<'_> {
    /// Goes on with the walks, as far as the budget allows.
    pub(crate) fn go_on_propagating(&mut self, now: Clocks, budget: &mut usize) {
        while *budget > 0 {
            let Some(step) = self.propagation.next() else { return };
            *budget -= 1;
            match step {
                Step::Visit { edge, from, failed, cause } => {
                    self.visit(edge, from.map_or(failed, |slot| self.jobs[slot].id), cause);
                }
                Step::Leave { job: Some(slot), cause } => {
                    self.finish(now, slot, Ending::unreported(End::UpstreamFailed(cause), None));
                }
                Step::Leave { job: None, .. } => {}
            }
        }
    }

    /// The walk comes to a job that depends on `failed`.
    fn visit(&mut self, edge: Edge, failed: JobId, cause: JobId) {
        let Some(job) = self.jobs.follow(edge) else { return };
        match job.state {
            // It is about to be cancelled itself, after the jobs of its elements.
            State::Evaluating { .. } | State::Gathering if self.is_cancelling_elements(edge.slot) => {
                self.element_ended(edge.slot);
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering => {
                self.jobs.set_state(edge.slot, State::UpstreamFailing);
                let edges = self.jobs.take_dependents(edge.slot);
                self.propagation.descend(edge.slot, edges);
            }
            State::Unsealed { .. } => self.propagation.await_seal(edge.slot, failed, cause),
            State::Vacant | State::UpstreamFailing | State::Ready { .. } | State::Running { .. } => {}
        }
    }

    /// The submission of a job is sealed: if it waits for one that did not end done, it fails now.
    pub(crate) fn propagate_to_sealed(&mut self, slot: Slot) {
        for (failed, cause) in self.propagation.take_unsealed(slot) {
            let cause = self.jobs.cause_to_name(failed, cause);
            self.propagation.begin(failed, cause, vec![self.jobs.edge_to(slot)]);
            self.propagation.close_piece(failed);
        }
    }

    /// A job vanishes with its submission.
    pub(crate) fn propagate_to_dropped(&mut self, slot: Slot) {
        for (failed, _) in self.propagation.take_unsealed(slot) {
            self.propagation.close_piece(failed);
        }
    }

    /// A job is brought back: unsealed jobs that were about to fail because of it wait for it again.
    pub(crate) fn link_unsealed_dependents(&mut self, slot: Slot) {
        for dependent in self.propagation.take_unsealed_dependents(self.jobs[slot].id) {
            self.jobs.add_dependent(slot, dependent);
        }
    }
}
