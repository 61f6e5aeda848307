//! `mycelium retry`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::{RetryJobsRequest, retry_jobs_request};
use serde::Serialize;

use super::scope::{Scope, ScopeArgs};
use crate::output::Output;
use crate::output::format::count;

/// Brings jobs that ended without a result back: all such jobs of a flow, or some.
///
/// The jobs that ended UPSTREAM_FAILED because of them come back with them. Jobs that are unfinished are left alone,
/// and a job that is DONE cannot be retried.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: {jobs_retried, dependents_revived}.\n\nExample: mycelium retry --flow 'daily report'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, Default, Serialize)]
struct Retried {
    jobs_retried: u64,
    dependents_revived: u64,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let scopes = match args.scope.find(mycelium).await? {
        Scope::Flow(flow_id) => vec![retry_jobs_request::Scope::FlowId(flow_id)],
        Scope::Jobs(lists) => lists.into_iter().map(retry_jobs_request::Scope::Jobs).collect(),
    };
    let mut sum = Retried::default();
    for scope in scopes {
        let request = RetryJobsRequest { scope: Some(scope), ..RetryJobsRequest::default() };
        let answer = mycelium.retry_jobs(request).await?;
        sum.jobs_retried += answer.jobs_retried;
        sum.dependents_revived += answer.dependents_revived;
    }
    if output.is_json() {
        return Ok(output.json(&sum)?);
    }
    let mut sentence = format!("brought back {}", count(sum.jobs_retried, "job"));
    if sum.dependents_revived > 0 {
        sentence.push_str(&format!(", and {} of theirs", count(sum.dependents_revived, "dependent")));
    }
    Ok(output.line(&sentence)?)
}
