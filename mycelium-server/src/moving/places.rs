//! The stores that are moved from and to: in data folders, and in databases.

use std::path::Path;
use std::sync::Arc;

use crate::Config;
use crate::data_dir::{self, database, stored_in};
use crate::home::take_database;
use crate::name::{DEFAULT, is_name};
use crate::store::arango::{Address, ArangoOptions, Databases};
use crate::store::{EmbeddedStore, Error, Storage, wait_for};

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
    check_name(data, name)?;
    data_dir::mycelium_dir(data, DEFAULT)?;
    Ok(Arc::new(EmbeddedStore::open(&data_dir::mycelium_dir(data, name)?)?))
}

/// Takes the mycelium `name` on an ArangoDB server, with the large values that its broker has kept in the data folder
/// `data`. Nothing is made. It is ours, and no broker's, until it is closed ([`Log::close`](crate::store::Log::close)) or not
/// heard of for [`Config::store_lease`] by default. Blocks, for that long if the last broker was killed.
///
/// # Errors
/// [`Error::InUse`] if a broker has it; [`Error::Unfit`] if it is not there, the user may not, or `data` is not its folder;
/// [`Error::Unavailable`].
pub fn open_stored_database(server: &Address, data: &Path, name: &str) -> Result<Arc<dyn Storage>, Error> {
    check_name(data, name)?;
    let lease = Config::default().store_lease;
    let databases = Databases::new(server, lease)?;
    let id = wait_for(databases.find(name))?;
    let blobs = database::claimed(data, name, &id)?;
    Ok(Arc::new(wait_for(databases.take(name, ArangoOptions { blobs, lease }))?))
}

/// Takes the mycelium `name` on an ArangoDB server, as [`open_stored_database`]. It is made if it is not there, as its
/// folder in `data` is, with an empty `default` beside, since no broker starts without. Blocks.
///
/// # Errors
/// [`Error::InUse`] if a broker has it; [`Error::Unfit`] if the user may not make what is missing, or `data` holds
/// mycelia of the embedded store, or the large values of another; [`Error::Foreign`] if that is no name, or `data` holds
/// something else; [`Error::Unavailable`].
pub fn open_database_to_fill(server: &Address, data: &Path, name: &str) -> Result<Arc<dyn Storage>, Error> {
    check_name(data, name)?;
    let lease = Config::default().store_lease;
    let databases = Databases::new(server, lease)?;
    if name != DEFAULT {
        database::check_not_embedded(data, name, databases.shown())?;
        database::claim(data, DEFAULT, &wait_for(databases.make(DEFAULT))?)?;
    }
    Ok(take_database(&databases, data, name, lease)?)
}

fn check_name(data: &Path, name: &str) -> Result<(), Error> {
    match is_name(name) {
        true => Ok(()),
        false => Err(foreign(data, format!("`{name}` is no name for a mycelium"))),
    }
}

fn foreign(data: &Path, why: String) -> Error {
    Error::Foreign { folder: data.display().to_string(), why }
}
