//! Writes a copy of a mycelium into a new folder. A copy that was not finished is recognised, and is not opened.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fjall::{OwnedWriteBatch, PersistMode};
use mycelium_core::ids::Commit;
use sha2::{Digest as _, Sha256};

use super::BLOBS_FOLDER;
use super::codec::Head;
use super::folder::{self, unavailable};
use super::keys::catalog;
use super::mark::HighWaterMark;
use super::tables::{self, Table, Tables, damaged};
use crate::private;
use crate::store::{BlobDigest, Error};

/// Entries are written so many bytes at a time.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

fn create_new(path: &Path) -> Result<(), Error> {
    private::create_dir(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => unavailable(path, "cannot make the folder", error),
    })
}

/// Checks that there is nothing where a copy is to be.
///
/// # Errors
/// [`Error::Exists`] if there is.
pub fn check_absent(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() { Err(is_there(path)) } else { Ok(()) }
}

/// A copy that is being written.
pub struct NewStore {
    /// The data folder.
    data: PathBuf,
    /// The folder of the mycelium in it.
    path: PathBuf,
    tables: Tables,
    batch: OwnedWriteBatch,
    batch_bytes: usize,
}

impl std::fmt::Debug for NewStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewStore").field("folder", &self.data).finish_non_exhaustive()
    }
}

impl NewStore {
    /// Begins a copy of a mycelium, under this name in the data folder `data`, which is made if it is not there. The
    /// mycelium `default` is to be copied last: no broker starts on a folder without it, and so on none of several copies
    /// that was not finished.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is there; [`Error::Unavailable`] if it cannot be made.
    pub fn create(data: &Path, name: &str) -> Result<Self, Error> {
        private::create_dir_all(data).map_err(|error| unavailable(data, "cannot make the folder", error))?;
        let path = data.join(name);
        create_new(&path)?;
        folder::begin_copy(&path)?;
        folder::sync_folder(data)?;
        let blobs = path.join(BLOBS_FOLDER);
        private::create_dir(&blobs).map_err(|error| unavailable(&blobs, "cannot make the folder", error))?;
        let tables = Tables::create(&folder::store_in(&path))?;
        let batch = OwnedWriteBatch::with_capacity(tables.db.clone(), 1024);
        Ok(Self { data: data.to_owned(), path, tables, batch, batch_bytes: 0 })
    }

    /// Adds an entry of the table of this name.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such table; [`Error::Unavailable`].
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let Some(Table { keyspace, .. }) = self.tables.named(table) else {
            return Err(Error::Refused { what: format!("there is no table named {table}") });
        };
        self.batch.insert(&keyspace, key, value);
        self.batch_bytes += key.len() + value.len();
        if self.batch_bytes >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        let next = OwnedWriteBatch::with_capacity(self.tables.db.clone(), 1024);
        self.batch_bytes = 0;
        std::mem::replace(&mut self.batch, next).commit().map_err(tables::commit_error)
    }

    /// The tables, with all that was put into them so far.
    pub(super) fn tables(&mut self) -> Result<&Tables, Error> {
        self.write_batch()?;
        Ok(&self.tables)
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn blob(&self, digest: BlobDigest) -> Result<NewBlob, Error> {
        let name = digest.to_string();
        let shard = self.path.join(BLOBS_FOLDER).join(&name[..2]);
        match private::create_dir(&shard) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unavailable(&shard, "cannot make the folder", error));
            }
            Ok(()) | Err(_) => {}
        }
        let path = shard.join(name);
        let file =
            private::create_file(&path).map_err(|error| unavailable(&path, "cannot make the file", error))?;
        Ok(NewBlob { path, file, digest, hasher: Sha256::new() })
    }

    /// Makes the copy durable, and valid.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what was put into it is no store; [`Error::Unavailable`].
    pub fn finish(mut self) -> Result<Commit, Error> {
        self.write_batch()?;
        let Self { data, path, tables, batch, .. } = self;
        drop(batch);
        tables.db.persist(PersistMode::SyncAll).map_err(tables::commit_error)?;
        let head = tables.view().get::<Head>(&tables.catalog, catalog::COUNTERS, ())?.unwrap_or_default();
        drop(tables);
        let commit = head.counters.commit;
        let mark_path = folder::mark_in(&path);
        let mark = HighWaterMark::create(&mark_path)
            .and_then(|mark| {
                mark.raise(commit)?;
                mark.sync()
            })
            .map_err(|error| unavailable(&mark_path, "cannot make the file", error));
        mark?;
        let blobs = path.join(BLOBS_FOLDER);
        let read = |error| unavailable(&blobs, "cannot read the folder", error);
        for shard in fs::read_dir(&blobs).map_err(read)? {
            folder::sync_folder(&shard.map_err(read)?.path())?;
        }
        folder::sync_folder(&blobs)?;
        folder::end_copy(&path)?;
        folder::sync_folder(&data)?;
        Ok(commit)
    }
}

/// The folder that a new one is made in.
pub(super) fn parent_of(new: &Path) -> &Path {
    match new.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_there(new: &Path) -> Error {
    Error::Exists { folder: new.display().to_string() }
}

/// A blob of a copy, which is being written.
pub struct NewBlob {
    path: PathBuf,
    file: File,
    digest: BlobDigest,
    hasher: Sha256,
}

impl std::fmt::Debug for NewBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewBlob").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl NewBlob {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|error| unavailable(&self.path, "cannot write the file", error))
    }

    /// Removes it again.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn discard(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(|error| unavailable(&self.path, "cannot remove the file", error))
    }

    /// Makes it durable. One whose bytes are not those that its name says is removed.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub fn finish(self) -> Result<(), Error> {
        let Self { path, file, digest, hasher } = self;
        if hasher.finalize().as_slice() != digest.as_bytes() {
            fs::remove_file(&path).map_err(|error| unavailable(&path, "cannot remove the file", error))?;
            return Err(damaged(format!("blob {digest} is not what its name says")));
        }
        file.sync_all().map_err(|error| unavailable(&path, "cannot sync the file", error))
    }
}
