//! Turns at something of which there is not enough for all who want it at once, such as cores or room in a commit.
//!
//! Who wants a turn names its party: a flow, a peer. Within a party the first come is the first served; the parties are
//! served in turn, so that one that wants a thousand turns holds up another by one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Turns, of so many weights at once. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Turns<P: Clone + Eq + Hash> {
    inner: Arc<Mutex<Inner<P>>>,
}

#[derive(Debug)]
struct Inner<P: Clone + Eq + Hash> {
    capacity: usize,
    in_use: usize,
    waiting: HashMap<P, VecDeque<Waiter<P>>>,
    /// The parties of which some wait, each once; the first is next.
    order: VecDeque<P>,
}

#[derive(Debug)]
struct Waiter<P: Clone + Eq + Hash> {
    weight: usize,
    wake: oneshot::Sender<Turn<P>>,
}

/// A turn, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Turn<P: Clone + Eq + Hash> {
    turns: Turns<P>,
    weight: usize,
}

impl<P: Clone + Eq + Hash> Clone for Turns<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Clone + Eq + Hash> Turns<P> {
    /// At most `capacity` at once, at least 1.
    pub(crate) fn new(capacity: usize) -> Self {
        let (waiting, order) = (HashMap::new(), VecDeque::new());
        Self { inner: Arc::new(Mutex::new(Inner { capacity: capacity.max(1), in_use: 0, waiting, order })) }
    }

    /// Waits for a turn. What weighs more than there is room for gets all of it.
    ///
    /// # Cancel safety
    /// Whoever does not wait any longer gives up its place.
    pub(crate) async fn turn(&self, party: P, weight: usize) -> Turn<P> {
        loop {
            let waiting = {
                let mut inner = self.lock();
                let weight = weight.clamp(1, inner.capacity);
                if inner.order.is_empty() && inner.in_use + weight <= inner.capacity {
                    inner.in_use += weight;
                    drop(inner);
                    return Turn { turns: self.clone(), weight };
                }
                let (wake, woken) = oneshot::channel();
                let of_party = inner.waiting.entry(party.clone()).or_default();
                of_party.push_back(Waiter { weight, wake });
                if of_party.len() == 1 {
                    inner.order.push_back(party.clone());
                }
                woken
            };
            // Never dropped unanswered; and if it were, there would be another try.
            if let Ok(turn) = waiting.await {
                return turn;
            }
        }
    }

    /// Gives turns to those who wait, as far as there is room.
    fn serve(&self) {
        loop {
            let Some((wake, weight)) = self.lock().next() else { return };
            // Whoever has gone drops the turn, which makes room again: outside of the lock.
            let turn = Turn { turns: self.clone(), weight };
            if let Err(mut unwanted) = wake.send(turn) {
                self.lock().in_use -= std::mem::take(&mut unwanted.weight);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Clone + Eq + Hash> Inner<P> {
    /// Takes out the next who waits, if there is room.
    fn next(&mut self) -> Option<(oneshot::Sender<Turn<P>>, usize)> {
        while let Some(party) = self.order.front() {
            let of_party = self.waiting.get_mut(party)?;
            while of_party.front().is_some_and(|waiter| waiter.wake.is_closed()) {
                of_party.pop_front();
            }
            match of_party.front() {
                Some(waiter) if self.in_use + waiter.weight > self.capacity => return None,
                Some(_) | None => {}
            }
            let next = of_party.pop_front();
            let is_last = of_party.is_empty();
            if let Some(party) = self.order.pop_front() {
                if is_last {
                    self.waiting.remove(&party);
                } else {
                    self.order.push_back(party);
                }
            }
            if let Some(Waiter { weight, wake }) = next {
                self.in_use += weight;
                return Some((wake, weight));
            }
        }
        None
    }
}

impl<P: Clone + Eq + Hash> Drop for Turn<P> {
    fn drop(&mut self) {
        if self.weight > 0 {
            self.turns.lock().in_use -= self.weight;
            self.turns.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::stream::{FuturesUnordered, StreamExt as _};

    use super::*;

    /// The parties in the order in which they get turns, of which there is one at once.
    async fn served(turns: &Turns<char>, wanted: &str) -> String {
        let held = turns.turn('-', 1).await;
        let mut waiting: FuturesUnordered<_> = wanted
            .chars()
            .map(|party| {
                let turns = turns.clone();
                async move {
                    let _turn = turns.turn(party, 1).await;
                    party
                }
            })
            .collect();
        let first = waiting.next().now_or_never();
        assert!(first.is_none_or(|first| first.is_none()), "there is one turn at once");
        drop(held);
        waiting.collect().await
    }

    #[tokio::test]
    async fn parties_are_served_in_turn_and_within_one_the_first_come_first() {
        let turns = Turns::new(1);
        assert_eq!(served(&turns, "aaaabbc").await, "abcabaa");
        assert_eq!(served(&turns, "").await, "");
        let inner = turns.lock();
        assert!(inner.in_use == 0 && inner.waiting.is_empty() && inner.order.is_empty(), "{inner:?}");
    }

    #[tokio::test]
    async fn turns_are_as_many_as_there_is_room_for() {
        let turns = Turns::new(10);
        let first = turns.turn('a', 4).await;
        let second = turns.turn('a', 6).await;
        let mut third = Box::pin(turns.turn('b', 5));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "4 is not enough for 5");
        // Nobody overtakes, or one that wants much would never have its turn.
        let mut fourth = Box::pin(turns.turn('c', 1));
        assert!((&mut fourth).now_or_never().is_none());
        drop(second);
        let third = (&mut third).now_or_never().unwrap();
        let fourth = (&mut fourth).now_or_never().unwrap();
        let mut all = Box::pin(turns.turn('d', 1_000));
        assert!((&mut all).now_or_never().is_none());
        drop((third, fourth));
        drop((&mut all).now_or_never().unwrap());
        assert_eq!(turns.lock().in_use, 0);
    }

    #[tokio::test]
    async fn whoever_gives_up_holds_up_nobody() {
        let turns = Turns::new(1);
        let held = turns.turn('a', 1).await;
        let mut gives_up = Box::pin(turns.turn('b', 1));
        assert!((&mut gives_up).now_or_never().is_none());
        let mut stays = Box::pin(turns.turn('c', 1));
        assert!((&mut stays).now_or_never().is_none());
        drop(gives_up);
        drop(held);
        drop((&mut stays).now_or_never().unwrap());

        // One that has been given its turn and goes before it notices.
        let held = turns.turn('a', 1).await;
        let mut gives_up = Box::pin(turns.turn('b', 1));
        assert!((&mut gives_up).now_or_never().is_none());
        drop(held);
        drop(gives_up);
        assert!(turns.turn('c', 1).now_or_never().is_some());
        assert_eq!(turns.lock().in_use, 0);
    }
}
