//! What the commands that talk to a broker share.

use std::time::Duration;

use bytes::Bytes;
use elf_runtime::{Error, FlowId, JobId, Mycelium};
use mycelium_proto::{limits, reason, v1};

use crate::args::ClientArgs;
use crate::output::{Json, Output, Table, note};

/// How long calls are repeated when a broker that answered is busy or restarts.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Connects; fails at once if no broker answers.
pub(super) async fn connect(args: &ClientArgs) -> Result<Mycelium, Error> {
    Mycelium::builder(&args.url)
        .mycelium(args.mycelium.as_deref().unwrap_or_default())
        .patience(PATIENCE)
        .connect()
        .await
}

/// As [`connect`], for one call or watch at a time that the command itself repeats.
pub(super) fn without_patience(mycelium: &Mycelium) -> Result<Mycelium, Error> {
    Mycelium::builder(mycelium.url()).mycelium(mycelium.name()).patience(Duration::ZERO).connect_lazy()
}

/// An id as the contract takes it.
pub(super) fn job_bytes(id: JobId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// The flow that people name: by its id, or by its name, where the newest of that name is meant.
pub(super) async fn find_flow(mycelium: &Mycelium, flow: &str) -> anyhow::Result<v1::Flow> {
    use v1::get_flow_request::Flow;
    let is_unknown = |error: &Error| error.reason() == Some(reason::FLOW_NOT_FOUND);
    let Ok(id) = flow.parse::<FlowId>() else {
        return Ok(get_flow(mycelium, Flow::Name(flow.to_owned())).await?);
    };
    match get_flow(mycelium, Flow::FlowId(Bytes::copy_from_slice(id.as_bytes()))).await {
        // A name may look like an id; if there is none of that name either, it is the id that was meant.
        Err(by_id) if is_unknown(&by_id) => match get_flow(mycelium, Flow::Name(flow.to_owned())).await {
            Err(by_name) if is_unknown(&by_name) => Err(by_id.into()),
            found => Ok(found?),
        },
        found => Ok(found?),
    }
}

async fn get_flow(mycelium: &Mycelium, flow: v1::get_flow_request::Flow) -> Result<v1::Flow, Error> {
    let request = v1::GetFlowRequest { flow: Some(flow), ..v1::GetFlowRequest::default() };
    let answer = mycelium.get_flow(request).await?;
    answer.flow.ok_or_else(|| Error::Protocol { message: "GetFlow came back without the flow".to_owned() })
}

/// How many entries to ask for on the next page of a list, of which `left` are still wanted.
pub(super) fn page_size(left: usize) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX).min(limits::PAGE_SIZE_MAX)
}

/// Follows the pages of a list until it has `limit` entries, and tells whether there are more: calls `page` with a size
/// and a token, which answers with entries and the next token.
pub(super) async fn pages<T>(
    limit: u32,
    mut page: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Error>,
) -> Result<(Vec<T>, bool), Error> {
    let limit = limit as usize;
    let mut entries = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(page_size(limit - entries.len() + 1), token).await?;
        entries.extend(more);
        if entries.len() > limit {
            entries.truncate(limit);
            return Ok((entries, true));
        }
        if next.is_empty() {
            return Ok((entries, false));
        }
        token = next;
    }
}

/// Says on standard error that something is left out of a list because it is damaged.
pub(super) fn note_unreadable(unreadable: u32) {
    if unreadable > 0 {
        note("Some records in the store are damaged, and are not shown; the broker's log names them.");
    }
}

/// Prints a list, for programs or as a table, or a sentence if it is empty; and says if it goes on.
pub(super) fn print_list(
    output: Output,
    json: impl FnOnce() -> Json,
    table: impl FnOnce() -> Table,
    if_empty: &str,
    (limit, are_more): (u32, bool),
) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json())?;
    } else {
        output.table(table(), if_empty)?;
    }
    note_more(limit, are_more);
    Ok(())
}

/// Says that a list goes on, if it does: no list is cut silently.
pub(super) fn note_more(limit: u32, are_more: bool) {
    if are_more {
        let these = if limit == 1 { "this one".to_owned() } else { format!("these {limit}") };
        note(&format!("There are more than {these}; see them with --limit."));
    }
}

/// Reads a label as it is given on the command line.
pub(super) fn label(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => anyhow::bail!("a label is written `key=value`"),
    }
}
