//! What the reader and the writer of a stream know together.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;

/// What both of them know.
pub(super) struct Shared {
    /// The highest sequence number received from the elf.
    received: AtomicU64,
    /// Whether the elf has ended its session itself.
    has_said_goodbye: AtomicBool,
    /// Why the reader does not read on, if that is not the elf's doing.
    given_up: OnceLock<Error>,
    /// Whether it is the broker that ends the stream.
    is_ended_here: AtomicBool,
}

impl Shared {
    /// Of a stream whose first message had this sequence number.
    pub(super) fn new(sequence: u64) -> Self {
        Self {
            received: AtomicU64::new(sequence),
            has_said_goodbye: AtomicBool::new(false),
            given_up: OnceLock::new(),
            is_ended_here: AtomicBool::new(false),
        }
    }

    /// A message with this sequence number has been received.
    pub(super) fn receive(&self, sequence: u64) {
        self.received.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The highest sequence number received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The elf ends its session.
    pub(super) fn say_goodbye(&self) {
        self.has_said_goodbye.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_said_goodbye(&self) -> bool {
        self.has_said_goodbye.load(Ordering::Relaxed)
    }

    /// The stream does not go on, because of `error` or what was given before it.
    pub(super) fn give_up(&self, error: Error) {
        let _given_up_before = self.given_up.set(error);
        self.end_here();
    }

    /// The broker ends the stream, for a reason of its own.
    pub(super) fn end_here(&self) {
        self.is_ended_here.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ended_here(&self) -> bool {
        self.is_ended_here.load(Ordering::Relaxed)
    }

    /// Why the stream does not go on, if that is not the elf's doing.
    pub(super) fn given_up(&self) -> Option<&Error> {
        self.given_up.get()
    }
}
