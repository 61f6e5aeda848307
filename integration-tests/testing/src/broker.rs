//! A broker in the process of the test, with a clock that the test moves.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use elf_runtime::Mycelium;
use mycelium_server::{Broker, RunningBroker};
use tempfile::TempDir;

use crate::wait::{DEADLINE, must};

/// A broker in the process of the test, on a free port. It is cut off when it is dropped.
///
/// Whatever waits for a time to pass need not be waited for: the test [moves](Self::advance) the broker's clock.
///
/// ```
/// # use elf_runtime::{machine_elf, v1::JobStatus};
/// # use mycelium_testing::{TestBroker, Worker};
/// # use std::time::Duration;
/// # struct Scale;
/// # #[machine_elf]
/// # impl Scale {
/// #     async fn task_weigh(&self, species: String) -> usize {
/// #         7 * species.len()
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() -> anyhow::Result<()> {
/// const HOUR: Duration = Duration::from_secs(3600);
///
/// let broker = TestBroker::in_memory().await?;
/// let mycelium = broker.client().await?;
/// let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
/// let flow = mycelium.flow("weighing");
/// let weight = Scale::tasks(&flow, "scale").task_weigh("bee").delay(HOUR);
/// let run = flow.submit().await?;
///
/// broker.advance(HOUR / 2).await?;
/// assert_eq!(run.job_status(weight.id()).await?, JobStatus::Ready, "it is not its time");
/// broker.advance(HOUR / 2).await?;
/// assert_ne!(run.job_status(weight.id()).await?, JobStatus::Ready, "the elf has it");
/// assert_eq!(run.result(&weight).await?, 21);
/// # worker.stop().await?;
/// # broker.stop().await?;
/// # Ok(())
/// # }
/// ```
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

    /// Serves a broker of the test's own: with other settings, or on a store of its own. One on a
    /// [`FaultyStore`](mycelium_server::store::FaultyStore) is refused the commits that the test says.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn of(broker: Broker) -> anyhow::Result<Self> {
        Self::serve(broker, None).await
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

    /// Moves its clock ahead. When this returns, what came due by that has happened: it is stored, and on its way to elves
    /// and clients. What they make of it is waited for, with [`until`](crate::until) or at the job's result.
    ///
    /// It goes for the broker as if its machine had been suspended for so long:
    ///
    /// - What goes by moments has come: delays and `not_before`, pauses before the next attempt, queue and total timeouts, the
    ///   ages of retention (whose next pass is waited for), the times that are shown, and what filters mean by `since:2h`.
    /// - What waits for somebody else stands still: leases, so that no elf is taken for lost, and the broker's part in run
    ///   timeouts. Elves end runs by clocks of their own, so that a test of a run timeout sets a short one.
    ///
    /// The test's own clock does not move: [`now`](Self::now) is what the broker's shows.
    ///
    /// # Errors
    /// If the clock would be more than 100 years ahead, or the broker cannot do what came due.
    pub async fn advance(&self, by: Duration) -> anyhow::Result<()> {
        Ok(must("what is due by then", self.running.advance(by)).await??)
    }

    /// What its clock shows, for moments such as that of `not_before`.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.running.ahead()
    }

    /// Stops it and starts it again, at the same address, on the same folder, and with its clock as it was.
    ///
    /// # Errors
    /// If it keeps everything in memory or is [one's own](Self::of), or does not stop or start.
    pub async fn restart(self) -> anyhow::Result<Self> {
        let folder = self.folder.context("a broker in memory, or of the test's own, cannot be restarted")?;
        let ahead = self.running.ahead();
        must("the end of the broker", self.running.stop()).await??;
        let running = Broker::open(folder.path())?.ahead(ahead)?.bind(self.address).await?;
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
