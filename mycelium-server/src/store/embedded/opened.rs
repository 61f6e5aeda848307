//! Opens a private copy of a database, past what is damaged of what lists its files.
//!
//! Where the list of a table is damaged, or the database does not open for another reason, one is made of the files that
//! are there, all of them in the first level, and they are merged: how they were ordered is not known, and is found again
//! by the sequence numbers of their entries.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor, Write as _};
use std::ops::{Bound, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{AbstractTree as _, Slice};

use super::damage::{checksum, damaged_file, key_range};
use super::folder::unavailable;
use super::look::Looked;
use super::private_copy::PrivateCopy;
use super::tables::{NAMES, Tables, damaged, panic_message};
use super::versions::{self, keyspace_in, table_name};
use crate::store::Error;

/// The levels of a table, in the format of the database.
const LEVELS: u8 = 7;
/// The version of the format of a list.
const FORMAT: u8 = 3;
/// How large the merged files become, in bytes.
const MERGED_BYTES: u64 = 64 * 1024 * 1024;

/// The private copy of a database, open.
pub(super) struct Opened {
    /// Closed before the copy is removed.
    pub(super) tables: Tables,
    pub(super) copy: PrivateCopy,
    /// What is damaged of what lists files, and which files cannot be opened, in words about the original.
    pub(super) damage: Vec<String>,
}

/// Opens a private copy, in the folder `within`, of the database in the folder `store`.
///
/// # Errors
/// [`Error::Damaged`] if it cannot be opened even so; [`Error::Unavailable`].
pub(super) fn open(store: &Path, looked: &Looked, within: &Path) -> Result<Opened, Error> {
    let mut damage: Vec<_> = looked.unlisted.iter().map(|unlisted| unlisted.problem.clone()).collect();
    let unlisted: BTreeSet<u64> = looked.unlisted.iter().map(|unlisted| unlisted.keyspace).collect();
    let mut opened = match attempt(store, looked, within, &unlisted) {
        Err(Error::Damaged { what }) => {
            damage.push(what);
            let all: BTreeSet<u64> = (0..=NAMES.len() as u64).collect();
            attempt(store, looked, within, &all)?
        }
        opened => opened?,
    };
    damage.append(&mut opened.damage);
    Ok(Opened { damage, ..opened })
}

/// Opens a copy, with new lists for some of its tables.
fn attempt(store: &Path, looked: &Looked, within: &Path, relist: &BTreeSet<u64>) -> Result<Opened, Error> {
    let copy = PrivateCopy::make(store, &looked.journals, within)?;
    let mut damage = Vec::new();
    for keyspace in relist {
        match keyspace {
            0 => copy.renew_names()?,
            _ => list_anew(&copy, *keyspace, &mut damage)?,
        }
    }
    let tables = Tables::open_to_look(&copy.store()).map_err(|error| copy.error_of_original(error))?;
    for keyspace in relist {
        merge(&tables, *keyspace, &mut damage);
    }
    let damage = damage.iter().map(|damage| copy.of_original(damage)).collect();
    Ok(Opened { tables, copy, damage })
}

fn list_anew(copy: &PrivateCopy, keyspace: u64, damage: &mut Vec<String>) -> Result<(), Error> {
    let folder = keyspace_in(&copy.store(), keyspace);
    fs::create_dir_all(folder.join("tables"))
        .map_err(|error| unavailable(&folder, "cannot make the folder", error))?;
    let mut tables = Vec::new();
    for (number, path) in numbered_files(&folder.join("tables"))? {
        match key_range(&path) {
            Some(range) => tables.push((range, (number, checksum_of(&path)?))),
            None => damage.push(format!(
                "{}: it cannot be opened (table {}), and is left out",
                path.display(),
                table_name(keyspace)
            )),
        }
    }
    let mut values = Vec::new();
    for (number, path) in numbered_files(&folder.join("blobs"))? {
        if sfa::Reader::new(&path).is_ok_and(|file| file.toc().section(b"meta").is_some()) {
            values.push((number, checksum_of(&path)?));
        } else {
            damage.push(format!(
                "{}: it cannot be opened (large values of table {}), and is left out",
                path.display(),
                table_name(keyspace)
            ));
        }
    }
    let runs = in_runs(tables);
    let Some(list) = list(keyspace, &runs, &values) else {
        let problem = format!("{} runs of files", runs.len());
        return Err(damaged(format!("table {} cannot be listed anew: {problem}", table_name(keyspace))));
    };
    versions::replace(&folder, &list)
}

/// A file by its number, and its checksum.
type Numbered = (u64, u128);

/// Puts tables into as few runs as there are: the keys of those in one run do not overlap.
fn in_runs(mut tables: Vec<(RangeInclusive<Slice>, Numbered)>) -> Vec<Vec<Numbered>> {
    tables.sort_by(|(a, _), (b, _)| a.start().cmp(b.start()));
    let mut runs: Vec<(Slice, Vec<Numbered>)> = Vec::new();
    for (keys, file) in tables {
        match runs.iter_mut().find(|(last, _)| last < keys.start()) {
            Some((last, files)) => {
                *last = keys.end().clone();
                files.push(file);
            }
            None => runs.push((keys.end().clone(), vec![file])),
        }
    }
    runs.into_iter().map(|(_, files)| files).collect()
}

/// A list of files in the format of the database; `None` if it does not fit in.
fn list(keyspace: u64, runs: &[Vec<Numbered>], values: &[Numbered]) -> Option<Vec<u8>> {
    let write = || -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let mut list = sfa::Writer::from_writer(Cursor::new(&mut bytes));
        let Ok(run_count) = u8::try_from(runs.len()) else { return Ok(None) };
        list.start("format_version")?;
        list.write_all(&[FORMAT])?;
        list.start("tree_type")?;
        list.write_all(&[u8::from(table_name(keyspace) == "outputs")])?;
        list.start("level_count")?;
        list.write_all(&[LEVELS])?;
        list.start("filter_hash_type")?;
        list.write_all(&[0])?;
        list.start("tables")?;
        list.write_all(&[LEVELS, run_count])?;
        for run in runs {
            list.write_all(&(run.len() as u32).to_le_bytes())?;
            for file in run {
                write_file(&mut list, *file)?;
                // What is added to the sequence numbers in it: 0, but for files that are made outside of the database.
                list.write_all(&0_u64.to_le_bytes())?;
            }
        }
        // No run in any other level.
        list.write_all(&[0; LEVELS as usize - 1])?;
        list.start("blob_files")?;
        list.write_all(&(values.len() as u32).to_le_bytes())?;
        for file in values {
            write_file(&mut list, *file)?;
        }
        // How much in them is not used any more: not known.
        list.start("blob_gc_stats")?;
        list.write_all(&0_u32.to_le_bytes())?;
        list.finish().map_err(io::Error::other)?;
        Ok(Some(bytes))
    };
    // Nothing fails that is written into memory.
    write().ok().flatten()
}

fn write_file(list: &mut impl io::Write, (number, checksum): Numbered) -> io::Result<()> {
    list.write_all(&number.to_le_bytes())?;
    // The kind of checksum: xxh3.
    list.write_all(&[0])?;
    list.write_all(&checksum.to_le_bytes())
}

/// The files of a folder that are named by numbers.
fn numbered_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let read = |error| unavailable(folder, "cannot read the folder", error);
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(read)?,
    };
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

fn checksum_of(path: &Path) -> Result<u128, Error> {
    checksum(path).map_err(|error| unavailable(path, "cannot read the file", error))
}

/// Merges the files of a table that was listed anew.
fn merge(tables: &Tables, keyspace: u64, damage: &mut Vec<String>) {
    let Some(table) = tables.named(table_name(keyspace)) else { return };
    let merge = || table.keyspace.tree.major_compact(MERGED_BYTES, 0);
    // The database asserts some of what it reads.
    let problem = match catch_unwind(AssertUnwindSafe(merge)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:?}"),
        Err(panic) => panic_message(&*panic).to_owned(),
    };
    let file = damaged_file(&table.keyspace, Bound::Unbounded, Bound::Unbounded);
    let file = file.map(|file| format!("{}: ", file.display())).unwrap_or_default();
    damage.push(format!(
        "{file}table {} cannot be merged, and some of it may be of an earlier moment: {problem}",
        table.name
    ));
}
