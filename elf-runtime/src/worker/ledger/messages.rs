//! What a worker says next.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, connect_request, payload};

use super::super::attempt::Started;
use super::{Actions, Confirmation, ElfAccount, Held, Leaving, Ledger, Stream};
use crate::reports::{Hub, Waiting};
use crate::value::payload::Payload;

/// The most outcomes in one message, and the most bytes of them before the next message begins.
pub(super) const OUTCOMES_PER_MESSAGE_MAX: usize = 1_024;
pub(super) const OUTCOME_BYTES_PER_MESSAGE_TARGET: usize = 1024 * 1024;

impl Ledger {
    /// The broker says what became of checkpoints.
    pub(in super::super) fn on_answers(&self, answers: &v1::CheckpointAnswers) -> Actions {
        self.reports.on_answers(answers);
        Actions::default()
    }

    /// What attempts report travels with what is said.
    pub(in super::super) fn with_reports(self, reports: Arc<Hub>) -> Self {
        Self { reports, ..self }
    }

    pub(in super::super) fn reports(&self) -> &Arc<Hub> {
        &self.reports
    }

    /// The next message, if there is one to send now.
    pub(in super::super) fn next_message(&mut self, now: Instant) -> Option<v1::ConnectRequest> {
        let kind = self.next_kind();
        let may_be_bare = self.stream == Stream::Welcomed && !self.is_gone();
        let tells = may_be_bare && (kind.is_some() || self.takes_bare_messages);
        let starts = if tells { self.next_starts(now) } else { Vec::new() };
        let reports = if tells { self.next_reports(now) } else { Waiting::default() };
        let is_worth_it = self.confirmation == Confirmation::Due || !starts.is_empty() || !reports.is_empty();
        if kind.is_none() && !(may_be_bare && is_worth_it) {
            return None;
        }
        self.confirmation = Confirmation::Done;
        self.sequence_sent += 1;
        let (sequence, received) = (self.sequence_sent, self.sequence_received);
        let Waiting { progress, logs, checkpoints } = reports;
        Some(v1::ConnectRequest { sequence, received, starts, progress, logs, checkpoints, kind })
    }

    /// What attempts have reported. A broker that does not take it would not know what to do with it.
    fn next_reports(&self, now: Instant) -> Waiting {
        if !self.takes_reports {
            self.reports.discard();
            return Waiting::default();
        }
        self.reports.take(now)
    }

    /// The starts of attempts that still run: of the others their outcome tells enough.
    fn next_starts(&mut self, now: Instant) -> Vec<v1::Start> {
        let runs = |started: &Started| match self.held.get(&started.token) {
            Some(Held::Open { serial, .. }) => *serial == started.serial,
            Some(Held::Finished { .. }) | None => false,
        };
        let starts = std::mem::take(&mut self.starts).into_iter().filter(runs);
        let to_wire = |Started { token, serial: _, at }| v1::Start {
            token: Some(token.to_wire()),
            ago: now.saturating_duration_since(at).try_into().ok(),
        };
        starts.map(to_wire).collect()
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
        if let Some(window) = self.next_window() {
            return Some(connect_request::Kind::SetWindow(window));
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

    /// What is left of an elf's places, if that is not what the broker was told.
    fn next_window(&mut self) -> Option<v1::SetWindow> {
        if self.leaving != Leaving::No {
            return None;
        }
        let elf = self.elves.iter_mut().find(|elf| elf.occupied != elf.occupied_told)?;
        Some(elf.tell_window())
    }

    fn next_outcomes(&mut self) -> Option<v1::Outcomes> {
        let mut outcomes = Vec::new();
        let mut bytes_sum = 0;
        while outcomes.len() < OUTCOMES_PER_MESSAGE_MAX && bytes_sum < OUTCOME_BYTES_PER_MESSAGE_TARGET {
            let Some(token) = self.unsent.pop_front() else { break };
            // It may have been dropped since.
            let Some(Held::Finished { outcome, ran, bytes }) = self.held.get(&token) else { continue };
            bytes_sum += bytes;
            outcomes.push(v1::Outcome {
                token: Some(token.to_wire()),
                result: Some(outcome.clone()),
                ran: ran.and_then(|ran| ran.try_into().ok()),
            });
        }
        (!outcomes.is_empty()).then_some(v1::Outcomes { outcomes })
    }

    fn inventory(&self) -> Vec<v1::Token> {
        self.held.keys().map(|token| token.to_wire()).collect()
    }

    fn hello(&mut self) -> v1::Hello {
        let is_leaving = self.leaving != Leaving::No;
        let mut windows: Vec<v1::SetWindow> = self.elves.iter_mut().map(ElfAccount::tell_window).collect();
        // A worker that is leaving resumes to report, not to work.
        windows.iter_mut().filter(|_| is_leaving).for_each(|window| window.window = 0);
        v1::Hello {
            mycelium: self.identity.mycelium.clone(),
            protocol_min: limits::PROTOCOL_VERSION_MIN,
            protocol_max: limits::PROTOCOL_VERSION,
            instance_id: Bytes::copy_from_slice(&self.identity.instance_id),
            resume_session: self.session,
            elves: self.elves.iter().map(|elf| elf.declaration.clone()).collect(),
            held: if self.session == 0 { Vec::new() } else { self.inventory() },
            windows,
            process_id: self.identity.process_id,
            host: self.identity.host.clone(),
            runtime: concat!("elf-runtime ", env!("CARGO_PKG_VERSION")).to_owned(),
            session_secret: self.secret.0.clone(),
            confirms: true,
            process: self.identity.process.clone(),
            build: self.identity.build.clone(),
            tells_starts: true,
            knows_recall: true,
            knows_drain: true,
        }
    }
}

impl ElfAccount {
    /// How many jobs it holds from now on.
    fn tell_window(&mut self) -> v1::SetWindow {
        let occupied = self.occupied.min(self.concurrency);
        self.occupied_told = self.occupied;
        v1::SetWindow {
            elf: self.name.to_string(),
            window: if occupied < self.concurrency { self.window - occupied } else { 0 },
            concurrency: self.concurrency,
            occupied,
        }
    }
}

/// What an earlier attempt has left, as tasks read it.
pub(super) fn left_before(last: v1::LastCheckpoint) -> Option<Box<Payload>> {
    match last.payload? {
        v1::Payload { encoding, content: Some(payload::Content::Inline(bytes)) } => {
            Some(Box::new(Payload::from_wire(encoding, bytes)))
        }
        // A broker keeps none that is not inline.
        v1::Payload { content: Some(payload::Content::Blob(_)) | None, .. } => None,
    }
}
