//! Attempts that run for longer than they may.
//!
//! Their processes end them, by clocks of their own. The core stands behind those that do not come to it: what was told to be
//! started, and is not over when its time and a margin are, ends all the same. Its place counts as taken until the process
//! lets go, or is lost. Of a process that tells of no starts nothing is known that could be timed.

use std::sync::Arc;
use std::time::Duration;

use super::Serving;
use crate::command::{Failed, FailureClass};
use crate::effects::{End, FailedBy};
use crate::ids::{Clocks, FailureId};
use crate::index::{SessionIdx, Slot};
use crate::jobs::{Ending, State};
use crate::policy::Timeouts;
use crate::timers::TimerKey;

/// The type of the failure, as runtimes name it too.
const TIMEOUT: &str = "Timeout";

impl Serving<'_> {
    /// How long an attempt of a job may take in a session: as the job says, and else as the session declares.
    pub(super) fn times_of(&self, session: SessionIdx, slot: Slot) -> Timeouts {
        let jobs = &self.graph.jobs;
        let task = jobs.queue_of(&jobs[slot]).task;
        let declared = self.sessions[session].policy(jobs.names().task(task).elf, task);
        let own = jobs.policy(&jobs[slot]);
        Timeouts::of_attempt(own.map(|own| &own.timeouts), declared.map(|declared| &declared.timeouts))
    }

    /// An attempt was started so long ago.
    pub(super) fn time_run(&mut self, now: Clocks, session: SessionIdx, slot: Slot, ago: Duration) {
        let Some(run) = self.times_of(session, slot).run.filter(|_| self.sessions[session].tells_starts)
        else {
            return;
        };
        let margin = self.graph.config.run_margin;
        #[cfg(feature = "planted-bugs")]
        let (ago, margin) = match self.graph.config.leaves_out(crate::config::PlantedBug::RunEndedEarly) {
            true => (ago + run / 2, Duration::ZERO),
            false => (ago, margin),
        };
        let until = now.steady.before(ago).after(run.saturating_add(margin));
        self.graph.timers.set(TimerKey::Run(slot), until);
        self.graph.jobs.set_run_timed(slot, run);
    }

    /// An instance has come back: what it runs since before the core began is timed as if it had started now.
    pub(super) fn time_runs(&mut self, now: Clocks, session: SessionIdx) {
        let jobs = &self.graph.jobs;
        let runs = self.sessions[session].held.values().filter(|held| held.started.is_some());
        let untimed = runs.filter_map(|held| held.job).filter(|slot| jobs.timed_run(*slot).is_none());
        let untimed: Vec<Slot> = untimed.collect();
        untimed.into_iter().for_each(|slot| self.time_run(now, session, slot, Duration::ZERO));
    }

    /// An attempt was to be over by now.
    pub(crate) fn run_time_ends(&mut self, now: Clocks, slot: Slot) {
        let Some(run) = self.graph.jobs.timed_run(slot) else { return };
        let State::Running { session, assign, .. } = self.graph.jobs[slot].state else { return };
        let ran = self.sessions.running(session, assign);
        let by = FailedBy::TimedOut(run);
        let failed = Failed {
            id: FailureId::default(),
            kind: Arc::from(TIMEOUT),
            class: FailureClass::Task,
            advice: None,
        };
        let is_back = self.tries_again(now, (session, slot, assign), &failed, (None, by));
        if let Some(token) = self.sessions.cancel_in_flight(self.graph.jobs, session, assign) {
            self.outbox.cancel(self.sessions[session].id, token);
        }
        if !is_back {
            self.graph.finish(now, slot, Ending::unreported(End::Failed(by), ran));
        }
    }
}

#[cfg(test)]
mod tests;
