//! The admin listener: HTTP for machines that look after a broker, beside the port that clients and elves use.
//!
//! It answers from before the store is opened until after it is closed, tells numbers and whether the broker takes jobs, and
//! changes nothing. `connections` bounds what peers may take, `readiness` is what `/readyz` says, `answers` are the answers.

mod answers;
mod connections;
mod readiness;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio_util::sync::DropGuard;

use crate::broker::Limits;
use crate::metrics::{Metrics, Sources};
use crate::server::Error;
use crate::spawn::TaskGroup;
use answers::Answers;

pub(crate) use readiness::Readiness;

/// The admin listener of a broker. It answers until it is dropped, whoever asks:
///
/// - `/livez`: 200 for as long as the process turns. It never asks the store.
/// - `/readyz`: 200 if the broker takes jobs, and 503 with the reason while it does not.
/// - `/metrics`: what it counts, as OpenMetrics or as Prometheus has it, by what is accepted.
///
/// ```
/// # async fn example() -> Result<(), mycelium_server::Error> {
/// let admin = mycelium_server::Admin::bind("127.0.0.1:0").await?;
/// println!("is it ready? http://{}/readyz", admin.address());
/// let broker = mycelium_server::Broker::in_memory()?.with_admin(admin).bind("127.0.0.1:0").await?;
/// broker.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    answers: Arc<Answers>,
    tasks: TaskGroup,
    _cut: DropGuard,
}

impl Admin {
    /// Listens on `address` (port 0: any that is free) and answers from tasks of the current runtime. Until a
    /// [broker](crate::Broker::with_admin) has it and serves, it says that the store is not open.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Self, Error> {
        let listen = |source| Error::Listen { address: format!("{address:?}").replace('"', ""), source };
        let listener = TcpListener::bind(&address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let answers = Arc::new(Answers::new(Metrics::new(), address.ip().is_loopback()));
        let tasks = TaskGroup::default();
        tasks.spawn("the admin listener", connections::serve(listener, Arc::clone(&answers), tasks.clone()));
        let _cut = tasks.cut_on_drop();
        Ok(Self { address, answers, tasks, _cut })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mycelia that share these limits are counted from now on.
    pub(crate) fn counts(&self, limits: &Limits) {
        limits.counted().turn_on(self.answers.metrics().clone());
    }

    /// The broker serves.
    pub(crate) fn serves(&self, sources: Sources, readiness: Readiness) {
        self.answers.serves(sources, readiness);
    }

    /// The broker has begun to stop.
    pub(crate) fn drains(&self) {
        self.answers.drains();
    }

    /// Answers no more, and waits until that is so.
    pub(crate) async fn end(self) {
        self.tasks.cut().await;
    }
}
