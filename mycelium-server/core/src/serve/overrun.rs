//! Attempts that run for longer than they may, or for longer without a word of how far they are.
//!
//! Their processes end them, by clocks of their own. The core stands behind those that do not come to it: what was told to be
//! started, and is not over when its time and a margin are, ends all the same. Its place counts as taken until the process
//! lets go, or is lost. Of a process that tells of no starts nothing is known that could be timed.
//!
//! Silence is judged by what a process says of itself: when it gives a sign of life that names the attempt, all that it has
//! reported before has come. So what cannot be heard, because a connection is cut, ends nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Serving;
use crate::command::{Failed, FailureClass};
use crate::effects::{End, FailedBy};
use crate::ids::{Clocks, FailureId, SessionId, Token};
use crate::index::{SessionIdx, Slot};
use crate::jobs::{Ending, Silence, State};
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
        if !self.sessions[session].tells_starts {
            return;
        }
        let Timeouts { run, progress, .. } = self.times_of(session, slot);
        if let Some(within) = progress {
            // However long ago it was: what it has said since may have been lost with a connection, as this nearly was.
            self.graph.jobs.set_silence(slot, Silence { within, since: now.steady });
        }
        let Some(run) = run else { return };
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

    /// An instance has come back: what it runs since before the core began is timed as if it had started now, and what it had
    /// to say meanwhile could not be heard.
    pub(super) fn time_runs(&mut self, now: Clocks, session: SessionIdx) {
        let runs = self.sessions[session].held.values().filter(|held| held.started.is_some());
        let runs: Vec<Slot> = runs.filter_map(|held| held.job).collect();
        for slot in runs {
            match self.graph.jobs.timed_run(slot) {
                None => self.time_run(now, session, slot, Duration::ZERO),
                Some(_) => self.graph.jobs.end_silence(slot, now.steady),
            }
        }
    }

    pub(crate) fn on_reports(&mut self, now: Clocks, id: SessionId, tokens: &[Token]) {
        let Some(session) = self.alive(now, id) else { return };
        #[cfg(feature = "planted-bugs")]
        if self.graph.config.leaves_out(crate::config::PlantedBug::ReportsUnheard) {
            return;
        }
        for &token in tokens {
            if let Some((slot, _)) = self.held_by(session, token) {
                self.graph.jobs.end_silence(slot, now.steady);
            }
        }
    }

    /// A process says that it lives: ends those of its attempts that have been silent for too long.
    pub(super) fn end_silent(&mut self, now: Clocks, session: SessionIdx) {
        let jobs = &*self.graph.jobs;
        if jobs.silences().next().is_none() {
            return;
        }
        let margin = self.graph.config.run_margin;
        let is_over =
            |silence: &Silence| silence.since.after(silence.within.saturating_add(margin)) <= now.steady;
        let slots = self.sessions[session].held.values().filter_map(|held| held.job);
        let silent = slots.filter_map(|slot| Some((slot, jobs.silence(slot).filter(is_over)?.within)));
        for (slot, within) in silent.collect::<Vec<_>>() {
            self.end_overrun(now, slot, FailedBy::Silent(within));
        }
    }

    /// An attempt was to be over by now.
    pub(crate) fn run_time_ends(&mut self, now: Clocks, slot: Slot) {
        if let Some(run) = self.graph.jobs.timed_run(slot) {
            self.end_overrun(now, slot, FailedBy::TimedOut(run));
        }
    }

    fn end_overrun(&mut self, now: Clocks, slot: Slot, by: FailedBy) {
        let State::Running { session, assign, .. } = self.graph.jobs[slot].state else { return };
        let ran = self.sessions.running(session, assign);
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
