//! Why a job failed.

use std::iter;
use std::mem;

use bytes::Bytes;
use mycelium_core::ids::{FailureId, JobId};
use mycelium_proto::limits::{
    FAILURE_BYTES_MAX, FAILURE_DETAILS_BYTES_MAX, FAILURE_FRAMES_MAX, FAILURE_MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX,
};
use mycelium_proto::v1;
use prost::Message as _;

use super::{Undecodable, cut, cut_message, decode};

/// The most bytes of all frames of a failure together, of the types of its causes, and of their messages.
const FRAMES_BYTES_MAX: usize = 24 * 1024;
const CAUSE_TYPES_BYTES_MAX: usize = 8 * 1024;
const CAUSE_MESSAGES_BYTES_MAX: usize = 24 * 1024;
/// What is left of a text of which nothing but that it was cut is kept.
const CUT_MARK_BYTES: usize = 48;
/// What the fields of a failure take beside their texts, and a little more.
const SPARE_BYTES: usize = 1024;

/// A failure, within its limits.
#[derive(Debug, Clone)]
pub(crate) struct Failure(v1::Failure);

impl Failure {
    /// A failure as it was reported, cut to the limits.
    pub(crate) fn new(mut message: v1::Failure) -> Self {
        cut_failure(&mut message);
        Self(message)
    }

    /// Decodes one, with the words of its latest occurrence. What an earlier version has stored may be larger than is taken
    /// now, and is cut.
    ///
    /// # Errors
    /// If it is damaged.
    pub(crate) fn decode(id: FailureId, encoded: Bytes) -> Result<Self, Undecodable> {
        decode(encoded, || format!("failure {id}")).map(Self::new)
    }

    /// Its type.
    pub(crate) fn kind(&self) -> &str {
        &self.0.r#type
    }

    /// How many bytes it takes in a message.
    pub(crate) fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// The same with the words of another occurrence: its message, its details, and the messages of its causes.
    pub(crate) fn reword(self, message: String, details: String, cause_messages: Vec<String>) -> Self {
        let mut failure = v1::Failure { message, details, ..self.0 };
        let messages = cause_messages.into_iter().chain(iter::repeat_with(String::new));
        for (cause, message) in failure.causes.iter_mut().zip(messages) {
            cause.message = message;
        }
        Self::new(failure)
    }

    /// The same with the words of an occurrence that is not found: those of the latest are not those of another.
    pub(crate) fn without_words(self, job: JobId) -> Self {
        let message = format!("the message of job {job} is not found among those of later ones");
        self.reword(message, String::new(), Vec::new())
    }
}

impl From<Failure> for v1::Failure {
    fn from(Failure(message): Failure) -> Self {
        message
    }
}

/// Cuts the words of an occurrence, its message, its details and the messages of its causes: what an earlier version has
/// stored may be larger than is taken now.
pub(crate) fn cut_words(message: &mut String, details: &mut String, cause_messages: &mut Vec<String>) {
    let causes = mem::take(cause_messages).into_iter();
    let mut words = v1::Failure {
        message: mem::take(message),
        details: mem::take(details),
        causes: causes.map(|message| v1::FailureCause { message, ..v1::FailureCause::default() }).collect(),
        ..v1::Failure::default()
    };
    cut_failure(&mut words);
    *message = words.message;
    *details = words.details;
    *cause_messages = words.causes.into_iter().map(|cause| cause.message).collect();
}

/// Cuts a failure to the limits. What of it is its identity does not depend on what is not.
fn cut_failure(failure: &mut v1::Failure) {
    let (n_frames, n_causes) = (failure.frames.len(), failure.causes.len());
    cut(&mut failure.r#type, NAME_BYTES_MAX);
    cut_message(&mut failure.message, FAILURE_MESSAGE_BYTES_MAX);
    failure.frames.truncate(FAILURE_FRAMES_MAX);
    for frame in &mut failure.frames {
        cut(&mut frame.function, 4 * NAME_BYTES_MAX);
        cut(&mut frame.file, 4 * NAME_BYTES_MAX);
    }
    keep_first(&mut failure.frames, FRAMES_BYTES_MAX, v1::Frame::encoded_len);
    failure.causes.truncate(FAILURE_FRAMES_MAX);
    failure.causes.iter_mut().for_each(|cause| cut(&mut cause.r#type, NAME_BYTES_MAX));
    keep_first(&mut failure.causes, CAUSE_TYPES_BYTES_MAX, |cause| cause.r#type.len());
    let mut left = CAUSE_MESSAGES_BYTES_MAX;
    for cause in &mut failure.causes {
        cut_message(&mut cause.message, FAILURE_MESSAGE_BYTES_MAX.min(left.max(CUT_MARK_BYTES)));
        left = left.saturating_sub(cause.message.len());
    }
    let mut note = String::new();
    if failure.frames.len() < n_frames {
        note.push_str(&format!("\n(cut, of {n_frames} frames)"));
    }
    if failure.causes.len() < n_causes {
        note.push_str(&format!("\n(cut, of {n_causes} causes)"));
    }
    let others = failure.encoded_len() - failure.details.len();
    let room = FAILURE_BYTES_MAX.saturating_sub(others + SPARE_BYTES);
    cut_message(&mut failure.details, room.min(FAILURE_DETAILS_BYTES_MAX).saturating_sub(note.len()));
    failure.details.push_str(&note);
}

/// Keeps the first of some entries, as many as go into `max` bytes.
fn keep_first<T>(entries: &mut Vec<T>, max: usize, bytes: impl Fn(&T) -> usize) {
    let mut sum = 0;
    let fit = entries.iter().take_while(|entry| {
        sum += bytes(entry);
        sum <= max
    });
    let n_fit = fit.count();
    entries.truncate(n_fit);
}
