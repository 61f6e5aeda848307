//! What is to go wrong, and with which attempts it has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mycelium_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Which;

/// What holds an outcome.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// Told when it is there.
    pub(super) arrived: watch::Sender<bool>,
    /// Nothing comes here: it ends when the outcome is to go on.
    pub(super) released: watch::Receiver<()>,
}

/// What is to happen to an attempt.
#[derive(Debug)]
pub(super) enum What {
    LoseAttempt,
    LoseOutcome,
    Hold(Gate),
    Delay(Duration),
}

/// When an outcome may go on.
#[derive(Debug, Clone)]
pub(super) enum Until {
    Released(Gate),
    Moment(Instant),
}

/// What becomes of an outcome.
#[derive(Debug)]
pub(super) enum Fate {
    Passes,
    /// It is lost, and its connection breaks.
    Lost,
    /// Its elf dies.
    Dies,
    Waits(Until),
}

/// Job and number of an attempt.
type Key = (Vec<u8>, u32);

/// What was ordered and what is known, for all streams.
#[derive(Debug, Default)]
pub(super) struct Orders(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    given: Vec<(Which, What)>,
    /// Elf and task of what was assigned and is not settled.
    assigned: HashMap<Key, (String, String)>,
    /// The outcomes that are held: each comes again on its elf's next stream.
    waiting: HashMap<Key, Until>,
}

impl Orders {
    pub(super) fn give(&self, which: Which, what: What) {
        self.state().given.push((which, what));
    }

    pub(super) fn pending(&self) -> usize {
        self.state().given.len()
    }

    /// Notes what the broker says.
    pub(super) fn on_response(&self, message: &v1::ConnectResponse) {
        let mut state = self.state();
        match &message.kind {
            Some(v1::connect_response::Kind::Assign(assign)) => {
                for v1::Assignment { token, elf, task, .. } in &assign.assignments {
                    state.assigned.insert(key(token.as_ref()), (elf.clone(), task.clone()));
                }
            }
            Some(v1::connect_response::Kind::OutcomeAcks(acks)) => {
                for key in acks.acks.iter().map(|ack| key(ack.token.as_ref())) {
                    state.assigned.remove(&key);
                    state.waiting.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Whether its elf dies now that an attempt has begun.
    pub(super) fn dies_with(&self, begun: Option<&v1::Token>) -> bool {
        self.state().take(&key(begun), |what| matches!(what, What::LoseAttempt)).is_some()
    }

    /// What becomes of an outcome.
    pub(super) fn fate(&self, outcome: &v1::Outcome) -> Fate {
        let mut state = self.state();
        let key = key(outcome.token.as_ref());
        if let Some(until) = state.waiting.get(&key) {
            return Fate::Waits(until.clone());
        }
        let until = match state.take(&key, |_any| true) {
            None => return Fate::Passes,
            Some(What::LoseAttempt) => return Fate::Dies,
            Some(What::LoseOutcome) => return Fate::Lost,
            Some(What::Hold(gate)) => Until::Released(gate),
            Some(What::Delay(by)) => Until::Moment(Instant::now() + by),
        };
        state.waiting.insert(key, until.clone());
        Fate::Waits(until)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the first order that fits an attempt and is `wanted`.
    fn take(&mut self, key: &Key, wanted: impl Fn(&What) -> bool) -> Option<What> {
        let (elf, task) = self.assigned.get(key)?;
        let fits = |which: &Which| {
            which.elf.as_ref().is_none_or(|only| only == elf)
                && which.task.as_ref().is_none_or(|only| only == task)
                && which.job.is_none_or(|only| only.as_bytes()[..] == key.0)
                && which.attempt.is_none_or(|only| only == key.1)
        };
        let index = self.given.iter().position(|(which, what)| fits(which) && wanted(what))?;
        Some(self.given.remove(index).1)
    }
}

fn key(token: Option<&v1::Token>) -> Key {
    token.map(|token| (token.job_id.to_vec(), token.attempt)).unwrap_or_default()
}
