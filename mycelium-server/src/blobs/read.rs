//! Reading blobs.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{Blob, BlobError, Blobs, path_of};
use crate::store::BlobDigest;

/// How much is read at once, and how much ahead: while one piece is sent the next is read.
const PIECE_BYTES: u64 = 1024 * 1024;
const PIECES_AHEAD: usize = 2;

impl Blobs {
    /// Bytes of a blob, in order. A blob that is read whole is verified, unless it is in memory since it was written: what
    /// is damaged ends with an error.
    pub(crate) async fn read(
        &self,
        blob: Blob,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, BlobError>> {
        let range = range.start.min(blob.size)..range.end.min(blob.size);
        let is_recent = self.recent().get(blob.digest, range.start).is_some();
        let source = if is_recent {
            // It is never closed.
            Source::Recent(Arc::clone(&self.inner.recent_reads).acquire_owned().await.ok())
        } else {
            Source::Stored(self.read_stored(blob, range.clone()).await)
        };
        let is_whole = range == (0..blob.size);
        let reader = Reader { blobs: self.clone(), blob, range, is_whole, source };
        stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader))).boxed()
    }

    /// All of a blob, which the caller has found to be small enough.
    pub(crate) async fn read_all(&self, blob: Blob) -> Result<Bytes, BlobError> {
        let mut chunks = self.read(blob, 0..blob.size).await;
        let mut all = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(Bytes::from(all))
    }

    async fn read_stored(
        &self,
        blob: Blob,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, BlobError>> {
        // It is never closed.
        let place = Arc::clone(&self.inner.reads).acquire_owned().await.ok();
        let blobs = self.clone();
        read(Arc::clone(&self.inner.objects), blob, range, place)
            .inspect_err(move |error| blobs.note_damage(error))
            .boxed()
    }
}

/// Gives a range of a blob.
struct Reader {
    blobs: Blobs,
    blob: Blob,
    /// What is missing yet.
    range: Range<u64>,
    /// Whether it is all of the blob.
    is_whole: bool,
    source: Source,
}

enum Source {
    /// Memory, for as long as the blob is there; and a place among those who read it.
    Recent(Option<OwnedSemaphorePermit>),
    Stored(BoxStream<'static, Result<Bytes, BlobError>>),
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, BlobError>> {
        if let Source::Recent(place) = &mut self.source {
            if self.range.is_empty() {
                return None;
            }
            let recent = self.blobs.recent().get(self.blob.digest, self.range.start);
            if let Some(mut piece) = recent {
                let missing = self.range.end - self.range.start;
                piece.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
                self.range.start += piece.len() as u64;
                return Some(Ok(piece));
            }
            *place = None;
            self.source = Source::Stored(self.read_rest().await);
        }
        match &mut self.source {
            Source::Stored(pieces) => pieces.next().await,
            Source::Recent(_) => None,
        }
    }

    /// The blob is no longer in memory: others were written meanwhile.
    async fn read_rest(&mut self) -> BoxStream<'static, Result<Bytes, BlobError>> {
        if !self.is_whole {
            return self.blobs.read_stored(self.blob, self.range.clone()).await;
        }
        // What was damaged since is found if all of it is read.
        let mut given = self.range.start;
        let all = self.blobs.read_stored(self.blob, 0..self.blob.size).await;
        let rest = all.map(move |piece| {
            piece.map(|mut piece| {
                let skipped = given.min(piece.len() as u64);
                given -= skipped;
                piece.split_off(skipped as usize)
            })
        });
        rest.boxed()
    }
}

/// Holds what is read against the name it should have.
struct Verifier {
    blob: Blob,
    /// None if only a range is read.
    hasher: Option<Sha256>,
    missing: u64,
    _place: Option<OwnedSemaphorePermit>,
}

fn read(
    objects: Arc<dyn ObjectStore>,
    blob: Blob,
    range: Range<u64>,
    place: Option<OwnedSemaphorePermit>,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static {
    let verifier = Verifier {
        blob,
        hasher: (range == (0..blob.size)).then(Sha256::new),
        missing: range.end.saturating_sub(range.start),
        _place: place,
    };
    let path = path_of(blob.digest);
    let begins = (range.start..range.end).step_by(PIECE_BYTES as usize);
    let pieces = stream::iter(begins).map(move |begin| {
        let (objects, path) = (Arc::clone(&objects), path.clone());
        async move { objects.get_range(&path, begin..(begin + PIECE_BYTES).min(range.end)).await }
    });
    let pieces = Box::pin(pieces.buffered(PIECES_AHEAD));
    stream::unfold(Some((pieces, verifier)), |state| async move {
        let (mut pieces, mut verifier) = state?;
        match pieces.next().await {
            Some(read) => match verifier.take(read) {
                Ok(piece) => Some((Ok(piece), Some((pieces, verifier)))),
                Err(error) => Some((Err(error), None)),
            },
            None => verifier.end().err().map(|error| (Err(error), None)),
        }
    })
}

impl Verifier {
    fn take(&mut self, read: object_store::Result<Bytes>) -> Result<Bytes, BlobError> {
        let piece = read.map_err(|error| match error {
            object_store::Error::NotFound { .. } => BlobError::NotFound(self.blob.digest),
            error => error.into(),
        })?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.missing = self
            .missing
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| self.damaged("there is more of it than there should be".to_owned()))?;
        Ok(piece)
    }

    fn end(self) -> Result<(), BlobError> {
        if self.missing > 0 {
            return Err(self.damaged(format!("{} of its {} bytes are missing", self.missing, self.blob.size)));
        }
        match self.hasher.as_ref().map(|hasher| BlobDigest::new(hasher.clone().finalize().into())) {
            Some(found) if found != self.blob.digest => {
                Err(self.damaged(format!("its bytes hash to {found}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn damaged(&self, why: String) -> BlobError {
        BlobError::Damaged { digest: self.blob.digest, why }
    }
}
