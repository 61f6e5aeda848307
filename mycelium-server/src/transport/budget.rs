//! How many bytes one kind of message may take: of each peer, and of all together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::peers::PeerId;

/// A peer may hold this part of what all may hold.
const PEER_SHARE: (usize, usize) = (3, 8);
/// Those who hold more than a sixteenth leave the last quarter to those who hold less, so that a few cannot shut out all.
const LIGHT_PART: usize = 16;
const HEAVY_SHARE: (usize, usize) = (3, 4);

/// A budget in bytes. What it counts is taken before the memory is.
#[derive(Debug)]
pub(super) struct Budget {
    peer_max: usize,
    all_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Only those who hold something.
    peers: HashMap<PeerId, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    bytes: usize,
    /// Those of the peer that wait for others of it, in the order in which they came.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    grant: oneshot::Sender<Result<Taken, Full>>,
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The peer holds all that it may.
    Peer,
    /// All together do.
    All,
}

impl Budget {
    pub(super) fn new(all_max: usize) -> Arc<Self> {
        let peer_max = all_max / PEER_SHARE.1 * PEER_SHARE.0;
        Arc::new(Self { peer_max, all_max, held: Mutex::default() })
    }

    /// Takes bytes for a peer. Waits while it holds too much itself.
    ///
    /// # Errors
    /// [`Full::All`] if all together hold too much.
    pub(super) async fn take(self: Arc<Self>, peer: PeerId, bytes: usize) -> Result<Taken, Full> {
        // What is more than a peer may ever hold is taken when it holds nothing else.
        let bytes = bytes.min(self.peer_max);
        let granted = {
            let mut held = self.held();
            if held.is_waiting(peer) {
                // Behind those that came before.
                held.wait(peer, bytes)
            } else {
                match self.try_take(&mut held, peer, bytes) {
                    Err(Full::Peer) => held.wait(peer, bytes),
                    taken_or_full => return taken_or_full,
                }
            }
        };
        // Nobody is left without a word while the budget is there.
        granted.await.unwrap_or(Err(Full::All))
    }

    fn try_take(self: &Arc<Self>, held: &mut Held, peer: PeerId, bytes: usize) -> Result<Taken, Full> {
        let own = held.of(peer) + bytes;
        if own > self.peer_max {
            return Err(Full::Peer);
        }
        let is_light = own <= self.all_max / LIGHT_PART;
        let room = if is_light { self.all_max } else { self.all_max / HEAVY_SHARE.1 * HEAVY_SHARE.0 };
        if held.all + bytes > room {
            return Err(Full::All);
        }
        held.add(peer, bytes);
        Ok(Taken { budget: Arc::clone(self), peer, bytes })
    }

    /// Counts bytes that are there already. `false`: all together now hold too much.
    pub(super) fn count(self: &Arc<Self>, peer: PeerId, bytes: usize) -> (Taken, bool) {
        let mut held = self.held();
        held.add(peer, bytes);
        let fits = held.all <= self.all_max;
        (Taken { budget: Arc::clone(self), peer, bytes }, fits)
    }

    /// Gives back bytes of a peer, and lets others of it go on.
    fn give_back(self: &Arc<Self>, peer: PeerId, bytes: usize) {
        let mut granted = Vec::new();
        {
            let mut held = self.held();
            held.remove(peer, bytes);
            while let Some(bytes) = held.next_waiting(peer) {
                let taken = match self.try_take(&mut held, peer, bytes) {
                    Err(Full::Peer) => break,
                    taken => taken,
                };
                if let Some(waiting) = held.peers.get_mut(&peer).and_then(|holder| holder.waiting.pop_front())
                {
                    granted.push((waiting.grant, taken));
                }
            }
            held.forget_if_idle(peer);
        }
        for (grant, taken) in granted {
            // Who has gone meanwhile gives it back here, outside of the lock.
            let _gone = grant.send(taken);
        }
    }

    /// How many bytes are held, and how many may be.
    pub(super) fn usage(&self) -> (u64, u64) {
        (self.held().all as u64, self.all_max as u64)
    }

    /// Who holds how much, the most first.
    pub(super) fn holders(&self) -> Vec<(PeerId, usize)> {
        let held = self.held();
        let mut holders: Vec<_> = held.peers.iter().map(|(peer, holder)| (*peer, holder.bytes)).collect();
        holders.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        holders
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn of(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |holder| holder.bytes)
    }

    /// Whether others of a peer wait. Then it holds something, and they go on when that is given back.
    fn is_waiting(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|holder| !holder.waiting.is_empty())
    }

    fn add(&mut self, peer: PeerId, bytes: usize) {
        self.all += bytes;
        self.peers.entry(peer).or_default().bytes += bytes;
    }

    fn remove(&mut self, peer: PeerId, bytes: usize) {
        self.all -= bytes;
        if let Some(holder) = self.peers.get_mut(&peer) {
            holder.bytes -= bytes;
        }
    }

    fn wait(&mut self, peer: PeerId, bytes: usize) -> oneshot::Receiver<Result<Taken, Full>> {
        let (grant, granted) = oneshot::channel();
        let waiting = &mut self.peers.entry(peer).or_default().waiting;
        // Those that have gone are forgotten before they are many.
        if waiting.len().is_power_of_two() {
            waiting.retain(|waiting| !waiting.grant.is_closed());
        }
        waiting.push_back(Waiting { bytes, grant });
        granted
    }

    /// How much the next of a peer waits for that has not gone.
    fn next_waiting(&mut self, peer: PeerId) -> Option<usize> {
        let waiting = &mut self.peers.get_mut(&peer)?.waiting;
        while waiting.front()?.grant.is_closed() {
            waiting.pop_front();
        }
        waiting.front().map(|next| next.bytes)
    }

    fn forget_if_idle(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|holder| holder.bytes == 0 && holder.waiting.is_empty()) {
            self.peers.remove(&peer);
        }
    }
}

/// Bytes that are held. Given back when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    budget: Arc<Budget>,
    peer: PeerId,
    bytes: usize,
}

impl Taken {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let given_back = self.bytes.saturating_sub(bytes);
        if given_back > 0 {
            self.bytes -= given_back;
            self.budget.give_back(self.peer, given_back);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// What is there at once.
    fn take(budget: &Arc<Budget>, peer: u64, bytes: usize) -> Result<Taken, Full> {
        budget.try_take(&mut budget.held(), PeerId(peer), bytes)
    }

    async fn soon<T>(happens: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), happens).await.expect("it happens within ten seconds")
    }

    #[test]
    fn a_peer_holds_its_share_and_what_it_gives_back_can_be_taken_again() {
        let budget = Budget::new(64 * MIB);
        let mut most = take(&budget, 1, 24 * MIB).unwrap();
        assert_eq!(take(&budget, 1, 1).unwrap_err(), Full::Peer);
        most.shrink(MIB);
        let rest = take(&budget, 1, 23 * MIB).unwrap();
        drop((most, rest));
        assert_eq!(budget.holders(), []);
    }

    #[test]
    fn those_who_hold_much_leave_room_for_those_who_hold_little() {
        let budget = Budget::new(64 * MIB);
        let _heavy: Vec<_> = (0..2).map(|peer| take(&budget, peer, 24 * MIB).unwrap()).collect();
        assert_eq!(take(&budget, 2, 5 * MIB).unwrap_err(), Full::All);
        let light: Vec<_> = (3..7).map(|peer| take(&budget, peer, 4 * MIB).unwrap()).collect();
        assert_eq!(take(&budget, 7, 1).unwrap_err(), Full::All);
        drop(light);
        assert!(take(&budget, 7, 1).is_ok());
        assert_eq!(budget.holders()[..2].iter().map(|(_, bytes)| *bytes).sum::<usize>(), 48 * MIB);
    }

    #[test]
    fn what_is_there_already_is_counted_and_told() {
        let budget = Budget::new(64 * MIB);
        let (_first, fits) = budget.count(PeerId(1), 25 * MIB);
        assert!(fits);
        assert_eq!(take(&budget, 1, 1).unwrap_err(), Full::Peer);
        let (_second, fits) = budget.count(PeerId(2), 39 * MIB);
        assert!(fits);
        let (_third, fits) = budget.count(PeerId(1), 1);
        assert!(!fits);
        assert_eq!(budget.holders(), [(PeerId(2), 39 * MIB), (PeerId(1), 25 * MIB + 1)]);
    }

    #[tokio::test]
    async fn who_holds_too_much_waits_for_itself_alone_and_in_order() {
        let budget = Budget::new(64 * MIB);
        let take_later = |bytes| Box::pin(Arc::clone(&budget).take(PeerId(1), bytes));
        let first = take(&budget, 1, 20 * MIB).unwrap();
        let mut large = take_later(16 * MIB);
        assert!(futures::poll!(&mut large).is_pending());
        let mut gone = take_later(16 * MIB);
        assert!(futures::poll!(&mut gone).is_pending());
        let mut small = take_later(1);
        assert!(futures::poll!(&mut small).is_pending(), "it would fit, and came later");
        assert!(take(&budget, 2, 20 * MIB).is_ok());
        drop(gone);
        drop(first);
        let large = soon(large).await.unwrap();
        let small = soon(small).await.unwrap();
        assert_eq!(budget.holders(), [(PeerId(1), 16 * MIB + 1)]);
        drop((large, small));
        assert_eq!(budget.holders(), []);
    }

    #[tokio::test]
    async fn who_waited_for_itself_is_refused_when_others_have_taken_all() {
        let budget = Budget::new(64 * MIB);
        let first = take(&budget, 1, 10 * MIB).unwrap();
        let mut waiting = Box::pin(Arc::clone(&budget).take(PeerId(1), 16 * MIB));
        assert!(futures::poll!(&mut waiting).is_pending());
        let _others = [take(&budget, 2, 24 * MIB).unwrap(), take(&budget, 3, 14 * MIB).unwrap()];
        drop(first);
        assert_eq!(soon(waiting).await.unwrap_err(), Full::All);
    }

    #[tokio::test]
    async fn those_that_have_gone_are_forgotten() {
        let budget = Budget::new(64 * MIB);
        let _first = take(&budget, 1, 24 * MIB).unwrap();
        for _ in 0..1_000 {
            let mut waiting = Box::pin(Arc::clone(&budget).take(PeerId(1), 1));
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        assert!(budget.held().peers[&PeerId(1)].waiting.len() <= 2);
    }

    #[tokio::test]
    async fn more_than_a_peer_may_hold_is_taken_when_it_holds_nothing_else() {
        let budget = Budget::new(8 * MIB);
        let all = soon(Arc::clone(&budget).take(PeerId(1), 16 * MIB)).await.unwrap();
        assert!(take(&budget, 1, 1).is_err());
        drop(all);
    }
}
