//! `mycelium failures`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::ListFailuresRequest;

use super::client;
use crate::output::format;
use crate::output::{Json, Output, Table};
use crate::views::{place_of, view};

/// Lists failures, equal ones as one, last seen first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {failure_id, type, message, details, frames: [{function, file, line}], \
    causes: [{type, message}], occurrences_count, first_seen, last_seen, elf, task}; message and details are those of \
    the latest occurrence, frames stand innermost first."
)]
pub(crate) struct Args {
    /// The most failures to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let mut unreadable = 0;
    let (groups, are_more) = client::pages(args.limit, async |page_size, page_token| {
        let request = ListFailuresRequest { page_size, page_token, ..Default::default() };
        let page = mycelium.list_failures(request).await?;
        unreadable += page.unreadable;
        Ok((page.failures, page.next_page_token))
    })
    .await?;
    client::note_unreadable(unreadable);
    // A broker sends no group without its failure.
    let failures: Vec<_> = groups.iter().filter_map(|group| Some((group.failure.as_ref()?, group))).collect();
    let json = || Json::List(failures.iter().map(|(_, group)| view(*group)).collect());
    let columns = ["FAILURE", "TIMES", "LAST SEEN (UTC)", "ELF", "TASK", "WHERE", "TYPE", "MESSAGE"];
    let table = || {
        Table::new(columns).numbers([1]).rows(&failures, |(failure, group)| {
            [
                format::id(&group.failure_id),
                group.occurrences.to_string(),
                format::utc(group.last_seen.as_ref()),
                group.elf.clone(),
                group.task.clone(),
                place_of(failure),
                failure.r#type.clone(),
                format::shorten(&failure.message, 80),
            ]
        })
    };
    client::print_list(output, json, table, "no failures", (args.limit, are_more))
}
