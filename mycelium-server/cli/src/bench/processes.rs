//! The processes that are measured: this program again, in other roles.

use std::process::Stdio;
use std::time::{Duration, Instant};

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

/// The process is dropped, and dead, before its folder is removed.
struct Ours {
    process: Process,
    folder: TempDir,
    store: Option<String>,
}

/// A process that is killed when this is dropped.
struct Process {
    what: &'static str,
    child: Child,
}

impl Process {
    /// Starts a process and waits for the first line it prints.
    async fn start(mut command: Command, what: &'static str) -> anyhow::Result<(Self, String)> {
        let said = std::env::var("MYCELIUM_LOG").ok().filter(|said| !said.is_empty());
        command.env("MYCELIUM_LOG", said.as_deref().unwrap_or("warn"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
        let mut process = Self { what, child };
        let stdout =
            process.child.stdout.take().context("the output of a process that was started is missing")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(READY_WITHIN, lines.next_line())
            .await
            .with_context(|| format!("{what} was not ready in time"))??
            .with_context(|| format!("{what} ended before it was ready"))?;
        Ok((process, line))
    }

    /// Stops it gracefully.
    async fn terminate(mut self) -> anyhow::Result<()> {
        let what = self.what;
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.with_context(|| format!("{what} has ended"))?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop {what}"))?;
        let status = tokio::time::timeout(READY_WITHIN, self.child.wait())
            .await
            .with_context(|| format!("{what} did not stop in time"))??;
        if !status.success() {
            bail!("{what} ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.start_kill().is_err() {
            // It has ended already.
            return;
        }
        // While it lives it may write into a folder that is about to be removed. This does not take long: nothing can
        // be done about SIGKILL, unless the disk hangs.
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < GONE_WITHIN {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How long a process that is killed is waited for.
const GONE_WITHIN: Duration = Duration::from_secs(10);

impl BrokerProcess {
    /// A broker that somebody else has started.
    pub(super) fn foreign(url: String) -> Self {
        Self { url, ours: None }
    }

    /// Starts a broker in a temporary folder, on a store as `serve` takes it.
    pub(super) async fn start(store: Option<String>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let (process, url) = start_broker(&folder, store.as_deref()).await?;
        Ok(Self { url, ours: Some(Ours { process, folder, store }) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// Resident memory in bytes.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let Some(pid) = self.ours.as_ref().and_then(|ours| ours.process.child.id()) else {
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
        ours.process.child.kill().await.context("cannot kill the broker")?;
        let begun = Instant::now();
        let (process, url) = start_broker(&ours.folder, ours.store.as_deref()).await?;
        ours.process = process;
        self.url = url;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Stops the broker gracefully.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.ours {
            Some(ours) => ours.process.terminate().await,
            None => Ok(()),
        }
    }
}

async fn start_broker(folder: &TempDir, store: Option<&str>) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    if let Some(store) = store {
        command.args(["--store", store]);
    }
    let (process, line) = Process::start(command, "the broker").await?;
    let address = line
        .split_once("listening on ")
        .and_then(|(_, rest)| rest.split([',', ' ']).next())
        .with_context(|| format!("the broker's ready line names no address: {line}"))?;
    Ok((process, format!("http://{address}")))
}

/// An elf that serves the benchmarks.
pub(super) struct ElfProcess(Process);

impl ElfProcess {
    pub(super) async fn start(url: &str, concurrency: u32, window: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-elf", "--url", url]);
        command.args(["--concurrency", &concurrency.to_string(), "--window", &window.to_string()]);
        let (process, _ready) = Process::start(command, "the elf").await?;
        Ok(Self(process))
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.0.terminate().await
    }
}
