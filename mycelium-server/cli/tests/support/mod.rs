//! Runs the binary: commands to their end, and brokers until they are dropped.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its own part of this")]

pub mod dot;
pub mod scale;

use std::path::Path;

use mycelium_testing::Process;
pub use mycelium_testing::{DEADLINE, Ended};
use nix::sys::signal::Signal;
use tokio::process::{ChildStderr, Command};

/// Waits, but not for ever.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    mycelium_testing::within("what is waited for", future)
}

/// The binary, without the settings of whoever runs the tests.
pub fn mycelium() -> Command {
    mycelium_testing::command(env!("CARGO_BIN_EXE_mycelium"))
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Ended {
    mycelium_testing::run(command).await.unwrap()
}

/// A broker in a process of its own, which dies with this.
pub struct Broker {
    process: Process,
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
    pub async fn start_command(command: Command) -> Self {
        let (process, ready_line) = Process::start("the broker", command).await.unwrap();
        Self { process, ready_line }
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
        self.process.take_stderr()
    }

    pub fn process_id(&self) -> u32 {
        self.process.pid().unwrap()
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
        self.process.signal(signal).unwrap();
    }

    /// Waits for its end: the exit code, and what it printed after the ready line.
    pub async fn ended(self) -> (Option<i32>, String) {
        let (status, rest) = self.process.end().await.unwrap();
        (status.code(), rest)
    }
}
