//! Numbers what goes out to an elf, and sends it.

use std::sync::Arc;
use std::time::Duration;

use mycelium_proto::v1::{self, connect_response};
use tokio::sync::{SetOnce, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::shared::Shared;
use crate::broker::{CallError, Confirming, Permit, ToStream};
use crate::compute::{Dispatched, Tasks};
use crate::defect::Defect;
use crate::error::{Error, Gone};
use crate::grpc::convert;
use crate::grpc::reports::checkpoint_answer;

/// How long an elf may take to make room for the reason why its stream ends.
const CLOSING_ERROR_WITHIN: Duration = Duration::from_secs(1);
/// The task that writes.
pub(super) struct Writer {
    pub(super) outgoing: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    /// From the owner of the core.
    pub(super) inbox: mpsc::Receiver<ToStream>,
    /// Why the owner of the core has let go of the stream.
    pub(super) end: Arc<SetOnce<CallError>>,
    /// Assignments with their arguments.
    pub(super) dispatched: mpsc::Receiver<Dispatched>,
    /// From the reader.
    pub(super) faults: mpsc::Receiver<v1::Fault>,
    pub(super) shared: Arc<Shared>,
    pub(super) confirming: Arc<Confirming>,
    pub(super) drain: CancellationToken,
    /// The attempts that end with their acknowledgement.
    pub(super) tasks: Arc<Tasks>,
    /// The number of the latest message: 0 before the first.
    pub(super) sequence: u64,
}

impl Writer {
    pub(super) async fn run(
        mut self,
        welcome: v1::Welcome,
        closing: CancellationToken,
        _permit: Permit,
    ) -> Result<(), Defect> {
        let mut sent = self.send(connect_response::Kind::Welcome(welcome)).await;
        while sent.is_ok() {
            sent = tokio::select! {
                biased;
                // Its reader closes then as well, and the elf is to be told all the same.
                () = self.drain.cancelled() => self.go_away().await,
                () = closing.cancelled() => Err(Gone),
                message = self.inbox.recv() => match message {
                    Some(message) => self.pass_on(message).await,
                    // The owner of the core has let go of the stream.
                    None => Err(Gone),
                },
                Some(fault) = self.faults.recv() => self.send(connect_response::Kind::Fault(fault)).await,
                dispatched = self.dispatched.recv() => {
                    // The dispatcher could not read the store: what it was given is not delivered, and goes back
                    // into the queue when the elf resumes without it.
                    let Some(dispatched) = dispatched else { break };
                    self.send_dispatched(dispatched).await
                }
            };
        }
        if !self.outgoing.is_closed() && !closing.is_cancelled() {
            self.shared.end_here();
        }
        if let Some(error) = self.closing_error(closing.is_cancelled()) {
            // An elf that does not read does not get it: it is waited for no longer than it takes others.
            let said = self.outgoing.send(Err(error.into()));
            let _sent_or_not = tokio::time::timeout(CLOSING_ERROR_WITHIN, said).await;
        }
        closing.cancel();
        Ok(())
    }

    /// Why the stream ends; `None` if that was the elf's wish. `is_read_no_further`: its reader has ended.
    fn closing_error(&self, is_read_no_further: bool) -> Option<Error> {
        if let Some(error) = self.shared.given_up() {
            return Some(error.clone());
        }
        match self.end.get() {
            Some(CallError::SessionOver) if self.shared.has_said_goodbye() => None,
            Some(error) => Some(error.clone().into()),
            None if self.drain.is_cancelled() => Some(CallError::Stopping.into()),
            // The elf has closed its side, or the connection is gone.
            None if is_read_no_further => None,
            None => Some(CallError::StoreUnavailable.into()),
        }
    }

    async fn send_dispatched(&mut self, dispatched: Dispatched) -> Result<(), Gone> {
        match dispatched {
            Dispatched::Assign { assignments, last, bytes } => {
                let assign = v1::Assign { assignments };
                let sent = self.send(connect_response::Kind::Assign(assign)).await;
                self.confirming.sent(self.sequence, last, bytes);
                sent
            }
            Dispatched::Recall(tokens) => {
                let tokens = tokens.iter().map(convert::token).collect();
                self.send(connect_response::Kind::Recall(v1::Recall { tokens })).await
            }
        }
    }

    async fn pass_on(&mut self, message: ToStream) -> Result<(), Gone> {
        match message {
            ToStream::Cancel(tokens) => {
                let tokens = tokens.iter().map(convert::token).collect();
                self.send(connect_response::Kind::Cancel(v1::Cancel { tokens })).await
            }
            ToStream::OutcomeAcks(acks) => {
                self.tasks.spans().end(acks.iter().map(|(token, _)| *token));
                let acks =
                    acks.iter().map(|(token, verdict)| convert::outcome_ack(token, *verdict)).collect();
                self.send(connect_response::Kind::OutcomeAcks(v1::OutcomeAcks { acks })).await
            }
            ToStream::HeartbeatAck(unknown) => {
                let unknown = unknown.iter().map(convert::token).collect();
                self.send(connect_response::Kind::HeartbeatAck(v1::HeartbeatAck { unknown })).await
            }
            ToStream::CheckpointAnswers(answers) => {
                let answers = answers.into_iter().map(checkpoint_answer).collect();
                let answers = v1::CheckpointAnswers { answers };
                self.send(connect_response::Kind::CheckpointAnswers(answers)).await
            }
            ToStream::Notice(message) => {
                self.send(connect_response::Kind::Notice(v1::Notice { message })).await
            }
            ToStream::Drain(within) => {
                let within = Some(convert::duration(within));
                self.send(connect_response::Kind::Drain(v1::Drain { within })).await
            }
            ToStream::GoAway => self.go_away().await,
        }
    }

    /// Tells the elf that the broker stops, or sends it away, after which the stream is over.
    async fn go_away(&mut self) -> Result<(), Gone> {
        let message = match self.shared.given_up() {
            Some(error) => format!("{error}; reconnect, and go on with what runs"),
            None => "the broker is stopping; reconnect, and go on with what runs".to_owned(),
        };
        self.send(connect_response::Kind::GoAway(v1::GoAway { message })).await?;
        Err(Gone)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone, or the stream is over before the elf has made room for it.
    async fn send(&mut self, kind: connect_response::Kind) -> Result<(), Gone> {
        self.sequence += 1;
        let received = self.shared.received();
        let message = v1::ConnectResponse { sequence: self.sequence, received, kind: Some(kind) };
        tokio::select! {
            biased;
            sent = self.outgoing.send(Ok(message)) => sent.map_err(|_gone| Gone),
            _why = self.end.wait() => Err(Gone),
            () = self.drain.cancelled() => Err(Gone),
        }
    }
}
