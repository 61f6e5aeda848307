//! Specifications of many jobs, in runs of so many bytes.
//!
//! How large each is, is asked before it is read: most are small, so that a thousand of them are one request, and those
//! that are large come one by one.

use std::collections::{HashMap, VecDeque};

use mycelium_core::ids::JobId;
use mycelium_proto::limits::SPEC_BYTES_MAX;

use crate::broker::CallError;
use crate::documents::Spec;
use crate::store::{Answer, Outline, Reads, SpecRecord, isolate};

/// How many jobs are asked about at once.
pub(super) const JOBS_AT_ONCE: usize = 1_000;
/// About how many bytes of specifications are read at once: as many as one may have.
const RUN_BYTES: usize = SPEC_BYTES_MAX;

/// Whether the lists are read too that jobs for elements belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    Read,
    LeftOut,
}

/// The specifications of jobs, in their order. What is damaged is left out, as what is not there.
pub(super) struct Runs<'a> {
    store: &'a dyn Reads,
    lists: Lists,
    /// The jobs that were not asked about.
    rest: &'a [JobId],
    /// Those that were, and are still to be read.
    asked: VecDeque<Asked>,
}

/// What is known of a job whose specification is to be read.
struct Asked {
    job: JobId,
    /// `None` if there is none.
    bytes: Option<usize>,
    /// The list that it belongs to, and the bytes of that.
    list: Option<(JobId, usize)>,
}

/// Some specifications.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) jobs: Vec<(JobId, Option<SpecRecord>)>,
    /// Those of the lists.
    pub(super) lists: HashMap<JobId, SpecRecord>,
}

impl Run {
    /// How many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        let jobs = self.jobs.iter().filter_map(|(_, record)| record.as_ref());
        jobs.chain(self.lists.values()).map(|record| record.body.len()).sum()
    }
}

impl<'a> Runs<'a> {
    pub(super) fn of(store: &'a dyn Reads, jobs: &'a [JobId], lists: Lists) -> Self {
        Self { store, lists, rest: jobs, asked: VecDeque::new() }
    }

    /// The next; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Run>, CallError> {
        if self.asked.is_empty() {
            match self.rest {
                [] => return Ok(None),
                // Nothing is read beside it.
                [only] => {
                    self.rest = &[];
                    return self.alone(*only).await.map(Some);
                }
                _ => self.ask().await?,
            }
        }
        self.read().await.map(Some)
    }

    /// A job, without asking how large it is.
    async fn alone(&self, job: JobId) -> Result<Run, CallError> {
        let record = readable(&[job], |ids| self.store.specs(ids)).await?.pop().flatten();
        let mut run = Run::default();
        if let Some(list) = record.as_ref().and_then(|record| self.list_of(record.gathered_by)) {
            let record = readable(&[list], |ids| self.store.specs(ids)).await?.pop().flatten();
            run.lists.extend(record.map(|record| (list, record)));
        }
        run.jobs.push((job, record));
        Ok(run)
    }

    fn list_of(&self, gathered_by: Option<JobId>) -> Option<JobId> {
        gathered_by.filter(|_| self.lists == Lists::Read)
    }

    /// Asks how large the next are, and their lists.
    async fn ask(&mut self) -> Result<(), CallError> {
        let (jobs, rest) = self.rest.split_at(self.rest.len().min(JOBS_AT_ONCE));
        let outlines = readable(jobs, |ids| self.store.outlines(ids)).await?;
        let mut lists: Vec<JobId> =
            outlines.iter().flatten().filter_map(|outline| self.list_of(outline.gathered_by)).collect();
        lists.sort_unstable();
        lists.dedup();
        let bytes: HashMap<JobId, usize> = if lists.is_empty() {
            HashMap::new()
        } else {
            let outlines = readable(&lists, |ids| self.store.outlines(ids)).await?;
            outlines.into_iter().flatten().map(|outline| (outline.head.id, outline.body)).collect()
        };
        for (job, outline) in jobs.iter().zip(outlines) {
            let list = outline.as_ref().and_then(|outline| self.list_of(outline.gathered_by));
            let list = list.and_then(|list| Some((list, *bytes.get(&list)?)));
            self.asked.push_back(Asked { job: *job, bytes: outline.map(|outline| outline.body), list });
        }
        self.rest = rest;
        Ok(())
    }

    /// Reads as many as go together, and at least one.
    async fn read(&mut self) -> Result<Run, CallError> {
        let mut run = Run::default();
        let mut wanted: Vec<JobId> = Vec::new();
        let mut lists: HashMap<JobId, ()> = HashMap::new();
        let mut bytes = 0;
        while let Some(Asked { job, bytes: own, list }) = self.asked.front() {
            let list = list.filter(|(list, _)| !lists.contains_key(list));
            bytes += own.unwrap_or(0) + list.map_or(0, |(_, bytes)| bytes);
            if bytes > RUN_BYTES && !run.jobs.is_empty() {
                break;
            }
            wanted.extend(own.map(|_| *job));
            if let Some((list, _)) = list {
                lists.insert(list, ());
            }
            run.jobs.push((*job, None));
            self.asked.pop_front();
        }
        // A list may be among the jobs.
        wanted.extend(lists.keys());
        wanted.sort_unstable();
        wanted.dedup();
        let read = readable(&wanted, |ids| self.store.specs(ids)).await?;
        let mut read: HashMap<JobId, SpecRecord> =
            read.into_iter().flatten().map(|record| (record.head.id, record)).collect();
        run.lists.extend(lists.keys().filter_map(|list| Some((*list, read.get(list)?.clone()))));
        for (job, record) in &mut run.jobs {
            *record = read.remove(job);
        }
        Ok(run)
    }
}

/// Records of jobs, for those who show what can be shown: one that is damaged is left out.
pub(super) async fn readable<'k, T: Send + 'static>(
    ids: &'k [JobId],
    read: impl Fn(&'k [JobId]) -> Answer<'k, Vec<Option<T>>>,
) -> Result<Vec<Option<T>>, CallError> {
    let records = isolate(ids, read).await?;
    let readable = ids.iter().zip(records).map(|(id, record)| {
        record.unwrap_or_else(|what| {
            tracing::error!(job = %id, error = %what, "a damaged specification is left out");
            None
        })
    });
    Ok(readable.collect())
}

/// Outlines of jobs. What is damaged is left out.
pub(super) async fn outlines(store: &dyn Reads, ids: &[JobId]) -> Result<Vec<Option<Outline>>, CallError> {
    readable(ids, |ids| store.outlines(ids)).await
}

/// The specification of a job, as it was submitted.
pub(super) async fn spec(store: &dyn Reads, id: JobId) -> Result<Option<Spec>, CallError> {
    let record = store.specs(&[id]).await?.pop().flatten();
    Ok(record.map(|record| Spec::decode(id, record.body)).transpose()?)
}
