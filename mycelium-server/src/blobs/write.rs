//! Writing blobs: those that come from outside, and those that the broker assembles from others.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

use super::places::Place;
use super::recent::{self, Unfinished};
use super::staged::StagedFile;
use super::{Blob, BlobError, Blobs, path_of};
use crate::spawn;
use crate::store::BlobDigest;

/// How much is gathered before it is given to the thread that writes it, in bytes.
const PART_BYTES: usize = 256 * 1024;

/// What begins with the header of a blob.
pub(crate) enum Begun {
    /// It is there already.
    Exists,
    /// Its bytes are to be written.
    Upload(Box<Upload>),
}

/// A part of a value that is assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Bytes),
    Blob(Blob),
}

/// A blob that is being written. Dropped before [`finish`](Self::finish), nothing of it stays; what was being finished is.
pub(crate) struct Upload {
    blobs: Blobs,
    /// None if it gets its name when it is whole.
    expected: Option<Blob>,
    hasher: Sha256,
    written: u64,
    /// What is gathered of the next part. It is copied: what came with a message keeps all of the message in memory,
    /// however little of that is bytes of the blob.
    part: Vec<u8>,
    /// All of it, if there is no disk that it could go to.
    parts: Vec<Bytes>,
    /// All of it, as long as there is room for that.
    remembered: Option<Unfinished>,
    /// None if there is no disk that it could go to, and when it is finished.
    file: Option<StagedFile>,
    /// Its place among those that are written. Its file holds it too, until it takes nothing any more.
    place: Arc<Place>,
}

impl Blobs {
    /// Begins to write a blob that somebody names.
    pub(crate) async fn begin(&self, blob: Blob) -> Result<Begun, BlobError> {
        match self.find_sound(blob.digest).await? {
            Some(found) if found.size == blob.size => Ok(Begun::Exists),
            // One of another size is damaged, or its name is wrong, which shows at the end.
            Some(_) | None => Ok(Begun::Upload(Box::new(self.upload(Some(blob)).await?))),
        }
    }

    async fn upload(&self, expected: Option<Blob>) -> Result<Upload, BlobError> {
        let place = self.inner.places.begin().await;
        // Begun at once: the file is made while the first bytes come.
        let file = match &self.inner.folder {
            Some(folder) => Some(StagedFile::begin(folder, Arc::clone(&place))?),
            None => None,
        };
        // What has no name yet has no known size either.
        let may_fit = expected.is_none_or(|blob| blob.size <= recent::BLOB_BYTES_MAX as u64);
        Ok(Upload {
            blobs: self.clone(),
            expected,
            hasher: Sha256::new(),
            written: 0,
            part: Vec::new(),
            parts: Vec::new(),
            remembered: may_fit.then(|| Unfinished::new(&self.inner.recent)),
            file,
            place,
        })
    }

    /// Begins to write a blob that gets its name when it is whole.
    pub(crate) async fn begin_unnamed(&self) -> Result<Upload, BlobError> {
        self.upload(None).await
    }

    /// Writes a blob that is assembled from pieces.
    #[cfg(test)]
    pub(crate) async fn compose(&self, pieces: Vec<Piece>) -> Result<Blob, BlobError> {
        let mut upload = self.begin_unnamed().await?;
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

    /// Lets others write until there are bytes again. What the disk has not taken yet keeps its place.
    pub(crate) fn pause(&self) {
        if self.file.as_ref().is_none_or(StagedFile::is_idle) {
            self.place.pause();
        }
    }

    /// Ends when it has paused for so long that another has taken what it takes; then it cannot go on.
    pub(crate) async fn displaced(&self) {
        self.place.displaced().await;
    }

    /// Adds bytes, when it has its place.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        let written = self.written + bytes.len() as u64;
        if let Some(expected) = self.expected
            && written > expected.size
        {
            return Err(BlobError::Differs(format!("more than its {} bytes were sent", expected.size)));
        }
        self.place.enter().await?;
        self.hasher.update(&bytes);
        while !bytes.is_empty() {
            if self.part.is_empty() {
                self.part = Vec::with_capacity(self.next_part_bytes());
            }
            let taken = bytes.split_to(bytes.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(&taken);
            self.written += taken.len() as u64;
            if self.part.len() == PART_BYTES {
                self.write_part().await?;
            }
        }
        Ok(())
    }

    /// How long the next part will be, as far as that is known.
    fn next_part_bytes(&self) -> usize {
        let rest = self.expected.map_or(u64::MAX, |blob| blob.size - self.written);
        usize::try_from(rest).map_or(PART_BYTES, |rest| rest.min(PART_BYTES))
    }

    /// Gives what is gathered to the disk.
    async fn write_part(&mut self) -> Result<(), BlobError> {
        let mut part = std::mem::take(&mut self.part);
        // The last of a blob whose size was not known takes what it needs.
        part.shrink_to_fit();
        let part = Bytes::from(part);
        if let Some(remembered) = &mut self.remembered
            && !remembered.push(part.clone())
        {
            self.remembered = None;
        }
        match &mut self.file {
            Some(file) => file.write(part).await?,
            None => self.parts.push(part),
        }
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
        self.place.enter().await?;
        if !self.part.is_empty() || self.written == 0 {
            self.write_part().await?;
        }
        // It goes on to its end whether or not somebody waits for that: a blob that has its name is pinned.
        let tasks = self.blobs.inner.tasks.clone();
        match tasks.run("the end of a blob", self.publish(blob)).await {
            Ok(published) => published,
            Err(spawn::Unfinished::Defect(defect)) => Err(defect.into()),
            Err(stopping @ spawn::Unfinished::Stopping) => Err(std::io::Error::other(stopping).into()),
        }
    }

    /// Gives the blob its name.
    async fn publish(mut self, blob: Blob) -> Result<Blob, BlobError> {
        let blobs = self.blobs.clone();
        let path = path_of(blob.digest);
        // From its first moment on it is pinned.
        let _stays = blobs.inner.removing.read().await;
        // Another writer of it may have been faster. One that is there unseen since its last pin ran out is replaced by
        // the same bytes, which costs less than to look each time.
        let is_damaged = blobs.damaged().contains(&blob.digest);
        if !is_damaged && blobs.pins().renew(blob.digest, blobs.inner.grace) == Some(blob.size) {
            return Ok(blob);
        }
        match self.file.take() {
            Some(file) => file.finish(path.as_ref().into()).await?,
            None => {
                let all = PutPayload::from_iter(std::mem::take(&mut self.parts));
                blobs.inner.objects.put(&path, all).await?;
            }
        }
        blobs.damaged().remove(&blob.digest);
        blobs.pins().pin(blob.digest, blob.size, blobs.inner.grace);
        if let Some(remembered) = self.remembered.take() {
            remembered.finish(blob.digest);
        }
        Ok(blob)
    }
}
