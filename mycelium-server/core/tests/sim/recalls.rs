//! What must hold of recalls: who is asked for what, and that nothing is taken from whoever has not given it back.

use std::collections::{BTreeMap, BTreeSet};

use mycelium_core::command::{OutcomeResult, Start};
use mycelium_core::effects::{Effects, JobRecord};
use mycelium_core::ids::{SessionId, Token};
use mycelium_core::image::AttemptEnd;

use super::sessions::Sessions;

/// What the world has seen of recalls.
#[derive(Debug, Default)]
pub(crate) struct Recalls {
    /// Attempts that were recalled.
    pub(crate) recalled: BTreeSet<Token>,
    /// What the core has been told to have been started, before the latest batch and within it.
    started: BTreeSet<(SessionId, Token)>,
    told: BTreeSet<(SessionId, Token)>,
}

impl Recalls {
    /// The core is told what was started.
    pub(crate) fn tell_started(&mut self, session: SessionId, starts: &[Start]) {
        self.told.extend(starts.iter().map(|start| (session, start.token)));
    }

    /// A batch is through. Within it something may be recalled, and its start told after that.
    pub(crate) fn end_batch(&mut self) {
        self.started.append(&mut self.told);
    }

    /// A core was rebuilt, and was told nothing yet.
    pub(crate) fn begin_anew(&mut self) {
        self.started.clear();
        self.told.clear();
    }

    /// What is known to have been started is left where it is.
    pub(crate) fn what_was_started_is_not_recalled(&self, session: SessionId, tokens: &[Token]) {
        for token in tokens {
            let is_started = self.started.contains(&(session, *token));
            holds!(
                RecallsFit,
                !is_started,
                "{token:?} is recalled from session {session}, which has told of its start"
            );
        }
    }

    /// An attempt is its elf's until the elf gives it back or leaves.
    pub(crate) fn only_who_holds_it_gives_it_back(
        effects: &Effects,
        reports: &BTreeMap<(SessionId, Token), OutcomeResult>,
        sessions: &Sessions,
    ) {
        for write in &effects.jobs {
            let JobRecord::Live(live) = &write.after else { continue };
            let Some(last) = live.attempts.last().filter(|last| last.how == AttemptEnd::HandedBack) else {
                continue;
            };
            let session = last.held.session;
            let token = Token { job: write.id, attempt: last.number };
            let report = reports.get(&(session, token));
            let is_given_back = matches!(report, Some(OutcomeResult::Released | OutcomeResult::Cancelled));
            let is_its_own = !is_given_back && !sessions.has_left(session);
            holds!(
                HeldStays,
                !is_its_own,
                "{token:?} is taken from session {session}, which has not given it back"
            );
        }
    }
}
