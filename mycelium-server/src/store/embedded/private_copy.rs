//! A copy of a database to look into: the database changes what it opens, and what is looked at stays as it is.
//!
//! The files of tables never change, so the copy has links to them. Its journals have the whole batches alone.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::folder::unavailable;
use super::journal::{Journal, Journals};
use super::tables::Tables;
use super::versions::{FORMAT_FILE, keyspace_in};
use crate::private;
use crate::store::Error;

/// The folders of files that never change.
const UNCHANGING: [&str; 2] = ["tables", "blobs"];

/// A copy, which is removed with this.
pub(super) struct PrivateCopy {
    folder: TempDir,
    of: PathBuf,
}

impl PrivateCopy {
    /// Copies the database in the folder `store`, of which these are the journals, into a new folder in `within`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(super) fn make(store: &Path, journals: &Journals, within: &Path) -> Result<Self, Error> {
        let failed = |error| unavailable(within, "cannot make a folder in", error);
        let mut making = tempfile::Builder::new();
        making.prefix("mycelium-look-").permissions(fs::Permissions::from_mode(0o700));
        let folder = making.tempdir_in(within).map_err(failed)?;
        let read = |error| unavailable(store, "cannot read the folder", error);
        let store = store.canonicalize().map_err(read)?;
        let copy = Self { folder, of: store };
        copy_folder(&copy.of, &copy.store())?;
        if journals.files.is_empty() {
            // The database finds out which sequence numbers it has given only where there is one.
            let path = copy.store().join("0.jnl");
            private::create_file(&path).map_err(|error| unavailable(&path, "cannot make the file", error))?;
        }
        for (index, journal) in journals.files.iter().enumerate() {
            copy.write_journal(index, journal, journals)?;
        }
        Ok(copy)
    }

    /// Where the copied database is.
    pub(super) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A text about files of the copy, about those that were copied.
    pub(super) fn of_original(&self, text: &str) -> String {
        text.replace(&*self.store().to_string_lossy(), &self.of.to_string_lossy())
    }

    /// An error about files of the copy, about those that were copied.
    pub(super) fn error_of_original(&self, error: Error) -> Error {
        match error {
            Error::Damaged { what } => Error::Damaged { what: self.of_original(&what) },
            error => error,
        }
    }

    /// Takes the names and settings of the tables, and the format, which are always the same, from a new database.
    pub(super) fn renew_names(&self) -> Result<(), Error> {
        let new = self.folder.path().join("new");
        drop(Tables::create(&new)?);
        let (from, to) = (keyspace_in(&new, 0), keyspace_in(&self.store(), 0));
        let replace = || {
            if to.try_exists()? {
                fs::remove_dir_all(&to)?;
            }
            fs::rename(&from, &to)?;
            fs::rename(new.join(FORMAT_FILE), self.store().join(FORMAT_FILE))?;
            fs::remove_dir_all(&new)
        };
        replace().map_err(|error| unavailable(&to, "cannot replace the folder", error))
    }

    fn write_journal(&self, index: usize, journal: &Journal, journals: &Journals) -> Result<(), Error> {
        let Some(name) = journal.path.file_name() else { return Ok(()) };
        let path = self.store().join(name);
        let write = || {
            let mut from = File::open(&journal.path)?;
            let mut to = private::create_file(&path)?;
            let mut written = 0;
            for whole in &journal.whole {
                from.seek(SeekFrom::Start(whole.start))?;
                let bytes = whole.end - whole.start;
                if io::copy(&mut (&from).take(bytes), &mut to)? != bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let wrong = journals.sequences.iter().filter(|wrong| wrong.journal == index);
                for wrong in wrong.filter(|wrong| whole.contains(&wrong.place)) {
                    to.write_all_at(&wrong.right.to_le_bytes(), written + wrong.place - whole.start)?;
                }
                written += bytes;
            }
            to.flush()
        };
        write().map_err(|error| unavailable(&path, "cannot copy the journal to", error))
    }
}

/// Copies a folder of the database, but for its journals.
fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    private::create_dir(to).map_err(|error| unavailable(to, "cannot make the folder", error))?;
    let is_unchanging = from.file_name().is_some_and(|name| UNCHANGING.iter().any(|folder| name == *folder));
    let read = |error| unavailable(from, "cannot read the folder", error);
    for entry in fs::read_dir(from).map_err(read)? {
        let entry = entry.map_err(read)?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(read)?.is_dir() {
            copy_folder(&path, &to)?;
        } else if is_unchanging {
            symlink(&path, &to).map_err(|error| unavailable(&to, "cannot make the link", error))?;
        } else if path.extension().is_none_or(|extension| extension != "jnl") {
            File::open(&path)
                .and_then(|mut from| io::copy(&mut from, &mut private::create_file(&to)?))
                .map_err(|error| unavailable(&path, "cannot copy the file", error))?;
        }
    }
    Ok(())
}
