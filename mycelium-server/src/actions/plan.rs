//! Which jobs an action is about, page by page.

use std::collections::HashSet;
use std::sync::Arc;

use mycelium_core::ids::{FailureId, FinishNumber, FlowId, FlowNumber, JobId, Timestamp};
use mycelium_core::image::{ActionKind, ActionRecord, FlowRecord};
use mycelium_core::status::{FinalStatus, Status};
use mycelium_core::{ListCursor, ListFilter};

use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::queries::Job;
use crate::queries::filter::{self, Filter};
use crate::queries::flows;
use crate::queries::list::{self, JobFilter, JobsQuery};
use crate::store::{FinishedQuery, FinishedRecord, FlowQuery, isolate};

/// As many jobs are gone through in one step.
const JOBS_AT_ONCE: usize = 500;
/// As many flows are gone through in one step.
const FLOWS_AT_ONCE: usize = 50;
/// As many failures are looked through for those whose id begins so.
const FAILURES_AT_ONCE: usize = 256;

/// An action that is asked for, checked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(super) kind: ActionKind,
    pub(super) filter: Arc<str>,
    pub(super) flow: Option<FlowId>,
    pub(super) failure: Option<FailureId>,
    pub(super) query: JobsQuery,
}

impl Asked {
    /// Reads what is asked for. Names are resolved now, once and for all.
    pub(crate) async fn read(handle: &Handle, kind: ActionKind, text: &str) -> Result<Self, Error> {
        let filter = read_filter(kind, text, handle.clock().now().wall)?;
        let flow = match &filter.flow {
            None => None,
            Some(name) => Some(flows::named(handle, name).await?),
        };
        let failure = match &filter.failure {
            None => None,
            Some(prefix) => Some(the_failure(handle, prefix).await?),
        };
        Ok(Self { kind, filter: Arc::from(text), flow, failure, query: query_of(kind, filter, flow) })
    }
}

impl TryFrom<&ActionRecord> for Asked {
    type Error = Error;

    fn try_from(record: &ActionRecord) -> Result<Self, Error> {
        let ActionRecord { kind, flow, failure, began_at, .. } = *record;
        let filter = read_filter(kind, &record.filter, began_at)?;
        Ok(Self {
            kind,
            filter: Arc::clone(&record.filter),
            flow,
            failure,
            query: query_of(kind, filter, flow),
        })
    }
}

/// Reads a filter, and makes sure that such jobs can be meant.
fn read_filter(kind: ActionKind, text: &str, now: Timestamp) -> Result<Filter, Error> {
    let refused = |problem: &str| Err(Error::field("filter", problem));
    let read = filter::parse(text, now).map_err(|error| Error::field("filter", error.to_string()))?;
    if read == Filter::default() {
        return refused("names no jobs in particular: say which");
    }
    let fits = |status: &Status| match (kind, status) {
        (ActionKind::Retry, Status::Final(end)) => !end.lets_dependents_go_on(),
        (ActionKind::Delete, Status::Final(_)) => true,
        (ActionKind::Cancel, Status::Final(_)) | (ActionKind::Retry | ActionKind::Delete, _) => false,
        (ActionKind::Cancel, _) => true,
    };
    if !read.statuses.iter().all(fits) {
        return refused(match kind {
            ActionKind::Retry => "names a `status` that cannot be retried",
            ActionKind::Cancel => "names a `status` of jobs that have ended, which cannot be cancelled",
            ActionKind::Delete => "names a `status` of jobs that have not ended, which cannot be deleted",
        });
    }
    let is_of_ends = read.since.is_some() || read.until.is_some();
    if kind == ActionKind::Cancel && (is_of_ends || read.failure.is_some() || read.text.is_some()) {
        return refused(
            "has `since`, `until`, `failure` or `text`, which are of jobs that have ended: these cannot be cancelled",
        );
    }
    Ok(read)
}

fn query_of(kind: ActionKind, filter: Filter, flow: Option<FlowId>) -> JobsQuery {
    let mut query = filter.query(flow);
    if query.statuses.is_empty() {
        query.statuses = match kind {
            // What ended UPSTREAM_FAILED comes back with what it was because of.
            ActionKind::Retry => {
                [FinalStatus::Failed, FinalStatus::Cancelled, FinalStatus::Expired].map(Status::Final).into()
            }
            ActionKind::Cancel => vec![Status::Pending, Status::Ready, Status::Assigned, Status::Running],
            ActionKind::Delete => FinalStatus::ALL.map(Status::Final).into(),
        };
    }
    query
}

/// The one failure whose id begins so.
async fn the_failure(handle: &Handle, prefix: &crate::store::FailurePrefix) -> Result<FailureId, Error> {
    let mut found = None;
    let mut after = None;
    loop {
        let page =
            handle.store().list_failures(after.as_ref(), FAILURES_AT_ONCE).await.map_err(CallError::from)?;
        let is_last = page.entries.is_empty();
        for (cursor, record) in page.entries {
            after = Some(cursor);
            if prefix.begins(record.id) && found.replace(record.id).is_some() {
                return Err(Error::field("filter", "`failure`: several failures begin so; give more digits"));
            }
        }
        if is_last {
            return found.ok_or_else(|| Error::field("filter", "`failure`: no failure begins so"));
        }
    }
}

/// What a step is about.
#[derive(Debug)]
pub(super) enum Units {
    Jobs(Vec<JobId>),
    Flows {
        /// All of whose jobs are meant.
        whole: Vec<FlowId>,
        /// Of which others are not.
        partly: u64,
    },
}

impl Units {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Jobs(jobs) => jobs.len() as u64,
            Self::Flows { whole, partly } => whole.len() as u64 + partly,
        }
    }
}

/// A page of what an action is about, and where the next one begins, if there is one.
pub(super) struct Step {
    pub(super) units: Units,
    pub(super) next: Option<u64>,
}

/// How the jobs of an action are found.
pub(super) struct Plan {
    kind: ActionKind,
    failure: Option<FailureId>,
    /// In lower case.
    text: Option<String>,
    finished: FinishedQuery,
    unfinished: ListFilter,
    /// Whether the filter contradicts itself, so that no job fits it.
    is_void: bool,
    upto: u64,
    /// Where the list of unfinished jobs goes on. They are gone through anew after a restart: those that were cancelled are
    /// among them no longer.
    cursor: Option<ListCursor>,
}

impl Plan {
    pub(super) fn of(asked: Asked, upto: u64) -> Self {
        let Asked { kind, failure, query, .. } = asked;
        let text = query.text.clone();
        let JobFilter { unfinished, finished } = query.into();
        let is_void = match kind {
            ActionKind::Retry | ActionKind::Delete => finished.is_none(),
            ActionKind::Cancel => unfinished.is_none(),
        };
        let (finished, unfinished) = (finished.unwrap_or_default(), unfinished.unwrap_or_default());
        Self { kind, failure, text, finished, unfinished, is_void, upto, cursor: None }
    }

    /// The page that begins at a place, 0 for the first.
    pub(super) async fn step(&mut self, handle: &Handle, place: u64) -> Result<Step, CallError> {
        if self.is_void {
            return Ok(Step { units: Units::Jobs(Vec::new()), next: None });
        }
        match (self.kind, self.failure) {
            (ActionKind::Cancel, _) => self.unfinished_jobs(handle, place).await,
            (ActionKind::Delete, _) => self.flows(handle, place).await,
            (ActionKind::Retry, Some(failure)) => self.jobs_of_failure(handle, failure, place).await,
            (ActionKind::Retry, None) => self.finished_jobs(handle, place).await,
        }
    }

    async fn finished_jobs(&self, handle: &Handle, place: u64) -> Result<Step, CallError> {
        // The list begins after a number, and goes down.
        let after = if place == 0 { self.upto.saturating_add(1) } else { place };
        let query =
            FinishedQuery { after: Some(FinishNumber(after)), limit: JOBS_AT_ONCE, ..self.finished.clone() };
        let page = handle.store().list_finished(&query).await?;
        let units = Units::Jobs(self.with_text(handle, page.jobs).await?);
        Ok(Step { units, next: page.next.map(|next| next.0) })
    }

    /// Of one failure the occurrences are listed, so that nothing else that failed is gone through.
    async fn jobs_of_failure(
        &self,
        handle: &Handle,
        failure: FailureId,
        place: u64,
    ) -> Result<Step, CallError> {
        let after = (place != 0).then_some(place);
        let page = handle.store().list_occurrences(failure, after, JOBS_AT_ONCE).await?;
        let next = page.last().map(|(number, _)| *number).filter(|_| page.len() == JOBS_AT_ONCE);
        let mut seen = HashSet::new();
        let jobs: Vec<JobId> = page.iter().map(|(_, one)| one.job).filter(|job| seen.insert(*job)).collect();
        let records = isolate(&jobs, |jobs| handle.store().finished(jobs)).await?;
        // A job may have been brought back since, and have failed again.
        let is_meant = |record: &FinishedRecord| {
            record.finish_number.0 <= self.upto
                && self.finished.fits(record)
                && record.end.failure() == Some(&failure)
        };
        let records = records.into_iter().filter_map(|record| record.ok().flatten()).filter(is_meant);
        let units = Units::Jobs(self.with_text(handle, records.collect()).await?);
        Ok(Step { units, next })
    }

    async fn with_text(
        &self,
        handle: &Handle,
        records: Vec<FinishedRecord>,
    ) -> Result<Vec<JobId>, CallError> {
        let Some(text) = &self.text else {
            return Ok(records.iter().map(|record| record.head.id).collect());
        };
        let jobs = records.into_iter().map(Job::Finished).collect();
        Ok(list::having_failed_with(handle, jobs, text).await?.iter().map(Job::id).collect())
    }

    async fn unfinished_jobs(&mut self, handle: &Handle, place: u64) -> Result<Step, CallError> {
        if place == 0 {
            self.cursor = None;
        }
        let (filter, after, upto) = (self.unfinished.clone(), self.cursor, self.upto);
        let page =
            handle.query(move |core, _| core.list_unfinished(&filter, after, JOBS_AT_ONCE, JOBS_AT_ONCE + 1));
        let page = page.await?;
        let jobs = page.jobs.iter().filter(|job| job.head.number.0 <= upto).map(|job| job.head.id).collect();
        self.cursor = page.next;
        Ok(Step { units: Units::Jobs(jobs), next: page.next.map(|_| 1) })
    }

    async fn flows(&self, handle: &Handle, place: u64) -> Result<Step, CallError> {
        let (mut whole, mut partly) = (Vec::new(), 0);
        if let Some(flow) = self.finished.flow {
            let records = handle.store().flows(&[flow]).await?;
            for flow in records.into_iter().flatten() {
                self.judge(handle, &flow, &mut whole, &mut partly).await?;
            }
            return Ok(Step { units: Units::Flows { whole, partly }, next: None });
        }
        let after = (place != 0).then_some(FlowNumber(place));
        let query = FlowQuery { after, limit: FLOWS_AT_ONCE, ..FlowQuery::default() };
        let page = handle.store().list_flows(&query).await?;
        for flow in &page.flows {
            self.judge(handle, flow, &mut whole, &mut partly).await?;
        }
        Ok(Step { units: Units::Flows { whole, partly }, next: page.next.map(|next| next.0) })
    }

    /// Whether all jobs of a flow are meant, or some.
    async fn judge(
        &self,
        handle: &Handle,
        flow: &FlowRecord,
        whole: &mut Vec<FlowId>,
        partly: &mut u64,
    ) -> Result<(), CallError> {
        let query = FinishedQuery { flow: Some(flow.id), limit: JOBS_AT_ONCE, ..FinishedQuery::default() };
        let mut query = query;
        let (mut meant, mut others) = (0_u64, 0_u64);
        loop {
            let page = handle.store().list_finished(&query).await?;
            let read = page.jobs.len() as u64;
            let fits =
                |record: &FinishedRecord| record.finish_number.0 <= self.upto && self.finished.fits(record);
            let fitting = page.jobs.into_iter().filter(fits).collect();
            let n = self.with_text(handle, fitting).await?.len() as u64;
            (meant, others) = (meant + n, others + read - n);
            match page.next {
                // One that is meant and one that is not tell all there is to tell.
                Some(next) if meant == 0 || others == 0 => query.after = Some(next),
                Some(_) | None => break,
            }
        }
        match (meant, others) {
            (0, _) => {}
            (meant, 0) if meant == flow.finished.total() => whole.push(flow.id),
            _ => *partly += 1,
        }
        Ok(())
    }
}
