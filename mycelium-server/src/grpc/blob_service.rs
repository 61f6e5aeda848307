//! `BlobService`: values too large to travel inline.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_proto::v1::blob_service_server::BlobService;
use mycelium_proto::v1::write_blob_request::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::door::pass_of;
use crate::access::Pass;
use crate::blobs::{Begun, Blob, BlobError, Blobs, Upload};
use crate::broker::CallError;
use crate::error::Error;
use crate::mycelia::Mycelia;
use crate::spawn::{OnStop, Unfinished, guarded};
use crate::store::BlobDigest;

/// How long a reader may take nothing before it is cut: each takes one of a small number of places.
const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// How long an upload may bring nothing before it lets others write.
const PAUSED_AFTER: Duration = Duration::from_millis(250);
/// How long an upload waits to be begun.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);
/// How many messages of a blob wait for the connection, beside what HTTP/2 takes.
const CHUNKS_WAITING_MAX: usize = 16;

/// Serves those who write and read blobs.
#[derive(Debug, Clone)]
pub(crate) struct BlobServer {
    mycelia: Mycelia,
    drain: CancellationToken,
}

impl BlobServer {
    /// A server whose transfers end when `drain` is cancelled.
    pub(crate) fn new(mycelia: Mycelia, drain: CancellationToken) -> Self {
        Self { mycelia, drain }
    }

    async fn write(
        &self,
        pass: &Pass,
        mut incoming: Streaming<v1::WriteBlobRequest>,
    ) -> Result<v1::WriteBlobResponse, Status> {
        let Some(Kind::Header(header)) = next(&mut incoming).await? else {
            return Err(Error::field("kind", "the first message must be the header").into());
        };
        let blob = header.blob.as_ref().ok_or_else(|| Error::field("header.blob", "is missing"))?;
        let blob =
            Blob::from_message(blob).map_err(|problem| Error::field("header.blob", problem.to_string()))?;
        let permitted = pass.to(&header.mycelium)?;
        pass.counts(1);
        pass.is_about(&format!("blob of {} bytes", blob.size));
        let entered = self.mycelia.enter(permitted).await;
        let mycelium = entered.map_err(|error| error.within("header"))?;
        let blobs = mycelium.blobs();
        let begun = tokio::time::timeout(BEGUN_WITHIN, blobs.begin(blob)).await;
        let begun = begun.map_err(|_elapsed| Error::from(CallError::Busy))?;
        let mut upload: Box<Upload> = match begun.map_err(Error::from)? {
            Begun::Exists => return Ok(v1::WriteBlobResponse { existed: true }),
            Begun::Upload(upload) => upload,
        };
        while let Some(kind) = next_of(&upload, &mut incoming).await? {
            let Kind::Chunk(chunk) = kind else {
                return Err(Error::field("kind", "the header is sent once").into());
            };
            if chunk.is_empty() || chunk.len() > limits::BLOB_CHUNK_BYTES_MAX {
                let problem =
                    format!("has {} bytes, and must have 1 to {}", chunk.len(), limits::BLOB_CHUNK_BYTES_MAX);
                return Err(Error::field("chunk", problem).into());
            }
            upload.write(chunk).await.map_err(Error::from)?;
        }
        upload.finish().await.map_err(Error::from)?;
        Ok(v1::WriteBlobResponse { existed: false })
    }
}

/// What the next message says; `None` at the end. That it comes in time is seen to where all requests come in.
async fn next(incoming: &mut Streaming<v1::WriteBlobRequest>) -> Result<Option<Kind>, Status> {
    match incoming.message().await? {
        None => Ok(None),
        Some(v1::WriteBlobRequest { kind: Some(kind) }) => Ok(Some(kind)),
        Some(v1::WriteBlobRequest { kind: None }) => Err(Error::field("kind", "says nothing").into()),
    }
}

/// As [`next`]; while it does not come, others write.
async fn next_of(
    upload: &Upload,
    incoming: &mut Streaming<v1::WriteBlobRequest>,
) -> Result<Option<Kind>, Status> {
    let mut next = std::pin::pin!(next(incoming));
    if let Ok(came) = tokio::time::timeout(PAUSED_AFTER, &mut next).await {
        return came;
    }
    upload.pause();
    tokio::select! {
        came = next => came,
        () = upload.displaced() => Err(Error::from(BlobError::Stalled).into()),
    }
}

fn digest(field: &str, digest: &[u8]) -> Result<BlobDigest, Error> {
    BlobDigest::from_slice(digest).ok_or_else(|| Error::field(field, "must be 32 bytes"))
}

#[tonic::async_trait]
impl BlobService for BlobServer {
    type ReadBlobStream = Pin<Box<dyn Stream<Item = Result<v1::ReadBlobResponse, Status>> + Send>>;

    async fn write_blob(
        &self,
        request: Request<Streaming<v1::WriteBlobRequest>>,
    ) -> Result<Response<v1::WriteBlobResponse>, Status> {
        let pass = Arc::clone(pass_of(request.extensions())?);
        tokio::select! {
            () = self.drain.cancelled() => Err(Error::from(CallError::Stopping).into()),
            written = self.write(&pass, request.into_inner()) => written.map(Response::new),
        }
    }

    async fn read_blob(
        &self,
        request: Request<v1::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        let pass = Arc::clone(pass_of(request.extensions())?);
        let request = request.into_inner();
        let handle = self.mycelia.read(pass.to(&request.mycelium)?).await?;
        let blobs = handle.blobs().clone();
        let digest = digest("digest", &request.digest)?;
        let found = blobs.find(digest).await.map_err(Error::from)?;
        let blob = found.ok_or_else(|| Error::from(BlobError::NotFound(digest)))?;
        if request.offset > blob.size {
            let problem = format!("is {}, and the blob has {} bytes", request.offset, blob.size);
            return Err(Error::field("offset", problem).into());
        }
        let end = match request.length {
            0 => blob.size,
            length => request.offset.saturating_add(length).min(blob.size),
        };
        let range = request.offset..end;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let drain = self.drain.clone();
        let tasks = handle.tasks().clone();
        tasks.spawn("a blob being read", async move {
            // The mycelium stays open meanwhile.
            let _open = handle;
            let sending = send(&blobs, blob, range, &sender);
            if let Err(unfinished) = guarded("a blob being read", OnStop::Cut(&drain), sending).await {
                let error = Err(Error::from(CallError::from(unfinished)).into());
                // A stop does not wait for a reader that does not read: its stream just ends.
                let _gone = match unfinished {
                    Unfinished::Stopping => sender.try_send(error).is_ok(),
                    Unfinished::Defect(_) => sender.send(error).await.is_ok(),
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn find_missing_blobs(
        &self,
        request: Request<v1::FindMissingBlobsRequest>,
    ) -> Result<Response<v1::FindMissingBlobsResponse>, Status> {
        let pass = Arc::clone(pass_of(request.extensions())?);
        let request = request.into_inner();
        let mycelium = self.mycelia.read(pass.to(&request.mycelium)?).await?;
        let blobs = mycelium.blobs();
        if request.digests.len() > limits::BLOB_DIGESTS_MAX {
            let problem = format!("must be at most {}", limits::BLOB_DIGESTS_MAX);
            return Err(Error::field("digests", problem).into());
        }
        let mut missing = Vec::new();
        for (index, asked) in request.digests.into_iter().enumerate() {
            let digest = digest(&format!("digests[{index}]"), &asked)?;
            if blobs.find_sound(digest).await.map_err(Error::from)?.is_none() {
                missing.push(asked);
            }
        }
        Ok(Response::new(v1::FindMissingBlobsResponse { missing }))
    }
}

type Sender = mpsc::Sender<Result<v1::ReadBlobResponse, Status>>;

/// Sends a range of a blob, until it is sent or nobody wants it any more.
async fn send(blobs: &Blobs, blob: Blob, range: std::ops::Range<u64>, sender: &Sender) {
    let mut pieces = blobs.read(blob, range).await;
    while let Some(piece) = pieces.next().await {
        let mut piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                if let BlobError::Damaged { .. } = error {
                    tracing::error!(%error, "a blob cannot be read");
                }
                let _gone = sender.send(Err(Error::from(error).into())).await;
                return;
            }
        };
        while !piece.is_empty() {
            let chunk: Bytes = piece.split_to(piece.len().min(limits::BLOB_CHUNK_BYTES));
            let sending = sender.send(Ok(v1::ReadBlobResponse { chunk }));
            match tokio::time::timeout(TAKES_WITHIN, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => return,
                Err(_elapsed) => {
                    // There is no room for the word, so the stream just ends: the reader misses bytes.
                    tracing::warn!(blob = %blob.digest, "cut off a reader of a blob that does not read");
                    return;
                }
            }
        }
    }
}
