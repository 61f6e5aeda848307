//! The processes behind the sessions, for people: what they said of themselves when they connected.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mycelium_core::ids::SessionId;

use super::message::StreamId;

/// What a process said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its operating-system process id; 0 if it did not say.
    pub(crate) id: u32,
    /// The host it runs on.
    pub(crate) host: String,
    /// For how long its tasks have stood still by its latest heartbeat, if they do.
    pub(crate) late_by: Option<Duration>,
}

/// The processes of the newest sessions.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Each with the stream on which it was last said.
    by_session: Mutex<BTreeMap<SessionId, (StreamId, Process)>>,
    max: usize,
}

impl Processes {
    /// Remembers at most `max`; the oldest sessions are forgotten first.
    pub(crate) fn new(max: usize) -> Self {
        Self { by_session: Mutex::default(), max }
    }

    pub(crate) fn put(&self, session: SessionId, stream: StreamId, process: Process) {
        let mut by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        by_session.insert(session, (stream, process));
        while by_session.len() > self.max {
            by_session.pop_first();
        }
    }

    /// A session said in a heartbeat whether its tasks stand still.
    pub(crate) fn beat(&self, session: SessionId, late_by: Option<Duration>) {
        let mut by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, process)) = by_session.get_mut(&session) {
            process.late_by = late_by;
        }
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<Process> {
        let by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        by_session.get(&session).map(|(_, process)| process.clone())
    }

    /// Whether a session has said nothing of itself on a later stream.
    pub(crate) fn is_latest(&self, session: SessionId, stream: StreamId) -> bool {
        let by_session = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        by_session.get(&session).is_some_and(|(latest, _)| *latest == stream)
    }
}
