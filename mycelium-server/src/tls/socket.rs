//! A connection with or without TLS. The handshake is made by whoever reads it first, so that nobody waits for another's.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::ClientCertificate;

/// What every TLS connection begins with: the head of a record of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// `handshake_failure`, as a fatal alert: what is said to one who speaks TLS where nobody does.
const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 40];
/// The same to one who speaks HTTP/2 in clear where TLS is spoken: an empty `SETTINGS`, and `GOAWAY` with
/// `INADEQUATE_SECURITY` and a text.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SPEAK_TLS: &[u8] = b"this port speaks TLS: use https://";
/// And to one who speaks HTTP/1.1.
const SPEAK_TLS_1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 35\r\nconnection: close\r\n\r\n\
    this port speaks TLS: use https://\n";

/// How many bytes are read of one who is told to go.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// A connection.
pub(crate) enum Socket {
    /// Nothing has been read yet.
    New(Option<(TcpStream, Option<TlsAcceptor>)>),
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    /// It speaks something else: what it is told is still to be written.
    Refused {
        socket: TcpStream,
        told: Vec<u8>,
        /// So many bytes are read of what it may still send.
        unread: usize,
    },
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New",
            Self::Plain(_) => "Plain",
            Self::Handshake(_) => "Handshake",
            Self::Tls(_) => "Tls",
            Self::Refused { .. } => "Refused",
        })
    }
}

/// Why a connection came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misunderstood {
    #[error("the peer speaks HTTP where TLS is spoken; it has to use https://")]
    PlainOnTls,
    #[error("the peer speaks TLS, and the broker has no certificate (--tls-cert); it has to use http://")]
    TlsOnPlain,
}

impl Socket {
    pub(crate) fn new(socket: TcpStream, tls: Option<TlsAcceptor>) -> Self {
        Self::New(Some((socket, tls)))
    }

    fn refused(socket: TcpStream, told: Vec<u8>) -> Self {
        Self::Refused { socket, told, unread: UNREAD_BYTES_MAX }
    }

    /// The certificate that the other side has shown, if it has.
    pub(crate) fn certificate(&self) -> Option<Arc<ClientCertificate>> {
        let Self::Tls(stream) = self else { return None };
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        ClientCertificate::read(shown).map(Arc::new)
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
                    let mut first = [0; 1];
                    let mut buffer = ReadBuf::new(&mut first);
                    let seen = ready!(socket.poll_peek(context, &mut buffer))?;
                    let Some((socket, tls)) = new.take() else { continue };
                    let speaks_tls = seen > 0 && first[0] == TLS_HANDSHAKE;
                    *self = match tls {
                        // Closed before it said anything: whoever reads finds that out.
                        _ if seen == 0 => Self::Plain(socket),
                        Some(acceptor) if speaks_tls => Self::Handshake(Box::new(acceptor.accept(socket))),
                        Some(_) => {
                            let told = if first[0] == b'P' { go_away() } else { SPEAK_TLS_1.to_vec() };
                            Self::refused(socket, told)
                        }
                        None if speaks_tls => Self::refused(socket, ALERT.to_vec()),
                        None => Self::Plain(socket),
                    };
                }
                Self::Handshake(accept) => {
                    let stream = ready!(Pin::new(&mut **accept).poll(context))?;
                    *self = Self::Tls(Box::new(stream));
                }
                Self::Refused { socket, told, unread } => {
                    let why = if told.first() == ALERT.first() {
                        Misunderstood::TlsOnPlain
                    } else {
                        Misunderstood::PlainOnTls
                    };
                    while !told.is_empty() {
                        let written = ready!(Pin::new(&mut *socket).poll_write(context, told))?;
                        told.drain(..written.max(1).min(told.len()));
                    }
                    ready!(Pin::new(&mut *socket).poll_shutdown(context))?;
                    // With something unread, closing would take back what it was told before it has read that.
                    let mut bytes = [0; 1_024];
                    while *unread > 0 {
                        let mut buffer = ReadBuf::new(&mut bytes);
                        ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
                        match buffer.filled().len() {
                            0 => break,
                            read => *unread = unread.saturating_sub(read),
                        }
                    }
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
            }
        }
    }
}

fn go_away() -> Vec<u8> {
    let length = u8::try_from(8 + SPEAK_TLS.len()).unwrap_or(u8::MAX);
    let head = [0, 0, length, 7, 0, 0, 0, 0, 0];
    let (last_stream, inadequate_security) = ([0; 4], [0, 0, 0, 0xc]);
    [SETTINGS, &head, &last_stream, &inadequate_security, SPEAK_TLS].concat()
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
            Self::New(_) | Self::Handshake(_) | Self::Refused { .. } => Poll::Pending,
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
            Self::New(_) | Self::Handshake(_) | Self::Refused { .. } => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
            // Nothing has been written.
            Self::New(_) | Self::Handshake(_) | Self::Refused { .. } => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) | Self::Refused { socket, .. } | Self::New(Some((socket, _))) => {
                Pin::new(socket).poll_shutdown(context)
            }
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            Self::New(None) | Self::Handshake(_) => Poll::Ready(Ok(())),
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
            Self::New(_) | Self::Handshake(_) | Self::Refused { .. } => Poll::Pending,
        }
    }
}
