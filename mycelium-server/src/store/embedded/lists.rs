//! Lists, by page, past what is damaged.

use std::collections::BTreeSet;
use std::ops::Bound;

use fjall::Slice;
use mycelium_core::ids::FinishNumber;
use mycelium_core::status::FinalStatus;

use super::keys::{self, Key, index};
use super::readable::Past;
use super::signposts::{Bounds, bounds};
use super::tables::{Table, View, end_of};
use crate::store::{Error, FinishedPage, FinishedQuery, FinishedRecord, Listed};

/// How much that is damaged a page passes over: finding out what is wrong with each takes its time.
const DAMAGED_MAX: usize = 256;

/// Reads a page of a list whose entries lead to records.
pub(super) fn listed<T>(
    view: &View<'_>,
    table: &Table,
    prefix: &[u8],
    after: Option<Key>,
    limit: usize,
    record: impl Fn(&[u8], Slice) -> Result<T, Error>,
) -> Result<Listed<T>, Error> {
    let begin = match after {
        Some(after) => Bound::Excluded(after.into_bytes()),
        None => Bound::Included(prefix.to_vec()),
    };
    let mut page = Listed { entries: Vec::new(), damaged: Vec::new() };
    let mut entries = Past::new(view, table, begin, end_of(prefix));
    while page.entries.len() < limit
        && let Some(entry) = entries.next()
    {
        match entry.and_then(|(key, value)| record(&key, value)) {
            Ok(record) => page.entries.push(record),
            Err(Error::Damaged { what }) if page.damaged.len() < DAMAGED_MAX => page.damaged.push(what),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// One entry of a list, and its record if the list holds the records themselves.
struct Entry {
    number: FinishNumber,
    record: Option<Slice>,
}

/// A list that is being read, newest first.
struct List<I> {
    entries: I,
    /// The next entry, once read.
    head: Option<Entry>,
    /// Whether nothing comes after `head`.
    is_at_end: bool,
}

/// Reads a page. Several lists, one for each status asked for, are read together, in the order of finishing.
pub(super) fn page(view: &View<'_>, query: &FinishedQuery) -> Result<FinishedPage, Error> {
    let limit = query.limit.max(1);
    let mut page = FinishedPage::default();
    let bounds = bounds(view, query)?;
    if bounds.are_empty() {
        return Ok(page);
    }

    let mut lists: Vec<_> = match lists_by_status(query, limit) {
        Some(prefixes) => {
            let list = |prefix: Key| read(view, &view.tables.index, prefix.as_bytes(), bounds);
            prefixes.into_iter().map(list).collect()
        }
        None => {
            let (table, prefix) = match (query.flow, &query.elf) {
                (Some(flow), _) => (&view.tables.index, index::of_flow(flow, None).into_bytes()),
                (None, Some(elf)) => (&view.tables.index, index::of_elf(elf, None).into_bytes()),
                (None, None) => match query.labels.iter().next() {
                    Some(label) => (&view.tables.index, index::of_label(label).into_bytes()),
                    None => (&view.tables.finished, Vec::new()),
                },
            };
            vec![read(view, table, &prefix, bounds)]
        }
    };

    let mut last = None;
    let mut taken = 0;
    loop {
        for list in &mut lists {
            while list.head.is_none() && !list.is_at_end {
                if page.entries_read > limit {
                    // Without this list's next entry, nothing says which of all comes next.
                    page.next = last;
                    return Ok(page);
                }
                match list.entries.next() {
                    Some(Ok(entry)) => {
                        list.head = Some(entry);
                        page.entries_read += 1;
                    }
                    // Behind it the list goes on.
                    Some(Err(Error::Damaged { what })) if page.damaged.len() < DAMAGED_MAX => {
                        page.damaged.push(what);
                    }
                    Some(Err(error)) => return Err(error),
                    None => list.is_at_end = true,
                }
            }
        }
        let Some(newest) =
            lists.iter_mut().filter(|list| list.head.is_some()).max_by_key(|list| list.number())
        else {
            return Ok(page);
        };
        if taken == limit {
            page.next = last;
            return Ok(page);
        }
        if let Some(entry) = newest.head.take() {
            taken += 1;
            last = Some(entry.number);
            match record_of(view, entry) {
                Ok(record) if query.fits(&record) => page.jobs.push(record),
                Ok(_) => {}
                // The others of the page can be read.
                Err(Error::Damaged { what }) => page.damaged.push(what),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<I> List<I> {
    fn number(&self) -> Option<FinishNumber> {
        self.head.as_ref().map(|entry| entry.number)
    }
}

fn record_of(view: &View<'_>, entry: Entry) -> Result<FinishedRecord, Error> {
    let table = &view.tables.finished;
    let key = keys::finished(entry.number);
    let value = match entry.record {
        Some(value) => Some(value),
        None => view.get_raw(table, &key)?,
    };
    let value = table.expect(&key, value, "a list leads here, and there is no record")?;
    table.decode(&key, entry.number, value)
}

/// The lists to read if all statuses asked for have lists of their own; `None` if a list of all statuses is to be
/// read and filtered.
fn lists_by_status(query: &FinishedQuery, limit: usize) -> Option<Vec<Key>> {
    let statuses: BTreeSet<_> = query.statuses.iter().copied().collect();
    // A page may read `limit` + 1 entries, and needs one of each list to take its first.
    let is_labelled = !query.labels.is_empty() && query.flow.is_none() && query.elf.is_none();
    if is_labelled || statuses.is_empty() || statuses.contains(&FinalStatus::Done) || statuses.len() > limit {
        return None;
    }
    let list = |status| match (query.flow, &query.elf) {
        (Some(flow), _) => index::of_flow(flow, Some(status)),
        (None, Some(elf)) => index::of_elf(elf, Some(status)),
        (None, None) => index::of_status(status),
    };
    Some(statuses.into_iter().map(list).collect())
}

/// Begins to read a list.
fn read<'v, 't>(
    view: &'v View<'v>,
    table: &'t Table,
    prefix: &[u8],
    bounds: Bounds,
) -> List<impl Iterator<Item = Result<Entry, Error>> + use<'v, 't>> {
    let at = |number| {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&keys::finished(number));
        key
    };
    let begin =
        bounds.begin.map_or_else(|| Bound::Included(prefix.to_vec()), |number| Bound::Excluded(at(number)));
    let end = bounds.end.map_or_else(|| end_of(prefix), |number| Bound::Excluded(at(number)));
    // Only the list of all has records for values.
    let holds_records = prefix.is_empty();
    let entries = Past::new(view, table, begin, end).map(move |entry| {
        let (key, value) = entry?;
        let number = table.expect(&key, keys::finish_number(&key), "the key is too short")?;
        Ok(Entry { number, record: holds_records.then_some(value) })
    });
    List { entries, head: None, is_at_end: false }
}
