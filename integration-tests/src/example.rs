//! Examples, run as people run them: in a folder of their own, as processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use mycelium_testing::{Ended, must};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::programs;

/// Runs an example in `folder` to its end.
///
/// # Errors
/// If it cannot be built or started, or does not end in time.
pub async fn run(name: &str, folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    mycelium_testing::run(&mut command(name, folder, arguments)?).await
}

/// As [`run`], with variables in its environment.
///
/// # Errors
/// As [`run`].
pub async fn run_with(name: &str, folder: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Ended> {
    mycelium_testing::run(command(name, folder, &[])?.envs(variables.iter().copied())).await
}

fn command(name: &str, folder: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = mycelium_testing::command(programs::example(name)?);
    command.args(arguments).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// An example that runs.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts an example in `folder`, and returns it with the first line that it prints.
    ///
    /// # Errors
    /// If it cannot be built or started, or prints no line in time.
    pub async fn start(name: &str, folder: &Path, arguments: &[&str]) -> anyhow::Result<(Self, String)> {
        let mut child = command(name, folder, arguments)?.spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        must(&format!("the first line of {name}"), stdout.read_line(&mut line)).await??;
        Ok((Self { name: name.to_owned(), child, stdout }, line.trim_end().to_owned()))
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Waits until it has ended, and every process that shares its output with it.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub async fn end(mut self) -> anyhow::Result<Ended> {
        let mut stdout = String::new();
        let mut stderr = String::new();
        let mut errors = self.child.stderr.take().context("its errors are piped")?;
        let all = async {
            tokio::try_join!(self.stdout.read_to_string(&mut stdout), errors.read_to_string(&mut stderr))?;
            self.child.wait().await
        };
        let status = must(&format!("the end of {}", self.name), all).await??;
        Ok(Ended { code: status.code(), stdout, stderr })
    }
}

/// The processes whose command line contains all of these texts.
///
/// # Errors
/// If the processes of this machine cannot be listed in `/proc`.
pub fn processes_with(texts: &[&str]) -> anyhow::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let Ok(process_id) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        if command_line(process_id).is_some_and(|line| texts.iter().all(|text| line.contains(text))) {
            found.insert(process_id);
        }
    }
    Ok(found)
}

/// Whether a process with this id is there and has not ended.
pub fn is_running(process_id: u32) -> bool {
    command_line(process_id).is_some()
}

/// None for a process that is gone; one that has ended and was not waited for has an empty one.
fn command_line(process_id: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{process_id}/cmdline")).ok()?;
    if bytes.is_empty() { None } else { Some(String::from_utf8_lossy(&bytes).replace('\0', " ")) }
}

/// The names in a folder.
///
/// # Errors
/// If it cannot be read.
pub fn names_in(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// The number of the line of `source` that contains `text`, from 1.
///
/// # Errors
/// If none does, or more than one.
pub fn line_of(source: &str, text: &str) -> anyhow::Result<u32> {
    let mut lines =
        (1..).zip(source.lines()).filter(|(_, line)| line.contains(text)).map(|(number, _)| number);
    let line = lines.next().with_context(|| format!("no line has `{text}`"))?;
    anyhow::ensure!(lines.next().is_none(), "several lines have `{text}`");
    Ok(line)
}
