//! Why a job is where it is.

use mycelium_proto::v1;
use mycelium_proto::v1::reason::Kind;
use serde::Serialize;

use super::{JobView, status_name};
use crate::output::format;

/// What holds a job, or how it ended.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum ReasonView<'a> {
    /// It waits for `count` other jobs, of which `jobs` shows some.
    WaitsForJobs { count: u32, jobs: Vec<JobView<'a>> },
    /// Its submission has not been sealed.
    NotSealed { submission_id: String },
    /// No instance that is connected offers its task.
    NoInstance { elf_known: bool, instances: u32 },
    /// Instances offer its task, and all their windows are full.
    NoFreeWindow { instances: u32, window: u32, held: u32, jobs_before: u32, late_by_ms: Option<u64> },
    /// An instance holds it.
    Held { instance_id: String, connected: bool, since: Option<String>, late_by_ms: Option<u64> },
    /// It has ended.
    Ended { status: &'static str, failure_id: Option<String>, cause_job_id: Option<String> },
    /// The broker computes what decides how it goes on: its `CONDITION`, the `ELEMENTS` it is run for, or the
    /// `OUTPUTS` gathered from those.
    Evaluating { what: &'static str },
    /// It waits for the jobs of its elements, of which `jobs` shows some that are unfinished.
    WaitsForElements { elements: u32, unfinished: u32, jobs: Vec<JobView<'a>> },
    /// It was handed back again and again without an outcome, and is offered anew at `until`.
    HandedBack { times: u32, until: Option<String> },
    /// A reason that this program does not know.
    Unknown,
}

impl<'a> From<&'a v1::Reason> for ReasonView<'a> {
    fn from(reason: &'a v1::Reason) -> Self {
        match &reason.kind {
            Some(Kind::WaitsForJobs(waits)) => Self::WaitsForJobs {
                count: waits.count,
                jobs: waits.jobs.iter().map(JobView::from).collect(),
            },
            Some(Kind::NotSealed(open)) => Self::NotSealed { submission_id: format::id(&open.submission_id) },
            Some(Kind::NoInstance(none)) => {
                Self::NoInstance { elf_known: none.elf_known, instances: none.instances }
            }
            Some(Kind::NoFreeWindow(full)) => Self::NoFreeWindow {
                instances: full.instances,
                window: full.window,
                held: full.held,
                jobs_before: full.jobs_before,
                late_by_ms: format::millis(full.late_by.as_ref()),
            },
            Some(Kind::Held(held)) => Self::Held {
                instance_id: format::id(&held.instance_id),
                connected: held.connected,
                since: format::rfc3339(held.since.as_ref()),
                late_by_ms: format::millis(held.late_by.as_ref()),
            },
            Some(Kind::Ended(ended)) => Self::Ended {
                status: status_name(ended.status()),
                failure_id: format::id_if_any(&ended.failure_id),
                cause_job_id: format::id_if_any(&ended.cause_job_id),
            },
            Some(Kind::Evaluating(evaluating)) => Self::Evaluating {
                what: match evaluating.what() {
                    v1::EvaluatingWhat::Unspecified => "UNKNOWN",
                    v1::EvaluatingWhat::Condition => "CONDITION",
                    v1::EvaluatingWhat::Elements => "ELEMENTS",
                    v1::EvaluatingWhat::Outputs => "OUTPUTS",
                },
            },
            Some(Kind::WaitsForElements(waits)) => Self::WaitsForElements {
                elements: waits.elements,
                unfinished: waits.unfinished,
                jobs: waits.jobs.iter().map(JobView::from).collect(),
            },
            Some(Kind::HandedBack(handed)) => {
                Self::HandedBack { times: handed.times, until: format::rfc3339(handed.until.as_ref()) }
            }
            None => Self::Unknown,
        }
    }
}
