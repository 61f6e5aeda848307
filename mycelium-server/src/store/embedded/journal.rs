//! Reads the journals of the database, and changes nothing.
//!
//! When the database opens it cuts a journal off where it cannot read on, which is right for a write torn by a crash,
//! and destroys all that comes after damage. So the journals are looked through before: see [`look`].
//!
//! A journal is a row of batches, and then zeros (its place is reserved). All numbers are little-endian.
//! ```text
//! start   1, number of items (u32), sequence number (u64)
//! item    2, kind (u8), compression (u8), table (u64), lengths of the key (u16), of the value (u32), and of the value as
//!         it is stored (u32), the key, the value
//! end     3, xxh3 of the items (u64), "FJL", 3
//! ```
//! The sequence number is in no checksum; it rises from batch to batch.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use super::codec::{self, Head};
use super::folder::unavailable;
use super::keys::catalog;
use super::tables::NAMES;
use crate::store::Error;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const START_BYTES: usize = 13;
const ITEM_BYTES: usize = 21;
const END_BYTES: usize = 13;
const TRAILER: &[u8] = b"FJL\x03";
/// Where the sequence number is in a start.
const SEQUENCE_AT: u64 = 5;
/// No store gets as far as this; a sequence number from here on is damaged.
const SEQUENCE_MAX: u64 = 1 << 56;
/// The number of the table `catalog` in the database: they are made in the order of [`NAMES`], from 1 on.
const CATALOG: u64 = NAMES.len() as u64;
/// A head is never longer, in bytes.
const HEAD_BYTES_MAX: usize = 256;
/// No commit is shorter, in bytes.
const BATCH_BYTES_MIN: u64 = (START_BYTES + ITEM_BYTES + END_BYTES) as u64;
/// How much of a journal is read at once.
const WINDOW_BYTES: usize = 256 * 1024;
static ZEROS: [u8; WINDOW_BYTES] = [0; WINDOW_BYTES];

/// What is in the journals of a database, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// The folder of the database.
    folder: PathBuf,
    pub(super) files: Vec<Journal>,
    /// Sequence numbers that cannot be right.
    pub(super) sequences: Vec<WrongSequence>,
}

/// A sequence number that cannot be right: in which of the journals, where, and one that is right.
#[derive(Debug)]
pub(super) struct WrongSequence {
    pub(super) journal: usize,
    pub(super) place: u64,
    pub(super) right: u64,
}

/// What is in one journal. Places are bytes from its beginning.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    /// Where there are whole batches, one behind the other.
    pub(super) whole: Vec<Range<u64>>,
    /// What cannot be read, and has whole batches behind it.
    pub(super) damaged: Vec<Range<u64>>,
    /// What cannot be read at the end: a write that was torn, unless it had been acknowledged.
    pub(super) tail: Option<Range<u64>>,
    /// The commits in whole batches.
    pub(super) commits: Commits,
}

/// Numbers of commits, in runs of one after the other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Commits(Vec<(u64, u64)>);

impl Commits {
    fn add(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            // A copy of a store writes the number of its last commit twice.
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => self.0.push((first, last)),
        }
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// How many are missing between the first and the last.
    fn missing(&self) -> u64 {
        self.0.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1).saturating_sub(1)).sum()
    }
}

impl fmt::Display for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RUNS_TOLD: usize = 8;
        if self.0.is_empty() {
            return f.write_str("no commit");
        }
        for (index, (first, last)) in self.0.iter().take(RUNS_TOLD).enumerate() {
            let before = match index {
                0 => "commits",
                _ if index + 1 == self.0.len() => " and",
                _ => ",",
            };
            match first == last {
                true => write!(f, "{before} {first}")?,
                false => write!(f, "{before} {first} to {last}")?,
            }
        }
        match self.0.len().saturating_sub(RUNS_TOLD) {
            0 => Ok(()),
            _ => write!(f, ", and others up to {}", self.newest().unwrap_or_default()),
        }
    }
}

impl Journals {
    /// The commits in whole batches.
    pub(super) fn commits(&self) -> Commits {
        let mut commits = Commits::default();
        for (first, last) in self.files.iter().flat_map(|journal| &journal.commits.0) {
            commits.add(*first, *last);
        }
        commits
    }

    /// How many stretches, and bytes, cannot be read; with the ends that are torn if those were acknowledged.
    pub(super) fn unreadable(&self, is_tail_lost: bool) -> (usize, u64) {
        let tails = self.files.iter().filter_map(|journal| journal.tail.as_ref()).filter(|_| is_tail_lost);
        let all = self.files.iter().flat_map(|journal| &journal.damaged).chain(tails);
        all.fold((0, 0), |(count, bytes), range| (count + 1, bytes + (range.end - range.start)))
    }

    /// How many acknowledged commits are missing: before the first that is there and after the last that the tables
    /// have, between those that are there, and after the `newest` of all. The tables may have parts of them.
    pub(super) fn missing(&self, in_tables: u64, newest: u64, acknowledged: Option<u64>) -> u64 {
        let commits = self.commits();
        let first = commits.0.first().map_or(0, |(first, _)| *first);
        let before = first.saturating_sub(1).saturating_sub(in_tables);
        // A copy of a store begins with entries that are no commits, and goes on from the number that it was made at.
        let (_, bytes) = self.unreadable(false);
        let before = before.min(bytes / BATCH_BYTES_MIN);
        before + commits.missing() + acknowledged.unwrap_or_default().saturating_sub(newest)
    }

    /// What is damaged, each with its file, in words. An unreadable end is, if commits up to `acknowledged` were
    /// acknowledged and `newest` is the last that is there.
    pub(super) fn damage(&self, newest: Option<u64>, acknowledged: Option<u64>) -> Vec<String> {
        let is_tail_lost = newest < acknowledged;
        let mut found = Vec::new();
        for journal in &self.files {
            let path = journal.path.display();
            let tail = journal.tail.iter().filter(|_| is_tail_lost);
            for Range { start, end } in journal.damaged.iter().chain(tail) {
                found.push(format!("the journal {path} cannot be read from byte {start} to byte {end}"));
            }
        }
        for WrongSequence { journal, place, .. } in &self.sequences {
            let path = self.files[*journal].path.display();
            found.push(format!("the journal {path} has a wrong sequence number at byte {place}"));
        }
        let (newest, acknowledged) = (newest.unwrap_or_default(), acknowledged.unwrap_or_default());
        if found.is_empty() && self.commits().missing() > 0 {
            let path = self.files.last().map(|journal| journal.path.display().to_string());
            found.push(format!("a journal is missing before {}", path.unwrap_or_default()));
        }
        match self.files.last() {
            // There always is one. Without any, the database would count its sequence numbers from 0 again.
            None => {
                let folder = self.folder.display();
                found.push(format!(
                    "the journal in {folder} is missing, and the tables end at commit {newest}"
                ));
            }
            Some(journal) if found.is_empty() && newest < acknowledged => {
                let end = journal.whole.last().map_or(0, |whole| whole.end);
                let path = journal.path.display();
                found.push(format!("the journal {path} ends at commit {newest}, at byte {end}"));
            }
            Some(_) => {}
        }
        if let Some(last) = found.last_mut() {
            let commits = self.commits();
            last.push_str(&format!(
                "; {commits} can be read in the journals, and commits up to {acknowledged} were acknowledged"
            ));
        }
        found
    }

    /// Cuts off what was torn at the ends of journals. It must not have been acknowledged.
    pub(super) fn cut_torn_ends(&self) -> Result<(), Error> {
        for journal in &self.files {
            let Some(tail) = &journal.tail else { continue };
            let path = &journal.path;
            tracing::info!(
                path = %path.display(),
                byte = tail.start,
                bytes = tail.end - tail.start,
                "the end of the journal is dropped: a write that was torn, and not acknowledged"
            );
            let cut = File::options().write(true).open(path).and_then(|file| {
                file.set_len(tail.start)?;
                file.sync_all()
            });
            cut.map_err(|error| unavailable(path, "cannot cut the file", error))?;
        }
        Ok(())
    }
}

/// Looks through the journals in the folder of a database.
///
/// # Errors
/// [`Error::Unavailable`] if they cannot be read; damage is none.
pub(super) fn look(store: &Path) -> Result<Journals, Error> {
    let read = |error| unavailable(store, "cannot read the folder", error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(store).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) {
            paths.push((number, path));
        }
    }
    paths.sort_unstable();
    let mut journals = Journals { folder: store.to_owned(), ..Journals::default() };
    let mut sequences = Sequences::default();
    for (index, (_, path)) in paths.into_iter().enumerate() {
        let journal = look_through(&path, index, &mut sequences)
            .map_err(|error| unavailable(&path, "cannot read the journal", error))?;
        if !journal.whole.is_empty() {
            // What is unreadable at the end of those before it was no torn write.
            for before in &mut journals.files {
                before.damaged.extend(before.tail.take());
            }
        }
        journals.files.push(journal);
    }
    journals.sequences = sequences.wrong;
    Ok(journals)
}

fn look_through(path: &Path, index: usize, sequences: &mut Sequences) -> io::Result<Journal> {
    let mut source = Source::open(path)?;
    let mut journal = Journal { path: path.to_owned(), ..Journal::default() };
    let mut place = 0;
    loop {
        if let Some(batch) = source.batch(place)? {
            journal.take(place, &batch);
            sequences.take(index, place + SEQUENCE_AT, batch.sequence);
            place = batch.end;
            continue;
        }
        match source.next_batch(place)? {
            Next::Batch(next) => {
                journal.damaged.push(place..next);
                place = next;
            }
            Next::None { end } => {
                journal.tail = (end > place).then_some(place..end);
                return Ok(journal);
            }
        }
    }
}

impl Journal {
    fn take(&mut self, place: u64, batch: &Batch) {
        match self.whole.last_mut() {
            Some(whole) if whole.end == place => whole.end = batch.end,
            _ => self.whole.push(place..batch.end),
        }
        if let Some(commit) = batch.commit {
            self.commits.add(commit, commit);
        }
    }
}

/// The sequence numbers of the last two batches.
#[derive(Debug, Default)]
struct Sequences {
    before: Option<u64>,
    last: Option<u64>,
    /// The journal of the last one, and where it is.
    place: (usize, u64),
    wrong: Vec<WrongSequence>,
}

impl Sequences {
    fn take(&mut self, journal: usize, place: u64, found: u64) {
        let after = |before: Option<u64>| before.map_or(0, |before| before.saturating_add(1));
        let mut sequence = found;
        if found >= SEQUENCE_MAX || self.last.is_some_and(|last| found <= last) {
            if found < SEQUENCE_MAX && found > after(self.before) {
                // The one before is too high: without it, this one fits.
                let right = after(self.before);
                self.wrong.push(WrongSequence { journal: self.place.0, place: self.place.1, right });
                self.last = Some(right);
            } else {
                sequence = after(self.last);
                self.wrong.push(WrongSequence { journal, place, right: sequence });
            }
        }
        (self.before, self.last, self.place) = (self.last, Some(sequence), (journal, place));
    }
}

/// A batch that is whole.
#[derive(Debug)]
struct Batch {
    end: u64,
    sequence: u64,
    /// The commit that it is, if it says so: all do but those of a copy that is being written.
    commit: Option<u64>,
}

enum Next {
    /// Where the next whole batch begins.
    Batch(u64),
    /// There is none, and only zeros are from `end` on.
    None { end: u64 },
}

/// A journal that is read, through a window.
struct Source {
    file: File,
    len: u64,
    window: Vec<u8>,
    /// Where the window is, and how much of it is filled.
    begin: u64,
    filled: usize,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len, window: vec![0; WINDOW_BYTES], begin: 0, filled: 0 })
    }

    /// What is at a place, up to `bytes`, which are no more than the window; less at the end of the file.
    fn at(&mut self, place: u64, bytes: usize) -> io::Result<&[u8]> {
        let is_within = |begin: u64, filled: usize| {
            begin <= place && place.saturating_add(bytes as u64) <= begin + filled as u64
        };
        if !is_within(self.begin, self.filled) {
            (self.begin, self.filled) = (place, 0);
            while self.filled < self.window.len() {
                match self.file.read_at(&mut self.window[self.filled..], place + self.filled as u64) {
                    Ok(0) => break,
                    Ok(read) => self.filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let from = (place - self.begin) as usize;
        Ok(&self.window[from..self.filled.min(from + bytes)])
    }

    /// The batch that begins at a place, if it is whole.
    fn batch(&mut self, start: u64) -> io::Result<Option<Batch>> {
        let head = self.at(start, START_BYTES)?;
        let (Some(&START), Some(items), Some(sequence)) = (head.first(), u32_at(head, 1), u64_at(head, 5))
        else {
            return Ok(None);
        };
        let mut hasher = Xxh3Default::new();
        let mut commit = None;
        let mut place = start + START_BYTES as u64;
        for _ in 0..items {
            let item = self.at(place, ITEM_BYTES)?;
            let Some(lengths) = item_lengths(item) else { return Ok(None) };
            let is_head = item.get(1..3) == Some(&[0, 0])
                && u64_at(item, 3) == Some(CATALOG)
                && lengths.key == catalog::COUNTERS.len()
                && lengths.value <= HEAD_BYTES_MAX;
            hasher.update(item);
            place += ITEM_BYTES as u64;
            let end = place + (lengths.key + lengths.value) as u64;
            if end > self.len {
                return Ok(None);
            }
            if is_head {
                let (key, value) = self.at(place, (end - place) as usize)?.split_at(lengths.key);
                if key == catalog::COUNTERS {
                    let head = codec::decode::<Head>((), Bytes::copy_from_slice(value), None).ok();
                    commit = head.map(|head| head.counters.commit.0);
                }
            }
            while place < end {
                let piece = self.at(place, (end - place).min(WINDOW_BYTES as u64) as usize)?;
                if piece.is_empty() {
                    return Ok(None);
                }
                hasher.update(piece);
                place += piece.len() as u64;
            }
        }
        let end = self.at(place, END_BYTES)?;
        let is_whole = items > 0
            && end.first() == Some(&END)
            && u64_at(end, 1) == Some(hasher.digest())
            && end.get(9..) == Some(TRAILER);
        Ok(is_whole.then_some(Batch { end: place + END_BYTES as u64, sequence, commit }))
    }

    /// Looks for the next batch that is whole, behind a place where none begins.
    fn next_batch(&mut self, after: u64) -> io::Result<Next> {
        let mut end = after;
        let mut place = after;
        while place < self.len {
            let window = self.at(place, WINDOW_BYTES.min((self.len - place) as usize))?;
            let read = window.len();
            if read == 0 {
                break;
            }
            if window != &ZEROS[..read] {
                if let Some(last) = window.iter().rposition(|byte| *byte != 0) {
                    end = place + last as u64 + 1;
                }
                let mut from = 0;
                while let Some(candidate) = candidate(self.at(place, read)?, from) {
                    let start = place + candidate as u64;
                    if start > after && self.batch(start)?.is_some() {
                        return Ok(Next::Batch(start));
                    }
                    from = candidate + 1;
                }
            }
            place += read as u64;
        }
        Ok(Next::None { end })
    }
}

/// Where a batch may begin in a window, from a place on. What is cut off by the end of the window may be one.
fn candidate(window: &[u8], from: usize) -> Option<usize> {
    let is_item = |item: &[u8]| item.len() < ITEM_BYTES || item_lengths(item).is_some();
    (from..window.len()).find(|start| {
        window[*start] == START && is_item(window.get(start + START_BYTES..).unwrap_or_default())
    })
}

struct Lengths {
    key: usize,
    value: usize,
}

/// The lengths in the beginning of an item; `None` if it is none.
fn item_lengths(item: &[u8]) -> Option<Lengths> {
    let known = item.first() == Some(&ITEM)
        // A value, or one of two kinds of removals; as it is or compressed.
        && item.get(1).is_some_and(|kind| *kind <= 2)
        && item.get(2).is_some_and(|compression| *compression <= 1)
        && u64_at(item, 3).is_some_and(|table| (1..=CATALOG).contains(&table));
    let key = item.get(11..13).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)?;
    let value = u32_at(item, 17)?;
    known.then_some(Lengths { key: usize::from(key), value: value as usize })
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    bytes.get(place..place + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
