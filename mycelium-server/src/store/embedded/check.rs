//! Looks a data folder over, without a broker: which files are damaged, and which jobs cannot be read because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use mycelium_core::ids::{FinishNumber, JobId};
use mycelium_core::image::LiveJob;
use sha2::{Digest as _, Sha256};

use super::BLOBS_FOLDER;
use super::codec::{EndRecord, Head, Outputs};
use super::damage::files_of;
use super::folder::{Folder, unavailable};
use super::journal::Journals;
use super::keys::{self, catalog};
use super::look::{self, Looked};
use super::mark::HighWaterMark;
use super::opened::{self, Opened};
use super::readable::{self, Lost};
use super::tables::{Tables, View};
use crate::store::{BlobDigest, Damage, Error, FinishedRecord, SpecRecord};

/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// What was found in a data folder.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is damaged, each with its file where that is known.
    pub damage: Vec<String>,
    /// The jobs of which something cannot be read, and what.
    pub jobs: BTreeMap<JobId, String>,
    /// How many files were read.
    pub files: usize,
    /// How many jobs were looked at. 0 if no file is damaged: then they need not be.
    pub jobs_looked_at: usize,
}

/// Looks the folder of a mycelium over, and leaves it as it is.
///
/// # Errors
/// [`Error::InUse`] if a broker uses it, [`Error::Foreign`] if it is none, [`Error::Unavailable`] if it cannot be read.
pub fn check(path: &Path) -> Result<Checked, Error> {
    let folder = Folder::open_existing(path)?;
    let mut found = Checked { files: 1, ..Checked::default() };
    let acknowledged = match acknowledged(&folder.mark())? {
        Ok(commit) => Some(commit),
        Err(Damage(what)) => {
            found.damage.push(what);
            None
        }
    };
    match look::look(&folder.store()) {
        Ok(looked) => check_database(&folder.store(), &looked, acknowledged, &mut found)?,
        Err(Error::Damaged { what }) => found.damage.push(what),
        Err(error) => return Err(error),
    }
    check_blobs(&path.join(BLOBS_FOLDER), &mut found)?;
    Ok(found)
}

/// Makes sure that no broker uses the folder of a mycelium.
///
/// # Errors
/// [`Error::InUse`] if one does, and as [`check`].
pub fn check_unused(path: &Path) -> Result<(), Error> {
    Folder::open_existing(path).map(drop)
}

/// The newest commit that was acknowledged, if that is known.
pub(super) fn acknowledged(mark: &Path) -> Result<Result<u64, Damage>, Error> {
    match HighWaterMark::read(mark) {
        Ok(Some(commit)) => Ok(Ok(commit.0)),
        Ok(None) => Ok(Err(Damage(format!("{}: the high-water mark is unreadable", mark.display())))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Err(Damage(format!("{}: the high-water mark is missing", mark.display()))))
        }
        Err(error) => Err(unavailable(mark, "cannot open the file", error)),
    }
}

fn check_database(
    store: &Path,
    looked: &Looked,
    acknowledged: Option<u64>,
    found: &mut Checked,
) -> Result<(), Error> {
    let journals = &looked.journals;
    found.files += journals.files.len() + looked.lists();
    let Opened { tables, copy, damage } = &match opened::open(store, looked, &std::env::temp_dir()) {
        Err(Error::Damaged { what }) => {
            found.damage.push(what);
            found.damage.extend(journals.damage(acknowledged, acknowledged));
            return Ok(());
        }
        opened => opened?,
    };
    let mut of_tables = Checked { damage: damage.clone(), ..Checked::default() };
    check_tables(tables, journals, acknowledged, &mut of_tables)
        .map_err(|error| copy.error_of_original(error))?;
    found.files += of_tables.files;
    found.damage.extend(of_tables.damage.iter().map(|damage| copy.of_original(damage)));
    (found.jobs, found.jobs_looked_at) = (of_tables.jobs, of_tables.jobs_looked_at);
    Ok(())
}

fn check_tables(
    tables: &Tables,
    journals: &Journals,
    acknowledged: Option<u64>,
    found: &mut Checked,
) -> Result<(), Error> {
    for table in tables.all() {
        for file in files_of(&table.keyspace) {
            found.files += 1;
            let read =
                file.check().map_err(|error| unavailable(&file.path, "cannot read the file", error))?;
            if let Err(problem) = read {
                let name = table.name;
                found.damage.push(format!("{}: {problem} (table {name})", file.path.display()));
            }
        }
    }
    let view = tables.view();
    match view.get::<Head>(&tables.catalog, catalog::COUNTERS, ()) {
        Ok(head) => {
            let newest = head.unwrap_or_default().counters.commit.0;
            found.damage.extend(journals.damage(Some(newest), acknowledged));
        }
        Err(Error::Damaged { what }) => found.damage.push(what),
        Err(error) => return Err(error),
    }
    if !found.damage.is_empty() {
        let (jobs, looked_at) = unreadable_jobs(&view)?;
        (found.jobs, found.jobs_looked_at) = (jobs, looked_at);
    }
    Ok(())
}

/// The jobs of which something cannot be read, of all that any readable record tells of; and how many those are.
pub(super) fn unreadable_jobs(view: &View<'_>) -> Result<(BTreeMap<JobId, String>, usize), Error> {
    let tables = view.tables;
    let (mut live, mut ended, mut known) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut lost = Lost::default();
    lost.add(readable::entries(view, &tables.live, |key, _| {
        live.extend(JobId::from_slice(key));
        Ok(())
    })?);
    lost.add(readable::entries(view, &tables.ends, |key, _| {
        ended.extend(JobId::from_slice(key));
        Ok(())
    })?);
    lost.add(readable::entries(view, &tables.specs, |key, _| {
        known.extend(JobId::from_slice(key));
        Ok(())
    })?);
    readable::entries(view, &tables.finished, |key, value| {
        let number = keys::finish_number(key).unwrap_or(FinishNumber(0));
        if let Ok(record) = tables.finished.decode::<FinishedRecord>(key, number, value.clone()) {
            ended.insert(record.head.id);
        }
        Ok(())
    })?;
    let all: BTreeSet<JobId> = live.iter().chain(&ended).chain(&known).copied().collect();
    let mut unreadable = BTreeMap::new();
    for id in &all {
        if let Some(problem) = problem_of(view, *id)? {
            unreadable.insert(*id, problem);
        }
    }
    Ok((unreadable, all.len()))
}

/// What of a job cannot be read, in words.
fn problem_of(view: &View<'_>, id: JobId) -> Result<Option<String>, Error> {
    let tables = view.tables;
    let key = id.as_bytes();
    let mut missing = Vec::new();
    match tolerant(view.get::<SpecRecord>(&tables.specs, key, id))? {
        Some(Some(_)) => {}
        _ => missing.push("its specification"),
    }
    let live = tolerant(view.get::<LiveJob>(&tables.live, key, id))?;
    let end = tolerant(view.get::<EndRecord>(&tables.ends, key, ()))?;
    match (live, end) {
        (Some(Some(_)), _) => {}
        (_, Some(Some(end))) => {
            let finished = keys::finished(end.finish_number);
            let record = view.get::<FinishedRecord>(&tables.finished, &finished, end.finish_number);
            if !matches!(tolerant(record)?, Some(Some(_))) {
                missing.push("how it ended");
            }
            if matches!(end.outputs, Outputs::Apart)
                && !matches!(tolerant(view.get_raw(&tables.outputs, key))?, Some(Some(_)))
            {
                missing.push("what it returned");
            }
        }
        _ => missing.push("how it stands"),
    }
    Ok((!missing.is_empty()).then(|| missing.join(", ")))
}

/// What was read; `None` if it is damaged.
pub(super) fn tolerant<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(Error::Damaged { .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// Goes through the blobs in a folder: `each` gets the path and the digest of each.
pub(super) fn each_blob(
    folder: &Path,
    mut each: impl FnMut(&Path, BlobDigest) -> Result<(), Error>,
) -> Result<(), Error> {
    let shards = match fs::read_dir(folder) {
        Ok(shards) => shards,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unavailable(folder, "cannot read the folder", error)),
    };
    for shard in shards {
        let shard = shard.map_err(|error| unavailable(folder, "cannot read the folder", error))?.path();
        if !shard.is_dir() {
            continue;
        }
        let read = |error| unavailable(&shard, "cannot read the folder", error);
        for file in fs::read_dir(&shard).map_err(read)? {
            let path = file.map_err(read)?.path();
            if let Some(digest) = digest_of(&path) {
                each(&path, digest)?;
            }
        }
    }
    Ok(())
}

fn digest_of(path: &Path) -> Option<BlobDigest> {
    let name = path.file_name()?.to_str()?;
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..32).map(|index| u8::from_str_radix(&name[2 * index..2 * index + 2], 16).ok()).collect();
    BlobDigest::from_slice(&bytes?)
}

fn check_blobs(folder: &Path, found: &mut Checked) -> Result<(), Error> {
    each_blob(folder, |path, digest| {
        found.files += 1;
        let mut hasher = Sha256::new();
        read_file(path, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        if hasher.finalize().as_slice() != digest.as_bytes() {
            found.damage.push(format!("{}: the blob is not what its name says", path.display()));
        }
        Ok(())
    })
}

/// Reads a file from beginning to end.
pub(super) fn read_file(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let read = |error| unavailable(path, "cannot read the file", error);
    let mut file = File::open(path).map_err(read)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => return Ok(()),
            n => each(&buffer[..n])?,
        }
    }
}
