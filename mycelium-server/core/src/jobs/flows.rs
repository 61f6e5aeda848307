//! Flows: the counts of their jobs, and their unfinished jobs in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::Unfinished;
use crate::ids::{Commit, FlowId, FlowNumber, JobNumber, Timestamp, Token};
use crate::image::FlowRecord;
use crate::index::{Arena, FlowIdx, Slot, of};
use crate::invariants::{InvariantViolation, check};
use crate::labels::Labels;
use crate::status::FinalCounts;

/// A flow, for as long as it has unfinished jobs or finished ones that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) id: FlowId,
    pub(crate) name: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) number: FlowNumber,
    pub(crate) created_at: Timestamp,
    pub(crate) finished: FinalCounts,
    /// The attempt during which it was submitted, if a task has submitted it.
    pub(crate) on_behalf_of: Option<Token>,
    /// Whether it is not to be deleted.
    pub(crate) pinned: bool,
    /// When its values were deleted.
    pub(crate) deleted_at: Option<Timestamp>,
    /// Its unfinished jobs that show, in the order of submission.
    pub(crate) jobs: BTreeSet<(JobNumber, Slot)>,
    pub(crate) counts: Unfinished,
    /// How many submissions to it are not through with sealing or dropping.
    pub(crate) submissions: u64,
    /// How many of its finished jobs are remembered.
    pub(crate) recent: u64,
    /// How many cancellations of it are under way.
    pub(crate) cancels: u32,
    /// While one is: its jobs up to this number will be cancelled, and are not assigned.
    pub(crate) cancel_upto: JobNumber,
    /// Whether it is paused.
    pub(crate) is_paused: bool,
    /// The commit that last changed its record.
    pub(crate) changed: Commit,
    /// Whether its record is to be stored with this batch.
    pub(crate) is_touched: bool,
    /// How often it was seen that a job of it waits for a place that its own ancestors hold, up to the time that it is told.
    pub(crate) waits_seen: u8,
}

impl Flow {
    pub(crate) fn record(&self) -> FlowRecord {
        FlowRecord {
            id: self.id,
            name: Arc::clone(&self.name),
            labels: self.labels.clone(),
            number: self.number,
            created_at: self.created_at,
            finished: self.finished,
            on_behalf_of: self.on_behalf_of,
            pinned: self.pinned,
            deleted_at: self.deleted_at,
        }
    }

    /// Whether more is known of it than its id.
    pub(crate) fn is_known(&self) -> bool {
        self.number > FlowNumber(0)
    }

    pub(crate) fn is_cancelling(&self, number: JobNumber) -> bool {
        self.cancels > 0 && number <= self.cancel_upto
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_through() && self.recent == 0
    }

    /// Whether none of its jobs is unfinished, none is on its way, and nobody is cancelling it.
    pub(crate) fn is_through(&self) -> bool {
        !self.has_unfinished() && self.cancels == 0
    }

    /// Whether a job of it is unfinished or on its way.
    pub(crate) fn has_unfinished(&self) -> bool {
        !self.jobs.is_empty() || self.counts.unsealed + self.submissions > 0
    }
}

/// The flows in memory.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    arena: Arena<of::Flow, Flow>,
    by_id: BTreeMap<FlowId, FlowIdx>,
    by_number: BTreeMap<FlowNumber, FlowIdx>,
    /// Those whose record is to be stored with this batch, in the order they changed.
    touched: Vec<FlowIdx>,
    /// Those that may have nothing left to be remembered for.
    idle: Vec<FlowIdx>,
    /// Those that were submitted by tasks.
    of_attempts: BTreeSet<FlowIdx>,
}

impl Flows {
    pub(crate) fn find(&self, id: FlowId) -> Option<FlowIdx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, flow: FlowIdx) -> &Flow {
        &self.arena[flow]
    }

    pub(super) fn get_mut(&mut self, flow: FlowIdx) -> &mut Flow {
        &mut self.arena[flow]
    }

    /// Up to the one with this number, or all, the newest first.
    pub(crate) fn newest_first(&self, upto: Option<FlowNumber>) -> impl Iterator<Item = FlowIdx> {
        let upto = upto.map_or(Bound::Unbounded, Bound::Included);
        self.by_number.range((Bound::Unbounded, upto)).rev().map(|(_, &flow)| flow)
    }

    /// Those that were submitted by tasks, from the one after `after` on, or from the first.
    pub(crate) fn of_attempts(&self, after: Option<FlowIdx>) -> impl Iterator<Item = FlowIdx> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.of_attempts.range((after, Bound::Unbounded)).copied()
    }

    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let all = [self.arena.len(), self.by_id.len(), self.by_number.len()];
        let holds = all.iter().all(|&len| len == all[0]);
        check(holds, "every flow is found by its id and its number", || format!("{all:?}"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FlowIdx, &Flow)> {
        self.arena.iter()
    }

    /// Takes in a flow as the store has it.
    pub(crate) fn insert(&mut self, record: FlowRecord, changed: Commit) -> FlowIdx {
        let number = record.number;
        let flow = self.expect(record.id);
        let entry = &mut self.arena[flow];
        entry.name = record.name;
        entry.labels = record.labels;
        entry.number = number;
        entry.created_at = record.created_at;
        entry.finished = record.finished;
        entry.on_behalf_of = record.on_behalf_of;
        entry.pinned = record.pinned;
        entry.deleted_at = record.deleted_at;
        if record.on_behalf_of.is_some() {
            self.of_attempts.insert(flow);
        }
        entry.changed = changed;
        self.by_number.insert(number, flow);
        self.idle.push(flow);
        flow
    }

    /// The index of a flow of which no more than the id is known yet: it is to be [inserted](Self::insert) before
    /// anything else is done with it.
    pub(crate) fn expect(&mut self, id: FlowId) -> FlowIdx {
        if let Some(flow) = self.find(id) {
            return flow;
        }
        let flow = self.arena.insert(Flow { id, ..Flow::default() });
        self.by_id.insert(id, flow);
        flow
    }

    /// Whether the flow, or another with its number, has been taken in.
    pub(crate) fn has(&self, record: &FlowRecord) -> bool {
        self.by_number.contains_key(&record.number)
            || self.find(record.id).is_some_and(|flow| self.arena[flow].is_known())
    }

    /// The flow's record is to be stored with this batch.
    pub(crate) fn touch(&mut self, flow: FlowIdx, commit: Commit) {
        let entry = &mut self.arena[flow];
        entry.changed = commit;
        if !entry.is_touched {
            entry.is_touched = true;
            self.touched.push(flow);
        }
    }

    /// To be called whenever one of the things that keep a flow in memory goes.
    pub(crate) fn may_be_idle(&mut self, flow: FlowIdx) {
        if self.arena[flow].is_idle() {
            self.idle.push(flow);
        }
    }

    pub(crate) fn take_touched(&mut self) -> Vec<FlowRecord> {
        let mut records = Vec::with_capacity(self.touched.len());
        for flow in self.touched.drain(..) {
            let entry = &mut self.arena[flow];
            entry.is_touched = false;
            records.push(entry.record());
        }
        records
    }

    /// Forgets the flows that nothing keeps. Returns the newest commit that changed one of them: whoever asked the
    /// store before it does not know them as they are.
    pub(crate) fn forget_idle(&mut self) -> Commit {
        let mut newest = Commit(0);
        for index in std::mem::take(&mut self.idle) {
            if self.arena.get(index).is_some_and(Flow::is_idle)
                && let Some(flow) = self.arena.remove(index)
            {
                self.by_id.remove(&flow.id);
                self.by_number.remove(&flow.number);
                self.of_attempts.remove(&index);
                newest = newest.max(flow.changed);
            }
        }
        newest
    }
}
