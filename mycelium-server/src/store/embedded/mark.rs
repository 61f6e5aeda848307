//! The high-water mark: the newest commit that was acknowledged, kept in a file of its own beside the database.
//!
//! The database drops the end of its journal without a word when it meets something unreadable there, which is right
//! for a write torn by a crash and wrong for damage to what was acknowledged. The mark tells the two apart.
//!
//! The file has two slots, written in turn, so that a write torn by a crash spoils only the one that is not the
//! newest acknowledged. It is not synced with every commit: a mark that is too low after a loss of power only finds
//! less damage, and never condemns a healthy store.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mycelium_core::ids::Commit;

use crate::private;

/// The distance between the slots, in bytes: no page or sector of usual size holds both.
const SLOT_DISTANCE: u64 = 4096;
/// A commit number, and its complement as a check.
const SLOT_BYTES: usize = 16;
/// After so many commits the file is synced, so that a loss of power costs the mark no more than those.
const COMMITS_PER_SYNC: u64 = 4096;

/// The mark, open for writing.
#[derive(Debug)]
pub(super) struct HighWaterMark {
    file: File,
}

impl HighWaterMark {
    /// Makes the file, with the mark at 0, durably.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = private::options().read(true).create_new(true).open(path)?;
        let mark = Self { file };
        mark.write_slot(Commit(0))?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Opens the file and reads the mark; `None` if there is no readable one in it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Commit>)> {
        let newest = Self::read(path)?;
        let file = OpenOptions::new().write(true).open(path)?;
        Ok((Self { file }, newest))
    }

    /// Reads the mark in a file that is left as it is; `None` if there is no readable one in it.
    pub(super) fn read(path: &Path) -> io::Result<Option<Commit>> {
        let mark = Self { file: File::open(path)? };
        Ok(mark.read_slot(0)?.max(mark.read_slot(1)?))
    }

    /// Raises the mark to `commit`, which has been acknowledged or is about to be.
    pub(super) fn raise(&self, commit: Commit) -> io::Result<()> {
        self.write_slot(commit)?;
        if commit.0.is_multiple_of(COMMITS_PER_SYNC) {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes the file out.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_slot(&self, commit: Commit) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&commit.0.to_le_bytes());
        slot[8..].copy_from_slice(&(!commit.0).to_le_bytes());
        self.file.write_all_at(&slot, (commit.0 % 2) * SLOT_DISTANCE)
    }

    fn read_slot(&self, index: u64) -> io::Result<Option<Commit>> {
        let mut slot = [0; SLOT_BYTES];
        match self.file.read_exact_at(&mut slot, index * SLOT_DISTANCE) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let slot = u128::from_le_bytes(slot);
        let (number, check) = (slot as u64, (slot >> 64) as u64);
        Ok((check == !number).then_some(Commit(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Option<Commit> {
        HighWaterMark::open(path).unwrap().1
    }

    #[test]
    fn the_mark_is_the_newest_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mark = HighWaterMark::create(&path).unwrap();
        assert_eq!(read(&path), Some(Commit(0)));
        for commit in 1..=5 {
            mark.raise(Commit(commit)).unwrap();
            assert_eq!(read(&path), Some(Commit(commit)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_mark_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mark = HighWaterMark::create(&path).unwrap();
        (1..=6).for_each(|commit| mark.raise(Commit(commit)).unwrap());
        // Half of the write of commit 7 arrived.
        mark.file.write_all_at(&7_u64.to_le_bytes(), SLOT_DISTANCE).unwrap();
        assert_eq!(read(&path), Some(Commit(6)));
    }

    #[test]
    fn a_file_without_a_readable_slot_has_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        std::fs::write(&path, []).unwrap();
        assert_eq!(read(&path), None);
        std::fs::write(&path, [0; 8192]).unwrap();
        assert_eq!(read(&path), None);
    }
}
