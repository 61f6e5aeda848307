//! The messages of a watch on their way to the caller: made one at a time, when the transport asks for the next.
//!
//! The transport keeps a buffer as large as the largest message for as long as the stream lives, and what is in it until
//! the caller reads. That is what a watch is charged for, on a budget of which each peer may take a part.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use mycelium_proto::v1;
use tokio::sync::{Notify, mpsc};
use tonic::Status as RpcStatus;

use crate::broker::{Budget, Charge};

/// About how many bytes one message takes, if there is room.
pub(super) const MESSAGE_BYTES: usize = 256 * 1024;
/// What a message may take whatever the others have taken.
const MESSAGE_BYTES_MIN: usize = 4 * 1024;
/// What the messages to one peer may take though others have taken all, as far as the reserve goes: any inline output with
/// its head.
const PEER_BYTES_MIN: usize = 96 * 1024;
/// How much of what is left one message may take: when many do not read what they are sent, messages become smaller, so
/// that something is left for those who do. Of the untouched part of a peer, it is a whole message.
const SHARE: usize = 12;

type Message = Result<v1::WatchJobsResponse, RpcStatus>;

/// Where the messages of a watch go.
#[derive(Debug)]
pub(super) struct Outgoing {
    messages: mpsc::Sender<Message>,
    /// Told when the transport asks for a message.
    asked: Arc<Notify>,
    budget: Arc<Budget>,
    /// For the largest message so far.
    charged: Mutex<Charge>,
}

/// The place of one message. Whoever drops it without a message leaves it to the next.
#[derive(Debug)]
pub(super) struct Place<'a> {
    permit: Option<mpsc::Permit<'a, Message>>,
    outgoing: &'a Outgoing,
}

/// The room for one message.
#[derive(Debug)]
pub(super) struct Room {
    charge: Charge,
    /// What the watch was charged for before.
    before: usize,
}

/// The messages of a watch, as the transport takes them.
#[derive(Debug)]
pub(super) struct Messages {
    messages: mpsc::Receiver<Message>,
    asked: Arc<Notify>,
}

/// A way for the messages of one watch.
pub(super) fn channel(budget: Arc<Budget>) -> (Outgoing, Messages) {
    let (sender, messages) = mpsc::channel(1);
    let asked = Arc::new(Notify::new());
    let charged = Mutex::new(budget.take(0));
    (Outgoing { messages: sender, asked: Arc::clone(&asked), budget, charged }, Messages { messages, asked })
}

impl Outgoing {
    /// Waits until the transport asks for a message. `None`: the caller has gone.
    pub(super) async fn place(&self) -> Option<Place<'_>> {
        tokio::select! {
            () = self.asked.notified() => {}
            () = self.messages.closed() => return None,
        }
        // It may have asked for the same message twice.
        let permit = self.messages.reserve().await.ok()?;
        Some(Place { permit: Some(permit), outgoing: self })
    }

    /// Waits until the caller has gone.
    pub(super) async fn closed(&self) {
        self.messages.closed().await;
    }

    /// Replaces what the watch is charged for; returns what it was.
    fn recharge(&self, charge: Charge) -> Charge {
        std::mem::replace(&mut *self.charged.lock().unwrap_or_else(PoisonError::into_inner), charge)
    }
}

impl Place<'_> {
    /// Takes room for a message of `wanted` bytes: as much, or less, or what an earlier message took.
    pub(super) fn room(&self, wanted: usize) -> Room {
        let budget = &self.outgoing.budget;
        let mut charge = self.outgoing.recharge(budget.take(0));
        let before = charge.bytes();
        let little = PEER_BYTES_MIN.saturating_sub(budget.used()).min(budget.reserve());
        let share = (budget.free() / SHARE).max(little);
        let bytes = wanted.min(MESSAGE_BYTES).min(before + share).max(MESSAGE_BYTES_MIN);
        charge.join(budget.take(bytes.saturating_sub(before)));
        Room { charge, before }
    }

    pub(super) fn send(self, message: v1::WatchJobsResponse, room: Room) {
        drop(self.outgoing.recharge(room.charge));
        self.fill(Ok(message));
    }

    /// Leaves the place to the next message.
    pub(super) fn leave(self, room: Room) {
        drop(self.outgoing.recharge(room.charge));
    }

    /// Ends the watch with an error.
    pub(super) fn fail(self, status: RpcStatus) {
        self.fill(Err(status));
    }

    fn fill(mut self, message: Message) {
        if let Some(permit) = self.permit.take() {
            permit.send(message);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.outgoing.asked.notify_one();
        }
    }
}

impl Room {
    pub(super) fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Makes room for `bytes`, if as much is left of the budget.
    pub(super) fn try_grow_to(&mut self, bytes: usize) -> bool {
        self.charge.try_grow_to(bytes)
    }

    /// The message has taken `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.charge.shrink_to(bytes.max(self.before));
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.messages.poll_recv(context);
        if next.is_pending() {
            self.asked.notify_one();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::broker::Parts;

    const MIB: usize = 1024 * 1024;

    fn message(commit: u64) -> v1::WatchJobsResponse {
        v1::WatchJobsResponse { commit, ..v1::WatchJobsResponse::default() }
    }

    #[tokio::test]
    async fn a_message_is_made_when_it_is_asked_for_and_a_watch_is_charged_for_its_largest() {
        let budget = Budget::new(MIB);
        let (outgoing, mut messages) = channel(Arc::clone(&budget));
        assert!(futures::poll!(std::pin::pin!(outgoing.place())).is_pending(), "nobody has asked");
        for (commit, bytes, charged) in [(1, 10_000, 10_000), (2, 30_000, 30_000), (3, 5_000, 30_000)] {
            assert!(futures::poll!(messages.next()).is_pending());
            // A place that is not used is there for the next.
            drop(outgoing.place().await.unwrap());
            let place = outgoing.place().await.unwrap();
            let mut room = place.room(bytes + 20_000);
            room.shrink_to(bytes);
            place.send(message(commit), room);
            assert!(futures::poll!(std::pin::pin!(outgoing.place())).is_pending(), "nobody has asked again");
            assert_eq!(messages.next().await.unwrap().unwrap().commit, commit);
            assert_eq!(budget.free(), MIB - charged);
        }
        drop(messages);
        assert!(outgoing.place().await.is_none(), "the caller has gone");
        drop(outgoing);
        assert_eq!(budget.free(), MIB);
    }

    #[tokio::test]
    async fn peers_that_take_all_leave_room_for_a_message_to_another() {
        let parts = Parts::new(16 * MESSAGE_BYTES);
        let peer = |port: u16| Some(([127, 0, 0, 1], port).into());
        let room = async |outgoing: &Outgoing, messages: &mut Messages| {
            assert!(futures::poll!(messages.next()).is_pending());
            let place = outgoing.place().await.unwrap();
            let room = place.room(usize::MAX);
            let bytes = room.bytes();
            place.send(message(1), room);
            bytes
        };
        let mut hostile = Vec::new();
        for watch in 0..400 {
            let (outgoing, mut messages) = channel(parts.of(peer(1 + watch % 4)));
            room(&outgoing, &mut messages).await;
            hostile.push((outgoing, messages));
        }
        assert!(parts.whole().free() < MESSAGE_BYTES, "{} bytes are free", parts.whole().free());
        let (outgoing, mut messages) = channel(parts.of(peer(5)));
        assert!(room(&outgoing, &mut messages).await >= PEER_BYTES_MIN);
        // The reserve has an end, too.
        let mut many = Vec::new();
        for port in 100..400 {
            let (outgoing, mut messages) = channel(parts.of(peer(port)));
            room(&outgoing, &mut messages).await;
            many.push((outgoing, messages));
        }
        let (taken, max) = (parts.whole().used(), 2 * 16 * MESSAGE_BYTES);
        assert!(taken <= max + 701 * MESSAGE_BYTES_MIN, "{taken} bytes");
    }

    #[tokio::test]
    async fn the_less_is_left_the_smaller_are_messages_and_there_is_always_some_room() {
        let budget = Budget::new(SHARE * MESSAGE_BYTES);
        let mut watches = Vec::new();
        let mut last = usize::MAX;
        while last > MESSAGE_BYTES_MIN {
            let (outgoing, mut messages) = channel(Arc::clone(&budget));
            assert!(futures::poll!(messages.next()).is_pending());
            let place = outgoing.place().await.unwrap();
            let room = place.room(usize::MAX);
            let bytes = room.bytes();
            assert!(bytes <= last.min(MESSAGE_BYTES), "{bytes} after {last}");
            place.send(message(1), room);
            last = bytes;
            watches.push((outgoing, messages));
        }
        assert!(budget.free() > 0, "what is left is for those who need little");
        assert!(watches.len() > 40, "{} watches took all", watches.len());
    }
}
