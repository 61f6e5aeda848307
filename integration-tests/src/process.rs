//! Elves as processes: started and killed. Their logs are shown when a test fails, and none outlives its test.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::ensure;
use mycelium_testing::Process;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::programs;

/// How an elf is served.
#[derive(Debug, Clone)]
pub struct ElfOptions {
    /// The name of the elf.
    pub name: String,
    /// How many jobs it runs at once.
    pub concurrency: u32,
    /// How many jobs it holds at once.
    pub window: u32,
    /// Which version of [`orders`](crate::orders) is served, if not [`Tester`](crate::Tester).
    pub orders: Option<u32>,
    /// What it has in its environment beside what the test has.
    pub variables: Vec<(String, String)>,
}

impl ElfOptions {
    /// A version of [`orders`](crate::orders).
    pub fn orders(name: &str, version: u32) -> Self {
        Self { orders: Some(version), ..Self::new(name, 2, 8) }
    }

    /// An elf that holds a few jobs more than it runs.
    pub fn new(name: &str, concurrency: u32, window: u32) -> Self {
        Self { name: name.to_owned(), concurrency, window, orders: None, variables: Vec::new() }
    }
}

/// A process that serves [`Tester`](crate::Tester).
#[derive(Debug)]
pub struct ElfProcess {
    process: Process,
    folder: TempDir,
}

impl ElfProcess {
    /// Starts it, and waits until the broker has taken it in.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(url: &str, options: &ElfOptions) -> anyhow::Result<Self> {
        Self::start_as(&programs::test_elf()?, url, options).await
    }

    /// As [`start`](Self::start), with the `test-elf` of any version.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_as(program: &Path, url: &str, options: &ElfOptions) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program);
        let ElfOptions { name, concurrency, window, orders, variables } = options;
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.args(["--url", url, "--name", name]);
        command.args(["--concurrency", &concurrency.to_string(), "--window", &window.to_string()]);
        if let Some(version) = orders {
            command.args(["--orders", &version.to_string()]);
        }
        command.arg("--diary").arg(folder.path().join("diary"));
        let log = log_in(folder.path());
        let (process, line) = Process::start_logged(&format!("an elf `{name}`"), command, &log).await?;
        ensure!(line.starts_with("ready: "), "an elf's ready line is `{line}`");
        Ok(Self { process, folder })
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.pid()
    }

    /// The file in which it writes down what it does.
    pub fn diary(&self) -> PathBuf {
        self.folder.path().join("diary")
    }

    /// What it has logged.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(log_in(self.folder.path()))?).into_owned())
    }

    /// Makes sure that it runs.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.process.check_alive()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Lets it stand still, with SIGSTOP: its connections stay, and it says nothing.
    ///
    /// # Errors
    /// If it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on, with SIGCONT.
    ///
    /// # Errors
    /// If it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it does not.
    pub async fn wait_for_end(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Stops it with SIGTERM, and waits until it has ended well.
    ///
    /// # Errors
    /// If it had ended by itself, or does not end with success.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

impl Drop for ElfProcess {
    fn drop(&mut self) {
        self.process.show_log(&log_in(self.folder.path()));
    }
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("log")
}
