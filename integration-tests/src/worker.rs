//! A worker in the process of the test.

use anyhow::Context as _;
use elf_runtime::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wait::must;

/// A worker that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Worker {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

impl Worker {
    /// Starts it, and waits until the broker has taken it in.
    ///
    /// # Errors
    /// If the broker does not.
    pub async fn start(worker: elf_runtime::Worker) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let worker = worker.on_ready(|session| {
            // The test may have given up.
            let _gone = ready.send(session);
        });
        let ended = tokio::spawn(async move {
            worker
                .run_until(async move {
                    // Dropping the worker stops it too.
                    let _dropped = stopped.await;
                })
                .await
        });
        must("the broker to take a worker in", is_ready).await?.context("the worker ended at once")?;
        Ok(Self { stop, ended })
    }

    /// Stops it, and waits until it has left in good order.
    ///
    /// # Errors
    /// If it had ended, or cannot hand everything over.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send(()).ok().context("the worker ended by itself")?;
        Ok(must("the end of a worker", self.ended).await???)
    }
}
