//! `mycelium why`.

use anyhow::Context as _;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::v1::reason::Kind;
use mycelium_proto::v1::{EvaluatingWhat, ExplainJobRequest, Job, JobStatus, Reason};
use serde::Serialize;

use super::{client, jobs};
use crate::output::Output;
use crate::output::format::{self, count};
use crate::views::{JobView, ReasonView, status_name};

/// Says why a job is where it is: what holds it, or how it ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {job (as in `mycelium jobs`), reason}, where reason is one of\n  \
    {kind: waits_for_jobs, count, jobs}\n  \
    {kind: not_sealed, submission_id}\n  \
    {kind: no_instance, elf_known, instances}\n  \
    {kind: no_free_window, instances, window, held, jobs_before}\n  \
    {kind: held, instance_id, connected, since}\n  \
    {kind: evaluating, what (CONDITION, ELEMENTS or OUTPUTS)}\n  \
    {kind: waits_for_elements, elements, unfinished, jobs}\n  \
    {kind: ended, status, failure_id, cause_job_id}")]
pub(crate) struct Args {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
}

#[derive(Debug, Serialize)]
struct Explanation<'a> {
    job: JobView<'a>,
    reason: ReasonView<'a>,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let request = ExplainJobRequest { job_id: client::job_bytes(args.job), ..ExplainJobRequest::default() };
    let answer = mycelium.explain_job(request).await?;
    let job = answer.job.context("the broker's answer lacks the job")?;
    let reason = answer.reason.unwrap_or_default();
    if output.is_json() {
        return Ok(output.json(&Explanation { job: (&job).into(), reason: (&reason).into() })?);
    }
    output.line(&format::one_line(&sentence(&job, &reason)))?;
    let waits_for = match &reason.kind {
        Some(Kind::WaitsForJobs(waits)) => Some((&waits.jobs, waits.count)),
        Some(Kind::WaitsForElements(waits)) => Some((&waits.jobs, waits.unfinished)),
        Some(_) | None => None,
    };
    if let Some((jobs, count)) = waits_for.filter(|(jobs, _)| !jobs.is_empty()) {
        output.table(jobs::table(jobs), "")?;
        if (jobs.len() as u64) < u64::from(count) {
            output.line("…")?;
        }
    }
    Ok(())
}

/// The reason in words.
fn sentence(job: &Job, reason: &Reason) -> String {
    let (elf, task) = (&job.elf, &job.task);
    let status = status_name(job.status());
    let why = match &reason.kind {
        Some(Kind::WaitsForJobs(waits)) => {
            format!("it waits for {} to end DONE or SKIPPED:", count(waits.count.into(), "job"))
        }
        Some(Kind::NotSealed(open)) => {
            let id = format::id(&open.submission_id);
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
        Some(Kind::NoFreeWindow(full)) => format!(
            "the elf `{elf}` is busy: it holds {} of at most {}, and {} before this one",
            count(full.held.into(), "job"),
            full.window,
            match full.jobs_before {
                1 => "1 job stands".to_owned(),
                1_000.. => "1000 jobs or more stand".to_owned(),
                n => format!("{n} jobs stand"),
            },
        ),
        Some(Kind::Held(held)) => {
            let since = format::utc(held.since.as_ref());
            let instance = format::id(&held.instance_id);
            if held.connected {
                format!("a process of the elf `{elf}` has held it since {since} UTC (instance {instance})")
            } else {
                format!(
                    "a process of the elf `{elf}` has held it since {since} UTC (instance {instance}); it is not \
                     connected now, and keeps the job until its lease runs out"
                )
            }
        }
        Some(Kind::Ended(ended)) => match ended.status() {
            JobStatus::Failed => {
                format!("it failed; see: mycelium failure {}", format::id(&ended.failure_id))
            }
            JobStatus::UpstreamFailed => format!(
                "a job that it depends on did not end DONE; see: mycelium job {}",
                format::id(&ended.cause_job_id)
            ),
            JobStatus::Cancelled => "it was cancelled".to_owned(),
            JobStatus::Skipped => {
                "its condition was not met, or it needs a value of a job that was skipped".to_owned()
            }
            JobStatus::Done => "its outputs are stored".to_owned(),
            JobStatus::Unspecified | JobStatus::Pending | JobStatus::Ready | JobStatus::Running => {
                "it has ended".to_owned()
            }
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
            count(waits.elements.into(), "element"),
            waits.unfinished,
            if waits.jobs.is_empty() { "" } else { ":" }
        ),
        None => "the broker gives a reason that this program does not know".to_owned(),
    };
    format!("{status}: {why}")
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{Ended, Evaluating, WaitsForElements};

    use super::*;

    fn told(status: JobStatus, kind: Kind) -> String {
        sentence(&Job { status: status.into(), ..Job::default() }, &Reason { kind: Some(kind) })
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
        let skipped = Ended { status: JobStatus::Skipped.into(), ..Ended::default() };
        assert_eq!(
            told(JobStatus::Skipped, Kind::Ended(skipped)),
            "SKIPPED: its condition was not met, or it needs a value of a job that was skipped"
        );
    }
}
