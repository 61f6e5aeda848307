//! Where the mycelia of a broker are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::data_dir::{self, database};
use crate::report::Report;
use crate::store::arango::{ArangoOptions, ArangoStore, Databases};
use crate::store::{EmbeddedStore, Error, Log as _, MemoryStore, Storage, wait_for};

/// Where the mycelia of a broker are kept.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// In memory, each by itself.
    Memory,
    /// In a folder of its own each, within this one.
    Folder(PathBuf),
    /// In a database of its own each, with its blobs in a folder of its own within this one.
    Databases { databases: Databases, folder: PathBuf },
    /// One alone, in a store that was given.
    Given,
}

impl Home {
    /// Whether there can be others than `default`.
    pub(crate) fn can_make(&self) -> bool {
        !matches!(self, Self::Given)
    }

    /// The folder in which things are kept that belong to no mycelium.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) | Self::Databases { folder, .. } => Some(folder),
            Self::Memory | Self::Given => None,
        }
    }

    /// Those that are kept. Ends deletions that were interrupted. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read, or the server cannot be asked.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::Folder(folder) => data_dir::names(folder),
            Self::Databases { databases, folder } => {
                let names = wait_for(databases.names())?;
                database::end_deletions(folder, |name| names.iter().any(|one| one == name))?;
                Ok(names)
            }
            Self::Memory | Self::Given => Ok(Vec::new()),
        }
    }

    /// Makes one with nothing in it, unless it is there: a folder without anything, or a database. Blocks.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn make(&self, name: &str) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => data_dir::mycelium_dir(folder, name).map(drop),
            Self::Databases { databases, .. } => wait_for(databases.make(name)).map(drop),
            Self::Memory | Self::Given => Ok(()),
        }
    }

    /// Whether one that is there may have anything in it, as far as that shows from outside. Blocks.
    pub(crate) fn may_hold(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => {
                // Opening it tells why it cannot be read.
                std::fs::read_dir(folder.join(name)).map_or(true, |mut entries| entries.next().is_some())
            }
            Self::Databases { .. } => true,
            Self::Memory | Self::Given => false,
        }
    }

    /// Opens one, which is made if it is not there. Blocks.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`]; [`Error::Unfit`] with what stands in the way.
    pub(crate) fn open(&self, name: &str, config: &Config) -> Result<(Arc<dyn Storage>, Blobs), Error> {
        match self {
            Self::Folder(folder) => open_folder(folder, name, config),
            Self::Databases { databases, folder } => open_database(databases, folder, name, config),
            Self::Memory | Self::Given => {
                Ok((Arc::new(MemoryStore::new()), Blobs::in_memory(config.blob_grace)))
            }
        }
    }

    /// Removes one, which is closed. Blocks.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => data_dir::remove(folder, name),
            Self::Databases { databases, folder } => remove_database(databases, folder, name),
            Self::Memory | Self::Given => Ok(()),
        }
    }
}

fn open_folder(folder: &Path, name: &str, config: &Config) -> Result<(Arc<dyn Storage>, Blobs), Error> {
    data_dir::check_not_of_database(folder, name)?;
    let store = EmbeddedStore::open(&data_dir::mycelium_dir(folder, name)?)?;
    open_blobs(Arc::new(store), config)
}

/// Takes a mycelium in a database, which is made if it is not there, with its folder within `folder`. Blocks.
///
/// # Errors
/// [`Error::InUse`] if a broker has it; [`Error::Unfit`], [`Error::Foreign`] with what stands in the way;
/// [`Error::Unavailable`].
pub(crate) fn take_database(
    databases: &Databases,
    folder: &Path,
    name: &str,
    lease: Duration,
) -> Result<Arc<ArangoStore>, Error> {
    // Before anything is made.
    database::check_not_embedded(folder, name, databases.shown())?;
    let id = wait_for(databases.make(name))?;
    let blobs = database::claim(folder, name, &id)?;
    // Whoever has the mycelium has the folder: another broker may be at work in it until then.
    Ok(Arc::new(wait_for(databases.take(name, ArangoOptions { blobs, lease }))?))
}

fn open_database(
    databases: &Databases,
    folder: &Path,
    name: &str,
    config: &Config,
) -> Result<(Arc<dyn Storage>, Blobs), Error> {
    let store = take_database(databases, folder, name, config.store_lease)?;
    let opened = open_blobs(Arc::clone(&store) as Arc<dyn Storage>, config);
    if opened.is_err()
        && let Err(error) = store.close().wait()
    {
        tracing::warn!(mycelium = name, error = %Report(&error), "a mycelium could not be closed");
    }
    opened
}

/// The folder is set aside first, so that it is known of what is left of it whether the database was dropped.
fn remove_database(databases: &Databases, folder: &Path, name: &str) -> Result<(), Error> {
    database::set_aside(folder, name)?;
    match wait_for(databases.remove(name)) {
        Ok(()) => database::discard(folder, name),
        Err(error) => {
            database::put_back(folder, name)?;
            Err(error)
        }
    }
}

/// The blobs that belong to a store: a durable one takes them with it.
///
/// # Errors
/// [`Error::Refused`] if it is durable and names no folder for them, and what opening that may come to.
pub(crate) fn open_blobs(
    store: Arc<dyn Storage>,
    config: &Config,
) -> Result<(Arc<dyn Storage>, Blobs), Error> {
    let blobs = match store.blobs_folder() {
        Some(folder) => Blobs::open(&folder, config.blob_grace)?,
        None if store.is_durable() => {
            let what = "it is durable and names no folder for blobs, which would be gone with the process";
            return Err(Error::Refused { what: what.to_owned() });
        }
        None => Blobs::in_memory(config.blob_grace),
    };
    Ok((store, blobs))
}
