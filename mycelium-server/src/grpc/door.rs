//! The door that every call goes through: who calls, and whether such a call is open to it.
//!
//! What the door cannot know, since it is said in messages, is held against the [`Pass`] that it leaves with the request:
//! which mycelium, which elves. Without that pass no service gets at anything.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use crate::access::{Access, Hosts, Lost, Pass, Stranger, need};
use crate::audit::{Audit, Entry};
use crate::error::Error;
use crate::seldom::Seldom;
use crate::transport::{address_of, certificate_of};

/// The door of a broker.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    access: Access,
    /// None where callers say who they are: a page in a browser cannot.
    hosts: Option<Hosts>,
    /// How long streams go on whose callers may no longer have them.
    grace: Duration,
    audit: Audit,
    strangers: Arc<Seldom>,
}

impl Door {
    /// `is_loopback`: the broker is reached from its own machine alone.
    pub(crate) fn new(access: Access, audit: Audit, is_loopback: bool, grace: Duration) -> Self {
        let hosts = (!access.asks()).then(|| Hosts::new(is_loopback, access.allowed_hosts()));
        Self { access, hosts, grace, audit, strangers: Arc::default() }
    }

    /// Lets a call in.
    fn admit<B>(&self, request: &Request<B>) -> Result<Arc<Pass>, Error> {
        if let Some(hosts) = &self.hosts {
            hosts.check(request.uri(), request.headers())?;
        }
        // A call that is not known is nobody's. Who is not let in is not told which there are.
        let known = need(request.uri().path());
        if let Some((call, need)) = known
            && need.is_open()
        {
            return Ok(Arc::new(Pass::open(&self.access, call, need)));
        }
        let shown = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let caller = match self.access.judge(shown, certificate_of(request.extensions())) {
            Ok(caller) => caller,
            Err(Stranger::ShowsNothing) => return Err(Error::CredentialsMissing),
            Err(Stranger::Refused(why)) => {
                let peer = address_of(request.extensions());
                self.strangers.say(|left_out| {
                    tracing::warn!(?peer, why, left_out, "a caller is not let in");
                });
                return Err(Error::CredentialsRefused);
            }
        };
        let Some((call, need)) = known else { return Err(Error::UnknownCall) };
        let pass = Pass::new(caller, call, need);
        match pass.may_begin() {
            Ok(()) => Ok(Arc::new(pass)),
            Err(error) => {
                self.note(&pass, address_of(request.extensions()), error.reason());
                Err(error)
            }
        }
    }

    /// Keeps an entry for a call that changes something.
    fn note(&self, pass: &Pass, peer: Option<SocketAddr>, result: &str) {
        if !pass.need().changes {
            return;
        }
        let entry = Entry {
            number: 0,
            at_ms: Entry::now(),
            caller: pass.caller().name().as_ref().to_owned(),
            peer,
            call: pass.call().to_owned(),
            mycelium: pass.mycelium().map(str::to_owned),
            count: pass.count(),
            result: result.to_owned(),
        };
        self.audit.record(entry, self.access.asks());
    }
}

/// What the call that a request belongs to may do.
///
/// # Errors
/// If it came past the door, which nothing does.
pub(crate) fn pass_of(request: &Extensions) -> Result<&Arc<Pass>, Error> {
    request.get::<Arc<Pass>>().ok_or(Error::NotPermitted)
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, door: self.clone() }
    }
}

/// Services behind the door.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    door: Door,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        let pass = match self.door.admit(&request) {
            Ok(pass) => pass,
            Err(error) => {
                let refused = Status::from(error).into_http();
                return Box::pin(async move { Ok(refused) });
            }
        };
        request.extensions_mut().insert(Arc::clone(&pass));
        let door = self.door.clone();
        let (asks, grace, peer) = (door.access.asks(), door.grace, address_of(request.extensions()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if pass.need().changes {
                door.note(&pass, peer, &result_of(&response));
            }
            // Streams of elves end in order, by themselves.
            Ok(if asks && pass.need().streams && !pass.need().ends_itself {
                response.map(|body| Body::new(Ending::new(body, pass, grace)))
            } else {
                response
            })
        })
    }
}

/// `OK`, or why a call was refused.
fn result_of(response: &Response<Body>) -> String {
    match Status::from_header_map(response.headers()) {
        None => "OK".to_owned(),
        Some(status) => match status.get_details_error_info() {
            Some(info) => info.reason,
            None => format!("{:?}", status.code()),
        },
    }
}

/// The body of a stream, which ends when its caller may no longer have it.
struct Ending {
    body: Body,
    lost: Pin<Box<dyn Future<Output = Lost> + Send>>,
    has_ended: bool,
}

impl Ending {
    fn new(body: Body, pass: Arc<Pass>, grace: Duration) -> Self {
        let lost = Box::pin(async move { pass.lost_as_before(grace).await });
        Self { body, lost, has_ended: false }
    }
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(lost) = self.lost.as_mut().poll(context) {
            self.has_ended = true;
            let (parts, _empty) = Status::from(Error::from(lost)).into_http::<Body>().into_parts();
            return Poll::Ready(Some(Ok(Frame::trailers(parts.headers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_ended { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}
