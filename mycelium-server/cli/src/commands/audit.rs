//! `mycelium audit`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::ListAuditRequest;

use super::client;
use crate::output::format;
use crate::output::{Output, Table};
use crate::views::views;

/// Lists who changed what: the latest calls that changed something, or were to, last first; of one mycelium with --mycelium.
///
/// Of callers that the broker does not ask who they are, it knows from where they called. Needs the role admin where it asks.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {at, caller, peer, call, mycelium, about, count, result}.\n\nExample: mycelium audit --limit 50"
)]
pub(crate) struct Args {
    /// The most entries to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// `of`: the mycelium whose entries are meant; those of all, if none is named.
pub(crate) async fn run(
    args: Args,
    of: Option<&str>,
    mycelium: &Mycelium,
    output: Output,
) -> anyhow::Result<()> {
    let of_mycelium = of.unwrap_or_default();
    let (entries, are_more) = client::pages(args.limit, async |page_size, page_token| {
        let page = mycelium
            .list_audit(ListAuditRequest { page_size, page_token, of_mycelium: of_mycelium.to_owned() })
            .await?;
        Ok((page.entries, page.next_page_token))
    })
    .await?;
    let table = || {
        Table::new(["TIME", "CALLER", "FROM", "CALL", "MYCELIUM", "ABOUT", "COUNT", "RESULT"]).rows(
            &entries,
            |entry| {
                let at = format::utc(entry.at.as_ref());
                let count = entry.count.to_string();
                let [caller, peer, call, mycelium, about, result] =
                    [&entry.caller, &entry.peer, &entry.call, &entry.mycelium, &entry.about, &entry.result]
                        .map(String::clone);
                [at, caller, peer, call, mycelium, about, count, result]
            },
        )
    };
    client::print_list(output, || views(&entries), table, "no entries", (args.limit, are_more))
}
