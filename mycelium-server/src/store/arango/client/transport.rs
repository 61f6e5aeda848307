//! Connections to a server, and the runtime that they live on.

use std::error::Error as _;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Method, Url, redirect};
use tokio::runtime::Runtime;

use super::super::address::Address;
use super::failure::{Failure, Kind};
use crate::spawn::{Joined, TaskGroup, Unfinished};

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that nobody uses are closed after this time. The server closes them after 300 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// As many connections are kept.
const CONNECTIONS_MAX: usize = 64;
/// The largest file of certificates, in bytes.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    tasks: TaskGroup,
    /// `None` while this is dropped.
    runtime: Option<Runtime>,
    place: Arc<Place>,
}

/// Where requests go.
#[derive(Debug)]
struct Place {
    url: Url,
    /// The server in messages.
    shown: String,
}

/// One request. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<Bytes>,
    pub(super) timeout: Duration,
    pub(super) answer_bytes_max: usize,
    pub(super) authorization: Option<HeaderValue>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Transport {
    pub(super) fn new(address: &Address) -> Result<Self, Failure> {
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("mycelium/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(CONNECTIONS_MAX)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy();
        if let Some(file) = address.ca() {
            for certificate in read_certificates(file)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let unusable = |error: &dyn std::error::Error| {
            Failure::new(
                Kind::Certificate,
                format!("cannot make ready for requests to ArangoDB: {}", chain(error)),
            )
        };
        let client = client.build().map_err(|error| unusable(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mycelium-arango")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| unusable(&error))?;
        let place = Place { url: address.url().clone(), shown: address.to_string() };
        Ok(Self { client, tasks: TaskGroup::default(), runtime: Some(runtime), place: Arc::new(place) })
    }

    /// The server in messages.
    pub(super) fn shown(&self) -> &str {
        &self.place.shown
    }

    /// The URL of a path, of which these are the parts.
    ///
    /// # Errors
    /// None for an address that was parsed.
    pub(super) fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Result<Url, Failure> {
        let mut url = self.place.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.clear().extend(path);
            }
            Err(()) => return Err(Failure::new(Kind::Refused, format!("{} takes no path", self.shown()))),
        }
        Ok(url)
    }

    /// Runs a task on the runtime of the connections.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Joined<T> {
        let _entered = self.runtime.as_ref().map(Runtime::enter);
        self.tasks.run(name, work)
    }

    /// Waits, wherever it is called from.
    ///
    /// # Errors
    /// If the runtime stops.
    pub(super) async fn sleep(&self, pause: Duration) -> Result<(), Failure> {
        let pause = async move { tokio::time::sleep(pause).await };
        self.spawn("a pause before a request to ArangoDB", pause).await.map_err(unfinished)
    }

    /// Sends a request and reads what is answered, whatever that is. The request goes on if nobody waits for it any more.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let (client, place) = (self.client.clone(), Arc::clone(&self.place));
        let sent = async move { exchange(&client, request).await.map_err(|error| error.told(&place)) };
        self.spawn("a request to ArangoDB", sent).await.map_err(unfinished)?
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // May be dropped by a task, which must not wait for a runtime to end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn unfinished(unfinished: Unfinished) -> Failure {
    Failure::new(Kind::Unknown, format!("a request to ArangoDB was not waited for: {unfinished}"))
}

/// What goes wrong below the answer.
#[derive(Debug)]
enum Broken {
    Connection(reqwest::Error),
    TooLong { limit: usize },
}

async fn exchange(client: &reqwest::Client, request: Request) -> Result<Answer, Broken> {
    let mut builder = client.request(request.method.clone(), request.url).timeout(request.timeout);
    if let Some(authorization) = request.authorization {
        builder = builder.header(AUTHORIZATION, authorization);
    }
    match request.body {
        Some(body) => builder = builder.header(CONTENT_TYPE, "application/json").body(body),
        None if request.method == Method::POST => builder = builder.header(CONTENT_LENGTH, 0),
        None => {}
    }
    let mut response = builder.send().await.map_err(Broken::Connection)?;
    let status = response.status().as_u16();
    let limit = request.answer_bytes_max;
    let announced = response.content_length().map_or(Ok(0), usize::try_from).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Broken::TooLong { limit });
    }
    let mut body = BytesMut::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(Broken::Connection)? {
        if body.len() + chunk.len() > limit {
            return Err(Broken::TooLong { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body: body.freeze() })
}

impl Broken {
    /// What that means for a request to this server.
    fn told(&self, place: &Place) -> Failure {
        let shown = &place.shown;
        let error = match self {
            Self::TooLong { limit } => {
                let line = format!("{shown} answers with more than the {limit} bytes that are taken");
                return Failure::new(Kind::Unreadable, line);
            }
            Self::Connection(error) => error,
        };
        let why = chain(error);
        let is_about_tls = find(error, is_of_tls);
        if error.is_connect() {
            if place.url.scheme() == "https" && is_about_tls {
                let line = format!(
                    "{shown} cannot be spoken to with TLS: {why}; check that it speaks https, and give the certificate of \
                     its authority if it has its own"
                );
                return Failure::new(Kind::Certificate, line);
            }
            let line =
                format!("{shown} cannot be reached: {why}; check the address, and that ArangoDB is running");
            return Failure::new(Kind::Unreachable, line);
        }
        if error.is_builder() {
            return Failure::new(Kind::Refused, format!("a request to {shown} cannot be made: {why}"));
        }
        if find(error, |error: &hyper::Error| error.is_parse()) {
            let line =
                format!("{shown} does not answer as HTTP: {why}; check the address: it may speak https");
            return Failure::new(Kind::NotArango, line);
        }
        Failure::new(Kind::Unknown, format!("{shown} has not answered a request: {why}"))
    }
}

/// Whether an error is one of TLS, which are errors of data that is invalid, in others that are of no kind.
fn is_of_tls(error: &io::Error) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.kind() == io::ErrorKind::InvalidData {
            return true;
        }
        next = error.get_ref().and_then(|inner| inner.downcast_ref());
    }
    false
}

/// Whether one of the causes of an error is such.
fn find<E: std::error::Error + 'static>(error: &reqwest::Error, is_such: impl Fn(&E) -> bool) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if error.downcast_ref::<E>().is_some_and(&is_such) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and what caused it, without what is said twice. The outermost of the HTTP client names the URL only.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = error.source().or(Some(error));
    while let Some(error) = next {
        let text = error.to_string();
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ")
}

fn read_certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let bad = |why: String| {
        let line = format!("{} cannot be used as a file of certificates (PEM): {why}", file.display());
        Failure::new(Kind::Certificate, line)
    };
    let size = fs::metadata(file).map_err(|error| bad(error.to_string()))?.len();
    if size > CA_BYTES_MAX {
        return Err(bad(format!("it has more than {CA_BYTES_MAX} bytes")));
    }
    let text = fs::read(file).map_err(|error| bad(error.to_string()))?;
    match Certificate::from_pem_bundle(&text) {
        Ok(certificates) if certificates.is_empty() => Err(bad("there is none in it".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(chain(&error))),
    }
}
