//! Connections and calls, before and after any service sees them: how many there may be, how many bytes they may take,
//! and how long they may stand still.
//!
//! - `listener` takes connections in, `peers` knows all that there are and cuts those that have to go.
//! - `stack` is what every call passes through; `request` and `answer` are the bodies of its messages on their ways in and
//!   out, `call` what is known of it meanwhile, and `budget` how many bytes may be taken.
//! - `descriptors` is about how many files and connections the system lets this process have open.
//!
//! A *peer* is a connection: where many clients stand behind one address, none suffers for another.

mod answer;
mod budget;
mod call;
mod descriptors;
mod listener;
mod peers;
mod request;
mod stack;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::Stream;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Extensions;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

use crate::config::Config;
use crate::defect;
use budget::{Budget, Full, Taken};
use listener::{Connection, SURPLUS, connections};
use peers::{Peer, PeerId, Peers};
use stack::Layers;

pub use descriptors::raise_descriptor_limit;
pub(crate) use descriptors::store_files;

/// How much a peer may send on one stream before it has to wait.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How much a peer may send on one connection before it has to wait.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The largest HTTP/2 frame that is taken, in bytes: a chunk of a blob is one, instead of many that each cost a call to the
/// system on both sides.
const FRAME_BYTES_MAX: u32 = 128 * 1024;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while the broker stops.
const LOOK_EVERY_AT_STOP: Duration = Duration::from_millis(100);

/// How many peers are cut at most for one that needs memory, and how long each may take to close.
const CUT_FOR_ONE_MAX: usize = 8;
const CLOSED_WITHIN: Duration = Duration::from_millis(10);

/// The far end of the connection that a request came on.
pub(crate) fn address_of(request: &Extensions) -> Option<SocketAddr> {
    request.get::<Arc<Peer>>().map(|peer| peer.address)
}

/// Why a call, or the rest of its request, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("as many calls are under way as there may be")]
    TooManyCalls,
    #[error("all requests that are being received take as much memory as they may")]
    ReceivingFull,
    #[error("all answers that are being made and not taken yet take as much memory as they may")]
    AnswersFull,
    #[error("the request did not come in time")]
    RequestStalled,
    #[error("the upload brought less than 64 KiB in 10 s")]
    UploadStalled,
    #[error("the answer took longer than it may")]
    ReadTooLong,
    /// Cannot happen: every call comes with a connection.
    #[error("the call came without a connection")]
    NoPeer,
}

/// What all connections and calls have together.
#[derive(Debug)]
struct Shared {
    peers: Arc<Peers>,
    calls: AtomicUsize,
    calls_max: usize,
    /// Of requests that have begun to come, until they are answered or passed on.
    receiving: Arc<Budget>,
    /// Of answers that are made and not taken.
    answers: Arc<Budget>,
}

impl Shared {
    /// Takes bytes of a budget for a peer. Where all together hold too much, those give way that move nothing.
    ///
    /// # Errors
    /// If they do not give way soon.
    async fn take(self: Arc<Self>, budget: Arc<Budget>, peer: PeerId, bytes: usize) -> Result<Taken, Full> {
        for _ in 0..CUT_FOR_ONE_MAX {
            match Arc::clone(&budget).take(peer, bytes).await {
                Err(_full) if self.peers.cut_for(&budget) => tokio::time::sleep(CLOSED_WITHIN).await,
                taken_or_full => return taken_or_full,
            }
        }
        budget.take(peer, bytes).await
    }
}

/// The way in and out.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
    streams_per_connection_max: u32,
}

impl Transport {
    pub(crate) fn new(config: &Config) -> Self {
        let connections_max = descriptors::connections(config.connections_max, SURPLUS);
        if connections_max < config.connections_max {
            tracing::info!(
                connections_max,
                "fewer connections than set, because of how many files this process may have open"
            );
        }
        let shared = Shared {
            peers: Arc::new(Peers::new(connections_max)),
            calls: AtomicUsize::new(0),
            calls_max: config.calls_max,
            receiving: Budget::new(config.receiving_bytes_max),
            answers: Budget::new(config.answers_bytes_max),
        };
        Self { shared: Arc::new(shared), streams_per_connection_max: config.calls_per_connection_max }
    }

    /// A server without services, with everything around them.
    pub(crate) fn server(&self) -> Server<Stack<Layers, Identity>> {
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .max_concurrent_streams(self.streams_per_connection_max)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(stack::layers(Arc::clone(&self.shared)))
    }

    /// The connections that come to a listener.
    pub(crate) fn connections(
        &self,
        listener: TcpListener,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send + use<> {
        connections(listener, Arc::clone(&self.shared.peers))
    }

    /// Cuts connections that stand still for too long. When the broker stops, those that it need not wait for. Never ends.
    pub(crate) async fn watch(self, drain: CancellationToken) {
        let mut due = Instant::now() + LOOK_EVERY;
        while drain.run_until_cancelled(tokio::time::sleep_until(due)).await.is_some() {
            // Where the broker itself stood still, peers are first given the time to go on.
            if due.elapsed() < LOOK_EVERY {
                self.look(Peers::cut_overdue);
            }
            due = Instant::now() + LOOK_EVERY;
        }
        loop {
            self.look(Peers::cut_done);
            tokio::time::sleep(LOOK_EVERY_AT_STOP).await;
        }
    }

    /// Looks at all connections. After a defect, which is in the log then, the next look comes when it is due.
    fn look(&self, look: impl FnOnce(&Peers)) {
        let _logged = defect::catch("a look at connections", || look(&self.shared.peers));
    }

    /// Cuts all connections.
    pub(crate) fn cut_all(&self) {
        self.shared.peers.cut_all();
    }
}
