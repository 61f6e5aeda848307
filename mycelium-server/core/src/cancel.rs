//! Cancelling: at once for the jobs named, in bounded pieces for a flow.
//!
//! Jobs go in descending order of their numbers. A job's number is higher than those of the jobs it depends on, so
//! dependents that are to be cancelled too are cancelled before, and do not end UPSTREAM_FAILED.

use crate::actions::Actions;
use crate::command::{ActionStep, Cancel, Preconditions, Scope};
use crate::effects::{Effects, End, Refusal, Reply};
use crate::graph::Graph;
use crate::ids::{Clocks, FlowId, JobId, JobNumber, RequestId};
use crate::index::Slot;
use crate::jobs::{Ending, State};
use crate::outbox::Outbox;
use crate::sessions::Sessions;
use crate::work::{Backlog, CancelExpanded, CancelFlow, Work};

/// Cancels jobs.
pub(crate) struct Cancelling<'a> {
    pub(crate) graph: Graph<'a>,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) work: &'a mut Backlog,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) actions: &'a mut Actions,
}

impl Cancelling<'_> {
    pub(crate) fn on_cancel(&mut self, now: Clocks, cancel: Cancel, effects: &mut Effects) {
        let Cancel { request, scope, preconditions, action } = cancel;
        let answer = match scope {
            Scope::Flow(flow) => self.begin_cancel_flow(request, flow, &preconditions),
            Scope::Jobs(jobs) => self.cancel_jobs(now, request, &jobs, &preconditions, action),
        };
        match answer {
            Ok(Some(reply)) => effects.replies.push((request, Ok(reply))),
            Ok(None) => {}
            Err(refusal) => effects.replies.push((request, Err(refusal))),
        }
    }

    /// `None`: the answer comes when the last job is cancelled.
    fn begin_cancel_flow(
        &mut self,
        request: RequestId,
        id: FlowId,
        preconditions: &Preconditions,
    ) -> Result<Option<Reply>, Refusal> {
        let Some(flow) = self.graph.jobs.find_flow(id) else {
            if self.graph.jobs.is_stale(preconditions.as_of) {
                return Err(Refusal::PreconditionsStale);
            }
            let record = preconditions.flow.as_ref().filter(|record| record.id == id);
            let record = record.ok_or(Refusal::FlowNotFound(id))?;
            let already_final = record.finished.total();
            return Ok(Some(Reply::Cancelled { cancelled: 0, already_final }));
        };
        let upto = self.graph.jobs.begin_cancelling(flow);
        let already_final = self.graph.jobs.flow(flow).finished.total();
        let cancel = CancelFlow { request, flow, upto, cancelled: 0, already_final };
        self.work.push(Work::CancelFlow(cancel));
        Ok(None)
    }

    fn cancel_jobs(
        &mut self,
        now: Clocks,
        request: RequestId,
        jobs: &[JobId],
        preconditions: &Preconditions,
        action: Option<ActionStep>,
    ) -> Result<Option<Reply>, Refusal> {
        if self.graph.jobs.is_stale(preconditions.as_of) {
            return Err(Refusal::PreconditionsStale);
        }
        let mut already_final = 0;
        let mut slots: Vec<(JobNumber, Slot)> = Vec::with_capacity(jobs.len());
        for id in jobs {
            match self.graph.jobs.find(id) {
                Some(slot) if self.graph.jobs[slot].status().is_some() => {
                    slots.push((self.graph.jobs[slot].number, slot));
                }
                Some(_) => return Err(Refusal::JobNotFound(*id)),
                None if self.is_finished(id, preconditions) => already_final += 1,
                None => return Err(Refusal::JobNotFound(*id)),
            }
        }
        slots.sort_unstable_by(|a, b| b.cmp(a));
        slots.dedup();
        let mut cancelled = 0;
        let mut is_propagating = false;
        let mut expanded = Vec::new();
        for (_, slot) in slots {
            if self.graph.jobs[slot].state == State::UpstreamFailing {
                // It is about to end UPSTREAM_FAILED: final, as far as anyone can tell once this is answered.
                already_final += 1;
                is_propagating = true;
            } else if let Some(expansion) = self.graph.evaluations.expansion_mut(slot) {
                expansion.is_closed = true;
                expansion.is_cancelling = true;
                expanded.push(self.graph.jobs.edge_to(slot));
            } else {
                self.cancel_job(now, slot);
                cancelled += 1;
            }
        }
        if !expanded.is_empty() {
            let cancel = CancelExpanded { request, jobs: expanded, cancelled, already_final, action };
            self.work.push(Work::CancelExpanded(cancel));
            return Ok(None);
        }
        self.actions.step(action, cancelled);
        let reply = Reply::Cancelled { cancelled, already_final };
        if is_propagating {
            self.work.push(Work::Reply { request, answer: Ok(reply) });
            return Ok(None);
        }
        Ok(Some(reply))
    }

    fn is_finished(&self, id: &JobId, preconditions: &Preconditions) -> bool {
        self.graph.jobs.recents().get(id).is_some()
            || preconditions.finished.iter().any(|known| known.id == *id)
    }

    /// Ends a job CANCELLED. If an instance holds it, it is told, and keeps the slot in its window until it has let go of
    /// it.
    fn cancel_job(&mut self, now: Clocks, slot: Slot) {
        self.end_job(now, slot, End::Cancelled);
    }

    /// Ends a job wherever it stands.
    pub(super) fn end_job(&mut self, now: Clocks, slot: Slot, end: End) {
        let mut ran = None;
        if let State::Running { session, assign, .. } = self.graph.jobs[slot].state {
            ran = self.sessions.running(session, assign);
            if let Some(token) = self.sessions.cancel_in_flight(self.graph.jobs, session, assign) {
                self.outbox.cancel(self.sessions[session].id, token);
            }
            #[cfg(feature = "planted-bugs")]
            if self.graph.config.leaves_out(crate::config::PlantedBug::CancelledSlotFreedAtOnce) {
                self.sessions.release(self.graph.jobs, session, assign);
            }
        }
        self.graph.finish(now, slot, Ending::unreported(end, ran));
    }

    /// Goes on with the cancellation of a flow by one job. Says whether that was the last.
    pub(crate) fn go_on_with_flow(
        &mut self,
        now: Clocks,
        cancel: &mut CancelFlow,
        effects: &mut Effects,
    ) -> bool {
        let flow = self.graph.jobs.flow(cancel.flow);
        let last = flow.jobs.range(..=(cancel.upto, Slot::MAX)).next_back();
        if let Some(&(_, slot)) = last {
            let next = self.graph.pop_unfinished_element(slot).unwrap_or(slot);
            self.cancel_job(now, next);
            cancel.cancelled += 1;
            return false;
        }
        self.graph.jobs.end_cancelling(cancel.flow);
        let reply = Reply::Cancelled { cancelled: cancel.cancelled, already_final: cancel.already_final };
        effects.replies.push((cancel.request, Ok(reply)));
        true
    }

    /// Goes on by one job. Says whether that was the last.
    pub(crate) fn go_on_with_expanded(
        &mut self,
        now: Clocks,
        cancel: &mut CancelExpanded,
        effects: &mut Effects,
    ) -> bool {
        let Some(&edge) = cancel.jobs.last() else {
            self.actions.step(cancel.action, cancel.cancelled);
            let reply = Reply::Cancelled { cancelled: cancel.cancelled, already_final: cancel.already_final };
            effects.replies.push((cancel.request, Ok(reply)));
            return true;
        };
        let next = if self.graph.jobs.follow(edge).is_none() {
            cancel.jobs.pop();
            cancel.already_final += 1;
            return false;
        } else if let Some(element) = self.graph.pop_unfinished_element(edge.slot) {
            element
        } else {
            cancel.jobs.pop();
            edge.slot
        };
        self.cancel_job(now, next);
        cancel.cancelled += 1;
        false
    }
}

mod expire;

#[cfg(test)]
mod tests;
