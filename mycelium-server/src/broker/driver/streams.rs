//! The streams that are attached to sessions, and what they are handed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mycelium_core::command::{Command, StreamEnd};
use mycelium_core::effects::Send as Sent;
use mycelium_core::ids::{JobId, SessionId, Steady, Token};

use crate::broker::confirming::{LOOK_COUNTS_MAX, LOOK_INTERVAL};
use crate::broker::message::{
    Assigned, CallError, CheckpointAnswer, Message, StreamAttachment, StreamId, ToStream,
};
use crate::trace::Attempts;

/// The streams, each under its session.
#[derive(Default)]
pub(super) struct Streams {
    attached: HashMap<SessionId, StreamAttachment>,
    /// The spans of the attempts of sessions, which may be without a stream.
    spans: HashMap<SessionId, Arc<Attempts>>,
    /// When they were looked at.
    looked: Steady,
}

/// The queues of a session's stream are full: it does not read what it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRead(pub(super) SessionId);

impl Streams {
    /// Attaches a stream, and ends the one that was there before.
    pub(super) fn attach(&mut self, session: SessionId, attachment: StreamAttachment) {
        if let Some(before) = self.spans.insert(session, Arc::clone(&attachment.spans)) {
            attachment.spans.go_on_with(&before);
        }
        if let Some(before) = self.attached.insert(session, attachment) {
            before.end(CallError::SessionTakenOver);
        }
    }

    pub(super) fn detach(&mut self, session: SessionId) {
        drop(self.attached.remove(&session));
    }

    pub(super) fn has(&self, session: SessionId) -> bool {
        self.attached.contains_key(&session)
    }

    /// Whether `stream` is the one of its session, and not one that was attached before it.
    pub(super) fn is_current(&self, session: SessionId, stream: StreamId) -> bool {
        self.attached.get(&session).is_some_and(|attached| attached.stream == stream)
    }

    /// Whether a message has been read from the stream that has not come to the queue.
    pub(super) fn is_speaking(&self, session: SessionId) -> bool {
        self.attached.get(&session).is_some_and(|stream| stream.is_speaking.load(Ordering::Relaxed))
    }

    /// Hands over all that a batch sends.
    ///
    /// # Errors
    /// The sessions whose streams did not take it; all others have what is theirs.
    pub(super) fn send_all(&mut self, sends: Vec<Sent>) -> Vec<NotRead> {
        // Assignments first: while their arguments are assembled, what else there is for the same stream is queued behind
        // them, and leaves with them.
        let (assignments, others): (Vec<_>, Vec<_>) = sends
            .into_iter()
            .partition(|sent| matches!(sent, Sent::Assign { .. } | Sent::Ready { .. } | Sent::Recall { .. }));
        assignments.into_iter().chain(others).filter_map(|sent| self.send(sent).err()).collect()
    }

    /// Hands a message to the stream of its session, if that has one.
    fn send(&mut self, sent: Sent) -> Result<(), NotRead> {
        let (session, message) = match sent {
            Sent::Assign { session, assignments, first } => {
                return self.assign(session, Assigned::New { assignments, first });
            }
            Sent::Ready { session, tokens, first } => {
                return self.assign(session, Assigned::Ready { tokens, first });
            }
            Sent::Recall { session, tokens } => return self.assign(session, Assigned::Recall { tokens }),
            Sent::Cancel { session, tokens } => (session, ToStream::Cancel(tokens)),
            Sent::OutcomeAcks { session, acks } => (session, ToStream::OutcomeAcks(acks)),
            Sent::HeartbeatAck { session, unknown } => (session, ToStream::HeartbeatAck(unknown)),
            Sent::WaitsForItself { session, attempt, job } => {
                let message = waits_for_itself(attempt, job);
                tracing::warn!(%session, job_id = %attempt.job, attempt = %attempt.attempt, waits = %job, "{message}");
                (session, ToStream::Notice(message))
            }
            Sent::Drain { session, within } => (session, ToStream::Drain(within)),
            Sent::SessionOver { session } => {
                if let Some(spans) = self.spans.remove(&session) {
                    spans.lose();
                }
                if let Some(stream) = self.attached.remove(&session) {
                    tracing::info!(%session, "a session is over");
                    stream.end(CallError::SessionOver);
                }
                return Ok(());
            }
        };
        match self.attached.get(&session) {
            Some(stream) => stream.outbox.try_send(message).map_err(|_full_or_closed| NotRead(session)),
            None => Ok(()),
        }
    }

    /// Tells what became of checkpoints.
    pub(super) fn answer_checkpoints(
        &self,
        answers: HashMap<SessionId, Vec<CheckpointAnswer>>,
    ) -> Vec<NotRead> {
        let answered = answers.into_iter().map(|(session, answers)| match self.attached.get(&session) {
            Some(stream) => {
                let answers = ToStream::CheckpointAnswers(answers);
                stream.outbox.try_send(answers).map_err(|_full_or_closed| NotRead(session))
            }
            None => Ok(()),
        });
        answered.filter_map(Result::err).collect()
    }

    fn assign(&self, session: SessionId, assigned: Assigned) -> Result<(), NotRead> {
        match self.attached.get(&session) {
            Some(stream) => stream.assigned.try_send(assigned).map_err(|_full_or_closed| NotRead(session)),
            None => Ok(()),
        }
    }

    /// Ends a stream that does not read what it is sent; the session waits to be resumed. The attachment itself goes with
    /// the message that is returned, so that the core learns of it in its turn.
    pub(super) fn cut_off(&self, NotRead(session): NotRead) -> Option<Message> {
        let attached = self.attached.get(&session)?;
        tracing::warn!(%session, "cut off the stream of an elf that does not read");
        Some(cut(session, attached, StreamEnd::ByShell))
    }

    /// Ends the streams that lead nowhere, if it is time to look at them. A broker that stood still has heard nobody, and
    /// looks later.
    pub(super) fn look(&mut self, now: Steady, stood_still: bool) -> Vec<Message> {
        let since = now.since(self.looked).min(LOOK_COUNTS_MAX);
        if stood_still || since >= LOOK_INTERVAL {
            self.looked = now;
        }
        if stood_still || since < LOOK_INTERVAL {
            return Vec::new();
        }
        // What has been read of the others waits for its turn.
        let heard = self.attached.iter().filter(|(_, stream)| !stream.is_speaking.load(Ordering::Relaxed));
        heard
            .filter_map(|(&session, attached)| {
                let received = attached.confirming.look(since)?;
                tracing::warn!(%session, "cut off the stream of an elf that does not confirm what it is sent");
                Some(cut(session, attached, StreamEnd::Unconfirmed { received }))
            })
            .collect()
    }

    /// Lets go of all of them without a word, because what they were sent may be wrong.
    pub(super) fn drop_all(&mut self) {
        self.attached.clear();
        self.spans.clear();
    }

    /// Tells all of them that the broker stops.
    pub(super) fn stop_all(&mut self) {
        self.spans.clear();
        for (_, attached) in self.attached.drain() {
            // A full outbox needs no word: the stream ends when the attachment is dropped.
            let _full = attached.outbox.try_send(ToStream::GoAway);
            attached.end(CallError::Stopping);
        }
    }
}

fn waits_for_itself(attempt: Token, job: JobId) -> String {
    format!(
        "attempt {} of job {} has submitted job {job}, which waits for a place that only this attempt, or others like it, \
         can leave: if it waits for that job, both wait for ever. Serve the elf with more places (concurrency) or in more \
         processes, or do not wait in its tasks",
        attempt.attempt, attempt.job
    )
}

fn cut(session: SessionId, attached: &StreamAttachment, end: StreamEnd) -> Message {
    let _ended_before = attached.end.set(CallError::StreamNotRead);
    let command = Command::StreamClosed { session, end };
    Message::FromStream { session, stream: attached.stream, command, bodies: Vec::new() }
}
