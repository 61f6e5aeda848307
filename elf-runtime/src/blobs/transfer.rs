//! The calls of `BlobService`, each made once.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mycelium_proto::limits::{BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES_MAX};
use mycelium_proto::v1::{self, write_blob_request};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::blob::{Blob, Digest, hex};
use crate::error::Error;
use crate::transport::{Address, BlobLine};

/// How many blobs are on their way at once.
pub(super) const TRANSFERS_MAX: usize = 4;

/// How long a transfer may make no progress before it is given up and retried. The broker's disk may be slow.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How much memory is taken at once for a blob of which nothing has come yet: what grows beyond it is copied.
const READ_CAPACITY_BYTES: usize = 16 * 1024 * 1024;

/// The part of a blob that was received so far.
#[derive(Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    hasher: Sha256,
}

/// Where blobs go to and come from.
pub(super) struct Transfers {
    line: BlobLine,
    /// As requests name it; empty for the default.
    mycelium: String,
    turns: Semaphore,
}

impl Transfers {
    /// Must be called within a tokio runtime.
    pub(super) fn new(address: &Address, mycelium: &str) -> Self {
        let (line, turns) = (BlobLine::new(address), Semaphore::new(TRANSFERS_MAX));
        Self { line, mycelium: mycelium.to_owned(), turns }
    }

    /// Its turn among the transfers.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.turns
            .acquire()
            .await
            .map_err(|closed| Error::Protocol { message: format!("transfers of blobs have ended: {closed}") })
    }

    /// Reads a blob from where `received` ends to its end. Beyond [`READ_CAPACITY_BYTES`], memory is taken as bytes arrive,
    /// whatever `size` says. If it is broken off, what came stays in `received`.
    pub(super) async fn download(
        &self,
        digest: &Digest,
        size: u64,
        received: &Mutex<Received>,
    ) -> Result<Bytes, Error> {
        let _turn = self.turn().await?;
        let lock = || received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = std::mem::take(&mut *lock());
        let size = usize::try_from(size).map_err(|_| Error::Protocol {
            message: format!("a blob of {size} bytes does not fit into memory"),
        })?;
        let read = self.download_rest(digest, size, &mut received).await;
        match read {
            Ok(()) => Ok(Bytes::from(received.bytes)),
            Err(error) => {
                *lock() = received;
                Err(error)
            }
        }
    }

    async fn download_rest(
        &self,
        digest: &Digest,
        size: usize,
        received: &mut Received,
    ) -> Result<(), Error> {
        let damaged = |problem| Err(Error::DamagedBlob { digest: hex(digest), problem });
        let mut is_resumed = !received.bytes.is_empty();
        loop {
            let before = received.bytes.len();
            self.receive(digest, size, received).await?;
            let came = received.bytes.len();
            if came < size {
                // The broker lets go of a reader that took nothing for a while, and of all when it stops.
                if came > before {
                    is_resumed = true;
                    continue;
                }
                return damaged(format!("only {came} of its {size} bytes came"));
            }
            let found: Digest = received.hasher.clone().finalize().into();
            if found == *digest {
                return Ok(());
            }
            if !is_resumed {
                return damaged(format!("what came has the digest {}", hex(&found)));
            }
            // It may have been damaged and written again between the parts.
            *received = Received::default();
            is_resumed = false;
        }
    }

    /// Adds what one call gives.
    async fn receive(&self, digest: &Digest, size: usize, received: &mut Received) -> Result<(), Error> {
        let Received { bytes, hasher } = received;
        let request = v1::ReadBlobRequest {
            mycelium: self.mycelium.clone(),
            digest: Bytes::copy_from_slice(digest),
            offset: bytes.len() as u64,
            length: 0,
        };
        let mut chunks = self.moving(self.line.read(request)).await.map_err(|error| named(digest, error))?;
        if bytes.is_empty() {
            *bytes = Vec::with_capacity(size.min(READ_CAPACITY_BYTES));
        }
        while let Some(v1::ReadBlobResponse { chunk }) =
            self.moving(chunks.message()).await.map_err(|error| named(digest, error))?
        {
            let rest = size - bytes.len();
            if chunk.len() > rest {
                let problem = format!("more came than its {size} bytes");
                return Err(Error::DamagedBlob { digest: hex(digest), problem });
            }
            if bytes.capacity() - bytes.len() < chunk.len() {
                // Doubled, but never beyond what it should come to.
                bytes.reserve_exact(bytes.len().max(chunk.len()).min(rest));
            }
            for step in chunk.chunks(BLOB_CHUNK_BYTES_MAX) {
                hasher.update(step);
            }
            bytes.extend_from_slice(&chunk);
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Writes a blob. The broker may say that it has it before all is sent.
    pub(super) async fn upload(&self, blob: &Blob) -> Result<(), Error> {
        let _turn = self.turn().await?;
        let sent = Arc::new(AtomicUsize::new(0));
        let header = v1::WriteBlobHeader { mycelium: self.mycelium.clone(), blob: Some(blob.to_wire()) };
        let header = v1::WriteBlobRequest { kind: Some(write_blob_request::Kind::Header(header)) };
        let chunks = (0..blob.bytes.len()).step_by(BLOB_CHUNK_BYTES);
        let chunks = chunks.map({
            let (bytes, sent) = (blob.bytes.clone(), Arc::clone(&sent));
            move |start| {
                let end = bytes.len().min(start + BLOB_CHUNK_BYTES);
                sent.store(end, Ordering::Relaxed);
                let chunk = bytes.slice(start..end);
                v1::WriteBlobRequest { kind: Some(write_blob_request::Kind::Chunk(chunk)) }
            }
        });
        let call = self.line.write(futures::stream::iter(std::iter::once(header).chain(chunks)));
        tokio::pin!(call);
        loop {
            let sent_before = sent.load(Ordering::Relaxed);
            match tokio::time::timeout(STANDSTILL_MAX, &mut call).await {
                Ok(Ok(_written)) => return Ok(()),
                Ok(Err(error)) => return Err(named(&blob.digest, error)),
                Err(_elapsed) if sent.load(Ordering::Relaxed) != sent_before => {}
                Err(_elapsed) => return Err(self.standstill()),
            }
        }
    }

    /// Which of some blobs the broker does not have.
    pub(super) async fn find_missing(
        &self,
        digests: impl Iterator<Item = Digest>,
    ) -> Result<HashSet<Digest>, Error> {
        let digests = digests.map(|digest| Bytes::copy_from_slice(&digest)).collect();
        let request = v1::FindMissingBlobsRequest { mycelium: self.mycelium.clone(), digests };
        let answer = self.moving(self.line.find_missing(request)).await?;
        let missing = answer.missing.iter().map(|digest| {
            Digest::try_from(digest.as_ref()).map_err(|_| Error::Protocol {
                message: format!("a blob that is missing has a name of {} bytes", digest.len()),
            })
        });
        missing.collect()
    }

    /// Waits for a step of a transfer.
    async fn moving<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(STANDSTILL_MAX, step).await.unwrap_or_else(|_elapsed| Err(self.standstill()))
    }

    fn standstill(&self) -> Error {
        Error::unreachable(self.line.url(), "nothing of a blob moves")
    }
}

/// The error of a call that is about one blob, which a refusal names.
fn named(digest: &Digest, error: Error) -> Error {
    match error {
        Error::Refused { code, reason, message, violations } => {
            let message = format!("blob {}: {message}", hex(digest));
            Error::Refused { code, reason, message, violations }
        }
        other => other,
    }
}
