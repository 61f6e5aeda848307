//! `mycelium failure`.

use std::fmt::Write as _;

use anyhow::Context as _;
use bytes::Bytes;
use elf_runtime::{Error, InvalidId, JobId, Mycelium};
use mycelium_proto::v1::{Failure, FailureGroup, FailureOccurrence, GetFailureRequest};

use super::client;
use crate::output::format::{self, count};
use crate::output::{Output, Table};
use crate::views::{place, view, views};

/// Shows a failure: where it was raised, what caused it, and which jobs it met.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: as in `mycelium failures`, and occurrences: [{job_id, attempt, at, message, details, cause_messages}], \
    last first."
)]
pub(crate) struct Args {
    /// The failure's id.
    #[arg(value_name = "FAILURE", value_parser = failure_id)]
    failure: uuid::Uuid,
    /// The most occurrences to show.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Reads the id, with the same error as for ids of jobs.
fn failure_id(text: &str) -> Result<uuid::Uuid, InvalidId> {
    text.parse::<JobId>().map(|id| uuid::Uuid::from_bytes(*id.as_bytes()))
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (group, occurrences, are_more) = fetch(mycelium, args.failure, args.limit).await?;
    let failure = group.failure.as_ref().context("the broker's answer lacks the failure")?;
    if output.is_json() {
        output.json(&view(&group).with("occurrences", views(&occurrences)))?;
        client::note_more(args.limit, are_more);
        return Ok(());
    }
    let mut text = describe(failure);
    let _infallible = writeln!(
        text,
        "\nseen {}, first {} and last {} UTC",
        count(group.occurrences, "time"),
        format::utc(group.first_seen.as_ref()),
        format::utc(group.last_seen.as_ref()),
    );
    let columns = ["JOB", "ATTEMPT", "AT (UTC)", "MESSAGE"];
    let table = Table::new(columns).numbers([1]).rows(&occurrences, |occurrence| {
        [
            format::id(&occurrence.job_id),
            occurrence.attempt.to_string(),
            format::utc(occurrence.at.as_ref()),
            format::shorten(&occurrence.message, 100),
        ]
    });
    if !table.is_empty() {
        text.push_str(&table.text());
    }
    output.text(&text)?;
    client::note_more(args.limit, are_more);
    Ok(())
}

async fn fetch(
    mycelium: &Mycelium,
    failure: uuid::Uuid,
    limit: u32,
) -> Result<(FailureGroup, Vec<FailureOccurrence>, bool), Error> {
    let failure_id = Bytes::copy_from_slice(failure.as_bytes());
    let mut group = None;
    let (occurrences, are_more) = client::pages(limit, async |page_size, page_token| {
        let failure_id = failure_id.clone();
        let request = GetFailureRequest { failure_id, page_size, page_token, ..Default::default() };
        let page = mycelium.get_failure(request).await?;
        group = page.failure;
        Ok((page.occurrences, page.next_page_token))
    })
    .await?;
    let missing = || Error::Protocol { message: "GetFailure came back without the failure".to_owned() };
    Ok((group.ok_or_else(missing)?, occurrences, are_more))
}

/// A failure on several lines: type and message, causes, frames, details.
pub(super) fn describe(failure: &Failure) -> String {
    let mut text =
        format!("{}: {}\n", format::one_line(&failure.r#type), format::lines(&failure.message).trim_end());
    for cause in &failure.causes {
        let (of_type, message) = (format::one_line(&cause.r#type), format::lines(&cause.message));
        let _infallible = writeln!(text, "  caused by {of_type}: {}", message.trim_end());
    }
    for frame in &failure.frames {
        let place = format::one_line(&place(frame));
        let _infallible = match frame.function.as_str() {
            "" => writeln!(text, "  at {place}"),
            function => writeln!(text, "  at {place} in {}", format::one_line(function)),
        };
    }
    for line in format::lines(&failure.details).lines() {
        let _infallible = writeln!(text, "  {line}");
    }
    text
}
