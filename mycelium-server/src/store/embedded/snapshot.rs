//! The store at one moment, read from beginning to end while the broker goes on.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use fjall::{Readable as _, Snapshot};
use mycelium_core::ids::Commit;

use super::codec::Head;
use super::keys::catalog;
use super::tables::{NAMES, Table, Tables};
use crate::store::{Error, StoreSnapshot, TableEntries};

/// What keeps the moment. The database cannot be opened again while this is held.
pub(super) struct Opened {
    snapshot: Snapshot,
    tables: [Table; 7],
}

/// The snapshots that are being read, so that a database that has to be opened again can let go of them.
#[derive(Default)]
pub(super) struct Snapshots(Mutex<Vec<Weak<Mutex<Option<Opened>>>>>);

impl Snapshots {
    /// Keeps this moment of the database.
    pub(super) fn take(&self, tables: &Tables) -> Result<EmbeddedSnapshot, Error> {
        let view = tables.view();
        let head = view.get::<Head>(&tables.catalog, catalog::COUNTERS, ())?.unwrap_or_default();
        let opened = Opened { snapshot: view.into_snapshot(), tables: tables.all() };
        let opened = Arc::new(Mutex::new(Some(opened)));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|snapshot| snapshot.strong_count() > 0);
        known.push(Arc::downgrade(&opened));
        Ok(EmbeddedSnapshot { opened, commit: head.counters.commit, table: 0, after: None })
    }

    /// Ends all that are being read.
    pub(super) fn end_all(&self) {
        for snapshot in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(opened) = snapshot.upgrade() {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }
}

/// See the module.
pub(super) struct EmbeddedSnapshot {
    opened: Arc<Mutex<Option<Opened>>>,
    commit: Commit,
    /// The table that is being read.
    table: usize,
    /// The last key that was read of it.
    after: Option<Vec<u8>>,
}

impl StoreSnapshot for EmbeddedSnapshot {
    fn commit(&self) -> Commit {
        self.commit
    }

    fn next(&mut self, bytes_max: usize) -> Result<Option<TableEntries>, Error> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Opened { snapshot, tables }) = &*opened else {
            return Err(Error::Unavailable {
                what: "the store was opened again while it was copied".to_owned(),
                certainly_not_applied: true,
                source: None,
            });
        };
        while let Some(table) = tables.get(self.table) {
            let begin = self.after.take().map_or(Bound::Unbounded, Bound::Excluded);
            let range = (begin.clone(), Bound::Unbounded);
            let mut read = TableEntries { table: NAMES[self.table], entries: Vec::new() };
            let mut bytes = 0;
            for entry in snapshot.range::<Vec<u8>, _>(&table.keyspace, range) {
                let (key, value) = entry.into_inner().map_err(|error| {
                    table.read_error(begin.as_ref().map(Vec::as_slice), Bound::Unbounded, error)
                })?;
                bytes += key.len() + value.len();
                read.entries.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
                if bytes >= bytes_max {
                    self.after = Some(key.to_vec());
                    return Ok(Some(read));
                }
            }
            self.table += 1;
            if !read.entries.is_empty() {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }
}
