//! Lists of jobs, in pages.

use std::sync::Arc;

use mycelium_core::ids::{FinishNumber, FlowId, FlowNumber, JobNumber, Timestamp};
use mycelium_core::labels::Labels;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_core::{ListCursor, ListFilter};
use mycelium_proto::limits::PAGE_BYTES_MAX;

use super::jobs::Job;
use super::page::{self, Page, PageOf, invalid_token, left_out};
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::store::{FailurePrefix, FinishedQuery, OccurrenceRecord, isolate};

/// Tokens of a list of jobs: among the unfinished, or the finished ones.
const UNFINISHED: char = 'u';
const FINISHED: char = 'f';

/// How many occurrences of failures are read at once.
const OCCURRENCES_READ: usize = 32;

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) unfinished: Option<ListFilter>,
    pub(crate) finished: Option<FinishedQuery>,
}

/// Where a list of jobs goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobCursor {
    Unfinished(Option<ListCursor>),
    Finished(Option<FinishNumber>),
}

impl JobCursor {
    pub(crate) const START: Self = Self::Unfinished(None);

    pub(crate) fn read(token: &str) -> Result<Self, Error> {
        let Some((kind, cursor)) = page::read(token, &[UNFINISHED, FINISHED])? else {
            return Ok(Self::START);
        };
        let number =
            |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(|_| invalid_token());
        match (kind, cursor.len()) {
            (UNFINISHED, 16) => Ok(Self::Unfinished(Some(ListCursor {
                flow: FlowNumber(number(&cursor[..8])?),
                job: JobNumber(number(&cursor[8..])?),
            }))),
            (FINISHED, 0) => Ok(Self::Finished(None)),
            (FINISHED, 8) => Ok(Self::Finished(Some(FinishNumber(number(&cursor)?)))),
            _ => Err(invalid_token()),
        }
    }

    pub(crate) fn token(self) -> String {
        match self {
            Self::Unfinished(None) => String::new(),
            Self::Unfinished(Some(cursor)) => {
                page::token(UNFINISHED, &[cursor.flow.0.to_be_bytes(), cursor.job.0.to_be_bytes()].concat())
            }
            Self::Finished(None) => page::token(FINISHED, &[]),
            Self::Finished(Some(number)) => page::token(FINISHED, &number.0.to_be_bytes()),
        }
    }
}

/// A page of jobs.
#[derive(Debug, Default)]
pub(crate) struct JobsPage {
    pub(crate) jobs: Vec<Job>,
    pub(crate) next: Option<JobCursor>,
    /// How many damaged records were left out.
    pub(crate) unreadable: u32,
}

/// A page of jobs: first the unfinished ones, then the finished ones. It ends with `limit` jobs, or where they come to
/// 2 MiB.
pub(crate) async fn jobs_page(
    handle: &Handle,
    filter: &JobFilter,
    cursor: JobCursor,
    mut limit: usize,
) -> Result<JobsPage, CallError> {
    loop {
        let page = jobs_up_to(handle, filter, cursor, limit).await?;
        // Only labels make jobs so large, so this is rare.
        if page::fitting(&page.jobs, PAGE_BYTES_MAX) >= page.jobs.len() {
            return Ok(page);
        }
        limit = page.jobs.len() / 2;
    }
}

async fn jobs_up_to(
    handle: &Handle,
    filter: &JobFilter,
    cursor: JobCursor,
    limit: usize,
) -> Result<JobsPage, CallError> {
    let mut jobs = Vec::new();
    let after = match cursor {
        JobCursor::Finished(after) => after,
        JobCursor::Unfinished(after) => {
            if let Some(unfinished) = filter.unfinished.clone() {
                let page =
                    handle.query(move |core, _| core.list_unfinished(&unfinished, after, limit, limit + 1));
                let page = page.await?;
                jobs.extend(page.jobs.into_iter().map(Job::Unfinished));
                if let Some(next) = page.next {
                    let next = Some(JobCursor::Unfinished(Some(next)));
                    return Ok(JobsPage { jobs, next, unreadable: 0 });
                }
            }
            None
        }
    };
    let Some(finished) = &filter.finished else {
        return Ok(JobsPage { jobs, ..JobsPage::default() });
    };
    if jobs.len() >= limit {
        return Ok(JobsPage { jobs, next: Some(JobCursor::Finished(None)), unreadable: 0 });
    }
    let query = FinishedQuery { after, limit: limit - jobs.len(), ..finished.clone() };
    let page = handle.store().list_finished(&query).await?;
    let unreadable = left_out("jobs", &page.damaged);
    jobs.extend(page.jobs.into_iter().map(Job::Finished));
    let next = page.next.map(|next| JobCursor::Finished(Some(next)));
    Ok(JobsPage { jobs, next, unreadable })
}

/// Which jobs to list. What is not given does not matter.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobsQuery {
    pub(crate) flow: Option<FlowId>,
    pub(crate) elf: Option<String>,
    pub(crate) task: Option<String>,
    /// Those with one of these statuses; empty: any.
    pub(crate) statuses: Vec<Status>,
    /// Those that have all of these.
    pub(crate) labels: Labels,
    /// Those that ended at this moment or later.
    pub(crate) finished_from: Option<Timestamp>,
    /// Those that ended before this moment.
    pub(crate) finished_before: Option<Timestamp>,
    /// Those that failed so.
    pub(crate) failure: Option<FailurePrefix>,
    /// Those whose failure has this in its message; in lower case.
    pub(crate) text: Option<String>,
}

/// A page of the jobs of a mycelium.
pub(crate) async fn jobs(handle: &Handle, query: JobsQuery, page: &PageOf) -> Result<Page<Job>, Error> {
    let cursor = JobCursor::read(&page.token)?;
    let text = query.text.clone();
    let JobsPage { mut jobs, next, unreadable } =
        jobs_page(handle, &query.into(), cursor, page.limit()).await?;
    if let Some(text) = text {
        jobs = having_failed_with(handle, jobs, &text).await?;
    }
    Ok(Page { entries: jobs, next: next.map(JobCursor::token).unwrap_or_default(), unreadable })
}

/// Those of some jobs whose failure has `text` in its message; it is in lower case, and they need not be.
pub(crate) async fn having_failed_with(
    handle: &Handle,
    jobs: Vec<Job>,
    text: &str,
) -> Result<Vec<Job>, CallError> {
    let failed = |job: &Job| match job {
        Job::Finished(record) => record.end.failure().map(|failure| (*failure, record.head.id)),
        Job::Unfinished(_) => None,
    };
    let (of, jobs): (Vec<_>, Vec<Job>) =
        jobs.into_iter().filter_map(|job| Some((failed(&job)?, job))).unzip();
    let mut has_it = Vec::with_capacity(jobs.len());
    // Messages may be long, and of all that are read at once none is kept.
    for of in of.chunks(OCCURRENCES_READ) {
        // What a damaged occurrence said is not known.
        let occurrences = isolate(of, |of| handle.store().occurrences_of(of)).await?;
        let says = |occurrence: OccurrenceRecord| occurrence.message.to_lowercase().contains(text);
        has_it.extend(occurrences.into_iter().map(|read| read.ok().flatten().is_some_and(says)));
    }
    Ok(jobs.into_iter().zip(has_it).filter_map(|(job, has_it)| has_it.then_some(job)).collect())
}

impl From<JobsQuery> for JobFilter {
    fn from(query: JobsQuery) -> Self {
        let JobsQuery {
            flow,
            elf,
            task,
            mut statuses,
            labels,
            finished_from,
            finished_before,
            failure,
            text,
        } = query;
        if failure.is_some() || text.is_some() {
            let failed = Status::Final(FinalStatus::Failed);
            if !statuses.is_empty() && !statuses.contains(&failed) {
                return Self::default();
            }
            statuses = vec![failed];
        }
        let any = statuses.is_empty();
        let by_time = finished_from.is_some() || finished_before.is_some();
        let (mut unfinished, mut finished): (Vec<Status>, Vec<FinalStatus>) = Default::default();
        for status in statuses {
            match status {
                Status::Final(end) => finished.push(end),
                Status::Pending | Status::Ready | Status::Assigned | Status::Running => {
                    unfinished.push(status);
                }
            }
        }
        Self {
            unfinished: (!by_time && (any || !unfinished.is_empty())).then(|| ListFilter {
                flow,
                elf: elf.as_deref().map(Arc::from),
                task: task.as_deref().map(Arc::from),
                statuses: unfinished,
                labels: labels.clone(),
            }),
            finished: (any || !finished.is_empty()).then_some(FinishedQuery {
                flow,
                elf,
                task,
                statuses: finished,
                labels,
                failure,
                finished_from,
                finished_before,
                after: None,
                limit: 0,
            }),
        }
    }
}
