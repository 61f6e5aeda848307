//! The port of the broker: bound by itself, or handed over by whoever started it.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be taken.
const ACCEPT_QUEUE: u32 = 1_024;

/// The variables by which systemd, and others like it, name the sockets that they hand over, and for whom.
const COUNT: &str = "LISTEN_FDS";
const PROCESS: &str = "LISTEN_PID";

/// The flag that names the port.
const FLAG: &str = "--listen";

/// A socket that listens already, because whoever started this process has opened it.
#[derive(Debug)]
pub(super) struct Handed {
    listener: StdListener,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Handed {
    /// The socket that is meant for this process; `None` if none is. The variables are removed.
    ///
    /// # Errors
    /// If what is handed over is not one socket that takes TCP connections.
    pub(super) fn take() -> anyhow::Result<Option<Self>> {
        // They are inherited by the children of those that they are meant for, which are not meant.
        let is_for_us = std::env::var(PROCESS).is_ok_and(|process| process == std::process::id().to_string());
        if !is_for_us || std::env::var_os(COUNT).is_none() {
            return Ok(None);
        }
        let mut handed = ListenFd::from_env();
        let listener = match handed.len() {
            1 => handed.take_tcp_listener(0),
            count => bail!("{COUNT} hands over {count} sockets; the broker listens on one"),
        };
        let unusable = || format!("the socket that {COUNT} hands over cannot be listened on");
        let listener = listener
            .and_then(|listener| listener.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .with_context(unusable)?;
        if !getsockopt(&listener, sockopt::AcceptConn).with_context(unusable)? {
            bail!("{}: it does not listen", unusable());
        }
        let address = listener.local_addr().with_context(unusable)?;
        Ok(Some(Self { listener, address }))
    }
}

/// A port that is taken, so that a second broker leaves the folder alone. Nobody is answered yet.
#[derive(Debug)]
pub(super) enum Port {
    Bound(TcpSocket, SocketAddr),
    Handed(Handed),
}

impl Port {
    /// Takes the port that was handed over, or else this address.
    pub(super) fn take(handed: Option<Handed>, address: SocketAddr) -> anyhow::Result<Self> {
        if let Some(handed) = handed {
            return Ok(Self::Handed(handed));
        }
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A broker that starts again need not wait for the last connections of the one before.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        let socket = bind().map_err(|error| cannot_listen(address, error, FLAG))?;
        Ok(Self::Bound(socket, address))
    }

    /// Listens.
    pub(super) fn listen(self) -> anyhow::Result<TcpListener> {
        let (listening, address) = match self {
            Self::Bound(socket, address) => (socket.listen(ACCEPT_QUEUE), address),
            Self::Handed(Handed { listener, address }) => {
                (listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)), address)
            }
        };
        listening.map_err(|error| cannot_listen(address, error, FLAG))
    }
}

/// Says which port cannot be listened on, and if it is taken, by which flag another is chosen.
pub(super) fn cannot_listen(address: SocketAddr, error: io::Error, flag: &str) -> anyhow::Error {
    let problem = format!("cannot listen on {address}");
    if error.kind() == io::ErrorKind::AddrInUse {
        anyhow::anyhow!("{problem}: the port is taken; choose another with {flag}")
    } else {
        anyhow::Error::new(error).context(problem)
    }
}
