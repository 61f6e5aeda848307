//! `mycelium completions` and `mycelium man`: what a shell and `man` know of this program.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use serde_json::json;

use crate::errors::Misuse;
use crate::output::Output;

/// Prints what a shell completes commands and options from.
///
/// The script is for this version of the program. JSON: `{script}`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: mycelium completions bash > /usr/share/bash-completion/completions/mycelium"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completions(
    args: &CompletionsArgs,
    mut command: Command,
    output: Output,
) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let script = String::from_utf8(script).context("the script is no text")?;
    match output.is_json() {
        true => Ok(output.json(&json!({ "script": script }))?),
        false => Ok(output.verbatim(&script)?),
    }
}

/// Writes manual pages: one for the program, and one for each command.
///
/// JSON: `{files}`, the paths of what was written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mycelium man --out /usr/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder to write into; it is made if it is not there. Files of the same names are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn man(args: &ManArgs, command: Command, output: Output) -> anyhow::Result<()> {
    let out = &args.out;
    if out.exists() && !out.is_dir() {
        return Err(Misuse(format!("--out: `{}` is there, and is no folder", out.display())).into());
    }
    let cannot = || format!("cannot write into `{}`", out.display());
    std::fs::create_dir_all(out).with_context(cannot)?;
    let pages = pages_of(command.disable_help_subcommand(true));
    let mut written = Vec::with_capacity(pages.len());
    for page in pages {
        let path = page.generate_to(out).with_context(cannot)?;
        written.push(path.display().to_string());
    }
    if output.is_json() {
        return Ok(output.json(&json!({ "files": written }))?);
    }
    Ok(output.text(&written.iter().map(|path| format!("{path}\n")).collect::<String>())?)
}

/// The page of a command, and those of its commands but for hidden ones.
fn pages_of(mut command: Command) -> Vec<clap_mangen::Man> {
    command.build();
    fn add(command: &Command, pages: &mut Vec<clap_mangen::Man>) {
        command.get_subcommands().filter(|own| !own.is_hide_set()).for_each(|own| add(own, pages));
        // `mycelium-store-check`, as the files are named.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        pages.push(clap_mangen::Man::new(command.clone().name(name)));
    }
    let mut pages = Vec::new();
    add(&command, &mut pages);
    pages
}
