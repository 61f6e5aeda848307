//! `mycelium why`.

use anyhow::Context as _;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::v1::wait_reason::Kind;
use mycelium_proto::v1::{ExplainJobRequest, NoFittingInstance};

use super::{client, jobs};
use crate::output::format;
use crate::output::{Json, Output};
use crate::views::view;

/// Explains the state of a job: what it waits for, who holds it, or how it ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {job (as in `mycelium jobs`), reason}, where reason is one of\n  \
    {kind: waits_for_jobs, count, jobs}\n  \
    {kind: not_sealed, submission_id}\n  \
    {kind: no_instance, elf_known, instances}\n  \
    {kind: no_fitting_instance, instances, unfit: [{instance_id, session, process_id, host, lacks}]}\n  \
    {kind: held_by_ancestors, attempts: [{job_id, attempt}]}\n  \
    {kind: no_free_window, instances, window, held, jobs_before, late_by_ms}\n  \
    {kind: held, instance_id, connected, since, late_by_ms}\n  \
    {kind: evaluating, what (CONDITION, ELEMENTS or OUTPUTS)}\n  \
    {kind: waits_for_elements, elements, unfinished, jobs}\n  \
    {kind: handed_back, times, until}\n  \
    {kind: paused, pauses (as in `mycelium pauses`)}\n  \
    {kind: suspected, elves_lost, isolated, instances, kept_instance_id, kept_holds}\n  \
    {kind: ended, status, failure_id, cause_job_id}")]
pub(crate) struct Args {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let request = ExplainJobRequest { job_id: client::job_bytes(args.job), ..ExplainJobRequest::default() };
    let answer = mycelium.explain_job(request).await?;
    let job = answer.job.context("the broker's answer lacks the job")?;
    let reason = answer.reason.unwrap_or_default();
    if output.is_json() {
        return Ok(output.json(&Json::object([("job", view(&job)), ("reason", view(&reason))]))?);
    }
    output.line(&format::one_line(&elf_runtime::describe_reason(&job, &reason)))?;
    if let Some(Kind::NoFittingInstance(none)) = &reason.kind {
        unfit(none, output)?;
    }
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

/// Each process that does not take the job, and what it lacks.
fn unfit(none: &NoFittingInstance, output: Output) -> anyhow::Result<()> {
    for unfit in &none.unfit {
        let process = format::process(unfit.process_id, &unfit.host);
        for lack in &unfit.lacks {
            output.line(&format::one_line(&format!("  process {process}: {lack}")))?;
        }
        if unfit.lacks.is_empty() {
            output.line(&format::one_line(&format!("  process {process}: its declaration has changed")))?;
        }
    }
    if (none.unfit.len() as u64) < u64::from(none.instances) {
        output.line("…")?;
    }
    Ok(())
}
