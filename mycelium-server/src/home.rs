//! Where the mycelia of a broker are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::data_dir;
use crate::store::{EmbeddedStore, Error, MemoryStore, Storage};

/// Where the mycelia of a broker are kept.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// In memory, each by itself.
    Memory,
    /// In a folder of its own each, within this one.
    Folder(PathBuf),
    /// One alone, in a store that was given.
    Given,
}

impl Home {
    /// Whether there can be others than `default`.
    pub(crate) fn can_make(&self) -> bool {
        !matches!(self, Self::Given)
    }

    /// Those that are kept.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::Folder(folder) => data_dir::names(folder),
            Self::Memory | Self::Given => Ok(Vec::new()),
        }
    }

    /// Makes one with nothing in it, unless it is there: a folder without anything. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(crate) fn make(&self, name: &str) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => data_dir::mycelium_dir(folder, name).map(drop),
            Self::Memory | Self::Given => Ok(()),
        }
    }

    /// Opens one, which is made if it is not there. Blocks.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub(crate) fn open(&self, name: &str, config: &Config) -> Result<(Arc<dyn Storage>, Blobs), Error> {
        match self {
            Self::Folder(folder) => open_folder(folder, name, config),
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
            Self::Memory | Self::Given => Ok(()),
        }
    }
}

fn open_folder(folder: &Path, name: &str, config: &Config) -> Result<(Arc<dyn Storage>, Blobs), Error> {
    let store = EmbeddedStore::open(&data_dir::mycelium_dir(folder, name)?)?;
    open_blobs(Arc::new(store), config)
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
