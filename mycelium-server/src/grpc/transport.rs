//! How gRPC is spoken over the transport.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::layer::util::{Identity, Stack};
use tower::util::MapResponseLayer;

use super::status::{failed, refuse, refused_for};
use crate::defect::Defect;
use crate::metrics::Switch;
use crate::transport::{Connection, Layers, Peer, Protocol, Refusal, Transport};

/// How much a peer may send on one stream before it has to wait.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How much a peer may send on one connection before it has to wait.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The largest HTTP/2 frame that is taken, in bytes: a chunk of a blob is one, instead of many that each cost a call to the
/// system on both sides.
const FRAME_BYTES_MAX: u32 = 128 * 1024;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// gRPC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grpc;

impl Protocol for Grpc {
    type Body = Body;
    type Error = Status;

    fn body(body: impl HttpBody<Data = Bytes, Error = Status> + Send + 'static) -> Body {
        Body::new(body)
    }

    fn refuse(refusal: Refusal) -> Status {
        refuse(refusal)
    }

    fn fail(defect: Defect) -> Status {
        failed(defect)
    }

    fn answer(error: Status) -> Response<Body> {
        error.into_http()
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(self.peer())
    }
}

/// What every call passes through, and what counts those that are refused.
type Around<F> = Stack<Layers<Grpc>, Stack<MapResponseLayer<F>, Identity>>;

/// A server without services, with everything around them.
pub(crate) fn server(
    transport: &Transport,
    counted: &Switch,
) -> Server<Around<impl Fn(Response<Body>) -> Response<Body> + Clone + use<>>> {
    let counted = counted.clone();
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_concurrent_streams(transport.streams_per_connection_max())
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(MapResponseLayer::new(move |answer| {
            if let Some(metrics) = counted.on()
                && let Some(reason) = refused_for(&answer)
            {
                metrics.refused(&reason);
            }
            answer
        }))
        .layer(transport.layers())
}
