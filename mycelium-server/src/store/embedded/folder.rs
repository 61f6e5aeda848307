//! The data folder: whose it is, which format it has, and that only one broker uses it.
//!
//! ```text
//! mycelium.format    says that the folder is ours, and the version of what is in it
//! mycelium.lock      locked by the broker that uses the folder
//! mycelium.mark      the high-water mark
//! store/             the database
//! ```
//! A new folder is filled under the name `mycelium.creating`, which becomes `mycelium.format` when everything is in
//! place: a folder whose making was interrupted is recognised, and made anew. A copy that is written has the file
//! `mycelium.unfinished` until it is whole, and is not opened before.
//!
//! No other user can read the folder, or lock it, whatever the umask is; one that an earlier release made is changed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;
use crate::private;

const FORMAT_FILE: &str = "mycelium.format";
const CREATING_FILE: &str = "mycelium.creating";
const RAISING_FILE: &str = "mycelium.raising";
const PROBE_FILE: &str = "mycelium.probe";
const UNFINISHED_FILE: &str = "mycelium.unfinished";
const LOCK_FILE: &str = "mycelium.lock";
const MARK_FILE: &str = "mycelium.mark";
const STORE_FOLDER: &str = "store";

/// The first line of the format file.
const MAGIC: &str = "mycelium data folder";
/// The version of everything in the folder: keys, records, mark. With 2, records gained labels, attempts and when
/// they were started, on whose behalf flows were submitted, and where the clock was set back: a program that knows 1 alone
/// would read them without these, and write them so. With 3, what they have in common stands in words.
pub(super) const FORMAT_VERSION: u32 = 3;
/// The oldest version that is read. What it stored needs no change, so its folders are raised by their format file alone.
pub(super) const OLDEST_FORMAT_VERSION: u32 = 1;
/// The longest format file that is read, in bytes; a longer one is not ours.
const FORMAT_BYTES_MAX: u64 = 1024;

/// How much is written to find out whether there is space again, in bytes: some commits, and a part of a table.
const PROBE_BYTES: usize = 1024 * 1024;

/// How long to wait for a broker that is just ending to let go of the folder.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Whether a folder holds a store that is complete, or one that is still to be made in it.
pub(crate) fn is_store_folder(path: &Path) -> bool {
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let is_ours = || [FORMAT_FILE, CREATING_FILE].iter().any(|file| path.join(file).is_file());
    !path.join(UNFINISHED_FILE).exists() && (is_ours() || is_empty())
}

/// Whether a folder holds a store, or a copy of one that was not finished, or what is left of one that has lost its
/// format.
pub(crate) fn holds_store(path: &Path) -> bool {
    let has = |file| path.join(file).exists();
    has(FORMAT_FILE) || has(UNFINISHED_FILE) || (has(MARK_FILE) && !has(CREATING_FILE))
}

/// A data folder that is ours, and locked by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The version of what is in it.
    version: u32,
    /// Held for as long as the folder is in use; the operating system lets go of it with the process. `None` if it is
    /// only looked into, and no broker has made the file.
    _lock: Option<File>,
}

impl Folder {
    /// Takes the folder, after `create` has filled it if it is new.
    pub(super) fn open(path: &Path, create: impl FnOnce(&Self) -> Result<(), Error>) -> Result<Self, Error> {
        private::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => foreign(path, "it is not a folder"),
            _ => unavailable(path, "cannot make the data folder", error),
        })?;
        check_finished(path)?;
        let format = path.join(FORMAT_FILE);
        let creating = path.join(CREATING_FILE);
        // Looked at before anything is written: a folder that is not ours is left as it is.
        if !exists(&format)? && !exists(&creating)? && holds_anything(path)? {
            return Err(foreign(path, "it holds other files, and no `mycelium.format`"));
        }

        let lock_path = path.join(LOCK_FILE);
        let file = private::options().create(true).truncate(false).open(&lock_path);
        let file = file.map_err(|error| unavailable(&lock_path, "cannot lock the data folder", error))?;
        let mut folder =
            Self { path: path.to_owned(), version: FORMAT_VERSION, _lock: Some(lock(path, file)?) };
        private::tighten(path)
            .map_err(|error| unavailable(path, "cannot keep others from reading the folder", error))?;
        if exists(&format)? {
            folder.version = read_version(path, &format)?;
        } else {
            folder.clear()?;
            write_durably(&creating, &format_text())?;
            sync_folder(path)?;
            create(&folder)?;
            sync_folder(path)?;
            fs::rename(&creating, &format)
                .map_err(|error| unavailable(&creating, "cannot rename the file", error))?;
            sync_folder(path)?;
        }
        Ok(folder)
    }

    /// Takes a folder that is there, to look into it. Nothing is written.
    pub(super) fn open_existing(path: &Path) -> Result<Self, Error> {
        let format = path.join(FORMAT_FILE);
        check_finished(path)?;
        if !exists(&format)? {
            return Err(foreign(path, "it holds no `mycelium.format`"));
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = match File::open(&lock_path) {
            Ok(file) => Some(lock(path, file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unavailable(&lock_path, "cannot lock the data folder", error)),
        };
        let version = read_version(path, &format)?;
        Ok(Self { path: path.to_owned(), version, _lock: lock })
    }

    /// Says of a folder of an older version that it has this one from now on, before anything of this one is written: an
    /// older program refuses it then. A process that is killed meanwhile leaves either.
    pub(super) fn raise_format(&mut self) -> Result<(), Error> {
        if self.version == FORMAT_VERSION {
            return Ok(());
        }
        let raising = self.path.join(RAISING_FILE);
        write_durably(&raising, &format_text())?;
        fs::rename(&raising, self.path.join(FORMAT_FILE))
            .map_err(|error| unavailable(&raising, "cannot rename the file", error))?;
        sync_folder(&self.path)?;
        self.version = FORMAT_VERSION;
        Ok(())
    }

    /// Where the folder is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the mark is.
    pub(super) fn mark(&self) -> PathBuf {
        mark_in(&self.path)
    }

    /// Where the database is.
    pub(super) fn store(&self) -> PathBuf {
        store_in(&self.path)
    }

    /// Finds out whether the folder can be written, by writing and removing a file.
    pub(super) fn probe(&self) -> Result<(), Error> {
        let path = self.path.join(PROBE_FILE);
        let write = || {
            let mut file = private::create_file(&path)?;
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_all()
        };
        let written = write().map_err(|error| unavailable(&path, "cannot write the file", error));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                written.and(Err(unavailable(&path, "cannot remove the file", error)))
            }
            Ok(()) | Err(_) => written,
        }
    }

    /// Removes what an interrupted making has left.
    fn clear(&self) -> Result<(), Error> {
        let store = self.store();
        if exists(&store)? {
            fs::remove_dir_all(&store)
                .map_err(|error| unavailable(&store, "cannot remove the unfinished folder", error))?;
        }
        let mark = self.mark();
        if exists(&mark)? {
            fs::remove_file(&mark)
                .map_err(|error| unavailable(&mark, "cannot remove the unfinished file", error))?;
        }
        Ok(())
    }
}

/// Where the mark is in a folder.
pub(super) fn mark_in(path: &Path) -> PathBuf {
    path.join(MARK_FILE)
}

/// Where the database is in a folder.
pub(super) fn store_in(path: &Path) -> PathBuf {
    path.join(STORE_FOLDER)
}

/// Says, durably, that what is in a new folder is a copy that is being written.
pub(super) fn begin_copy(path: &Path) -> Result<(), Error> {
    write_durably(&path.join(UNFINISHED_FILE), "a copy that is not finished\n")?;
    sync_folder(path)
}

/// Makes a copy valid, all of which is durable.
pub(super) fn end_copy(path: &Path) -> Result<(), Error> {
    write_durably(&path.join(FORMAT_FILE), &format_text())?;
    sync_folder(path)?;
    let unfinished = path.join(UNFINISHED_FILE);
    fs::remove_file(&unfinished)
        .map_err(|error| unavailable(&unfinished, "cannot remove the file", error))?;
    sync_folder(path)
}

fn check_finished(path: &Path) -> Result<(), Error> {
    if exists(&path.join(UNFINISHED_FILE))? {
        return Err(foreign(path, "it is a copy that was not finished; remove it and make the copy again"));
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unavailable(path, "cannot sync the folder", error))
}

/// Makes the names in a folder and in all that are in it durable.
pub(super) fn sync_folders(path: &Path) -> Result<(), Error> {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let read = |error| unavailable(&folder, "cannot read the folder", error);
        for entry in fs::read_dir(&folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.file_type().map_err(read)?.is_dir() {
                folders.push(entry.path());
            }
        }
        sync_folder(&folder)?;
    }
    Ok(())
}

fn write_durably(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = private::create_file(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| unavailable(path, "cannot write the file", error))
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|error| unavailable(path, "cannot look for the file", error))
}

/// Whether there is anything in the folder but a lock, which a broker makes before everything else.
fn holds_anything(path: &Path) -> Result<bool, Error> {
    let read = |error| unavailable(path, "cannot read the folder", error);
    for entry in fs::read_dir(path).map_err(read)? {
        if entry.map_err(read)?.file_name() != LOCK_FILE {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(path: &Path, file: File) -> Result<File, Error> {
    let failed = |error| unavailable(&path.join(LOCK_FILE), "cannot lock the data folder", error);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { what: format!("the data folder {}", path.display()) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// What is in the format file of this version.
fn format_text() -> String {
    format!("{MAGIC}\nversion {FORMAT_VERSION}\n")
}

/// The version of what is in a folder, if this program reads it.
fn read_version(folder: &Path, path: &Path) -> Result<u32, Error> {
    let read = |error| unavailable(path, "cannot read the file", error);
    if fs::metadata(path).map_err(read)?.len() > FORMAT_BYTES_MAX {
        return Err(foreign(folder, "its `mycelium.format` is not one of ours"));
    }
    let bytes = fs::read(path).map_err(read)?;
    let version = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(MAGIC)?.strip_prefix("\nversion ")?.strip_suffix('\n'))
        .and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(version @ OLDEST_FORMAT_VERSION..=FORMAT_VERSION) => Ok(version),
        Some(version) => Err(foreign(
            folder,
            &format!(
                "its format has version {version}, and this program reads versions {OLDEST_FORMAT_VERSION} to \
                 {FORMAT_VERSION}"
            ),
        )),
        None => Err(foreign(folder, "its `mycelium.format` is not one of ours")),
    }
}

fn foreign(folder: &Path, why: &str) -> Error {
    Error::Foreign { folder: folder.display().to_string(), why: why.to_owned() }
}

pub(super) fn unavailable(path: &Path, what: &str, error: io::Error) -> Error {
    Error::Unavailable {
        what: format!("{what} {}: {error}", path.display()),
        certainly_not_applied: true,
        source: Some(Box::new(error)),
    }
}
