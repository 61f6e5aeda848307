//! Brokers as processes: started, killed and started again. Their logs are shown when a test fails, and none outlives
//! its test.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use elf_runtime::Mycelium;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::programs;
use crate::wait::{DEADLINE, must};

/// How much of a log is shown when a test fails.
const LOG_SHOWN_BYTES: usize = 16 * 1024;

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    /// What it prints, beyond its first line. Kept open, so that the process can go on printing.
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it, and waits for the first line that it prints.
    ///
    /// # Errors
    /// If it cannot be started, or ends before it prints a line.
    pub async fn start(what: &str, mut command: Command) -> anyhow::Result<(Self, String)> {
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {what}: {command:?}"))?;
        let stdout = child.stdout.take().context("the output of a process that was started is missing")?;
        let mut output = BufReader::new(stdout).lines();
        let line = must(&format!("the first line of {what}"), output.next_line()).await??;
        let line = line.with_context(|| format!("{what} ended before it was ready"))?;
        Ok((Self { what: what.to_owned(), child, output }, line))
    }

    /// As [`start`](Self::start), with nothing to read, and standard error in a file, the end of which is told if it does not
    /// become ready.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_logged(
        what: &str,
        mut command: Command,
        log: &Path,
    ) -> anyhow::Result<(Self, String)> {
        command.stdin(Stdio::null()).stderr(File::options().create(true).append(true).open(log)?);
        Self::start(what, command).await.with_context(|| format!("its log ends with: {}", tail(log)))
    }

    /// What it is, for messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The reading end of its standard error, if its command has piped it.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.what))
    }

    /// Makes sure that it has not ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.what),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid()?)?), signal)?)
    }

    /// Kills it with SIGKILL, and waits until it has ended.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.what))
    }

    /// Stops it with SIGTERM, and waits until it has ended well.
    ///
    /// # Errors
    /// If it had ended by itself, or does not end with success.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.signal(Signal::SIGTERM)?;
        let status = self.wait().await?;
        ensure!(status.success(), "{} was told to stop and ended with {status}", self.what);
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it does not.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(must(&format!("the end of {}", self.what), self.child.wait()).await??)
    }

    /// Waits until it has ended, and returns what it printed after its first line.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let mut rest = String::new();
        must("the end of its output", self.output.get_mut().read_to_string(&mut rest)).await??;
        Ok((self.wait().await?, rest))
    }

    /// Prints the end of a log; the test harness shows it if the test fails.
    pub fn show_log(&self, log: &Path) {
        show(&self.what, log);
    }
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_SHOWN_BYTES)..]).into_owned()
}

/// Prints a log; the test harness shows it if the test fails.
fn show(what: &str, log: &Path) {
    eprintln!("--- the log of {what} ends with:\n{}", tail(log));
}

/// A broker on a folder of its own.
#[derive(Debug)]
pub struct BrokerProcess {
    process: Option<Process>,
    folder: TempDir,
    address: SocketAddr,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    descriptors: Option<u32>,
    program: PathBuf,
}

impl BrokerProcess {
    /// Starts a broker on a free port and a new folder, with these flags of `mycelium serve`.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_limited(flags, None).await
    }

    /// As [`start`](Self::start), with variables in its environment, as for a store in a database.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::begin(programs::mycelium()?, flags, variables.collect(), None).await
    }

    /// As [`start`](Self::start), in a process that may have no more than so many files and connections open.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_limited(flags: &[&str], descriptors: Option<u32>) -> anyhow::Result<Self> {
        Self::begin(programs::mycelium()?, flags, Vec::new(), descriptors).await
    }

    /// As [`start`](Self::start), with the `mycelium` of any version.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_as(program: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::begin(program.to_owned(), flags, Vec::new(), None).await
    }

    async fn begin(
        program: PathBuf,
        flags: &[&str],
        variables: Vec<(String, String)>,
        descriptors: Option<u32>,
    ) -> anyhow::Result<Self> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (folder, address) = (tempfile::tempdir()?, SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut broker = Self { process: None, folder, address, flags, variables, descriptors, program };
        broker.restart().await?;
        Ok(broker)
    }

    async fn spawn(&self) -> anyhow::Result<(Process, SocketAddr)> {
        let program = &self.program;
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(descriptors) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
        };
        command.args(["serve", "--listen", &self.address.to_string(), "--data-dir"]).arg(self.data_folder());
        command.args(&self.flags).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let (process, line) =
            Process::start_logged("the broker", command, &log_in(self.folder.path())).await?;
        let address = line
            .strip_prefix("mycelium ready: listening on ")
            .and_then(|rest| rest.split(',').next())
            .with_context(|| format!("the broker's ready line is `{line}`"))?;
        let address: SocketAddr = address.parse().with_context(|| format!("in the ready line `{line}`"))?;
        ensure!(line.contains(&format!("pid {}", process.pid()?)), "the ready line names the pid: `{line}`");
        Ok((process, address))
    }

    /// Where it answers, before and after a restart.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most resident memory that its process has had, in bytes.
    ///
    /// # Errors
    /// If it is not running, or the system does not tell.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// A client that gives up after [`DEADLINE`].
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn client(&self) -> anyhow::Result<Mycelium> {
        Ok(Mycelium::builder(self.url()).patience(DEADLINE).connect().await?)
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.as_ref().context("the broker is not running")?.pid()
    }

    /// The folder that it keeps everything in.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has logged so far, before and after restarts.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(log_in(self.folder.path()))?)
    }

    /// Pauses it for a while, with SIGSTOP and SIGCONT.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn pause(&self, pause: Duration) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the broker is not running")?;
        process.signal(Signal::SIGSTOP)?;
        tokio::time::sleep(pause).await;
        process.signal(Signal::SIGCONT)
    }

    /// Kills it with SIGKILL, and waits until it has ended.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the broker is not running")?.kill().await
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is not running.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().context("the broker is not running")?.signal(signal)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.take().context("the broker is not running")?.wait().await
    }

    /// Starts it again, at the same address and on the same folder.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the broker is running");
        let (process, address) = self.spawn().await?;
        (self.process, self.address) = (Some(process), address);
        Ok(())
    }

    /// Starts the `mycelium` of another version in its place.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn restart_as(&mut self, program: &Path) -> anyhow::Result<()> {
        program.clone_into(&mut self.program);
        self.restart().await
    }

    /// Stops it with SIGTERM, and waits until it has ended well.
    ///
    /// # Errors
    /// If it had ended by itself, or does not end with success.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.take().context("the broker is not running")?.stop().await
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        show("the broker", &log_in(self.folder.path()));
    }
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("log")
}
