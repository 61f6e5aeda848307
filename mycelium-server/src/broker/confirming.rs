//! Which assignments are known to have reached the elf of a stream, and whether its silence about the others means that the
//! stream leads nowhere.
//!
//! The owner of the core looks at it [every so often](LOOK_INTERVAL). The time between two looks counts, up to [a
//! bound](LOOK_COUNTS_MAX): a broker that stood still looks again and again when it goes on, and has read meanwhile what
//! elves have said.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mycelium_core::ids::AssignNumber;

/// How often it is looked at most. The owner of the core has a turn every half a second.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// How much the time between two looks counts at most.
pub(crate) const LOOK_COUNTS_MAX: Duration = Duration::from_secs(1);
/// How long an assignment may be on its way at least. An elf that confirms does so within a second.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(5);
/// So many bytes on their way give it a second more: what is large takes long on a slow line, and a line on which it is
/// never confirmed in time would bring it again and again.
const BYTES_PER_SECOND_MIN: usize = 64 * 1024;
/// How many heartbeats have to come that do not confirm an assignment: the first may have crossed with it.
const BEATS_WITHOUT: u32 = 2;

/// See the module. Its lock is held for moments, by the tasks of one stream and by the owner of the core.
#[derive(Debug)]
pub(crate) struct Confirming {
    /// Whether the elf says that it confirms within a second.
    confirms: bool,
    /// How long it may be silent, if it does not: two of its heartbeat intervals.
    silence_max: Duration,
    /// How many bytes have come on its connection in all.
    brought: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// For each `Assign` sent and not confirmed: its sequence number, and its last assignment.
    sent: VecDeque<Sent>,
    reached: AssignNumber,
    /// How many bytes `sent` has.
    bytes: usize,
    /// The highest number that the elf has said to have received; 0 if it has never said so.
    received: u64,
    /// For how long the oldest of `sent` has been the oldest, from the first look on.
    waits: Option<Duration>,
    /// How many beats have come meanwhile.
    beats: u32,
    /// For how long nothing has come from the elf, from the first look on.
    silent: Option<Duration>,
    /// How many bytes the connection had brought at the look before.
    brought: u64,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    last: AssignNumber,
    bytes: usize,
}

impl Confirming {
    /// Of an elf that is asked for heartbeats so often, on a connection that counts the bytes that come on it.
    pub(crate) fn new(confirms: bool, heartbeat_interval: Duration, brought: Arc<AtomicU64>) -> Self {
        let silence_max = heartbeat_interval.saturating_mul(2);
        Self { confirms, silence_max, brought, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An `Assign` has been sent: its sequence number, its last assignment, and about how many bytes it takes.
    pub(crate) fn sent(&self, sequence: u64, last: AssignNumber, bytes: usize) {
        let mut state = self.state();
        if sequence <= state.received {
            // The elf was quicker.
            state.reached = state.reached.max(last);
            return;
        }
        state.sent.push_back(Sent { sequence, last, bytes });
        state.bytes += bytes;
    }

    /// The elf has said something, and that it has received messages up to `received`. Returns the last assignment that has
    /// reached it.
    pub(crate) fn heard(&self, received: u64, is_beat: bool) -> AssignNumber {
        let mut state = self.state();
        state.silent = None;
        state.received = state.received.max(received);
        let before = state.sent.len();
        while let Some(first) = state.sent.front()
            && first.sequence <= received
        {
            let (last, bytes) = (first.last, first.bytes);
            state.reached = state.reached.max(last);
            state.bytes -= bytes;
            state.sent.pop_front();
        }
        if state.sent.len() < before || state.sent.is_empty() {
            (state.waits, state.beats) = (None, 0);
        } else if is_beat {
            state.beats += 1;
        }
        state.reached
    }

    /// Looks at it, so long after the look before. If the stream leads nowhere, returns the last assignment that has reached
    /// the elf.
    pub(crate) fn look(&self, since: Duration) -> Option<AssignNumber> {
        let brought = self.brought.load(Ordering::Relaxed);
        let mut state = self.state();
        if state.brought != brought {
            (state.brought, state.silent) = (brought, None);
        }
        let silent = count(&mut state.silent, since);
        if state.sent.is_empty() {
            return None;
        }
        let waits = count(&mut state.waits, since);
        if !(self.confirms || state.received > 0) {
            return None;
        }
        let for_bytes = Duration::from_secs((state.bytes / BYTES_PER_SECOND_MIN) as u64);
        let is_old = waits >= UNCONFIRMED_MAX.saturating_add(for_bytes);
        let is_dead = (self.confirms && silent >= UNCONFIRMED_MAX)
            || state.beats >= BEATS_WITHOUT
            || silent.min(waits.saturating_sub(for_bytes)) >= self.silence_max;
        (is_old && is_dead).then_some(state.reached)
    }
}

/// Counts what has lasted since the look before; the first look may come right after it began.
fn count(lasts: &mut Option<Duration>, since: Duration) -> Duration {
    *lasts.insert(lasts.map_or(Duration::ZERO, |lasts| lasts.saturating_add(since)))
}

#[cfg(test)]
mod tests;
