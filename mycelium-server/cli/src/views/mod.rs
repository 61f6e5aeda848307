//! The shapes that `--output json` prints. They are part of the interface: fields are added, and neither renamed nor
//! removed. Ids and digests are strings, times RFC 3339 in UTC, numbers numbers, statuses as the contract names them
//! without their prefix, and what is not set is null.

mod elf;
mod expression;
mod failure;
mod graph;
mod job;
mod names;
mod reason;
mod values;

pub(crate) use self::elf::{ElfSummary, ElfView, RevisionView, SourceView};
pub(crate) use self::expression::expression;
pub(crate) use self::failure::{FailureDetails, FailureSummary};
pub(crate) use self::graph::{EdgeView, GraphView, LineageJobView, LineageView, ValuesView};
pub(crate) use self::job::{FlowView, JobDetails, JobView, PayloadView};
pub(crate) use self::names::{Names, Outline};
pub(crate) use self::reason::ReasonView;
pub(crate) use self::values::{ValueView, values_of};

use mycelium_proto::v1::JobStatus;

/// The name of a status: `DONE`, `UPSTREAM_FAILED`.
pub(crate) fn status_name(status: JobStatus) -> &'static str {
    match status {
        // A status that this program does not know reads so too: the broker is newer.
        JobStatus::Unspecified => "UNKNOWN",
        JobStatus::Pending => "PENDING",
        JobStatus::Ready => "READY",
        JobStatus::Running => "RUNNING",
        JobStatus::Done => "DONE",
        JobStatus::Failed => "FAILED",
        JobStatus::UpstreamFailed => "UPSTREAM_FAILED",
        JobStatus::Skipped => "SKIPPED",
        JobStatus::Cancelled => "CANCELLED",
    }
}

/// Text that may be missing, where the contract says that with an empty one.
fn text_if_any(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
