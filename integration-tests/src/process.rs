//! Brokers and elves as processes: started, killed and started again. Their logs are shown when a test fails, and
//! none outlives its test.

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
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::programs;
use crate::wait::{DEADLINE, must};

/// How much of a log is shown when a test fails.
const LOG_SHOWN_BYTES: usize = 16 * 1024;

/// A process that is killed when it is dropped.
#[derive(Debug)]
struct Process {
    what: String,
    child: Child,
    /// What it prints, beyond its first line. Kept open, so that the process can go on printing.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it, and waits for the first line that it prints.
    async fn start(what: String, mut command: Command, log: &Path) -> anyhow::Result<(Self, String)> {
        let log_file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {what}: {command:?}"))?;
        let stdout = child.stdout.take().context("the output of a process that was started is missing")?;
        let mut output = BufReader::new(stdout).lines();
        let line = must(&format!("the first line of {what}"), output.next_line()).await??;
        let line = line.with_context(|| format!("{what} ended before it was ready: {}", tail(log)))?;
        Ok((Self { what, child, _output: output }, line))
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.what))
    }

    /// Makes sure that it has not ended.
    fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.what),
        }
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.what))
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        kill(Pid::from_raw(i32::try_from(self.pid()?)?), Signal::SIGTERM)?;
        let status = self.wait().await?;
        ensure!(status.success(), "{} was told to stop and ended with {status}", self.what);
        Ok(())
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(must(&format!("the end of {}", self.what), self.child.wait()).await??)
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

    /// As [`start`](Self::start), in a process that may have no more than so many files and connections open.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_limited(flags: &[&str], descriptors: Option<u32>) -> anyhow::Result<Self> {
        Self::begin(programs::mycelium()?, flags, descriptors).await
    }

    /// As [`start`](Self::start), with the `mycelium` of any version.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_as(program: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::begin(program.to_owned(), flags, None).await
    }

    async fn begin(program: PathBuf, flags: &[&str], descriptors: Option<u32>) -> anyhow::Result<Self> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let folder = tempfile::tempdir()?;
        let (process, address) =
            Self::spawn(&program, folder.path(), "127.0.0.1:0", &flags, descriptors).await?;
        Ok(Self { process: Some(process), folder, address, flags, descriptors, program })
    }

    async fn spawn(
        program: &Path,
        folder: &Path,
        listen: &str,
        flags: &[String],
        descriptors: Option<u32>,
    ) -> anyhow::Result<(Process, SocketAddr)> {
        let mut command = match descriptors {
            None => Command::new(program),
            Some(descriptors) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
        };
        command.args(["serve", "--listen", listen, "--data-dir"]).arg(folder.join("data")).args(flags);
        let (process, line) = Process::start("the broker".to_owned(), command, &log_in(folder)).await?;
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
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, Signal::SIGSTOP)?;
        tokio::time::sleep(pause).await;
        Ok(kill(pid, Signal::SIGCONT)?)
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the broker is not running")?.kill().await
    }

    /// Starts it again, at the same address and on the same folder.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the broker is running");
        let listen = self.address.to_string();
        let (process, _) =
            Self::spawn(&self.program, self.folder.path(), &listen, &self.flags, self.descriptors).await?;
        self.process = Some(process);
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

/// How an elf is served.
#[derive(Debug, Clone)]
pub struct ElfOptions {
    /// The name of the elf.
    pub name: String,
    /// How many jobs it runs at once.
    pub concurrency: u32,
    /// How many jobs it holds at once.
    pub window: u32,
}

impl ElfOptions {
    /// An elf that holds a few jobs more than it runs.
    pub fn new(name: &str, concurrency: u32, window: u32) -> Self {
        Self { name: name.to_owned(), concurrency, window }
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
        let ElfOptions { name, concurrency, window } = options;
        command.args(["--url", url, "--name", name]);
        command.args(["--concurrency", &concurrency.to_string(), "--window", &window.to_string()]);
        command.arg("--diary").arg(folder.path().join("diary"));
        let log = log_in(folder.path());
        let (process, line) = Process::start(format!("an elf `{name}`"), command, &log).await?;
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
        show(&self.process.what, &log_in(self.folder.path()));
    }
}
