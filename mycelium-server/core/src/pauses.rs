//! What is paused: no job of it is assigned until somebody resumes it.
//!
//! Pauses cost those nothing who are not paused. A paused mycelium and a paused elf are passed over as a whole where jobs are
//! placed; the queues of a paused task are left out of what declarations could take next; and a job of a paused flow leaves
//! its queue when it would be its turn, and comes back to its place when the flow is resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::command::{Pause, Resume};
use crate::config::Config;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::deletions::Deletions;
use crate::effects::{Effects, Records, Refusal, Reply};
use crate::graph::Graph;
#[cfg(feature = "planted-bugs")]
use crate::ids::FlowId;
use crate::ids::{Clocks, JobNumber, SessionId};
use crate::image::{PauseRecord, PauseTarget};
use crate::index::Slot;
use crate::jobs::State;
use crate::timers::TimerKey;
use crate::work::{Backlog, ResumeFlow, Work};

/// How many pauses there may be: all of them fit one answer.
const PAUSES_MAX: usize = 1_024;

/// So many jobs of a flow that is resumed are looked at for each that goes back.
const JOBS_LOOKED_AT: usize = 256;

/// The pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    by_target: BTreeMap<PauseTarget, PauseRecord>,
    /// What was paused or resumed in this batch.
    changed: BTreeSet<PauseTarget>,
}

impl Pauses {
    pub(crate) fn get(&self, target: &PauseTarget) -> Option<&PauseRecord> {
        self.by_target.get(target)
    }

    /// Whether the target itself is paused. Takes no time if nothing is.
    pub(crate) fn has(&self, target: impl FnOnce() -> PauseTarget) -> bool {
        !self.by_target.is_empty() && self.by_target.contains_key(&target())
    }

    /// Whether the mycelium is paused.
    pub(crate) fn has_all(&self) -> bool {
        self.has(|| PauseTarget::Mycelium)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PauseRecord> {
        self.by_target.values()
    }

    /// Takes in a pause as the store has it.
    pub(crate) fn restore(&mut self, record: PauseRecord) {
        self.by_target.insert(record.target.clone(), record);
    }

    pub(crate) fn begin(&mut self, record: PauseRecord) {
        self.changed.insert(record.target.clone());
        self.restore(record);
    }

    pub(crate) fn end(&mut self, target: &PauseTarget) -> Option<PauseRecord> {
        let record = self.by_target.remove(target)?;
        self.changed.insert(target.clone());
        Some(record)
    }

    /// Puts what the batch has changed into its records.
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "it has the bugs that are planted")
    )]
    pub(crate) fn emit(&mut self, config: &Config, records: &mut Records) {
        for target in std::mem::take(&mut self.changed) {
            #[cfg(feature = "planted-bugs")]
            if config.leaves_out(PlantedBug::PauseNotStored) {
                continue;
            }
            match self.by_target.get(&target) {
                Some(record) => records.pauses.push(record.clone()),
                None => records.pauses_ended.push(target),
            }
        }
    }
}

/// Pauses and resumes.
pub(crate) struct Pausing<'a> {
    pub(crate) graph: Graph<'a>,
    pub(crate) deletions: &'a Deletions,
    pub(crate) work: &'a mut Backlog,
}

impl Pausing<'_> {
    pub(crate) fn on_pause(&mut self, now: Clocks, pause: Pause, effects: &mut Effects) {
        let request = pause.request;
        effects.replies.push((request, self.pause(now, pause)));
    }

    fn pause(&mut self, now: Clocks, pause: Pause) -> Result<Reply, Refusal> {
        let Pause { request: _, target, by, reason, is_stored, as_of } = pause;
        let jobs = &mut *self.graph.jobs;
        if let Some(before) = jobs.pauses().get(&target) {
            return Ok(Reply::Paused { pause: before.clone(), is_new: false });
        }
        if let PauseTarget::Flow(flow) = target {
            if self.deletions.has(flow) {
                return Err(Refusal::FlowDeleting(flow));
            }
            // A flow that is not in memory is as the store has it.
            if jobs.find_flow(flow).is_none() {
                if jobs.is_stale(as_of) {
                    return Err(Refusal::PreconditionsStale);
                }
                if !is_stored {
                    return Err(Refusal::FlowNotFound(flow));
                }
            }
        }
        if jobs.pauses().iter().count() >= PAUSES_MAX {
            return Err(Refusal::TooManyPauses { limit: PAUSES_MAX });
        }
        let pause = PauseRecord { target, since: now.wall, by, reason };
        jobs.begin_pause(pause.clone());
        // What was assigned before and is not started comes back.
        self.work.push(Work::RecallPaused { after: SessionId(0) });
        Ok(Reply::Paused { pause, is_new: true })
    }

    pub(crate) fn on_resume(&mut self, resume: Resume, effects: &mut Effects) {
        let Resume { request, target } = resume;
        let pause = self.graph.jobs.end_pause(&target);
        if let (Some(_), PauseTarget::Flow(flow)) = (&pause, target) {
            #[cfg(feature = "planted-bugs")]
            let flow = match self.graph.config.leaves_out(PlantedBug::ResumedNotQueued) {
                true => FlowId::default(),
                false => flow,
            };
            self.work.push(Work::ResumeFlow(ResumeFlow { flow, after: JobNumber(0) }));
        }
        effects.replies.push((request, Ok(Reply::Resumed { pause })));
    }

    /// Puts the next job of a flow that was resumed back into its queue. Says whether there is none left.
    pub(crate) fn go_on_resuming(&mut self, resume: &mut ResumeFlow) -> bool {
        let jobs = &mut *self.graph.jobs;
        // It may have ended, or have been paused again.
        let flow = jobs.find_flow(resume.flow).map(|flow| jobs.flow(flow));
        let Some(flow) = flow.filter(|flow| !flow.is_paused) else { return true };
        let after = Bound::Excluded((resume.after, Slot::MAX));
        let mut looked = 0;
        let mut parked = None;
        for &(number, slot) in flow.jobs.range((after, Bound::Unbounded)).take(JOBS_LOOKED_AT) {
            (looked, resume.after) = (looked + 1, number);
            let is_parked = jobs[slot].state == (State::Ready { queued: false })
                && jobs.tries(slot).not_before.is_none()
                && self.graph.timers.deadline(TimerKey::Pause(slot)).is_none();
            if is_parked && !flow.is_cancelling(number) {
                parked = Some(slot);
                break;
            }
        }
        match parked {
            Some(slot) => jobs.set_state(slot, State::Ready { queued: true }),
            None => return looked < JOBS_LOOKED_AT,
        }
        false
    }
}

#[cfg(test)]
mod tests;
