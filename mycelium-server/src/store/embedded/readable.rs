//! Reads a table past what is damaged in it.
//!
//! A block that cannot be read hides the keys that were in it. Where it ends is found by trying: a scan that begins
//! within it fails, and one that begins behind it does not.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use fjall::{AbstractTree as _, Slice};

use super::check::tolerant;
use super::tables::{Table, View};
use crate::store::Error;

/// How many bytes of a key are looked at to find the end of what is damaged.
const PROBE_BYTES: usize = 64;

/// How much could not be read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Stretches of keys in which something is damaged.
    pub(super) gaps: usize,
    /// Entries whose keys are known, and whose values cannot be read.
    pub(super) values: usize,
}

impl Lost {
    pub(super) fn add(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.values += other.values;
    }
}

/// Hands the readable entries of a table to `each`, in the order of their keys but for those between what is damaged.
pub(super) fn entries(
    view: &View<'_>,
    table: &Table,
    mut each: impl FnMut(&[u8], &Slice) -> Result<(), Error>,
) -> Result<Lost, Error> {
    let mut lost = Lost::default();
    let mut begin: Bound<Vec<u8>> = Bound::Unbounded;
    loop {
        let mut last = match &begin {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) | Bound::Excluded(key) => key.clone(),
        };
        let mut is_damaged = false;
        for key in view.keys(table, begin) {
            let Ok(key) = key else {
                is_damaged = true;
                break;
            };
            match tolerant(view.get_quietly(table, &key))? {
                Some(Some(value)) => each(&key, &value)?,
                Some(None) | None => lost.values += 1,
            }
            last = key.to_vec();
        }
        if !is_damaged {
            return Ok(lost);
        }
        lost.gaps += 1;
        let next = end_of_damage(view, table, &last);
        for key in keys_between(table, &last, next.as_deref()) {
            match tolerant(view.get_quietly(table, &key))? {
                Some(Some(value)) => each(&key, &value)?,
                Some(None) => {}
                None => lost.values += 1,
            }
        }
        match next {
            Some(next) => begin = Bound::Included(next),
            None => return Ok(lost),
        }
    }
}

/// Entries between two keys, past what is damaged: after an error that says so, those that can be read behind it follow.
pub(super) struct Past<'v, 't> {
    view: &'v View<'v>,
    table: &'t Table,
    end: Bound<Vec<u8>>,
    /// The last key that was read, or where to begin.
    last: Slice,
    entries: Box<dyn Iterator<Item = Result<(Slice, Slice), Error>> + 't>,
    /// Keys within what is damaged that are in other files, or in memory.
    within: VecDeque<Slice>,
    /// Where to go on behind that.
    behind: Option<Vec<u8>>,
}

impl<'v, 't> Past<'v, 't> {
    pub(super) fn new(
        view: &'v View<'v>,
        table: &'t Table,
        begin: Bound<Vec<u8>>,
        end: Bound<Vec<u8>>,
    ) -> Self {
        let last = match &begin {
            Bound::Included(key) | Bound::Excluded(key) => Slice::from(key.as_slice()),
            Bound::Unbounded => Slice::from([].as_slice()),
        };
        let entries = Box::new(view.range(table, begin, end.clone()));
        Self { view, table, end, last, entries, within: VecDeque::new(), behind: None }
    }

    fn is_before_end(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
            Bound::Unbounded => true,
        }
    }

    /// Finds what can be read within what is damaged, and behind it.
    fn pass(&mut self) {
        let behind = end_of_damage(self.view, self.table, &self.last);
        let within = keys_between(self.table, &self.last, behind.as_deref());
        self.within = within.into_iter().filter(|key| self.is_before_end(key)).collect();
        self.behind = behind.filter(|key| self.is_before_end(key));
        self.entries = Box::new(std::iter::empty());
    }
}

impl Iterator for Past<'_, '_> {
    type Item = Result<(Slice, Slice), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(key) = self.within.pop_front() {
            match self.view.get_raw(self.table, &key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        if let Some(behind) = self.behind.take() {
            self.entries = Box::new(self.view.range(self.table, Bound::Included(behind), self.end.clone()));
        }
        let next = self.entries.next()?;
        match &next {
            Ok((key, _)) => self.last = key.clone(),
            Err(Error::Damaged { .. }) => self.pass(),
            Err(_) => {}
        }
        Some(next)
    }
}

/// The first place after `last` from which a table can be read on; `None` if that is nowhere.
fn end_of_damage(view: &View<'_>, table: &Table, last: &[u8]) -> Option<Vec<u8>> {
    let is_readable = |place: &[u8]| {
        view.keys(table, Bound::Included(place.to_vec())).next().is_none_or(|first| first.is_ok())
    };
    let mut low = [0; PROBE_BYTES];
    let known = last.len().min(PROBE_BYTES);
    low[..known].copy_from_slice(&last[..known]);
    let mut high = [u8::MAX; PROBE_BYTES];
    if !is_readable(&high) {
        return None;
    }
    // What begins at `low` is damaged, or read already; what begins at `high` is not damaged.
    while let Some(middle) = middle_of(&low, &high) {
        if is_readable(&middle) && middle.as_slice() > last {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high.to_vec())
}

/// The number half way between two; `None` if there is none between them.
fn middle_of(low: &[u8; PROBE_BYTES], high: &[u8; PROBE_BYTES]) -> Option<[u8; PROBE_BYTES]> {
    let mut middle = [0; PROBE_BYTES];
    let mut carry = 0;
    for index in (0..PROBE_BYTES).rev() {
        let sum = u16::from(low[index]) + u16::from(high[index]) + carry;
        middle[index] = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    for byte in &mut middle {
        let value = (carry << 8) | u16::from(*byte);
        *byte = (value >> 1) as u8;
        carry = value & 1;
    }
    (middle != *low).then_some(middle)
}

/// The keys between two places that are in files which can be read there, or in memory.
fn keys_between(table: &Table, after: &[u8], before: Option<&[u8]>) -> BTreeSet<Slice> {
    let begin = Bound::Excluded(Slice::from(after));
    let end = before.map_or(Bound::Unbounded, |before| Bound::Excluded(Slice::from(before)));
    let is_between = |key: &[u8]| key > after && before.is_none_or(|before| key < before);
    let tree = &table.keyspace.tree;
    let mut keys = BTreeSet::new();
    for file in tree.current_version().iter_tables() {
        let range = || file.range::<(Bound<Slice>, Bound<Slice>)>((begin.clone(), end.clone()));
        // From both sides, up to what is damaged.
        let forwards = range().map_while(Result::ok).map(|entry| entry.key.user_key);
        let backwards = range().rev().map_while(Result::ok).map(|entry| entry.key.user_key);
        keys.extend(forwards.chain(backwards).filter(|key| is_between(key)));
    }
    keys.extend(tree.active_memtable().iter().map(|entry| entry.key.user_key).filter(|key| is_between(key)));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_and_found_in_the_end() {
        let (mut low, high) = ([0; PROBE_BYTES], [u8::MAX; PROBE_BYTES]);
        let mut steps = 0;
        while let Some(middle) = middle_of(&low, &high) {
            assert!(low < middle && middle < high);
            low = middle;
            steps += 1;
        }
        assert_eq!(steps, 8 * PROBE_BYTES);
    }
}
