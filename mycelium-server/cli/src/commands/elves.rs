//! `mycelium elves`.

use elf_runtime::Mycelium;
use mycelium_proto::v1::pause_target::Kind;
use mycelium_proto::v1::{Elf, ElfDeclaration, ListElvesRequest};

use super::client;
use crate::output::format;
use crate::output::{Json, Output, Table};
use crate::views::view;

/// Lists all elves ever seen, by name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {name, docs, language, revision, first_seen, last_seen, jobs_ready, \
    jobs_running (with those assigned), jobs_assigned, instances: [{instance_id, session, connected, draining, window, held, occupied, process_id, host}], instances_total, \
    truncated (whether instances were left out), pauses: [{target, since, by, reason}], tasks: [name]}."
)]
pub(crate) struct Args {
    /// The most elves to list.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (elves, are_more) = client::pages(args.limit, async |page_size, page_token| {
        let request = ListElvesRequest { page_size, page_token, ..Default::default() };
        let page = mycelium.list_elves(request).await?;
        Ok((page.elves, page.next_page_token))
    })
    .await?;
    let nothing = ElfDeclaration::default();
    let json = || Json::List(elves.iter().map(|elf| json(elf, said(elf, &nothing))).collect());
    let columns = [
        "ELF",
        "TASKS",
        "PROCESSES",
        "READY",
        "ASSIGNED",
        "RUNNING",
        "OCCUPIED",
        "PAUSED",
        "LAST SEEN (UTC)",
        "DOCUMENTATION",
    ];
    let table = || {
        Table::new(columns).numbers([1, 2, 3, 4, 5, 6]).rows(&elves, |elf| {
            let declaration = said(elf, &nothing);
            [
                declaration.name.clone(),
                declaration.tasks.len().to_string(),
                elf.instances.iter().filter(|instance| instance.connected).count().to_string(),
                elf.jobs_ready.to_string(),
                elf.jobs_assigned.to_string(),
                elf.jobs_running.saturating_sub(elf.jobs_assigned).to_string(),
                elf.instances.iter().map(|instance| u64::from(instance.occupied)).sum::<u64>().to_string(),
                paused(elf),
                format::utc(elf.last_seen.as_ref()),
                format::shorten(declaration.docs.lines().next().unwrap_or_default(), 60),
            ]
        })
    };
    client::print_list(output, json, table, "no elf has ever connected", (args.limit, are_more))
}

/// An elf with the names of its tasks alone.
fn json(elf: &Elf, said: &ElfDeclaration) -> Json {
    let tasks: Vec<Json> = said.tasks.iter().map(|task| task.name.as_str().into()).collect();
    view(elf).with("tasks", tasks)
}

/// What of an elf is paused.
fn paused(elf: &Elf) -> String {
    let kinds = elf.pauses.iter().filter_map(|pause| pause.target.as_ref()?.kind.as_ref());
    let tasks = kinds.clone().filter(|kind| matches!(kind, Kind::Task(_))).count();
    match (kinds.count(), tasks) {
        (0, _) => "-".to_owned(),
        (all, tasks) if all > tasks => "all".to_owned(),
        (_, 1) => "1 task".to_owned(),
        (_, tasks) => format!("{tasks} tasks"),
    }
}

/// What an elf says of itself; a broker leaves that out for none.
fn said<'a>(elf: &'a Elf, nothing: &'a ElfDeclaration) -> &'a ElfDeclaration {
    elf.declaration.as_ref().unwrap_or(nothing)
}
