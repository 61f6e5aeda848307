//! Whose jobs are next on their way into the store.
//!
//! A commit of thousands of jobs takes a hundred times as long as one of a single job, and cannot be cut in two: all of
//! a submission is stored or none of it. So peers take turns, and while some submit little, those who submit much leave
//! as much time between their submissions as these take: whoever submits little then mostly finds the way free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Peer;
use crate::fair::{Turn, Turns};

/// How many jobs may be on their way at once; a larger submission goes alone. Below
/// [`Config::queue_max`](crate::Config::queue_max), so that submissions leave room there for what else is asked.
const JOBS_AT_ONCE: usize = 512;
/// Up to so many jobs a submission is a small one.
const SMALL_MAX: usize = 64;
/// For so long after a small submission large ones make room for the next.
const ROOM_FOR: Duration = Duration::from_secs(1);
/// The longest pause between large submissions: a commit may take long for other reasons.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How many peers are remembered of those who submitted little.
const REMEMBERED: usize = 2;

/// The turns of all who submit.
#[derive(Debug)]
pub(super) struct Submissions {
    all: Turns<Peer>,
    large: Turns<Peer>,
    pace: Arc<Mutex<Pace>>,
}

#[derive(Debug, Default)]
struct Pace {
    /// Who submitted little, and when last; the latest to come is the first.
    small: [Option<(Peer, Instant)>; REMEMBERED],
    /// When large ones may go on.
    large_from: Option<Instant>,
}

/// A turn, for as long as it lives.
#[derive(Debug)]
pub(super) struct SubmissionTurn {
    _all: Turn<Peer>,
    _large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    _turn: Turn<Peer>,
    peer: Peer,
    begun: Instant,
    pace: Arc<Mutex<Pace>>,
}

impl Submissions {
    pub(super) fn new() -> Self {
        let [all, large] = [JOBS_AT_ONCE; 2].map(Turns::new);
        Self { all, large, pace: Arc::default() }
    }

    /// Waits for a turn to submit so many jobs.
    pub(super) async fn turn(&self, peer: Peer, jobs: usize) -> SubmissionTurn {
        if jobs <= SMALL_MAX {
            lock(&self.pace).is_small(peer, Instant::now());
            return SubmissionTurn { _all: self.all.turn(peer, jobs).await, _large: None };
        }
        let turn = self.large.turn(peer, jobs).await;
        let from = lock(&self.pace).large_from;
        if let Some(from) = from {
            tokio::time::sleep_until(from).await;
        }
        let all = self.all.turn(peer, jobs).await;
        let large = Large { _turn: turn, peer, begun: Instant::now(), pace: Arc::clone(&self.pace) };
        SubmissionTurn { _all: all, _large: Some(large) }
    }
}

fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pace {
    fn is_small(&mut self, peer: Peer, now: Instant) {
        let is_known = |known: &Option<(Peer, Instant)>| known.is_some_and(|(known, _)| known == peer);
        let place = self.small.iter().position(is_known).unwrap_or(REMEMBERED - 1);
        self.small[..=place].rotate_right(1);
        self.small[0] = Some((peer, now));
    }

    /// A large submission of that peer took so long.
    fn is_done(&mut self, peer: Peer, took: Duration, now: Instant) {
        let hinders = |(other, at): &(Peer, Instant)| *other != peer && now.duration_since(*at) <= ROOM_FOR;
        if self.small.iter().flatten().any(hinders) {
            self.large_from = Some(now + took.min(PAUSE_MAX));
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let now = Instant::now();
        lock(&self.pace).is_done(self.peer, now.duration_since(self.begun), now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(port: u16) -> Peer {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// For how long large submissions pause after one of peer 1 that took `took` and ends now.
    fn pause_after(pace: &mut Pace, took: Duration, now: Instant) -> Duration {
        pace.large_from = None;
        pace.is_done(peer(1), took, now);
        pace.large_from.map_or(Duration::ZERO, |from| from.duration_since(now))
    }

    #[test]
    fn large_submissions_leave_room_while_others_submit_little() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let took = Duration::from_millis(40);
        assert_eq!(pause_after(&mut pace, took, now), Duration::ZERO, "there is nobody else");
        pace.is_small(peer(1), now);
        assert_eq!(pause_after(&mut pace, took, now), Duration::ZERO, "nobody makes room for itself");
        pace.is_small(peer(2), now);
        for _ in 0..3 {
            pace.is_small(peer(1), now);
        }
        assert_eq!(pause_after(&mut pace, took, now), took, "it does not hide the other");
        assert_eq!(pause_after(&mut pace, Duration::from_secs(45), now), PAUSE_MAX);
        assert_eq!(pause_after(&mut pace, took, now + ROOM_FOR), took);
        let later = now + ROOM_FOR + Duration::from_millis(1);
        assert_eq!(pause_after(&mut pace, took, later), Duration::ZERO, "the other has gone");
    }

    #[tokio::test]
    async fn only_large_submissions_wait_for_their_time() {
        use futures::FutureExt as _;
        let submissions = Submissions::new();
        let turn = submissions.turn(peer(1), SMALL_MAX + 1).await;
        drop(submissions.turn(peer(2), SMALL_MAX).await);
        tokio::task::yield_now().await;
        drop(turn);
        assert!(lock(&submissions.pace).large_from.is_some(), "it has made room");
        lock(&submissions.pace).large_from = Some(Instant::now() + Duration::from_secs(3600));
        assert!(submissions.turn(peer(1), SMALL_MAX + 1).now_or_never().is_none());
        assert!(submissions.turn(peer(1), SMALL_MAX).now_or_never().is_some());
    }
}
