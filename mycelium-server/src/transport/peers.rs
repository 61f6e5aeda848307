//! The connections there are: what each has under way, and which of them have to go.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::Budget;
use crate::tls::ClientCertificate;

/// How long a connection may take to say what it speaks.
pub(super) const PREFACE_WITHIN: Duration = Duration::from_secs(10);
/// How long a stop of the broker lets a new connection begin to speak.
const GREETS_WITHIN: Duration = Duration::from_millis(500);
/// How often it looks whether they have.
const GREETED_LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a peer may take nothing while there is something for it.
const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// A peer that has moved nothing for as long gives way to others, and to a stop of the broker.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// While so many bytes of answers wait for a peer, in bytes, its streams are asked for no more.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which connection, among all that this process has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PeerId(pub(super) u64);

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    #[error("it did not begin to speak HTTP/2 within 10 s")]
    NoPreface,
    #[error("it had nothing under way, and others wanted its place")]
    GaveWay,
    #[error("it took nothing of its answers for 30 s")]
    TakesNothing,
    #[error("the broker's budget of bytes was used up, and it held the most of those who moved nothing")]
    OverBudget,
    #[error("the broker is stopping")]
    Stopping,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) id: PeerId,
    pub(super) address: SocketAddr,
    /// What it has shown, once it has begun to speak.
    certificate: OnceLock<Option<Arc<ClientCertificate>>>,
    began: Instant,
    /// Whether it has begun to speak HTTP/2.
    greeted: AtomicBool,
    /// Calls under way, and those whose answers have not been taken.
    calls: AtomicUsize,
    /// Calls that are being worked on: their requests are here, and their answers are not.
    working: AtomicUsize,
    /// Bytes of answers that wait for it.
    waiting: AtomicUsize,
    /// When it last sent or took something, or had a call begun or ended, in milliseconds after it began.
    moved: AtomicU64,
    /// When it last took something, or had nothing to take.
    took: AtomicU64,
    /// How many bytes of requests it has brought.
    brought: Arc<AtomicU64>,
    /// Told when fewer bytes wait for it.
    room: Notify,
    cut: OnceLock<Cut>,
    /// Of the task that serves it.
    waker: AtomicWaker,
}

impl Peer {
    fn new(id: PeerId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            certificate: OnceLock::new(),
            began: Instant::now(),
            greeted: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            took: AtomicU64::new(0),
            brought: Arc::default(),
            room: Notify::new(),
            cut: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, moment: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(moment.load(Ordering::Relaxed)))
    }

    /// It has begun to speak, and has shown this.
    pub(super) fn show(&self, certificate: Option<Arc<ClientCertificate>>) {
        let _shown_before = self.certificate.set(certificate);
    }

    pub(super) fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.get()?.as_ref()
    }

    pub(super) fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
        self.has_moved();
    }

    pub(super) fn has_moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    pub(super) fn has_brought(&self, bytes: usize) {
        self.brought.fetch_add(bytes as u64, Ordering::Relaxed);
        self.has_moved();
    }

    /// How many bytes of requests it has brought, as they come.
    pub(super) fn brought(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.brought)
    }

    pub(super) fn begin_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.has_moved();
    }

    pub(super) fn end_call(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.has_moved();
    }

    pub(super) fn begin_work(&self) {
        self.working.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_work(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
        self.has_moved();
    }

    /// There are bytes for it to take.
    pub(super) fn offer(&self, bytes: usize) {
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.took.store(self.now(), Ordering::Relaxed);
        }
    }

    /// It has taken some of what there is.
    pub(super) fn took(&self) {
        self.took.store(self.now(), Ordering::Relaxed);
        self.has_moved();
    }

    /// These bytes wait no more.
    pub(super) fn withdraw(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.room.notify_waiters();
    }

    /// Whether so little waits for it that its streams may bring more.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < WAITING_BYTES_MAX
    }

    /// Waits until there is room.
    pub(super) async fn room(self: Arc<Self>) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Heard of from here on.
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Cuts the connection. Whoever serves it finds out with its next poll.
    pub(super) fn cut(&self, why: Cut) {
        if self.cut.set(why).is_ok() {
            match why {
                // Of those that took nothing from anybody there may be many.
                Cut::NoPreface | Cut::GaveWay | Cut::Stopping => {
                    tracing::debug!(peer = %self.address, %why, "a connection is cut");
                }
                Cut::TakesNothing | Cut::OverBudget => {
                    tracing::warn!(peer = %self.address, %why, "a connection is cut");
                }
            }
            self.waker.wake();
        }
    }

    pub(super) fn is_cut(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    /// Whoever serves the connection is woken when it is cut.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// What it has to be cut for, with nobody else in need.
    fn overdue(&self) -> Option<Cut> {
        if !self.greeted.load(Ordering::Relaxed) && self.began.elapsed() >= PREFACE_WITHIN {
            return Some(Cut::NoPreface);
        }
        let waits = self.waiting.load(Ordering::Relaxed) > 0;
        (waits && self.since(&self.took) >= TAKES_WITHIN).then_some(Cut::TakesNothing)
    }

    /// Whether it has moved nothing for a while, and no work for it is under way, which may take as long as it does.
    fn is_stalled(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0 && self.since(&self.moved) >= STALLED_AFTER
    }

    /// Whether it has only just come, and not begun to speak.
    fn is_about_to_greet(&self) -> bool {
        !self.greeted.load(Ordering::Relaxed) && self.began.elapsed() < GREETS_WITHIN
    }

    /// Whether a stop of the broker has nothing to wait for.
    fn is_done(&self) -> bool {
        (!self.greeted.load(Ordering::Relaxed) && !self.is_about_to_greet()) || self.is_stalled()
    }
}

/// All connections there are.
#[derive(Debug)]
pub(super) struct Peers {
    max: usize,
    all: Mutex<All>,
    left: Notify,
}

#[derive(Debug, Default)]
struct All {
    last: u64,
    peers: HashMap<PeerId, Arc<Peer>>,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self { max, all: Mutex::default(), left: Notify::new() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection. Where there are as many as there may be, one that has said nothing yet gives way, or one
    /// that has nothing under way; if there is none, nobody is taken in.
    pub(super) fn admit(&self, address: SocketAddr) -> Option<Arc<Peer>> {
        let mut all = self.all();
        let is_full = all.peers.len() >= self.max
            && all.peers.values().filter(|peer| peer.is_cut().is_none()).count() >= self.max;
        if is_full {
            let idle = all
                .peers
                .values()
                .filter(|peer| peer.is_cut().is_none() && peer.calls.load(Ordering::Relaxed) == 0);
            let longest = idle.max_by_key(|peer| {
                (!peer.greeted.load(Ordering::Relaxed), peer.since(&peer.moved), std::cmp::Reverse(peer.id))
            });
            longest?.cut(Cut::GaveWay);
        }
        all.last += 1;
        let peer = Arc::new(Peer::new(PeerId(all.last), address));
        all.peers.insert(peer.id, Arc::clone(&peer));
        Some(peer)
    }

    pub(super) fn leave(&self, id: PeerId) {
        self.all().peers.remove(&id);
        self.left.notify_waiters();
    }

    /// Waits until not many more connections are open than may be: those that are cut need a moment to close.
    pub(super) async fn room(&self, surplus: usize) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.all().peers.len() < self.max + surplus {
                return;
            }
            left.await;
        }
    }

    /// Waits until those that have just come have begun to speak: one that is closed before cannot know whether what it sent was
    /// read.
    pub(super) async fn greeted(&self) {
        while self.each().iter().any(|peer| peer.is_cut().is_none() && peer.is_about_to_greet()) {
            tokio::time::sleep(GREETED_LOOK_EVERY).await;
        }
    }

    /// How many there are, and how many there may be.
    pub(super) fn usage(&self) -> (u64, u64) {
        (self.all().peers.len() as u64, self.max as u64)
    }

    fn each(&self) -> Vec<Arc<Peer>> {
        self.all().peers.values().cloned().collect()
    }

    /// Cuts those that have been silent, or have not read, for too long.
    pub(super) fn cut_overdue(&self) {
        for peer in self.each() {
            if let Some(why) = peer.overdue() {
                peer.cut(why);
            }
        }
    }

    /// Cuts those that a stop of the broker need not wait for.
    pub(super) fn cut_done(&self) {
        for peer in self.each().iter().filter(|peer| peer.is_done()) {
            peer.cut(Cut::Stopping);
        }
    }

    pub(super) fn cut_all(&self) {
        for peer in self.each() {
            peer.cut(Cut::Stopping);
        }
    }

    /// Cuts the peer that holds the most of a budget and has moved nothing for a while. `false`: there is none.
    pub(super) fn cut_for(&self, budget: &Budget) -> bool {
        let all = self.all();
        let stalled = budget.holders().into_iter().find_map(|(id, _)| {
            all.peers.get(&id).filter(|peer| peer.is_stalled() && peer.is_cut().is_none())
        });
        stalled.inspect(|peer| peer.cut(Cut::OverBudget)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A peer that has moved nothing since it came.
    fn came_before(peers: &Peers, ago: Duration) -> Arc<Peer> {
        let came = peers.admit(([127, 0, 0, 1], 1).into()).unwrap();
        let peer = Arc::new(Peer { began: Instant::now() - ago, ..Peer::new(came.id, came.address) });
        peers.all().peers.insert(peer.id, Arc::clone(&peer));
        peer
    }

    #[test]
    fn of_those_that_move_nothing_the_one_that_holds_most_makes_room() {
        let (peers, budget) = (Peers::new(10), Budget::new(64 * 1024 * 1024));
        let [moves, worked_for, most, less] = [(); 4].map(|()| came_before(&peers, STALLED_AFTER * 60));
        moves.has_moved();
        worked_for.begin_work();
        let _held = [(&moves, 40), (&worked_for, 30), (&most, 20), (&less, 10)]
            .map(|(peer, bytes)| budget.count(peer.id, bytes).0);
        assert!(peers.cut_for(&budget));
        assert_eq!((most.is_cut(), less.is_cut()), (Some(Cut::OverBudget), None));
        assert!(peers.cut_for(&budget));
        assert_eq!(less.is_cut(), Some(Cut::OverBudget));
        assert!(!peers.cut_for(&budget), "the others move, or are worked for");
    }

    #[test]
    fn who_says_nothing_or_takes_nothing_is_cut_in_time_and_nobody_else() {
        let peers = Peers::new(10);
        let new = came_before(&peers, PREFACE_WITHIN / 2);
        let silent = came_before(&peers, PREFACE_WITHIN);
        let [takes, takes_nothing, has_nothing] = [(); 3].map(|()| came_before(&peers, TAKES_WITHIN * 2));
        for peer in [&takes, &takes_nothing, &has_nothing] {
            peer.greet();
            peer.offer(100);
            peer.took.store(0, Ordering::Relaxed);
        }
        takes.took();
        has_nothing.withdraw(100);
        peers.cut_overdue();
        assert_eq!([&new, &takes, &has_nothing].map(|peer| peer.is_cut()), [None; 3]);
        assert_eq!(silent.is_cut(), Some(Cut::NoPreface));
        assert_eq!(takes_nothing.is_cut(), Some(Cut::TakesNothing));
    }
}
