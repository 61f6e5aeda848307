//! A broker in the process of the test.

use std::net::SocketAddr;

use anyhow::Context as _;
use elf_runtime::Mycelium;
use mycelium_server::{Broker, RunningBroker};
use tempfile::TempDir;

use crate::wait::{DEADLINE, must};

/// A broker in the process of the test, on a free port. It is cut off when it is dropped.
#[derive(Debug)]
pub struct TestBroker {
    running: RunningBroker,
    address: SocketAddr,
    /// Where it keeps everything; none if that is memory.
    folder: Option<TempDir>,
}

impl TestBroker {
    /// Starts a broker that keeps everything in memory.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn in_memory() -> anyhow::Result<Self> {
        Self::serve(Broker::in_memory()?, None).await
    }

    /// Starts a broker on a new folder, which is removed in the end. It can be [restarted](Self::restart).
    ///
    /// # Errors
    /// If the folder cannot be made, or no port can be had.
    pub async fn on_disk() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        Self::serve(Broker::open(folder.path())?, Some(folder)).await
    }

    async fn serve(broker: Broker, folder: Option<TempDir>) -> anyhow::Result<Self> {
        let running = broker.bind("127.0.0.1:0").await?;
        let address = running.address();
        Ok(Self { running, address, folder })
    }

    /// Where it answers, before and after a restart.
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that gives up after [`DEADLINE`].
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn client(&self) -> anyhow::Result<Mycelium> {
        Ok(Mycelium::builder(self.url()).patience(DEADLINE).connect().await?)
    }

    /// Stops it and starts it again, at the same address and on the same folder.
    ///
    /// # Errors
    /// If it keeps everything in memory, or does not stop or start.
    pub async fn restart(self) -> anyhow::Result<Self> {
        let folder = self.folder.context("a broker that keeps everything in memory cannot be restarted")?;
        must("the end of the broker", self.running.stop()).await??;
        let running = Broker::open(folder.path())?.bind(self.address).await?;
        Ok(Self { running, address: self.address, folder: Some(folder) })
    }

    /// Stops it, and waits until it has.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(must("the end of the broker", self.running.stop()).await??)
    }
}
