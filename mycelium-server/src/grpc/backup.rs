//! `StoreService.Backup`: all that is stored, as it is at one moment, with the blobs that it names.
//!
//! No blob is removed while one is under way: all that are there after the moment was kept are sent, which are those
//! that it names and some more.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use mycelium_proto::v1::store_service_server::StoreService;
use mycelium_proto::v1::{self, backup_response::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::door::pass_of;
use crate::blobs::{Blob, BlobError, Blobs};
use crate::broker::{CallError, Handle};
use crate::error::{Error, Gone};
use crate::mycelia::Mycelia;
use crate::spawn::{OnStop, guarded};
use crate::store::StoreSnapshot;
use crate::store::embedded::FORMAT_VERSION;

/// About how many bytes of entries go into one message.
const ENTRIES_BYTES: usize = 1024 * 1024;
/// How many messages may wait for who reads them.
const OUTGOING_MAX: usize = 4;

/// Serves those who operate the broker.
#[derive(Debug, Clone)]
pub(crate) struct StoreServer {
    mycelia: Mycelia,
    drain: CancellationToken,
}

impl StoreServer {
    /// A server whose streams end when `drain` is cancelled.
    pub(crate) fn new(mycelia: Mycelia, drain: CancellationToken) -> Self {
        Self { mycelia, drain }
    }
}

#[tonic::async_trait]
impl StoreService for StoreServer {
    type BackupStream = ReceiverStream<Result<v1::BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let pass = Arc::clone(pass_of(request.extensions())?);
        let name = request.into_inner().mycelium;
        let found = self.mycelia.find(pass.to(&name)?).await?;
        let handle = found.ok_or_else(|| Error::MyceliumNotFound(name))?;
        Ok(Response::new(backup(handle, self.drain.clone()).await?))
    }
}

type Outgoing = mpsc::Sender<Result<v1::BackupResponse, Status>>;

async fn backup(
    handle: Handle,
    drain: CancellationToken,
) -> Result<ReceiverStream<Result<v1::BackupResponse, Status>>, Error> {
    let permit = handle.admit_backup()?;
    // Before the moment: what it names is there, and stays.
    let kept = handle.blobs().keep_all();
    let snapshot = handle.store().snapshot().await?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let tasks = handle.tasks().clone();
    tasks.spawn("a backup", async move {
        let _permit = permit;
        let _kept = kept;
        let sent = guarded("a backup", OnStop::Cut(&drain), send(&handle, snapshot, &outgoing)).await;
        let sent = sent.unwrap_or_else(|unfinished| Err(Ended::Failed(CallError::from(unfinished).into())));
        if let Err(Ended::Failed(error)) = sent {
            // Who does not read any more does not want to know.
            let _gone = outgoing.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Why a backup does not come to its end.
enum Ended {
    /// Nobody reads any more.
    Gone,
    Failed(Error),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Failed(error.into())
    }
}

async fn send(
    handle: &Handle,
    mut snapshot: Box<dyn StoreSnapshot>,
    outgoing: &Outgoing,
) -> Result<(), Ended> {
    let begin = v1::BackupBegin { format_version: FORMAT_VERSION, commit: snapshot.commit().0 };
    pass(outgoing, Kind::Begin(begin)).await?;
    loop {
        let (read, back) = handle
            .aside(move || {
                let read = snapshot.next(ENTRIES_BYTES)?;
                Ok((read, snapshot))
            })
            .await?;
        snapshot = back;
        let Some(read) = read else { break };
        let entries = read.entries.into_iter().map(|(key, value)| v1::BackupEntry { key, value }).collect();
        let entries = v1::BackupEntries { table: read.table.to_owned(), entries };
        pass(outgoing, Kind::Entries(entries)).await?;
    }
    drop(snapshot);
    let mut blobs = handle.blobs().list();
    while let Some(blob) = blobs.next().await {
        let blob = blob.map_err(CallError::from)?;
        send_blob(handle.blobs(), blob, outgoing).await?;
    }
    Ok(pass(outgoing, Kind::End(v1::BackupEnd {})).await?)
}

async fn send_blob(blobs: &Blobs, blob: Blob, outgoing: &Outgoing) -> Result<(), Ended> {
    let digest = Bytes::copy_from_slice(blob.digest.as_bytes());
    let piece = |chunk, last, damage| v1::BackupBlob { digest: digest.clone(), chunk, last, damage };
    let mut pieces = blobs.read(blob, 0..blob.size).await;
    while let Some(read) = pieces.next().await {
        let message = match read {
            Ok(chunk) => piece(chunk, false, String::new()),
            Err(error @ (BlobError::Damaged { .. } | BlobError::NotFound(_))) => {
                return Ok(pass(outgoing, Kind::Blob(piece(Bytes::new(), true, error.to_string()))).await?);
            }
            Err(error) => return Err(CallError::from(error).into()),
        };
        pass(outgoing, Kind::Blob(message)).await?;
    }
    Ok(pass(outgoing, Kind::Blob(piece(Bytes::new(), true, String::new()))).await?)
}

async fn pass(outgoing: &Outgoing, kind: Kind) -> Result<(), Gone> {
    outgoing.send(Ok(v1::BackupResponse { kind: Some(kind) })).await.map_err(|_gone| Gone)
}
