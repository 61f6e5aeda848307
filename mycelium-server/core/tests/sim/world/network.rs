//! The network, and what goes wrong in it and around it.

use mycelium_core::command::{Command, Hello, OutcomeResult, Window};
use mycelium_core::ids::{Build, RequestId};

use super::super::elf::Attempt;
use super::super::seen::Seen;
use super::{Event, FromElf, MS, READ_AFTER_STALL, SECOND, ToElf, Waiting, World, secret};

impl World {
    pub(super) fn send_to_elf(&mut self, stream: u64, message: ToElf) {
        let delay = self.rng.below(if self.has_faults { 200 * MS } else { 5 * MS });
        let Some(entry) = self.streams.get_mut(&stream).filter(|entry| !entry.holes[0]) else { return };
        entry.busy_until[0] = entry.busy_until[0].max(self.now + delay) + 1;
        let time = entry.busy_until[0];
        self.at(time, Event::ToElf { stream, message });
    }

    pub(super) fn send_to_broker(&mut self, stream: u64, message: FromElf) {
        let delay = self.rng.below(if self.has_faults { 200 * MS } else { 5 * MS });
        let Some(entry) = self.streams.get_mut(&stream).filter(|entry| !entry.holes[1]) else { return };
        entry.busy_until[1] = entry.busy_until[1].max(self.now + delay) + 1;
        let time = entry.busy_until[1];
        self.at(time, Event::FromElf { stream, message });
    }

    /// Cuts a stream: what is on its way is lost. The two sides notice at different times.
    pub(super) fn cut(&mut self, stream: u64) {
        self.lose(stream, [true, true]);
        let slow = if self.has_faults { 15 * SECOND } else { SECOND };
        self.after(slow, Event::StreamGone { stream });
        self.on_stream_ended(stream);
    }

    /// What is on its way in these directions, to the elf and to the broker, is lost.
    pub(super) fn lose(&mut self, stream: u64, directions: [bool; 2]) {
        let is_lost = |event: &Event| match event {
            Event::ToElf { stream: other, .. } => directions[0] && *other == stream,
            Event::FromElf { stream: other, .. } => directions[1] && *other == stream,
            _ => false,
        };
        self.events.retain(|_, event| !is_lost(event));
    }

    /// The process of a stream comes back, soon or late.
    pub(super) fn on_stream_ended(&mut self, stream: u64) {
        let index = self.processes.iter().position(|process| process.stream == Some(stream));
        let Some(process) = index else { return };
        self.processes[process].stream = None;
        self.processes[process].is_welcome = false;
        let instance = self.processes[process].instance;
        let soon = !self.has_faults || self.rng.percent(60);
        self.after(if soon { SECOND } else { 15 * SECOND }, Event::Connect { process, instance });
    }

    pub(super) fn mishap(&mut self) {
        if !self.has_faults {
            return;
        }
        let process = usize::try_from(self.rng.below(self.processes.len() as u64)).unwrap();
        match self.rng.below(16) {
            10 => self.steal(process),
            11 | 12 => self.black_hole(process),
            13 | 15 => self.end_by_shell(process),
            14 => self.hand_over(process),
            0..4 => {
                if let Some(stream) = self.processes[process].stream {
                    self.see(Seen::StreamCut);
                    self.cut(stream);
                }
            }
            4..6 => {
                self.see(Seen::ElfKilled);
                self.kill(process);
            }
            6..8 => {
                self.see(Seen::WindowSet);
                let window = Window {
                    jobs: u32::try_from(self.rng.below(5)).unwrap(),
                    concurrency: u32::try_from(1 + self.rng.below(2)).unwrap(),
                    occupied: 0,
                };
                self.processes[process].announce(window);
                self.say(process, FromElf::SetWindow(window));
            }
            8 => {
                let waiting = self.processes[process].held.iter();
                let waiting =
                    waiting.filter(|(_, attempt)| **attempt == Attempt::Waiting).map(|(token, _)| *token);
                if let Some(token) = waiting.max() {
                    self.report(process, token, OutcomeResult::Released);
                }
            }
            _ => {
                self.say(process, FromElf::Draining);
                if self.rng.percent(50) {
                    self.see(Seen::ElfLeft);
                    self.goodbye(process);
                }
            }
        }
        self.after(self.length.apart(8 * SECOND), Event::Mishap);
    }

    pub(super) fn stall(&mut self) {
        if !self.has_faults {
            return;
        }
        self.see(Seen::Stalled);
        self.stalled_until = self.now + SECOND + self.rng.below(self.length.apart(80 * SECOND));
        self.late_by = self.stalled_until - self.now;
        if !self.is_batch_due {
            self.is_batch_due = true;
            self.at(self.stalled_until, Event::Batch);
        }
        for stream in self.streams.values_mut() {
            stream.busy_until[1] = stream.busy_until[1].max(self.stalled_until + READ_AFTER_STALL);
        }
        let next = self.stalled_until + SECOND + self.rng.below(self.length.apart(60 * SECOND));
        self.at(next, Event::Stall);
    }

    /// Somebody who knows instance and session of a process, and not its secret, says hello in its place.
    pub(super) fn steal(&mut self, process: usize) {
        let entry = &self.processes[process];
        let (instance, resume, held) = (entry.instance, entry.session, entry.held_tokens());
        if entry.secret.is_none() {
            return;
        }
        self.see(Seen::StrangerCame);
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.oracle.strangers.insert(request);
        let wrong = secret(&mut self.rng);
        let secret = self.rng.percent(50).then_some(wrong);
        let secret_new = self.rng.percent(50).then_some(wrong);
        let hello = Hello {
            knows_recall: false,
            knows_drain: false,
            needs_secret: false,
            request,
            instance,
            build: Build::UNKNOWN,
            resume,
            secret,
            secret_new,
            elves: Vec::new(),
            held,
            tells_starts: false,
        };
        self.inbox.push_back(Waiting::Command(Box::new(Command::Hello(hello))));
    }
}
