//! The store for tests: everything in maps, gone with the process. Plain on purpose, since the others are measured
//! against it; so a commit looks into the maps for what others have to be told ([`Batch::known`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use mycelium_core::ids::{
    ActionId, FailureId, FinishNumber, FlowId, JobId, PolicyId, Revision, SessionId, SubmissionId,
};
use mycelium_core::image::{
    ActionRecord, Counters, DeletionRecord, DeletionStage, FlowRecord, Image, LiveJob, PauseRecord,
    PauseTarget, PropagationRecord, SessionRecord, SubmissionRecord,
};
use mycelium_core::policy::{Policy, PolicyRecord};

use super::record::outline;
use super::{
    Answer, Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord, Edge, ElfRecord, Error, FailureCursor,
    FailureRecord, FinishedPage, FinishedQuery, FinishedRecord, FlowPage, FlowQuery, Listed, Log,
    OccurrenceRecord, Outline, Reads, RevisionCursor, RevisionKey, RevisionRecord, SpecRecord, Storage,
    cursor,
};

mod apply;

/// A store that keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// A commit holds it for writing from beginning to end, so that a read sees all of a batch or nothing.
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    counters: Counters,
    specs: BTreeMap<JobId, SpecRecord>,
    live: BTreeMap<JobId, LiveJob>,
    finish_numbers: BTreeMap<JobId, FinishNumber>,
    finished: BTreeMap<FinishNumber, FinishedRecord>,
    finished_of_flow: BTreeSet<(FlowId, FinishNumber)>,
    finished_of_elf: BTreeSet<(Arc<str>, FinishNumber)>,
    outputs: BTreeMap<JobId, Bytes>,
    dependents: BTreeSet<(JobId, JobId)>,
    flows: BTreeMap<FlowId, FlowRecord>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    submissions: BTreeMap<SubmissionId, SubmissionRecord>,
    propagations: BTreeSet<PropagationRecord>,
    policies: BTreeMap<PolicyId, Policy>,
    deletions: BTreeMap<FlowId, DeletionStage>,
    pauses: BTreeMap<PauseTarget, PauseRecord>,
    actions: BTreeMap<ActionId, ActionRecord>,
    failures: BTreeMap<FailureId, FailureRecord>,
    occurrences: BTreeMap<(FailureId, u64), OccurrenceRecord>,
    /// The number of the latest occurrence of a failure in a job.
    occurrences_of: BTreeMap<(FailureId, JobId), u64>,
    elves: BTreeMap<Arc<str>, ElfRecord>,
    revisions: BTreeMap<(Arc<str>, Arc<str>, Revision), RevisionRecord>,
    blob_uses: BTreeSet<BlobUse>,
    checkpoints: BTreeMap<JobId, CheckpointRecord>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // A commit only moves values into maps; one that panicked half-way ran out of memory, and took the process.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn is_durable(&self) -> bool {
        false
    }
}

impl Log for MemoryStore {
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image> {
        let tables = self.read();
        let flows: BTreeSet<_> = tables.live.values().map(|job| job.head.flow).collect();
        let submissions: BTreeSet<_> = tables.live.values().filter_map(|job| job.submission).collect();
        tables.live.values().cloned().for_each(each);
        Answer::ready(Ok(Image {
            counters: tables.counters,
            flows: flows.iter().filter_map(|id| tables.flows.get(id)).cloned().collect(),
            sessions: tables.sessions.values().cloned().collect(),
            submissions: submissions.iter().filter_map(|id| tables.submissions.get(id)).copied().collect(),
            propagations: tables.propagations.iter().copied().collect(),
            policies: tables
                .policies
                .iter()
                .map(|(id, policy)| PolicyRecord { id: *id, policy: policy.clone() })
                .collect(),
            deletions: tables
                .deletions
                .iter()
                .map(|(&flow, &stage)| DeletionRecord { flow, stage })
                .collect(),
            pauses: tables.pauses.values().cloned().collect(),
            actions: tables.actions.values().cloned().collect(),
        }))
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let (last, given) = (tables.counters.commit, batch.counters.commit);
        if Some(given.0) != last.0.checked_add(1) {
            return Answer::ready(Err(Error::OutOfOrder { last, given }));
        }
        tables.apply(batch);
        Answer::ready(Ok(()))
    }

    fn close(&self) -> Answer<'_, ()> {
        Answer::ready(Ok(()))
    }
}

impl MemoryStore {
    /// What is there of each key.
    fn each<'a, K, T: Send + 'static>(
        &self,
        keys: &[K],
        get: impl Fn(&Tables, &K) -> Option<T>,
    ) -> Answer<'a, Vec<Option<T>>> {
        let tables = self.read();
        Answer::ready(Ok(keys.iter().map(|key| get(&tables, key)).collect()))
    }
}

impl Reads for MemoryStore {
    fn specs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<SpecRecord>>> {
        self.each(ids, |tables, id| tables.specs.get(id).cloned())
    }

    fn outlines<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Outline>>> {
        self.each(ids, |tables, id| tables.specs.get(id).cloned().map(outline))
    }

    fn unfinished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<LiveJob>>> {
        self.each(ids, |tables, id| tables.live.get(id).cloned())
    }

    fn finished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<FinishedRecord>>> {
        self.each(ids, |tables, id| tables.finished.get(tables.finish_numbers.get(id)?).cloned())
    }

    fn outputs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.each(ids, |tables, id| tables.outputs.get(id).cloned())
    }

    fn list_finished<'a>(&'a self, query: &'a FinishedQuery) -> Answer<'a, FinishedPage> {
        Answer::ready(Ok(self.read().list_finished(query)))
    }

    fn dependents<'a>(
        &'a self,
        jobs: &'a [JobId],
        after: Option<Edge>,
        limit: usize,
    ) -> Answer<'a, Vec<Edge>> {
        let tables = self.read();
        let jobs: BTreeSet<JobId> = jobs.iter().copied().collect();
        let edges = jobs.into_iter().flat_map(|job| {
            let (first, last) = (JobId::new([0; 16]), JobId::new([0xff; 16]));
            tables.dependents.range((job, first)..=(job, last))
        });
        let edges = edges.map(|(job, dependent)| Edge { job: *job, dependent: *dependent });
        Answer::ready(Ok(edges.filter(|edge| after.is_none_or(|after| *edge > after)).take(limit).collect()))
    }

    fn flows<'a>(&'a self, ids: &'a [FlowId]) -> Answer<'a, Vec<Option<FlowRecord>>> {
        self.each(ids, |tables, id| tables.flows.get(id).cloned())
    }

    fn flow_named<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FlowRecord>> {
        let query = FlowQuery { name: Some(name.to_owned()), limit: 1, ..FlowQuery::default() };
        Answer::ready(Ok(self.read().list_flows(&query).flows.pop()))
    }

    fn list_flows<'a>(&'a self, query: &'a FlowQuery) -> Answer<'a, FlowPage> {
        Answer::ready(Ok(self.read().list_flows(query)))
    }

    fn submissions<'a>(&'a self, ids: &'a [SubmissionId]) -> Answer<'a, Vec<Option<SubmissionRecord>>> {
        self.each(ids, |tables, id| tables.submissions.get(id).copied())
    }

    fn list_submissions(
        &self,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Answer<'_, Vec<SubmissionRecord>> {
        let tables = self.read();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let submissions = tables.submissions.range((begin, Bound::Unbounded)).take(limit);
        Answer::ready(Ok(submissions.map(|(_, submission)| *submission).collect()))
    }

    fn elves<'a>(&'a self, names: &'a [Arc<str>]) -> Answer<'a, Vec<Option<ElfRecord>>> {
        self.each(names, |tables, name| tables.elves.get(name).cloned())
    }

    fn list_elves<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<ElfRecord>> {
        let tables = self.read();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let elves = tables.elves.range::<str, _>((begin, Bound::Unbounded)).take(limit);
        Answer::ready(Ok(elves.map(|(_, elf)| elf.clone()).collect()))
    }

    fn revisions<'a>(&'a self, named: &'a [RevisionKey]) -> Answer<'a, Vec<Option<RevisionRecord>>> {
        self.each(named, |tables, key| tables.revisions.get(key).cloned())
    }

    fn list_revisions<'a>(
        &'a self,
        elf: &'a str,
        after: Option<&'a RevisionCursor>,
        limit: usize,
    ) -> Answer<'a, Vec<(RevisionCursor, RevisionRecord)>> {
        let tables = self.read();
        let revisions = tables.revisions.values().filter(|revision| &*revision.elf == elf);
        let placed = revisions.map(|record| {
            (cursor::revision(record.first_seen, &record.task, record.revision), record.clone())
        });
        Answer::ready(Ok(in_order(placed, after, limit)))
    }

    fn failures<'a>(&'a self, ids: &'a [FailureId]) -> Answer<'a, Vec<Option<FailureRecord>>> {
        self.each(ids, |tables, id| tables.failures.get(id).cloned())
    }

    fn list_failures<'a>(
        &'a self,
        after: Option<&'a FailureCursor>,
        limit: usize,
    ) -> Answer<'a, Listed<(FailureCursor, FailureRecord)>> {
        let tables = self.read();
        let placed = tables
            .failures
            .values()
            .map(|record| (cursor::failure(record.last_seen, record.id), record.clone()));
        Answer::ready(Ok(in_order(placed, after, limit).into()))
    }

    fn occurrences_of<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
    ) -> Answer<'a, Vec<Option<OccurrenceRecord>>> {
        self.each(of, |tables, (failure, job)| {
            let number = tables.occurrences_of.get(&(*failure, *job))?;
            tables.occurrences.get(&(*failure, *number)).cloned()
        })
    }

    fn occurrences_in<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
        limit: usize,
    ) -> Answer<'a, Vec<(FailureId, JobId, u64)>> {
        let tables = self.read();
        let numbers = of.iter().flat_map(|(failure, job)| {
            let all = tables.occurrences.range((*failure, 0)..=(*failure, u64::MAX));
            let in_job = all.filter(|(_, occurrence)| occurrence.job == *job);
            in_job.map(|((_, number), _)| (*failure, *job, *number))
        });
        Answer::ready(Ok(numbers.take(limit).collect()))
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<(u64, OccurrenceRecord)>> {
        let tables = self.read();
        let range = (id, 0)..(id, after.unwrap_or(u64::MAX));
        let occurrences = tables.occurrences.range(range).rev().take(limit);
        Answer::ready(Ok(occurrences
            .map(|((_, number), occurrence)| (*number, occurrence.clone()))
            .collect()))
    }

    fn blob_uses<'a>(
        &'a self,
        blobs: &'a [BlobDigest],
        after: Option<BlobUse>,
        limit: usize,
    ) -> Answer<'a, Vec<BlobUse>> {
        let tables = self.read();
        let blobs: BTreeSet<BlobDigest> = blobs.iter().copied().collect();
        let uses = blobs.into_iter().flat_map(|blob| {
            let first = BlobUse { blob, job: JobId::new([0; 16]), role: BlobRole::Kept };
            let last = BlobUse { blob, job: JobId::new([0xff; 16]), role: BlobRole::Argument };
            tables.blob_uses.range(first..=last)
        });
        let uses = uses.filter(|used| after.is_none_or(|after| **used > after));
        Answer::ready(Ok(uses.take(limit).copied().collect()))
    }

    fn list_blob_uses(&self, after: Option<BlobUse>, limit: usize) -> Answer<'_, Vec<BlobUse>> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.read();
        let uses = tables.blob_uses.range((begin, Bound::Unbounded)).take(limit);
        Answer::ready(Ok(uses.copied().collect()))
    }

    fn checkpoints<'a>(&'a self, jobs: &'a [JobId]) -> Answer<'a, Vec<Option<CheckpointRecord>>> {
        self.each(jobs, |tables, job| tables.checkpoints.get(job).cloned())
    }

    fn list_checkpoints(&self, after: Option<JobId>, limit: usize) -> Answer<'_, Vec<JobId>> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.read();
        let jobs = tables.checkpoints.range((begin, Bound::Unbounded)).take(limit);
        Answer::ready(Ok(jobs.map(|(job, _)| *job).collect()))
    }
}

/// The entries after a place, in the order of their places, at most `limit`.
fn in_order<C: Ord, T>(placed: impl Iterator<Item = (C, T)>, after: Option<&C>, limit: usize) -> Vec<(C, T)> {
    let mut placed: Vec<_> = placed.filter(|(place, _)| after.is_none_or(|after| place > after)).collect();
    placed.sort_by(|(a, _), (b, _)| a.cmp(b));
    placed.truncate(limit);
    placed
}

impl Tables {
    fn list_finished(&self, query: &FinishedQuery) -> FinishedPage {
        let before = query.after.unwrap_or(FinishNumber(u64::MAX));
        let mut entries: Box<dyn Iterator<Item = FinishNumber>> = if let Some(flow) = query.flow {
            let range = (flow, FinishNumber(0))..(flow, before);
            Box::new(self.finished_of_flow.range(range).rev().map(|(_, number)| *number))
        } else if let Some(elf) = &query.elf {
            let elf: Arc<str> = Arc::from(elf.as_str());
            let range = (elf.clone(), FinishNumber(0))..(elf, before);
            Box::new(self.finished_of_elf.range(range).rev().map(|(_, number)| *number))
        } else {
            Box::new(self.finished.range(..before).rev().map(|(number, _)| *number))
        };

        let mut page = FinishedPage::default();
        let mut last_read = None;
        for number in entries.by_ref().take(query.limit.max(1)) {
            page.entries_read += 1;
            last_read = Some(number);
            if let Some(record) = self.finished.get(&number)
                && query.fits(record)
            {
                page.jobs.push(record.clone());
            }
        }
        if entries.next().is_some() {
            page.entries_read += 1;
            page.next = last_read;
        }
        page
    }

    fn list_flows(&self, query: &FlowQuery) -> FlowPage {
        let fits =
            |flow: &&FlowRecord| query.fits(flow) && query.after.is_none_or(|after| flow.number < after);
        let mut flows: Vec<_> = self.flows.values().filter(fits).cloned().collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.number));
        flows.truncate(query.read_max());
        query.page(flows.into())
    }
}
