//! What is answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::Readiness;
use crate::access::Hosts;
use crate::metrics::{Format, Metrics, Sources};

const TEXT: &str = "text/plain; charset=utf-8";

/// What there is to answer from.
#[derive(Debug)]
pub(super) struct Answers {
    metrics: Metrics,
    /// Names of elves are for no web page.
    hosts: Hosts,
    readiness: Mutex<Readiness>,
    /// The broker, once it serves.
    sources: Mutex<Option<Arc<Sources>>>,
    /// Held by who looks at it: however many ask, they take one core at most.
    turn: tokio::sync::Mutex<()>,
}

type Answer = Response<Full<Bytes>>;

impl Answers {
    /// `is_loopback`: it is reached from this machine alone.
    pub(super) fn new(metrics: Metrics, is_loopback: bool) -> Self {
        Self {
            metrics,
            hosts: Hosts::new(is_loopback, &[]),
            readiness: Mutex::default(),
            sources: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn serves(&self, sources: Sources, readiness: Readiness) {
        *lock(&self.sources) = Some(Arc::new(sources));
        *lock(&self.readiness) = readiness;
    }

    pub(super) fn drains(&self) {
        *lock(&self.readiness) = Readiness::Draining;
    }

    /// Whether the broker takes jobs, as a line.
    fn readiness(&self) -> Result<String, String> {
        lock(&self.readiness).told()
    }

    /// Answers a request, whatever its body is.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "the process turns"),
            "/readyz" => match self.readiness() {
                Ok(told) => text(StatusCode::OK, &format!("ready: {told}")),
                Err(told) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {told}")),
            },
            "/metrics" => match self.hosts.check(request.uri(), request.headers()) {
                Ok(()) => self.scraped(request.headers()).await,
                Err(_why) => text(StatusCode::FORBIDDEN, "ask by a loopback name, and not from a web page"),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics"),
        }
    }

    async fn scraped(&self, headers: &HeaderMap) -> Answer {
        let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
        let _turn = self.turn.lock().await;
        self.metrics.set_ready(self.readiness().is_ok());
        let sources = lock(&self.sources).clone();
        if let Some(sources) = sources {
            self.metrics.look(&sources).await;
        }
        match self.metrics.write(format) {
            Ok(written) => answer(StatusCode::OK, format.content_type(), written),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written; the log has why")
            }
        }
    }
}

fn text(status: StatusCode, line: &str) -> Answer {
    answer(status, TEXT, format!("{line}\n"))
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What stands there is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
