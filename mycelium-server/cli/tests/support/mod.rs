//! Runs the binary: commands to their end, and brokers until they are dropped.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

pub mod dot;
pub mod scale;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// How long anything in these tests may take. Far more than is needed, so that only a hang meets it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes longer than anything here may take")
}

/// The binary, without the settings of whoever runs the tests.
pub fn mycelium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mycelium"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MYCELIUM_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output of a command that went well and had nothing to complain about.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "stdout: {}", self.stdout);
        self.stdout
    }

    /// The one line of a command that printed nothing else and ended with this exit code.
    #[track_caller]
    pub fn bad(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "stderr: {}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line: {lines:?}");
        lines[0].to_owned()
    }
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Ended {
    let output = within(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()).await.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A broker in a process of its own, which dies with this.
pub struct Broker {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    pub ready_line: String,
}

impl Broker {
    /// A broker that keeps everything in memory.
    pub async fn in_memory() -> Self {
        Self::start(&["--store", "memory"]).await
    }

    /// A broker on a folder.
    pub async fn on(folder: &Path) -> Self {
        Self::start(&["--data-dir", folder.to_str().unwrap()]).await
    }

    /// A broker on any free port, once it is ready.
    pub async fn start(flags: &[&str]) -> Self {
        let mut command = mycelium();
        command.args(["serve", "--log", "error"]).args(flags);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::start_command(command).await
    }

    /// A broker by a command of one's own, once it is ready.
    pub async fn start_command(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready_line =
            within(stdout.next_line()).await.unwrap().expect("the broker ended before it was ready");
        Self { child, stdout, ready_line }
    }

    /// The address in the ready line.
    pub fn address(&self) -> String {
        let rest = self.ready_line.strip_prefix("mycelium ready: listening on ").unwrap();
        rest.split_once(", ").unwrap().0.to_owned()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The reading end of its standard error, if the command has piped it.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    pub fn process_id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// A command for this broker.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = mycelium();
        command.env("MYCELIUM_URL", self.url()).args(args);
        command
    }

    /// Runs a command for this broker to its end.
    pub async fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args)).await
    }

    /// What a command prints as JSON.
    pub async fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = run(self.command(args).args(["--output", "json"])).await.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// As `json`, of a command that has a word to say beside it.
    pub async fn json_with_note(&self, args: &[&str]) -> (serde_json::Value, String) {
        let Ended { code, stdout, stderr } = run(self.command(args).args(["--output", "json"])).await;
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
        (serde_json::from_str(&stdout).unwrap(), stderr)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process_id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for its end: the exit code, and what it printed after the ready line.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        within(self.stdout.get_mut().read_to_string(&mut rest)).await.unwrap();
        (within(self.child.wait()).await.unwrap().code(), rest)
    }
}
