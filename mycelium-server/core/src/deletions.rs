//! Flows that are being deleted.
//!
//! The core keeps no more of them than that they are, so that nothing new comes to them or from them: whoever deletes looks
//! for what uses a flow while no use can be added, and what is found holds until the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Delete, DeletionTo, Deletions as Moved, Pin};
use crate::config::Config;
use crate::effects::{Effects, KeptBecause, Records, Refusal, Reply};
use crate::ids::{Clocks, FlowId, JobId};
use crate::image::{DeletionRecord, DeletionStage, FlowRecord, PauseTarget};
use crate::invariants::{InvariantViolation, check};
use crate::jobs::Jobs;
use crate::outbox::Outbox;
use crate::submissions::Submissions;

/// How many deletions may be under way. One takes about fifty bytes.
const DELETIONS_MAX: usize = 65_536;

/// The deletions under way.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    stages: BTreeMap<FlowId, DeletionStage>,
    /// Those that have begun or come further in this batch, and whether they have begun in it.
    changed: BTreeMap<FlowId, bool>,
    /// Those that are over with this batch.
    ended: BTreeSet<FlowId>,
    /// The flows of which nothing is left.
    removed: Vec<FlowRecord>,
}

impl Deletions {
    /// Whether nothing new may come to the flow or from it.
    pub(crate) fn has(&self, flow: FlowId) -> bool {
        self.stages.contains_key(&flow)
    }

    /// Whether a job may come from this one, which is finished and of that flow.
    pub(crate) fn check_origin(&self, job: JobId, flow: FlowId, is_stub: bool) -> Result<(), Refusal> {
        match self.stages.get(&flow) {
            // It may be kept after all: to be asked again.
            Some(DeletionStage::Checking) => Err(Refusal::FlowDeleting(flow)),
            Some(DeletionStage::Removing | DeletionStage::Stubbing) => Err(Refusal::OriginDeleted(job)),
            None if is_stub => Err(Refusal::OriginDeleted(job)),
            None => Ok(()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = DeletionRecord> {
        self.stages.iter().map(|(&flow, &stage)| DeletionRecord { flow, stage })
    }

    pub(crate) fn restore(&mut self, record: DeletionRecord) {
        self.stages.insert(record.flow, record.stage);
    }

    fn set(&mut self, flow: FlowId, stage: DeletionStage) {
        let was_stored = self.ended.remove(&flow);
        let is_new = self.stages.insert(flow, stage).is_none();
        self.changed.entry(flow).or_insert(is_new && !was_stored);
    }

    fn end(&mut self, flow: FlowId) {
        self.stages.remove(&flow);
        // What has begun in this batch is not stored.
        if self.changed.remove(&flow) != Some(true) {
            self.ended.insert(flow);
        }
    }

    /// Puts what the batch has changed into its records.
    pub(crate) fn emit(&mut self, records: &mut Records) {
        let changed = std::mem::take(&mut self.changed);
        let stages = changed.into_keys().filter_map(|flow| Some((flow, *self.stages.get(&flow)?)));
        records.deletions.extend(stages.map(|(flow, stage)| DeletionRecord { flow, stage }));
        records.deletions_ended.extend(std::mem::take(&mut self.ended));
        records.flows_removed.append(&mut self.removed);
    }

    /// No flow that is being deleted has unfinished jobs.
    pub(crate) fn check(&self, jobs: &Jobs) -> Result<(), InvariantViolation> {
        let alive = self.stages.keys().filter_map(|id| jobs.find_flow(*id)).map(|flow| jobs.flow(flow));
        match alive.into_iter().find(|flow| flow.has_unfinished()) {
            None => Ok(()),
            Some(flow) => {
                check(false, "a flow that is being deleted has no unfinished jobs", || flow.id.to_string())
            }
        }
    }
}

/// Deletes flows, and keeps them from being deleted.
pub(crate) struct Deleting<'a> {
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(dead_code, reason = "it has the bugs that are planted")
    )]
    pub(crate) config: &'a Config,
    pub(crate) jobs: &'a mut Jobs,
    pub(crate) submissions: &'a mut Submissions,
    pub(crate) deletions: &'a mut Deletions,
    pub(crate) outbox: &'a mut Outbox,
}

impl Deleting<'_> {
    pub(crate) fn on_delete(&mut self, delete: Delete, effects: &mut Effects) {
        let Delete { request, flows, as_of } = delete;
        if self.jobs.is_stale(as_of) {
            return effects.replies.push((request, Err(Refusal::PreconditionsStale)));
        }
        let (mut begun, mut kept) = (0, Vec::new());
        for record in flows {
            match self.begin(&record) {
                Ok(is_new) => begun += u64::from(is_new),
                Err(because) => kept.push((record.id, because)),
            }
        }
        effects.replies.push((request, Ok(Reply::Deleting { begun, kept })));
    }

    fn begin(&mut self, record: &FlowRecord) -> Result<bool, KeptBecause> {
        if self.deletions.has(record.id) {
            return Ok(false);
        }
        // A flow that is not in memory is as the store has it, and all its jobs have ended.
        let flow = self.jobs.find_flow(record.id).map(|flow| self.jobs.flow(flow));
        if flow.is_some_and(|flow| !flow.is_through()) {
            return Err(KeptBecause::Unfinished);
        }
        if flow.map_or(record.pinned, |flow| flow.pinned) {
            return Err(KeptBecause::Pinned);
        }
        if self.deletions.stages.len() >= DELETIONS_MAX {
            return Err(KeptBecause::TooMany);
        }
        self.deletions.set(record.id, DeletionStage::Checking);
        Ok(true)
    }

    pub(crate) fn on_deletions(&mut self, now: Clocks, moved: Moved, effects: &mut Effects) {
        let Moved { request, flows, submissions } = moved;
        let mut changed = 0;
        let mut forgotten = BTreeSet::new();
        for (record, to) in flows {
            let id = record.id;
            if !self.deletions.has(id) {
                continue;
            }
            changed += 1;
            match to {
                DeletionTo::Stage(stage) => self.deletions.set(id, stage),
                DeletionTo::GivenUp => self.deletions.end(id),
                DeletionTo::Gone => {
                    self.jobs.end_pause(&PauseTarget::Flow(id));
                    forgotten.insert(id);
                    self.deletions.end(id);
                    self.deletions.removed.push(record);
                }
                DeletionTo::Stub => {
                    self.jobs.end_pause(&PauseTarget::Flow(id));
                    forgotten.insert(id);
                    self.deletions.end(id);
                    self.jobs.stub_flow(record, now.wall);
                }
            }
        }
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::DeletionNotFenced) {
            forgotten.clear();
        }
        if !forgotten.is_empty() {
            self.jobs.forget_jobs_of(&forgotten);
        }
        if !submissions.is_empty() {
            self.submissions.forget_sealed(&submissions, self.jobs.commit_next());
            submissions.into_iter().for_each(|submission| self.outbox.submission_dropped(submission));
        }
        effects.replies.push((request, Ok(Reply::Noted { changed })));
    }

    pub(crate) fn on_pin(&mut self, pin: Pin, effects: &mut Effects) {
        let Pin { request, flows, pinned, as_of } = pin;
        let answer = if self.jobs.is_stale(as_of) {
            Err(Refusal::PreconditionsStale)
        } else if let Some(flow) = flows.iter().find(|flow| self.deletions.has(flow.id)) {
            Err(Refusal::FlowDeleting(flow.id))
        } else {
            let changed = flows.into_iter().map(|record| u64::from(self.jobs.pin_flow(record, pinned))).sum();
            Ok(Reply::Noted { changed })
        };
        effects.replies.push((request, answer));
    }
}

#[cfg(test)]
mod tests;
