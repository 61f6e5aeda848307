//! The body of an answer on its way out: its bytes are counted until the connection has taken them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};

use super::Protocol;
use super::budget::Taken;
use super::call::Call;
use super::peers::Peer;

/// How much is handed over at once, in bytes: a chunk of a blob with its head, so that it stays one frame, and little
/// enough that a reader which takes some of a large answer shows it.
const PIECE_BYTES: usize = 128 * 1024;

pub(super) struct Answer<P: Protocol> {
    inner: P::Body,
    call: Arc<Call>,
    /// What was taken for the answer before it was there.
    reserved: Option<Taken>,
    /// What is not handed over of the chunk that is.
    rest: Bytes,
    held: Option<Arc<Held>>,
    /// Until there is room for more.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<P: Protocol> Answer<P> {
    pub(super) fn new(inner: P::Body, call: Arc<Call>, reserved: Option<Taken>) -> Self {
        Self { inner, call, reserved, rest: Bytes::new(), held: None, room: None }
    }

    /// What was taken before has its room. Of what was not, nobody makes more while much waits for the peer.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.room.is_none() && (self.reserved.is_some() || self.call.peer.has_room()) {
            return Poll::Ready(());
        }
        let peer = &self.call.peer;
        let room = self.room.get_or_insert_with(|| Box::pin(Arc::clone(peer).room()));
        ready!(room.as_mut().poll(context));
        self.room = None;
        Poll::Ready(())
    }

    fn hold(&mut self, bytes: usize) -> Arc<Held> {
        let taken = match self.reserved.take() {
            Some(mut reserved) if reserved.bytes() >= bytes => {
                reserved.shrink(bytes);
                reserved
            }
            // Counted anew with all of it.
            reserved => {
                drop(reserved);
                self.call.count_answer(bytes)
            }
        };
        self.call.peer.offer(bytes);
        Arc::new(Held { _taken: taken, bytes, peer: Arc::clone(&self.call.peer) })
    }
}

impl<P: Protocol> HttpBody for Answer<P> {
    type Data = Bytes;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let me = self.get_mut();
        if me.rest.is_empty() {
            me.held = None;
            ready!(me.poll_room(context));
            let frame = ready!(Pin::new(&mut me.inner).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => me.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let held = match &me.held {
            Some(held) => Arc::clone(held),
            None => {
                let held = me.hold(me.rest.len());
                me.held = Some(Arc::clone(&held));
                held
            }
        };
        let bytes = me.rest.split_to(me.rest.len().min(PIECE_BYTES));
        if me.rest.is_empty() {
            me.held = None;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Piece { bytes, held })))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

/// A chunk that is in memory until all of its pieces are taken.
struct Held {
    _taken: Taken,
    bytes: usize,
    peer: Arc<Peer>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.peer.withdraw(self.bytes);
    }
}

/// What the connection is given. It is dropped when it is written to the socket.
struct Piece {
    bytes: Bytes,
    held: Arc<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.peer.took();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::Response;

    use super::*;
    use crate::config::Config;
    use crate::defect::Defect;
    use crate::transport::{Refusal, Transport};

    const MIB: usize = 1024 * 1024;

    /// Bytes and nothing else.
    #[derive(Debug, Clone, Copy)]
    struct Plain;

    impl Protocol for Plain {
        type Body = Pin<Box<dyn HttpBody<Data = Bytes, Error = Refusal> + Send>>;
        type Error = Refusal;

        fn body(body: impl HttpBody<Data = Bytes, Error = Refusal> + Send + 'static) -> Self::Body {
            Box::pin(body)
        }

        fn refuse(refusal: Refusal) -> Refusal {
            refusal
        }

        fn fail(defect: Defect) -> Refusal {
            panic!("{defect}")
        }

        fn answer(error: Refusal) -> Response<Self::Body> {
            panic!("{error}")
        }
    }

    /// So many chunks of a mebibyte.
    struct Chunks(usize);

    impl HttpBody for Chunks {
        type Data = Bytes;
        type Error = Refusal;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::data(vec![7; MIB].into()))))
        }
    }

    /// What is handed over without waiting.
    async fn pieces(answer: &mut Answer<Plain>) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while let Poll::Ready(Some(frame)) =
            futures::poll!(poll_fn(|context| Pin::new(&mut *answer).poll_frame(context)))
        {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        pieces
    }

    #[tokio::test]
    async fn a_stream_is_asked_for_more_when_its_peer_has_taken_some() {
        let shared = Transport::new(&Config::default()).shared;
        let peer = shared.peers.admit(([127, 0, 0, 1], 1).into()).unwrap();
        let call = Call::begin(&shared, &peer, false).unwrap();
        let mut answer = Answer::<Plain>::new(Plain::body(Chunks(10)), call, None);
        let mut taken = pieces(&mut answer).await;
        assert_eq!(taken.iter().map(Bytes::len).sum::<usize>(), 8 * MIB);
        assert_eq!(shared.answers.holders(), [(peer.id, 8 * MIB)]);
        // Some of a chunk is nothing: all of it stays in memory.
        taken.drain(..MIB / PIECE_BYTES - 1);
        assert!(pieces(&mut answer).await.is_empty());
        taken.remove(0);
        let more = pieces(&mut answer).await;
        assert_eq!(more.iter().map(Bytes::len).sum::<usize>(), MIB);
        drop(taken);
        assert_eq!(pieces(&mut answer).await.iter().map(Bytes::len).sum::<usize>(), MIB, "the last one");
        drop((more, answer));
        assert_eq!(shared.answers.holders(), []);
    }
}
