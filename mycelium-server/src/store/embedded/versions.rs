//! Looks at the files that say which tables there are, before the database does.
//!
//! Each table (keyspace) of the database has a file `v` with a number, which lists the files of the table, and a file
//! `current` with that number and the checksum of the former. The database does not compare them, and removes the files
//! that it finds listed nowhere, and tables without a `current`. So one flipped bit in either can cost a whole table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::folder::unavailable;
use super::tables::NAMES;
use crate::store::Error;

/// The number, the checksum, and the kind of checksum, in bytes.
const CURRENT_BYTES: usize = 25;
/// The largest file that is read, in bytes; a list of a million files is smaller.
const VERSION_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Says what format the database has, and what is in it.
pub(super) const FORMAT_FILE: &str = "version";
const FORMAT: &[u8] = b"FJL\x03";

/// A list of files that cannot be used.
#[derive(Debug)]
pub(super) struct Unlisted {
    /// The number of the table in the database. 0 has the names and settings of the others, and is named for the format of
    /// the database too.
    pub(super) keyspace: u64,
    /// What is wrong, with the file, in words.
    pub(super) problem: String,
}

/// The name of a table by its number in the database: they are made in the order of [`NAMES`].
pub(super) fn table_name(keyspace: u64) -> &'static str {
    match keyspace.checked_sub(1) {
        None => "names of tables",
        Some(index) => NAMES.get(index as usize).copied().unwrap_or("unknown"),
    }
}

/// The folder of a table.
pub(super) fn keyspace_in(store: &Path, keyspace: u64) -> PathBuf {
    store.join("keyspaces").join(keyspace.to_string())
}

/// The tables whose lists of files cannot be used.
///
/// # Errors
/// [`Error::Unavailable`] if the files cannot be read; damage is none.
pub(super) fn look(store: &Path) -> Result<Vec<Unlisted>, Error> {
    let mut found = Vec::new();
    let path = store.join(FORMAT_FILE);
    if read(&path)?.as_deref() != Some(FORMAT) {
        let problem = format!("the file {} is missing or damaged", path.display());
        found.push(Unlisted { keyspace: 0, problem });
    }
    for keyspace in 0..=NAMES.len() as u64 {
        if let Some(problem) = problem_in(&keyspace_in(store, keyspace))? {
            let problem = format!("{problem} (table {})", table_name(keyspace));
            found.push(Unlisted { keyspace, problem });
        }
    }
    Ok(found)
}

fn problem_in(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join("current");
    let Some(current) = read(&path)? else {
        return Ok(Some(format!("the file {} is missing", path.display())));
    };
    let number = current.first_chunk::<8>().map(|number| u64::from_le_bytes(*number));
    let checksum = current.get(8..).and_then(|rest| rest.first_chunk::<16>());
    let (Some(number), Some(checksum), CURRENT_BYTES) = (number, checksum, current.len()) else {
        return Ok(Some(format!("the file {} has {} bytes", path.display(), current.len())));
    };
    let version = folder.join(format!("v{number}"));
    let Some(bytes) = read(&version)? else {
        let (version, path) = (version.display(), path.display());
        return Ok(Some(format!("the file {version} is missing, or {path} is damaged")));
    };
    if xxh3_128(&bytes) == u128::from_le_bytes(*checksum) {
        return Ok(None);
    }
    let (version, path) = (version.display(), path.display());
    Ok(Some(format!("the file {version} does not fit its checksum in {path}")))
}

/// Puts another list in the place of all that are in the folder of a table, in a private copy.
pub(super) fn replace(folder: &Path, list: &[u8]) -> Result<(), Error> {
    let mut current = vec![0; 8];
    current.extend(xxh3_128(list).to_le_bytes());
    current.push(0);
    for (name, bytes) in [("v0", list), ("current", &current)] {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| unavailable(&path, "cannot write the file", error))?;
    }
    Ok(())
}

/// What is in a file; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |error| unavailable(path, "cannot read the file", error);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(about) if about.len() > VERSION_BYTES_MAX => return Ok(Some(Vec::new())),
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(failed)
}
