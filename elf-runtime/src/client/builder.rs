//! How to connect.

use std::path::PathBuf;
use std::time::Duration;

use mycelium_proto::v1;

use super::mycelium::Mycelium;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::transport::{Address, Credentials, Token};

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
    credentials: Credentials,
}

impl Builder {
    /// The file of the secret token that is shown to the broker: one line. It is read again for each connection, so that it
    /// can be replaced while the program runs. Default: what `MYCELIUM_TOKEN_FILE` names, or the secret in `MYCELIUM_TOKEN`;
    /// else none.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials.token = Some(Token::File(path.into()));
        self
    }

    /// The secret token itself. [`token_file`](Self::token_file) is for programs that run for longer than a token is valid.
    pub fn token(mut self, secret: impl Into<String>) -> Self {
        self.credentials.token = Some(Token::Text(secret.into()));
        self
    }

    /// A file of certificates (PEM): authorities of brokers, which are trusted beside those that everybody trusts. Read again
    /// for each connection. Default: what `MYCELIUM_CA` names; else none.
    pub fn authorities(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials.authorities = Some(path.into());
        self
    }

    /// The files (PEM) of the certificate that is shown to the broker, and of its key. Read again for each connection.
    /// Default: what `MYCELIUM_CLIENT_CERT` and `MYCELIUM_CLIENT_KEY` name; else none.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.credentials.certificate = Some((certificate.into(), key.into()));
        self
    }

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
    /// [`Error::InvalidUrl`], [`Error::InvalidCredentials`]; [`Error::Unreachable`] if nobody answers; [`Error::Refused`] if
    /// the broker does not let this program in, does not host this mycelium, or whoever answers is not a broker.
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
    /// [`Error::InvalidUrl`], [`Error::InvalidCredentials`].
    pub fn connect_lazy(self) -> Result<Mycelium, Error> {
        let Self { url, name, patience, credentials, .. } = self;
        let address = Address::new(&url, credentials.or_of_environment()?)?;
        let blobs = Blobs::new(&address, &name);
        Ok(Mycelium::new(address, name, patience, blobs))
    }
}

impl Mycelium {
    /// Connects to the mycelium `default` of the broker at `url` (such as `http://127.0.0.1:7420`, or
    /// `https://broker.example:7420` if it speaks TLS), and makes sure that it answers. What it is shown, and whom this
    /// program trusts, says the environment; see [`Builder`].
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
            credentials: Credentials::default(),
        }
    }
}
