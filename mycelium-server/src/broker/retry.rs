//! Gathers from the store what the core needs to bring finished jobs back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use mycelium_core::command::{Command, Facts, Retry, RevivableJob, Scope};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{Commit, FlowId, JobId, RequestId};
use mycelium_core::status::FinalStatus;

use super::handle::{Handle, finished_facts};
use super::message::CallError;
use crate::store::{FinishedQuery, FinishedRecord, Store, isolate};

/// How many of a flow's jobs are brought back with one command.
const ROOTS_PER_COMMAND: usize = 500;
/// The most dependents that come back with one command. Beyond it the rest stays as it is, and comes back when the
/// call is repeated.
const DEPENDENTS_MAX: usize = 200_000;
/// How often the facts are read again while jobs concerned are on the move.
const TRIES_MAX: usize = 40;

/// What became of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retried {
    pub(crate) retried: u64,
    pub(crate) revived: u64,
}

impl Handle {
    /// Brings finished jobs back.
    pub(crate) async fn retry(&self, scope: Scope) -> Result<Retried, CallError> {
        match scope {
            Scope::Jobs(jobs) => self.retry_jobs(jobs, true).await,
            Scope::Flow(flow) => {
                let known = self.read(move |store| Ok(store.flow(flow)?.is_some())).await?;
                if !known {
                    return Err(Refusal::FlowNotFound(flow).into());
                }
                let mut total = Retried::default();
                let roots = self.read(move |store| failed_jobs_of(store, flow)).await?;
                for chunk in roots.chunks(ROOTS_PER_COMMAND) {
                    let some = self.retry_jobs(chunk.to_vec(), false).await?;
                    total.retried += some.retried;
                    total.revived += some.revived;
                }
                Ok(total)
            }
        }
    }

    async fn retry_jobs(&self, jobs: Vec<JobId>, strict: bool) -> Result<Retried, CallError> {
        let jobs = Arc::new(jobs);
        for _ in 0..TRIES_MAX {
            let as_of = self.commit();
            let asked = Arc::clone(&jobs);
            let unfinished = self
                .query(move |core, _| asked.iter().copied().filter(|job| core.job(*job).is_some()).collect());
            let unfinished: HashSet<JobId> = unfinished.await?;
            let asked = Arc::clone(&jobs);
            let retry = self.read(move |store| gather(store, as_of, &asked, &unfinished, strict)).await?;
            if retry.jobs.is_empty() {
                return Ok(Retried::default());
            }
            match self.request(Command::Retry(retry), Vec::new()).await {
                Err(CallError::Refused(Refusal::FactsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Retried { retried, revived }, _)) => return Ok(Retried { retried, revived }),
                Ok((other, _)) => {
                    return Err(CallError::Defect(format!("the scheduler answered a retry with {other:?}")));
                }
            }
        }
        Err(CallError::Busy)
    }
}

/// All FAILED and CANCELLED jobs of a flow, each behind those that it depends on: in the order of their numbers, but for
/// the jobs of a list's elements. They come first, since the job that has the list was submitted before them and waits for
/// them; what they depend on themselves is done.
fn failed_jobs_of(store: &dyn Store, flow: FlowId) -> Result<Vec<JobId>, CallError> {
    let (mut elements, mut others) = (Vec::new(), Vec::new());
    let mut query = FinishedQuery {
        flow: Some(flow),
        statuses: vec![FinalStatus::Failed, FinalStatus::Cancelled],
        limit: 1_000,
        ..FinishedQuery::default()
    };
    loop {
        let page = store.list_finished(&query)?;
        for record in &page.jobs {
            // One at a time: a specification may be large, and a page has many.
            let specs = isolate(&[record.id], |ids| store.specs(ids))?;
            // One whose specification is damaged cannot run again, which is found out when it is gathered.
            let is_element = specs.iter().flatten().flatten().any(|spec| spec.gathered_by.is_some());
            if is_element { &mut elements } else { &mut others }.push((record.number, record.id));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    others.sort_unstable();
    Ok(elements.into_iter().chain(others).map(|(_, id)| id).collect())
}

fn gather(
    store: &dyn Store,
    as_of: Commit,
    jobs: &[JobId],
    unfinished: &HashSet<JobId>,
    strict: bool,
) -> Result<Retry, CallError> {
    let mut named: BTreeMap<JobId, RevivableJob> = BTreeMap::new();
    for (id, record) in jobs.iter().zip(isolate(jobs, |jobs| store.finished(jobs))?) {
        let record = match record {
            Ok(record) => record,
            Err(what) if strict => return Err(unreadable(*id, &what)),
            Err(_) => continue,
        };
        match record {
            None if unfinished.contains(id) => {}
            None if strict => return Err(Refusal::JobNotFound(*id).into()),
            None => {}
            Some(record) if record.status.lets_dependents_go_on() && strict => {
                return Err(Refusal::NotRetryable(*id).into());
            }
            Some(record) if record.status.lets_dependents_go_on() => {}
            Some(record) => match revivable(store, &record)? {
                Ok(job) => drop(named.insert(*id, job)),
                Err(what) if strict => return Err(unreadable(*id, &what)),
                Err(_) => {}
            },
        }
    }
    let dependents = gather_dependents(store, &named)?;

    let coming_back: HashSet<JobId> = named.keys().chain(dependents.keys()).copied().collect();
    let others: BTreeSet<JobId> = named
        .values()
        .chain(dependents.values())
        .flat_map(|job| &job.depends_on)
        .filter(|id| !coming_back.contains(id))
        .copied()
        .collect();
    let others: Vec<JobId> = others.into_iter().collect();
    let flows: BTreeSet<FlowId> = named.values().chain(dependents.values()).map(|job| job.flow).collect();
    let mut flow_records = Vec::with_capacity(flows.len());
    for flow in flows {
        flow_records.extend(store.flow(flow)?);
    }
    Ok(Retry {
        request: RequestId::default(),
        jobs: named.into_values().collect(),
        dependents: dependents.into_values().collect(),
        facts: Facts { as_of, finished: finished_facts(store, &others)?, ..Facts::default() },
        flows: flow_records,
    })
}

/// The jobs that ended UPSTREAM_FAILED and depend on `roots`, directly or not.
fn gather_dependents(
    store: &dyn Store,
    roots: &BTreeMap<JobId, RevivableJob>,
) -> Result<BTreeMap<JobId, RevivableJob>, CallError> {
    const PAGE: usize = 1_000;
    let mut found: BTreeMap<JobId, RevivableJob> = BTreeMap::new();
    let mut waiting: Vec<JobId> = roots.keys().copied().collect();
    while let Some(job) = waiting.pop() {
        let mut after = None;
        loop {
            let page = store.dependents(job, after, PAGE)?;
            let new: Vec<JobId> = page
                .iter()
                .copied()
                .filter(|id| !roots.contains_key(id) && !found.contains_key(id))
                .collect();
            // Those that are damaged cannot come back, and the others can.
            for record in isolate(&new, |new| store.finished(new))?.into_iter().flatten().flatten() {
                if record.status == FinalStatus::UpstreamFailed
                    && found.len() < DEPENDENTS_MAX
                    && let Ok(revivable) = revivable(store, &record)?
                {
                    waiting.push(record.id);
                    found.insert(record.id, revivable);
                }
            }
            after = page.last().copied();
            if page.len() < PAGE {
                break;
            }
        }
    }
    Ok(found)
}

fn unreadable(job: JobId, what: &str) -> CallError {
    CallError::Unreadable(format!("job {job}: {what}"))
}

/// A job as it can come back; in words why not, if its specification is damaged.
fn revivable(store: &dyn Store, record: &FinishedRecord) -> Result<Result<RevivableJob, String>, CallError> {
    let spec = isolate(&[record.id], |ids| store.specs(ids))?.pop().unwrap_or(Ok(None));
    let spec = match spec.and_then(|spec| spec.ok_or_else(|| "its specification is missing".to_owned())) {
        Ok(spec) => spec,
        Err(what) => return Ok(Err(what)),
    };
    Ok(Ok(RevivableJob {
        id: record.id,
        flow: record.flow,
        elf: spec.elf,
        task: spec.task,
        priority: spec.priority,
        number: spec.number,
        submitted_at: spec.submitted_at,
        depends_on: spec.depends_on,
        evaluate: spec.evaluate,
        digest: spec.digest,
        attempt: record.attempt,
        status: record.status,
        finish_number: record.finish_number,
    }))
}
