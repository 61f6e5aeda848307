//! What is read of the database.
//!
//! A few records by their keys come from memory almost always: what was written lately has not left it, and the rest is in
//! the caches of database and system. So they are read where they are asked for, unless the read before was slow; all
//! else is read on a thread that may block.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::Slice;
use mycelium_core::ids::{FailureId, FlowId, JobId, SubmissionId};
use mycelium_core::image::{FlowRecord, LiveJob, SubmissionRecord};

use super::codec::{EndRecord, Outputs};
use super::keys::{self, Key, NAME_BYTES_MAX, catalog, index};
use super::reclaim::disk_usage;
use super::tables::{View, end_of};
use super::{EmbeddedStore, Inner, lists, opened};
use crate::store::record::outline;
use crate::store::{
    Answer, BlobDigest, BlobUse, CheckpointRecord, Edge, ElfRecord, Error, FailureCursor, FailureRecord,
    FinishedPage, FinishedQuery, FinishedRecord, FlowPage, FlowQuery, Listed, OCCURRENCES_SEARCHED,
    OccurrenceRecord, Outline, Reads, RevisionCursor, RevisionKey, RevisionRecord, SpecRecord, StoreSnapshot,
    cursor,
};

/// Up to so many records are a few.
const FEW: usize = 16;
/// A read of a few that takes longer was not served from memory.
const QUICK: Duration = Duration::from_millis(1);

/// What is wrong with such a key.
const NO_BLOB_USE: &str = "it is not the use of a blob";

impl Inner {
    /// Reads the records of a few keys, and notes how long that takes.
    fn read_few<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let begun = Instant::now();
        let records = self.read(read);
        let is_slow = begun.elapsed() > QUICK;
        if is_slow != self.is_slow.load(Ordering::Relaxed) {
            self.is_slow.store(is_slow, Ordering::Relaxed);
        }
        records
    }
}

impl EmbeddedStore {
    /// Reads what there is of each key.
    fn each<'a, K: Clone + Send + 'static, T: Send + 'static>(
        &'a self,
        keys: &'a [K],
        read: fn(&View<'_>, &K) -> Result<T, Error>,
    ) -> Answer<'a, Vec<T>> {
        fn all<K, T>(
            view: &View<'_>,
            keys: &[K],
            read: fn(&View<'_>, &K) -> Result<T, Error>,
        ) -> Result<Vec<T>, Error> {
            keys.iter().map(|key| read(view, key)).collect()
        }
        if keys.len() > FEW {
            let keys = keys.to_vec();
            return self.aside(move |view| all(view, &keys, read));
        }
        if !self.inner.is_slow.load(Ordering::Relaxed) {
            return Answer::ready(self.inner.read_few(|view| all(view, keys, read)));
        }
        let (inner, keys) = (Arc::clone(&self.inner), keys.to_vec());
        Answer::blocking(move || inner.read_few(|view| all(view, &keys, read)))
    }

    /// Reads on a thread that may block.
    fn aside<'a, T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'a, T> {
        let inner = Arc::clone(&self.inner);
        Answer::blocking(move || inner.read(read))
    }
}

impl Reads for EmbeddedStore {
    fn specs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<SpecRecord>>> {
        self.each(ids, |view, id| view.get(&view.tables.specs, id.as_bytes(), *id))
    }

    fn outlines<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Outline>>> {
        self.each(ids, |view, id| {
            let spec = view.get::<SpecRecord>(&view.tables.specs, id.as_bytes(), *id)?;
            Ok(spec.map(outline))
        })
    }

    fn unfinished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<LiveJob>>> {
        self.each(ids, |view, id| view.get(&view.tables.live, id.as_bytes(), *id))
    }

    fn finished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<FinishedRecord>>> {
        self.each(ids, |view, id| {
            let Some(end) = view.get::<EndRecord>(&view.tables.ends, id.as_bytes(), ())? else {
                return Ok(None);
            };
            let table = &view.tables.finished;
            let key = keys::finished(end.finish_number);
            let record = view.get(table, &key, end.finish_number)?;
            table.expect(&key, record, "a job leads here, and there is no record").map(Some)
        })
    }

    fn outputs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.each(ids, |view, id| {
            let end = view.get::<EndRecord>(&view.tables.ends, id.as_bytes(), ())?;
            match end.map(|end| end.outputs) {
                None | Some(Outputs::None) => Ok(None),
                Some(Outputs::Here(outputs)) => Ok(Some(outputs)),
                Some(Outputs::Apart) => {
                    let table = &view.tables.outputs;
                    let outputs = view.get_raw(table, id.as_bytes())?;
                    let why = "the job is done, and its outputs are missing";
                    table.expect(id.as_bytes(), outputs, why).map(|outputs| Some(Bytes::from_owner(outputs)))
                }
            }
        })
    }

    fn list_finished<'a>(&'a self, query: &'a FinishedQuery) -> Answer<'a, FinishedPage> {
        let query = query.clone();
        self.aside(move |view| lists::page(view, &query))
    }

    fn dependents<'a>(
        &'a self,
        jobs: &'a [JobId],
        after: Option<Edge>,
        limit: usize,
    ) -> Answer<'a, Vec<Edge>> {
        let under = Under::of(jobs, after.map(|after| after.job), index::dependents);
        let after = after.map(|after| index::dependent(after.job, after.dependent));
        let edge = |job, key: &[u8]| index::dependent_of(key).map(|dependent| Edge { job, dependent });
        self.aside(move |view| under.read(view, after.as_ref(), limit, edge, "the key is too short"))
    }

    fn blob_uses<'a>(
        &'a self,
        blobs: &'a [BlobDigest],
        after: Option<BlobUse>,
        limit: usize,
    ) -> Answer<'a, Vec<BlobUse>> {
        let under = Under::of(blobs, after.map(|after| after.blob), index::blob_uses);
        let after = after.as_ref().map(index::blob_use);
        self.aside(move |view| under.read(view, after.as_ref(), limit, index::blob_use_of, NO_BLOB_USE))
    }

    fn list_blob_uses(&self, after: Option<BlobUse>, limit: usize) -> Answer<'_, Vec<BlobUse>> {
        let after = after.as_ref().map(index::blob_use);
        self.aside(move |view| {
            let table = &view.tables.index;
            let used = |entry| {
                let (key, _): (Slice, Slice) = entry?;
                let used = index::blob_of(&key).and_then(|blob| index::blob_use_of(blob, &key));
                table.expect(&key, used, NO_BLOB_USE)
            };
            view.scan(table, index::all_blob_uses().as_bytes(), after).take(limit).map(used).collect()
        })
    }

    fn checkpoints<'a>(&'a self, jobs: &'a [JobId]) -> Answer<'a, Vec<Option<CheckpointRecord>>> {
        self.each(jobs, |view, job| view.get(&view.tables.outputs, &keys::checkpoint(*job), *job))
    }

    fn list_checkpoints(&self, after: Option<JobId>, limit: usize) -> Answer<'_, Vec<JobId>> {
        let after = after.map(index::checkpoint);
        self.aside(move |view| {
            let table = &view.tables.index;
            let job = |entry| {
                let (key, _): (Slice, Slice) = entry?;
                table.expect(&key, index::checkpoint_of(&key), "it is not the checkpoint of a job")
            };
            view.scan(table, index::checkpoints().as_bytes(), after).take(limit).map(job).collect()
        })
    }

    fn flows<'a>(&'a self, ids: &'a [FlowId]) -> Answer<'a, Vec<Option<FlowRecord>>> {
        self.each(ids, |view, id| view.get(&view.tables.catalog, catalog::flow(*id).as_bytes(), *id))
    }

    fn flow_named<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FlowRecord>> {
        let query = FlowQuery { name: Some(name.to_owned()), limit: 1, ..FlowQuery::default() };
        self.aside(move |view| {
            let page = list_flows(view, &query)?;
            match page.damaged.into_iter().next() {
                // It may be the one.
                Some(what) => Err(Error::Damaged { what }),
                None => Ok(page.flows.into_iter().next()),
            }
        })
    }

    fn list_flows<'a>(&'a self, query: &'a FlowQuery) -> Answer<'a, FlowPage> {
        let query = query.clone();
        self.aside(move |view| list_flows(view, &query))
    }

    fn submissions<'a>(&'a self, ids: &'a [SubmissionId]) -> Answer<'a, Vec<Option<SubmissionRecord>>> {
        self.each(ids, |view, id| view.get(&view.tables.catalog, catalog::submission(*id).as_bytes(), *id))
    }

    fn list_submissions(
        &self,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Answer<'_, Vec<SubmissionRecord>> {
        let after = after.map(catalog::submission);
        self.aside(move |view| {
            let table = &view.tables.catalog;
            let submission = |entry| {
                let (key, value): (Slice, _) = entry?;
                let id = table.expect(&key, catalog::submission_of(&key), "the key is no submission")?;
                table.decode(&key, id, value)
            };
            view.scan(table, catalog::submissions().as_bytes(), after).take(limit).map(submission).collect()
        })
    }

    fn elves<'a>(&'a self, names: &'a [Arc<str>]) -> Answer<'a, Vec<Option<ElfRecord>>> {
        self.each(names, |view, name| match name.len() {
            0..=NAME_BYTES_MAX => view.get(&view.tables.catalog, catalog::elf(name).as_bytes(), ()),
            _ => Ok(None),
        })
    }

    fn list_elves<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<ElfRecord>> {
        let after = after.map(catalog::elf);
        self.aside(move |view| {
            let table = &view.tables.catalog;
            let elf = |entry| {
                let (key, value): (Slice, _) = entry?;
                table.decode(&key, (), value)
            };
            view.scan(table, catalog::elves().as_bytes(), after).take(limit).map(elf).collect()
        })
    }

    fn revisions<'a>(&'a self, named: &'a [RevisionKey]) -> Answer<'a, Vec<Option<RevisionRecord>>> {
        self.each(named, |view, (elf, task, revision)| {
            view.get(&view.tables.catalog, catalog::revision(elf, task, *revision).as_bytes(), ())
        })
    }

    fn list_revisions<'a>(
        &'a self,
        elf: &'a str,
        after: Option<&'a RevisionCursor>,
        limit: usize,
    ) -> Answer<'a, Vec<(RevisionCursor, RevisionRecord)>> {
        let after = after.map(|after| catalog::revision_at(elf, after));
        let elf = elf.to_owned();
        self.aside(move |view| {
            let table = &view.tables.catalog;
            let list = catalog::revisions(&elf);
            let revision = |entry| {
                let (key, _): (Slice, Slice) = entry?;
                let place = key.get(list.as_bytes().len()..).unwrap_or_default();
                let named = cursor::task_and_revision(place);
                let (task, revision) = table.expect(&key, named, "the key is no revision")?;
                let record = view.get(table, catalog::revision(&elf, task, revision).as_bytes(), ())?;
                let record = table.expect(&key, record, "the revision is missing")?;
                Ok((RevisionCursor(place.to_vec()), record))
            };
            view.scan(table, list.as_bytes(), after).take(limit).map(revision).collect()
        })
    }

    fn failures<'a>(&'a self, ids: &'a [FailureId]) -> Answer<'a, Vec<Option<FailureRecord>>> {
        self.each(ids, |view, id| view.get(&view.tables.catalog, catalog::failure(*id).as_bytes(), *id))
    }

    fn list_failures<'a>(
        &'a self,
        after: Option<&'a FailureCursor>,
        limit: usize,
    ) -> Answer<'a, Listed<(FailureCursor, FailureRecord)>> {
        let after = after.map(catalog::failure_at);
        self.aside(move |view| {
            let table = &view.tables.catalog;
            let failure = |key: &[u8], _| {
                let id = table.expect(key, catalog::failure_of(key), "the key is no failure")?;
                let record = view.get::<FailureRecord>(table, catalog::failure(id).as_bytes(), id)?;
                let record = table.expect(key, record, "the failure is missing")?;
                Ok((cursor::failure(record.last_seen, id), record))
            };
            lists::listed(view, table, catalog::failures().as_bytes(), after, limit, failure)
        })
    }

    fn occurrences_of<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
    ) -> Answer<'a, Vec<Option<OccurrenceRecord>>> {
        let of = of.to_vec();
        self.aside(move |view| {
            of.into_iter().map(|(failure, job)| occurrence_of(view, failure, job)).collect()
        })
    }

    fn occurrences_in<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
        limit: usize,
    ) -> Answer<'a, Vec<(FailureId, JobId, u64)>> {
        let of = of.to_vec();
        self.aside(move |view| {
            let mut found = Vec::new();
            for (failure, job) in of {
                let numbers = numbers_in(view, failure, job).take(limit - found.len());
                let numbers = numbers.map(|number| Ok((failure, job, number?)));
                found.extend(numbers.collect::<Result<Vec<_>, Error>>()?);
            }
            Ok(found)
        })
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<(u64, OccurrenceRecord)>> {
        self.aside(move |view| list_occurrences(view, id, after, limit))
    }

    fn bytes_stored(&self) -> Answer<'_, Option<u64>> {
        let folder = self.inner.folder.path().to_owned();
        Answer::blocking(move || Ok(Some(disk_usage(folder))))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn StoreSnapshot>> {
        let inner = Arc::clone(&self.inner);
        Answer::blocking(move || {
            let snapshot = inner.snapshots.take(opened(&inner.tables())?)?;
            Ok(Box::new(snapshot) as Box<dyn StoreSnapshot>)
        })
    }
}

/// The entries of an index under each of some keys.
struct Under<K> {
    /// In their order, each once.
    keys: Vec<K>,
    /// What begins the entries of one.
    begin: fn(K) -> Key,
    /// The key under which the last entry was read before.
    first: Option<K>,
}

impl<K: Copy + Ord> Under<K> {
    fn of(keys: &[K], first: Option<K>, begin: fn(K) -> Key) -> Self {
        let mut keys: Vec<K> =
            keys.iter().copied().filter(|key| first.is_none_or(|first| *key >= first)).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { keys, begin, first }
    }

    /// Reads at most `limit` of them, beginning after the one with the key `after`; `why` is what is wrong with one that
    /// cannot be read.
    fn read<T>(
        self,
        view: &View<'_>,
        after: Option<&Key>,
        limit: usize,
        read: impl Fn(K, &[u8]) -> Option<T>,
        why: &'static str,
    ) -> Result<Vec<T>, Error> {
        let table = &view.tables.index;
        let mut found = Vec::new();
        for key in self.keys {
            let after = after.filter(|_| self.first == Some(key)).cloned();
            let entries = view.scan(table, (self.begin)(key).as_bytes(), after);
            for entry in entries.take(limit - found.len()) {
                let (entry, _) = entry?;
                found.push(table.expect(&entry, read(key, &entry), why)?);
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }
}

fn list_flows(view: &View<'_>, query: &FlowQuery) -> Result<FlowPage, Error> {
    let table = &view.tables.catalog;
    let list = match (&query.name, query.labels.iter().next()) {
        (Some(name), _) => catalog::flows_named(name),
        (None, Some(label)) => catalog::flows_labelled(label),
        (None, None) => catalog::flows(),
    };
    let after = query.after.map(|after| list.clone().at_place(&cursor::descending(after.0)));
    let flow = |key: &[u8], value: Slice| {
        let id = table.expect(key, FlowId::from_slice(&value), "the value is no flow")?;
        let flow = view.get(table, catalog::flow(id).as_bytes(), id)?;
        table.expect(key, flow, "the flow is missing")
    };
    Ok(query.page(lists::listed(view, table, list.as_bytes(), after, query.read_max(), flow)?))
}

fn occurrence_of(view: &View<'_>, id: FailureId, job: JobId) -> Result<Option<OccurrenceRecord>, Error> {
    let table = &view.tables.catalog;
    if let Some(number) = numbers_in(view, id, job).next_back().transpose()?
        && let Some(found) = view.get(table, catalog::occurrence(id, number).as_bytes(), ())?
    {
        return Ok(Some(found));
    }
    // Stored by a version that wrote no such key.
    const PAGE: usize = 16;
    let mut after = None;
    for _ in 0..OCCURRENCES_SEARCHED / PAGE {
        let page = list_occurrences(view, id, after, PAGE)?;
        after = page.last().map(|(number, _)| *number);
        if let Some((_, occurrence)) = page.into_iter().find(|(_, occurrence)| occurrence.job == job) {
            return Ok(Some(occurrence));
        }
        if after.is_none() {
            break;
        }
    }
    Ok(None)
}

/// The numbers of the occurrences of a failure in a job, the latest last.
fn numbers_in<'t>(
    view: &View<'t>,
    id: FailureId,
    job: JobId,
) -> impl DoubleEndedIterator<Item = Result<u64, Error>> + use<'t> {
    let table = &view.tables.catalog;
    let prefix = catalog::occurrences_in(id, job).into_bytes();
    let (begin, end) = (Bound::Included(prefix.clone()), end_of(&prefix));
    view.range(table, begin, end).map(move |entry| {
        let (key, value) = entry?;
        let number = if value.is_empty() { key.last_chunk::<8>().copied() } else { (*value).try_into().ok() };
        table.expect(&key, number.map(u64::from_be_bytes), "there is no number")
    })
}

fn list_occurrences(
    view: &View<'_>,
    id: FailureId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, OccurrenceRecord)>, Error> {
    let table = &view.tables.catalog;
    let list = catalog::occurrences(id);
    let after = after.map(|after| catalog::occurrence(id, after));
    let occurrence = |entry| {
        let (key, value): (Slice, _) = entry?;
        let number = table.expect(&key, catalog::occurrence_number(&key), "the key is too short")?;
        Ok((number, table.decode(&key, (), value)?))
    };
    view.scan(table, list.as_bytes(), after).take(limit).map(occurrence).collect()
}
