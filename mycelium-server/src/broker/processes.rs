//! The processes behind the sessions, for people: what they said of themselves when they connected.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mycelium_core::ids::SessionId;

/// What a process said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its operating-system process id; 0 if it did not say.
    pub(crate) id: u32,
    /// The host it runs on.
    pub(crate) host: String,
}

/// The processes of the newest sessions.
#[derive(Debug)]
pub(crate) struct Processes {
    by_session: Mutex<BTreeMap<SessionId, Process>>,
    max: usize,
}

impl Processes {
    /// Remembers at most `max`; the oldest sessions are forgotten first.
    pub(crate) fn new(max: usize) -> Self {
        Self { by_session: Mutex::default(), max }
    }

    pub(crate) fn put(&self, session: SessionId, process: Process) {
        let mut by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        by_session.insert(session, process);
        while by_session.len() > self.max {
            by_session.pop_first();
        }
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<Process> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }
}
