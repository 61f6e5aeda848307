//! What must hold of sessions: how long they are waited for, and that what is theirs stays theirs.

use std::collections::{BTreeMap, BTreeSet};

use mycelium_core::Config;
use mycelium_core::command::StreamEnd;
use mycelium_core::effects::{Effects, JobRecord};
use mycelium_core::ids::{AssignNumber, SessionId, Token};
use mycelium_core::image::AttemptEnd;

/// What the world has seen of sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// When the core was last told a word of each.
    words: BTreeMap<SessionId, u64>,
    /// How the stream of each ended, and when, if it has none.
    closed: BTreeMap<SessionId, (u64, StreamEnd)>,
    numbers: BTreeMap<(SessionId, AssignNumber), Token>,
    /// What each has confirmed to hold.
    confirmed: BTreeSet<(SessionId, Token)>,
    /// Those whose elves have said goodbye, and dropped what they held, whether the broker has heard it or not.
    left: BTreeSet<SessionId>,
}

impl Sessions {
    /// The core is told a word of a session, on a new stream perhaps.
    pub(crate) fn word(&mut self, session: SessionId, now: u64) {
        self.words.insert(session, now);
        self.closed.remove(&session);
    }

    /// The core is told that the stream of a session has ended.
    pub(crate) fn stream_closed(&mut self, session: SessionId, now: u64, end: StreamEnd) {
        self.closed.insert(session, (now, end));
    }

    /// A core was rebuilt: all leases begin anew, and so do the numbers of assignments.
    pub(crate) fn begin_anew(&mut self, now: u64) {
        self.words.values_mut().for_each(|at| *at = now);
        self.closed.clear();
        self.numbers.clear();
    }

    /// It has another stream: what was lost with the one before is never confirmed.
    pub(crate) fn connected(&mut self, session: SessionId, now: u64) {
        self.word(session, now);
        self.numbers.retain(|(of, _), _| *of != session);
    }

    pub(crate) fn number(&mut self, session: SessionId, assign: AssignNumber, token: Token) {
        self.numbers.insert((session, assign), token);
    }

    /// The shell has read that assignments up to this one have reached their elf.
    pub(crate) fn confirm(&mut self, session: SessionId, received: AssignNumber) {
        let reached = self.numbers.range((session, AssignNumber(0))..=(session, received));
        self.confirmed.extend(reached.map(|(_, token)| (session, *token)));
    }

    pub(crate) fn leave(&mut self, session: SessionId) {
        self.left.insert(session);
    }

    /// Whether its elf has said goodbye.
    pub(crate) fn has_left(&self, session: SessionId) -> bool {
        self.left.contains(&session)
    }

    /// No lease ends before its time: that of a session whose stream broke a while after, all others after all of it.
    pub(crate) fn leases_are_kept(&self, session: SessionId, now: u64, config: &Config) {
        let Some(word) = self.words.get(&session) else { return };
        let silent_for = now - word;
        let lease = u64::try_from(config.lease.as_micros()).unwrap();
        let after_reset = u64::try_from(config.lease_after_reset.as_micros()).unwrap();
        let is_due = match self.closed.get(&session) {
            Some((at, StreamEnd::Broken)) => silent_for >= lease || now - at >= after_reset,
            Some((_, StreamEnd::ByShell | StreamEnd::Unconfirmed { .. })) | None => silent_for >= lease,
        };
        holds!(
            SessionsKept,
            is_due,
            "session {session} ends after {silent_for} us, and was {:?}",
            self.closed.get(&session)
        );
    }

    /// What an elf has confirmed is not taken to be lost on its way, as long as the elf does not drop it.
    pub(crate) fn what_is_confirmed_is_not_given_away(&self, effects: &Effects) {
        for write in &effects.jobs {
            let JobRecord::Live(live) = &write.after else { continue };
            let Some(last) = live.attempts.last().filter(|last| last.how == AttemptEnd::NotHeld) else {
                continue;
            };
            let token = Token { job: write.id, attempt: last.number };
            let session = last.held.session;
            let is_its_own = self.confirmed.contains(&(session, token)) && !self.left.contains(&session);
            holds!(HeldStays, !is_its_own, "{token:?} of session {session} is given away");
        }
    }
}
