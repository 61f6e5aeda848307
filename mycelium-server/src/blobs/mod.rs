//! Values too large to travel inline: kept beside the store, named by the SHA-256 of their bytes.
//!
//! What a blob is for stands in the store (its *uses*, written with the jobs that name it); here are only bytes. A blob
//! without a use is removed, but not while somebody may be about to name it: whoever writes one, or asks whether it is
//! there, has it *pinned* for the grace period. Pins are not stored; after a start, everything is pinned for one period.

mod output;
mod pins;
mod places;
mod read;
mod recent;
mod staged;
mod write;

use std::collections::HashSet;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use mycelium_proto::{limits, v1};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::{RwLock, Semaphore};

use crate::defect::{self, Defect};
use crate::spawn::TaskGroup;
use crate::store::{BlobDigest, Error as StoreError};
use pins::Pins;
use places::Places;
use recent::Recent;
pub(crate) use write::{Begun, Piece, Upload};

/// How many blobs are read at once from where they are stored. Each takes up to 3 MiB of memory, so all take up to 48 MiB.
const READS_MAX: usize = 16;
/// How many are read at once from memory. Each keeps up to 2 MiB that is on its way and may not be remembered any more,
/// so all keep up to 48 MiB.
const RECENT_READS_MAX: usize = 24;
/// Of how many blobs it is known that they are damaged. With more there is more to mend than blobs.
const DAMAGED_MAX: usize = 10_000;

/// A blob: its name and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Blob {
    pub(crate) digest: BlobDigest,
    /// In bytes.
    pub(crate) size: u64,
}

impl Blob {
    /// The blob that a message names.
    ///
    /// # Errors
    /// If it cannot name one.
    pub(crate) fn from_message(blob: &v1::BlobRef) -> Result<Self, BadBlobRef> {
        let digest = BlobDigest::from_slice(&blob.digest).ok_or(BadBlobRef::Digest)?;
        if blob.size > limits::BLOB_BYTES_MAX {
            return Err(BadBlobRef::Size { size: blob.size });
        }
        Ok(Self { digest, size: blob.size })
    }

    pub(crate) fn to_message(self) -> v1::BlobRef {
        v1::BlobRef { digest: Bytes::copy_from_slice(self.digest.as_bytes()), size: self.size }
    }
}

/// A message that names no blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBlobRef {
    #[error("`blob.digest` must be 32 bytes")]
    Digest,
    #[error("`blob.size` is {size}, and the most is {}", limits::BLOB_BYTES_MAX)]
    Size { size: u64 },
}

/// What can go wrong with a blob.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("blob {0} is not there")]
    NotFound(BlobDigest),
    #[error("the blob is not what its header says: {0}")]
    Differs(String),
    #[error("blob {digest} is damaged: {why}")]
    Damaged { digest: BlobDigest, why: String },
    #[error("the transfer of a blob stood still for too long")]
    Stalled,
    #[error(transparent)]
    Defect(#[from] Defect),
    #[error("the blobs cannot be read or written")]
    Unavailable(#[source] Arc<object_store::Error>),
}

impl BlobError {
    /// Whether what is stored of a blob is gone or not what was written: trying again does not help.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NotFound(_))
    }
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) }.into()
    }
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

/// The blobs of a mycelium. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// The folder they are in, if it is one of this machine.
    folder: Option<PathBuf>,
    grace: Duration,
    /// Before this, nothing is removed.
    grace_until: Instant,
    pins: Mutex<Pins>,
    /// What was found to be damaged, or gone, when it was read, and was not written again since.
    damaged: Mutex<HashSet<BlobDigest>>,
    recent: Arc<Mutex<Recent>>,
    /// Taken for writing while a blob is removed, and for reading from the moment a blob is found or made until it is
    /// pinned.
    removing: RwLock<()>,
    /// How many want all blobs to stay.
    keepers: Arc<AtomicUsize>,
    places: Arc<Places>,
    reads: Arc<Semaphore>,
    recent_reads: Arc<Semaphore>,
    /// Blobs that are given their names.
    tasks: TaskGroup,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blobs").field("objects", &self.inner.objects).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Blobs that are gone with the process.
    pub(crate) fn in_memory(grace: Duration) -> Self {
        Self::new(Arc::new(InMemory::new()), None, grace)
    }

    /// Blobs in a folder, which is made if it is not there. What uploads of an earlier process left in pieces goes.
    pub(crate) fn open(folder: &FilePath, grace: Duration) -> Result<Self, StoreError> {
        let unavailable = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable {
            what: format!("the folder of blobs {} cannot be used", folder.display()),
            certainly_not_applied: true,
            source: Some(source),
        };
        staged::prepare(folder).map_err(|error| unavailable(error.into()))?;
        make_shards(folder).map_err(|error| unavailable(error.into()))?;
        let objects = LocalFileSystem::new_with_prefix(folder).map_err(|error| unavailable(error.into()))?;
        Ok(Self::new(Arc::new(objects), Some(folder.to_owned()), grace))
    }

    fn new(objects: Arc<dyn ObjectStore>, folder: Option<PathBuf>, grace: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                objects,
                folder,
                grace,
                grace_until: Instant::now() + grace,
                pins: Mutex::default(),
                damaged: Mutex::default(),
                recent: Arc::default(),
                removing: RwLock::new(()),
                keepers: Arc::default(),
                places: Places::new(),
                reads: Arc::new(Semaphore::new(READS_MAX)),
                recent_reads: Arc::new(Semaphore::new(RECENT_READS_MAX)),
                tasks: TaskGroup::default(),
            }),
        }
    }

    /// The folder they are in, if it is one of this machine.
    pub(crate) fn folder(&self) -> Option<&PathBuf> {
        self.inner.folder.as_ref()
    }

    /// Waits for the blobs that are being given their names.
    pub(crate) async fn end(&self, within: Duration) {
        self.inner.tasks.end(within).await;
    }

    /// As [`find`](Self::find), for those who would write it or name it anew: one that is known to be damaged is not
    /// there for them, so that whoever has its bytes writes it again.
    pub(crate) async fn find_sound(&self, digest: BlobDigest) -> Result<Option<Blob>, BlobError> {
        if self.damaged().contains(&digest) { Ok(None) } else { self.find(digest).await }
    }

    /// The size of a blob, if it is there. It then stays for the grace period.
    pub(crate) async fn find(&self, digest: BlobDigest) -> Result<Option<Blob>, BlobError> {
        let _stays = self.inner.removing.read().await;
        self.find_guarded(digest).await
    }

    /// As [`find`](Self::find), for those who keep blobs from being removed.
    async fn find_guarded(&self, digest: BlobDigest) -> Result<Option<Blob>, BlobError> {
        if let Some(size) = self.pins().renew(digest, self.inner.grace) {
            return Ok(Some(Blob { digest, size }));
        }
        let path = path_of(digest);
        match self.inner.objects.head(&path).await {
            Ok(found) => {
                self.sync_folder_of(digest).await?;
                self.pins().pin(digest, found.size, self.inner.grace);
                Ok(Some(Blob { digest, size: found.size }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A process that died between giving a blob its name and syncing that to the disk has left one that this process
    /// sees and a power cut would take.
    async fn sync_folder_of(&self, digest: BlobDigest) -> Result<(), BlobError> {
        let Some(folder) = &self.inner.folder else { return Ok(()) };
        let folder = folder.join(shard_of(digest));
        let sync = move || defect::catch("the sync of a folder", || staged::sync_folder(&folder));
        let synced = tokio::task::spawn_blocking(sync).await;
        // Not run at all: the runtime is stopping.
        Ok(synced.unwrap_or_else(|stopping| Ok(Err(std::io::Error::other(stopping))))??)
    }

    /// Sees to it that blobs are there and stay for the grace period: they are about to be named in the store.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] for the first that is not there, [`BlobError::Differs`] for one of another size.
    pub(crate) async fn require(&self, blobs: &[Blob]) -> Result<(), BlobError> {
        for blob in blobs {
            match self.find_sound(blob.digest).await? {
                None => return Err(BlobError::NotFound(blob.digest)),
                Some(found) if found.size != blob.size => {
                    let (given, size) = (blob.size, found.size);
                    let why = format!("blob {} has {size} bytes, and not {given}", blob.digest);
                    return Err(BlobError::Differs(why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        recent::lock(&self.inner.recent)
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<BlobDigest>> {
        self.inner.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What could not be read: it is to be written again by whoever has its bytes.
    fn note_damage(&self, error: &BlobError) {
        if let BlobError::Damaged { digest, .. } | BlobError::NotFound(digest) = error {
            let mut damaged = self.damaged();
            if damaged.len() < DAMAGED_MAX {
                damaged.insert(*digest);
            }
        }
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        self.inner.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blobs whose pins have run out, at most `limit`: to be looked at whether they have a use.
    pub(crate) fn expired(&self, limit: usize) -> Vec<BlobDigest> {
        self.pins().take_expired(Instant::now(), limit)
    }

    /// Whether the first grace period is over.
    pub(crate) fn may_remove(&self) -> bool {
        Instant::now() >= self.inner.grace_until && self.inner.keepers.load(Ordering::SeqCst) == 0
    }

    /// No blob is removed for as long as this is held.
    pub(crate) fn keep_all(&self) -> KeepAll {
        self.inner.keepers.fetch_add(1, Ordering::SeqCst);
        KeepAll(Arc::clone(&self.inner.keepers))
    }

    /// All blobs there are.
    pub(crate) fn list(&self) -> BoxStream<'static, Result<Blob, BlobError>> {
        let listed = self.inner.objects.list(None);
        let blobs = listed.filter_map(|listed| async move {
            match listed {
                Ok(meta) => digest_of(&meta.location).map(|digest| Ok(Blob { digest, size: meta.size })),
                Err(error) => Some(Err(error.into())),
            }
        });
        blobs.boxed()
    }

    /// Removes a blob, unless somebody has pinned it, or `is_unused` says that it has a use. Nobody can find it or make
    /// it meanwhile.
    pub(crate) async fn remove_if(
        &self,
        digest: BlobDigest,
        is_unused: impl AsyncFnOnce() -> bool,
    ) -> Result<bool, BlobError> {
        let _alone = self.inner.removing.write().await;
        let is_kept = self.pins().is_pinned(digest) || self.inner.keepers.load(Ordering::SeqCst) > 0;
        if is_kept || !is_unused().await {
            return Ok(false);
        }
        self.recent().forget(digest);
        match self.inner.objects.delete(&path_of(digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// See [`Blobs::keep_all`].
pub(crate) struct KeepAll(Arc<AtomicUsize>);

impl Drop for KeepAll {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes the folders that blobs stand in, so that none has to wait until its folder is synced. Those of a process that
/// died before it had synced them are synced all the same.
fn make_shards(folder: &FilePath) -> std::io::Result<()> {
    for shard in 0..=u8::MAX {
        match crate::private::create_dir(&folder.join(format!("{shard:02x}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    staged::sync_folder(folder)?;
    // The folder's own name.
    match folder.parent() {
        Some(here) if here.as_os_str().is_empty() => staged::sync_folder(FilePath::new(".")),
        Some(parent) => staged::sync_folder(parent),
        None => Ok(()),
    }
}

/// Blobs stand in 256 folders, so that none gets too large.
fn shard_of(digest: BlobDigest) -> String {
    format!("{:02x}", digest.as_bytes()[0])
}

fn path_of(digest: BlobDigest) -> Path {
    Path::from_iter([shard_of(digest), digest.to_string()])
}

/// The digest of a stored blob; `None` for what is none.
fn digest_of(path: &Path) -> Option<BlobDigest> {
    let digest: BlobDigest = path.filename()?.parse().ok()?;
    (path_of(digest) == *path).then_some(digest)
}

#[cfg(test)]
mod tests;
