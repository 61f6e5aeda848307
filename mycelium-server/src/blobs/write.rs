//! Writing blobs: those that come from outside, and those that the broker puts together from others.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use object_store::{ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::recent::{self, Unfinished};
use super::staged::StagedFile;
use super::{Blob, BlobError, Blobs, path_of};
use crate::store::BlobDigest;

/// How much is gathered before it is given to the thread that writes it, in bytes.
const PART_BYTES: usize = 256 * 1024;
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
    /// All of it, as long as there is room for that.
    remembered: Option<Unfinished>,
    file: Option<StagedFile>,
    _permit: Option<OwnedSemaphorePermit>,
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
        // What has no name yet has no known size either.
        let may_fit = expected.is_none_or(|blob| blob.size <= recent::BLOB_BYTES_MAX as u64);
        Upload {
            blobs: self.clone(),
            expected,
            hasher: Sha256::new(),
            written: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            small: BytesMut::new(),
            remembered: may_fit.then(|| Unfinished::new(&self.inner.recent)),
            file: None,
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
        if self.gathered_bytes >= PART_BYTES { self.write_part().await } else { Ok(()) }
    }

    fn gather_small(&mut self) {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.gather(bytes);
        }
    }

    fn gather(&mut self, bytes: Bytes) {
        self.gathered_bytes += bytes.len();
        if let Some(remembered) = &mut self.remembered
            && !remembered.push(bytes.clone())
        {
            self.remembered = None;
        }
        self.gathered.push(bytes);
    }

    /// Gives what is gathered to the disk. Without a disk all is gathered.
    async fn write_part(&mut self) -> Result<(), BlobError> {
        let Some(folder) = &self.blobs.inner.folder else { return Ok(()) };
        let file = self.file.get_or_insert_with(|| StagedFile::begin(folder));
        self.gathered_bytes = 0;
        Ok(file.write(std::mem::take(&mut self.gathered)).await?)
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
        self.write_part().await?;
        let blobs = self.blobs.clone();
        let path = path_of(digest);
        // From its first moment on it is pinned.
        let _stays = blobs.inner.removing.read().await;
        if blobs.find_guarded(digest).await?.is_some() {
            return Ok(blob);
        }
        match self.file.take() {
            Some(file) => file.finish(path.as_ref().into()).await?,
            None => {
                let all = PutPayload::from_iter(std::mem::take(&mut self.gathered));
                blobs.inner.objects.put(&path, all).await?;
            }
        }
        blobs.pins().pin(digest, blob.size, blobs.inner.grace);
        if let Some(remembered) = self.remembered.take() {
            remembered.finish(digest);
        }
        Ok(blob)
    }
}
