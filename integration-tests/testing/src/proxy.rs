//! A proxy between elves and a broker whose connections a test can cut, or let lead nowhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes bytes on until it is told to cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// Counts the cuts: a connection lives as long as the number at its beginning holds.
    cuts: watch::Sender<u64>,
    /// Counts the times that what there was began to lead nowhere.
    holes: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Begins to listen.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(broker: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (cuts, _) = watch::channel(0);
        let (holes, _) = watch::channel(0);
        let accepted = Arc::new(AtomicU64::new(0));
        let accepting =
            tokio::spawn(accept(listener, broker, cuts.clone(), holes.clone(), Arc::clone(&accepted)));
        Ok(Self { address, cuts, holes, accepted, accepting })
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
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets all connections there are lead nowhere: they stay open, and nothing passes. New ones are passed on.
    pub fn black_hole(&self) {
        self.holes.send_modify(|holes| *holes += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    broker: SocketAddr,
    cuts: watch::Sender<u64>,
    holes: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
) {
    // A listener that fails ends the proxy, which its users see as a broker that is unavailable.
    while let Ok((mut near, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::SeqCst);
        let mut cut = cuts.subscribe();
        let mut hole = holes.subscribe();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(broker).await else { return };
            let passed_on = async {
                tokio::select! {
                    ended = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(ended),
                    _black = hole.changed() => std::future::pending().await,
                }
            };
            tokio::select! {
                // Either side may end the connection; whichever way it ends, both sockets are closed.
                () = passed_on => {}
                _cut = cut.changed() => {}
            }
        });
    }
}
