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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::{Extensions, Response};
use http_body::Body as HttpBody;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::defect::{self, Defect};
use crate::tls::{ClientCertificate, Tls};
use budget::{Budget, Full, Taken};
use listener::{SURPLUS, connections};
use peers::{PeerId, Peers};

pub use descriptors::raise_descriptor_limit;
pub(crate) use descriptors::store_files;
pub(crate) use listener::Connection;
pub(crate) use peers::Peer;
pub(crate) use stack::Layers;

/// How often connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while the broker stops.
const LOOK_EVERY_AT_STOP: Duration = Duration::from_millis(100);

/// How many calls may be under way that anybody may make: of health. Those who look after a broker have few.
const OPEN_CALLS_MAX: usize = 256;

/// How many peers are cut at most for one that needs memory, and how long each may take to close.
const CUT_FOR_ONE_MAX: usize = 8;
const CLOSED_WITHIN: Duration = Duration::from_millis(10);

/// The far end of the connection that a request came on.
pub(crate) fn address_of(request: &Extensions) -> Option<SocketAddr> {
    request.get::<Arc<Peer>>().map(|peer| peer.address)
}

/// The certificate that the far end of the connection has shown on which a request came.
pub(crate) fn certificate_of(request: &Extensions) -> Option<&Arc<ClientCertificate>> {
    request.get::<Arc<Peer>>().and_then(|peer| peer.certificate())
}

/// How many bytes of requests have come on the connection that a request came on, as they come.
pub(crate) fn bytes_brought(request: &Extensions) -> Arc<AtomicU64> {
    request.get::<Arc<Peer>>().map(|peer| peer.brought()).unwrap_or_default()
}

/// The protocol that calls are made by, as far as the transport has to know it.
pub(crate) trait Protocol: Clone + Copy + std::fmt::Debug + Send + Sync + 'static {
    /// The body of a request or an answer.
    type Body: HttpBody<Data = Bytes, Error = Self::Error> + Send + Unpin + 'static;
    /// How it is told that a call came to nothing.
    type Error: Send + 'static;

    /// A body that passes another on.
    fn body(body: impl HttpBody<Data = Bytes, Error = Self::Error> + Send + 'static) -> Self::Body;

    /// The call, or the rest of its request, is not taken.
    fn refuse(refusal: Refusal) -> Self::Error;

    /// The broker failed.
    fn fail(defect: Defect) -> Self::Error;

    /// An answer that tells nothing else.
    fn answer(error: Self::Error) -> Response<Self::Body>;
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
    /// Those that anybody may make.
    open_calls: AtomicUsize,
    /// Of requests that have begun to come, until they are answered or passed on.
    receiving: Arc<Budget>,
    /// Of answers that are made and not taken.
    answers: Arc<Budget>,
}

impl Shared {
    /// How many calls are under way, and how many there may be.
    fn calls(&self, are_open: bool) -> (&AtomicUsize, usize) {
        if are_open { (&self.open_calls, OPEN_CALLS_MAX) } else { (&self.calls, self.calls_max) }
    }

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

/// How much is used of what there is: each with its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) connections: (u64, u64),
    pub(crate) calls: (u64, u64),
    /// In bytes.
    pub(crate) receiving: (u64, u64),
    /// In bytes.
    pub(crate) answers: (u64, u64),
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
            open_calls: AtomicUsize::new(0),
            calls_max: config.calls_max,
            receiving: Budget::new(config.receiving_bytes_max),
            answers: Budget::new(config.answers_bytes_max),
        };
        Self { shared: Arc::new(shared), streams_per_connection_max: config.calls_per_connection_max }
    }

    /// How much of it is used.
    pub(crate) fn usage(&self) -> Usage {
        let Shared { peers, calls, calls_max, open_calls: _, receiving, answers } = &*self.shared;
        Usage {
            connections: peers.usage(),
            calls: (calls.load(Ordering::Relaxed) as u64, *calls_max as u64),
            receiving: receiving.usage(),
            answers: answers.usage(),
        }
    }

    /// What every call passes through, as it is spoken by `P`.
    pub(crate) fn layers<P: Protocol>(&self) -> Layers<P> {
        stack::layers(Arc::clone(&self.shared))
    }

    /// How many calls there may be on one connection.
    pub(crate) fn streams_per_connection_max(&self) -> u32 {
        self.streams_per_connection_max
    }

    /// The connections that come to a listener, which speaks TLS if it is given, until the broker stops.
    pub(crate) fn connections(
        &self,
        listener: TcpListener,
        tls: Option<Tls>,
        drain: CancellationToken,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send + use<> {
        connections(listener, Arc::clone(&self.shared.peers), tls, drain)
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

    pub(crate) fn cut_all(&self) {
        self.shared.peers.cut_all();
    }
}
