//! Why a job is in its state, as a human-readable sentence.

use std::time::Duration;

use mycelium_proto::v1::wait_reason::Kind;
use mycelium_proto::v1::{self, EvaluatingWhat, ExpiredWhy, Job, JobStatus, WaitReason};
use prost_types::Timestamp;

use super::mycelium::Mycelium;
use crate::error::{Count, Error};
use crate::ids::JobId;

/// How many attempts are named of those that a job waits for.
const ANCESTORS_SHOWN_MAX: usize = 4;

impl Mycelium {
    /// Why a job is in its state, as one human-readable sentence: what `mycelium why` prints. Other jobs are only counted
    /// there; [`explain_job`](Self::explain_job) lists them.
    ///
    /// # Errors
    /// As [`explain_job`](Self::explain_job).
    pub async fn why(&self, job_id: JobId) -> Result<String, Error> {
        let request = v1::ExplainJobRequest { job_id: job_id.to_wire(), ..v1::ExplainJobRequest::default() };
        let answer = self.explain_job(request).await?;
        Ok(describe_reason(&answer.job.unwrap_or_default(), &answer.reason.unwrap_or_default()))
    }
}

/// The answer of [`explain_job`](Mycelium::explain_job) as one human-readable sentence, such as `READY: no elf named
/// `scale` has ever connected`. Names are not escaped.
#[must_use]
pub fn describe_reason(job: &Job, reason: &WaitReason) -> String {
    let (elf, task) = (&job.elf, &job.task);
    let status = status_name(job.status());
    let why = match &reason.kind {
        Some(Kind::WaitsForJobs(waits)) => {
            format!("it waits for {} to end DONE or SKIPPED:", Count(waits.count, "job"))
        }
        Some(Kind::NotSealed(open)) => {
            let id = id(&open.submission_id);
            format!("its submission {id} is not complete; more parts of it are to come")
        }
        Some(Kind::NoInstance(none)) => match (none.elf_known, none.instances) {
            (false, _) => format!("no elf named `{elf}` has ever connected"),
            (true, 0) => format!("no process that serves the elf `{elf}` is connected"),
            (true, 1) => {
                format!("the one process of the elf `{elf}` that is connected does not offer `{task}`")
            }
            (true, n) => {
                format!("of the {n} processes of the elf `{elf}` that are connected none offers `{task}`")
            }
        },
        Some(Kind::NoFittingInstance(none)) => match none.instances {
            1 => format!(
                "the one process of the elf `{elf}` that offers `{task}` does not take its arguments{}",
                lacks(none)
            ),
            n => format!(
                "none of the {n} processes of the elf `{elf}` that offer `{task}` takes its arguments{}",
                lacks(none)
            ),
        },
        Some(Kind::HeldByAncestors(held)) => {
            let attempts = held.attempts.iter().take(ANCESTORS_SHOWN_MAX);
            let attempts: Vec<String> =
                attempts.map(|of| format!("attempt {} of job {}", of.attempt, id(&of.job_id))).collect();
            let more = if held.attempts.len() > ANCESTORS_SHOWN_MAX { " and others" } else { "" };
            format!(
                "it waits for a place in a process of the elf `{elf}`, and all there are are held by those on whose behalf \
                 it was submitted, or by others like them ({}{more}): if these wait for their jobs, all wait for ever; the elf needs more places \
                 (concurrency) or more processes",
                attempts.join(", ")
            )
        }
        Some(Kind::NoFreeWindow(full)) if full.draining > 0 && full.draining == full.instances => format!(
            "all processes of the elf `{elf}` that take it ({}) are draining: they take no more jobs, and leave",
            full.instances
        ),
        Some(Kind::NoFreeWindow(full)) => format!(
            "the elf `{elf}` is busy: it holds {} of at most {}, and {} before this one{}",
            Count(full.held, "job"),
            full.window,
            match full.jobs_before {
                1 => "1 job stands".to_owned(),
                1_000.. => "1000 jobs or more stand".to_owned(),
                n => format!("{n} jobs stand"),
            },
            late(full.late_by.as_ref()),
        ),
        Some(Kind::Paused(paused)) => {
            let pauses: Vec<String> = paused.pauses.iter().map(pause).collect();
            format!("it is paused: {}", pauses.join("; "))
        }
        Some(Kind::Delayed(delayed)) => {
            format!(
                "it does not begin before {} UTC (`mycelium start-now` lets it)",
                utc(delayed.until.as_ref())
            )
        }
        Some(Kind::BackingOff(waits)) => {
            let because = match (waits.failure_type.as_str(), waits.failure_message.as_str()) {
                ("", "") => String::new(),
                (kind, "") => format!(", because the last one failed with {kind}"),
                (kind, message) => format!(", because the last one failed with {kind}: {message}"),
            };
            format!(
                "attempt {} of {} begins at {} UTC{because} (`mycelium start-now` lets it begin at once)",
                waits.failed.saturating_add(1),
                waits.failed_max,
                utc(waits.until.as_ref()),
            )
        }
        Some(Kind::HandedBack(handed)) => format!(
            "elves of `{elf}` have taken it and given it back without an outcome {}; it is offered to them again at \
             {} UTC",
            Count(handed.times, "time"),
            utc(handed.until.as_ref()),
        ),
        Some(Kind::Suspected(suspected)) => {
            let waits = match (suspected.isolated, suspected.kept_instance_id.is_empty()) {
                (false, _) => "waits for a process that runs no other such job".to_owned(),
                (true, true) => "waits for a process to itself".to_owned(),
                (true, false) => format!(
                    "gets a process to itself: instance {} is kept for it, and still holds {}",
                    id(&suspected.kept_instance_id),
                    Count(suspected.kept_holds, "job"),
                ),
            };
            format!(
                "the process of the elf `{elf}` that ran it was lost {}; it may have been what ended them, and {waits}",
                Count(suspected.elves_lost, "time")
            )
        }
        Some(Kind::Held(held)) => {
            let since = utc(held.since.as_ref());
            let instance = id(&held.instance_id);
            let late = late(held.late_by.as_ref());
            let begun = match &held.started_at {
                Some(started) => format!(" and run it since {} UTC", utc(Some(started))),
                None if job.status() == JobStatus::Assigned => " and not begun it".to_owned(),
                // The broker does not tell.
                None => String::new(),
            };
            let held_by = format!(
                "a process of the elf `{elf}` has held it since {since} UTC{begun} (instance {instance})"
            );
            if held.connected {
                format!("{held_by}{late}")
            } else {
                format!("{held_by}; it is not connected now, and keeps the job until its lease runs out")
            }
        }
        Some(Kind::Ended(ended)) => match ended.status() {
            JobStatus::Failed => {
                format!("it failed; see: mycelium failure {}", id(&ended.failure_id))
            }
            JobStatus::UpstreamFailed => format!(
                "a job that it depends on did not end DONE; see: mycelium job {}",
                id(&ended.cause_job_id)
            ),
            JobStatus::Cancelled => "it was cancelled".to_owned(),
            JobStatus::Expired => match ended.expired() {
                ExpiredWhy::Queue => {
                    "it waited too long for a process to begin it: its queue timeout was over"
                }
                ExpiredWhy::Total => "it did not end in time: its total timeout was over",
                ExpiredWhy::Unspecified => "its time was over before it ended",
            }
            .to_owned(),
            JobStatus::Skipped => {
                "its condition was not met, or it needs a value of a job that was skipped".to_owned()
            }
            JobStatus::Done => "its outputs are stored".to_owned(),
            JobStatus::Unspecified
            | JobStatus::Pending
            | JobStatus::Ready
            | JobStatus::Assigned
            | JobStatus::Running => "it has ended".to_owned(),
        },
        Some(Kind::Evaluating(evaluating)) => match evaluating.what() {
            EvaluatingWhat::Condition => "the broker computes whether it is to run",
            EvaluatingWhat::Elements => {
                "the broker computes the list that it is run over, and makes a job of each element"
            }
            EvaluatingWhat::Outputs => {
                "the jobs of its elements have ended, and the broker gathers what they returned"
            }
            EvaluatingWhat::Unspecified => "the broker computes what decides how it goes on",
        }
        .to_owned(),
        Some(Kind::WaitsForElements(waits)) => format!(
            "it is run for {}, and waits for the jobs of {} to end{}",
            Count(waits.elements, "element"),
            waits.unfinished,
            if waits.jobs.is_empty() { "" } else { ":" }
        ),
        None => "the broker gives a reason that this program does not know".to_owned(),
    };
    let expires = match &job.expires_at {
        Some(at) => format!(" (expires at {} UTC)", utc(Some(at))),
        None => String::new(),
    };
    format!("{status}{expires}: {why}")
}

/// What is lacking, if it is the same everywhere as far as is known; else nothing.
fn lacks(none: &v1::NoFittingInstance) -> String {
    let mut all = none.unfit.iter().map(|unfit| &unfit.lacks);
    match all.next() {
        Some(first) if !first.is_empty() && all.all(|lacks| lacks == first) => {
            format!(" ({})", first.join("; "))
        }
        Some(_) | None => String::new(),
    }
}

/// What is paused, since when, by whom and why.
fn pause(pause: &v1::Pause) -> String {
    use v1::pause_target::Kind;
    let what = match pause.target.as_ref().and_then(|target| target.kind.as_ref()) {
        Some(Kind::All(_)) => "the whole mycelium".to_owned(),
        Some(Kind::Elf(elf)) => format!("the elf `{elf}`"),
        Some(Kind::Task(task)) => format!("the task `{}` of the elf `{}`", task.task, task.elf),
        Some(Kind::FlowId(flow)) => format!("the flow {}", id(flow)),
        None => "what this program does not know".to_owned(),
    };
    let reason = if pause.reason.is_empty() { String::new() } else { format!(" ({})", pause.reason) };
    format!("{what}, since {} UTC by {}{reason}", utc(pause.since.as_ref()), pause.by)
}

/// The note about an elf whose threads are blocked; empty if they are not.
fn late(late_by: Option<&prost_types::Duration>) -> String {
    match late_by.and_then(|late_by| Duration::try_from(*late_by).ok()) {
        Some(late_by) => format!(
            "; all threads that its tasks run on have been blocked for {} s, so that they stand still",
            late_by.as_secs()
        ),
        None => String::new(),
    }
}

/// The name of a status: `DONE`, `UPSTREAM_FAILED`.
fn status_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Unspecified => "UNKNOWN",
        known => known.as_str_name().trim_start_matches("JOB_STATUS_"),
    }
}

fn id(bytes: &[u8]) -> String {
    JobId::try_from(bytes).map_or_else(|_| "?".to_owned(), |id| id.to_string())
}

/// A time in UTC, to the second.
fn utc(time: Option<&Timestamp>) -> String {
    time.map_or_else(
        || "?".to_owned(),
        |time| Timestamp { seconds: time.seconds, nanos: 0 }.to_string().replace('T', " ").replace('Z', ""),
    )
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{Evaluating, HeldByInstance, JobEnded, NoFreeWindow, WaitsForElements};

    use super::*;

    fn told(status: JobStatus, kind: Kind) -> String {
        describe_reason(&Job { status: status.into(), ..Job::default() }, &WaitReason { kind: Some(kind) })
    }

    #[test]
    fn what_the_broker_computes_and_what_it_waits_for_is_told() {
        let evaluating = |what: EvaluatingWhat| {
            told(JobStatus::Pending, Kind::Evaluating(Evaluating { what: what.into() }))
        };
        assert_eq!(
            evaluating(EvaluatingWhat::Condition),
            "PENDING: the broker computes whether it is to run"
        );
        let all = [EvaluatingWhat::Elements, EvaluatingWhat::Outputs, EvaluatingWhat::Unspecified];
        let all: std::collections::BTreeSet<String> = all.into_iter().map(evaluating).collect();
        assert_eq!(all.len(), 3, "each is told apart: {all:?}");
        let waits = WaitsForElements { elements: 3, unfinished: 1, jobs: vec![Job::default()] };
        assert_eq!(
            told(JobStatus::Pending, Kind::WaitsForElements(waits)),
            "PENDING: it is run for 3 elements, and waits for the jobs of 1 to end:"
        );
        let skipped = JobEnded { status: JobStatus::Skipped.into(), ..JobEnded::default() };
        assert_eq!(
            told(JobStatus::Skipped, Kind::Ended(skipped)),
            "SKIPPED: its condition was not met, or it needs a value of a job that was skipped"
        );
    }

    #[test]
    fn which_time_of_an_expired_job_was_over_is_told() {
        let expired = |why: ExpiredWhy| {
            let status = JobStatus::Expired.into();
            let ended = JobEnded { status, expired: why.into(), ..JobEnded::default() };
            told(JobStatus::Expired, Kind::Ended(ended))
        };
        let (queue, total) = (expired(ExpiredWhy::Queue), expired(ExpiredWhy::Total));
        assert!(queue.starts_with("EXPIRED: ") && queue.contains("queue timeout"), "{queue}");
        assert!(total.starts_with("EXPIRED: ") && total.contains("total timeout"), "{total}");
    }

    #[test]
    fn an_elf_whose_tasks_stand_still_is_told_of() {
        let late_by = Some(prost_types::Duration { seconds: 7, nanos: 500_000_000 });
        let held = HeldByInstance { connected: true, late_by, ..HeldByInstance::default() };
        let still = "; all threads that its tasks run on have been blocked for 7 s, so that they stand still";
        let text = told(JobStatus::Running, Kind::Held(held.clone()));
        assert!(text.ends_with(still), "{text}");
        let text = told(JobStatus::Running, Kind::Held(HeldByInstance { late_by: None, ..held.clone() }));
        assert!(!text.contains("blocked"), "{text}");
        let text = told(JobStatus::Running, Kind::Held(HeldByInstance { connected: false, ..held }));
        assert!(text.contains("not connected") && !text.contains("blocked"), "{text}");
    }

    #[test]
    fn whether_a_process_has_begun_what_it_holds_is_told() {
        let started_at = Some(prost_types::Timestamp { seconds: 61, nanos: 0 });
        let held = HeldByInstance { connected: true, ..HeldByInstance::default() };
        let text = told(JobStatus::Assigned, Kind::Held(held.clone()));
        assert!(text.contains("UTC and not begun it (instance"), "{text}");
        let text = told(JobStatus::Running, Kind::Held(HeldByInstance { started_at, ..held.clone() }));
        assert!(text.contains("UTC and run it since 1970-01-01 00:01:01 UTC (instance"), "{text}");
        let text = told(JobStatus::Running, Kind::Held(held));
        assert!(!text.contains("begun") && !text.contains("run it"), "a broker of before: {text}");
    }

    #[test]
    fn an_elf_that_is_full_is_told_of() {
        let late_by = Some(prost_types::Duration { seconds: 7, nanos: 500_000_000 });
        let still = "; all threads that its tasks run on have been blocked for 7 s, so that they stand still";
        let full = NoFreeWindow { window: 1, held: 1, late_by, ..NoFreeWindow::default() };
        let text = told(JobStatus::Ready, Kind::NoFreeWindow(full));
        assert!(text.contains("is busy: it holds 1 job of at most 1") && text.ends_with(still), "{text}");
    }
}
