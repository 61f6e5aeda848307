//! Writes what is in an export into an empty store.

use std::path::Path;

use mycelium_core::ids::Commit;
use mycelium_core::image::{Counters, Image};

use super::error::file;
use super::folder::{Folder, Lines, Manifest};
use super::sections::{self, Blobs, Section, Visitor};
use super::source::Source;
use super::{Bounds, Error, Moved, blob_files, marker, verify};
use crate::private;
use crate::store::{Batch, Knowledge, Storage, wait_for};

/// An export that is whole: each line is as it was written, and all blobs are there.
#[derive(Debug)]
pub struct Export {
    folder: Folder,
    manifest: Manifest,
    /// Of the manifest, and so of all that it names.
    digest: [u8; 32],
}

impl Export {
    /// Reads what is in the folder `path`. Blocks.
    ///
    /// # Errors
    /// [`Error::NotAnExport`], [`Error::Damaged`], [`Error::File`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::at(path);
        let (manifest, digest) = folder.manifest()?;
        verify::files(&folder, &manifest)?;
        Ok(Self { folder, manifest, digest })
    }

    /// Writes all that is in it into a store, which is empty, or in which the same import was cut off. Nobody else may
    /// write to the store meanwhile. Blocks.
    ///
    /// What was committed is not committed again: the number of the newest commit tells how many batches that were. At
    /// the end what is stored is read again and held against the export, before a broker may serve it.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::OtherImport`], [`Error::NoBlobs`], [`Error::Damaged`], [`Error::File`],
    /// [`Error::Store`]. After the latter three the same call goes on where it was.
    pub fn import(self, store: &dyn Storage) -> Result<Moved, Error> {
        self.import_in(store, Bounds::DEFAULT)
    }

    pub(super) fn import_in(self, store: &dyn Storage, bounds: Bounds) -> Result<Moved, Error> {
        let Self { folder, manifest, digest } = self;
        let (stored, bounds, is_new) = begin(store, digest, bounds)?;
        let mut import = Import {
            store,
            folder: &folder,
            bounds,
            knowledge: Knowledge::default(),
            stored,
            batch: next_batch(Counters { commit: MARKED, ..Counters::default() }),
            lines: 0,
            bytes: 0,
        };
        sections::visit(&mut import)?;
        copy_blobs(&folder, store)?;
        verify::store(&folder, &Source::open(store)?)?;
        let mut last = import.batch;
        last.counters = Counters { commit: last.counters.commit, ..manifest.origin.counters() };
        last.records.sessions_ended.push(marker::ID);
        store.commit(&last).wait()?;
        store.close().wait()?;
        Ok(Moved::of(manifest, !is_new))
    }
}

/// The commit that says that a store is being made.
const MARKED: Commit = Commit(1);

/// Says of an empty store that it is being made, or finds how far that has come. Returns the newest commit, how large
/// batches are, and whether it begins now.
fn begin(store: &dyn Storage, export: [u8; 32], bounds: Bounds) -> Result<(Commit, Bounds, bool), Error> {
    let Image { counters, sessions, .. } = store.load(&mut |_| {}).wait()?;
    if let Some(marker) = sessions.iter().find(|session| marker::is_marker(session)) {
        return match marker::read(marker) {
            Some((of, bounds)) if of == export => Ok((counters.commit, bounds, false)),
            Some(_) | None => Err(Error::OtherImport),
        };
    }
    if counters.commit != Commit(0) {
        return Err(Error::NotEmpty(counters.commit));
    }
    let mut batch = next_batch(counters);
    batch.records.sessions_opened.push(marker::of(export, bounds));
    store.commit(&batch).wait()?;
    Ok((MARKED, bounds, true))
}

/// An empty batch that follows the one that left these numbers.
fn next_batch(counters: Counters) -> Batch {
    let commit = Commit(counters.commit.0 + 1);
    Batch { counters: Counters { commit, ..counters }, ..Batch::default() }
}

struct Import<'a> {
    store: &'a dyn Storage,
    folder: &'a Folder,
    bounds: Bounds,
    knowledge: Knowledge,
    /// The newest commit that was stored before.
    stored: Commit,
    /// The batch that is put together, and what went into it.
    batch: Batch,
    lines: u64,
    bytes: u64,
}

impl Visitor for Import<'_> {
    fn visit<S: Section>(&mut self) -> Result<(), Error> {
        let path = self.folder.lines_of(S::NAME);
        if !S::IS_STORED || (S::IS_NEW && !path.exists()) {
            return Ok(());
        }
        let mut section = S::default();
        let mut lines = Lines::open(&path)?;
        while let Some(line) = lines.next()? {
            (self.lines, self.bytes) = (self.lines + 1, self.bytes + line.len() as u64);
            if let Err(error) = section.take(line, &mut self.batch) {
                return Err(lines.damaged(error.to_string()));
            }
            if self.lines >= self.bounds.lines || self.bytes >= self.bounds.bytes {
                self.commit()?;
            }
        }
        if self.lines > 0 {
            self.commit()?;
        }
        Ok(())
    }
}

impl Import<'_> {
    /// Stores the batch, unless it is stored already, and begins the next.
    fn commit(&mut self) -> Result<(), Error> {
        let counters = self.batch.counters;
        if counters.commit > self.stored {
            if self.store.needs_known() {
                wait_for(self.knowledge.prepare(self.store, &mut self.batch))?;
            }
            self.store.commit(&self.batch).wait()?;
        }
        self.batch = next_batch(counters);
        (self.lines, self.bytes) = (0, 0);
        Ok(())
    }
}

/// Copies the blobs that are not there yet.
fn copy_blobs(folder: &Folder, store: &dyn Storage) -> Result<(), Error> {
    let (from, to) = (folder.blobs(), store.blobs_folder());
    let mut lines = Lines::open(&folder.lines_of(Blobs::NAME))?;
    let mut last = None;
    while let Some(line) = lines.next()? {
        let blob = Blobs::read_line(line);
        let (digest, _) = blob.map_err(|error| lines.damaged(error.to_string()))?;
        let to = to.as_deref().ok_or(Error::NoBlobs)?;
        if last.is_none() {
            private::create_dir_all(to).map_err(file("make", to))?;
        }
        if let Some(last) = last.filter(|last| !blob_files::is_beside(digest, *last)) {
            blob_files::sync_shard(to, last)?;
        }
        last = Some(digest);
        // One has its name only once it is whole.
        if blob_files::path_of(to, digest).exists() {
            continue;
        }
        let from = blob_files::path_of(&from, digest);
        if blob_files::copy(&from, to, digest)?.is_none() {
            let what = "it is not what its name says".to_owned();
            return Err(Error::Damaged { file: from, line: None, what });
        }
    }
    if let (Some(to), Some(last)) = (to, last) {
        blob_files::sync_shard(&to, last)?;
        blob_files::remove_staging(&to)?;
    }
    Ok(())
}
