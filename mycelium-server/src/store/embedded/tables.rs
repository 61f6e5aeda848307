//! The tables of the database: how each is set up, and how records are read from them.

use std::fmt::Write as _;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable, Slice,
    Snapshot,
};

use super::codec::{self, Malformed, Record};
use super::damage::{damaged_file, files_of, unreadable_file};
use super::folder;
use super::keys::Key;
use super::words::Words;
use crate::store::Error;

const MIB: u64 = 1024 * 1024;

/// Blocks of tables that stay in memory for reads. Reads are rare beside writes: a page of a list, a few
/// specifications.
const CACHE_BYTES: u64 = 16 * MIB;
/// The journal is replayed at start at about 3 microseconds an entry, so it is kept as small as the database allows.
const JOURNAL_BYTES_MAX: u64 = 64 * MIB;
/// Threads that flush and compact. With more than one, the first spins on compactions that it leaves to the others.
const WORKER_THREADS: usize = 1;
/// What a table collects in memory before it is written out. An entry takes some 80 bytes there over its key and
/// value, so this bounds the memory of a store with millions of waiting jobs.
const MEMTABLE_BYTES: u64 = 8 * MIB;

/// A table: a keyspace of the database.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) keyspace: Keyspace,
    words: Arc<Words>,
}

/// The open database.
pub(super) struct Tables {
    pub(super) db: Database,
    pub(super) specs: Table,
    pub(super) live: Table,
    pub(super) ends: Table,
    pub(super) outputs: Table,
    pub(super) finished: Table,
    pub(super) index: Table,
    pub(super) catalog: Table,
    pub(super) words: Arc<Words>,
}

/// How many runs of files a table may collect that are not merged, where damage keeps them from it. The database lets
/// commits wait from 20 on, and stops them at 30.
const RUNS_MAX: usize = 16;

/// The names of all tables. Part of the format.
pub(super) const NAMES: [&str; 7] = ["specs", "live", "ends", "outputs", "finished", "index", "catalog"];

impl Tables {
    /// Makes the database in a new folder, durably.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let tables = Self::with_keyspaces(open_database(path, WORKER_THREADS)?)?;
        tables.db.persist(PersistMode::SyncAll).map_err(commit_error)?;
        // The database syncs what it makes, and not the names of the folders of tables.
        folder::sync_folders(path)?;
        Ok(tables)
    }

    /// Opens the database that is there.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, WORKER_THREADS)
    }

    /// Opens the database that is there, of which no table is written out or compacted.
    pub(super) fn open_to_look(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, 0)
    }

    fn open_with(path: &Path, worker_threads: usize) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(damaged(format!("the folder {} is missing", path.display())));
        }
        let database = open_database(path, worker_threads)?;
        // A missing keyspace would be made anew, empty, without a word.
        let present = database.list_keyspace_names();
        if let Some(name) = NAMES.iter().find(|name| !present.iter().any(|present| &**present == **name)) {
            return Err(damaged(format!("the table {name} is missing")));
        }
        Self::with_keyspaces(database)
    }

    fn with_keyspaces(db: Database) -> Result<Self, Error> {
        let keyspace = |name: &'static str, options: fn() -> KeyspaceCreateOptions| {
            db.keyspace(name, options).map_err(|error| open_error(name, error))
        };
        // In the order of their names: see there.
        let specs = keyspace("specs", by_job)?;
        let live = keyspace("live", by_job)?;
        let ends = keyspace("ends", by_job)?;
        let outputs = keyspace("outputs", large_values)?;
        let finished = keyspace("finished", in_order)?;
        let index = keyspace("index", in_order)?;
        let catalog = keyspace("catalog", in_order)?;
        let words = Arc::new(Words::of(&catalog, &index));
        let table = |name, keyspace| Table { name, keyspace, words: Arc::clone(&words) };
        Ok(Self {
            specs: table("specs", specs),
            live: table("live", live),
            ends: table("ends", ends),
            outputs: table("outputs", outputs),
            finished: table("finished", finished),
            index: table("index", index),
            catalog: table("catalog", catalog),
            words,
            db,
        })
    }

    /// All tables, in the order of [`NAMES`].
    pub(super) fn all(&self) -> [Table; 7] {
        [&self.specs, &self.live, &self.ends, &self.outputs, &self.finished, &self.index, &self.catalog]
            .map(Table::clone)
    }

    /// Writes out what tables have collected in memory, where no thread of the database does: see
    /// [`open_to_look`](Self::open_to_look).
    ///
    /// # Errors
    /// [`Error::Damaged`] once too much has been written out that is not merged.
    pub(super) fn write_out_by_hand(&self) -> Result<(), Error> {
        for table in self.all() {
            let tree = &table.keyspace.tree;
            if tree.active_memtable().size() >= MEMTABLE_BYTES {
                table.keyspace.rotate_memtable().map_err(commit_error)?;
            }
            if tree.sealed_memtable_count() > 0 {
                let lock = tree.get_flush_lock();
                // Nothing that was overwritten goes: who reads an earlier moment is not known here.
                tree.flush(&lock, 0).map_err(|error| commit_error(error.into()))?;
            }
            if tree.l0_run_count() >= RUNS_MAX {
                return Err(damaged(format!(
                    "table {} cannot be merged, and has no room for more",
                    table.name
                )));
            }
        }
        Ok(())
    }

    /// Which file of any table is damaged, and how, in words; `None` if all are whole. Reads all of them.
    pub(super) fn damage(&self) -> Option<String> {
        self.all().into_iter().find_map(|table| {
            files_of(&table.keyspace).into_iter().find_map(|file| match file.check() {
                Ok(Err(problem)) => {
                    Some(format!("{} (table {}): {problem}", file.path.display(), table.name))
                }
                // What cannot be read now is not known to be damaged.
                Ok(Ok(())) | Err(_) => None,
            })
        })
    }

    /// The table of this name.
    pub(super) fn named(&self, name: &str) -> Option<Table> {
        self.all().into_iter().find(|table| table.name == name)
    }

    /// The store as it is now; commits that come later do not show in it.
    pub(super) fn view(&self) -> View<'_> {
        View { tables: self, snapshot: self.db.snapshot() }
    }
}

fn base() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

/// Tables that are read by key. Most keys that are looked for are there.
fn by_job() -> KeyspaceCreateOptions {
    base()
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))))
}

/// Tables that are read in order, or in which there is little: a filter would cost more than it saves.
fn in_order() -> KeyspaceCreateOptions {
    base().filter_policy(FilterPolicy::disabled())
}

/// Values that are too large to be copied with every compaction.
fn large_values() -> KeyspaceCreateOptions {
    by_job().with_kv_separation(Some(fjall::KvSeparationOptions::default()))
}

fn open_database(path: &Path, worker_threads: usize) -> Result<Database, Error> {
    let builder = Database::builder(path)
        .cache_size(CACHE_BYTES)
        // Connections need some too.
        .max_cached_files(Some(crate::transport::store_files()))
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads_unchecked(worker_threads);
    // The database asserts some of what it reads at start, where it had better answer with an error.
    match catch_unwind(AssertUnwindSafe(|| builder.open())) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(fjall::Error::Locked)) => {
            Err(Error::InUse { what: format!("the data folder {}", path.display()) })
        }
        Ok(Err(error)) if is_damage(&error) => Err(cannot_open(path, &describe(&error))),
        Ok(Err(error)) => Err(open_error(&format!("the database in {}", path.display()), error)),
        Err(panic) => Err(cannot_open(path, panic_message(&*panic))),
    }
}

fn cannot_open(path: &Path, why: &str) -> Error {
    let file = unreadable_file(path);
    let file = file.map(|file| format!(", file {},", file.display())).unwrap_or_default();
    damaged(format!("the database in {}{file} cannot be opened: {why}", path.display()))
}

fn open_error(what: &str, error: fjall::Error) -> Error {
    if is_damage(&error) {
        damaged(format!("{what}: {}", describe(&error)))
    } else {
        unavailable(format!("cannot open {what}: {}", describe(&error)), true, error)
    }
}

/// The error of a commit that failed in the database.
pub(super) fn commit_error(error: fjall::Error) -> Error {
    // It says so before it writes anything. All else may have reached the journal, and come back with it.
    let certainly_not_applied = matches!(error, fjall::Error::Poisoned);
    unavailable(format!("cannot write: {}", describe(&error)), certainly_not_applied, error)
}

pub(super) fn damaged(what: String) -> Error {
    Error::Damaged { what }
}

pub(super) fn unavailable(what: String, certainly_not_applied: bool, error: fjall::Error) -> Error {
    Error::Unavailable { what, certainly_not_applied, source: Some(Box::new(error)) }
}

/// Whether an error tells of something stored that cannot be right, and not of a disk that is full or away.
fn is_damage(error: &fjall::Error) -> bool {
    let io = |error: &std::io::Error| {
        use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
    };
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => io(error),
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => false,
        // What is left tells of checksums, tags, versions, trailers and missing tables.
        _ => true,
    }
}

/// The error without the names of the types that carry it.
fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write failed".to_owned(),
        fjall::Error::Storage(error) => format!("{error:?}"),
        fjall::Error::JournalRecovery(error) => format!("the journal cannot be replayed: {error:?}"),
        other => format!("{other:?}"),
    }
}

/// The store at one moment.
pub(super) struct View<'a> {
    pub(super) tables: &'a Tables,
    snapshot: Snapshot,
}

impl View<'_> {
    /// Reads a record.
    pub(super) fn get<R: Record>(&self, table: &Table, key: &[u8], id: R::Key) -> Result<Option<R>, Error> {
        self.get_raw(table, key)?.map(|value| table.decode(key, id, value)).transpose()
    }

    /// Reads a value.
    pub(super) fn get_raw(&self, table: &Table, key: &[u8]) -> Result<Option<Slice>, Error> {
        table.reading(Bound::Included(key), Bound::Included(key), || self.snapshot.get(&table.keyspace, key))
    }

    /// As [`get_raw`](Self::get_raw), without looking for the file that is damaged.
    pub(super) fn get_quietly(&self, table: &Table, key: &[u8]) -> Result<Option<Slice>, Error> {
        let read = catch_unwind(AssertUnwindSafe(|| self.snapshot.get(&table.keyspace, key)));
        match read {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_damage(&error) => Err(damaged(describe(&error))),
            Ok(Err(error)) => Err(unavailable(format!("cannot read table {}", table.name), true, error)),
            Err(panic) => Err(damaged(panic_message(&*panic).to_owned())),
        }
    }

    /// The keys from `begin` on, in their order. After an error there may be more that can be read.
    pub(super) fn keys<'t>(
        &self,
        table: &'t Table,
        begin: Bound<Vec<u8>>,
    ) -> impl Iterator<Item = fjall::Result<Slice>> + use<'t> {
        self.snapshot.range::<Vec<u8>, _>(&table.keyspace, (begin, Bound::Unbounded)).map(fjall::Guard::key)
    }

    /// The moment itself.
    pub(super) fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// The entries under `prefix` in the order of their keys, beginning after the key `after`.
    pub(super) fn scan<'t>(
        &self,
        table: &'t Table,
        prefix: &[u8],
        after: Option<Key>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), Error>> + use<'t> {
        let begin = match after {
            Some(after) => Bound::Excluded(after.into_bytes()),
            None => Bound::Included(prefix.to_vec()),
        };
        self.range(table, begin, end_of(prefix))
    }

    /// The entries between two keys.
    pub(super) fn range<'t>(
        &self,
        table: &'t Table,
        begin: Bound<Vec<u8>>,
        end: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<(Slice, Slice), Error>> + use<'t> {
        let entries = self.snapshot.range::<Vec<u8>, _>(&table.keyspace, (begin.clone(), end.clone()));
        entries.map(move |entry| {
            entry.into_inner().map_err(|error| {
                let (begin, end) = (begin.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
                table.read_error(begin, end, error)
            })
        })
    }
}

/// The end of all keys that begin with `prefix`.
pub(super) fn end_of(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

impl Table {
    /// Reads a record from its value.
    pub(super) fn decode<R: Record>(&self, key: &[u8], id: R::Key, value: Slice) -> Result<R, Error> {
        codec::decode(id, into_bytes(value), Some(&self.words))
            .map_err(|malformed| self.malformed(key, &malformed))
    }

    /// The error for an entry that cannot be right.
    pub(super) fn malformed(&self, key: &[u8], why: &Malformed) -> Error {
        damaged(format!("table {}, key {}: {why}", self.name, hex(key)))
    }

    /// What is in an entry, or the error for one that cannot be right.
    pub(super) fn expect<T>(&self, key: &[u8], part: Option<T>, why: &str) -> Result<T, Error> {
        part.ok_or_else(|| self.malformed(key, &Malformed(why.to_owned())))
    }

    /// Reads what lies between two keys.
    fn reading<T>(
        &self,
        begin: Bound<&[u8]>,
        end: Bound<&[u8]>,
        read: impl FnOnce() -> fjall::Result<T>,
    ) -> Result<T, Error> {
        // The database asserts some of what it finds in a block, where it had better answer with an error.
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(read) => read.map_err(|error| self.read_error(begin, end, error)),
            Err(panic) => Err(self.damage_between(begin, end, panic_message(&*panic))),
        }
    }

    pub(super) fn read_error(&self, begin: Bound<&[u8]>, end: Bound<&[u8]>, error: fjall::Error) -> Error {
        if is_damage(&error) {
            self.damage_between(begin, end, &describe(&error))
        } else {
            let place = self.place(begin, end);
            unavailable(format!("cannot read {place}: {}", describe(&error)), true, error)
        }
    }

    /// The error for what is damaged between two keys, with the file that it is in.
    fn damage_between(&self, begin: Bound<&[u8]>, end: Bound<&[u8]>, why: &str) -> Error {
        let file = damaged_file(&self.keyspace, begin, end);
        let file = file.map(|file| format!(", file {}", file.display())).unwrap_or_default();
        damaged(format!("{}{file}: {why}", self.place(begin, end)))
    }

    fn place(&self, begin: Bound<&[u8]>, end: Bound<&[u8]>) -> String {
        match (begin, end) {
            (Bound::Included(begin), Bound::Included(end)) if begin == end => {
                format!("table {}, key {}", self.name, hex(begin))
            }
            _ => format!("table {}", self.name),
        }
    }
}

/// What is stored there now; `None` if nothing is, or it cannot be read.
pub(super) fn get_quietly(keyspace: &Keyspace, key: &[u8]) -> Option<Bytes> {
    let read = catch_unwind(AssertUnwindSafe(|| keyspace.get(key)));
    read.ok()?.ok()?.map(into_bytes)
}

/// Small values are copied out of the block that they were read with, so as not to keep all of it.
fn into_bytes(value: Slice) -> Bytes {
    const COPIED_BYTES_MAX: usize = 4096;
    if value.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&value) } else { Bytes::from_owner(value) }
}

pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let why = panic.downcast_ref::<String>().map(String::as_str);
    why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

fn hex(key: &[u8]) -> String {
    key.iter().fold(String::with_capacity(2 * key.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
