//! What an attempt leaves for those that come after it, until it is known to be durable.

use mycelium_proto::{limits, v1};
use tokio::sync::oneshot;

use crate::value::payload::Payload;

/// What becomes of a checkpoint; or why it is not kept.
pub(super) type Answer = Result<(), String>;

/// The checkpoints of an attempt that have not been answered: the one that was sent, and the newest of those that came
/// since.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    last_number: u64,
    sent: Option<Asked>,
    next: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    payload: Payload,
    /// Who waits for it, and for those in whose place it stands.
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl Checkpoints {
    /// Takes a checkpoint, in place of one that waits to be sent.
    pub(super) fn ask(&mut self, payload: Payload) -> oneshot::Receiver<Answer> {
        self.last_number += 1;
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.next.take().map(|asked| asked.waiting).unwrap_or_default();
        // Those who were dropped are not counted, so that they do not gather.
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(answer);
        self.next = Some(Asked { number: self.last_number, payload, waiting });
        answered
    }

    /// What is to be sent now: one at a time, so that they are stored in their order.
    pub(super) fn send(&mut self) -> Option<(u64, v1::Payload)> {
        if self.sent.is_some() {
            return None;
        }
        let next = self.next.take()?;
        let message = (next.number, next.payload.clone().into_inline());
        self.sent = Some(next);
        Some(message)
    }

    /// What was sent may be lost. Whatever came since stands in its place.
    pub(super) fn send_again(&mut self) {
        let Some(sent) = self.sent.take() else { return };
        match &mut self.next {
            Some(next) => next.waiting.extend(sent.waiting),
            None => self.next = Some(sent),
        }
    }

    /// Whether anything is to be sent.
    pub(super) fn are_waiting(&self) -> bool {
        self.sent.is_none() && self.next.is_some()
    }

    /// The broker has answered the one of this number.
    pub(super) fn answered(&mut self, number: u64, answer: &Answer) {
        if let Some(sent) = self.sent.take_if(|sent| sent.number == number) {
            sent.waiting.into_iter().for_each(|waiting| drop(waiting.send(answer.clone())));
        }
    }

    /// Nobody will answer.
    pub(super) fn refuse(&mut self, why: &str) {
        for asked in [self.sent.take(), self.next.take()].into_iter().flatten() {
            asked.waiting.into_iter().for_each(|waiting| drop(waiting.send(Err(why.to_owned()))));
        }
    }
}

/// # Errors
/// If it is larger than what is kept.
pub(super) fn check(payload: &Payload) -> Answer {
    let (bytes, max) = (payload.bytes().len(), limits::CHECKPOINT_BYTES_MAX);
    if bytes > max {
        return Err(format!("the checkpoint takes {bytes} bytes, and at most {max} are kept"));
    }
    Ok(())
}

/// What the broker has said, as a task is told.
pub(super) fn answer(answer: &v1::CheckpointAnswer) -> Answer {
    match answer.verdict() {
        v1::CheckpointVerdict::Stored => Ok(()),
        v1::CheckpointVerdict::Stale => Err(OVER.to_owned()),
        v1::CheckpointVerdict::Refused | v1::CheckpointVerdict::Unspecified => {
            Err(format!("the broker has refused the checkpoint: {}", answer.message))
        }
    }
}

/// The attempt has ended, or is another's by now.
pub(super) const OVER: &str = "the attempt is over, so nothing is kept of it any more";

/// The broker is of a version that knows of none.
pub(super) const UNKNOWN: &str = "the broker is too old to keep checkpoints";
