//! Reading blobs.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{Blob, BlobError, path_of};
use crate::store::BlobDigest;

/// How much is read at once, and how much ahead: while one piece is sent the next is read.
const PIECE_BYTES: u64 = 1024 * 1024;
const PIECES_AHEAD: usize = 2;

/// Holds what is read against the name it should have.
struct Verifier {
    blob: Blob,
    /// None if only a range is read.
    hasher: Option<Sha256>,
    missing: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

pub(super) fn read(
    objects: Arc<dyn ObjectStore>,
    blob: Blob,
    range: Range<u64>,
    permit: Option<OwnedSemaphorePermit>,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static {
    let range = range.start.min(blob.size)..range.end.min(blob.size);
    let verifier = Verifier {
        blob,
        hasher: (range == (0..blob.size)).then(Sha256::new),
        missing: range.end.saturating_sub(range.start),
        _permit: permit,
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
