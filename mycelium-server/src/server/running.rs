//! A broker that serves from tasks of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Broker, Error};
use crate::mycelia::Mycelia;
use crate::spawn::{Joined, TaskGroup};

/// A broker that listens.
#[derive(Debug)]
pub struct RunningBroker {
    scheme: &'static str,
    address: SocketAddr,
    stop: CancellationToken,
    served: Joined<Result<(), Error>>,
    mycelia: Mycelia,
}

impl RunningBroker {
    pub(super) fn start(broker: Broker, listener: TcpListener, address: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let begun = broker.begin();
        let mycelia = begun.mycelia.clone();
        let scheme = if begun.tls.is_some() { "https" } else { "http" };
        let serve = begun.serve(listener, Box::pin(async move { stopped.cancelled().await }));
        let served = TaskGroup::default().run("the broker", serve);
        Self { scheme, address, stop, served, mycelia }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients take it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Moves its clocks ahead, for tests, and waits until what came due by that is done: stored, and on its way to elves and
    /// clients.
    ///
    /// What goes by moments goes by the clocks as they are then: when jobs may begin, and begin again, their queue and total
    /// timeouts, the ages of retention, what is shown, and what filters mean by `since:2h`. What waits for somebody else stands
    /// still with the broker, as it does when its machine was suspended: leases, so that no elf is taken for lost, and the
    /// broker's part in run timeouts, which elves end by clocks of their own. What guards it against peers that are slow goes
    /// by the machine's clocks, and so do large values that nobody needs.
    ///
    /// # Errors
    /// [`Error::ClocksTooFar`]; [`Error::Unsettled`] if it stops meanwhile, or its store does not take what came due.
    ///
    /// # Cancel safety
    /// They are moved all the same.
    pub async fn advance(&self, by: Duration) -> Result<(), Error> {
        if !self.mycelia.ahead().add(by) {
            return Err(Error::ClocksTooFar { by });
        }
        self.mycelia.settle().await.map_err(|error| Error::Unsettled { why: error.to_string() })
    }

    /// How far its clocks are ahead of the machine's, all in all.
    pub fn ahead(&self) -> Duration {
        self.mycelia.ahead().get()
    }

    /// Waits until it ends by itself, which it does if its store fails for good.
    ///
    /// # Errors
    /// Whatever [`Broker::serve`] ended with.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn ended(&mut self) -> Result<(), Error> {
        match (&mut self.served).await {
            Ok(result) => result,
            Err(error) => Err(Error::Stopped { why: error.to_string() }),
        }
    }

    /// Stops it, and waits until it has stopped.
    ///
    /// # Errors
    /// Whatever [`Broker::serve`] ended with.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        match self.served.await {
            Ok(result) => result,
            Err(error) => Err(Error::Stopped { why: error.to_string() }),
        }
    }
}
