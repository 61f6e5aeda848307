//! Where and how to connect.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, SourceError};

/// How long the connection itself may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much may be on its way on one stream, and on all of a connection together, in bytes: enough that a stream of
/// large messages does not wait for the other side's permission after each.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The same on the connection of blobs. Many chunks fit, and what a slow reader leaves lying there stays small.
const BLOB_STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const BLOB_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The largest HTTP/2 frame that the connection of blobs takes, in bytes: a chunk of a blob is one, instead of many that
/// each cost a call to the system on both sides.
const BLOB_FRAME_BYTES_MAX: u32 = 128 * 1024;
/// After how long without traffic a keep-alive ping is sent, and how long the other side has to answer it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoint of a broker at this URL.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let invalid = |source: SourceError| Error::InvalidUrl { url: url.to_owned(), source };
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("elf-runtime/", env!("CARGO_PKG_VERSION"))))
        .map_err(|_unparsable| invalid(Arc::new(UrlProblem::Unparsable)))?;
    check(&endpoint).map_err(|problem| invalid(Arc::new(problem)))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// What is wrong with a URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UrlProblem {
    #[error("it cannot be read as a URL")]
    Unparsable,
    #[error("it does not begin with http://")]
    NoScheme,
    #[error("TLS is not supported yet, only http://")]
    Tls,
    #[error("a broker speaks http://, not {0}://")]
    Scheme(String),
    #[error("it names no host")]
    NoHost,
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

/// Refuses what the transport would take and then ignore: it speaks plain HTTP/2 whatever the scheme says, which must
/// not happen to somebody who asked for TLS, and takes port 80 for a port that it cannot read.
fn check(endpoint: &Endpoint) -> Result<(), UrlProblem> {
    let uri = endpoint.uri();
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(UrlProblem::Tls),
        Some(other) => return Err(UrlProblem::Scheme(other.to_owned())),
        None => return Err(UrlProblem::NoScheme),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(UrlProblem::NoHost);
    };
    let says_port = authority.as_str().len()
        > authority.as_str().rfind(authority.host()).unwrap_or_default() + authority.host().len();
    if says_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(UrlProblem::Port);
    }
    Ok(())
}

/// A channel that connects when it is first used, and again after every cut.
pub(super) fn lazy_channel(url: &str) -> Result<Channel, Error> {
    Ok(endpoint(url)?.connect_lazy())
}

/// A channel for bulk bytes: a connection of its own, so that calls and beats never wait behind them.
pub(super) fn blob_channel(url: &str) -> Result<Channel, Error> {
    Ok(endpoint(url)?
        .initial_stream_window_size(BLOB_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(BLOB_CONNECTION_WINDOW_BYTES)
        .max_frame_size(BLOB_FRAME_BYTES_MAX)
        .keep_alive_while_idle(false)
        .connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_brokers_are_taken() {
        for url in
            ["http://127.0.0.1:7420", "http://localhost", "HTTP://[::1]:1/", "http://broker.example:65535"]
        {
            assert!(endpoint(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_a_broker_does_not_speak_is_refused_with_the_reason() {
        for (url, expected) in [
            ("https://127.0.0.1:7420", UrlProblem::Tls),
            ("ftp://127.0.0.1:7420", UrlProblem::Scheme("ftp".to_owned())),
            ("127.0.0.1:7420", UrlProblem::NoScheme),
            ("nonsense", UrlProblem::NoScheme),
            ("", UrlProblem::Unparsable),
            ("not a url", UrlProblem::Unparsable),
            ("http://127.0.0.1:99999", UrlProblem::Port),
            ("http://127.0.0.1:0", UrlProblem::Port),
            ("http://127.0.0.1:", UrlProblem::Port),
            ("http://:7420", UrlProblem::NoHost),
        ] {
            let Err(Error::InvalidUrl { url: named, source }) = endpoint(url) else {
                panic!("`{url}` is taken")
            };
            assert_eq!((named.as_str(), source.to_string()), (url, expected.to_string()));
        }
    }
}
