//! Connections as they come in: as many as there may be, and each can be cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::peers::{Peer, Peers};
use crate::seldom::Seldom;
use crate::tls::{Socket, Tls};

/// How many bytes a connection has to send, within TLS if that is spoken, before it counts as one that speaks HTTP/2: the
/// preface, and the head of its first frame. Whether they are right is judged by who reads them.
const GREETING_BYTES: usize = 24 + 9;
/// How long nothing is taken in after the system could not give a connection: mostly it has no descriptors left, and would
/// say so again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections may be open beyond those that may be: they are cut, and not closed yet.
pub(super) const SURPLUS: usize = 16;

/// The connections that a listener takes in, until the broker stops and those have begun to speak that came last.
pub(super) fn connections(
    listener: TcpListener,
    peers: Arc<Peers>,
    tls: Option<Tls>,
    drain: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let state = (listener, Seldom::default());
    futures::stream::unfold(state, move |(listener, complaints)| {
        let (peers, tls, drain) = (Arc::clone(&peers), tls.clone(), drain.clone());
        async move {
            loop {
                let next = async {
                    peers.room(SURPLUS).await;
                    accepted(|| listener.accept(), &complaints).await
                };
                let Some((socket, address)) = drain.run_until_cancelled(next).await else {
                    peers.greeted().await;
                    return None;
                };
                let Some(peer) = peers.admit(address) else {
                    complaints.say(|left_out| {
                        tracing::warn!(
                            left_out,
                            "there are as many connections as there may be; new ones are closed"
                        );
                    });
                    continue;
                };
                // Small messages go out at once; where the option fails, they are only later.
                let _slower = socket.set_nodelay(true);
                let socket = Socket::new(socket, tls.as_ref().map(Tls::acceptor));
                let connection = Connection { socket, tls, peer, peers, unread: GREETING_BYTES };
                return Some((Ok(connection), (listener, complaints)));
            }
        }
    })
}

/// The next connection that the system gives. Where it gives none, it is asked again after a pause.
async fn accepted<T, A: Future<Output = io::Result<T>>>(accept: impl Fn() -> A, complaints: &Seldom) -> T {
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            // Gone before it was taken in.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                complaints.say(|left_out| tracing::warn!(%error, left_out, "no connection can be taken in"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A connection, which fails for who serves it when it is cut.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    /// By what it was taken in, and its certificate is judged.
    tls: Option<Tls>,
    peer: Arc<Peer>,
    peers: Arc<Peers>,
    /// How many bytes are missing of the first it has to say.
    unread: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peers.leave(self.peer.id);
    }
}

impl Connection {
    /// Its far end.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Fails if it is cut; otherwise it wakes whoever waits for it when it is.
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        self.peer.register(context.waker());
        match self.peer.is_cut() {
            Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
            None => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        if let Err(error) = ready!(Pin::new(&mut self.socket).poll_read(context, buffer)) {
            // Of those that have begun to speak, the library tells.
            if self.unread == GREETING_BYTES {
                tracing::debug!(peer = %self.peer.address, %error, "a connection came to nothing");
            }
            return Poll::Ready(Err(error));
        }
        if self.unread > 0 {
            if self.unread == GREETING_BYTES {
                self.peer.show(self.tls.as_ref().and_then(|tls| self.socket.certificate(tls)));
            }
            self.unread = self.unread.saturating_sub(buffer.filled().len() - before);
            if self.unread == 0 {
                self.peer.greet();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn the_system_is_asked_again_after_a_pause_only() {
        let asked = AtomicU32::new(0);
        let (began, complaints) = (Instant::now(), Seldom::default());
        let accept = || {
            std::future::ready(match asked.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(io::ErrorKind::ConnectionAborted.into()),
                2..7 => Err(io::Error::other("no descriptors are left")),
                n => Ok(n),
            })
        };
        let accepted = tokio::time::timeout(Duration::from_secs(60), accepted(accept, &complaints)).await;
        assert_eq!(accepted.unwrap(), 7);
        assert!(began.elapsed() >= 5 * PAUSE, "five failures took {:?}", began.elapsed());
    }
}
