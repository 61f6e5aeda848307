use mycelium_core::ids::Attempt;
use mycelium_core::status::{FinalStatus, Status};

use super::*;

const DONE: Status = Status::Final(FinalStatus::Done);

fn change(job: u8, status: Status) -> WatchedChange {
    WatchedChange {
        job: JobId::new([job; 16]),
        status,
        attempt: Attempt(1),
        cause: None,
        failure: None,
        failure_message: None,
        outputs: None,
    }
}

struct Watched {
    budget: Arc<Budget>,
    queue: Arc<WatchQueue>,
    events: WatchEvents,
}

impl Watched {
    fn new() -> Self {
        let budget = Budget::new(usize::MAX);
        let queue = WatchQueue::new(Arc::clone(&budget));
        let events = WatchEvents::new(Arc::clone(&queue));
        Self { budget, queue, events }
    }

    fn push(&self, commit: u64, changes: Vec<WatchedChange>, unfinished: u64) -> bool {
        let charge = |bytes| Some(self.budget.take(bytes));
        let event = WatchEvent::new(Commit(commit), changes, Some(unfinished), charge).unwrap();
        self.queue.push(&event, &Arc::new(self.budget.take(0)))
    }

    fn used(&self) -> usize {
        self.budget.used()
    }
}

#[tokio::test]
async fn a_flow_that_ends_right_behind_its_snapshot_is_seen_to_end() {
    let watched = Watched::new();
    watched.push(6, vec![change(1, Status::Running)], 2);
    // Committed after the flow was asked how many jobs are unfinished, and the answer was 2.
    watched.push(8, vec![change(1, DONE), change(2, DONE)], 0);
    watched.events.merge(Commit(7), Some(2));
    let piece = watched.events.next().await.unwrap();
    assert_eq!((piece.event().commit, piece.event().flow_unfinished), (Commit(8), Some(0)));
    let seen: Vec<_> = piece.changes().iter().map(|change| (change.job, change.status)).collect();
    assert_eq!(seen, [(JobId::new([1; 16]), DONE), (JobId::new([2; 16]), DONE)]);
}

#[tokio::test]
async fn nothing_meanwhile_leaves_what_the_snapshot_said() {
    let watched = Watched::new();
    watched.events.merge(Commit(7), Some(2));
    let piece = watched.events.next().await.unwrap();
    assert_eq!((piece.event().commit, piece.event().flow_unfinished), (Commit(7), Some(2)));
    assert!(piece.changes().is_empty());
    watched.events.told(&piece, 0);
    assert_eq!(watched.queue.bytes(), 0);
}

#[tokio::test]
async fn events_are_told_piece_by_piece_and_what_they_took_is_given_back() {
    let watched = Watched::new();
    watched.push(1, (0..3).map(|job| change(job, DONE)).collect(), 0);
    watched.push(2, vec![change(9, DONE)], 0);
    for (told, left) in [(1, 3), (2, 2)] {
        let piece = watched.events.next().await.unwrap();
        assert_eq!((piece.event().commit, piece.changes().len()), (Commit(1), left));
        watched.events.told(&piece, told);
    }
    let piece = watched.events.next().await.unwrap();
    assert_eq!(piece.event().commit, Commit(2));
    watched.events.told(&piece, 1);
    drop(piece);
    assert_eq!((watched.queue.bytes(), watched.used()), (0, 0));
}

#[tokio::test]
async fn a_watcher_too_many_commits_behind_is_cut_off_however_small_they_are() {
    let watched = Watched::new();
    let n_taken =
        (0..2 * EVENTS_MAX as u64).take_while(|commit| watched.push(*commit, Vec::new(), 1)).count();
    assert_eq!((n_taken, watched.used()), (EVENTS_MAX, 0));
    assert!(watched.events.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_who_goes_leaves_nothing() {
    let watched = Watched::new();
    watched.push(1, vec![change(1, DONE)], 0);
    let Watched { budget, queue, events } = watched;
    drop(events);
    assert_eq!((queue.is_over(), budget.used()), (true, 0));
}
