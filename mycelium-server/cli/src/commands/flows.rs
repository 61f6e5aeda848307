//! `mycelium flows`.

use std::collections::BTreeMap;

use elf_runtime::Mycelium;
use mycelium_proto::v1::{Flow, ListFlowsRequest};

use super::client;
use crate::output::format;
use crate::output::{Output, Table};
use crate::views::views;

/// Lists flows and how their jobs stand, newest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {flow_id, name, created_at, counts: {pending, ready, running (with those assigned), \
    assigned, done, failed, upstream_failed, cancelled, expired, skipped}, labels, \
    on_behalf_of: {job_id, attempt}}.\n\nExample: mycelium flows --name 'daily report'"
)]
pub(crate) struct Args {
    /// Only flows of this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only flows with this label; may be given several times, and then they must have all.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = client::label)]
    labels: Vec<(String, String)>,
    /// The most flows to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let name = args.name.unwrap_or_default();
    let labels: BTreeMap<String, String> = args.labels.into_iter().collect();
    let mut unreadable = 0;
    let (flows, are_more) = client::pages(args.limit, async |page_size, page_token| {
        let request = ListFlowsRequest {
            name: name.clone(),
            labels: labels.clone(),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = mycelium.list_flows(request).await?;
        unreadable += page.unreadable;
        Ok((page.flows, page.next_page_token))
    })
    .await?;
    client::note_unreadable(unreadable);
    client::print_list(output, || views(&flows), || table(&flows), "no flows", (args.limit, are_more))
}

fn table(flows: &[Flow]) -> Table {
    let columns = [
        "FLOW",
        "NAME",
        "CREATED (UTC)",
        "WAITING",
        "ASSIGNED",
        "RUNNING",
        "DONE",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
        "SKIPPED",
    ];
    Table::new(columns).numbers([3, 4, 5, 6, 7, 8, 9, 10]).rows(flows, |flow| {
        let counts = flow.counts.unwrap_or_default();
        [
            format::id(&flow.flow_id),
            format::name(&flow.name).to_owned(),
            format::utc(flow.created_at.as_ref()),
            (counts.pending + counts.ready).to_string(),
            counts.assigned.to_string(),
            counts.running.saturating_sub(counts.assigned).to_string(),
            counts.done.to_string(),
            (counts.failed + counts.upstream_failed).to_string(),
            counts.cancelled.to_string(),
            counts.expired.to_string(),
            counts.skipped.to_string(),
        ]
    })
}
