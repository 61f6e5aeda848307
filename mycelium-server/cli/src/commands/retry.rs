//! `mycelium retry`.

use std::time::Duration;

use anyhow::bail;
use elf_runtime::{Error, JobId, Mycelium, RetryPolicy};
use mycelium_proto::v1::{
    ActionKind, Job, JobStatus, RetryJobsRequest, RetryJobsResponse, retry_jobs_request,
};

use super::actions;
use super::scope::{Scope, ScopeArgs};
use crate::output::format::count;
use crate::output::{Output, note};
use crate::views::{status_name, view};

/// For how many jobs that were not retried the reason is printed.
const STUCK_MAX: usize = 10;
/// The most links from a job to the job that is to blame for it.
const CAUSES_MAX: usize = 128;

/// Retries jobs that ended without a result: all such jobs of a flow, or some.
///
/// The jobs that ended UPSTREAM_FAILED because of them come back with them. Jobs that are unfinished are left alone, and
/// a job that is DONE or SKIPPED cannot be retried. A job that is UPSTREAM_FAILED itself comes back only with the job that it
/// depends on: name that one, or the flow.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: {jobs_retried, dependents_revived}.\n\nExample: mycelium retry --flow 'daily report'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// All jobs that this filter names, as for `mycelium jobs`, in the background: the command only begins that. See
    /// `mycelium actions`.
    #[arg(long, value_name = "FILTER", group = "ScopeArgs")]
    filter: Option<String>,
    /// All jobs that failed with this failure, as `mycelium failures` shows it: short for --filter failure:ID.
    #[arg(long, value_name = "FAILURE", group = "ScopeArgs")]
    failure: Option<String>,
    /// With --filter or --failure: only says how many jobs it would be.
    #[arg(long)]
    dry_run: bool,
    /// How many attempts of each of these jobs may fail from now on, in place of what they, or their tasks, say.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// The least time from the first failure to the next attempt, such as `30s`, in place of what they, or their tasks, say.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    first: Option<Duration>,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let Args { scope, filter, failure, dry_run, attempts, first } = args;
    let mut policy = RetryPolicy::new();
    policy = attempts.into_iter().fold(policy, RetryPolicy::attempts);
    policy = first.into_iter().fold(policy, RetryPolicy::first);
    let retry = (policy != RetryPolicy::new()).then(|| policy.into());
    if let Some(filter) = filter.or_else(|| Some(format!("failure:{}", failure?))) {
        if retry.is_some() {
            bail!("--attempts and --first are for --flow and for jobs");
        }
        return actions::start(ActionKind::Retry, filter, dry_run, mycelium, output).await;
    }
    if dry_run {
        bail!("--dry-run is for --filter and --failure");
    }
    let named = scope.jobs();
    let scopes = match scope.find(mycelium).await? {
        Scope::Flow(flow_id) => vec![retry_jobs_request::Scope::FlowId(flow_id)],
        Scope::Jobs(lists) => lists.into_iter().map(retry_jobs_request::Scope::Jobs).collect(),
    };
    let mut sum = RetryJobsResponse::default();
    for scope in scopes {
        // A call brings back so many; as long as there are more, and it helps, it is repeated.
        loop {
            let (scope, retry) = (Some(scope.clone()), retry.clone());
            let request = RetryJobsRequest { scope, retry, ..RetryJobsRequest::default() };
            let answer = mycelium.retry_jobs(request).await?;
            sum.jobs_retried += answer.jobs_retried;
            sum.dependents_revived += answer.dependents_revived;
            if !answer.more || answer.jobs_retried + answer.dependents_revived == 0 {
                break;
            }
        }
    }
    // If all named jobs were retried, there is nothing to explain.
    let is_short = sum.jobs_retried < named.len() as u64;
    let stuck = if is_short { why_not(mycelium, &named).await? } else { Vec::new() };
    if output.is_json() {
        output.json(&view(&sum))?;
    } else if sum.jobs_retried > 0 || stuck.is_empty() {
        let mut sentence = format!("brought back {}", count(sum.jobs_retried, "job"));
        if sum.dependents_revived > 0 {
            sentence.push_str(&format!(", and {} of theirs", count(sum.dependents_revived, "dependent")));
        }
        output.line(&sentence)?;
    }
    if sum.jobs_retried == 0 && !stuck.is_empty() {
        bail!(stuck.join("; "));
    }
    for sentence in &stuck {
        note(sentence);
    }
    Ok(())
}

/// Why jobs did not come back: because of others that were not named.
async fn why_not(mycelium: &Mycelium, jobs: &[JobId]) -> Result<Vec<String>, Error> {
    let mut sentences = Vec::new();
    for &id in jobs {
        let job = mycelium.job(id).await?;
        if let Some((cause, status)) = cause(mycelium, job).await? {
            let ended = status_name(status);
            sentences.push(format!("job {id} depends on job {cause}, which ended {ended}: retry that one"));
        }
        if sentences.len() == STUCK_MAX {
            break;
        }
    }
    Ok(sentences)
}

/// The job that is to blame for one that is UPSTREAM_FAILED, and how it ended.
async fn cause(mycelium: &Mycelium, mut job: Job) -> Result<Option<(JobId, JobStatus)>, Error> {
    let mut found = None;
    for _ in 0..CAUSES_MAX {
        if job.status() != JobStatus::UpstreamFailed {
            break;
        }
        let Ok(id) = JobId::try_from(job.cause_job_id.as_ref()) else { break };
        job = mycelium.job(id).await?;
        found = match job.status() {
            status @ (JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Expired
            | JobStatus::UpstreamFailed) => Some((id, status)),
            // It came back meanwhile.
            JobStatus::Unspecified
            | JobStatus::Pending
            | JobStatus::Ready
            | JobStatus::Assigned
            | JobStatus::Running
            | JobStatus::Done
            | JobStatus::Skipped => None,
        };
    }
    Ok(found)
}
