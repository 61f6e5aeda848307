//! What the reader and the writer of a stream know together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use mycelium_core::ids::AssignNumber;

use crate::error::Error;

/// What both of them know.
pub(super) struct Shared {
    /// The highest sequence number received from the elf.
    received: AtomicU64,
    assigned: Mutex<Assigned>,
    /// Whether the elf has ended its session itself.
    has_said_goodbye: AtomicBool,
    /// Why the reader does not read on, if that is not the elf's doing.
    given_up: OnceLock<Error>,
}

/// Which assignments are known to have reached the elf.
#[derive(Default)]
struct Assigned {
    /// For each `Assign` sent and not known to be received: its sequence number, and its last assignment.
    sent: VecDeque<(u64, AssignNumber)>,
    reached: AssignNumber,
}

impl Shared {
    /// Of a stream whose first message had this sequence number.
    pub(super) fn new(sequence: u64) -> Self {
        Self {
            received: AtomicU64::new(sequence),
            assigned: Mutex::default(),
            has_said_goodbye: AtomicBool::new(false),
            given_up: OnceLock::new(),
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
    }

    /// Why the stream does not go on, if that is not the elf's doing.
    pub(super) fn given_up(&self) -> Option<&Error> {
        self.given_up.get()
    }

    /// An `Assign` has been sent: its sequence number, and its last assignment.
    pub(super) fn sent(&self, sequence: u64, last: AssignNumber) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        assigned.sent.push_back((sequence, last));
    }

    /// The last assignment that has reached an elf which has received messages up to `sequence`.
    pub(super) fn reached(&self, sequence: u64) -> AssignNumber {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sent, last)) = assigned.sent.front().copied()
            && sent <= sequence
        {
            assigned.reached = assigned.reached.max(last);
            assigned.sent.pop_front();
        }
        assigned.reached
    }
}
