//! The latest entries of each kind: in two files, of which the older one goes when the newer one is full, or in memory.
//!
//! They are no part of a mycelium's store: entries outlive the mycelium that they are about, refused calls cost it no commit, and
//! what happened while a database could not be reached is kept too.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use super::{Entry, Kind};
use crate::private;

/// The folder, within the data folder: no mycelium has such a name.
const FOLDER: &str = ".audit";
/// The longest line, in bytes: names are cut before.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How many of a kind are kept in memory.
const MEMORY_MAX: usize = 2_048;

impl Kind {
    const ALL: [Self; 3] = [Self::Steering, Self::Routine, Self::Refused];

    /// How its files are called, and how large each becomes, in bytes.
    const fn files(self) -> (&'static str, u64) {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Steering => ("steering", 3 * MIB),
            Self::Routine => ("routine", 3 * MIB),
            Self::Refused => ("refused", 2 * MIB),
        }
    }
}

/// What is kept. Those of one kind take no room from those of another: whoever may do little cannot have forgotten what others
/// did.
#[derive(Debug)]
pub(super) struct Kept {
    /// One for each kind.
    places: [Place; 3],
    /// Of the next entry.
    number: u64,
}

#[derive(Debug)]
enum Place {
    Memory(VecDeque<Entry>),
    Files(Files),
}

#[derive(Debug)]
struct Files {
    newer: PathBuf,
    older: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Whether the last line may be cut: the next does not run into it.
    is_cut: bool,
}

impl Kept {
    pub(super) fn in_memory() -> Self {
        Self { places: Kind::ALL.map(|_| Place::Memory(VecDeque::new())), number: 1 }
    }

    pub(super) fn in_folder(folder: &Path) -> io::Result<Self> {
        let folder = folder.join(FOLDER);
        private::create_dir_all(&folder)?;
        let mut number = 1;
        let [steering, routine, refused] = Kind::ALL.map(|kind| Files::open(&folder, kind, &mut number));
        Ok(Self { places: [steering?, routine?, refused?].map(Place::Files), number })
    }

    pub(super) fn add(&mut self, entries: Vec<(Kind, Entry)>) -> io::Result<()> {
        let mut of_kind = Kind::ALL.map(|_| Vec::new());
        for (kind, entry) in entries {
            of_kind[kind as usize].push(Entry { number: self.number, ..entry });
            self.number += 1;
        }
        let mut added = Ok(());
        for (place, entries) in self.places.iter_mut().zip(of_kind).filter(|(_, entries)| !entries.is_empty())
        {
            added = added.and(place.add(entries));
        }
        added
    }

    /// The latest of those that are meant, the last first.
    pub(super) fn list(&self, limit: usize, is_meant: impl Fn(&Entry) -> bool) -> io::Result<Vec<Entry>> {
        let mut latest = Vec::new();
        for place in &self.places {
            latest.extend(place.latest(limit, &is_meant)?);
        }
        latest.sort_unstable_by_key(|entry| Reverse(entry.number));
        latest.truncate(limit);
        Ok(latest)
    }
}

impl Place {
    fn add(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        match self {
            Self::Memory(kept) => {
                kept.extend(entries);
                let surplus = kept.len().saturating_sub(MEMORY_MAX);
                drop(kept.drain(..surplus));
                Ok(())
            }
            Self::Files(files) => files.add(&entries),
        }
    }

    fn latest(&self, limit: usize, is_meant: impl Fn(&Entry) -> bool) -> io::Result<VecDeque<Entry>> {
        let mut latest = VecDeque::new();
        let mut take = |entry: Entry| {
            if is_meant(&entry) {
                latest.push_back(entry);
                if latest.len() > limit {
                    latest.pop_front();
                }
            }
        };
        match self {
            Self::Memory(kept) => kept.iter().cloned().for_each(take),
            Self::Files(Files { newer, older, .. }) => {
                for file in [older, newer] {
                    read(file, &mut take)?;
                }
            }
        }
        Ok(latest)
    }
}

impl Files {
    /// Raises `number` above those of the entries that are there.
    fn open(folder: &Path, kind: Kind, number: &mut u64) -> io::Result<Self> {
        let (name, bytes_max) = kind.files();
        let [newer, older] = ["", ".older"].map(|age| folder.join(format!("{name}{age}.jsonl")));
        for file in [&older, &newer] {
            read(file, |entry| *number = entry.number.saturating_add(1).max(*number))?;
        }
        let file = private::append(&newer)?;
        let bytes = file.metadata()?.len();
        // The process may have died while it wrote.
        Ok(Self { newer, older, file, bytes, bytes_max, is_cut: bytes > 0 })
    }

    fn add(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        if self.bytes > self.bytes_max {
            std::fs::rename(&self.newer, &self.older)?;
            self.file = private::append(&self.newer)?;
            (self.bytes, self.is_cut) = (0, false);
        }
        if std::mem::replace(&mut self.is_cut, true) {
            self.file.write_all(b"\n")?;
        }
        self.bytes += 1 + lines.len() as u64;
        self.file.write_all(&lines)?;
        self.is_cut = false;
        Ok(())
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
            about: "a flow".to_owned(),
            count: 3,
            result: "OK".to_owned(),
        }
    }

    fn numbers(kept: &Kept, before: Option<u64>, limit: usize) -> Vec<u64> {
        kept.list(limit, |entry| before.is_none_or(|before| entry.number < before))
            .unwrap()
            .iter()
            .map(|entry| entry.number)
            .collect()
    }

    #[test]
    fn the_latest_are_found_again_after_a_restart_and_after_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(vec![(Kind::Routine, entry("A")), (Kind::Refused, entry("B"))]).unwrap();
        kept.add(vec![(Kind::Routine, entry("C"))]).unwrap();
        assert_eq!(numbers(&kept, None, 2), [3, 2]);
        assert_eq!(numbers(&kept, Some(2), 2), [1]);
        drop(kept);
        let file = dir.path().join(FOLDER).join("routine.jsonl");
        let mut half = File::options().append(true).open(file).unwrap();
        half.write_all(b"{\"number\":9,\"at").unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(vec![(Kind::Routine, entry("D"))]).unwrap();
        assert_eq!(numbers(&kept, None, 9), [4, 3, 2, 1]);
        assert_eq!(kept.list(1, |_| true).unwrap(), [Entry { number: 4, ..entry("D") }]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_no_kind_displaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(vec![(Kind::Steering, entry("First"))]).unwrap();
        let long = Entry { caller: "x".repeat(1_000), ..entry("A") };
        for kind in [Kind::Routine, Kind::Refused] {
            for _ in 0..20 {
                kept.add(vec![(kind, long.clone()); 1_000]).unwrap();
            }
        }
        let bytes: u64 = std::fs::read_dir(dir.path().join(FOLDER))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= 16 * 1024 * 1024 + 4 * 1024 * 1024, "{bytes}");
        assert_eq!(numbers(&kept, None, 1), [40_001]);
        assert_eq!(numbers(&kept, Some(2), 9), [1], "what the first one did is still there");
        let mut memory = Kept::in_memory();
        memory.add(vec![(Kind::Steering, entry("First"))]).unwrap();
        memory.add(vec![(Kind::Routine, entry("A")); 3 * MEMORY_MAX]).unwrap();
        let kept = numbers(&memory, None, 5 * MEMORY_MAX);
        assert_eq!((kept.len(), kept.last()), (MEMORY_MAX + 1, Some(&1)));
    }
}
