//! Failures as the broker keeps them, and those it makes itself.

use bytes::Bytes;
use mycelium_core::ids::FailureId;
use mycelium_proto::limits::{
    FAILURE_DETAILS_BYTES_MAX, FAILURE_FRAMES_MAX, FAILURE_MESSAGE_BYTES_MAX, NAME_BYTES_MAX,
};
use mycelium_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::message::FailureBody;

/// Cuts a text to at most `max` bytes, at a character.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

/// As [`cut`], for what people read: it says at its end that it was cut.
pub(crate) fn cut_message(text: &mut String, max: usize) {
    if text.len() > max {
        let mark = format!("… (cut, of {} bytes)", text.len());
        cut(text, max.saturating_sub(mark.len()));
        text.push_str(&mark);
    }
}

/// Digest of what makes two failures the same: type, frames, and types of the causes.
fn identity(failure: &v1::Failure) -> FailureId {
    let mut digest = Sha256::new();
    // Each text goes in with its length, so that no two lists of texts read the same.
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(&failure.r#type);
    for frame in &failure.frames {
        text(&frame.function);
        text(&frame.file);
        text(&frame.line.to_string());
    }
    text("causes");
    for cause in &failure.causes {
        text(&cause.r#type);
    }
    let digest = digest.finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    FailureId::new(id)
}

impl FailureBody {
    /// A failure as it was reported, cut to the limits.
    pub(crate) fn new(mut failure: v1::Failure) -> Self {
        if failure.r#type.is_empty() {
            "Error".clone_into(&mut failure.r#type);
        }
        cut(&mut failure.r#type, NAME_BYTES_MAX);
        cut_message(&mut failure.message, FAILURE_MESSAGE_BYTES_MAX);
        cut_message(&mut failure.details, FAILURE_DETAILS_BYTES_MAX);
        failure.frames.truncate(FAILURE_FRAMES_MAX);
        for frame in &mut failure.frames {
            cut(&mut frame.function, 4 * NAME_BYTES_MAX);
            cut(&mut frame.file, 4 * NAME_BYTES_MAX);
        }
        failure.causes.truncate(FAILURE_FRAMES_MAX);
        for cause in &mut failure.causes {
            cut(&mut cause.r#type, NAME_BYTES_MAX);
            cut_message(&mut cause.message, FAILURE_MESSAGE_BYTES_MAX);
        }
        Self {
            id: identity(&failure),
            encoded: Bytes::from(failure.encode_to_vec()),
            message: failure.message,
            details: failure.details,
            cause_messages: failure.causes.into_iter().map(|cause| cause.message).collect(),
        }
    }

    fn by_broker(r#type: &str, message: String) -> Self {
        Self::new(v1::Failure { r#type: r#type.to_owned(), message, ..v1::Failure::default() })
    }

    /// The same failure of this task: those of different tasks are different ones, and frames tell failures apart.
    pub(crate) fn in_task(self, elf: &str, task: &str) -> Self {
        let frame = v1::Frame { function: format!("{elf}::{task}"), ..v1::Frame::default() };
        match v1::Failure::decode(self.encoded.clone()) {
            Ok(failure) => Self::new(v1::Failure { frames: vec![frame], ..failure }),
            // It was encoded here.
            Err(_) => self,
        }
    }

    /// The elves that ran the job were lost, as often as the limit allows.
    pub(crate) fn elves_lost(times: u32) -> Self {
        let message = format!("the elf that ran the job was lost {times} times, which is the limit");
        Self::by_broker("ElfLostError", message)
    }

    /// The outputs of an attempt do not fit the task.
    pub(crate) fn result_type(message: String) -> Self {
        Self::by_broker("ResultTypeError", message)
    }

    /// A record that the job needs is damaged.
    pub(crate) fn record_damaged(message: String) -> Self {
        Self::by_broker("RecordDamagedError", message)
    }

    /// An argument could not be computed.
    pub(crate) fn value_derivation(message: String) -> Self {
        Self::by_broker("ValueDerivationError", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(r#type: &str, message: &str, line: u32, cause: &str) -> v1::Failure {
        v1::Failure {
            r#type: r#type.to_owned(),
            message: message.to_owned(),
            frames: vec![v1::Frame { function: "f".to_owned(), file: "a.rs".to_owned(), line }],
            causes: vec![v1::FailureCause { r#type: cause.to_owned(), message: message.to_owned() }],
            details: message.to_owned(),
        }
    }

    #[test]
    fn identity_is_type_frames_and_cause_types_alone() {
        let id = |failure| FailureBody::new(failure).id;
        let base = id(failure("E", "one", 3, "Io"));
        assert_eq!(base, id(failure("E", "another message", 3, "Io")));
        assert_ne!(base, id(failure("F", "one", 3, "Io")));
        assert_ne!(base, id(failure("E", "one", 4, "Io")));
        assert_ne!(base, id(failure("E", "one", 3, "Parse")));
    }

    #[test]
    fn arguments_of_different_tasks_that_cannot_be_computed_are_different_failures() {
        let of = |elf, task, message: &str| {
            FailureBody::value_derivation(message.to_owned()).in_task(elf, task).id
        };
        let base = of("scale", "task_weigh", "one");
        assert_eq!(base, of("scale", "task_weigh", "another message"));
        assert_ne!(base, of("scale", "task_feed", "one"));
        assert_ne!(base, of("crane", "task_weigh", "one"));
        assert_ne!(base, FailureBody::value_derivation("one".to_owned()).id);
    }

    #[test]
    fn everything_is_cut_to_its_limit_at_a_character() {
        let mut huge = failure("E", &"ä".repeat(FAILURE_MESSAGE_BYTES_MAX), 1, "C");
        huge.frames = vec![huge.frames[0].clone(); 1_000];
        let body = FailureBody::new(huge);
        assert!((FAILURE_MESSAGE_BYTES_MAX - 1..=FAILURE_MESSAGE_BYTES_MAX).contains(&body.message.len()));
        assert!(body.message.ends_with("ä… (cut, of 32768 bytes)"), "{}", &body.message[16_000..]);
        let kept = v1::Failure::decode(body.encoded).unwrap();
        assert_eq!(kept.frames.len(), FAILURE_FRAMES_MAX);
    }
}
