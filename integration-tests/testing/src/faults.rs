//! A way to the broker on which a test lets attempts and outcomes go wrong.

mod forward;
mod order;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use elf_runtime::JobId;
use mycelium_proto::limits::MESSAGE_BYTES_MAX;
use mycelium_proto::v1::blob_service_server::BlobServiceServer;
use mycelium_proto::v1::elf_service_server::ElfServiceServer;
use mycelium_proto::v1::mycelium_service_server::MyceliumServiceServer;
use mycelium_proto::v1::store_service_server::StoreServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

use self::forward::Forward;
use self::order::{Gate, Orders, What};
use self::stream::{Died, Streams};
use crate::wait::must;

/// A way between elves and a broker, on which a test says what is to go wrong. It knows the contract: what it is told concerns
/// single attempts, and the two sides meet what they would meet if it really happened. All else passes.
///
/// Each order is for the next attempt that fits it ([`Which`]), and for that one only.
///
/// ```
/// # use elf_runtime::{Mycelium, machine_elf, v1::JobStatus};
/// # use mycelium_testing::{Faults, TestBroker, Which, Worker};
/// # struct Scale;
/// # #[machine_elf]
/// # impl Scale {
/// #     async fn task_weigh(&self, species: String) -> usize {
/// #         7 * species.len()
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() -> anyhow::Result<()> {
/// let broker = TestBroker::in_memory().await?;
/// let mycelium = broker.client().await?;
/// let faults = Faults::start(broker.address()).await?;
/// let elves = Mycelium::builder(faults.url()).connect().await?;
/// let worker = Worker::start(elves.serve().elf("scale", Scale)).await?;
///
/// faults.lose_attempt(Which::task("task_weigh"));
/// let held = faults.hold_outcome(Which::task("task_weigh").attempt(2));
/// let flow = mycelium.flow("weighing");
/// let weight = Scale::tasks(&flow, "scale").task_weigh("bee");
/// let run = flow.submit().await?;
/// held.arrived().await?;
/// assert_ne!(run.job_status(weight.id()).await?, JobStatus::Done, "its elf has died once, and this is the second attempt");
/// held.release();
/// assert_eq!(run.result(&weight).await?, 21);
/// # worker.stop().await?;
/// # broker.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Faults {
    address: SocketAddr,
    orders: Arc<Orders>,
    /// Ends the streams and stops listening when it is dropped.
    _open: watch::Sender<()>,
}

/// Which attempts are meant: those to which all that is said applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it is given to an order of `Faults`"]
pub struct Which {
    elf: Option<String>,
    task: Option<String>,
    job: Option<JobId>,
    attempt: Option<u32>,
}

impl Which {
    /// Attempts of any job.
    pub fn any() -> Self {
        Self::default()
    }

    /// Those of this task.
    pub fn task(task: impl Into<String>) -> Self {
        Self { task: Some(task.into()), ..Self::default() }
    }

    /// Those of this job.
    pub fn job(job: JobId) -> Self {
        Self { job: Some(job), ..Self::default() }
    }

    /// Of those, the ones that are given to this elf.
    pub fn of_elf(mut self, elf: impl Into<String>) -> Self {
        self.elf = Some(elf.into());
        self
    }

    /// Of those, the ones of this number, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }
}

impl Faults {
    /// Begins to listen, on the way to the broker at this address.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(broker: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let channel = Endpoint::from_shared(format!("http://{broker}"))?.tcp_nodelay(true).connect_lazy();
        let (open, mut is_over) = watch::channel(());
        let orders = Arc::new(Orders::default());
        let streams = Streams {
            orders: Arc::clone(&orders),
            broker: channel.clone(),
            is_over: is_over.clone(),
            died: Arc::new(Died::default()),
        };
        let elves = ElfServiceServer::new(streams)
            .max_decoding_message_size(2 * MESSAGE_BYTES_MAX)
            .max_encoding_message_size(2 * MESSAGE_BYTES_MAX);
        let served = Server::builder()
            .tcp_nodelay(true)
            .add_service(elves)
            .add_service(Forward::<MyceliumServiceServer<()>>::new(channel.clone()))
            .add_service(Forward::<BlobServiceServer<()>>::new(channel.clone()))
            .add_service(Forward::<StoreServiceServer<()>>::new(channel))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                // Nothing is ever sent: it is dropped.
                let _over = is_over.changed().await;
            });
        // One that fails shows as a broker that is unavailable.
        tokio::spawn(served);
        Ok(Self { address, orders, _open: open })
    }

    /// The URL to give to elves in place of the broker's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets an elf die with an attempt: with the next that fits, once the elf has begun it. The elf's process goes on as a new
    /// one, which knows nothing of what it held: all of that is lost with it, and given to an elf again. As ever, a job
    /// that is lost with its elf again and again, while nothing else runs there, ends with `ElfLostError`.
    ///
    /// So that this takes no time, elves speak version 1 of the protocol with the broker, in which sessions have no secrets.
    pub fn lose_attempt(&self, which: Which) {
        self.orders.give(which, What::LoseAttempt);
    }

    /// Lets an outcome get lost on its way, and the connection break: the elf comes back, and sends it again.
    pub fn lose_outcome(&self, which: Which) {
        self.orders.give(which, What::LoseOutcome);
    }

    /// Holds an outcome on its way until it is [released](HeldOutcome::release): the elf is done with the attempt, and for
    /// the broker it runs.
    pub fn hold_outcome(&self, which: Which) -> HeldOutcome {
        let (arrived, arrives) = watch::channel(false);
        let (release, released) = watch::channel(());
        self.orders.give(which, What::Hold(Gate { arrived, released }));
        HeldOutcome { arrives, release }
    }

    /// Lets an outcome take so long on its way.
    pub fn delay_outcome(&self, which: Which, by: Duration) {
        self.orders.give(which, What::Delay(by));
    }

    /// How many orders no attempt has fitted yet.
    pub fn pending(&self) -> usize {
        self.orders.pending()
    }
}

/// An outcome that is held, or will be. It goes on when this is dropped.
#[derive(Debug)]
#[must_use = "the outcome goes on when this is dropped"]
pub struct HeldOutcome {
    arrives: watch::Receiver<bool>,
    release: watch::Sender<()>,
}

impl HeldOutcome {
    /// Waits until the elf has sent it.
    ///
    /// # Errors
    /// If it does not within [`DEADLINE`](crate::DEADLINE).
    pub async fn arrived(&self) -> anyhow::Result<()> {
        let mut arrives = self.arrives.clone();
        must("an outcome to be held", arrives.wait_for(|arrived| *arrived)).await??;
        Ok(())
    }

    /// Lets it go on to the broker.
    pub fn release(self) {
        drop(self.release);
    }
}
