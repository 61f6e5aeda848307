//! Where and how to connect.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::credentials::{Authorization, Credentials};
use super::line::Line;
use super::secure::Secure;
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

/// Where a broker is, and what is shown to it. Cloning it is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    url: Arc<str>,
    endpoint: Endpoint,
    authorization: Arc<Authorization>,
    /// For a broker that speaks TLS.
    secure: Option<Arc<Secure>>,
}

impl Address {
    /// # Errors
    /// [`Error::InvalidUrl`]; [`Error::InvalidCredentials`] if a token would be sent where others can read it.
    pub(crate) fn new(url: &str, credentials: Credentials) -> Result<Self, Error> {
        let invalid = |source: SourceError| Error::InvalidUrl { url: url.to_owned(), source };
        let endpoint = Endpoint::from_shared(url.to_owned())
            .and_then(|endpoint| endpoint.user_agent(concat!("elf-runtime/", env!("CARGO_PKG_VERSION"))))
            .map_err(|_unparsable| invalid(Arc::new(UrlProblem::Unparsable)))?;
        let Place { is_secure, host, port } =
            Place::of(endpoint.uri()).map_err(|problem| invalid(Arc::new(problem)))?;
        credentials.check(is_secure || is_loopback(&host), url)?;
        let authorization = Arc::new(Authorization::new(credentials.token.clone()));
        let (endpoint, secure) = if is_secure {
            let uri = endpoint.uri().clone();
            let has_connected = AtomicBool::new(false);
            let secure =
                Secure { host, port, credentials, authorization: Arc::clone(&authorization), has_connected };
            // TLS is made beneath the transport, which is not to make it once more.
            let mut parts = uri.clone().into_parts();
            parts.scheme = Some(tonic::codegen::http::uri::Scheme::HTTP);
            let plain = Uri::from_parts(parts).map_err(|error| invalid(Arc::new(error)))?;
            (Endpoint::from(plain).origin(uri), Some(Arc::new(secure)))
        } else {
            (endpoint, None)
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(Self { url: Arc::from(url), endpoint, authorization, secure })
    }

    pub(crate) fn url(&self) -> &Arc<str> {
        &self.url
    }

    /// A line that connects when it is first used, and again after every cut. Must be called within a tokio runtime.
    pub(crate) fn line(&self) -> Line {
        self.line_of(&self.endpoint)
    }

    /// The same, for the stream of an elf.
    pub(super) fn elf_line(&self, connect_timeout: Duration) -> Line {
        self.authorization.read_again();
        self.line_of(&self.endpoint.clone().connect_timeout(connect_timeout))
    }

    /// The same, for bulk bytes: a connection of its own, so that calls and beats never wait behind them.
    pub(super) fn blob_line(&self) -> Line {
        let endpoint = self
            .endpoint
            .clone()
            .initial_stream_window_size(BLOB_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(BLOB_CONNECTION_WINDOW_BYTES)
            .max_frame_size(BLOB_FRAME_BYTES_MAX)
            .keep_alive_while_idle(false);
        self.line_of(&endpoint)
    }

    fn line_of(&self, endpoint: &Endpoint) -> Line {
        Line::new(self.channel(endpoint), Arc::clone(&self.authorization))
    }

    fn channel(&self, endpoint: &Endpoint) -> Channel {
        match &self.secure {
            None => endpoint.connect_lazy(),
            Some(secure) => {
                let secure = Arc::clone(secure);
                endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| Arc::clone(&secure).connect()))
            }
        }
    }
}

/// What is wrong with a URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UrlProblem {
    #[error("it cannot be read as a URL")]
    Unparsable,
    #[error("it does not begin with http:// or https://")]
    NoScheme,
    #[error("a broker speaks http:// or https://, not {0}://")]
    Scheme(String),
    #[error("it names no host")]
    NoHost,
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

/// What a URL says.
#[derive(Debug)]
struct Place {
    is_secure: bool,
    host: String,
    port: u16,
}

impl Place {
    /// Refuses what the transport would take and then ignore: it takes port 80 for a port that it cannot read.
    fn of(uri: &Uri) -> Result<Self, UrlProblem> {
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(UrlProblem::Scheme(other.to_owned())),
            None => return Err(UrlProblem::NoScheme),
        };
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return Err(UrlProblem::NoHost);
        };
        let says_port = authority.as_str().len()
            > authority.as_str().rfind(authority.host()).unwrap_or_default() + authority.host().len();
        if says_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(UrlProblem::Port);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { is_secure, host, port })
    }
}

/// Whether what is sent there stays on this machine.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, Error> {
        Address::new(url, Credentials::default())
    }

    #[test]
    fn urls_of_brokers_are_taken() {
        for url in [
            "http://127.0.0.1:7420",
            "https://broker.example",
            "http://localhost",
            "HTTP://[::1]:1/",
            "http://broker.example:65535",
        ] {
            assert!(address(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_a_broker_does_not_speak_is_refused_with_the_reason() {
        for (url, expected) in [
            ("https://broker.example:0", UrlProblem::Port),
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
            let Err(Error::InvalidUrl { url: named, source }) = address(url) else {
                panic!("`{url}` is taken")
            };
            assert_eq!((named.as_str(), source.to_string()), (url, expected.to_string()));
        }
    }
}
