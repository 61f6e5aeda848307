//! A proxy between elves and a broker whose connections a test can cut, or let lead nowhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes bytes on until it is told to cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    switches: Switches,
    accepted: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

/// What becomes of connections. A connection lives, and a direction of it leads somewhere, as long as the number at its
/// beginning holds.
#[derive(Debug, Clone)]
struct Switches {
    cuts: watch::Sender<u64>,
    holes_to_elves: watch::Sender<u64>,
    holes_to_broker: watch::Sender<u64>,
    /// Whether new connections are cut at once.
    is_away: watch::Sender<bool>,
}

/// A direction in which bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the broker to elves.
    ToElves,
    /// From elves to the broker.
    ToBroker,
}

impl Proxy {
    /// Begins to listen.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(broker: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let switches = Switches {
            cuts: watch::Sender::new(0),
            holes_to_elves: watch::Sender::new(0),
            holes_to_broker: watch::Sender::new(0),
            is_away: watch::Sender::new(false),
        };
        let accepted = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, broker, switches.clone(), Arc::clone(&accepted)));
        Ok(Self { address, switches, accepted, accepting })
    }

    /// The URL to give to elves in place of the broker's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Cuts all connections there are. New ones are passed on again.
    pub fn cut(&self) {
        self.switches.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all connections there are, and new ones at once, until it is told to [come back](Self::come_back).
    pub fn go_away(&self) {
        self.switches.is_away.send_replace(true);
        self.cut();
    }

    /// Passes new connections on again.
    pub fn come_back(&self) {
        self.switches.is_away.send_replace(false);
    }

    /// Lets all connections there are lead nowhere: they stay open, and nothing passes. New ones are passed on.
    pub fn black_hole(&self) {
        self.black_hole_of(Direction::ToElves);
        self.black_hole_of(Direction::ToBroker);
    }

    /// As [`black_hole`](Self::black_hole), in one direction; in the other, bytes go on.
    pub fn black_hole_of(&self, direction: Direction) {
        let holes = match direction {
            Direction::ToElves => &self.switches.holes_to_elves,
            Direction::ToBroker => &self.switches.holes_to_broker,
        };
        holes.send_modify(|holes| *holes += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, broker: SocketAddr, switches: Switches, accepted: Arc<AtomicU64>) {
    // A listener that fails ends the proxy, which its users see as a broker that is unavailable.
    while let Ok((mut near, _)) = listener.accept().await {
        if *switches.is_away.borrow() {
            continue;
        }
        accepted.fetch_add(1, Ordering::SeqCst);
        let mut cut = switches.cuts.subscribe();
        let (to_elves, to_broker) =
            (switches.holes_to_elves.subscribe(), switches.holes_to_broker.subscribe());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(broker).await else { return };
            let (near_read, near_write) = near.split();
            let (far_read, far_write) = far.split();
            let passed_on = async {
                tokio::join!(
                    pass_on(near_read, far_write, to_broker),
                    pass_on(far_read, near_write, to_elves)
                )
            };
            tokio::select! {
                // Either side may end the connection; whichever way it ends, both sockets are closed.
                _ended = passed_on => {}
                _cut = cut.changed() => {}
            }
        });
    }
}

/// Passes bytes on until there are no more, and then passes on that. Once there is a hole, nothing is passed on, not even
/// that.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut hole: watch::Receiver<u64>,
) {
    tokio::select! {
        _ended = tokio::io::copy(&mut from, &mut to) => {
            // Whoever has gone need not be told.
            let _gone = to.shutdown().await;
        }
        _black = hole.changed() => std::future::pending().await,
    }
}
