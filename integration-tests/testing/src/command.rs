//! Programs that are run to their end.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

use crate::wait::must;

/// A command that runs this program, without the settings (`MYCELIUM_…`) of whoever runs the tests, and is killed when it
/// is dropped.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MYCELIUM_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it printed for people to read beside that.
    pub stderr: String,
}

impl Ended {
    /// Makes sure that it failed with this exit code and one line in which all these parts stand.
    ///
    /// # Errors
    /// If it did not.
    pub fn expect_error(&self, code: i32, parts: &[&str]) -> anyhow::Result<()> {
        let is_one_line = self.stderr.lines().count() == 1 && self.stderr.starts_with("error: ");
        anyhow::ensure!(self.code == Some(code) && is_one_line && self.stdout.is_empty(), "{self:?}");
        let missing = parts.iter().find(|part| !self.stderr.contains(**part));
        anyhow::ensure!(missing.is_none(), "{missing:?} in {}", self.stderr);
        Ok(())
    }

    /// Standard output of a program that went well and had nothing to complain about.
    ///
    /// # Panics
    /// If it did not, or had.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "stdout: {}", self.stdout);
        self.stdout
    }

    /// The one line of a program that printed nothing else and ended with this exit code.
    ///
    /// # Panics
    /// If it did anything else.
    #[track_caller]
    pub fn bad(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "stderr: {}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line: {lines:?}");
        lines[0].to_owned()
    }
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started, does not end in time, or prints what is no text.
pub async fn run(command: &mut Command) -> anyhow::Result<Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = must("the end of a command", command.output()).await?;
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}
