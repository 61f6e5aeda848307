//! `mycelium start-now`.

use std::collections::HashSet;

use elf_runtime::{JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::{JobIds, StartJobsRequest, StartJobsResponse};

use super::client;
use crate::output::Output;
use crate::output::format::count;
use crate::views::view;

/// Lets jobs begin at once that wait for their moment: those with a delay, and those that are tried again after a while.
///
/// Jobs that wait for other jobs too keep their moment. Those that do not wait, or have ended, stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {jobs_started}: how many waited for a moment, and do not any more.\n\n\
    Example: mycelium start-now 0199f2c4-8d11-7c2e-9a40-5f1d2b3c4e5a")]
pub(crate) struct Args {
    /// The jobs, named by their ids.
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<JobId>,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    let jobs: Vec<JobId> = args.jobs.into_iter().filter(|job| seen.insert(*job)).collect();
    let mut sum = StartJobsResponse::default();
    for jobs in jobs.chunks(limits::JOB_IDS_MAX) {
        let job_ids = jobs.iter().copied().map(client::job_bytes).collect();
        let request = StartJobsRequest { jobs: Some(JobIds { job_ids }), ..StartJobsRequest::default() };
        sum.jobs_started += mycelium.start_jobs(request).await?.jobs_started;
    }
    if output.is_json() {
        return Ok(output.json(&view(&sum))?);
    }
    let others = jobs.len() as u64 - sum.jobs_started.min(jobs.len() as u64);
    let verb = if sum.jobs_started == 1 { "waits" } else { "wait" };
    let mut sentence = format!("{} no longer {verb} for a moment", count(sum.jobs_started, "job"));
    if others > 0 {
        sentence.push_str(&format!("; {} did not wait for one alone", count(others, "job")));
    }
    Ok(output.line(&sentence)?)
}
