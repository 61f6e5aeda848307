//! The six processes of the elves, which never outlive the one that started them.
//!
//! Each child reads its standard input, a pipe to which nobody writes. Its end means that the parent wants it to stop,
//! or is gone, however that came about: then the elf finishes what it is doing, and leaves.

use std::future::Future;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::elves;

/// How long an elf may take to leave before its process is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

pub(crate) struct ElfProcesses {
    processes: Vec<ElfProcess>,
}

struct ElfProcess {
    elf: &'static str,
    process: Child,
    /// Kept apart from `process`, which would close it as soon as it is waited for.
    stdin: Option<ChildStdin>,
}

impl ElfProcesses {
    /// Starts this program once more for each elf. If one cannot be started, or this is dropped, all are killed.
    pub(crate) fn start(url: &str, file: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut processes = Vec::new();
        for elf in elves::NAMES {
            let mut process = Command::new(&program)
                .args(["elf", "--name", elf, "--url", url, "--file"])
                .arg(file)
                .stdin(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start the elf `{elf}`"))?;
            let stdin = process.stdin.take();
            processes.push(ElfProcess { elf, process, stdin });
        }
        Ok(Self { processes })
    }

    /// Waits until one of them ends, which none should, and says so.
    pub(crate) async fn first_to_end(&mut self) -> Error {
        let ends = self.processes.iter_mut().map(|ElfProcess { elf, process, .. }| {
            Box::pin(async move {
                match process.wait().await {
                    Ok(status) => anyhow!("the elf `{elf}` ended by itself, with {status}"),
                    Err(error) => anyhow!(error).context(format!("cannot wait for the elf `{elf}`")),
                }
            })
        });
        let (error, ..) = futures::future::select_all(ends).await;
        error
    }

    /// Lets all elves leave, and waits until they have.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for elf in &mut self.processes {
            elf.stdin = None;
        }
        let mut unwell = Vec::new();
        for ElfProcess { elf, process, .. } in &mut self.processes {
            match tokio::time::timeout(STOP_GRACE, process.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => unwell.push(format!("`{elf}` ended with {status}")),
                Ok(Err(error)) => unwell.push(format!("`{elf}` cannot be waited for: {error}")),
                Err(_elapsed) => {
                    unwell.push(format!("`{elf}` had to be killed after {} s", STOP_GRACE.as_secs()));
                    process.kill().await.with_context(|| format!("cannot kill the elf `{elf}`"))?;
                }
            }
        }
        if !unwell.is_empty() {
            bail!("not all elves left in good order: {}", unwell.join(", "));
        }
        Ok(())
    }
}

/// In a child: completes when the parent closes our standard input, or is gone.
///
/// Ctrl-C in a terminal reaches every process in it. Children leave it to the parent, which lets them end in good
/// order; so this also catches the signal, and does nothing about it.
pub(crate) fn parent_is_gone() -> io::Result<impl Future<Output = ()>> {
    let interrupt = signal(SignalKind::interrupt())?;
    let (end, ended) = oneshot::channel::<()>();
    // A thread of its own: a read cannot be called off, and the async runtime would wait for it at its end.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // An error is an end as well: nothing more can come.
        let _bytes = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(end);
    })?;
    Ok(async move {
        let _interrupt = interrupt;
        // It never says anything: that it is gone is the message.
        let _gone = ended.await;
    })
}
