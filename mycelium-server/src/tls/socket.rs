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

use super::{ClientCertificate, HTTP_1_1, Tls};

/// What every TLS connection begins with: the head of a record of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What every connection of HTTP/2 begins with, as far as no method of HTTP/1.1 does.
const HTTP_2: &[u8] = b"PRI";
/// `handshake_failure`, as a fatal alert: what is said to one who speaks TLS where nobody does.
const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 40];
/// The same to one who speaks HTTP/2 in clear where TLS is spoken: an empty `SETTINGS`, and `GOAWAY` with
/// `INADEQUATE_SECURITY` and a text.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SPEAK_TLS: &str = "this port speaks TLS: use https://";
/// And to one who speaks HTTP/1.1, as browsers do.
const SPEAK_GRPC: &str = "this is a broker of Mycelium; it speaks gRPC, over HTTP/2";

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
        /// Which is open, with TLS or without.
        socket: Box<Self>,
        why: Misunderstood,
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
    #[error("the peer speaks HTTP/2 where TLS is spoken; it has to use https://")]
    PlainOnTls,
    #[error("the peer speaks HTTP/1.1 where TLS is spoken")]
    OldOnTls,
    #[error("the peer speaks TLS, and the broker has no certificate (--tls-cert); it has to use http://")]
    TlsOnPlain,
    #[error("the peer speaks HTTP/1.1, and no gRPC")]
    Old,
}

impl Misunderstood {
    /// What such a peer is told, in the language that it speaks.
    fn answer(self) -> Vec<u8> {
        match self {
            Self::PlainOnTls => go_away(),
            Self::OldOnTls => answer("400 Bad Request", SPEAK_TLS),
            Self::TlsOnPlain => ALERT.to_vec(),
            Self::Old => answer("505 HTTP Version Not Supported", SPEAK_GRPC),
        }
    }
}

impl Socket {
    pub(crate) fn new(socket: TcpStream, tls: Option<TlsAcceptor>) -> Self {
        Self::New(Some((socket, tls)))
    }

    fn refused(socket: Self, why: Misunderstood) -> Self {
        Self::Refused { socket: Box::new(socket), why, told: why.answer(), unread: UNREAD_BYTES_MAX }
    }

    /// One of which these are the first bytes.
    fn begun(socket: TcpStream, tls: Option<TlsAcceptor>, first: &[u8]) -> Self {
        let speaks_tls = first.first() == Some(&TLS_HANDSHAKE);
        // A method begins with a letter. Of what is neither, HTTP/2 finds out what is wrong.
        let is_old = first.first().is_some_and(u8::is_ascii_alphabetic) && !HTTP_2.starts_with(first);
        match tls {
            // Closed before it said anything: whoever reads finds that out.
            _ if first.is_empty() => Self::Plain(socket),
            Some(acceptor) if speaks_tls => Self::Handshake(Box::new(acceptor.accept(socket))),
            Some(_) if is_old => Self::refused(Self::Plain(socket), Misunderstood::OldOnTls),
            Some(_) => Self::refused(Self::Plain(socket), Misunderstood::PlainOnTls),
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
                Self::Refused { socket, why, told, unread } => {
                    let mut socket = Pin::new(&mut **socket);
                    let mut bytes = [0; 1_024];
                    let mut read = |mut socket: Pin<&mut Self>, context: &mut Context<'_>| {
                        let mut buffer = ReadBuf::new(&mut bytes);
                        let read = ready!(socket.as_mut().poll_read(context, &mut buffer));
                        Poll::Ready(read.map(|()| buffer.filled().len()))
                    };
                    // A client that is answered before it has asked takes that for nonsense.
                    if *unread == UNREAD_BYTES_MAX {
                        let heard = ready!(read(socket.as_mut(), context))?;
                        *unread -= heard.max(1);
                    }
                    while !told.is_empty() {
                        let written = ready!(socket.as_mut().poll_write(context, told))?;
                        told.drain(..written.max(1).min(told.len()));
                    }
                    ready!(socket.as_mut().poll_shutdown(context))?;
                    // With something unread, closing would take back what it was told before it has read that.
                    while *unread > 0 {
                        match ready!(read(socket.as_mut(), context))? {
                            0 => break,
                            read => *unread = unread.saturating_sub(read),
                        }
                    }
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *why)));
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
    [SETTINGS, &head, &last_stream, &inadequate_security, SPEAK_TLS.as_bytes()].concat()
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
            Self::Plain(socket) | Self::New(Some((socket, _))) => Pin::new(socket).poll_shutdown(context),
            Self::Refused { socket, .. } => Pin::new(&mut **socket).poll_shutdown(context),
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
