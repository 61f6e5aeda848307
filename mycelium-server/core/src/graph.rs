//! How jobs go on: what one that ends, comes back, or waits for nothing more means for the others.

use std::time::Duration;

use crate::config::Config;
use crate::effects::{End, FailedAttempt, FailedBy};
use crate::evaluations::Evaluations;
use crate::ids::Clocks;
use crate::image::{AttemptEnd, BESIDE_KEPT, Running};
use crate::index::Slot;
use crate::jobs::{Edge, Ended, Ending, Jobs, State};
use crate::propagation::Propagation;
use crate::status::{ExpiredWhy, FinalStatus};
use crate::suspicion::Loss;
use crate::timers::{TimerKey, Timers};

mod evaluate;
mod propagate;
mod retry;
mod start_now;

/// The pause after a job has come back a second time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Pauses double up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a job pauses that has come back `times` times before.
fn pause_after(times: u8) -> Duration {
    match times {
        // Once is no pattern: an elf that drains hands back what it has not started.
        0 => Duration::ZERO,
        _ => PAUSE_MIN.saturating_mul(1 << (times - 1).min(16)).min(PAUSE_MAX),
    }
}

/// The unfinished jobs, with all that decides how they go on.
pub(crate) struct Graph<'a> {
    pub(crate) config: &'a Config,
    pub(crate) jobs: &'a mut Jobs,
    pub(crate) evaluations: &'a mut Evaluations,
    pub(crate) propagation: &'a mut Propagation,
    pub(crate) timers: &'a mut Timers,
}

impl Graph<'_> {
    /// Where a job stands for which nothing is left to wait.
    pub(crate) fn waited(&mut self, slot: Slot) -> State {
        let job = &self.jobs[slot];
        if job.evaluate { self.evaluations.begin(job.flow, slot) } else { self.ready(slot) }
    }

    /// How a job is ready: if it is to wait for a moment, it stands beside its queue until then.
    pub(crate) fn ready(&self, slot: Slot) -> State {
        State::Ready { queued: self.jobs.tries(slot).not_before.is_none() }
    }

    /// Whether a job whose turn it is leaves its queue instead.
    pub(crate) fn is_held_back(&self, slot: Slot) -> bool {
        let job = &self.jobs[slot];
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::PausedPlaced) {
            return self.jobs.is_cancelling(job);
        }
        self.jobs.is_held_back(job)
    }

    /// One of the jobs that this one waits for was skipped: whether it needs its outputs is evaluated before it goes on.
    fn dependency_skipped(&mut self, edge: Edge) {
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::SkippedNotEvaluated) {
            return self.dependency_done(edge);
        }
        if let Some(job) = self.jobs.follow(edge)
            && !job.evaluate
        {
            self.jobs.set_evaluate(edge.slot);
        }
        self.dependency_done(edge);
    }

    /// One of the jobs that this one waits for has ended, and is no reason for it to end.
    fn dependency_done(&mut self, edge: Edge) {
        let Some(job) = self.jobs.follow(edge) else { return };
        match job.state {
            State::Pending { waiting: 1 } if job.evaluate => self.evaluate(edge.slot),
            State::Pending { waiting: 1 } => {
                let ready = self.ready(edge.slot);
                self.jobs.set_state(edge.slot, ready);
            }
            // Only a status that shows is worth a touch.
            State::Pending { waiting } => {
                self.jobs.set_detail(edge.slot, State::Pending { waiting: waiting - 1 });
            }
            State::Unsealed { submission, waiting } => {
                self.jobs.set_detail(edge.slot, State::Unsealed { submission, waiting: waiting - 1 });
            }
            State::Evaluating { .. } | State::Gathering => self.element_ended(edge.slot),
            State::UpstreamFailing => {}
            State::Vacant | State::Ready { .. } | State::Running { .. } => {
                debug_assert!(false, "job {} waits for nothing", job.id);
            }
        }
    }

    /// Ends a job. Whoever holds an attempt of it must have been seen to before.
    pub(crate) fn finish(&mut self, now: Clocks, slot: Slot, ending: Ending) {
        let job = &self.jobs[slot];
        if job.state == (State::Ready { queued: false }) {
            self.timers.cancel(TimerKey::Pause(slot));
            self.timers.cancel(TimerKey::Delay(slot));
        }
        if self.jobs.ends_by(slot).is_some() {
            self.timers.cancel(TimerKey::Total(slot));
        }
        if self.jobs.queued_at(slot).is_some() {
            self.timers.cancel(TimerKey::Queue(slot));
        }
        // Only what was evaluated can have been expanded.
        let expansion = if job.evaluate { self.evaluations.remove_expansion(slot) } else { None };
        let elements = expansion.and_then(|expansion| expansion.elements);
        let Ended { id, dependents } = self.jobs.finish(slot, now.wall, ending, elements);
        match ending.end.status() {
            FinalStatus::Done => dependents.into_iter().for_each(|edge| self.dependency_done(edge)),
            FinalStatus::Skipped => dependents.into_iter().for_each(|edge| self.dependency_skipped(edge)),
            FinalStatus::Failed | FinalStatus::Cancelled | FinalStatus::Expired => {
                self.propagation.begin(id, id, dependents)
            }
            // Its dependents ended before it did: that is the order of the walk.
            FinalStatus::UpstreamFailed => {}
        }
    }

    /// A running job comes back without an outcome, and its elf lives: it returns to its place in the queue. From the
    /// second time on it stands beside it for a while, so that an elf which takes jobs and gives them back does not keep
    /// the broker and the disk busy with nothing else.
    pub(crate) fn hand_back(&mut self, now: Clocks, slot: Slot, held: Running, how: AttemptEnd) {
        self.jobs.end_attempt(slot, held, now.wall, how);
        if self.expires_overdue(now, slot) {
            return;
        }
        let pause = pause_after(self.jobs.count_handed_back(slot));
        self.jobs.set_state(slot, State::Ready { queued: pause.is_zero() });
        if !pause.is_zero() {
            self.timers.set(TimerKey::Pause(slot), now.steady.after(pause));
        }
    }

    /// A job comes back that never came to its process: its arguments do not fit what that declares, or it was paused before
    /// they were computed.
    pub(crate) fn never_sent(&mut self, now: Clocks, slot: Slot, held: Running) {
        self.jobs.end_attempt(slot, held, now.wall, AttemptEnd::NotHeld);
        if self.expires_overdue(now, slot) {
            return;
        }
        self.jobs.set_state(slot, State::Ready { queued: true });
    }

    /// A job comes back because it was recalled, before it was started: that is no fault of it, or of its elf.
    pub(crate) fn take_back(&mut self, now: Clocks, slot: Slot, held: Running) {
        self.jobs.end_attempt(slot, held, now.wall, AttemptEnd::HandedBack);
        if self.expires_overdue(now, slot) {
            return;
        }
        self.jobs.count_recall(slot);
        self.jobs.set_state(slot, State::Ready { queued: true });
    }

    /// Ends a job that has come back, and was not started in time. Says whether it was not.
    fn expires_overdue(&mut self, now: Clocks, slot: Slot) -> bool {
        let is_overdue = self.jobs.is_overdue(slot);
        if is_overdue {
            let end = End::Expired(ExpiredWhy::Queue);
            self.finish(now, slot, Ending::unreported(end, None));
        }
        is_overdue
    }

    /// The pause of a job is over: it goes back into its queue.
    pub(crate) fn end_pause(&mut self, slot: Slot) {
        self.jobs.set_state(slot, State::Ready { queued: true });
    }

    /// An attempt of a job has failed, and the job is to be tried again after so long; at most so many of its attempts may fail.
    /// Until then it stands beside its queue.
    pub(crate) fn back_off(&mut self, slot: Slot, failed: FailedAttempt, failed_max: u32, wait: Duration) {
        let until = failed.ended_at.after(wait);
        self.jobs.fail_attempt(slot, failed, failed_max);
        self.jobs.forget_queued(slot);
        self.timers.cancel(TimerKey::Queue(slot));
        self.jobs.set_not_before(slot, until);
        self.jobs.set_state(slot, State::Ready { queued: false });
    }

    /// The moment has come that a job waits for.
    pub(crate) fn end_delay(&mut self, slot: Slot) {
        self.jobs.forget_not_before(slot);
        self.jobs.set_state(slot, State::Ready { queued: true });
    }

    /// A running job comes back because its elf is lost, or ends if it alone was the end of too many.
    pub(crate) fn elf_lost(&mut self, now: Clocks, slot: Slot, held: Running, loss: &Loss<'_>) {
        if !loss.may_have_started {
            self.jobs.end_attempt(slot, held, now.wall, AttemptEnd::ElfLostBefore);
            if self.expires_overdue(now, slot) {
                return;
            }
            return self.jobs.set_state(slot, State::Ready { queued: true });
        }
        self.jobs.end_attempt(slot, held, now.wall, AttemptEnd::ElfLost);
        self.jobs.forget_queued(slot);
        self.timers.cancel(TimerKey::Queue(slot));
        let id = self.jobs[slot].id;
        let beside = loss.started.iter().copied().filter(|other| *other != id).take(BESIDE_KEPT);
        let alone = self.jobs.count_elf_lost(slot, beside, loss.is_alone);
        #[cfg(feature = "planted-bugs")]
        let (alone, loss) = if self.config.leaves_out(crate::config::PlantedBug::InnocentEnded) {
            (self.jobs[slot].elves_lost.into(), &Loss { is_alone: true, ..*loss })
        } else {
            (alone, loss)
        };
        if loss.is_alone && alone >= self.config.elves_lost_max {
            let end = End::Failed(FailedBy::ElvesLost(alone));
            return self.finish(now, slot, Ending::unreported(end, Some(held)));
        }
        self.jobs.set_state(slot, State::Ready { queued: true });
    }
}

#[cfg(test)]
mod tests;
