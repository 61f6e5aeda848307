//! `mycelium logs`.

use elf_runtime::{JobId, Mycelium};
use mycelium_proto::v1::{LogLevel, LogLine, ReadLogsRequest, ReadLogsResponse};

use super::client;
use crate::output::format::{self, count};
use crate::output::{Json, Output};
use crate::views;

/// Shows what an attempt of a job has logged: the first 64 KiB and the last 192 KiB of it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: one object a line, {attempt, left_out, at, level, target, text}; left_out is how many lines were left \
    out before this one.\n\n\
    Example: mycelium logs --follow 0192f0c1-2c4e-7000-8000-000000000001"
)]
pub(crate) struct Args {
    /// The job.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The number of the attempt, from 1. Without it the newest, and with --follow those that come later too.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Goes on with what is logged, until the attempt, or without one the job, has ended.
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let request = ReadLogsRequest {
        job_id: client::job_bytes(args.job),
        attempt: args.attempt.unwrap_or(0),
        follow: args.follow,
        ..ReadLogsRequest::default()
    };
    let mut logs = mycelium.read_logs(request).await?;
    let mut attempt = 0;
    while let Some(read) = logs.next().await? {
        if output.is_json() {
            show_json(output, &read)?;
            continue;
        }
        if read.attempt != attempt {
            attempt = read.attempt;
            output.line(&format!("attempt {attempt}:"))?;
        }
        if read.left_out > 0 {
            output.line(&format!("... {} left out ...", count(read.left_out, "line")))?;
        }
        for line in &read.lines {
            output.line(&shown(line))?;
        }
    }
    Ok(())
}

fn show_json(output: Output, read: &ReadLogsResponse) -> anyhow::Result<()> {
    let mut left_out = read.left_out;
    for line in &read.lines {
        let Json::Object(fields) = views::view(line) else { continue };
        let mut all = vec![
            ("attempt".to_owned(), Json::from(read.attempt)),
            ("left_out".to_owned(), Json::from(left_out)),
        ];
        all.extend(fields);
        output.json_line(&Json::Object(all))?;
        left_out = 0;
    }
    Ok(())
}

/// `2026-11-22 21:26:23 WARN scale: it tilts`.
fn shown(line: &LogLine) -> String {
    let level = match line.level() {
        LogLevel::Unspecified | LogLevel::Info => "INFO",
        LogLevel::Trace => "TRACE",
        LogLevel::Debug => "DEBUG",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
    };
    let target = if line.target.is_empty() { String::new() } else { format!("{}: ", line.target) };
    format!(
        "{} {level:<5} {}",
        format::utc(line.at.as_ref()),
        format::one_line(&format!("{target}{}", line.text))
    )
}
