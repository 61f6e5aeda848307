//! The stores in data folders that are moved from and to.

use std::path::Path;
use std::sync::Arc;

use crate::data_dir::{self, stored_in};
use crate::name::{DEFAULT, is_name};
use crate::store::{EmbeddedStore, Error, Storage};

/// Opens the mycelium `name` in the data folder `data`, of which something is stored; or, if `data` is the folder of one
/// mycelium, that one, as `default`. No broker can have it open meanwhile. Blocks.
///
/// # Errors
/// [`Error::Foreign`] if nothing of it is stored, and as [`EmbeddedStore::open`].
pub fn open_stored(data: &Path, name: &str) -> Result<Arc<dyn Storage>, Error> {
    let stored = stored_in(data)?.into_iter().find(|one| one.name == name);
    let Some(stored) = stored else { return Err(foreign(data, format!("it holds no mycelium `{name}`"))) };
    Ok(Arc::new(EmbeddedStore::open(&stored.folder)?))
}

/// Opens the mycelium `name` in the data folder `data`. Both are made if they are not there, with an empty `default`
/// beside, since no broker starts without. Blocks.
///
/// # Errors
/// [`Error::Foreign`] if that is no name, or if `data` holds something else; and as [`EmbeddedStore::open`].
pub fn open_to_fill(data: &Path, name: &str) -> Result<Arc<dyn Storage>, Error> {
    if !is_name(name) {
        return Err(foreign(data, format!("`{name}` is no name for a mycelium")));
    }
    data_dir::mycelium_dir(data, DEFAULT)?;
    Ok(Arc::new(EmbeddedStore::open(&data_dir::mycelium_dir(data, name)?)?))
}

fn foreign(data: &Path, why: String) -> Error {
    Error::Foreign { folder: data.display().to_string(), why }
}
