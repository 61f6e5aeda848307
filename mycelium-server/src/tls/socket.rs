//! A connection with or without TLS. The handshake is made by whoever reads it first, so that nobody waits for another's.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::{ClientCertificate, HTTP_1_1, Tls};

/// What every TLS connection begins with: the head of a record of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What every connection of HTTP/2 begins with, as far as no method of HTTP/1.1 does.
const HTTP_2: &[u8] = b"PRI";
/// `handshake_failure`, as a fatal alert: what is said to one who speaks TLS where nobody does.
const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 40];
/// The same to one who speaks HTTP/2 in clear where TLS is spoken: an empty `SETTINGS`, and after its request `GOAWAY` with
/// `INADEQUATE_SECURITY` and a text.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SPEAK_TLS: &str = "this port speaks TLS: use https://";
/// And to one who speaks HTTP/1.1, as browsers do.
const SPEAK_GRPC: &str = "this is a broker of Mycelium; it speaks gRPC, over HTTP/2";

/// The most that is read of one who is told to go, in bytes.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;
/// How many bytes HTTP/2 begins with, and each of its frames; and of which kind those are in which requests begin.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;

/// A connection.
pub(crate) enum Socket {
    /// Nothing has been read yet.
    New(Option<(TcpStream, Option<TlsAcceptor>)>),
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    /// It speaks something else, and is told so.
    Refused(Pin<Box<dyn Future<Output = io::Error> + Send>>),
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New",
            Self::Plain(_) => "Plain",
            Self::Handshake(_) => "Handshake",
            Self::Tls(_) => "Tls",
            Self::Refused(_) => "Refused",
        })
    }
}

/// Why a connection came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misunderstood {
    #[error("the peer speaks HTTP/2 where TLS is spoken; it has to use https://")]
    PlainOnTls,
    #[error("the peer speaks HTTP/1.1 where TLS is spoken")]
    OldOnTls,
    #[error("the peer speaks TLS, and the broker has no certificate (--tls-cert); it has to use http://")]
    TlsOnPlain,
    #[error("the peer speaks HTTP/1.1, and no gRPC")]
    Old,
}

/// Tells a peer, in the language that it speaks, and gives why.
async fn refuse(mut socket: Socket, why: Misunderstood) -> io::Error {
    match tell(&mut socket, why).await {
        Ok(()) => io::Error::new(io::ErrorKind::InvalidData, why),
        Err(error) => error,
    }
}

/// A client that is answered before it has asked takes that for nonsense, or for a connection that was closed.
async fn tell(socket: &mut Socket, why: Misunderstood) -> io::Result<()> {
    let mut from = socket.take(UNREAD_BYTES_MAX);
    if why == Misunderstood::PlainOnTls {
        // Some wait for them before they ask.
        from.get_mut().write_all(SETTINGS).await?;
        until_asked(&mut from).await?;
    } else {
        from.read_u8().await?;
    }
    let told = match why {
        Misunderstood::PlainOnTls => go_away(),
        Misunderstood::OldOnTls => answer("400 Bad Request", SPEAK_TLS),
        Misunderstood::TlsOnPlain => ALERT.to_vec(),
        Misunderstood::Old => answer("505 HTTP Version Not Supported", SPEAK_GRPC),
    };
    from.get_mut().write_all(&told).await?;
    from.get_mut().shutdown().await?;
    // With something unread, closing would take back what it was told before it has read that.
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads HTTP/2 until the first request begins.
async fn until_asked(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    from.read_exact(&mut [0; PREFACE_BYTES]).await?;
    loop {
        // Three bytes of its length, and its kind.
        let mut head = [0; FRAME_HEAD_BYTES];
        from.read_exact(&mut head).await?;
        if head[3] == HEADERS {
            return Ok(());
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        tokio::io::copy(&mut (&mut *from).take(length.into()), &mut tokio::io::sink()).await?;
    }
}

impl Socket {
    pub(crate) fn new(socket: TcpStream, tls: Option<TlsAcceptor>) -> Self {
        Self::New(Some((socket, tls)))
    }

    fn refused(socket: Self, why: Misunderstood) -> Self {
        Self::Refused(Box::pin(refuse(socket, why)))
    }

    /// One of which these are the first bytes.
    fn begun(socket: TcpStream, tls: Option<TlsAcceptor>, first: &[u8]) -> Self {
        let speaks_tls = first.first() == Some(&TLS_HANDSHAKE);
        let is_new = HTTP_2.starts_with(first);
        // A method begins with a letter. Of what is neither, HTTP/2 finds out what is wrong.
        let is_old = first.first().is_some_and(u8::is_ascii_alphabetic) && !is_new;
        match tls {
            // Closed before it said anything: whoever reads finds that out.
            _ if first.is_empty() => Self::Plain(socket),
            Some(acceptor) if speaks_tls => Self::Handshake(Box::new(acceptor.accept(socket))),
            Some(_) if is_new => Self::refused(Self::Plain(socket), Misunderstood::PlainOnTls),
            Some(_) => Self::refused(Self::Plain(socket), Misunderstood::OldOnTls),
            None if speaks_tls => Self::refused(Self::Plain(socket), Misunderstood::TlsOnPlain),
            None if is_old => Self::refused(Self::Plain(socket), Misunderstood::Old),
            None => Self::Plain(socket),
        }
    }

    /// The certificate that the other side has shown, if it has.
    pub(crate) fn certificate(&self, tls: &Tls) -> Option<Arc<ClientCertificate>> {
        let Self::Tls(stream) = self else { return None };
        ClientCertificate::read(stream.get_ref().1.peer_certificates()?, tls).map(Arc::new)
    }

    /// Goes on until bytes can pass.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Plain(_) | Self::Tls(_) => return Poll::Ready(Ok(())),
                Self::New(new) => {
                    let Some((socket, _)) = new else {
                        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                    };
                    let mut first = [0; HTTP_2.len()];
                    let mut buffer = ReadBuf::new(&mut first);
                    ready!(socket.poll_peek(context, &mut buffer))?;
                    let Some((socket, tls)) = new.take() else { continue };
                    *self = Self::begun(socket, tls, buffer.filled());
                }
                Self::Handshake(accept) => {
                    let stream = Box::new(ready!(Pin::new(&mut **accept).poll(context))?);
                    let is_old = stream.get_ref().1.alpn_protocol() == Some(HTTP_1_1);
                    let stream = Self::Tls(stream);
                    *self = if is_old { Self::refused(stream, Misunderstood::Old) } else { stream };
                }
                Self::Refused(refusing) => {
                    let why = ready!(refusing.as_mut().poll(context));
                    // Nobody is told twice.
                    *self = Self::New(None);
                    return Poll::Ready(Err(why));
                }
            }
        }
    }
}

/// An answer in HTTP/1.1, after which the connection is closed.
fn answer(status: &str, text: &str) -> Vec<u8> {
    let length = text.len() + 1;
    let head = format!("content-type: text/plain\r\ncontent-length: {length}\r\nconnection: close");
    format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{text}\n").into_bytes()
}

fn go_away() -> Vec<u8> {
    let length = u8::try_from(8 + SPEAK_TLS.len()).unwrap_or(u8::MAX);
    let head = [0, 0, length, 7, 0, 0, 0, 0, 0];
    let (last_stream, inadequate_security) = ([0; 4], [0, 0, 0, 0xc]);
    [&head[..], &last_stream, &inadequate_security, SPEAK_TLS.as_bytes()].concat()
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
            Self::New(_) | Self::Handshake(_) | Self::Refused(_) => Poll::Pending,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
            Self::New(_) | Self::Handshake(_) | Self::Refused(_) => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
            // Nothing has been written.
            Self::New(_) | Self::Handshake(_) | Self::Refused(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) | Self::New(Some((socket, _))) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            // Whoever is refused is told first, by who reads.
            Self::New(None) | Self::Handshake(_) | Self::Refused(_) => Poll::Ready(Ok(())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Before it is known which, hyper asks once for all: TLS gains nothing from it, and takes it.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, slices),
            Self::New(_) | Self::Handshake(_) | Self::Refused(_) => Poll::Pending,
        }
    }
}
