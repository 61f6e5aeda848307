//! The connection below the calls.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::Error;

/// How long the connection itself may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much may be on its way on one stream, and on all of a connection together, in bytes: enough that a stream of
/// large messages does not wait for the other side's permission after each.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// After how long without traffic the other side is asked whether it is there, and how long it has to answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where and how to connect.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("elf-runtime/", env!("CARGO_PKG_VERSION"))))
        .map_err(|source| Error::InvalidUrl { url: url.to_owned(), source: Arc::new(source) })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Sets the limits of the contract on a generated client, which knows smaller ones by itself.
macro_rules! with_limits {
    ($client:expr) => {
        $client
            .max_decoding_message_size(mycelium_proto::limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(mycelium_proto::limits::MESSAGE_BYTES_MAX)
    };
}
pub(crate) use with_limits;

/// A channel that connects when it is first used, and again after every cut.
pub(crate) fn lazy_channel(url: &str) -> Result<Channel, Error> {
    Ok(endpoint(url)?.connect_lazy())
}
