//! `mycelium actions`, and what begins them: `--filter` of `mycelium retry`, `cancel` and `delete`.

use bytes::Bytes;
use elf_runtime::Mycelium;
use mycelium_proto::v1::{Action, ActionKind, ListActionsRequest, StartActionRequest, StartActionResponse};
use uuid::Uuid;

use super::pause::who;
use crate::output::format::{self, count};
use crate::output::{Output, Table};
use crate::views::{view, views};

/// As many are shown of what a dry run has found.
const SHOWN_MAX: usize = 20;

/// Lists what is being done with many jobs at once, and what was, the newest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {action_id, kind (RETRY, CANCEL, DELETE), filter, by, began_at, done, refused, left (null \
    while they are counted), ended_at}."
)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let actions = mycelium.list_actions(ListActionsRequest::default()).await?.actions;
    if output.is_json() {
        return Ok(output.json(&views(&actions))?);
    }
    let columns = ["ACTION", "DOES", "WITH", "BY", "BEGAN (UTC)", "DONE", "REFUSED", "LEFT", "ENDED (UTC)"];
    let table = Table::new(columns).numbers([5, 6, 7]).rows(&actions, |action| {
        [
            format::id(&action.action_id),
            word(action.kind()).to_owned(),
            action.filter.clone(),
            action.by.clone(),
            format::utc(action.began_at.as_ref()),
            action.done.to_string(),
            action.refused.to_string(),
            action.left.map_or_else(|| "?".to_owned(), |left| left.to_string()),
            action.ended_at.as_ref().map(|at| format::utc(Some(at))).unwrap_or_default(),
        ]
    });
    Ok(output.table(table, "nothing was done with many jobs at once")?)
}

fn word(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Retry => "retry",
        ActionKind::Cancel => "cancel",
        ActionKind::Delete => "delete",
        ActionKind::Unspecified => "unknown",
    }
}

/// Begins an action, or says what it would be about.
pub(super) async fn start(
    kind: ActionKind,
    filter: String,
    dry_run: bool,
    mycelium: &Mycelium,
    output: Output,
) -> anyhow::Result<()> {
    let action_id = Bytes::copy_from_slice(Uuid::now_v7().as_bytes());
    let (kind, by) = (kind.into(), who());
    let request =
        StartActionRequest { action_id, kind, filter, by, dry_run, ..StartActionRequest::default() };
    let answer = mycelium.start_action(request).await?;
    if output.is_json() {
        return Ok(output.json(&view(&answer))?);
    }
    match &answer.action {
        Some(action) => Ok(output.line(&begun(action))?),
        None => found(&answer, output),
    }
}

fn begun(action: &Action) -> String {
    let id = format::id(&action.action_id);
    format!("action {id} has begun, and goes on by itself; see: mycelium actions")
}

fn found(answer: &StartActionResponse, output: Output) -> anyhow::Result<()> {
    let at_least = if answer.more { "at least " } else { "" };
    let what = if answer.flow_ids.is_empty() { "job" } else { "flow" };
    output.line(&format!("it would be {at_least}{}", count(answer.count, what)))?;
    for id in answer.job_ids.iter().chain(&answer.flow_ids).take(SHOWN_MAX) {
        output.line(&format!("  {}", format::id(id)))?;
    }
    if answer.count > SHOWN_MAX as u64 {
        output.line("  …")?;
    }
    Ok(())
}
