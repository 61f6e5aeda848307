//! What a worker owes the broker: the attempts it holds, the outcomes that were not acknowledged, and the next message.
//!
//! Pure bookkeeping: no I/O, no clock, no waiting. The connection feeds it what arrives and asks it what to send, so
//! that everything about resuming, repeating and forgetting stands in one place and is tested without a network.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, connect_request, outcome};
use tokio_util::sync::CancellationToken;

use super::attempt::{ElfIndex, Finished, Token, Work};
use super::identity::Identity;
use crate::ids::FlowId;

/// The most outcomes in one message, and the most bytes of them before the next message begins.
const OUTCOMES_PER_MESSAGE_MAX: usize = 1_024;
const OUTCOME_BYTES_PER_MESSAGE_TARGET: usize = 1024 * 1024;

/// What the ledger knows of one elf.
#[derive(Debug)]
pub(super) struct ElfAccount {
    /// The name under which it is served.
    pub(super) name: Arc<str>,
    /// What it says of itself.
    pub(super) declaration: v1::ElfDeclaration,
    /// How many jobs it holds at most.
    pub(super) window: u32,
    /// How many of them run at once.
    pub(super) concurrency: u32,
    /// Its tasks, so that a task's name is shared by all its jobs.
    pub(super) tasks: HashMap<String, Arc<str>>,
    /// How many attempts it holds that are not finished. Never more than `window`.
    pub(super) unfinished: u32,
}

/// What the session is resumed with.
#[derive(Default)]
struct Secret(Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

#[derive(Debug)]
enum Held {
    /// Waits to start, or runs.
    Open { serial: u64, elf: ElfIndex, cancel: CancellationToken },
    /// Has an outcome that was not acknowledged.
    Finished { outcome: outcome::Result, bytes: usize },
}

/// How far the worker is with leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Leaving {
    #[default]
    No,
    /// Takes no more jobs. `is_said`: the broker was told on this stream.
    Draining { is_said: bool },
    /// Says goodbye next.
    Goodbye,
    /// Has said goodbye: nothing more is sent.
    Gone,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stream {
    /// There is none.
    #[default]
    Closed,
    /// `Hello` is to be sent.
    Hello,
    /// `Hello` was sent; nothing else may be until `Welcome` is here.
    Waiting,
    /// Open for everything.
    Welcomed,
}

/// Whether the broker is to be told that assignments have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Confirmation {
    /// It knows of all.
    #[default]
    Done,
    /// By whatever is said next.
    Owed,
    /// Now, by a message of its own if nothing else is to be said.
    Due,
}

/// What a message of the broker asks the rest of the worker to do.
#[derive(Debug, Default)]
pub(super) struct Actions {
    /// Attempts to start, in this order.
    pub(super) start: Vec<Work>,
    /// Attempts that are no longer wanted.
    pub(super) cancel: Vec<CancellationToken>,
    /// There may be something new to send.
    pub(super) wake_writer: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    identity: Identity,
    elves: Vec<ElfAccount>,
    elf_by_name: HashMap<Arc<str>, ElfIndex>,
    held: HashMap<Token, Held>,
    /// Finished attempts whose outcome was not sent on this stream, oldest first. May name attempts that were
    /// dropped since.
    unsent: VecDeque<Token>,
    serial_last: u64,
    session: u64,
    secret: Secret,
    stream: Stream,
    stream_number: u64,
    leaving: Leaving,
    is_beat_due: bool,
    /// How long the tasks have stood still, if they do.
    late_by: Option<Duration>,
    sequence_sent: u64,
    sequence_received: u64,
    /// Whether the broker takes messages that say nothing but what was received.
    takes_bare_messages: bool,
    confirmation: Confirmation,
}

impl Ledger {
    pub(super) fn new(identity: Identity, elves: Vec<ElfAccount>) -> Self {
        let elf_by_name = elves.iter().map(|elf| Arc::clone(&elf.name)).zip(0..).collect();
        Self { identity, elves, elf_by_name, ..Self::default() }
    }

    /// The session; 0 before the first.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Attempts held whose outcome the broker has not acknowledged, and attempts that have none yet.
    pub(super) fn counts(&self) -> Counts {
        let running = self.elves.iter().map(|elf| elf.unfinished as usize).sum();
        Counts { running, unacknowledged: self.held.len() - running }
    }

    /// Whether it holds attempts, with an outcome or without.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the worker is leaving and owes the broker nothing more.
    pub(super) fn owes_nothing(&self) -> bool {
        self.leaving != Leaving::No && self.held.is_empty()
    }

    /// A new stream begins, with `Hello`. Returns its number on this side.
    pub(super) fn on_stream_opened(&mut self) -> u64 {
        self.stream = Stream::Hello;
        self.stream_number += 1;
        self.sequence_sent = 0;
        self.sequence_received = 0;
        self.confirmation = Confirmation::Done;
        self.is_beat_due = false;
        if let Leaving::Draining { is_said } = &mut self.leaving {
            *is_said = false;
        }
        self.stream_number
    }

    /// Whether a stream is over, so that nothing more may be sent on it.
    pub(super) fn is_over(&self, stream_number: u64) -> bool {
        self.stream == Stream::Closed || self.stream_number != stream_number
    }

    /// The stream is over. What was sent on it and not acknowledged is sent again on the next.
    pub(super) fn on_stream_closed(&mut self) {
        self.stream = Stream::Closed;
    }

    /// Notes the number of a message that arrived.
    pub(super) fn on_sequence(&mut self, sequence: u64) {
        self.sequence_received = self.sequence_received.max(sequence);
    }

    pub(super) fn on_welcome(&mut self, welcome: &v1::Welcome) -> Actions {
        let mut actions = Actions { wake_writer: true, ..Actions::default() };
        let keep: HashSet<Token> = if welcome.resumed {
            welcome.keep.iter().filter_map(Token::from_wire).collect()
        } else {
            HashSet::new()
        };
        let dropped: Vec<Token> = self.held.keys().filter(|token| !keep.contains(token)).copied().collect();
        for token in &dropped {
            actions.cancel.extend(self.forget(token));
        }
        self.session = welcome.session;
        if !welcome.resumed {
            // Empty if the broker speaks a version that knows no secrets.
            self.secret = Secret(welcome.session_secret.clone());
        }
        self.takes_bare_messages = welcome.takes_bare_messages;
        self.stream = Stream::Welcomed;
        // In the order they were finished as far as that is known: those sent before come first.
        let queued: HashSet<Token> = self.unsent.iter().copied().collect();
        let again = self
            .held
            .iter()
            .filter(|(token, held)| matches!(held, Held::Finished { .. }) && !queued.contains(token));
        let mut unsent: VecDeque<Token> = again.map(|(token, _)| *token).collect();
        unsent.extend(self.unsent.drain(..).filter(|token| self.held.contains_key(token)));
        self.unsent = unsent;
        actions
    }

    pub(super) fn on_assign(&mut self, assign: v1::Assign) -> Actions {
        let mut actions = Actions::default();
        self.confirmation = Confirmation::Owed;
        for assignment in assign.assignments {
            self.take_assignment(assignment, &mut actions);
        }
        actions
    }

    fn take_assignment(&mut self, assignment: v1::Assignment, actions: &mut Actions) {
        let Some(token) = assignment.token.as_ref().and_then(Token::from_wire) else {
            tracing::warn!("assignment without a valid token is ignored");
            return;
        };
        if self.held.contains_key(&token) {
            tracing::debug!(job_id = %token.job_id, attempt = token.attempt, "assignment was here already");
            return;
        }
        let Some(&elf) = self.elf_by_name.get(assignment.elf.as_str()) else {
            tracing::warn!(job_id = %token.job_id, elf = assignment.elf, "assignment for an elf not served here");
            // Not held, so the next heartbeat tells the broker that it returns to its queue.
            return;
        };
        let account = &mut self.elves[elf as usize];
        if account.unfinished >= account.window {
            // As above. The broker never sends more than the window while both sides count right.
            tracing::warn!(job_id = %token.job_id, elf = %account.name, "assignment beyond the window is ignored");
            return;
        }
        if matches!(self.leaving, Leaving::Goodbye | Leaving::Gone) {
            // It crossed the goodbye, which gives it back.
            return;
        }
        account.unfinished += 1;
        if self.leaving != Leaving::No {
            self.finish(token, elf, outcome::Result::Released(v1::AttemptReleased {}), 0);
            actions.wake_writer = true;
            return;
        }
        self.serial_last += 1;
        let serial = self.serial_last;
        let cancel = CancellationToken::new();
        self.held.insert(token, Held::Open { serial, elf, cancel: cancel.clone() });
        let task = match account.tasks.get(assignment.task.as_str()) {
            Some(task) => Arc::clone(task),
            // The elf answers that it has no such task.
            None => Arc::from(assignment.task.as_str()),
        };
        actions.start.push(Work {
            token,
            serial,
            elf,
            task,
            // For the task's information only.
            flow_id: FlowId::try_from(assignment.flow_id.as_ref()).unwrap_or(FlowId::from_bytes([0; 16])),
            arguments: assignment.arguments,
            cancel,
        });
    }

    pub(super) fn on_acks(&mut self, acks: &v1::OutcomeAcks) {
        for ack in &acks.acks {
            let Some(token) = ack.token.as_ref().and_then(Token::from_wire) else { continue };
            match ack.verdict() {
                v1::OutcomeVerdict::Recorded | v1::OutcomeVerdict::Duplicate => {}
                verdict @ (v1::OutcomeVerdict::Stale
                | v1::OutcomeVerdict::Refused
                | v1::OutcomeVerdict::Unspecified) => {
                    tracing::debug!(job_id = %token.job_id, attempt = token.attempt, ?verdict, "outcome not recorded");
                }
            }
            // An acknowledgement of an outcome that was not sent is ignored: the attempt goes on.
            if matches!(self.held.get(&token), Some(Held::Finished { .. })) {
                self.held.remove(&token);
            }
        }
    }

    pub(super) fn on_heartbeat_ack(&mut self, ack: &v1::HeartbeatAck) -> Actions {
        let unknown = ack.unknown.iter().filter_map(Token::from_wire);
        let cancel = unknown.filter_map(|token| self.forget(&token)).collect();
        Actions { cancel, ..Actions::default() }
    }

    pub(super) fn on_cancel(&mut self, cancel: &v1::Cancel) -> Actions {
        let tokens = cancel.tokens.iter().filter_map(Token::from_wire);
        let cancel = tokens
            .filter_map(|token| match self.held.get(&token) {
                Some(Held::Open { cancel, .. }) => Some(cancel.clone()),
                Some(Held::Finished { .. }) | None => None,
            })
            .collect();
        Actions { cancel, ..Actions::default() }
    }

    /// Takes the outcomes of attempts. Those of attempts that were dropped meanwhile are discarded.
    pub(super) fn on_finished(&mut self, finished: impl IntoIterator<Item = Finished>) {
        for Finished { token, serial, outcome, bytes } in finished {
            match self.held.get(&token) {
                Some(&Held::Open { serial: held, elf, .. }) if held == serial => {
                    self.finish(token, elf, outcome, bytes);
                }
                Some(Held::Open { .. } | Held::Finished { .. }) | None => {
                    tracing::debug!(job_id = %token.job_id, attempt = token.attempt, "outcome is no longer wanted");
                }
            }
        }
    }

    fn finish(&mut self, token: Token, elf: ElfIndex, outcome: outcome::Result, bytes: usize) {
        self.elves[elf as usize].unfinished -= 1;
        self.held.insert(token, Held::Finished { outcome, bytes });
        self.unsent.push_back(token);
    }

    /// Drops an attempt without a report. Returns what stops it if it is open.
    fn forget(&mut self, token: &Token) -> Option<CancellationToken> {
        match self.held.remove(token)? {
            Held::Open { elf, cancel, .. } => {
                self.elves[elf as usize].unfinished -= 1;
                Some(cancel)
            }
            Held::Finished { .. } => None,
        }
    }

    /// A sign of life is due.
    pub(super) fn on_beat(&mut self) {
        self.is_beat_due = true;
    }

    /// What has been assigned is to be confirmed, if nothing was said since. Returns whether there is something to say.
    pub(super) fn confirm(&mut self) -> bool {
        let is_due = self.confirmation != Confirmation::Done && self.takes_bare_messages;
        if is_due {
            self.confirmation = Confirmation::Due;
        }
        is_due
    }

    /// For how long the tasks have stood still; none if they do not. The broker is told with a beat of its own. Returns
    /// whether they stood still before.
    pub(super) fn on_late(&mut self, late_by: Option<Duration>) -> bool {
        self.on_beat();
        std::mem::replace(&mut self.late_by, late_by).is_some()
    }

    /// The worker takes no more jobs.
    pub(super) fn drain(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Draining { is_said: false };
        }
    }

    /// The worker ends its session, whatever it still holds. Returns what stops the attempts that are open.
    pub(super) fn leave(&mut self) -> Vec<CancellationToken> {
        if self.leaving != Leaving::Gone {
            self.leaving = Leaving::Goodbye;
        }
        let open = self.held.values().filter_map(|held| match held {
            Held::Open { cancel, .. } => Some(cancel.clone()),
            Held::Finished { .. } => None,
        });
        open.collect()
    }

    /// Whether the last message was sent, and the stream ends.
    pub(super) fn is_gone(&self) -> bool {
        self.leaving == Leaving::Gone
    }

    /// The next message, if there is one to send now.
    pub(super) fn next_message(&mut self) -> Option<v1::ConnectRequest> {
        let kind = self.next_kind();
        let may_be_bare = self.stream == Stream::Welcomed && !self.is_gone();
        if kind.is_none() && !(may_be_bare && self.confirmation == Confirmation::Due) {
            return None;
        }
        self.confirmation = Confirmation::Done;
        self.sequence_sent += 1;
        Some(v1::ConnectRequest { sequence: self.sequence_sent, received: self.sequence_received, kind })
    }

    fn next_kind(&mut self) -> Option<connect_request::Kind> {
        if self.leaving == Leaving::Gone {
            return None;
        }
        match self.stream {
            Stream::Closed | Stream::Waiting => return None,
            Stream::Hello => {
                self.stream = Stream::Waiting;
                return Some(connect_request::Kind::Hello(self.hello()));
            }
            Stream::Welcomed => {}
        }
        if self.leaving == (Leaving::Draining { is_said: false }) {
            self.leaving = Leaving::Draining { is_said: true };
            return Some(connect_request::Kind::Draining(v1::Draining {}));
        }
        // Beats first: outcomes may be many, and a beat is what keeps the session.
        if std::mem::take(&mut self.is_beat_due) {
            let late_by = self.late_by.and_then(|late_by| late_by.try_into().ok());
            let beat = v1::Heartbeat { held: self.inventory(), late_by };
            return Some(connect_request::Kind::Heartbeat(beat));
        }
        if let Some(outcomes) = self.next_outcomes() {
            return Some(connect_request::Kind::Outcomes(outcomes));
        }
        match self.leaving {
            Leaving::No | Leaving::Draining { .. } | Leaving::Gone => None,
            Leaving::Goodbye => {
                self.leaving = Leaving::Gone;
                Some(connect_request::Kind::Goodbye(v1::Goodbye {}))
            }
        }
    }

    fn next_outcomes(&mut self) -> Option<v1::Outcomes> {
        let mut outcomes = Vec::new();
        let mut bytes_sum = 0;
        while outcomes.len() < OUTCOMES_PER_MESSAGE_MAX && bytes_sum < OUTCOME_BYTES_PER_MESSAGE_TARGET {
            let Some(token) = self.unsent.pop_front() else { break };
            // It may have been dropped since.
            let Some(Held::Finished { outcome, bytes }) = self.held.get(&token) else { continue };
            bytes_sum += bytes;
            outcomes.push(v1::Outcome { token: Some(token.to_wire()), result: Some(outcome.clone()) });
        }
        (!outcomes.is_empty()).then_some(v1::Outcomes { outcomes })
    }

    fn inventory(&self) -> Vec<v1::Token> {
        self.held.keys().map(|token| token.to_wire()).collect()
    }

    fn hello(&self) -> v1::Hello {
        let window = |elf: &ElfAccount| v1::SetWindow {
            elf: elf.name.to_string(),
            // A worker that is leaving resumes to report, not to work.
            window: if self.leaving == Leaving::No { elf.window } else { 0 },
            concurrency: elf.concurrency,
        };
        v1::Hello {
            mycelium: self.identity.mycelium.clone(),
            protocol_min: limits::PROTOCOL_VERSION_MIN,
            protocol_max: limits::PROTOCOL_VERSION,
            instance_id: Bytes::copy_from_slice(&self.identity.instance_id),
            resume_session: self.session,
            elves: self.elves.iter().map(|elf| elf.declaration.clone()).collect(),
            held: if self.session == 0 { Vec::new() } else { self.inventory() },
            windows: self.elves.iter().map(window).collect(),
            process_id: self.identity.process_id,
            host: self.identity.host.clone(),
            runtime: concat!("elf-runtime ", env!("CARGO_PKG_VERSION")).to_owned(),
            session_secret: self.secret.0.clone(),
            confirms: true,
            process: self.identity.process.clone(),
        }
    }
}

/// What a worker still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Attempts without an outcome, started or not.
    pub(super) running: usize,
    /// Attempts whose outcome was not acknowledged.
    pub(super) unacknowledged: usize,
}
