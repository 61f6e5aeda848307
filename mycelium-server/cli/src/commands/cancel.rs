//! `mycelium cancel`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::{ActionKind, CancelJobsRequest, CancelJobsResponse, cancel_jobs_request};

use super::actions;
use super::scope::{Scope, ScopeArgs};
use crate::output::Output;
use crate::output::format::count;
use crate::views::view;

/// Cancels jobs, or all unfinished jobs of a flow.
///
/// When the command is done they are CANCELLED, durably, and the elves that run some have been told. Unfinished jobs
/// that depend on them and were not named end UPSTREAM_FAILED. They stay so unless `mycelium retry` brings them back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: {jobs_cancelled, jobs_final, jobs_unreadable}: how many were cancelled, how many had ended before, and of how \
    many the records are damaged.\n\n\
    Example: mycelium cancel --flow 'daily report'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// All jobs that this filter names, as for `mycelium jobs`, in the background: the command only begins that. See
    /// `mycelium actions`.
    #[arg(long, value_name = "FILTER", group = "ScopeArgs")]
    filter: Option<String>,
    /// With --filter: only says how many jobs it would be.
    #[arg(long, requires = "filter")]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    if let Some(filter) = args.filter {
        return actions::start(ActionKind::Cancel, filter, args.dry_run, mycelium, output).await;
    }
    let scopes = match args.scope.find(mycelium).await? {
        Scope::Flow(flow_id) => vec![cancel_jobs_request::Scope::FlowId(flow_id)],
        Scope::Jobs(lists) => lists.into_iter().map(cancel_jobs_request::Scope::Jobs).collect(),
    };
    let mut sum = CancelJobsResponse::default();
    for scope in scopes {
        let request = CancelJobsRequest { scope: Some(scope), ..CancelJobsRequest::default() };
        let answer = mycelium.cancel_jobs(request).await?;
        sum.jobs_cancelled += answer.jobs_cancelled;
        sum.jobs_final += answer.jobs_final;
        sum.jobs_unreadable += answer.jobs_unreadable;
    }
    if output.is_json() {
        return Ok(output.json(&view(&sum))?);
    }
    let mut sentence = format!("cancelled {}", count(sum.jobs_cancelled, "job"));
    if sum.jobs_final > 0 {
        sentence.push_str(&format!("; {} had ended before", count(sum.jobs_final, "job")));
    }
    Ok(output.line(&sentence)?)
}
