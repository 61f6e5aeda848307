//! Finds the file that is damaged. The database says that a block does not fit its checksum, and not where it is.
//!
//! Each file of a table never changes, and the database keeps a checksum of it as a whole beside that of each block.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::{Bound, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{AbstractTree as _, Keyspace, Slice};
use lsm_tree::{Cache, Checksum, Table};
use xxhash_rust::xxh3::Xxh3Default;

use super::versions::keyspace_in;
use crate::store::Damage;

/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// A file of a table, and what its bytes have to come to.
pub(super) struct TableFile {
    pub(super) path: PathBuf,
    checksum: u128,
}

impl TableFile {
    /// Whether the file is what was written.
    pub(super) fn check(&self) -> io::Result<Result<(), Damage>> {
        let found = match checksum(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(Damage("the file is missing".to_owned())));
            }
            Err(error) => return Err(error),
        };
        if found == self.checksum {
            return Ok(Ok(()));
        }
        Ok(Err(Damage(format!("its checksum is {found:032x}, and {:032x} was written", self.checksum))))
    }
}

/// All files that hold entries of a table.
pub(super) fn files_of(keyspace: &Keyspace) -> Vec<TableFile> {
    let version = keyspace.tree.current_version();
    let tables = version
        .iter_tables()
        .map(|table| TableFile { path: table.path.to_path_buf(), checksum: table.checksum().into_u128() });
    let values = version
        .blob_files
        .iter()
        .map(|file| TableFile { path: file.path().to_owned(), checksum: file.checksum().into_u128() });
    tables.chain(values).collect()
}

/// The first damaged file among those that can hold the entries between two keys; `None` if each of them can be read
/// and is whole.
pub(super) fn damaged_file(keyspace: &Keyspace, begin: Bound<&[u8]>, end: Bound<&[u8]>) -> Option<PathBuf> {
    let version = keyspace.tree.current_version();
    let concerned =
        || version.iter_tables().filter(|table| table.metadata.key_range.overlaps_with_bounds(&(begin, end)));
    let unreadable = concerned().find(|table| {
        let range = (begin.map(Slice::from), end.map(Slice::from));
        table.range::<(Bound<Slice>, Bound<Slice>)>(range).any(|entry| entry.is_err())
    });
    if let Some(table) = unreadable {
        return Some(table.path.to_path_buf());
    }
    // What is damaged is no entry: a filter, an index, or a value that is kept apart.
    let tables = concerned()
        .map(|table| TableFile { path: table.path.to_path_buf(), checksum: table.checksum().into_u128() });
    let values = version
        .blob_files
        .iter()
        .map(|file| TableFile { path: file.path().to_owned(), checksum: file.checksum().into_u128() });
    let damaged = |file: &TableFile| !matches!(file.check(), Ok(Ok(())));
    tables.chain(values).find(damaged).map(|file| file.path)
}

/// The first file of a table, in the folder of a database that cannot be opened, that cannot be opened by itself, or read
/// if it has the names of the tables: those are read when the database opens.
pub(super) fn unreadable_file(store: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(keyspace_in(store, 0).join("tables")).ok();
    let mut names = names.into_iter().flatten().flatten().map(|file| file.path());
    unopenable_file(store).or_else(|| names.find(|path| !can_be_read(path)))
}

fn can_be_read(path: &Path) -> bool {
    let Some(table) = open_alone(path, &Arc::new(Cache::with_capacity_bytes(0))) else { return false };
    let all = || (Bound::<Slice>::Unbounded, Bound::<Slice>::Unbounded);
    // It asserts some of what it reads.
    catch_unwind(AssertUnwindSafe(|| table.range(all()).all(|entry| entry.is_ok()))).unwrap_or(false)
}

fn unopenable_file(store: &Path) -> Option<PathBuf> {
    let cache = Arc::new(Cache::with_capacity_bytes(0));
    let folders = fs::read_dir(store.join("keyspaces")).ok()?;
    let folders = folders.flatten().map(|keyspace| keyspace.path().join("tables"));
    let files = folders.filter_map(|tables| fs::read_dir(tables).ok()).flatten().flatten();
    files.map(|file| file.path()).find(|path| open_alone(path, &cache).is_none())
}

/// From which key to which the entries in a file of a table are; `None` if it cannot be opened.
pub(super) fn key_range(path: &Path) -> Option<RangeInclusive<Slice>> {
    let table = open_alone(path, &Arc::new(Cache::with_capacity_bytes(0)))?;
    let keys = &table.metadata.key_range;
    Some(keys.min().clone()..=keys.max().clone())
}

fn open_alone(path: &Path, cache: &Arc<Cache>) -> Option<Table> {
    let (unknown, none) = (Checksum::from_raw(0), 0);
    let open = || Table::recover(path.to_owned(), unknown, none, none, Arc::clone(cache), None, true, true);
    // It asserts some of what it reads.
    catch_unwind(AssertUnwindSafe(open)).ok()?.ok()
}

/// What the bytes of a file come to.
pub(super) fn checksum(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.digest128()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
