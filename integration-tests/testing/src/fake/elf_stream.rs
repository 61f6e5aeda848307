//! The broker's side of one stream of a worker, moved by hand.

use std::collections::VecDeque;

use elf_runtime::JobId;
use mycelium_proto::v1::{self, connect_request, connect_response};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::wait::within;

/// One stream of a worker, read and written by the test.
#[derive(Debug)]
pub struct ElfStream {
    pub(super) inbound: Streaming<v1::ConnectRequest>,
    pub(super) outbound: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    pub(super) sequence: u64,
    pub(super) outcomes: VecDeque<v1::Outcome>,
    /// What the worker has told to be started.
    pub starts: Vec<v1::Start>,
    /// What the worker has told of its windows since its `Hello`.
    pub windows: Vec<v1::SetWindow>,
    /// The number of the last message that arrived.
    pub received: u64,
    /// The number of the last message that the worker says it has received.
    pub confirmed: u64,
}

impl ElfStream {
    /// The next message, whatever it is; windows are kept. None if the worker ended its side.
    pub async fn next(&mut self) -> Option<connect_request::Kind> {
        loop {
            let message = within("a message of the worker", self.inbound.message()).await.ok().flatten()?;
            assert_eq!(message.sequence, self.received + 1, "messages are numbered without gaps");
            self.received = message.sequence;
            assert!(message.received >= self.confirmed && message.received <= self.sequence);
            self.confirmed = message.received;
            self.starts.extend(message.starts);
            match message.kind.unwrap() {
                connect_request::Kind::SetWindow(window) => self.windows.push(window),
                other => return Some(other),
            }
        }
    }

    /// Waits until the worker has told that so many of its places are taken by what is over.
    pub async fn wait_until_occupied(&mut self, occupied: u32) {
        while self.windows.last().map_or(0, |window| window.occupied) != occupied {
            self.heartbeat().await;
        }
    }

    /// The `Hello`, which comes first.
    pub async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            Some(connect_request::Kind::Hello(hello)) => hello,
            other => panic!("the first message is not Hello but {other:?}"),
        }
    }

    /// The next heartbeat. Outcomes that come before it are kept for `outcome`.
    pub async fn heartbeat(&mut self) -> v1::Heartbeat {
        loop {
            match self.next().await {
                Some(connect_request::Kind::Heartbeat(heartbeat)) => return heartbeat,
                Some(connect_request::Kind::Outcomes(outcomes)) => self.outcomes.extend(outcomes.outcomes),
                other => panic!("a heartbeat was expected, and not {other:?}"),
            }
        }
    }

    /// The next outcome, past heartbeats.
    pub async fn outcome(&mut self) -> v1::Outcome {
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                return outcome;
            }
            match self.next().await {
                Some(connect_request::Kind::Outcomes(outcomes)) => self.outcomes.extend(outcomes.outcomes),
                Some(connect_request::Kind::Heartbeat(_)) => {}
                other => panic!("an outcome was expected, and not {other:?}"),
            }
        }
    }

    /// The next message that is no heartbeat.
    pub async fn next_but_beats(&mut self) -> Option<connect_request::Kind> {
        loop {
            match self.next().await {
                Some(connect_request::Kind::Heartbeat(_)) => {}
                other => return other,
            }
        }
    }

    /// Sends a message with the next number.
    pub async fn send(&mut self, kind: connect_response::Kind) {
        self.sequence += 1;
        let message =
            v1::ConnectResponse { sequence: self.sequence, received: self.received, kind: Some(kind) };
        within("room for a message", self.outbound.send(Ok(message))).await.unwrap();
    }

    /// Something that no broker says.
    pub async fn send_raw(&mut self, message: v1::ConnectResponse) {
        within("room for a message", self.outbound.send(Ok(message))).await.unwrap();
    }

    /// Opens a session.
    pub async fn welcome(&mut self, session: u64) {
        self.send(connect_response::Kind::Welcome(welcome(session))).await;
    }

    /// Opens a session that only this secret resumes.
    pub async fn welcome_with_secret(&mut self, session: u64, secret: &'static [u8]) {
        let session_secret = bytes::Bytes::from_static(secret);
        self.send(connect_response::Kind::Welcome(v1::Welcome { session_secret, ..welcome(session) })).await;
    }

    /// Resumes a session, with the attempts that the worker keeps.
    pub async fn welcome_back(&mut self, session: u64, keep: Vec<v1::Token>) {
        self.send(connect_response::Kind::Welcome(v1::Welcome { resumed: true, keep, ..welcome(session) }))
            .await;
    }

    /// Assigns jobs.
    pub async fn assign(&mut self, assignments: Vec<v1::Assignment>) {
        self.send(connect_response::Kind::Assign(v1::Assign { assignments })).await;
    }

    /// Cancels attempts.
    pub async fn cancel(&mut self, tokens: Vec<v1::Token>) {
        self.send(connect_response::Kind::Cancel(v1::Cancel { tokens })).await;
    }

    /// Acknowledges outcomes as recorded.
    pub async fn ack(&mut self, tokens: Vec<v1::Token>) {
        let acks = tokens
            .into_iter()
            .map(|token| v1::OutcomeAck { token: Some(token), verdict: v1::OutcomeVerdict::Recorded.into() });
        self.send(connect_response::Kind::OutcomeAcks(v1::OutcomeAcks { acks: acks.collect() })).await;
    }

    /// Waits until the worker has said goodbye and ended its side.
    pub async fn goodbye(&mut self) {
        let mut is_said = false;
        while let Some(message) = self.next().await {
            assert!(!is_said, "nothing comes after the goodbye");
            is_said = matches!(message, connect_request::Kind::Goodbye(_));
        }
        assert!(is_said, "the worker left without a goodbye");
    }

    /// Waits until the worker has said that it has received everything.
    pub async fn wait_until_confirmed(&mut self) {
        while self.confirmed < self.sequence {
            self.heartbeat().await;
        }
    }

    /// Outcomes that came before what was waited for.
    pub fn outcomes_waiting(&self) -> &VecDeque<v1::Outcome> {
        &self.outcomes
    }

    /// Takes the outcomes that are here already.
    pub fn take_outcomes(&mut self) -> impl Iterator<Item = v1::Outcome> {
        self.outcomes.drain(..)
    }

    /// Ends the stream with this status.
    pub async fn end(self, status: Status) {
        within("room for the end", self.outbound.send(Err(status))).await.unwrap();
    }

    /// Breaks the stream.
    pub async fn cut(self) {
        // The worker may have gone already.
        self.outbound.send(Err(Status::unavailable("cut by the test"))).await.ok();
    }
}

fn welcome(session: u64) -> v1::Welcome {
    let millis = |millis| Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
    v1::Welcome {
        session,
        protocol: 1,
        heartbeat_interval: millis(20),
        lease: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..v1::Welcome::default()
    }
}

/// The token of an attempt.
pub fn token(job_id: JobId, attempt: u32) -> v1::Token {
    v1::Token { job_id: bytes::Bytes::copy_from_slice(job_id.as_bytes()), attempt }
}

/// A job of the elf `tester` with one argument `n`.
pub fn assignment(token: &v1::Token, task: &str, n: u32) -> v1::Assignment {
    let content = Some(v1::payload::Content::Inline(n.to_string().into()));
    v1::Assignment {
        token: Some(token.clone()),
        elf: "tester".to_owned(),
        task: task.to_owned(),
        arguments: vec![v1::ArgumentValue {
            parameter: "n".to_owned(),
            payload: Some(v1::Payload { encoding: String::new(), content }),
        }],
        flow_id: bytes::Bytes::from_static(&[7; 16]),
        ..v1::Assignment::default()
    }
}
