//! Writing blobs: those that come from outside, and those that the broker puts together from others.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{Blob, BlobError, Blobs, STAGING, path_of, recent};
use crate::store::BlobDigest;

/// A blob up to this size, in bytes, is gathered in memory and written at once.
const WHOLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A larger one goes to the disk in parts of this size, in bytes, of which one is written while the next is gathered:
/// little is left to write when the last byte has come.
const PART_BYTES: usize = 1024 * 1024;

/// Pieces up to this size, in bytes, are copied together.
const SMALL_BYTES: usize = 16 * 1024;

/// What begins with the header of a blob.
pub(crate) enum Begun {
    /// It is there already.
    Exists,
    /// Its bytes are to be written.
    Upload(Box<Upload>),
}

/// A part of a value that is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Bytes),
    Blob(Blob),
}

/// A blob that is being written. Dropped before [`finish`](Self::finish), nothing of it stays.
pub(crate) struct Upload {
    blobs: Blobs,
    /// None if it gets its name when it is whole.
    expected: Option<Blob>,
    hasher: Sha256,
    written: u64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    /// Small pieces, lest what there is to know of each takes more memory than they.
    small: BytesMut,
    /// All of it, as long as that is little enough to be remembered.
    whole: Vec<Bytes>,
    parts: Option<Parts>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What is on its way to the disk.
struct Parts {
    upload: Box<dyn MultipartUpload>,
    path: Path,
    under_way: Option<JoinHandle<object_store::Result<()>>>,
}

impl Parts {
    /// Waits until the last part is written.
    async fn settle(&mut self) -> Result<(), BlobError> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        match under_way.await {
            Ok(written) => Ok(written?),
            Err(source) => Err(object_store::Error::JoinError { source }.into()),
        }
    }
}

impl Blobs {
    /// Begins to write a blob that somebody names.
    pub(crate) async fn begin(&self, blob: Blob) -> Result<Begun, BlobError> {
        match self.find(blob.digest).await? {
            Some(found) if found.size == blob.size => Ok(Begun::Exists),
            Some(found) => Err(BlobError::Differs(format!("blob {} has {} bytes", blob.digest, found.size))),
            None => Ok(Begun::Upload(Box::new(self.upload(Some(blob)).await))),
        }
    }

    async fn upload(&self, expected: Option<Blob>) -> Upload {
        let permit = std::sync::Arc::clone(&self.inner.uploads).acquire_owned().await;
        Upload {
            blobs: self.clone(),
            expected,
            hasher: Sha256::new(),
            written: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            small: BytesMut::new(),
            whole: Vec::new(),
            parts: None,
            // It is never closed.
            _permit: permit.ok(),
        }
    }

    /// Begins to write a blob that gets its name when it is whole.
    pub(crate) async fn begin_unnamed(&self) -> Upload {
        self.upload(None).await
    }

    /// Writes a blob that is put together from pieces.
    #[cfg(test)]
    pub(crate) async fn compose(&self, pieces: Vec<Piece>) -> Result<Blob, BlobError> {
        let mut upload = self.begin_unnamed().await;
        for piece in pieces {
            upload.add(piece).await?;
        }
        upload.finish().await
    }
}

impl Upload {
    /// Adds a piece. Another blob is read as it goes, and verified.
    pub(crate) async fn add(&mut self, piece: Piece) -> Result<(), BlobError> {
        match piece {
            Piece::Bytes(bytes) => self.write(bytes).await,
            Piece::Blob(blob) => {
                let mut chunks = self.blobs.read(blob, 0..blob.size).await;
                while let Some(chunk) = chunks.next().await {
                    self.write(chunk?).await?;
                }
                Ok(())
            }
        }
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.written += bytes.len() as u64;
        if let Some(expected) = self.expected
            && self.written > expected.size
        {
            return Err(BlobError::Differs(format!("more than its {} bytes were sent", expected.size)));
        }
        self.hasher.update(&bytes);
        if bytes.len() < SMALL_BYTES {
            self.small.extend_from_slice(&bytes);
            if self.small.len() >= SMALL_BYTES {
                self.gather_small();
            }
        } else {
            self.gather_small();
            self.gather(bytes);
        }
        if self.gathered_bytes >= self.part_bytes() { self.write_part().await } else { Ok(()) }
    }

    /// How much is gathered before it is written.
    fn part_bytes(&self) -> usize {
        let is_large = self.expected.is_some_and(|blob| blob.size > WHOLE_BYTES_MAX as u64);
        if is_large || self.parts.is_some() { PART_BYTES } else { WHOLE_BYTES_MAX }
    }

    fn gather_small(&mut self) {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.gather(bytes);
        }
    }

    fn gather(&mut self, bytes: Bytes) {
        self.gathered_bytes += bytes.len();
        if self.written <= recent::BLOB_BYTES_MAX as u64 {
            self.whole.push(bytes.clone());
        } else {
            self.whole.clear();
        }
        self.gathered.push(bytes);
    }

    async fn write_part(&mut self) -> Result<(), BlobError> {
        let mut parts = match self.parts.take() {
            Some(mut parts) => {
                parts.settle().await?;
                parts
            }
            None => {
                // Apart from the blobs, so that what a process leaves that dies is found at the next start.
                let path = Path::from_iter([STAGING, &uuid::Uuid::now_v7().simple().to_string()]);
                let upload = self.blobs.inner.objects.put_multipart(&path).await?;
                Parts { upload, path, under_way: None }
            }
        };
        let payload = PutPayload::from_iter(std::mem::take(&mut self.gathered));
        self.gathered_bytes = 0;
        parts.under_way = Some(tokio::spawn(parts.upload.put_part(payload)));
        self.parts = Some(parts);
        Ok(())
    }

    /// Makes the blob durable, and pins it.
    ///
    /// # Errors
    /// [`BlobError::Differs`] if it is not what it was said to be.
    pub(crate) async fn finish(mut self) -> Result<Blob, BlobError> {
        let digest = BlobDigest::new(std::mem::take(&mut self.hasher).finalize().into());
        let blob = Blob { digest, size: self.written };
        match self.expected {
            Some(expected) if expected.size != blob.size => {
                let why = format!("{} of its {} bytes were sent", blob.size, expected.size);
                return Err(BlobError::Differs(why));
            }
            Some(expected) if expected.digest != digest => {
                return Err(BlobError::Differs(format!("the bytes sent hash to {digest}")));
            }
            Some(_) | None => {}
        }
        self.gather_small();
        if self.parts.is_some() && self.gathered_bytes > 0 {
            self.write_part().await?;
        }
        let blobs = self.blobs.clone();
        let objects = &blobs.inner.objects;
        let path = path_of(digest);
        // From its first moment on it is pinned.
        let _stays = blobs.inner.removing.read().await;
        if blobs.find_guarded(digest).await?.is_some() {
            return Ok(blob);
        }
        match self.parts.take() {
            None => {
                let payload = PutPayload::from_iter(std::mem::take(&mut self.gathered));
                objects.put(&path, payload).await?;
            }
            Some(mut parts) => {
                parts.settle().await?;
                parts.upload.complete().await?;
                objects.rename(&parts.path, &path).await?;
            }
        }
        blobs.pins().pin(digest, blob.size, blobs.inner.grace);
        if blob.size <= recent::BLOB_BYTES_MAX as u64 {
            blobs.recent().put(digest, std::mem::take(&mut self.whole));
        }
        Ok(blob)
    }
}
