//! Jobs that wait for places which are held by the very attempts that have submitted them: if these wait for the jobs, all
//! of them wait for ever.
//!
//! Whether an attempt waits is not known here, so nothing is done about it: it is told to people.

use crate::ids::{JobId, SessionId, Token};
use crate::index::{ElfIdx, FlowIdx, SessionIdx, Slot};
use crate::jobs::{Jobs, State};
use crate::sessions::{Held, Session, Sessions};

/// How far ancestors are followed. Who names whom comes from outside, and may go round in a circle.
const ANCESTORS_MAX: usize = 64;
/// How many flows are looked at in one look, and how many jobs of each.
const FLOWS_PER_LOOK: usize = 64;
const JOBS_PER_FLOW: usize = 4;

/// Where attempts are.
pub(crate) struct Places<'a> {
    pub(crate) jobs: &'a Jobs,
    pub(crate) sessions: &'a Sessions,
}

/// A job that waits for a place that its own ancestors hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) job: JobId,
    /// The nearest of them, and where it runs.
    pub(crate) holder: Token,
    pub(crate) session: SessionId,
}

impl Places<'_> {
    /// The attempts on whose behalf a flow was submitted, as far as they are under way, the nearest first.
    fn ancestors(&self, flow: FlowIdx) -> Vec<(Token, SessionIdx)> {
        let mut ancestors: Vec<(Token, SessionIdx)> = Vec::new();
        let mut next = self.jobs.flow(flow).on_behalf_of;
        while let Some(token) = next
            && ancestors.len() < ANCESTORS_MAX
            && ancestors.iter().all(|(other, _)| *other != token)
            && let Some(slot) = self.jobs.find(&token.job)
        {
            let job = &self.jobs[slot];
            let State::Running { session, .. } = job.state else { break };
            if job.attempt != token.attempt {
                break;
            }
            ancestors.push((token, session));
            next = self.jobs.flow_of(job).on_behalf_of;
        }
        ancestors
    }

    /// If a job waits for a place in a process that takes it, and its ancestors hold all of these: those that do, the
    /// nearest first.
    pub(crate) fn held_by_ancestors(&self, slot: Slot) -> Option<Vec<(Token, SessionIdx)>> {
        let job = &self.jobs[slot];
        self.jobs.flow_of(job).on_behalf_of?;
        let mut ancestors = self.ancestors(job.flow);
        let (names, queue) = (self.jobs.names(), self.jobs.queue_of(job));
        let elf = names.task(queue.task).elf;
        let mut holders: Vec<Token> = Vec::new();
        for session in self.jobs.elf(elf).sessions.values() {
            let entry = &self.sessions[*session];
            let Some(offer) = entry.offers.get(&elf) else { continue };
            let declared = offer.declared.as_ref().filter(|_| entry.is_connected && !entry.is_draining);
            let takes = declared.is_some_and(|declared| {
                names.declaration(declared.declaration).takes(queue.task, &queue.kind)
            });
            if !takes {
                continue;
            }
            let places = usize::try_from(offer.window.concurrency).unwrap_or(usize::MAX);
            let runs: Vec<Token> = runs(entry, elf, places).map(|held| held.token).collect();
            let is_ancestor = |token: &Token| ancestors.iter().any(|(ancestor, _)| ancestor == token);
            if places == 0 || runs.len() < places || !runs.iter().all(is_ancestor) {
                return None;
            }
            holders.extend(runs);
        }
        ancestors.retain(|(ancestor, _)| holders.contains(ancestor));
        (!ancestors.is_empty()).then_some(ancestors)
    }

    /// Looks at some flows that were submitted by tasks, those after `after` first. Returns which of them has such a wait, and
    /// after which flow to go on; none: from the first.
    pub(crate) fn look(&self, after: Option<FlowIdx>) -> (Vec<(FlowIdx, Option<Wait>)>, Option<FlowIdx>) {
        let flows = self.jobs.flows().of_attempts(after).take(FLOWS_PER_LOOK);
        let looked: Vec<_> = flows.map(|flow| (flow, self.wait_of(flow))).collect();
        let last = looked.last().map(|(flow, _)| *flow).filter(|_| looked.len() == FLOWS_PER_LOOK);
        (looked, last)
    }

    fn wait_of(&self, flow: FlowIdx) -> Option<Wait> {
        let waiting = self.jobs.flow(flow).jobs.iter().filter(|(_, slot)| match self.jobs[*slot].state {
            State::Ready { queued } => queued,
            State::Running { .. } => true,
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing => false,
        });
        waiting.take(JOBS_PER_FLOW).find_map(|(_, slot)| {
            if !self.waits(*slot) {
                return None;
            }
            let (holder, session) = *self.held_by_ancestors(*slot)?.first()?;
            let job = self.jobs[*slot].id;
            Some(Wait { job, holder, session: self.sessions[session].id })
        })
    }

    /// Whether a job is ready, or in the hands of a process that has not started it.
    pub(crate) fn waits(&self, slot: Slot) -> bool {
        match self.jobs[slot].state {
            State::Ready { .. } => true,
            State::Running { session, assign, .. } => {
                let entry = &self.sessions[session];
                let Some(held) = entry.held.get(&assign) else { return false };
                let offer = entry.offers.get(&held.elf);
                let places = offer.map_or(0, |offer| offer.window.concurrency);
                let places = usize::try_from(places).unwrap_or(usize::MAX);
                places > 0 && runs(entry, held.elf, places).all(|other| other.token != held.token)
            }
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing => false,
        }
    }
}

/// What a session runs of an elf: what it tells to have started, or else as many as it has places, in the order in which they
/// were assigned.
fn runs(entry: &Session, elf: ElfIdx, places: usize) -> impl Iterator<Item = &Held> {
    let most = if entry.tells_starts { usize::MAX } else { places };
    let is_one = move |held: &&Held| held.elf == elf && (!entry.tells_starts || held.started.is_some());
    entry.held.values().filter(is_one).take(most)
}

#[cfg(test)]
mod tests;
