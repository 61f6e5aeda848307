//! What the connection, its writer and the worker that started it share.
//!
//! The writer is the request stream: the transport asks it for the next message whenever there is room for one, so it never
//! runs ahead of the network and never waits for the reader.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use mycelium_proto::v1;

use super::attempt::{Finished, GOES_ON, Token};
use super::executor::Outbox;
use super::ledger::Ledger;
use crate::reports::Hub;

/// See the module.
pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    pub(super) outbox: Arc<Outbox>,
    /// What attempts have reported.
    pub(super) reports: Arc<Hub>,
}

impl Shared {
    pub(super) fn new(ledger: Ledger, outbox: Arc<Outbox>) -> Arc<Self> {
        let reports = Arc::clone(ledger.reports());
        Arc::new(Self { ledger: Mutex::new(ledger), outbox, reports })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt goes on although its grace is over. The log says so once.
    pub(super) fn on_went_on(&self, token: Token, serial: u64, failure: Option<(v1::Failure, Duration)>) {
        if self.ledger().on_went_on(token, serial, failure) {
            self.outbox.writer.wake();
            tracing::warn!(job_id = %token.job_id, attempt = token.attempt, "{}", GOES_ON);
        }
    }

    /// The runtime that tasks run on is late, or is no longer. The log says so once each time, the broker is told again
    /// as it goes on.
    pub(super) fn on_late(&self, late_by: Option<Duration>) {
        let was_late = self.ledger().on_late(late_by);
        self.outbox.writer.wake();
        match late_by {
            Some(late_by) if !was_late => tracing::warn!(
                late_by_ms = u64::try_from(late_by.as_millis()).unwrap_or(u64::MAX),
                "all threads of this program's runtime are blocked, so its tasks stand still; what blocks belongs into \
                 a task that is not `async`, or into spawn_blocking"
            ),
            Some(_) => {}
            None => tracing::info!("the threads of this program's runtime are no longer blocked"),
        }
    }
}

/// The request stream: what the transport takes the next message from.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Which stream it writes on: the transport may hold on to the writer of a stream that is over.
    stream: u64,
    /// Outcomes in passing; kept for its memory.
    finished: Vec<Finished>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let stream = shared.ledger().on_stream_opened();
        Self { shared, stream, finished: Vec::new() }
    }
}

impl Stream for Writer {
    type Item = v1::ConnectRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::ConnectRequest>> {
        let this = self.get_mut();
        let mut ledger = this.shared.ledger();
        if ledger.is_over(this.stream) {
            return Poll::Ready(None);
        }
        // Before looking, so that what arrives while looking wakes this writer again.
        this.shared.outbox.writer.register(context.waker());
        this.shared.outbox.take(&mut this.finished);
        ledger.on_finished(this.finished.drain(..));
        match ledger.next_message(Instant::now()) {
            Some(message) => Poll::Ready(Some(message)),
            None if ledger.is_gone() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
