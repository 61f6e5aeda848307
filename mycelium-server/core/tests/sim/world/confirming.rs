//! Streams that lead nowhere, and how the two sides find out: the elf by the broker's silence, the broker's shell by what
//! is not confirmed.

use std::collections::VecDeque;

use mycelium_core::command::{Command, StreamEnd};
use mycelium_core::ids::{AssignNumber, InstanceId, SessionId};

use super::super::seen::Seen;
use super::{Event, FromElf, MS, SECOND, Waiting, World};

/// After how long without a word of the broker an elf gives up its stream.
pub(super) const SILENCE_MAX: u64 = 10 * SECOND;
/// How often the shell looks.
const LOOK_EVERY: u64 = 500 * MS;
/// How many looks an assignment may be on its way, and how many go by in two beats.
const LOOKS_MAX: u32 = 10;
const LOOKS_OF_BEATS: u32 = 20;

/// Whether a process confirms what it is assigned, and does not wait for its next beat with it.
pub(super) fn confirms(process: usize) -> bool {
    process.is_multiple_of(2)
}

/// What the shell knows of the assignments of a stream.
#[derive(Debug, Clone)]
pub(super) struct Confirming {
    confirms: bool,
    sent: VecDeque<AssignNumber>,
    reached: AssignNumber,
    waits: u32,
    beats: u32,
    silent: u32,
}

impl Confirming {
    pub(super) fn new(process: usize) -> Self {
        let (sent, reached) = (VecDeque::new(), AssignNumber(0));
        Self { confirms: confirms(process), sent, reached, waits: 0, beats: 0, silent: 0 }
    }

    pub(super) fn sent(&mut self, last: AssignNumber) {
        self.sent.push_back(last);
    }

    fn heard(&mut self, received: Option<AssignNumber>, is_beat: bool) {
        self.silent = 0;
        let received = received.unwrap_or(AssignNumber(0));
        let before = self.sent.len();
        self.sent.retain(|last| *last > received);
        self.reached = self.reached.max(received);
        if self.sent.len() < before || self.sent.is_empty() {
            (self.waits, self.beats) = (0, 0);
        } else if is_beat {
            self.beats += 1;
        }
    }

    fn look(&mut self) -> bool {
        self.silent += 1;
        if self.sent.is_empty() {
            return false;
        }
        self.waits += 1;
        let is_old = self.waits > LOOKS_MAX;
        is_old
            && ((self.confirms && self.silent > LOOKS_MAX)
                || self.beats >= 2
                || (self.silent > LOOKS_OF_BEATS && self.waits > LOOKS_OF_BEATS))
    }
}

impl World {
    /// A process says that assignments have come, if they are still all it has to say.
    pub(super) fn confirm(&mut self, process: usize, instance: InstanceId) {
        if self.processes[process].instance == instance {
            let received = self.processes[process].received;
            self.say(process, FromElf::Confirm { received });
        }
    }

    /// The shell has read a message.
    pub(super) fn hear(&mut self, stream: u64, message: &FromElf) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let (received, is_beat) = match message {
            FromElf::Beat { received, .. } => (Some(*received), true),
            FromElf::Confirm { received } => (Some(*received), false),
            _ => (None, false),
        };
        entry.confirming.heard(received, is_beat);
        if let (Some(session), Some(received)) = (entry.session, received) {
            self.oracle.sessions.confirm(session, received);
        }
    }

    pub(super) fn look(&mut self) {
        let mut dead = Vec::new();
        for (&stream, entry) in &mut self.streams {
            if entry.confirming.look()
                && let Some(session) = entry.session
            {
                dead.push((stream, session, entry.confirming.reached));
            }
        }
        for (stream, session, received) in dead {
            self.end_stream(stream, session, StreamEnd::Unconfirmed { received });
        }
        self.at(self.now + LOOK_EVERY, Event::Look);
    }

    /// The shell ends a stream. The elf sees it unless nothing reaches it; what it has said before is read.
    fn end_stream(&mut self, stream: u64, session: SessionId, end: StreamEnd) {
        let Some(entry) = self.streams.remove(&stream) else { return };
        self.lose(stream, [true, false]);
        self.see(match end {
            StreamEnd::Unconfirmed { .. } => Seen::StreamEndedUnconfirmed,
            StreamEnd::ByShell | StreamEnd::Broken => Seen::StreamEndedByShell,
        });
        self.inbox.push_back(Waiting::Closed { session, stream, end });
        if !entry.holes[0] {
            self.after(200 * MS, Event::StreamEnded { stream });
        }
    }

    /// The shell ends the stream of a process for a reason of its own.
    pub(super) fn end_by_shell(&mut self, process: usize) {
        if let Some(stream) = self.processes[process].stream
            && let Some(session) = self.streams.get(&stream).and_then(|entry| entry.session)
        {
            self.end_stream(stream, session, StreamEnd::ByShell);
        }
    }

    /// From now on nothing arrives in one direction, or in both, and nobody is told.
    pub(super) fn black_hole(&mut self, process: usize) {
        let (holes, seen) = match self.rng.below(3) {
            0 => ([true, false], Seen::HoleToElf),
            1 => ([false, true], Seen::HoleToBroker),
            _ => ([true, true], Seen::HoleBothWays),
        };
        if let Some(stream) = self.processes[process].stream
            && let Some(entry) = self.streams.get_mut(&stream)
        {
            entry.holes = holes;
            self.see(seen);
            self.lose(stream, holes);
        }
    }

    /// A process gives its session to another, and is gone: which the shell sees when the other has resumed it.
    pub(super) fn hand_over(&mut self, process: usize) {
        let Some(session) = self.processes[process].session else { return };
        if let Some(stream) = self.processes[process].stream {
            self.see(Seen::HandedOver);
            self.cut(stream);
            self.after(20 * SECOND, Event::Late(Box::new(Command::ProcessGone { session })));
        }
    }

    /// For how long the broker stood still since then, about.
    pub(super) fn stalled_for(&self, since: u64) -> u64 {
        if self.stalled_until > since { self.stalled_until - since + SECOND } else { 0 }
    }
}
