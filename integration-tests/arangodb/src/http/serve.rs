//! Connections: from bytes to requests, with the faults on the way.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::auth::{Access, authenticate};
use super::request::{Answer, Request, decoded};
use super::{endpoint, is_open, route};
use crate::double::ROOT;
use crate::error::{Failure, Outcome};
use crate::faults::Fault;
use crate::state::{SYSTEM, Shared, lock};

/// Largest body: that of the server is 1 GiB, which no test should need.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 16 << 10;

/// Headers by which a request can ask for more than its path says, and that are known here.
const KNOWN_HEADERS: &[&str] = &["x-arango-trx-id", "x-arango-driver", "x-arango-queue-time-seconds"];

/// Why a connection ends without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection dropped on demand")
    }
}

impl std::error::Error for Dropped {}

/// Serves connections until it is dropped.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // What is wrong with one connection is that client's to notice.
                let Ok((stream, _)) = accepted else { continue };
                if lock(&shared.faults).down {
                    continue;
                }
                let shared = shared.clone();
                connections.spawn(connection(shared, stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until its client ends it, or a fault does.
pub(crate) async fn connection(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| serve(shared.clone(), request));
    // However it ends is what its client sees.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn serve(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Dropped> {
    let latency = {
        let faults = lock(&shared.faults);
        if faults.down {
            return Err(Dropped);
        }
        faults.latency
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let answer = match read(&shared, request).await {
        Ok(request) => {
            lock(&shared.counters).request(&endpoint(&request));
            with_faults(&shared, request).await?
        }
        Err(failure) => refused(&shared, "a request", &failure),
    };
    Ok(response(&shared, answer))
}

async fn with_faults(shared: &Arc<Shared>, mut request: Request) -> Result<Answer, Dropped> {
    let (html, starting) = {
        let faults = lock(&shared.faults);
        (faults.html, faults.starting)
    };
    if html {
        return Ok(page());
    }
    if starting {
        return Ok(Answer::failure(&Failure::new(38, "starting up")));
    }
    let data = matches!(request.path.get(1).map(String::as_str), Some("cursor" | "document"));
    let fault = if data { lock(&shared.faults).draw(|| shared.chance()) } else { None };
    match &fault {
        Some(Fault::DropBefore) => return Err(Dropped),
        Some(Fault::Html) => return Ok(page()),
        Some(Fault::ProxyUnavailable) => {
            return Ok(Answer::page(503, "text/plain", "no server is available"));
        }
        Some(Fault::Unavailable) => return Ok(Answer::failure(&Failure::new(21_003, "queue full"))),
        Some(Fault::Refuse(number)) => return Ok(on_demand(*number)),
        Some(Fault::Conflict) => request.conflicts = true,
        Some(Fault::DropAfter | Fault::RefuseAfter(_)) | None => {}
    }
    // A client that hangs up does not stop what it asked for.
    let task = {
        let shared = shared.clone();
        tokio::spawn(async move {
            let what = format!("{} /{}", request.method, request.path.join("/"));
            match checked(&shared, request).await {
                Ok(answer) => answer,
                Err(failure) => refused(&shared, &what, &failure),
            }
        })
    };
    let Ok(answer) = task.await else { return Err(Dropped) };
    match fault {
        Some(Fault::DropAfter) => Err(Dropped),
        Some(Fault::RefuseAfter(number)) => Ok(on_demand(number)),
        _ => Ok(answer),
    }
}

fn on_demand(number: u32) -> Answer {
    Answer::failure(&Failure::new(number, "refused on demand"))
}

fn page() -> Answer {
    Answer::page(200, "text/html", "<!DOCTYPE html><html><body><h1>Welcome</h1></body></html>")
}

/// Notes what is not known, so that tests can tell.
fn refused(shared: &Shared, what: &str, failure: &Failure) -> Answer {
    if failure.unknown {
        lock(&shared.unknown).push(format!("{what}: {}", failure.message));
    }
    Answer::failure(failure)
}

async fn checked(shared: &Arc<Shared>, mut request: Request) -> Outcome<Answer> {
    check_headers(&request)?;
    if !is_open(&request.path) {
        let authentication = lock(&shared.faults).authentication;
        let server = lock(&shared.server);
        request.user = if authentication {
            authenticate(&server, request.header("authorization"))?
        } else {
            ROOT.to_owned()
        };
        server.database(&request.database)?;
        let own = request.path.iter().map(String::as_str).eq(["_api", "database", "user"]);
        let access =
            server.users.get(&request.user).map_or(Access::None, |user| user.database(&request.database));
        // Whom a database is closed to is told so as if he were nobody, but where he asks what is open to him.
        if access == Access::None && !own && request.path.first().map(String::as_str) == Some("_api") {
            return Err(Failure::new(11, "not authorized to execute this request"));
        }
    }
    route(shared, &request).await
}

fn check_headers(request: &Request) -> Outcome<()> {
    let has_body = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    if has_body && request.header("content-length").is_none() {
        return Err(Failure::unknown(411, "a request that does not say how long it is").status(411));
    }
    if matches!(request.method.as_str(), "GET" | "HEAD") && !request.body.is_empty() {
        return Err(Failure::unknown(10, "a body where nothing is sent"));
    }
    for (name, value) in &request.headers {
        let (name, value) = (name.as_str(), value.to_str().unwrap_or_default());
        let known = match name {
            "transfer-encoding" | "content-encoding" | "x-http-method" | "x-http-method-override" => false,
            "content-type" => {
                value.is_empty() || value.starts_with("application/json") || value.starts_with("text/")
            }
            name if name.starts_with("x-arango") => KNOWN_HEADERS.contains(&name),
            _ => true,
        };
        if !known {
            return Err(Failure::unknown(10, format!("header '{name}: {value}'")));
        }
    }
    Ok(())
}

async fn read(shared: &Shared, request: hyper::Request<Incoming>) -> Outcome<Request> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|e| Failure::new(413, format!("body: {e}")).status(413))?.to_bytes();
    if parts.uri.to_string().len() > URL_BYTES_MAX {
        return Err(Failure::new(414, "URL too long").status(414));
    }
    let path = parts.uri.path();
    // 4.x takes a version of its interface in front of everything.
    let path = match path.strip_prefix("/_arango/") {
        Some(rest) if lock(&shared.faults).major() >= 4 => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => path,
    };
    let mut segments = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| decoded(part, false))
        .collect::<Outcome<Vec<_>>>()?;
    let mut database = SYSTEM.to_owned();
    if segments.first().map(String::as_str) == Some("_db") {
        if segments.len() < 2 {
            return Err(Failure::new(404, "no database in the path"));
        }
        database = segments[1].clone();
        segments.drain(..2);
    }
    let query =
        parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        });
    Ok(Request {
        method: parts.method.as_str().to_owned(),
        database: Arc::from(database),
        path: segments,
        query: query.collect::<Outcome<_>>()?,
        headers: parts.headers,
        body,
        user: String::new(),
        conflicts: false,
    })
}

fn response(shared: &Shared, answer: Answer) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).unwrap_or(hyper::StatusCode::BAD_GATEWAY);
    let server = lock(&shared.faults).server_header.clone().map(|name| ("server", name));
    let common =
        [("content-type", answer.content_type.to_owned()), ("x-arango-queue-time-seconds", "0.0".to_owned())];
    for (name, value) in common.into_iter().chain(server).chain(answer.headers) {
        if let Ok(value) = http::HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
