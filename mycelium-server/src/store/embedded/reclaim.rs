//! Gives back the room of what was removed. The database does so when it merges tables, which it does for what was written
//! and not for what was removed: the tombstones of a deletion may lie on top of what they remove for as long as nothing else
//! comes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fjall::AbstractTree as _;

use super::tables::{self, Table};
use super::{Inner, opened};
use crate::store::Error;

/// A table is merged when one in so many of its entries is a tombstone.
const TOMBSTONES_IN: u64 = 10;
/// And if there are so many of them.
const TOMBSTONES_MIN: u64 = 1_000;
/// How long what was collected in memory may take to be written out.
const WRITTEN_OUT_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Inner {
    /// Gives back what room it can, if that is much. Blocks for as long as it takes; commits and reads go on beside it.
    pub(super) fn reclaim(&self) -> Result<(), Error> {
        if self.writer().damage.is_some() {
            // Tables cannot be merged.
            return Ok(());
        }
        let names = opened(&self.tables())?.all().map(|table| table.name);
        // All of them: a journal goes once every table has written out what is in it.
        for name in names {
            self.with_table(name, write_out)?;
        }
        for name in names {
            self.with_table(name, |table| {
                let tree = &table.keyspace.tree;
                let (tombstones, all) = (tree.tombstone_count(), table.keyspace.approximate_len() as u64);
                if tombstones < TOMBSTONES_MIN || tombstones.saturating_mul(TOMBSTONES_IN) < all {
                    return Ok(());
                }
                tracing::debug!(
                    table = table.name,
                    tombstones,
                    all,
                    "merges a table, of which much was removed"
                );
                table.keyspace.major_compact().map_err(tables::commit_error)
            })?;
        }
        Ok(())
    }

    /// Does something with a table, which stays open meanwhile.
    fn with_table(
        &self,
        name: &str,
        something: impl FnOnce(&Table) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let tables = self.tables();
        opened(&tables)?.named(name).map_or(Ok(()), |table| something(&table))
    }
}

/// Has written out what a table has collected in memory.
fn write_out(table: &Table) -> Result<(), Error> {
    let tree = &table.keyspace.tree;
    if tree.active_memtable().is_empty() {
        return Ok(());
    }
    table.keyspace.rotate_memtable().map_err(tables::commit_error)?;
    let until = Instant::now() + WRITTEN_OUT_WITHIN;
    while tree.sealed_memtable_count() > 0 {
        if Instant::now() > until {
            return Err(Error::Unavailable {
                what: format!("table {} is not written out", table.name),
                certainly_not_applied: true,
                source: None,
            });
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// How many bytes of disk the files in a folder take, as far as they can be seen: some come and go meanwhile.
pub(super) fn disk_usage(folder: PathBuf) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let (mut folders, mut bytes) = (vec![folder], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                // Not its length: journals are longer than what is in them.
                Ok(metadata) => bytes += metadata.blocks() * BLOCK_BYTES,
                Err(_) => {}
            }
        }
    }
    bytes
}
