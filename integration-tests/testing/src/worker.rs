//! A worker in the process of the test.

use anyhow::Context as _;
use elf_runtime::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::ElfStream;
use crate::wait::{must, within};

/// A worker that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Worker {
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Error>>,
}

impl Worker {
    /// Starts it, whether there is a broker or not.
    pub fn spawn(worker: elf_runtime::Worker) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        // Dropping the worker stops it too.
        Self { stop: Some(stop), ended: tokio::spawn(worker.run_until(stopped)) }
    }

    /// Starts it, and waits until the broker has taken it in.
    ///
    /// # Errors
    /// If the broker does not.
    pub async fn start(worker: elf_runtime::Worker) -> anyhow::Result<Self> {
        let (ready, is_ready) = oneshot::channel();
        let worker = Self::spawn(worker.on_ready(|session| {
            // The test may have given up.
            let _gone = ready.send(session);
        }));
        must("the broker to take a worker in", is_ready).await?.context("the worker ended at once")?;
        Ok(worker)
    }

    /// Tells it to stop. [`stop`](Self::stop) and [`ended`](Self::ended) wait until it has.
    pub fn begin_to_stop(&mut self) {
        // One that has ended by itself says so when its end is waited for.
        drop(self.stop.take());
    }

    /// Stops it, and waits until it has left.
    ///
    /// # Errors
    /// Those of [`run_until`](elf_runtime::Worker::run_until): it had ended by itself, or could not hand everything over.
    ///
    /// # Panics
    /// If it does not end in time, or has panicked.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.begin_to_stop();
        self.ended().await
    }

    /// As [`stop`](Self::stop), with a broker that listens until the worker has said goodbye.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    ///
    /// # Panics
    /// As [`stop`](Self::stop), and if the worker says anything else.
    pub async fn stop_on(mut self, mut stream: ElfStream) -> Result<(), Error> {
        self.begin_to_stop();
        stream.goodbye().await;
        drop(stream);
        self.ended().await
    }

    /// Waits until it ends: by itself, if it was not told to.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    ///
    /// # Panics
    /// As [`stop`](Self::stop).
    pub async fn ended(self) -> Result<(), Error> {
        // Kept to the end: a worker whose `stop` is dropped is told to stop.
        let Self { stop: _stop, ended } = self;
        match within("the end of a worker", ended).await {
            Ok(ended) => ended,
            Err(panicked) => panic!("the worker did not run to its end: {panicked}"),
        }
    }
}
