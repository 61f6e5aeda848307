//! What every call passes through, in one place: its span, its count, the bounds of its request and its answer, the
//! deadline of a read.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use tower::layer::util::{Identity, Stack};
use tower::{Layer, Service, ServiceBuilder};
use tracing::Instrument as _;

use super::answer::Answer;
use super::budget::Taken;
use super::call::Call;
use super::peers::Peer;
use super::request::{Incoming, Shape};
use super::{Protocol, Refusal, Shared, address_of};
use crate::defect;
use crate::reservation;

/// The most that the answer to a read may take, in bytes: gRPC's default limit. So much is taken for each before it is
/// worked on, which bounds how many are worked on at once, and what is not needed is given back with the answer.
const READ_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long a read may take, with the time that it waits.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How much earlier than its caller gives up a read ends: the library that serves it has a timer of its own for the same
/// moment, whose refusal has no reason.
const EARLIER: Duration = Duration::from_millis(5);

/// The layers around all services. What is to be asked of every call is added here.
pub(super) fn layers<P: Protocol>(shared: Arc<Shared>) -> Layers<P> {
    let calls = CallLayer { shared, protocol: PhantomData };
    ServiceBuilder::new().layer(SpanLayer).layer(calls).into_inner()
}

pub(crate) type Layers<P> = Stack<CallLayer<P>, Stack<SpanLayer, Identity>>;

type Answering<P> = Pin<Box<dyn Future<Output = Result<Response<<P as Protocol>::Body>, Infallible>> + Send>>;

/// How a call is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    request: Shape,
    is_read: bool,
    /// Whether anybody may make it, so that all of them together may take only little.
    is_open: bool,
}

/// Of calls that are not known here, those of a mycelium are reads, which are bounded most.
fn kind(path: &str) -> Kind {
    let is_read = match path.strip_prefix("/mycelium.v1.").and_then(|call| call.split_once('/')) {
        Some((_, "SubmitJobs" | "CancelJobs" | "RetryJobs")) => false,
        Some((_, "WatchJobs" | "ReadBlob" | "WriteBlob" | "Connect" | "Backup")) => false,
        Some(_) => true,
        // Health and reflection.
        None => false,
    };
    let request = match path {
        "/mycelium.v1.BlobService/WriteBlob" => Shape::Upload,
        "/mycelium.v1.ElfService/Connect" => Shape::Messages,
        reflection if reflection.starts_with("/grpc.reflection.") => Shape::Messages,
        _ => Shape::One,
    };
    Kind { request, is_read, is_open: path.starts_with("/grpc.health.") }
}

/// Gives each call a span, so that what is logged meanwhile names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanLayer;

impl<S> Layer<S> for SpanLayer {
    type Service = Spans<S>;

    fn layer(&self, inner: S) -> Spans<S> {
        Spans { inner }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Spans<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Spans<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = tracing::instrument::Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (peer, path) = (address_of(request.extensions()), request.uri().path());
        let span = tracing::debug_span!("call", path, peer = peer.map(tracing::field::display));
        self.inner.call(request).instrument(span)
    }
}

/// Bounds each call.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer<P> {
    shared: Arc<Shared>,
    protocol: PhantomData<P>,
}

impl<P, S> Layer<S> for CallLayer<P> {
    type Service = Calls<P, S>;

    fn layer(&self, inner: S) -> Calls<P, S> {
        Calls { inner, shared: Arc::clone(&self.shared), protocol: PhantomData }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Calls<P, S> {
    inner: S,
    shared: Arc<Shared>,
    protocol: PhantomData<P>,
}

impl<P, S> Service<Request<P::Body>> for Calls<P, S>
where
    P: Protocol,
    S: Service<Request<P::Body>, Response = Response<P::Body>, Error = Infallible, Future: Send + 'static>,
    S: Clone + Send + 'static,
{
    type Response = Response<P::Body>;
    type Error = Infallible;
    type Future = Answering<P>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<P::Body>) -> Answering<P> {
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            return refused::<P>(Refusal::NoPeer);
        };
        let Kind { request: shape, is_read, is_open } = kind(request.uri().path());
        let call = match Call::begin(&self.shared, peer, is_open) {
            Ok(call) => call,
            Err(refusal) => return refused::<P>(refusal),
        };
        let within = is_read.then(|| {
            asked_within(request.headers()).unwrap_or(READ_WITHIN).saturating_sub(EARLIER).min(READ_WITHIN)
        });
        if request.body().is_end_stream() {
            call.begin_work();
        }
        let request = request.map(|body| P::body(Incoming::<P>::new(body, Arc::clone(&call), shape)));
        // The one that is ready is the one that is called.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let answered = match within {
                Some(within) => read::<P, S>(inner, request, &call, within).await,
                None => {
                    let mut inner = inner;
                    Ok((answered::<P, S>(&mut inner, request).await, None))
                }
            };
            call.end_work();
            call.holds(None);
            Ok(match answered {
                Ok((response, reserved)) => {
                    response.map(|body| P::body(Answer::<P>::new(body, call, reserved)))
                }
                Err(refusal) => P::answer(P::refuse(refusal)),
            })
        })
    }
}

fn refused<P: Protocol>(refusal: Refusal) -> Answering<P> {
    Box::pin(async move { Ok(P::answer(P::refuse(refusal))) })
}

/// What the service answers. If it panics, its caller is told so, and nobody else notices.
async fn answered<P, S>(service: &mut S, request: Request<P::Body>) -> Response<P::Body>
where
    P: Protocol,
    S: Service<Request<P::Body>, Response = Response<P::Body>, Error = Infallible>,
{
    match defect::catch_async("a call", async { service.call(request).await }).await {
        Ok(Ok(response)) => response,
        Err(defect) => P::answer(P::fail(defect)),
    }
}

/// Answers a read, when there is room for its answer and in time.
async fn read<P, S>(
    mut inner: S,
    request: Request<P::Body>,
    call: &Arc<Call>,
    within: Duration,
) -> Result<(Response<P::Body>, Option<Taken>), Refusal>
where
    P: Protocol,
    S: Service<Request<P::Body>, Response = Response<P::Body>, Error = Infallible>,
{
    let read = async {
        let answers = Arc::clone(&call.shared.answers);
        let taken = Arc::clone(&call.shared).take(answers, call.peer.id, READ_ANSWER_BYTES).await;
        let taken = taken.map_err(|_full| Refusal::AnswersFull)?;
        let reserved = Arc::new(Mutex::new(Some(taken)));
        // Whoever reads for it where nobody can stop it holds this too.
        let answered = answered::<P, S>(&mut inner, request);
        let response = reservation::within(Arc::clone(&reserved) as _, answered).await;
        let taken = reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((response, taken))
    };
    tokio::time::timeout(within, read).await.unwrap_or(Err(Refusal::ReadTooLong))
}

/// How long the caller waits, if it says so: `grpc-timeout`, at most eight digits and a unit.
fn asked_within(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_streams_have_no_deadline_and_unknown_calls_are_bounded_as_reads() {
        let read = Kind { request: Shape::One, is_read: true, is_open: false };
        let change = Kind { is_read: false, ..read };
        for (path, expected) in [
            ("/mycelium.v1.MyceliumService/GetJob", read),
            ("/mycelium.v1.MyceliumService/SomethingNew", read),
            ("/mycelium.v1.BlobService/FindMissingBlobs", read),
            ("/mycelium.v1.MyceliumService/SubmitJobs", change),
            ("/mycelium.v1.MyceliumService/WatchJobs", change),
            ("/mycelium.v1.BlobService/ReadBlob", change),
            ("/mycelium.v1.StoreService/Backup", change),
            ("/mycelium.v1.BlobService/WriteBlob", Kind { request: Shape::Upload, ..change }),
            ("/mycelium.v1.ElfService/Connect", Kind { request: Shape::Messages, ..change }),
            ("/grpc.health.v1.Health/Check", Kind { is_open: true, ..change }),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
    }

    #[test]
    fn the_callers_deadline_is_read_as_grpc_writes_it() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            asked_within(&headers)
        };
        assert_eq!(asked("20S"), Some(Duration::from_secs(20)));
        assert_eq!(asked("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(asked("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for nonsense in ["", "S", "5", "123456789S", "-1S", "+1S", "1.5S", "5 S"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
        assert_eq!(asked_within(&HeaderMap::new()), None);
    }
}
