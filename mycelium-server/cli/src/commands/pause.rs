//! `mycelium pause`, `mycelium resume` and `mycelium pauses`.

use bytes::Bytes;
use elf_runtime::{FlowId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::pause_target::Kind;
use mycelium_proto::v1::{ListPausesRequest, Pause, PauseRequest, PauseTarget, PausedTask, ResumeRequest};

use super::client;
use crate::output::{Output, Table, format};
use crate::views::{view, views};

/// What to pause or resume.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["flow", "elf", "all"]))]
pub(crate) struct TargetArgs {
    /// This flow, named by its id or its name (the newest of that name).
    #[arg(long, value_name = "NAME|ID")]
    flow: Option<String>,
    /// This elf.
    #[arg(long, value_name = "ELF")]
    elf: Option<String>,
    /// Of the elf, only this task.
    #[arg(long, value_name = "TASK", requires = "elf")]
    task: Option<String>,
    /// The whole mycelium.
    #[arg(long)]
    all: bool,
}

impl TargetArgs {
    async fn find(self, mycelium: &Mycelium) -> anyhow::Result<PauseTarget> {
        let Self { flow, elf, task, all } = self;
        let kind = match (flow, elf, task) {
            (Some(flow), _, _) => Kind::FlowId(client::find_flow(mycelium, &flow).await?.flow_id),
            (None, Some(elf), Some(task)) => Kind::Task(PausedTask { elf, task }),
            (None, Some(elf), None) => Kind::Elf(elf),
            (None, None, _) => Kind::All(all),
        };
        Ok(PauseTarget { kind: Some(kind) })
    }
}

/// Pauses a flow, an elf, a task or the whole mycelium: no job of it is assigned until it is resumed.
///
/// What runs goes on; what processes hold and have not begun is recalled. Jobs are still taken in. A pause outlives the
/// broker, and `mycelium why` tells of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {pause: {target, since, by, reason}, is_new}.\n\n\
    Example: mycelium pause --elf scale --task task_weigh --reason 'the scale is being repaired'")]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Why, for those who wonder later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(crate) async fn pause(args: PauseArgs, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let PauseArgs { target, reason } = args;
    let target = Some(target.find(mycelium).await?);
    let request = PauseRequest { target, by: who(), reason, ..PauseRequest::default() };
    let answer = mycelium.pause(request).await?;
    if output.is_json() {
        return Ok(output.json(&view(&answer))?);
    }
    let pause = answer.pause.unwrap_or_default();
    let paused = if answer.is_new { "paused" } else { "was paused already:" };
    Ok(output.line(&format::one_line(&format!("{paused} {}", in_words(&pause))))?)
}

/// Resumes what was paused: its jobs take their old places.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {pause: {target, since, by, reason}}, null if it was not paused.\n\n\
    Example: mycelium resume --elf scale --task task_weigh")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn resume(args: ResumeArgs, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let target = Some(args.target.find(mycelium).await?);
    let answer = mycelium.resume(ResumeRequest { target, ..ResumeRequest::default() }).await?;
    if output.is_json() {
        return Ok(output.json(&view(&answer))?);
    }
    let sentence = match &answer.pause {
        Some(pause) => format!("resumed what was paused: {}", in_words(pause)),
        None => "it was not paused".to_owned(),
    };
    Ok(output.line(&format::one_line(&sentence))?)
}

/// Lists what is paused.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {target: {kind (all, elf, task, flow_id), elf, task, flow_id}, since, by, reason}."
)]
pub(crate) struct PausesArgs {}

pub(crate) async fn pauses(_: PausesArgs, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let pauses = mycelium.list_pauses(ListPausesRequest::default()).await?.pauses;
    if output.is_json() {
        return Ok(output.json(&views(&pauses))?);
    }
    let rows = |pause: &Pause| {
        [what(pause), format::utc(pause.since.as_ref()), pause.by.clone(), pause.reason.clone()]
    };
    let table = Table::new(["PAUSED", "SINCE (UTC)", "BY", "REASON"]).rows(&pauses, rows);
    Ok(output.table(table, "nothing is paused")?)
}

/// A pause in a few words: of what, since when, by whom and why.
pub(super) fn in_words(pause: &Pause) -> String {
    let reason = if pause.reason.is_empty() { String::new() } else { format!(" ({})", pause.reason) };
    format!("{}, since {} UTC by {}{reason}", what(pause), format::utc(pause.since.as_ref()), pause.by)
}

fn what(pause: &Pause) -> String {
    match pause.target.as_ref().and_then(|target| target.kind.as_ref()) {
        Some(Kind::All(_)) => "the whole mycelium".to_owned(),
        Some(Kind::Elf(elf)) => format!("elf {elf}"),
        Some(Kind::Task(task)) => format!("task {} of elf {}", task.task, task.elf),
        Some(Kind::FlowId(flow)) => format!("flow {}", flow_name(flow)),
        None => "unknown".to_owned(),
    }
}

fn flow_name(id: &Bytes) -> String {
    FlowId::try_from(&id[..]).map_or_else(|_| "?".to_owned(), |id| id.to_string())
}

/// Who runs this program: `user@host`.
pub(super) fn who() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".to_owned());
    let host = variable("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .unwrap_or_else(|| "somewhere".to_owned());
    let mut who: String =
        format!("{user}@{}", host.trim()).chars().filter(|char| !char.is_control()).collect();
    let cut = (0..=limits::NAME_BYTES_MAX).rev().find(|at| who.is_char_boundary(*at));
    who.truncate(cut.unwrap_or(0));
    who
}
