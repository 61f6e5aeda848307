//! Which attempts run, and when the broker is told so.
//!
//! Of an attempt that is over soon its outcome tells enough. So nothing is said of an attempt before it has run for a
//! while, and then with whatever message goes out next, or by itself.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::attempt::{Started, Token};
use super::executor::Executor;

/// How long an attempt has run before the broker is told, and how often it is looked for such. Together they are how late
/// the broker is told at the most.
const TOLD_AFTER: Duration = Duration::from_millis(50);

/// The attempts of an elf that run, each in a place of its own.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Place {
    started: Started,
    is_told: bool,
}

impl Places {
    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a place, in which nothing runs yet.
    pub(super) fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    /// Gives a place back.
    pub(super) fn give_back(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }

    /// An attempt starts in a place, where another may have run.
    pub(super) fn start(&mut self, place: usize, token: Token, serial: u64) -> Instant {
        let at = Instant::now();
        self.places[place] = Some(Place { started: Started { token, serial, at }, is_told: false });
        at
    }

    /// Adds those that are to be told, which counts as done. Says whether there are others that may have to be.
    pub(super) fn tell(&mut self, now: Instant, starts: &mut Vec<Started>) -> bool {
        let mut are_more = false;
        for place in self.places.iter_mut().flatten().filter(|place| !place.is_told) {
            if now.saturating_duration_since(place.started.at) >= TOLD_AFTER {
                place.is_told = true;
                starts.push(place.started);
            } else {
                are_more = true;
            }
        }
        are_more
    }

    /// Adds those of these that run and were not told.
    pub(super) fn tell_of(&mut self, tokens: &HashSet<Token>, starts: &mut Vec<Started>) {
        let run = self.places.iter_mut().flatten();
        for place in run.filter(|place| !place.is_told && tokens.contains(&place.started.token)) {
            place.is_told = true;
            starts.push(place.started);
        }
    }

    /// What was told may have been lost.
    pub(super) fn tell_again(&mut self) {
        self.places.iter_mut().flatten().for_each(|place| place.is_told = false);
    }
}

/// Looks for attempts whose start is to be told, as long as there may be any.
pub(super) struct Starts {
    timer: Pin<Box<Sleep>>,
    is_due: bool,
}

impl Starts {
    /// For a new stream, on which those are told that were told before. To be made on a runtime with a timer.
    pub(super) fn new(executors: &[Arc<Executor>]) -> Self {
        executors.iter().for_each(|executor| executor.tell_starts_again());
        Self { timer: Box::pin(tokio::time::sleep(TOLD_AFTER)), is_due: true }
    }

    /// Attempts have come, which will be started.
    pub(super) fn expect(&mut self) {
        if !self.is_due {
            self.is_due = true;
            self.timer.as_mut().reset(tokio::time::Instant::now() + TOLD_AFTER);
        }
    }

    /// Waits until it is time to look; for ever if nothing is expected.
    pub(super) async fn due(&mut self) {
        if !self.is_due {
            return std::future::pending().await;
        }
        self.timer.as_mut().await;
    }

    /// Looks for attempts whose start is to be told now.
    pub(super) fn look(&mut self, executors: &[Arc<Executor>]) -> Vec<Started> {
        let (now, mut starts) = (Instant::now(), Vec::new());
        self.is_due = false;
        for executor in executors {
            if executor.tell_starts(now, &mut starts) {
                self.expect();
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobId;

    #[test]
    fn a_start_is_told_once_when_it_has_lasted_and_again_when_it_may_be_lost() {
        let mut places = Places::default();
        let token = Token { job_id: JobId::generate(), attempt: 1 };
        let place = places.take();
        let at = places.start(place, token, 7);
        let told = |places: &mut Places, at| {
            let mut starts = Vec::new();
            let are_more = places.tell(at, &mut starts);
            (starts.len(), are_more)
        };
        assert_eq!(told(&mut places, at), (0, true), "it may be over soon");
        assert_eq!(told(&mut places, at + TOLD_AFTER), (1, false));
        assert_eq!(told(&mut places, at + 2 * TOLD_AFTER), (0, false));
        places.tell_again();
        assert_eq!(told(&mut places, at + 2 * TOLD_AFTER), (1, false));
        places.give_back(place);
        places.tell_again();
        assert_eq!((told(&mut places, at + 2 * TOLD_AFTER), places.len()), ((0, false), 0));
        assert_eq!(places.take(), place, "places are used again");
    }
}
