//! What a worker owes the broker: the attempts it holds, the outcomes that were not acknowledged, and the next message.
//!
//! Pure bookkeeping: no I/O, no clock, no waiting. The connection feeds it what arrives and asks it what to send, so
//! that everything about resuming, repeating and forgetting stands in one place and is tested without a network.

mod messages;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_proto::v1::{self, outcome};
use tokio_util::sync::CancellationToken;

use super::attempt::{Counts, ElfIndex, Finished, Started, Token, Work};
use super::bounds::Bounds;
use super::identity::Identity;
use crate::ids::FlowId;
use crate::reports::Hub;
use crate::trace::Trace;

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
    /// How many attempts go on that are not held any more: their places are taken.
    pub(super) occupied: u32,
    /// How many of those the broker was told of.
    pub(super) occupied_told: u32,
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
    Finished { outcome: outcome::Result, ran: Option<Duration>, bytes: usize },
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
    pub(super) cancel: Vec<Unwanted>,
    /// Attempts to be given back, unless they were started.
    pub(super) recall: HashSet<Token>,
    /// There may be something new to send.
    pub(super) wake_writer: bool,
}

/// An attempt that is not held any more, and goes on.
#[derive(Debug)]
struct GoingOn {
    elf: ElfIndex,
    /// Whether the log has said so.
    is_logged: bool,
}

/// An attempt that is no longer wanted.
#[derive(Debug)]
pub(super) struct Unwanted {
    pub(super) token: Token,
    pub(super) serial: u64,
    pub(super) cancel: CancellationToken,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    identity: Identity,
    elves: Vec<ElfAccount>,
    elf_by_name: HashMap<Arc<str>, ElfIndex>,
    held: HashMap<Token, Held>,
    /// Attempts that had no outcome when they were dropped, or that go on although they have one: by their serial numbers.
    /// What was not started leaves here at once.
    going_on: HashMap<u64, GoingOn>,
    /// Finished attempts whose outcome was not sent on this stream, oldest first. May name attempts that were
    /// dropped since.
    unsent: VecDeque<Token>,
    /// Attempts whose start is to be told.
    starts: Vec<Started>,
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
    /// Whether the broker takes what attempts report.
    takes_reports: bool,
    /// What attempts have reported.
    reports: Arc<Hub>,
    confirmation: Confirmation,
}

impl Ledger {
    /// What tells the program from others, unless that was given.
    pub(super) fn set_build(&mut self, build: impl FnOnce() -> String) {
        if self.identity.build.is_empty() {
            self.identity.build = build();
        }
    }

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
        self.starts.clear();
    }

    /// Attempts have been started, and the broker is to be told.
    pub(super) fn on_starts(&mut self, starts: Vec<Started>) {
        self.starts.extend(starts);
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
        self.takes_reports = welcome.takes_reports;
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
            self.finish(token, elf, outcome::Result::Released(v1::AttemptReleased {}), None, 0);
            actions.wake_writer = true;
            return;
        }
        self.serial_last += 1;
        let serial = self.serial_last;
        let cancel = CancellationToken::new();
        let bounds = Bounds::of(&assignment);
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
            priority: assignment.priority,
            task,
            // For the task's information only.
            flow_id: FlowId::try_from(assignment.flow_id.as_ref()).unwrap_or(FlowId::from_bytes([0; 16])),
            arguments: assignment.arguments,
            last_checkpoint: assignment.last_checkpoint.and_then(messages::left_before),
            trace: Trace::of(assignment.trace, assignment.is_trace_linked),
            cancel,
            bounds,
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
                Some(Held::Open { serial, cancel, .. }) => {
                    Some(Unwanted { token, serial: *serial, cancel: cancel.clone() })
                }
                Some(Held::Finished { .. }) | None => None,
            })
            .collect();
        Actions { cancel, ..Actions::default() }
    }

    pub(super) fn on_recall(recall: &v1::Recall) -> Actions {
        Actions { recall: recall.tokens.iter().filter_map(Token::from_wire).collect(), ..Actions::default() }
    }

    /// An attempt goes on although it was told to stop and its grace is over. It ends with this failure now, if it is that
    /// which it was told to stop for. Says whether that is news, as far as is known.
    pub(super) fn on_went_on(
        &mut self,
        token: Token,
        serial: u64,
        failure: Option<(v1::Failure, Duration)>,
    ) -> bool {
        match self.held.get(&token) {
            Some(&Held::Open { serial: held, elf, .. }) if held == serial => {
                if let Some((failure, ran)) = failure {
                    let bytes = prost::Message::encoded_len(&failure);
                    self.finish(token, elf, outcome::Result::Failure(failure), Some(ran), bytes);
                    self.goes_on(serial, elf, true);
                }
                true
            }
            Some(Held::Open { .. } | Held::Finished { .. }) | None => {
                let going_on = self.going_on.get_mut(&serial);
                going_on.is_some_and(|going_on| !std::mem::replace(&mut going_on.is_logged, true))
            }
        }
    }

    /// An attempt is not held any more, and goes on.
    fn goes_on(&mut self, serial: u64, elf: ElfIndex, is_logged: bool) {
        if self.going_on.insert(serial, GoingOn { elf, is_logged }).is_none() {
            self.elves[elf as usize].occupied += 1;
        }
    }

    /// Takes the outcomes of attempts. Those of attempts that were dropped meanwhile are discarded.
    pub(super) fn on_finished(&mut self, finished: impl IntoIterator<Item = Finished>) {
        for Finished { token, serial, outcome, ran, bytes, goes_on } in finished {
            if !self.going_on.is_empty() && !goes_on {
                self.let_go(serial);
            }
            match self.held.get(&token) {
                Some(&Held::Open { serial: held, elf, .. }) if held == serial => {
                    self.finish(token, elf, outcome, ran, bytes);
                    if goes_on {
                        self.goes_on(serial, elf, true);
                    }
                }
                Some(Held::Open { .. } | Held::Finished { .. }) | None => {
                    tracing::debug!(job_id = %token.job_id, attempt = token.attempt, "outcome is no longer wanted");
                }
            }
        }
    }

    fn let_go(&mut self, serial: u64) {
        if let Some(GoingOn { elf, .. }) = self.going_on.remove(&serial) {
            self.elves[elf as usize].occupied -= 1;
        }
    }

    fn finish(
        &mut self,
        token: Token,
        elf: ElfIndex,
        outcome: outcome::Result,
        ran: Option<Duration>,
        bytes: usize,
    ) {
        self.elves[elf as usize].unfinished -= 1;
        self.held.insert(token, Held::Finished { outcome, ran, bytes });
        self.unsent.push_back(token);
    }

    /// Drops an attempt without a report. Returns what stops it if it is open.
    fn forget(&mut self, token: &Token) -> Option<Unwanted> {
        match self.held.remove(token)? {
            Held::Open { serial, elf, cancel } => {
                self.elves[elf as usize].unfinished -= 1;
                self.goes_on(serial, elf, false);
                Some(Unwanted { token: *token, serial, cancel })
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
}
