//! Failures as the broker keeps them, and those it makes itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::command::{Advice, Failed, FailureClass};
use mycelium_core::ids::{FailureId, JobId};
use mycelium_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::message::FailureBody;
use crate::documents::{Failure, policy};

/// The types that runtimes give to what a policy tells apart by rules of their own.
const PANIC: &str = "Panic";
const ARGUMENT_TYPE_ERROR: &str = "ArgumentTypeError";

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

/// What decides whether the job of an attempt that ended with a failure is tried again.
fn what_failed(id: FailureId, failure: &v1::Failure) -> Failed {
    let class = match failure.r#type.as_str() {
        PANIC => FailureClass::Panic,
        ARGUMENT_TYPE_ERROR => FailureClass::Arguments,
        _ => FailureClass::Task,
    };
    let advice = match (failure.permanent, policy::retry_after(failure.retry_after)) {
        (true, _) => Some(Advice::Never),
        (false, after) => after.map(Advice::After),
    };
    Failed { id, kind: Arc::from(failure.r#type.as_str()), class, advice }
}

impl FailureBody {
    /// A failure as it was reported, cut to the limits.
    pub(crate) fn new(mut failure: v1::Failure) -> Self {
        if failure.r#type.is_empty() {
            "Error".clone_into(&mut failure.r#type);
        }
        let failure = v1::Failure::from(Failure::new(failure));
        let id = identity(&failure);
        Self {
            id,
            encoded: Bytes::from(failure.encode_to_vec()),
            failed: Box::new(what_failed(id, &failure)),
            message: failure.message,
            details: failure.details,
            cause_messages: failure.causes.into_iter().map(|cause| cause.message).collect(),
        }
    }

    fn by_broker(r#type: &str, message: String) -> Self {
        Self::new(v1::Failure { r#type: r#type.to_owned(), message, ..v1::Failure::default() })
    }

    /// The same failure of this task, and of what in it, if that is known: those of different tasks are different ones,
    /// and frames tell failures apart.
    pub(crate) fn in_task(self, elf: &str, task: &str, what: Option<&str>) -> Self {
        let what = what.map(|what| format!("({what})")).unwrap_or_default();
        let frame = v1::Frame { function: format!("{elf}::{task}{what}"), ..v1::Frame::default() };
        match Failure::decode(self.id, self.encoded.clone()) {
            Ok(failure) => Self::new(v1::Failure { frames: vec![frame], ..failure.into() }),
            // It was encoded here.
            Err(_) => self,
        }
    }

    /// The process that ran the job was lost, in all so often, and `alone` times while nothing else ran there, which is the
    /// limit. `beside`: jobs that can have been running there the other times.
    pub(crate) fn elves_lost(alone: u32, in_all: u32, beside: &[JobId]) -> Self {
        let mut message = format!(
            "the process that ran the job was lost {alone} times while nothing else ran there, which is the limit"
        );
        if in_all > alone {
            message.push_str(&format!("; it was lost {in_all} times in all"));
        }
        if !beside.is_empty() {
            let beside: Vec<String> = beside.iter().map(ToString::to_string).collect();
            message.push_str(&format!(", beside jobs that ran there before: {}", beside.join(", ")));
        }
        Self::by_broker("ElfLostError", message)
    }

    /// The attempt ran for longer than it may, and its process has not ended it.
    pub(crate) fn timed_out(run: Duration) -> Self {
        let message =
            format!("the task ran for longer than its run timeout of {run:?}; the broker has ended it");
        Self::by_broker("Timeout", message)
    }

    /// The attempt has reported nothing for longer than it may, and its process has not ended it.
    pub(crate) fn silent(within: Duration) -> Self {
        let message = format!(
            "the task reported no progress for longer than its progress timeout of {within:?}; the broker has ended it"
        );
        Self::by_broker("Timeout", message)
    }

    /// The outputs of an attempt do not fit the task.
    pub(crate) fn result_type(message: String) -> Self {
        Self::by_broker("ResultTypeError", message)
    }

    /// A record that the job needs is damaged.
    pub(crate) fn record_damaged(message: String) -> Self {
        Self::by_broker("RecordDamagedError", message)
    }

    /// The store does not take what the job came to, now or later.
    pub(crate) fn store_refused() -> Self {
        let message = "the store refuses what the job came to; why stands in the log of the broker";
        Self::by_broker("StoreRefusedError", message.to_owned())
    }

    /// An argument could not be computed.
    pub(crate) fn value_derivation(message: String) -> Self {
        Self::by_broker("ValueDerivationError", message)
    }
}

#[cfg(test)]
mod tests {
    use mycelium_proto::limits::{FAILURE_BYTES_MAX, FAILURE_FRAMES_MAX, FAILURE_MESSAGE_BYTES_MAX};

    use super::*;

    fn failure(r#type: &str, message: &str, line: u32, cause: &str) -> v1::Failure {
        v1::Failure {
            r#type: r#type.to_owned(),
            message: message.to_owned(),
            frames: vec![v1::Frame { function: "f".to_owned(), file: "a.rs".to_owned(), line }],
            causes: vec![v1::FailureCause { r#type: cause.to_owned(), message: message.to_owned() }],
            details: message.to_owned(),
            ..v1::Failure::default()
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
    fn different_arguments_that_cannot_be_computed_are_different_failures() {
        let of = |elf, task, what, message: &str| {
            FailureBody::value_derivation(message.to_owned()).in_task(elf, task, what).id
        };
        let base = of("scale", "task_weigh", Some("get: missing_key"), "one");
        assert_eq!(base, of("scale", "task_weigh", Some("get: missing_key"), "another message"));
        assert_ne!(base, of("scale", "task_feed", Some("get: missing_key"), "one"));
        assert_ne!(base, of("crane", "task_weigh", Some("get: missing_key"), "one"));
        assert_ne!(base, of("scale", "task_weigh", Some("get: bad_index"), "one"));
        assert_ne!(base, of("scale", "task_weigh", None, "one"));
        assert_ne!(base, FailureBody::value_derivation("one".to_owned()).id);
    }

    #[test]
    fn everything_is_cut_to_its_limit_at_a_character_and_says_so() {
        let mut huge = failure("E", &"ä".repeat(FAILURE_MESSAGE_BYTES_MAX), 1, "C");
        huge.frames = vec![huge.frames[0].clone(); 1_000];
        let body = FailureBody::new(huge);
        assert!((FAILURE_MESSAGE_BYTES_MAX - 1..=FAILURE_MESSAGE_BYTES_MAX).contains(&body.message.len()));
        assert!(body.message.ends_with("ä… (cut, of 32768 bytes)"), "{}", &body.message[16_000..]);
        let kept = v1::Failure::from(Failure::decode(body.id, body.encoded).unwrap());
        assert_eq!(kept.frames.len(), FAILURE_FRAMES_MAX);
        assert!(kept.details.ends_with("\n(cut, of 1000 frames)"), "{}", kept.details.len());
    }

    #[test]
    fn nothing_is_larger_than_an_occurrence_may_be_whatever_is_large_in_it() {
        let text = |bytes| "x".repeat(bytes);
        let frame = v1::Frame { function: text(5_000), file: text(5_000), line: u32::MAX };
        let cause = v1::FailureCause { r#type: text(5_000), message: text(500_000) };
        let small_cause = v1::FailureCause { r#type: String::new(), message: text(10) };
        let none = v1::Failure::default();
        let failures = [
            v1::Failure { message: text(1_000_000), details: text(3_000_000), ..none.clone() },
            v1::Failure { frames: vec![frame.clone(); 5_000], details: text(3_000_000), ..none.clone() },
            v1::Failure { causes: vec![cause.clone(); 500], details: text(3_000_000), ..none.clone() },
            v1::Failure { causes: vec![small_cause; 500], ..none.clone() },
            v1::Failure {
                r#type: text(5_000),
                message: text(1_000_000),
                details: text(3_000_000),
                frames: vec![frame; 5_000],
                causes: vec![cause; 500],
                ..none
            },
        ];
        for failure in failures {
            let body = FailureBody::new(failure);
            assert!(body.encoded.len() <= FAILURE_BYTES_MAX, "{} bytes", body.encoded.len());
            let again = v1::Failure::from(Failure::decode(body.id, body.encoded.clone()).unwrap());
            assert_eq!(again.encode_to_vec(), body.encoded, "what was cut is not cut again");
        }
    }

    #[test]
    fn identity_does_not_depend_on_how_much_is_cut_of_what_it_is_not() {
        let with = |bytes: usize| {
            let mut failure = failure("E", &"x".repeat(bytes), 1, "C");
            failure.frames = vec![failure.frames[0].clone(); 100];
            FailureBody::new(failure).id
        };
        assert_eq!(with(1), with(10_000_000));
    }
}
