//! Failures.

use mycelium_proto::v1;
use serde::Serialize;

use super::text_if_any;
use crate::output::format;

/// A failure and how often it was seen.
#[derive(Debug, Serialize)]
pub(crate) struct FailureSummary<'a> {
    pub(crate) failure_id: String,
    #[serde(rename = "type")]
    pub(crate) failure_type: &'a str,
    /// Of the latest occurrence; within a job, of its own.
    pub(crate) message: &'a str,
    pub(crate) details: Option<&'a str>,
    /// Innermost first.
    pub(crate) frames: Vec<FrameView<'a>>,
    /// Nearest first.
    pub(crate) causes: Vec<CauseView<'a>>,
    pub(crate) occurrences_count: u64,
    pub(crate) first_seen: Option<String>,
    pub(crate) last_seen: Option<String>,
    pub(crate) elf: &'a str,
    pub(crate) task: &'a str,
}

/// A place in the source code.
#[derive(Debug, Serialize)]
pub(crate) struct FrameView<'a> {
    pub(crate) function: Option<&'a str>,
    pub(crate) file: Option<&'a str>,
    pub(crate) line: Option<u32>,
}

impl FrameView<'_> {
    /// `src/main.rs:12`, or as much of it as is known.
    pub(crate) fn place(&self) -> String {
        match (self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.to_owned(),
            (None, _) => format::NOTHING.to_owned(),
        }
    }
}

/// One link of a chain of causes.
#[derive(Debug, Serialize)]
pub(crate) struct CauseView<'a> {
    #[serde(rename = "type")]
    pub(crate) cause_type: &'a str,
    pub(crate) message: &'a str,
}

impl<'a> FailureSummary<'a> {
    /// `None` if the group lacks its failure, which a broker does not send.
    pub(crate) fn new(group: &'a v1::FailureGroup) -> Option<Self> {
        let failure = group.failure.as_ref()?;
        let frame = |frame: &'a v1::Frame| FrameView {
            function: text_if_any(&frame.function),
            file: text_if_any(&frame.file),
            line: (frame.line > 0).then_some(frame.line),
        };
        let cause =
            |cause: &'a v1::FailureCause| CauseView { cause_type: &cause.r#type, message: &cause.message };
        Some(Self {
            failure_id: format::id(&group.failure_id),
            failure_type: &failure.r#type,
            message: &failure.message,
            details: text_if_any(&failure.details),
            frames: failure.frames.iter().map(frame).collect(),
            causes: failure.causes.iter().map(cause).collect(),
            occurrences_count: group.occurrences,
            first_seen: format::rfc3339(group.first_seen.as_ref()),
            last_seen: format::rfc3339(group.last_seen.as_ref()),
            elf: &group.elf,
            task: &group.task,
        })
    }

    /// Where it was raised: the innermost place whose file is known.
    pub(crate) fn place(&self) -> String {
        let known = self.frames.iter().find(|frame| frame.file.is_some());
        known.map_or_else(|| format::NOTHING.to_owned(), FrameView::place)
    }
}

/// A failure with its latest occurrences.
#[derive(Debug, Serialize)]
pub(crate) struct FailureDetails<'a> {
    #[serde(flatten)]
    pub(crate) failure: FailureSummary<'a>,
    /// Last first, as many as were asked for.
    pub(crate) occurrences: Vec<OccurrenceView<'a>>,
}

/// One time that a failure was seen.
#[derive(Debug, Serialize)]
pub(crate) struct OccurrenceView<'a> {
    job_id: String,
    /// From 1; 0 if the job failed before its first.
    attempt: u32,
    at: Option<String>,
    message: &'a str,
    details: Option<&'a str>,
}

impl<'a> From<&'a v1::FailureOccurrence> for OccurrenceView<'a> {
    fn from(occurrence: &'a v1::FailureOccurrence) -> Self {
        Self {
            job_id: format::id(&occurrence.job_id),
            attempt: occurrence.attempt,
            at: format::rfc3339(occurrence.at.as_ref()),
            message: &occurrence.message,
            details: text_if_any(&occurrence.details),
        }
    }
}
