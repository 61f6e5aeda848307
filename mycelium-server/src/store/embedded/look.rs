//! Looks at a database before it is opened: opening changes what is on the disk, and destroys what is behind damage.

use std::path::Path;

use super::codec::Head;
use super::journal::{self, Journals};
use super::keys::catalog;
use super::private_copy::PrivateCopy;
use super::tables::{NAMES, Tables, damaged};
use super::versions::{self, Unlisted};
use crate::store::Error;

/// How many damaged places a refusal names.
const PLACES_TOLD: usize = 3;

/// What is in the files of a database that its tables need to be opened.
pub(super) struct Looked {
    pub(super) journals: Journals,
    /// The tables whose lists of files cannot be used.
    pub(super) unlisted: Vec<Unlisted>,
}

impl Looked {
    /// How many files were read that list others.
    pub(super) fn lists(&self) -> usize {
        2 * (NAMES.len() + 1)
    }
}

/// Looks at the database in a folder, and changes nothing.
///
/// # Errors
/// [`Error::Damaged`] if there is none; [`Error::Unavailable`].
pub(super) fn look(store: &Path) -> Result<Looked, Error> {
    if !store.is_dir() {
        return Err(damaged(format!("the folder {} is missing", store.display())));
    }
    Ok(Looked { journals: journal::look(store)?, unlisted: versions::look(store)? })
}

/// Makes sure that the database can be opened without the loss of anything that was acknowledged.
///
/// # Errors
/// [`Error::Damaged`], with the files and places; nothing has been changed then. [`Error::Unavailable`].
pub(super) fn before_opening(store: &Path, acknowledged: u64) -> Result<(), Error> {
    let Looked { journals, unlisted } = look(store)?;
    let newest = match journals.commits().newest() {
        // What was written last may be in the tables alone.
        None if acknowledged > 0 && unlisted.is_empty() => newest_in_tables(store, &journals)?,
        None => acknowledged,
        Some(newest) => newest,
    };
    let mut found: Vec<_> = unlisted.into_iter().map(|unlisted| unlisted.problem).collect();
    found.extend(journals.damage(Some(newest), Some(acknowledged)));
    if found.is_empty() {
        return journals.cut_torn_ends();
    }
    if found.len() > PLACES_TOLD {
        // The last one ends with what can be read.
        let last = found.pop();
        let others = found.len() + 2 - PLACES_TOLD;
        found.truncate(PLACES_TOLD - 2);
        found.push(format!("{others} other places cannot be read"));
        found.extend(last);
    }
    Err(damaged(found.join("; ")))
}

/// The newest commit in a database whose journals have none.
fn newest_in_tables(store: &Path, journals: &Journals) -> Result<u64, Error> {
    let copy = PrivateCopy::make(store, journals, &std::env::temp_dir())?;
    let newest = || {
        let tables = Tables::open_to_look(&copy.store())?;
        let head = tables.view().get::<Head>(&tables.catalog, catalog::COUNTERS, ())?;
        Ok(head.unwrap_or_default().counters.commit.0)
    };
    newest().map_err(|error| copy.error_of_original(error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mycelium_core::ids::Commit;

    use super::*;
    use crate::store::{Batch, EmbeddedStore, Log as _};

    #[test]
    fn what_the_tables_alone_have_counts_where_the_journals_have_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        for commit in 1..=3 {
            let mut batch = Batch::default();
            batch.counters.commit = Commit(commit);
            store.commit(&batch).wait().unwrap();
        }
        drop(store);
        let path = folder.path().join("store");
        let tables = Tables::open(&path).unwrap();
        tables.catalog.keyspace.rotate_memtable_and_wait().unwrap();
        drop(tables);
        let journals = journal::look(&path).unwrap().files;
        for journal in &journals {
            fs::write(&journal.path, []).unwrap();
        }
        before_opening(&path, 3).unwrap();
        let refused = before_opening(&path, 4).unwrap_err().to_string();
        let why = "ends at commit 3, at byte 0; no commit can be read in the journals, and commits up to 4 were \
                   acknowledged";
        assert!(refused.ends_with(why), "{refused}");

        for journal in &journals {
            fs::remove_file(&journal.path).unwrap();
        }
        let refused = before_opening(&path, 3).unwrap_err().to_string();
        let why = format!("the journal in {} is missing, and the tables end at commit 3;", path.display());
        assert!(refused.contains(&why), "{refused}");
        assert!(!path.join("0.jnl").exists());
    }
}
