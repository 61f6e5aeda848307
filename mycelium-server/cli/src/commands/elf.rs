//! `mycelium elf`.

use std::fmt::Write as _;

use anyhow::bail;
use elf_runtime::{Error, Mycelium};
use mycelium_proto::v1::{Elf, ElfDeclaration, GetElfRequest, ListRevisionsRequest, TaskDeclaration};

use super::{client, pause};
use crate::output::format;
use crate::output::{Json, Output, Table};
use crate::views::{view, views};

/// Shows an elf: its documentation, tasks and processes.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {name, docs, language, revision, first_seen, last_seen, jobs_ready, \
    jobs_running (with those assigned), jobs_assigned, instances: [{instance_id, session, connected, window, held, occupied, process_id, host, \
    revision, build, differences}], instances_total, truncated (whether \
    instances were left out), pauses: [{target, since, by, reason}], tasks: [{name, docs, signature, \
    revision, parameters: [{name, optional, schema}], outputs: [{name, schema}]}]}.\n\
    JSON with --source: {elf, language, revision, source}.\n\
    JSON with --revisions: an array of {revision, elf, task, first_seen, docs, signature}; task is null for the elf as a \
    whole.\n\n\
    Example: mycelium elf 'animals creator' --source")]
pub(crate) struct Args {
    /// The elf's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Prints its source text exactly as it was written, and nothing else. On a terminal characters that cannot be seen
    /// are written out.
    #[arg(long, conflicts_with = "revisions")]
    source: bool,
    /// Lists every revision of the elf and its tasks that was ever seen, newest first.
    #[arg(long)]
    revisions: bool,
    /// The most revisions to list.
    #[arg(long, default_value_t = 100, requires = "revisions", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    if args.revisions {
        return revisions(&args, mycelium, output).await;
    }
    let request = GetElfRequest { name: args.name, ..GetElfRequest::default() };
    let answer = mycelium.get_elf(request).await?;
    let missing = || Error::Protocol { message: "GetElf came back without the elf".to_owned() };
    let elf = answer.elf.ok_or_else(missing)?;
    let declaration = elf.declaration.as_ref().ok_or_else(missing)?;
    if args.source {
        return source(declaration, output);
    }
    if output.is_json() {
        return Ok(output.json(&view(&elf))?);
    }
    Ok(output.text(&describe(&elf, declaration))?)
}

fn source(declaration: &ElfDeclaration, output: Output) -> anyhow::Result<()> {
    if declaration.source.is_empty() {
        bail!("the elf `{}` does not send its source", declaration.name);
    }
    if output.is_json() {
        let head = view(declaration);
        let of = |name: &str| head.get(name);
        return Ok(output.json(&Json::object([
            ("elf", of("name")),
            ("language", of("language")),
            ("revision", of("revision")),
            ("source", declaration.source.as_str().into()),
        ]))?);
    }
    Ok(output.verbatim(&declaration.source)?)
}

async fn revisions(args: &Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (revisions, are_more) = client::pages(args.limit, async |page_size, page_token| {
        let request =
            ListRevisionsRequest { elf: args.name.clone(), page_size, page_token, ..Default::default() };
        let page = mycelium.list_revisions(request).await?;
        Ok((page.revisions, page.next_page_token))
    })
    .await?;
    let table = || {
        Table::new(["REVISION", "FIRST SEEN (UTC)", "OF"]).rows(&revisions, |revision| {
            let of = if revision.task.is_empty() { "the elf" } else { &revision.task };
            let first_seen = format::utc(revision.first_seen.as_ref());
            [format::short_digest(&revision.revision), first_seen, of.to_owned()]
        })
    };
    client::print_list(output, || views(&revisions), table, "no revisions", (args.limit, are_more))
}

fn describe(elf: &Elf, declaration: &ElfDeclaration) -> String {
    let mut text = format!("{}\n", format::one_line(&declaration.name));
    push_indented(&mut text, "  ", &declaration.docs);
    let mut field = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<12}{}", format::one_line(&value));
    };
    field("revision", format::short_digest(&declaration.revision));
    if !declaration.language.is_empty() {
        field("language", declaration.language.clone());
    }
    field("first seen", format!("{} UTC", format::utc(elf.first_seen.as_ref())));
    field("last seen", format!("{} UTC", format::utc(elf.last_seen.as_ref())));
    let (ready, assigned) = (elf.jobs_ready, elf.jobs_assigned);
    let running = elf.jobs_running.saturating_sub(assigned);
    field("jobs", format!("{ready} ready, {assigned} assigned, {running} running"));
    for pause in &elf.pauses {
        field("paused", pause::in_words(pause));
    }
    for instance in &elf.instances {
        let process = format::process(instance.process_id, &instance.host);
        let connected = match (instance.connected, instance.draining) {
            (true, false) => "connected",
            (true, true) => "connected and draining",
            (false, _) => "not connected",
        };
        let mut text = format!("{process}, {connected}, holds {} of {}", instance.held, instance.window);
        text.push_str(&format!(", instance {}", format::id(&instance.instance_id)));
        if instance.occupied > 0 {
            let occupied = instance.occupied;
            text.push_str(&format!(", {occupied} of its places taken by what is over and does not stop"));
        }
        if !instance.revision.is_empty() {
            text.push_str(&format!(", revision {}", format::short_digest(&instance.revision)));
        }
        if !instance.build.is_empty() {
            text.push_str(&format!(", build {}", instance.build));
        }
        if !instance.differences.is_empty() {
            text.push_str(&format!(
                "; differs from what was declared last: {}",
                instance.differences.join(", ")
            ));
        }
        field("process", text);
    }
    for task in &declaration.tasks {
        text.push('\n');
        describe_task(&mut text, task);
    }
    text
}

fn describe_task(text: &mut String, task: &TaskDeclaration) {
    let head = if task.signature.is_empty() { &task.name } else { &task.signature };
    push_indented(text, "  ", head);
    push_indented(text, "      ", &task.docs);
    for parameter in &task.parameters {
        let optional = if parameter.optional { " (may be left out)" } else { "" };
        push_value(text, "takes", &format!("{}{optional}", parameter.name), &parameter.schema);
    }
    for output in &task.outputs {
        push_value(text, "returns", &output.name, &output.schema);
    }
}

fn push_value(text: &mut String, verb: &str, name: &str, schema: &str) {
    let schema = format::shorten(if schema.is_empty() { "anything" } else { schema }, 100);
    let _infallible = writeln!(text, "      {verb:<8}{}: {schema}", format::one_line(name));
}

fn push_indented(text: &mut String, indent: &str, lines: &str) {
    for line in format::lines(lines).trim().lines() {
        let _infallible = writeln!(text, "{}", format!("{indent}{line}").trim_end());
    }
}
