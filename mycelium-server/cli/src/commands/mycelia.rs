//! `mycelium mycelia`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::{CreateMyceliumRequest, DeleteMyceliumRequest, ListMyceliaRequest};
use prost::{Message, Name};

use super::client;
use crate::output::{Output, Table};
use crate::views::{view, views};

/// Lists the mycelia of the broker, makes one, or deletes one. They know nothing of each other; `--mycelium NAME` says to
/// other commands which one is meant.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "JSON: an array of {name, open}, {created} or {deleted}.\n\nExample: mycelium mycelia create north"
)]
pub(crate) struct Args {
    /// The most mycelia to list.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Makes a mycelium, unless it is there.
    Create {
        /// Its name: 1 to 48 of a-z, 0-9, `_` and `-`.
        name: String,
    },
    /// Deletes a mycelium with all that is in it, for good.
    Delete {
        /// Its name.
        name: String,
        /// Deletes it even if elves serve it, or jobs of it are not finished.
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    match args.change {
        None => list(args.limit, mycelium, output).await,
        Some(Change::Create { name }) => {
            let request = CreateMyceliumRequest { mycelium: name.clone() };
            let answer = mycelium.create_mycelium(request).await?;
            let done = if answer.created { "created" } else { "there was already" };
            print(output, &answer, &format!("{done} {name}"))
        }
        Some(Change::Delete { name, force }) => {
            let request = DeleteMyceliumRequest { mycelium: name.clone(), force };
            let answer = mycelium.delete_mycelium(request).await?;
            let done = if answer.deleted { "deleted" } else { "there was no" };
            print(output, &answer, &format!("{done} {name}"))
        }
    }
}

fn print<T: Message + Name>(output: Output, answer: &T, sentence: &str) -> anyhow::Result<()> {
    let printed = if output.is_json() { output.json(&view(answer)) } else { output.line(sentence) };
    Ok(printed?)
}

async fn list(limit: u32, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (mycelia, are_more) = client::pages(limit, async |page_size, page_token| {
        let page = mycelium.list_mycelia(ListMyceliaRequest { page_size, page_token }).await?;
        Ok((page.mycelia, page.next_page_token))
    })
    .await?;
    let table = || {
        let yes_or_no = |one| if one { "yes" } else { "no" };
        Table::new(["MYCELIUM", "OPEN"])
            .rows(&mycelia, |mycelium| [mycelium.name.clone(), yes_or_no(mycelium.open).to_owned()])
    };
    client::print_list(output, || views(&mycelia), table, "no mycelia", (limit, are_more))
}
