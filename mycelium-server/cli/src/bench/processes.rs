//! The processes that are measured: this program again, in other roles.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::READY_WITHIN;

/// A broker to measure.
pub(super) struct BrokerProcess {
    url: String,
    ours: Option<Ours>,
}

struct Ours {
    child: Child,
    folder: TempDir,
}

impl BrokerProcess {
    /// A broker that somebody else has started.
    pub(super) fn foreign(url: String) -> Self {
        Self { url, ours: None }
    }

    /// Starts a broker on an embedded store in a temporary folder.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let (child, url) = start_broker(&folder).await?;
        Ok(Self { url, ours: Some(Ours { child, folder }) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// Resident memory in bytes.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let Some(pid) = self.ours.as_ref().and_then(|ours| ours.child.id()) else {
            bail!("the broker has ended")
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Kills the broker with SIGKILL and starts it again on the same folder; how many seconds until it was ready.
    pub(super) async fn kill_and_restart(&mut self) -> anyhow::Result<f64> {
        let Some(ours) = &mut self.ours else { bail!("the broker is not ours to kill") };
        ours.child.kill().await.context("cannot kill the broker")?;
        let begun = Instant::now();
        let (child, url) = start_broker(&ours.folder).await?;
        ours.child = child;
        self.url = url;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Stops the broker in good order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.ours {
            Some(ours) => terminate(ours.child, "the broker").await,
            None => Ok(()),
        }
    }
}

async fn start_broker(folder: &TempDir) -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    let (child, line) = start(command, "the broker").await?;
    let address = line
        .split_once("listening on ")
        .and_then(|(_, rest)| rest.split([',', ' ']).next())
        .with_context(|| format!("the broker's ready line names no address: {line}"))?;
    Ok((child, format!("http://{address}")))
}

/// Starts a process and waits for the first line it prints.
async fn start(mut command: Command, what: &str) -> anyhow::Result<(Child, String)> {
    let quiet = std::env::var("MYCELIUM_LOG").unwrap_or_else(|_unset| "warn".to_owned());
    command.env("MYCELIUM_LOG", quiet).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let stdout = child.stdout.take().context("the output of a process that was started is missing")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(READY_WITHIN, lines.next_line())
        .await
        .with_context(|| format!("{what} was not ready in time"))??
        .with_context(|| format!("{what} ended before it was ready"))?;
    Ok((child, line))
}

async fn terminate(mut child: Child, what: &str) -> anyhow::Result<()> {
    let pid =
        child.id().and_then(|pid| i32::try_from(pid).ok()).with_context(|| format!("{what} has ended"))?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop {what}"))?;
    let status = tokio::time::timeout(READY_WITHIN, child.wait())
        .await
        .with_context(|| format!("{what} did not stop in time"))??;
    if !status.success() {
        bail!("{what} ended with {status}");
    }
    Ok(())
}

/// An elf that serves the benchmarks.
pub(super) struct ElfProcess {
    child: Child,
}

impl ElfProcess {
    pub(super) async fn start(url: &str, concurrency: u32, window: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-elf", "--url", url]);
        command.args(["--concurrency", &concurrency.to_string(), "--window", &window.to_string()]);
        let (child, _ready) = start(command, "the elf").await?;
        Ok(Self { child })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        terminate(self.child, "the elf").await
    }
}
