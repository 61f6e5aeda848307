//! The client: a handle on one mycelium of a broker.

mod backoff;
mod calls;
mod transport;
mod watch;
mod why;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mycelium_proto::v1;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(crate) use self::backoff::Backoff;
pub(crate) use self::transport::{blob_channel, endpoint, with_limits};
pub use self::watch::JobWatch;
pub use self::why::reason_in_words;
use crate::blobs::Blobs;
use crate::error::Error;

/// How long calls are repeated, unless the builder says otherwise.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);
/// Pauses between tries of a call.
const CALL_PAUSE_MIN: Duration = Duration::from_millis(20);
const CALL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// After how long the log says that a call is still being repeated, and why.
const CALL_SLOW_MIN: Duration = Duration::from_secs(5);

/// A handle on one mycelium of a broker. Cloning it is cheap; clones share one connection.
///
/// The connection is made when it is first needed and again after every cut; so is a second one, for values above
/// 64 KiB, which are written and read beside the calls that name them. Calls that the broker cannot take at
/// the moment, or that a broken connection interrupts, are repeated with growing, jittered pauses for as long as the
/// handle's *patience* lasts (30 s by default). That is harmless: every call of the contract may be repeated.
#[derive(Clone)]
pub struct Mycelium {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    name: String,
    patience: Duration,
    client: MyceliumServiceClient<Channel>,
    blobs: Blobs,
}

impl fmt::Debug for Mycelium {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mycelium")
            .field("url", &self.inner.url)
            .field("name", &self.inner.name)
            .field("patience", &self.inner.patience)
            .finish_non_exhaustive()
    }
}

/// Says how to connect; see [`Mycelium::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `connect_lazy` is called"]
pub struct Builder {
    url: String,
    name: String,
    patience: Duration,
    wait_for_broker: Duration,
}

impl Builder {
    /// Which mycelium of the broker; `default` if not said.
    pub fn mycelium(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long a call is repeated before its error is returned, and how long a watch that was cut tries to go on;
    /// 30 s if not said. Zero: every call is made once.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long [`connect`](Self::connect) waits for a broker that does not answer yet; not at all if not said.
    pub fn wait_for_broker(mut self, wait: Duration) -> Self {
        self.wait_for_broker = wait;
        self
    }

    /// Connects, and makes sure that a broker answers.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`]; [`Error::Unreachable`] if nobody answers; [`Error::Refused`] if the broker does not
    /// host this mycelium, or whoever answers is not a broker.
    pub async fn connect(self) -> Result<Mycelium, Error> {
        let wait = self.wait_for_broker;
        let mycelium = self.connect_lazy()?;
        let request = || mycelium.in_mycelium(v1::GetStatusRequest::default());
        mycelium.call_with_patience(wait, request, get_status).await?;
        tracing::debug!(url = mycelium.url(), mycelium = mycelium.name(), "connected");
        Ok(mycelium)
    }

    /// A handle that connects when it is first used, so that a program can start before its broker. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`].
    pub fn connect_lazy(self) -> Result<Mycelium, Error> {
        let channel = transport::lazy_channel(&self.url)?;
        let client = with_limits!(MyceliumServiceClient::new(channel));
        let Self { url, name, patience, .. } = self;
        let blobs = Blobs::new(&url, &name)?;
        Ok(Mycelium { inner: Arc::new(Inner { url, name, patience, client, blobs }) })
    }
}

async fn get_status(
    mut client: MyceliumServiceClient<Channel>,
    request: Request<v1::GetStatusRequest>,
) -> Result<Response<v1::GetStatusResponse>, Status> {
    client.get_status(request).await
}

impl Mycelium {
    /// Connects to the mycelium `default` of the broker at `url` (such as `http://127.0.0.1:7420`; the scheme is
    /// `http`, since TLS is not there yet), and makes sure that it answers.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Says in more detail how to connect.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            name: String::new(),
            patience: PATIENCE_DEFAULT,
            wait_for_broker: Duration::ZERO,
        }
    }

    /// The broker's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The name of the mycelium.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.inner.name.is_empty() { "default" } else { &self.inner.name }
    }

    /// The generated client on the shared connection: no repeating, and the mycelium is named in each request by
    /// hand.
    #[must_use]
    pub fn raw(&self) -> MyceliumServiceClient<Channel> {
        self.inner.client.clone()
    }

    /// Where values go that are too large to travel inline.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// How long calls are repeated.
    pub(crate) fn patience(&self) -> Duration {
        self.inner.patience
    }

    /// Makes a call, and repeats it while that may help. `request` makes the request anew for each try.
    pub(crate) async fn call<Req, Resp, Call, Answer>(
        &self,
        request: impl Fn() -> Req,
        call: Call,
    ) -> Result<Resp, Error>
    where
        Call: Fn(MyceliumServiceClient<Channel>, Request<Req>) -> Answer,
        Answer: Future<Output = Result<Response<Resp>, Status>>,
    {
        self.call_with_patience(self.inner.patience, request, call).await
    }

    async fn call_with_patience<Req, Resp, Call, Answer>(
        &self,
        patience: Duration,
        request: impl Fn() -> Req,
        call: Call,
    ) -> Result<Resp, Error>
    where
        Call: Fn(MyceliumServiceClient<Channel>, Request<Req>) -> Answer,
        Answer: Future<Output = Result<Response<Resp>, Status>>,
    {
        // A call that hangs is given as long as one that is repeated, and never less than a slow commit may take.
        let mut retry = Retry::new(patience);
        loop {
            let answer = call(self.raw(), Request::new(request()));
            let error = match tokio::time::timeout(retry.time_left().max(CALL_TIMEOUT_MIN), answer).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from_status(&self.inner.url, &status),
                Err(_elapsed) => {
                    Error::unreachable(&self.inner.url, &Status::deadline_exceeded("no answer in time"))
                }
            };
            retry.pause_or_give_up(error).await?;
        }
    }
}

/// The least time that a call is given to answer.
const CALL_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// Decides whether, and when, something that failed is tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// None: there is none.
    deadline: Option<Instant>,
    backoff: Backoff,
    began: Instant,
    /// Whether the log says by now that it takes long.
    is_told: bool,
}

impl Retry {
    /// Tries for as long as `patience` lasts, from now.
    pub(crate) fn new(patience: Duration) -> Self {
        // A patience beyond what a clock can count has no end.
        Self { deadline: Instant::now().checked_add(patience), ..Self::endless() }
    }

    /// Tries for as long as it takes, or until the caller loses interest.
    pub(crate) fn endless() -> Self {
        let backoff = Backoff::new(CALL_PAUSE_MIN, CALL_PAUSE_MAX);
        Self { deadline: None, backoff, began: Instant::now(), is_told: false }
    }

    fn time_left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until the next try is due, or gives the error back if trying again cannot help or the time is up.
    pub(crate) async fn pause_or_give_up(&mut self, error: Error) -> Result<(), Error> {
        if error.is_retryable() { self.pause(error).await } else { Err(error) }
    }

    /// Waits until the next try is due, or gives the error back if the time is up.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let pause = self.backoff.next_pause().max(error.retry_after().unwrap_or_default());
        if pause > self.time_left() {
            return Err(error);
        }
        if !self.is_told && self.began.elapsed() >= CALL_SLOW_MIN {
            self.is_told = true;
            tracing::warn!(error = %error, "a call has been repeated for {} s", CALL_SLOW_MIN.as_secs());
        }
        tracing::debug!(error = %error, pause_ms = pause.as_millis(), "call is repeated");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
