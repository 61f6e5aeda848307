//! The connections of a program to a broker: one for calls, one for the stream of a worker, one for blobs. None of them
//! retries.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use mycelium_proto::limits::MESSAGE_BYTES_MAX;
use mycelium_proto::v1;
use mycelium_proto::v1::blob_service_client::BlobServiceClient;
use mycelium_proto::v1::elf_service_client::ElfServiceClient;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use tokio::time::error::Elapsed;
use tonic::{Response, Status, Streaming};

use super::endpoint::Address;
use super::line::Line;
use super::status::error_of;
use crate::error::Error;

/// How long the connection of a worker may take to be made: it is tried again before much of a lease is over.
const ELF_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The generated client of jobs, flows and elves.
pub(crate) type RawClient = MyceliumServiceClient<Line>;
/// The answer of a generated client.
pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// Sets the limits of the contract on a generated client, which knows smaller ones by itself.
macro_rules! with_limits {
    ($client:expr) => {
        $client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// Messages of the broker, one after the other.
#[derive(Debug)]
pub(crate) struct Inbound<T> {
    url: Arc<str>,
    stream: Streaming<T>,
}

impl<T> Inbound<T> {
    fn of(url: &Arc<str>, answer: Answer<Streaming<T>>) -> Result<Self, Error> {
        let answer = answer.map_err(|status| error_of(url, &status))?;
        Ok(Self { url: Arc::clone(url), stream: answer.into_inner() })
    }

    /// The next message; none if the broker has ended the stream without an error.
    pub(crate) async fn message(&mut self) -> Result<Option<T>, Error> {
        self.stream.message().await.map_err(|status| error_of(&self.url, &status))
    }
}

/// The line that calls are made on. It connects when it is first used, and again after every cut.
#[derive(Clone)]
pub(crate) struct CallLine {
    url: Arc<str>,
    client: RawClient,
}

impl CallLine {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(address: &Address) -> Self {
        let client = with_limits!(MyceliumServiceClient::new(address.line()));
        Self { url: Arc::clone(address.url()), client }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> RawClient {
        self.client.clone()
    }

    /// What came of a call that was given some time to answer. (Not a function that makes the call: its future would
    /// have room for that of the call twice.)
    pub(crate) fn answer<Resp>(&self, answer: Result<Answer<Resp>, Elapsed>) -> Result<Resp, Error> {
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error_of(&self.url, &status)),
            Err(_elapsed) => Err(Error::unreachable(&self.url, "no answer in time")),
        }
    }

    pub(crate) async fn watch_jobs(
        &self,
        request: v1::WatchJobsRequest,
    ) -> Result<Inbound<v1::WatchJobsResponse>, Error> {
        Inbound::of(&self.url, self.client().watch_jobs(request).await)
    }

    pub(crate) async fn read_logs(
        &self,
        request: v1::ReadLogsRequest,
    ) -> Result<Inbound<v1::ReadLogsResponse>, Error> {
        Inbound::of(&self.url, self.client().read_logs(request).await)
    }
}

/// The line of a worker: each stream gets a connection of its own.
pub(crate) struct ElfLine(Address);

impl ElfLine {
    pub(crate) fn new(address: Address) -> Self {
        Self(address)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// Opens a stream.
    pub(crate) async fn connect(
        &self,
        requests: impl Stream<Item = v1::ConnectRequest> + Send + 'static,
    ) -> Result<Inbound<v1::ConnectResponse>, Error> {
        let mut client = with_limits!(ElfServiceClient::new(self.0.elf_line(ELF_CONNECT_TIMEOUT)));
        Inbound::of(self.0.url(), client.connect(requests).await)
    }
}

/// The line of blobs.
pub(crate) struct BlobLine {
    url: Arc<str>,
    client: BlobServiceClient<Line>,
}

impl BlobLine {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(address: &Address) -> Self {
        let client = with_limits!(BlobServiceClient::new(address.blob_line()));
        Self { url: Arc::clone(address.url()), client }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn read(
        &self,
        request: v1::ReadBlobRequest,
    ) -> Result<Inbound<v1::ReadBlobResponse>, Error> {
        Inbound::of(&self.url, self.client.clone().read_blob(request).await)
    }

    pub(crate) async fn write(
        &self,
        requests: impl Stream<Item = v1::WriteBlobRequest> + Send + 'static,
    ) -> Result<v1::WriteBlobResponse, Error> {
        self.answer(self.client.clone().write_blob(requests).await)
    }

    pub(crate) async fn find_missing(
        &self,
        request: v1::FindMissingBlobsRequest,
    ) -> Result<v1::FindMissingBlobsResponse, Error> {
        self.answer(self.client.clone().find_missing_blobs(request).await)
    }

    fn answer<T>(&self, answer: Answer<T>) -> Result<T, Error> {
        answer.map(Response::into_inner).map_err(|status| error_of(&self.url, &status))
    }
}
