//! The body of a request on its way in: what its messages take is taken from the budget before they come, and it has to
//! come on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use mycelium_proto::limits::MESSAGE_BYTES_MAX;
use tokio::time::{Instant, Sleep};

use super::budget::{Full, Taken};
use super::call::Call;
use super::{Protocol, Refusal};

/// How long a request of one message may take to come.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// A stream has to bring so many bytes ...
const PACE_BYTES: usize = 64 * 1024;
/// ... in such a time of waiting for it.
const PACE_WITHIN: Duration = Duration::from_secs(10);
/// How long the head of a gRPC message is: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// What a request is made of, and how fast it has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One message.
    One,
    /// The bytes of something large: they keep coming.
    Upload,
    /// Messages, each when there is something to say; one that has begun keeps coming.
    Messages,
}

type Taking = Pin<Box<dyn Future<Output = Result<Taken, Full>> + Send>>;

pub(super) struct Incoming<P: Protocol> {
    inner: P::Body,
    call: Arc<Call>,
    shape: Shape,
    messages: Messages,
    /// What came, and waits until there is room for the message that begins with it.
    held_back: Option<(Frame<Bytes>, Taking)>,
    began: Instant,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<P: Protocol> Incoming<P> {
    pub(super) fn new(inner: P::Body, call: Arc<Call>, shape: Shape) -> Self {
        Self {
            inner,
            call,
            shape,
            messages: Messages::default(),
            held_back: None,
            began: Instant::now(),
            pace: Pace::default(),
            timer: None,
        }
    }

    /// Passes a frame on when there is room for what it begins.
    fn poll_held_back(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let Some((_, taking)) = &mut self.held_back else { return Poll::Ready(None) };
        let taken = match taking.as_mut().poll(context) {
            Poll::Ready(taken) => taken,
            // It waits for others of the same peer.
            Poll::Pending if self.shape == Shape::One => return self.poll_whole(context),
            Poll::Pending => return Poll::Pending,
        };
        let frame = self.held_back.take().map(|(frame, _)| frame);
        match taken {
            Ok(taken) => {
                self.call.holds(Some(taken));
                Poll::Ready(frame.map(Ok))
            }
            Err(_full) => Poll::Ready(Some(Err(P::refuse(Refusal::ReceivingFull)))),
        }
    }

    /// Fails when it is too late.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let is_paced = match self.shape {
            Shape::One => return self.poll_whole(context),
            Shape::Upload => true,
            Shape::Messages => !self.messages.is_between(),
        };
        if !is_paced {
            return Poll::Pending;
        }
        let until = self.pace.wait(Instant::now());
        ready!(self.poll_timer(until, context));
        let refusal = match self.shape {
            Shape::Upload => Refusal::UploadStalled,
            Shape::One | Shape::Messages => Refusal::RequestStalled,
        };
        Poll::Ready(Some(Err(P::refuse(refusal))))
    }

    fn poll_whole(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        ready!(self.poll_timer(self.began + WHOLE_WITHIN, context));
        Poll::Ready(Some(Err(P::refuse(Refusal::RequestStalled))))
    }

    fn poll_timer(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }
}

impl<P: Protocol> HttpBody for Incoming<P> {
    type Data = Bytes;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let me = self.get_mut();
        if me.held_back.is_some() {
            return me.poll_held_back(context);
        }
        if me.shape != Shape::One && me.messages.is_between() {
            // Whoever asks for more has dealt with what came.
            me.call.holds(None);
        }
        let frame = match Pin::new(&mut me.inner).poll_frame(context) {
            Poll::Pending => return me.poll_late(context),
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(None) => {
                me.call.begin_work();
                return Poll::Ready(None);
            }
            failed @ Poll::Ready(Some(Err(_))) => return failed,
        };
        let Some(data) = frame.data_ref() else { return Poll::Ready(Some(Ok(frame))) };
        me.call.peer.has_brought(data.len());
        me.pace.bring(data.len(), Instant::now());
        let Some(bytes) = me.messages.pass(data) else { return Poll::Ready(Some(Ok(frame))) };
        // A message that is longer than any may be is refused by who reads it.
        if bytes > MESSAGE_BYTES_MAX {
            return Poll::Ready(Some(Ok(frame)));
        }
        me.pace = Pace::default();
        // The message before it is whole, and is not waited for.
        me.call.holds(None);
        let shared = Arc::clone(&me.call.shared);
        let budget = Arc::clone(&shared.receiving);
        me.held_back = Some((frame, Box::pin(shared.take(budget, me.call.peer.id, bytes))));
        me.poll_held_back(context)
    }

    fn is_end_stream(&self) -> bool {
        self.held_back.is_none() && self.inner.is_end_stream()
    }
}

/// Where in its gRPC messages a body is.
#[derive(Debug, Default)]
struct Messages {
    /// What is there of the head of a message.
    head: [u8; HEAD_BYTES],
    n_head: usize,
    /// How much of the message is missing.
    missing: usize,
}

impl Messages {
    /// Passes over bytes. Gives the length of a message that begins in them and is not whole with them.
    fn pass(&mut self, mut bytes: &[u8]) -> Option<usize> {
        loop {
            let body = bytes.len().min(self.missing);
            self.missing -= body;
            bytes = &bytes[body..];
            if bytes.is_empty() {
                return None;
            }
            let head = bytes.len().min(HEAD_BYTES - self.n_head);
            self.head[self.n_head..self.n_head + head].copy_from_slice(&bytes[..head]);
            self.n_head += head;
            bytes = &bytes[head..];
            if self.n_head < HEAD_BYTES {
                return None;
            }
            self.n_head = 0;
            let [_, length @ ..] = self.head;
            self.missing = u32::from_be_bytes(length) as usize;
            if self.missing > bytes.len() {
                let length = self.missing;
                self.missing -= bytes.len();
                return Some(length);
            }
        }
    }

    fn is_between(&self) -> bool {
        self.missing == 0 && self.n_head == 0
    }
}

/// How fast something comes. Only the time counts in which it is waited for.
#[derive(Debug, Default)]
struct Pace {
    brought: usize,
    waited: Duration,
    waits_since: Option<Instant>,
}

impl Pace {
    fn bring(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.waited += now - since;
        }
        self.brought += bytes;
        if self.brought >= PACE_BYTES {
            *self = Self::default();
        }
    }

    /// It is waited for. Gives when that has been too long.
    fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.waits_since.get_or_insert(now);
        since + PACE_WITHIN.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(HEAD_BYTES + length as usize, 7);
        bytes
    }

    #[test]
    fn a_message_that_is_not_whole_is_told_once_with_its_length() {
        let bytes = [message(3), message(0), message(1000), message(2)].concat();
        for cut in 1..bytes.len() {
            let mut messages = Messages::default();
            let mut told = Vec::new();
            for piece in bytes.chunks(cut) {
                told.extend(messages.pass(piece));
            }
            assert!(messages.is_between(), "pieces of {cut}");
            let n_long = told.iter().filter(|length| **length == 1000).count();
            assert_eq!(n_long, usize::from(cut < bytes.len() - 7), "pieces of {cut}: {told:?}");
            assert!(told.iter().all(|length| [2, 3, 1000].contains(length)), "pieces of {cut}: {told:?}");
        }
    }

    #[test]
    fn what_claims_to_be_longer_than_memory_is_only_a_number() {
        let mut messages = Messages::default();
        assert_eq!(messages.pass(&[0, 255, 255, 255, 255, 1]), Some(u32::MAX as usize));
        assert!(!messages.is_between());
    }

    #[test]
    fn only_waiting_counts_and_each_64_kib_begin_anew() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(pace.wait(begin), after(10));
        assert_eq!(pace.wait(after(1)), after(10));
        pace.bring(PACE_BYTES - 1, after(4));
        // Nobody waits for a minute.
        assert_eq!(pace.wait(after(64)), after(70));
        pace.bring(1, after(69));
        assert_eq!(pace.wait(after(69)), after(79));
    }
}
