//! What commands show of messages: as JSON, which is part of the interface (fields are added, and neither renamed nor
//! removed), and for people.

mod expression;
mod message;
mod names;
mod payload;
mod values;

pub(crate) use self::expression::expression;
pub(crate) use self::message::{view, views};
pub(crate) use self::names::{Names, Outline};
pub(crate) use self::payload::Payload;
pub(crate) use self::values::{ValueView, values_json, values_of};

use mycelium_proto::v1::{Failure, Frame, JobEdgeKind, JobStatus};

use crate::output::format;

/// The name of a status: `DONE`, `UPSTREAM_FAILED`.
pub(crate) fn status_name(status: JobStatus) -> &'static str {
    match status.as_str_name().strip_prefix("JOB_STATUS_") {
        // A status that this program does not know reads so too: the broker is newer.
        Some("UNSPECIFIED") | None => message::UNKNOWN,
        Some(name) => name,
    }
}

/// What an edge stands for: `VALUE`, `AFTER`.
pub(crate) fn edge_kind_name(kind: JobEdgeKind) -> &'static str {
    match kind.as_str_name().strip_prefix("JOB_EDGE_KIND_") {
        // As above.
        Some("UNSPECIFIED") | None => message::UNKNOWN,
        Some(name) => name,
    }
}

/// `src/main.rs:12`, or as much of it as is known.
pub(crate) fn place(frame: &Frame) -> String {
    match (frame.file.as_str(), frame.line) {
        ("", _) => format::NOTHING.to_owned(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    }
}

/// Where a failure was raised: the innermost place whose file is known.
pub(crate) fn place_of(failure: &Failure) -> String {
    let known = failure.frames.iter().find(|frame| !frame.file.is_empty());
    known.map_or_else(|| format::NOTHING.to_owned(), place)
}

/// Text that may be missing, where the contract says that with an empty one.
fn text_if_any(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
