//! How to connect.

use std::time::Duration;

use mycelium_proto::v1;

use super::mycelium::Mycelium;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::transport::CallLine;

/// How long calls are repeated, unless the builder says otherwise.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// How to connect; see [`Mycelium::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `connect_lazy` is called"]
pub struct Builder {
    url: String,
    name: String,
    patience: Duration,
    wait_for_broker: Duration,
}

impl Builder {
    /// The mycelium of the broker. Default: `default`.
    pub fn mycelium(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long a call is retried before its error is returned, and how long a watch that was cut tries to resume.
    /// Default: 30 s. Zero: no retries.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long [`connect`](Self::connect) waits for a broker that does not answer yet. Default: zero.
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
        mycelium
            .call_with_patience(wait, request, |mut client, request| async move {
                client.get_status(request).await
            })
            .await?;
        tracing::debug!(url = mycelium.url(), mycelium = mycelium.name(), "connected");
        Ok(mycelium)
    }

    /// A handle that connects when it is first used, so that a program can start before its broker. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`].
    pub fn connect_lazy(self) -> Result<Mycelium, Error> {
        let Self { url, name, patience, .. } = self;
        let blobs = Blobs::new(&url, &name)?;
        Ok(Mycelium::new(CallLine::new(&url)?, name, patience, blobs))
    }
}

impl Mycelium {
    /// Connects to the mycelium `default` of the broker at `url` (such as `http://127.0.0.1:7420`; the scheme is
    /// `http`, since TLS is not supported yet), and makes sure that it answers.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// A builder with further settings of the connection.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            name: String::new(),
            patience: PATIENCE_DEFAULT,
            wait_for_broker: Duration::ZERO,
        }
    }
}
