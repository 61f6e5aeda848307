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
use http::{Extensions, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mycelium_proto::reason;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::status::is_failure;
use crate::access::{Access, Hosts, Lost, Pass, Stranger, need};
use crate::audit::{Audit, Entry, Kind};
use crate::error::Error;
use crate::trace;
use crate::transport::{address_of, certificate_of};

/// The result in the audit of a call whose caller has not waited for the answer.
const GONE: &str = "CALLER_GONE";
/// How the type of the content of every call of gRPC begins. Pages of other origins cannot send it without asking first.
const GRPC: &[u8] = b"application/grpc";

/// The door of a broker.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    access: Access,
    hosts: Hosts,
    /// How long streams go on whose callers may no longer have them.
    grace: Duration,
    audit: Audit,
}

impl Door {
    /// `is_loopback`: the broker is reached from its own machine alone.
    pub(crate) fn new(access: Access, audit: Audit, is_loopback: bool, grace: Duration) -> Self {
        // Where callers say who they are, it may be called by any name; but browsers show certificates of clients by themselves.
        let hosts =
            if access.asks() { Hosts::any() } else { Hosts::new(is_loopback, access.allowed_hosts()) };
        Self { access, hosts, grace, audit }
    }

    /// Lets a call in.
    fn admit<B>(&self, request: &Request<B>) -> Result<Arc<Pass>, Error> {
        self.hosts.check(request.uri(), request.headers())?;
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
                tracing::warn!(peer = peer.map(tracing::field::display), why, "a caller is not let in");
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
        if !pass.need().changes || pass.only_asks() {
            return;
        }
        let kind = match result {
            reason::NOT_PERMITTED => Kind::Refused,
            _ if pass.is_steering() => Kind::Steering,
            _ => Kind::Routine,
        };
        let entry = Entry {
            number: 0,
            at_ms: Entry::now(),
            caller: pass.caller().name().as_ref().to_owned(),
            peer,
            call: pass.call().to_owned(),
            mycelium: pass.mycelium().map(str::to_owned),
            about: pass.about().to_owned(),
            count: pass.count(),
            result: result.to_owned(),
        };
        self.audit.record(kind, entry, self.access.asks());
    }
}

/// A call under way, of which an entry is kept when it is answered, and also if its caller goes before: what it does may be
/// done all the same.
struct Noting {
    door: Door,
    pass: Arc<Pass>,
    peer: Option<SocketAddr>,
    is_noted: bool,
}

impl Noting {
    fn answered(mut self, response: &Response<Body>) {
        self.is_noted = true;
        let span = self.pass.span();
        match Status::from_header_map(response.headers()) {
            Some(status) => trace::answered(&span, status.code().into(), is_failure(status.code())),
            // How a stream ends is not known yet.
            None if self.pass.need().streams => {}
            None => trace::answered(&span, Code::Ok.into(), false),
        }
        span.in_scope(|| self.door.note(&self.pass, self.peer, &result_of(response)));
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        if !self.is_noted {
            self.pass.span().in_scope(|| self.door.note(&self.pass, self.peer, GONE));
        }
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
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(GRPC)) {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Box::pin(async move { Ok(refused) });
        }
        let pass = match self.door.admit(&request) {
            Ok(pass) => pass,
            Err(error) => {
                let refused = Status::from(error).into_http();
                return Box::pin(async move { Ok(refused) });
            }
        };
        request.extensions_mut().insert(Arc::clone(&pass));
        let (asks, grace) = (self.door.access.asks(), self.door.grace);
        let peer = address_of(request.extensions());
        let noting = Noting { door: self.door.clone(), pass: Arc::clone(&pass), peer, is_noted: false };
        // Strangers make no spans.
        let context = if pass.need().is_open() { None } else { trace::of_headers(request.headers()) };
        let span = trace::of_call(context.as_ref(), request.uri().path(), peer);
        pass.is_in(&span);
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let response = if asks && pass.need().uploads {
                tokio::select! {
                    response = answer => response?,
                    lost = pass.lost_as_before(grace) => Status::from(Error::from(lost)).into_http(),
                }
            } else {
                answer.await?
            };
            noting.answered(&response);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of the audit after a call of `SubmitJobs` whose service does this with it.
    async fn audited<S>(service: S, call: impl AsyncFnOnce(Answering)) -> Vec<Entry>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
    {
        let (audit, waiting) = Audit::open(None).unwrap();
        let door = Door::new(Access::unrestricted(), audit.clone(), true, Duration::ZERO);
        let request = Request::post("http://localhost/mycelium.v1.MyceliumService/SubmitJobs");
        let request = request.header(header::CONTENT_TYPE, "application/grpc").body(Body::empty()).unwrap();
        let mut guarded = door.layer(service);
        call(guarded.call(request)).await;
        let kept = audit.clone();
        drop((guarded, door, audit));
        let list = async {
            loop {
                let listed = kept.list(None, 10, None).await.unwrap();
                if !listed.is_empty() {
                    return listed;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = waiting.write() => panic!("nobody can make entries"),
            listed = list => listed,
        }
    }

    #[tokio::test]
    async fn a_call_has_its_entry_whether_its_caller_waits_for_the_answer_or_not() {
        let answers = tower::service_fn(async |_| Ok(Response::new(Body::empty())));
        let entries = audited(answers, async |answering| drop(answering.await)).await;
        assert_eq!(entries.iter().map(|entry| &*entry.result).collect::<Vec<_>>(), ["OK"]);

        let works_on = tower::service_fn(async |_| std::future::pending().await);
        let entries = audited(works_on, async |answering| {
            // It has begun when its caller goes.
            assert!(futures::poll!(Box::pin(answering)).is_pending());
        })
        .await;
        assert_eq!(entries.iter().map(|entry| &*entry.result).collect::<Vec<_>>(), [GONE]);
    }
}
