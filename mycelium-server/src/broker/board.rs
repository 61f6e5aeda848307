//! How far the attempts that run are, as each has said last. In memory alone: nothing of it is stored, and no commit is made
//! for it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mycelium_core::effects::Change;
use mycelium_core::ids::{Attempt, FlowId, JobId, Timestamp, Token};
use mycelium_core::status::Status;
use tokio::sync::watch;

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// From 0 to 1.
    pub(crate) fraction: f64,
    /// For people.
    pub(crate) text: Arc<str>,
    /// When it was told.
    pub(crate) at: Timestamp,
    pub(crate) attempt: Attempt,
}

/// How far attempts are. Holds one mark for each that is held by a session and has said something.
#[derive(Debug)]
pub(crate) struct Board {
    /// Whether there is none: asked with each change of a job.
    is_empty: AtomicBool,
    state: Mutex<State>,
    /// The newest number.
    newest: watch::Sender<MarkNumber>,
}

/// Numbers what is said, so that whoever watches knows what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct MarkNumber(u64);

#[derive(Debug, Default)]
struct State {
    marks: HashMap<JobId, Standing>,
    order: BTreeMap<MarkNumber, JobId>,
    last: MarkNumber,
}

#[derive(Debug)]
struct Standing {
    mark: Mark,
    flow: FlowId,
    place: MarkNumber,
}

impl Board {
    pub(crate) fn new() -> Self {
        let newest = watch::Sender::new(MarkNumber::default());
        Self { is_empty: AtomicBool::new(true), state: Mutex::default(), newest }
    }

    /// Takes note of how far an attempt of `flow` is, in place of what was said of its job before.
    pub(super) fn put(&self, token: Token, flow: FlowId, mark: Mark) {
        let mut state = self.state();
        state.last.0 += 1;
        let place = state.last;
        if let Some(before) = state.marks.insert(token.job, Standing { mark, flow, place }) {
            state.order.remove(&before.place);
        }
        state.order.insert(place, token.job);
        self.is_empty.store(false, Ordering::Release);
    }

    /// Tells those who watch of what was put.
    pub(super) fn tell(&self) {
        self.newest.send_replace(self.state().last);
    }

    /// Lets go of attempts that are over.
    pub(super) fn settle(&self, changes: &[Change]) {
        if self.is_empty.load(Ordering::Acquire) || changes.is_empty() {
            return;
        }
        let mut state = self.state();
        for change in changes {
            let is_held = matches!(change.status, Status::Assigned | Status::Running);
            let is_over = |standing: &Standing| !is_held || standing.mark.attempt != change.attempt;
            if state.marks.get(&change.job).is_some_and(is_over) {
                state.remove(&change.job);
            }
        }
        self.is_empty.store(state.marks.is_empty(), Ordering::Release);
    }

    /// Forgets everything: elves say it again.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        *state = State { last: state.last, ..State::default() };
        self.is_empty.store(true, Ordering::Release);
    }

    /// How far that attempt of a job is, if it has said.
    pub(crate) fn mark(&self, token: Token) -> Option<Mark> {
        if self.is_empty.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        let mark = &state.marks.get(&token.job)?.mark;
        (mark.attempt == token.attempt).then(|| mark.clone())
    }

    /// What was said since `after` of jobs that are `wanted`, the oldest first and at most `max`, and up to where that goes.
    pub(crate) fn since(
        &self,
        after: MarkNumber,
        max: usize,
        wanted: impl Fn(JobId, FlowId) -> bool,
    ) -> (Vec<(JobId, Mark)>, MarkNumber) {
        let state = self.state();
        let mut found = Vec::new();
        for (place, job) in state.order.range((Bound::Excluded(after), Bound::Unbounded)) {
            let Some(standing) = state.marks.get(job).filter(|standing| wanted(*job, standing.flow)) else {
                continue;
            };
            found.push((*job, standing.mark.clone()));
            if found.len() == max {
                return (found, *place);
            }
        }
        (found, state.last)
    }

    /// Where the newest stands, as that changes.
    pub(crate) fn newest(&self) -> watch::Receiver<MarkNumber> {
        self.newest.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole, but for what is shown.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, job: &JobId) {
        if let Some(standing) = self.marks.remove(job) {
            self.order.remove(&standing.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use mycelium_core::status::FinalStatus;

    use super::*;

    fn token(job: u8, attempt: u32) -> Token {
        Token { job: JobId::new([job; 16]), attempt: Attempt(attempt) }
    }

    fn put(board: &Board, token: Token, flow: u8, fraction: f64) {
        let mark = Mark { fraction, text: Arc::from(""), at: Timestamp(1), attempt: token.attempt };
        board.put(token, FlowId::new([flow; 16]), mark);
        board.tell();
    }

    fn change(token: Token, status: Status) -> Change {
        let (job, flow) = (token.job, FlowId::new([0; 16]));
        Change { job, flow, status, attempt: token.attempt, end: None }
    }

    fn fractions(board: &Board, after: MarkNumber, max: usize, flow: Option<u8>) -> (Vec<f64>, MarkNumber) {
        let wanted = |_, of| flow.is_none_or(|flow| of == FlowId::new([flow; 16]));
        let (found, upto) = board.since(after, max, wanted);
        (found.into_iter().map(|(_, mark)| mark.fraction).collect(), upto)
    }

    #[test]
    fn the_newest_of_an_attempt_is_kept_until_that_is_over() {
        let board = Board::new();
        let seen = board.newest();
        put(&board, token(1, 1), 1, 0.1);
        put(&board, token(2, 1), 2, 0.2);
        put(&board, token(1, 1), 1, 0.3);
        assert!(seen.has_changed().unwrap());
        assert_eq!(board.mark(token(1, 1)).map(|mark| mark.fraction), Some(0.3));
        assert_eq!(board.mark(token(1, 2)), None, "it is another attempt");
        let (all, upto) = fractions(&board, MarkNumber::default(), 9, None);
        assert_eq!(all, [0.2, 0.3], "each once");
        assert_eq!(fractions(&board, MarkNumber::default(), 9, Some(1)), (vec![0.3], upto));
        let (first, place) = fractions(&board, MarkNumber::default(), 1, None);
        assert_eq!((first, fractions(&board, place, 1, None).0), (vec![0.2], vec![0.3]), "in pieces");
        assert_eq!(fractions(&board, upto, 9, None), (vec![], upto));

        board.settle(&[change(token(1, 1), Status::Running), change(token(2, 2), Status::Assigned)]);
        assert_eq!(fractions(&board, MarkNumber::default(), 9, None), (vec![0.3], upto));
        board.settle(&[change(token(1, 1), Status::Final(FinalStatus::Done))]);
        assert_eq!(board.mark(token(1, 1)), None);
        assert!(board.is_empty.load(Ordering::Relaxed) && board.state().order.is_empty());
        put(&board, token(3, 1), 1, 0.5);
        assert_eq!(fractions(&board, upto, 9, None).0, [0.5], "numbers only rise");
        board.clear();
        assert_eq!(board.mark(token(3, 1)), None);
    }
}
