//! What becomes of attempts.

use crate::command::{Outcome, OutcomeResult};
use crate::core::Core;
use crate::effects::{Effects, End, FailedBy, Ran, Send, Verdict};
use crate::ids::{AssignNumber, Attachment, Clocks, SessionId, Token};
use crate::slab::Slot;
use crate::transitions::Ending;

impl Core {
    pub(crate) fn on_outcomes(
        &mut self,
        now: Clocks,
        id: SessionId,
        outcomes: &[Outcome],
        effects: &mut Effects,
    ) {
        let session = self.session_alive(now, id);
        let acks = outcomes
            .iter()
            .map(|outcome| (outcome.token, self.on_outcome(now, session, id, outcome)))
            .collect();
        effects.sends.push(Send::OutcomeAcks { session: id, acks });
    }

    fn on_outcome(&mut self, now: Clocks, session: Option<u32>, id: SessionId, outcome: &Outcome) -> Verdict {
        let token = outcome.token;
        if let Some(session) = session
            && let Some((slot, assign)) = self.held_by(session, token)
        {
            return self.settle_attempt(now, session, slot, assign, outcome.result);
        }
        if let Some(session) = session
            && let Some(&assign) = self.sessions.arena[session].zombies.get(&token)
        {
            // The cancellation had settled it; now the instance has let go of it too.
            self.free_held(session, assign);
            return Verdict::Duplicate;
        }
        let settled_it = |recent: &crate::recent::Recent| {
            recent.attempt == token.attempt && recent.settled_by == id && id != SessionId(0)
        };
        if self.recents.get(&token.job).is_some_and(settled_it) {
            return Verdict::Duplicate;
        }
        self.outcomes_stale += 1;
        Verdict::Stale
    }

    fn settle_attempt(
        &mut self,
        now: Clocks,
        session: u32,
        slot: Slot,
        assign: AssignNumber,
        result: OutcomeResult,
    ) -> Verdict {
        let (end, verdict) = match result {
            OutcomeResult::Outputs(outputs) => (End::Done(outputs), Verdict::Recorded),
            OutcomeResult::Failure(failure) => (End::Failed(FailedBy::Reported(failure)), Verdict::Recorded),
            OutcomeResult::Refused(failure) => (End::Failed(FailedBy::Reported(failure)), Verdict::Refused),
            // It was not cancelled, or it would not run any more: the elf has stopped it of its own accord.
            OutcomeResult::Released | OutcomeResult::Cancelled => {
                self.give_back(now, session, assign);
                return Verdict::Recorded;
            }
        };
        self.end_attempt(now, session, slot, assign, end);
        verdict
    }

    fn end_attempt(&mut self, now: Clocks, session: u32, slot: Slot, assign: AssignNumber, end: End) {
        let ran = self.ran(session, assign);
        self.free_held(session, assign);
        let settled_by = self.sessions.arena[session].id;
        self.finish(now, slot, Ending { end, ran, settled_by });
    }

    pub(crate) fn ran(&self, session: u32, assign: AssignNumber) -> Option<Ran> {
        let entry = &self.sessions.arena[session];
        let held = entry.held.get(&assign)?;
        Some(Ran { instance: entry.instance, revision: held.revision, since: held.since })
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
        let Some(&session) = self.sessions.by_id.get(&id) else { return };
        if let Some((slot, assign)) = self.held_by(session, token) {
            let end = End::Failed(FailedBy::Reported(failure));
            self.end_attempt(now, session, slot, assign, end);
        } else if let Some(&assign) = self.sessions.arena[session].zombies.get(&token) {
            self.free_held(session, assign);
        }
    }
}
