//! The latest entries: in two files, of which the older one goes when the newer one is full, or in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use super::Entry;
use crate::private;

/// The folder, within the data folder: no mycelium has such a name.
const FOLDER: &str = ".audit";
/// How large a file becomes, in bytes.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The longest line, in bytes: names are cut before.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How many are kept in memory.
const MEMORY_MAX: usize = 4_096;

/// What is kept.
#[derive(Debug)]
pub(super) struct Kept {
    place: Place,
    /// Of the next entry.
    number: u64,
}

#[derive(Debug)]
enum Place {
    Memory(VecDeque<Entry>),
    Files { newer: PathBuf, older: PathBuf, file: File, bytes: u64 },
}

impl Kept {
    pub(super) fn in_memory() -> Self {
        Self { place: Place::Memory(VecDeque::new()), number: 1 }
    }

    pub(super) fn in_folder(folder: &Path) -> io::Result<Self> {
        let folder = folder.join(FOLDER);
        private::create_dir_all(&folder)?;
        let [newer, older] = ["newer.jsonl", "older.jsonl"].map(|name| folder.join(name));
        let mut number = 1;
        for file in [&older, &newer] {
            read(file, |entry| number = number.max(entry.number + 1))?;
        }
        let mut file = private::append(&newer)?;
        let bytes = file.metadata()?.len();
        // A line that was being written when the process died does not run into the next.
        if bytes > 0 {
            file.write_all(b"\n")?;
        }
        Ok(Self { place: Place::Files { newer, older, file, bytes: bytes + 1 }, number })
    }

    pub(super) fn add(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let numbered = entries.into_iter().map(|entry| {
            let number = self.number;
            self.number += 1;
            Entry { number, ..entry }
        });
        match &mut self.place {
            Place::Memory(kept) => {
                kept.extend(numbered);
                let surplus = kept.len().saturating_sub(MEMORY_MAX);
                drop(kept.drain(..surplus));
                Ok(())
            }
            Place::Files { newer, older, file, bytes } => {
                let mut lines = Vec::new();
                for entry in numbered {
                    serde_json::to_writer(&mut lines, &entry)?;
                    lines.push(b'\n');
                }
                if *bytes > FILE_BYTES_MAX {
                    std::fs::rename(&*newer, older)?;
                    *file = private::append(newer)?;
                    *bytes = 0;
                }
                file.write_all(&lines)?;
                *bytes += lines.len() as u64;
                Ok(())
            }
        }
    }

    pub(super) fn list(&self, before: Option<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        let is_before = |entry: &Entry| before.is_none_or(|before| entry.number < before);
        match &self.place {
            Place::Memory(kept) => {
                Ok(kept.iter().rev().filter(|entry| is_before(entry)).take(limit).cloned().collect())
            }
            Place::Files { newer, older, .. } => {
                let mut latest = VecDeque::with_capacity(limit.min(MEMORY_MAX));
                for file in [older, newer] {
                    read(file, |entry| {
                        if is_before(&entry) {
                            latest.push_back(entry);
                            if latest.len() > limit {
                                latest.pop_front();
                            }
                        }
                    })?;
                }
                Ok(latest.into_iter().rev().collect())
            }
        }
    }
}

/// Reads a file that may not be there. Lines that are no entries are passed over: the last one may be cut.
fn read(path: &Path, mut take: impl FnMut(Entry)) -> io::Result<()> {
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = io::Read::take(&mut reader, LINE_BYTES_MAX);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Ok(entry) = serde_json::from_slice(&line) {
            take(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(call: &str) -> Entry {
        Entry {
            number: 0,
            at_ms: 7,
            caller: "ci".to_owned(),
            peer: Some(([127, 0, 0, 1], 7).into()),
            call: call.to_owned(),
            mycelium: Some("default".to_owned()),
            count: 3,
            result: "OK".to_owned(),
        }
    }

    fn numbers(kept: &Kept, before: Option<u64>, limit: usize) -> Vec<u64> {
        kept.list(before, limit).unwrap().iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn the_latest_are_found_again_after_a_restart_and_after_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(vec![entry("A"), entry("B")]).unwrap();
        kept.add(vec![entry("C")]).unwrap();
        assert_eq!(numbers(&kept, None, 2), [3, 2]);
        assert_eq!(numbers(&kept, Some(2), 2), [1]);
        drop(kept);
        let file = dir.path().join(FOLDER).join("newer.jsonl");
        let mut half = File::options().append(true).open(file).unwrap();
        half.write_all(b"{\"number\":9,\"at").unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(vec![entry("D")]).unwrap();
        assert_eq!(numbers(&kept, None, 9), [4, 3, 2, 1]);
        assert_eq!(kept.list(None, 1).unwrap(), [Entry { number: 4, ..entry("D") }]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        let long = Entry { caller: "x".repeat(1_000), ..entry("A") };
        for _ in 0..40 {
            kept.add(vec![long.clone(); 1_000]).unwrap();
        }
        let bytes: u64 = std::fs::read_dir(dir.path().join(FOLDER))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= 2 * FILE_BYTES_MAX + 4 * 1024 * 1024, "{bytes}");
        assert_eq!(numbers(&kept, None, 1), [40_000]);
        let mut memory = Kept::in_memory();
        memory.add(vec![entry("A"); 3 * MEMORY_MAX]).unwrap();
        assert_eq!(numbers(&memory, None, 5 * MEMORY_MAX).len(), MEMORY_MAX);
    }
}
