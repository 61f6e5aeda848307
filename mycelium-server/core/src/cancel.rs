//! Cancelling: at once for the jobs named, in bounded pieces for a flow.
//!
//! Jobs go in descending order of their numbers. A job's number is higher than those of the jobs it depends on, so
//! dependents that are to be cancelled too are cancelled before, and are not settled as UPSTREAM_FAILED.

use crate::command::{Cancel, Facts, Scope};
use crate::core::Core;
use crate::effects::{Effects, End, Refusal, Reply};
use crate::flows::finished_total;
use crate::ids::{Clocks, FlowId, JobId, JobNumber, RequestId};
use crate::slab::{Edge, Slot, State};
use crate::submissions::Work;
use crate::transitions::Ending;

/// The cancellation of a flow, under way.
#[derive(Debug)]
pub(crate) struct CancelFlow {
    pub(crate) request: RequestId,
    pub(crate) flow: u32,
    /// Jobs up to this number; those added later are not touched.
    pub(crate) upto: JobNumber,
    pub(crate) cancelled: u64,
    pub(crate) already_final: u64,
}

/// The cancellation of jobs that were expanded over a list, under way. The jobs of the elements go first: should the
/// broker end in between, each of the others is expanded again, and ends because of one that was cancelled.
#[derive(Debug)]
pub(crate) struct CancelExpanded {
    pub(crate) request: RequestId,
    /// The jobs that have the lists, the next one last.
    pub(crate) jobs: Vec<Edge>,
    pub(crate) cancelled: u64,
    pub(crate) already_final: u64,
}

impl Core {
    pub(crate) fn on_cancel(&mut self, now: Clocks, cancel: Cancel, effects: &mut Effects) {
        let Cancel { request, scope, facts } = cancel;
        let answer = match scope {
            Scope::Flow(flow) => self.begin_cancel_flow(request, flow, &facts),
            Scope::Jobs(jobs) => self.cancel_jobs(now, request, &jobs, &facts),
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
        facts: &Facts,
    ) -> Result<Option<Reply>, Refusal> {
        let Some(flow) = self.flows.find(id) else {
            if facts.as_of < self.forgotten {
                return Err(Refusal::FactsStale);
            }
            let record = facts.flow.as_ref().filter(|record| record.id == id);
            let record = record.ok_or(Refusal::FlowNotFound(id))?;
            let already_final = finished_total(record.finished);
            return Ok(Some(Reply::Cancelled { cancelled: 0, already_final }));
        };
        let upto = self.counters.job;
        let entry = &mut self.flows.arena[flow];
        entry.cancels += 1;
        entry.cancel_upto = upto;
        let already_final = entry.finished_total();
        let cancel = CancelFlow { request, flow, upto, cancelled: 0, already_final };
        self.work.push_back(Work::Cancel(cancel));
        Ok(None)
    }

    fn cancel_jobs(
        &mut self,
        now: Clocks,
        request: RequestId,
        jobs: &[JobId],
        facts: &Facts,
    ) -> Result<Option<Reply>, Refusal> {
        if facts.as_of < self.forgotten {
            return Err(Refusal::FactsStale);
        }
        let mut already_final = 0;
        let mut slots: Vec<(JobNumber, Slot)> = Vec::with_capacity(jobs.len());
        for id in jobs {
            match self.slab.find(id) {
                Some(slot) if Self::status_shown(&self.slab[slot]).is_some() => {
                    slots.push((self.slab[slot].number, slot));
                }
                Some(_) => return Err(Refusal::JobNotFound(*id)),
                None if self.is_finished(id, facts) => already_final += 1,
                None => return Err(Refusal::JobNotFound(*id)),
            }
        }
        slots.sort_unstable_by(|a, b| b.cmp(a));
        slots.dedup();
        let mut cancelled = 0;
        let mut is_settling = false;
        let mut expanded = Vec::new();
        for (_, slot) in slots {
            if self.slab[slot].state == State::Doomed {
                // It is about to end UPSTREAM_FAILED: final, as far as anyone can tell once this is answered.
                already_final += 1;
                is_settling = true;
            } else if let Some(expansion) = self.expansions.get_mut(&slot) {
                expansion.is_closed = true;
                expansion.is_cancelling = true;
                expanded.push(self.slab.edge_to(slot));
            } else {
                self.cancel_job(now, slot);
                cancelled += 1;
            }
        }
        if !expanded.is_empty() {
            let cancel = CancelExpanded { request, jobs: expanded, cancelled, already_final };
            self.work.push_back(Work::CancelExpanded(cancel));
            return Ok(None);
        }
        let reply = Reply::Cancelled { cancelled, already_final };
        if is_settling {
            self.work.push_back(Work::Reply { request, answer: Ok(reply) });
            return Ok(None);
        }
        Ok(Some(reply))
    }

    fn is_finished(&self, id: &JobId, facts: &Facts) -> bool {
        self.recents.get(id).is_some() || facts.finished.iter().any(|fact| fact.id == *id)
    }

    /// Ends a job CANCELLED. If an instance holds it, it is told, and keeps the place in its window until it has let
    /// go of it.
    fn cancel_job(&mut self, now: Clocks, slot: Slot) {
        let job = &self.slab[slot];
        let mut ran = None;
        if let State::Running { session, assign } = job.state {
            ran = self.ran(session, assign);
            let entry = &mut self.sessions.arena[session];
            if let Some(held) = entry.held.get_mut(&assign) {
                held.job = None;
                entry.zombies.insert(held.token, assign);
                self.batch.cancels.entry(entry.id).or_default().push(held.token);
            }
            #[cfg(feature = "planted-bugs")]
            if self.config.leaves_out(crate::config::PlantedBug::CancelledSlotFreedAtOnce) {
                self.free_held(session, assign);
            }
        }
        self.finish(now, slot, Ending::unreported(End::Cancelled, ran));
    }

    /// Goes on with the cancellation of a flow by one job. Says whether that was the last.
    pub(crate) fn go_on_cancelling(
        &mut self,
        now: Clocks,
        cancel: &mut CancelFlow,
        effects: &mut Effects,
    ) -> bool {
        let flow = &self.flows.arena[cancel.flow];
        let last = flow.jobs.range(..=(cancel.upto, Slot::MAX)).next_back();
        if let Some(&(_, slot)) = last {
            let next = self.pop_unfinished_element(slot).unwrap_or(slot);
            self.cancel_job(now, next);
            cancel.cancelled += 1;
            return false;
        }
        self.flows.arena[cancel.flow].cancels -= 1;
        self.flows.may_be_idle(cancel.flow);
        let reply = Reply::Cancelled { cancelled: cancel.cancelled, already_final: cancel.already_final };
        effects.replies.push((cancel.request, Ok(reply)));
        true
    }
}

impl Core {
    /// Goes on by one job. Says whether that was the last.
    pub(crate) fn go_on_cancelling_expanded(
        &mut self,
        now: Clocks,
        cancel: &mut CancelExpanded,
        effects: &mut Effects,
    ) -> bool {
        let Some(&edge) = cancel.jobs.last() else {
            let reply = Reply::Cancelled { cancelled: cancel.cancelled, already_final: cancel.already_final };
            effects.replies.push((cancel.request, Ok(reply)));
            return true;
        };
        let next = if self.slab.follow(edge).is_none() {
            cancel.jobs.pop();
            cancel.already_final += 1;
            return false;
        } else if let Some(element) = self.pop_unfinished_element(edge.slot) {
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

#[cfg(test)]
mod tests;
