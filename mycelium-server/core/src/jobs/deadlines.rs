//! Jobs that are to be started in time once they are ready, or to end in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Edge, Jobs, State};
use crate::ids::{Clocks, Steady, Timestamp};
use crate::index::Slot;
use crate::policy::Timeouts;
use crate::timers::{TimerKey, Timers};

/// What is known of each. Most jobs are not here.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// By when each is to have ended.
    ends_by: BTreeMap<Slot, Timestamp>,
    /// Since when each waits to be started.
    queued_at: BTreeMap<Slot, Timestamp>,
    /// Those that were not started in time, and are in the hands of a process: they end when it gives them back.
    overdue: BTreeSet<Slot>,
    /// Jobs with such a time that were taken in since the last batch, or stand elsewhere now.
    moved: Vec<Edge>,
    /// Those whose attempt runs, and may only run for so long.
    timed_runs: BTreeMap<Slot, Duration>,
    /// Those whose attempt was such a one, and is over.
    over: Vec<Slot>,
    /// Those whose attempt runs, and is to report now and then.
    silences: BTreeMap<Slot, Silence>,
}

/// How long an attempt has reported nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// How long it may.
    pub(crate) within: Duration,
    /// Since it reported last, or was started, or was heard of again.
    pub(crate) since: Steady,
}

impl Deadlines {
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        let of_jobs = self.ends_by.keys().chain(self.queued_at.keys()).chain(&self.overdue);
        of_jobs.chain(self.timed_runs.keys()).chain(self.silences.keys()).copied()
    }

    /// The attempt of a job is over.
    pub(super) fn end_run(&mut self, slot: Slot) {
        if self.timed_runs.remove(&slot).is_some() {
            self.over.push(slot);
        }
        self.silences.remove(&slot);
    }
}

impl Jobs {
    /// What a job says itself of how long things may take, if anything.
    fn timeouts(&self, slot: Slot) -> Option<&Timeouts> {
        self.policy(&self.slab[slot]).map(|policy| &policy.timeouts)
    }

    /// A job was taken in, or stands elsewhere now.
    pub(super) fn note_moved(&mut self, slot: Slot) {
        let is_timed =
            self.timeouts(slot).is_some_and(|timeouts| timeouts.queue.or(timeouts.total).is_some());
        if is_timed || self.delays.is_delayed(slot) {
            let edge = self.slab.edge_to(slot);
            self.deadlines.moved.push(edge);
        }
    }

    /// A job is new: its time runs from its submission.
    pub(super) fn begin_total(&mut self, slot: Slot) {
        if let Some(total) = self.timeouts(slot).and_then(|timeouts| timeouts.total) {
            let ends_by = self.slab[slot].submitted_at.after(total);
            self.deadlines.ends_by.insert(slot, ends_by);
        }
    }

    /// Takes in what the store has of a job.
    pub(crate) fn restore_deadlines(
        &mut self,
        slot: Slot,
        ends_by: Option<Timestamp>,
        queued_at: Option<Timestamp>,
    ) {
        if let Some(ends_by) = ends_by {
            self.deadlines.ends_by.insert(slot, ends_by);
        }
        if let Some(queued_at) = queued_at {
            self.deadlines.queued_at.insert(slot, queued_at);
        }
    }

    /// By when a job is to have ended, if it is.
    pub(crate) fn ends_by(&self, slot: Slot) -> Option<Timestamp> {
        self.deadlines.ends_by.get(&slot).copied()
    }

    /// Since when a job waits to be started, if it is to be started in time.
    pub(crate) fn queued_at(&self, slot: Slot) -> Option<Timestamp> {
        self.deadlines.queued_at.get(&slot).copied()
    }

    /// By when a job that waits for that is to be started, if it is.
    pub(crate) fn starts_by(&self, slot: Slot) -> Option<Timestamp> {
        let queued_at = self.queued_at(slot)?;
        Some(queued_at.after(self.timeouts(slot)?.queue?))
    }

    /// It was not started in time, and will end when it is given back.
    pub(crate) fn set_overdue(&mut self, slot: Slot) {
        self.deadlines.overdue.insert(slot);
    }

    /// Whether it was not started in time.
    pub(crate) fn is_overdue(&self, slot: Slot) -> bool {
        self.deadlines.overdue.contains(&slot)
    }

    /// A job was started, as far as can be told: if it comes back, it waits anew.
    pub(crate) fn forget_queued(&mut self, slot: Slot) {
        self.deadlines.queued_at.remove(&slot);
        self.deadlines.overdue.remove(&slot);
    }

    /// A job is gone. Its timers are the caller's.
    pub(super) fn forget_deadlines(&mut self, slot: Slot) {
        self.forget_queued(slot);
        self.deadlines.ends_by.remove(&slot);
    }

    /// The attempt of a job runs, and its timer is set: it may run for so long.
    pub(crate) fn set_run_timed(&mut self, slot: Slot, run: Duration) {
        self.deadlines.timed_runs.insert(slot, run);
    }

    /// How long the attempt of a job may run, if it runs and is timed.
    pub(crate) fn timed_run(&self, slot: Slot) -> Option<Duration> {
        self.deadlines.timed_runs.get(&slot).copied()
    }

    /// The jobs whose attempt runs and is timed.
    pub(crate) fn timed_runs(&self) -> impl Iterator<Item = Slot> {
        self.deadlines.timed_runs.keys().copied()
    }

    /// The attempt of a job runs, and is to report now and then.
    pub(crate) fn set_silence(&mut self, slot: Slot, silence: Silence) {
        self.deadlines.silences.insert(slot, silence);
    }

    /// The attempt of a job has reported, if it is to.
    pub(crate) fn end_silence(&mut self, slot: Slot, now: Steady) {
        if let Some(silence) = self.deadlines.silences.get_mut(&slot) {
            silence.since = now;
        }
    }

    /// How long the attempt of a job has reported nothing, if it is to.
    pub(crate) fn silence(&self, slot: Slot) -> Option<Silence> {
        self.deadlines.silences.get(&slot).copied()
    }

    /// The jobs whose attempt runs and is to report.
    pub(crate) fn silences(&self) -> impl Iterator<Item = Slot> {
        self.deadlines.silences.keys().copied()
    }

    /// Whether jobs have moved whose timers are not set.
    pub(crate) fn has_to_time(&self) -> bool {
        !self.deadlines.moved.is_empty()
    }

    /// Sets the timers of jobs that have moved, at the end of a batch: in between a job may come to a process, and go.
    pub(crate) fn time_moved(&mut self, now: Clocks, timers: &mut Timers) {
        for slot in std::mem::take(&mut self.deadlines.over) {
            // What runs in its place was not started in the same batch.
            timers.cancel(TimerKey::Run(slot));
        }
        for edge in std::mem::take(&mut self.deadlines.moved) {
            if self.slab.follow(edge).is_some() {
                self.time(now, edge.slot, timers);
            }
        }
    }

    fn time(&mut self, now: Clocks, slot: Slot, timers: &mut Timers) {
        let (waits, is_started) = match self.slab[slot].state {
            State::Ready { .. } | State::Running { is_started: false, .. } => (true, false),
            State::Running { is_started: true, .. } => (false, true),
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::UpstreamFailing => {
                (false, false)
            }
            // Its time runs, and nothing shows of it before it is sealed.
            State::Vacant | State::Unsealed { .. } => return,
        };
        let not_before = self.tries(slot).not_before;
        if let (State::Ready { queued: false }, Some(not_before)) = (self.slab[slot].state, not_before) {
            timers.set_at(now, TimerKey::Delay(slot), not_before);
        }
        let Timeouts { queue, total, .. } = self.timeouts(slot).cloned().unwrap_or_default();
        if let Some(total) = total {
            let ends_by = *self.deadlines.ends_by.entry(slot).or_insert_with(|| now.wall.after(total));
            timers.set_at(now, TimerKey::Total(slot), ends_by);
        }
        if is_started {
            self.forget_queued(slot);
            timers.cancel(TimerKey::Queue(slot));
        }
        if waits
            && not_before.is_none()
            && let Some(queue) = queue
            && !self.is_overdue(slot)
        {
            let queued_at = self.queued_at(slot).unwrap_or_else(|| {
                timers.cancel(TimerKey::Queue(slot));
                self.deadlines.queued_at.insert(slot, now.wall);
                // Nothing else is stored of a job that becomes ready.
                self.touch_record(slot);
                now.wall
            });
            timers.set_at(now, TimerKey::Queue(slot), queued_at.after(queue));
        }
    }
}
