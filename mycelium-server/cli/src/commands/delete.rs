//! `mycelium delete` and `mycelium pin`.

use anyhow::bail;
use bytes::Bytes;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::{
    ActionKind, DeleteFlowsRequest, DeleteJobsRequest, FlowDeletion, FlowFate, PinFlowsRequest,
    PinFlowsResponse,
};

use super::{actions, client};
use crate::output::format::{self, count};
use crate::output::{Output, Table};
use crate::views::{view, views};

/// As many flows are named in one call.
const FLOWS_AT_ONCE: usize = 1_000;

/// Deletes flows with all that is stored of them, for good.
///
/// Flows with unfinished jobs are kept, and flows that one with unfinished jobs uses, and pinned ones. Of a flow from which
/// values went into one that is kept, a stub stays: it shows where those came from. What is deleted is gone a while after
/// the command is done, and then the ids are free: a very late repeat of the same submission would run again.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["flows", "jobs", "filter"]),
    after_help = "JSON: an array of {flow_id, fate (WHOLE, STUB; kept: UNFINISHED, PINNED, USED, PARTLY_NAMED, TOO_MANY, \
    NOT_FOUND), jobs, used_by}.\n\nExample: mycelium delete --flow 'daily report' --dry-run"
)]
pub(crate) struct DeleteArgs {
    /// This flow, named by its id or its name (the newest of that name); may be given several times.
    #[arg(long = "flow", value_name = "NAME|ID")]
    flows: Vec<String>,
    /// The flows that are made of these jobs. One of which others are not named is kept.
    #[arg(value_name = "JOB")]
    jobs: Vec<JobId>,
    /// All flows that are made of jobs which this filter names, as for `mycelium jobs`, in the background: the command
    /// only begins that. See `mycelium actions`.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only says what would become of them.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn delete(args: DeleteArgs, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let DeleteArgs { flows, jobs, filter, dry_run } = args;
    if let Some(filter) = filter {
        return actions::start(ActionKind::Delete, filter, dry_run, mycelium, output).await;
    }
    let mut deleted: Vec<FlowDeletion> = Vec::new();
    for flow_ids in find_flows(mycelium, &flows).await?.chunks(FLOWS_AT_ONCE) {
        let flow_ids = flow_ids.to_vec();
        let request = DeleteFlowsRequest { flow_ids, dry_run, ..DeleteFlowsRequest::default() };
        deleted.extend(mycelium.delete_flows(request).await?.flows);
    }
    if !jobs.is_empty() {
        if jobs.len() > limits::JOB_IDS_MAX {
            bail!("at most {} jobs can be named: name their flows", limits::JOB_IDS_MAX);
        }
        let job_ids = jobs.into_iter().map(client::job_bytes).collect();
        let request = DeleteJobsRequest { job_ids, dry_run, ..DeleteJobsRequest::default() };
        deleted.extend(mycelium.delete_jobs(request).await?.flows);
    }
    if output.is_json() {
        output.json(&views(&deleted))?;
    } else {
        let table = Table::new(["FLOW", "JOBS", "WHAT BECOMES OF IT"]).numbers([1]);
        let rows = table.rows(&deleted, |flow| {
            [format::id(&flow.flow_id), flow.jobs.to_string(), in_words(flow, dry_run)]
        });
        output.table(rows, "no flows")?;
    }
    match deleted.iter().filter(|flow| !is_deleted(flow)).count() as u64 {
        0 => Ok(()),
        kept if dry_run => output_kept(output, kept),
        kept => bail!("{} kept", count(kept, "flow")),
    }
}

fn output_kept(output: Output, kept: u64) -> anyhow::Result<()> {
    if !output.is_json() {
        output.line(&format!("{} would be kept", count(kept, "flow")))?;
    }
    Ok(())
}

fn is_deleted(flow: &FlowDeletion) -> bool {
    matches!(flow.fate(), FlowFate::Whole | FlowFate::Stub)
}

fn in_words(flow: &FlowDeletion, dry_run: bool) -> String {
    let going = if dry_run { "would be deleted" } else { "is being deleted" };
    match flow.fate() {
        FlowFate::Whole => going.to_owned(),
        FlowFate::Stub => format!("{going}; a stub stays, because others came from it"),
        FlowFate::Unfinished => "kept: it has unfinished jobs".to_owned(),
        FlowFate::Pinned => "kept: it is pinned".to_owned(),
        FlowFate::Used => {
            format!("kept: flow {} is not finished and uses it", format::id(&flow.used_by))
        }
        FlowFate::PartlyNamed => "kept: others of its jobs are not named; name the flow".to_owned(),
        FlowFate::TooMany => "kept: too many flows are being deleted; try again later".to_owned(),
        FlowFate::NotFound => "not there".to_owned(),
        FlowFate::Unspecified => "unknown".to_owned(),
    }
}

/// Keeps flows from being deleted, by hand or by rules of retention, or no longer.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {changed}.\n\nExample: mycelium pin 'daily report'")]
pub(crate) struct PinArgs {
    /// The flows, each named by its id or its name; of several flows of one name the newest is meant.
    #[arg(required = true, value_name = "NAME|ID")]
    flows: Vec<String>,
    /// They may be deleted again.
    #[arg(long)]
    remove: bool,
}

pub(crate) async fn pin(args: PinArgs, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let mut sum = PinFlowsResponse::default();
    for flow_ids in find_flows(mycelium, &args.flows).await?.chunks(FLOWS_AT_ONCE) {
        let flow_ids = flow_ids.to_vec();
        let request = PinFlowsRequest { flow_ids, unpin: args.remove, ..PinFlowsRequest::default() };
        sum.changed += mycelium.pin_flows(request).await?.changed;
    }
    if output.is_json() {
        return Ok(output.json(&view(&sum))?);
    }
    let what = if args.remove { "may be deleted again" } else { "pinned" };
    Ok(output.line(&format!("{} {what}", count(sum.changed, "flow")))?)
}

/// The ids of flows, each once.
async fn find_flows(mycelium: &Mycelium, flows: &[String]) -> anyhow::Result<Vec<Bytes>> {
    let mut ids = Vec::with_capacity(flows.len());
    for flow in flows {
        let id = client::find_flow(mycelium, flow).await?.flow_id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}
