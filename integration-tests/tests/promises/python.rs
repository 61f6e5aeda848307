//! An elf and a client in Python, written from the comments of the contract alone, live through what those in Rust do.
//!
//! They need Python with `grpcio` and `grpcio-tools`; `MYCELIUM_PYTHON` names one that has them, and `python3` is tried
//! without it. Where there is none the test says so, and tests nothing.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, ensure};
use integration_tests::wire::{self, get_job};
use integration_tests::{BrokerProcess, Proxy, must, until};
use mycelium_proto::v1::JobStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// An interpreter, and the stubs it has made of the contract.
struct Python {
    program: PathBuf,
    stubs: TempDir,
}

impl Python {
    /// `None`, loudly, where it is not there.
    async fn find() -> anyhow::Result<Option<Self>> {
        let program = PathBuf::from(std::env::var_os("MYCELIUM_PYTHON").unwrap_or_else(|| "python3".into()));
        let mut probe = Command::new(&program);
        probe.args(["-c", "import grpc, grpc_tools"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !probe.status().await.is_ok_and(|status| status.success()) {
            eprintln!(
                "SKIPPED: {} has no grpcio and grpcio-tools; install them and name the interpreter in MYCELIUM_PYTHON",
                program.display()
            );
            return Ok(None);
        }
        let stubs = tempfile::tempdir()?;
        let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(protos.join("mycelium/v1"))? {
            files.push(entry?.path());
        }
        let mut compile = Command::new(&program);
        compile.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
        for flag in ["--python_out=", "--grpc_python_out="] {
            compile.arg(format!("{flag}{}", stubs.path().display()));
        }
        let compiled = compile.args(files).status().await?;
        ensure!(compiled.success(), "the stubs cannot be made: {compiled}");
        Ok(Some(Self { program, stubs }))
    }

    fn start(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Script> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let mut command = Command::new(&self.program);
        command.arg(path).args(arguments).env("PYTHONPATH", self.stubs.path());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("the script has no output")?).lines();
        Ok(Script { name: script.to_owned(), child, lines })
    }
}

/// A script that runs. Its errors go where those of the test go.
struct Script {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    async fn line(&mut self) -> anyhow::Result<String> {
        let line = must(&format!("a line of {}", self.name), self.lines.next_line()).await??;
        line.with_context(|| format!("{} has ended", self.name))
    }

    /// Reads on to a line that begins like this.
    async fn line_with(&mut self, begin: &str) -> anyhow::Result<String> {
        loop {
            let line = self.line().await?;
            if line.starts_with(begin) {
                return Ok(line);
            }
        }
    }

    async fn end(mut self) -> anyhow::Result<ExitStatus> {
        while must(&format!("the last line of {}", self.name), self.lines.next_line()).await??.is_some() {}
        Ok(must(&format!("the end of {}", self.name), self.child.wait()).await??)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elf_and_a_client_written_from_the_contract_alone_survive_what_rust_ones_do() -> anyhow::Result<()>
{
    let Some(python) = Python::find().await? else { return Ok(()) };
    let mut broker = BrokerProcess::start(&["--lease", "6s"]).await?;
    let address = broker.url().replace("http://", "");
    let proxy = Proxy::start(address.parse()?).await?;
    let mut elf = python.start("elf.py", &[&proxy.url().replace("http://", "")])?;
    ensure!(elf.line().await? == "welcome new 2", "the elf speaks the newest version of the protocol");

    // Values, a blob, a failure, a cancellation.
    let client = python.start("client.py", &[&address, "all"])?;
    ensure!(client.end().await?.success(), "the client found something wrong");

    // A job that runs through the death of the broker and a connection that leads nowhere.
    let folder = tempfile::tempdir()?;
    let gate = folder.path().join("gate");
    let mut client = python.start("client.py", &[&address, "hold", &gate.display().to_string()])?;
    let submitted = client.line_with("submitted ").await?;
    let job = uuid::Uuid::parse_str(submitted.trim_start_matches("submitted "))?;
    let job = bytes::Bytes::copy_from_slice(job.as_bytes());
    let running = wire::client(&broker.url()).await?;
    until("the job to run", async || {
        Ok((get_job(&running, &job).await?.status() == JobStatus::Running).then_some(()))
    })
    .await?;
    broker.kill().await?;
    broker.restart().await?;
    elf.line_with("welcome resumed 2").await?;
    proxy.black_hole();
    elf.line_with("ended CANCELLED").await.context("the elf does not give up a silent stream")?;
    elf.line_with("welcome resumed 2").await?;
    std::fs::write(&gate, "")?;
    ensure!(client.line_with("attempt ").await? == "attempt 1", "the job was run again");
    ensure!(client.end().await?.success(), "the client found something wrong");

    // It leaves in good order.
    let pid = i32::try_from(elf.child.id().context("the elf has ended")?)?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    ensure!(elf.end().await?.success(), "the elf did not drain");
    broker.stop().await
}
