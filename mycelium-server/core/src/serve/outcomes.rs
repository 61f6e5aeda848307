//! What becomes of attempts.

use std::sync::Arc;
#[cfg(feature = "planted-bugs")]
use std::time::Duration;

use crate::backoff::Rules;
use crate::command::{Failed, Outcome, OutcomeResult};
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::effects::{Effects, End, FailedAttempt, FailedBy, Send, Verdict};
use crate::ids::{AssignNumber, Attachment, Clocks, FailureId, SessionId, Timestamp, Token};
use crate::image::{AttemptEnd, PastAttempt};
use crate::index::{SessionIdx, Slot};
use crate::jobs::{Ending, Recent};
use crate::serve::Serving;

impl Serving<'_> {
    pub(crate) fn on_outcomes(
        &mut self,
        now: Clocks,
        id: SessionId,
        outcomes: &[Outcome],
        effects: &mut Effects,
    ) {
        let session = self.alive(now, id);
        let acks = outcomes
            .iter()
            .map(|outcome| (outcome.token, self.on_outcome(now, session, id, outcome)))
            .collect();
        if let Some(session) = session {
            self.sessions.adapt(self.graph.jobs, session);
        }
        effects.sends.push(Send::OutcomeAcks { session: id, acks });
    }

    fn on_outcome(
        &mut self,
        now: Clocks,
        session: Option<SessionIdx>,
        id: SessionId,
        outcome: &Outcome,
    ) -> Verdict {
        let token = outcome.token;
        if let Some(session) = session
            && let Some((slot, assign)) = self.held_by(session, token)
        {
            self.started_before(now, session, assign, outcome);
            return self.end_reported(now, session, slot, assign, outcome);
        }
        if let Some(session) = session
            && let Some(&assign) = self.sessions[session].cancelled_in_flight.get(&token)
        {
            // The cancellation had ended it; now the instance has let go of it too.
            self.release(session, assign);
            #[cfg(feature = "planted-bugs")]
            if self.graph.config.leaves_out(PlantedBug::OverrunTaken) {
                return Verdict::Recorded;
            }
            return Verdict::Duplicate;
        }
        let ended_it = |recent: &Recent| {
            recent.attempt == token.attempt && recent.settled_by == id && id != SessionId(0)
        };
        let failed_so = |attempt: &PastAttempt| {
            attempt.number == token.attempt && attempt.held.session == id && attempt.failure.is_some()
        };
        let settled = match self.graph.jobs.find(&token.job) {
            Some(slot) => self.graph.jobs.attempts(slot).iter().any(failed_so),
            None => self.graph.jobs.recents().get(&token.job).is_some_and(ended_it),
        };
        if settled {
            return Verdict::Duplicate;
        }
        *self.outcomes_stale += 1;
        Verdict::Stale
    }

    /// An attempt that has an outcome may have been started without a word: those that take little are.
    fn started_before(&mut self, now: Clocks, session: SessionIdx, assign: AssignNumber, outcome: &Outcome) {
        if let Some(ran) = outcome.ran.filter(|_| outcome.result.is_an_end()) {
            #[cfg(feature = "planted-bugs")]
            let ran =
                if self.graph.config.leaves_out(PlantedBug::PaceNotMeasured) { Duration::ZERO } else { ran };
            self.sessions.note_ran(session, assign, ran);
        }
        let has_returned = matches!(outcome.result, OutcomeResult::Outputs(_));
        let at = match outcome.ran {
            Some(ran) => now.wall.before(ran),
            // What has returned has run, for at most as long as it was held.
            None if has_returned => Timestamp(0),
            None => return,
        };
        self.sessions.set_started(self.graph.jobs, session, assign, at);
    }

    fn end_reported(
        &mut self,
        now: Clocks,
        session: SessionIdx,
        slot: Slot,
        assign: AssignNumber,
        outcome: &Outcome,
    ) -> Verdict {
        let (end, verdict) = match outcome.result {
            OutcomeResult::Outputs(outputs) => (End::Done(outputs), Verdict::Recorded),
            OutcomeResult::Failure(failure) => (End::Failed(FailedBy::Reported(failure)), Verdict::Recorded),
            OutcomeResult::Refused(failure) => (End::Failed(FailedBy::Reported(failure)), Verdict::Refused),
            // It was not cancelled, or it would not run any more: the elf has stopped it of its own accord.
            OutcomeResult::Released if self.sessions[session].is_recalled(assign) => {
                self.take_back(now, session, assign);
                return Verdict::Recorded;
            }
            OutcomeResult::Released | OutcomeResult::Cancelled => {
                self.give_back(now, session, assign, AttemptEnd::HandedBack);
                return Verdict::Recorded;
            }
        };
        if let (Some(body), Some(failed)) = (outcome.result.failure(), &outcome.failed)
            && let by = (Some(failed.id), FailedBy::Reported(body))
            && self.tries_again(now, (session, slot, assign), failed, by)
        {
            self.release(session, assign);
            return verdict;
        }
        self.end_attempt(now, session, slot, assign, end);
        verdict
    }

    /// An attempt has failed, by a report or because its time was over (`id` is `None` then). If its job is to be tried again,
    /// sees to that, and says so. The attempt is released by the caller then.
    pub(super) fn tries_again(
        &mut self,
        now: Clocks,
        (session, slot, assign): (SessionIdx, Slot, AssignNumber),
        failed: &Failed,
        (id, by): (Option<FailureId>, FailedBy),
    ) -> bool {
        let jobs = &*self.graph.jobs;
        let job = &jobs[slot];
        let task = jobs.queue_of(job).task;
        let elf = jobs.names().task(task).elf;
        let declared = self.sessions[session].policy(elf, task).map(|policy| &policy.retry);
        let rules = Rules { own: jobs.policy(job).map(|policy| &policy.retry), declared };
        #[cfg(feature = "planted-bugs")]
        let failed = &match self.graph.config.leaves_out(PlantedBug::AdviceNotTaken) {
            true => Failed { advice: None, ..failed.clone() },
            false => failed.clone(),
        };
        let (failed_max, n_failed) = (rules.attempts(), jobs.tries(slot).failed.saturating_add(1));
        #[cfg(feature = "planted-bugs")]
        let n_failed =
            if self.graph.config.leaves_out(PlantedBug::FailuresNotCounted) { 1 } else { n_failed };
        let Some(wait) = rules.wait(job.id, n_failed, failed) else { return false };
        let Some(held) = self.sessions.running(session, assign) else { return false };
        let failed = FailedAttempt {
            job: job.id,
            elf: Arc::clone(&jobs.elf(elf).name),
            task: Arc::clone(&jobs.names().task(task).name),
            attempt: job.attempt,
            held,
            ended_at: now.wall,
            id,
            by,
        };
        self.graph.back_off(slot, failed, failed_max, wait);
        true
    }

    fn end_attempt(&mut self, now: Clocks, session: SessionIdx, slot: Slot, assign: AssignNumber, end: End) {
        let ran = self.sessions.running(session, assign);
        self.release(session, assign);
        let settled_by = self.sessions[session].id;
        self.graph.finish(now, slot, Ending { end, ran, settled_by });
    }

    /// The arguments of an attempt could not be computed. It never reached the instance, whose lease this does
    /// therefore not renew.
    pub(crate) fn on_arguments_failed(
        &mut self,
        now: Clocks,
        id: SessionId,
        token: Token,
        failure: Attachment,
    ) {
        let Some(session) = self.sessions.find(id) else { return };
        if let Some((slot, assign)) = self.held_by(session, token) {
            let end = End::Failed(FailedBy::Reported(failure));
            self.end_attempt(now, session, slot, assign, end);
        } else {
            self.drop_cancelled(session, token);
        }
    }

    /// An attempt that was cancelled never reached its instance.
    pub(super) fn drop_cancelled(&mut self, session: SessionIdx, token: Token) {
        if let Some(&assign) = self.sessions[session].cancelled_in_flight.get(&token) {
            self.release(session, assign);
        }
    }
}

#[cfg(test)]
mod tests;
