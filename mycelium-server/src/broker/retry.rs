//! Gathers from the store what the core needs to bring finished jobs back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mycelium_core::Core;
use mycelium_core::command::{ActionStep, Command, Preconditions, Retry, RevivableJob, Scope};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{Commit, FlowId, JobId, PolicyId, RequestId};
use mycelium_core::policy::{Policy, RetryPolicy};
use mycelium_core::status::FinalStatus;

use super::handle::{Handle, unexpected};
use super::message::CallError;
use super::preconditions::known_finished;
use crate::documents::{Spec, policy};
use crate::store::{Damage, FinishedQuery, FinishedRecord, Reads, SpecRecord, attempts_of, isolate};

/// How many of a flow's jobs are brought back with one command.
const ROOTS_PER_COMMAND: usize = 500;
/// The most dependents that come back with one command. Beyond it the rest stays as it is, and comes back when the
/// call is repeated.
const DEPENDENTS_MAX: usize = 200_000;
/// The most jobs that are gone through in search of dependents, those that came back before included.
const VISITED_MAX: usize = 2_000_000;
/// Of how many jobs dependents are looked for at once, and how many edges are read at once.
const JOBS_AT_ONCE: usize = 256;
const EDGES_AT_ONCE: usize = 1_000;
/// How many specifications are read at once.
const SPECS_AT_ONCE: usize = 8;
/// How often the preconditions are read again while jobs concerned are on the move.
const TRIES_MAX: usize = 40;

/// What became of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retried {
    pub(crate) retried: u64,
    pub(crate) revived: u64,
    /// Whether there is more to come back than one call brings.
    pub(crate) is_cut_short: bool,
}

impl Retried {
    fn add(&mut self, other: Self) {
        self.retried += other.retried;
        self.revived += other.revived;
        self.is_cut_short |= other.is_cut_short;
    }
}

impl Handle {
    /// Brings finished jobs back. Those that are named, or found in the flow, are tried again by `rules` from now on, as far as
    /// these say something.
    pub(crate) async fn retry(&self, scope: Scope, rules: RetryPolicy) -> Result<Retried, CallError> {
        self.retry_up_to(scope, &rules, DEPENDENTS_MAX).await
    }

    /// What jobs with a policy do not say themselves comes from the newest declaration, as when they were submitted.
    fn declared_policies(&self, retry: &mut Retry) {
        let with_policy = retry.jobs.iter_mut().chain(&mut retry.dependents);
        for job in with_policy.filter(|job| job.policy.is_some()) {
            let standing = self.registry().standing(&job.head.elf);
            job.policy = standing.policy_of(&job.head.task, job.policy.take());
        }
    }

    async fn retry_up_to(
        &self,
        scope: Scope,
        rules: &RetryPolicy,
        dependents_max: usize,
    ) -> Result<Retried, CallError> {
        match scope {
            Scope::Jobs(jobs) => self.retry_jobs(Roots::Named(jobs), rules, dependents_max, None).await,
            Scope::Flow(flow) => {
                if self.store().flows(&[flow]).await?.iter().flatten().next().is_none() {
                    return Err(Refusal::FlowNotFound(flow).into());
                }
                let mut total = Retried::default();
                let roots = failed_jobs_of(&**self.store(), flow).await?;
                for chunk in roots.chunks(ROOTS_PER_COMMAND) {
                    total.add(
                        self.retry_jobs(Roots::Found(chunk.to_vec()), rules, dependents_max, None).await?,
                    );
                    if total.is_cut_short {
                        return Ok(total);
                    }
                }
                // What an earlier call has left.
                total.add(self.retry_jobs(Roots::LeftIn(flow), rules, dependents_max, None).await?);
                Ok(total)
            }
        }
    }

    /// Brings jobs back that have failed, as a step of an action, which is stored with them. Says whether it was: not if
    /// there was nothing to bring back.
    pub(crate) async fn retry_for(&self, jobs: Vec<JobId>, step: ActionStep) -> Result<bool, CallError> {
        let rules = RetryPolicy::default();
        let roots = || Roots::Found(jobs.clone());
        let mut retried = self.retry_jobs(roots(), &rules, DEPENDENTS_MAX, Some(step)).await?;
        let is_stored = retried.retried + retried.revived > 0;
        // What was left of the dependents comes back because their causes have.
        while retried.is_cut_short && retried.retried + retried.revived > 0 {
            retried = self.retry_jobs(roots(), &rules, DEPENDENTS_MAX, None).await?;
        }
        Ok(is_stored)
    }

    async fn retry_jobs(
        &self,
        roots: Roots,
        rules: &RetryPolicy,
        dependents_max: usize,
        action: Option<ActionStep>,
    ) -> Result<Retried, CallError> {
        let roots = Arc::new(roots);
        for _ in 0..TRIES_MAX {
            let as_of = self.commit();
            let asked = Arc::clone(&roots);
            let unfinished = self.query(move |core, _| asked.unfinished(core)).await??;
            let (mut retry, is_cut_short) =
                gather(&**self.store(), as_of, &roots, &unfinished, dependents_max).await?;
            self.declared_policies(&mut retry);
            retry.action = action;
            if *rules != RetryPolicy::default() {
                retry.jobs.iter_mut().for_each(|job| follow(job, rules));
            }
            if retry.jobs.is_empty() && retry.dependents.is_empty() {
                return Ok(Retried { is_cut_short, ..Retried::default() });
            }
            match self.request(Command::Retry(retry), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Retried { retried, revived }, _)) => {
                    return Ok(Retried { retried, revived, is_cut_short });
                }
                Ok((other, _)) => {
                    return Err(unexpected(&other));
                }
            }
        }
        Err(CallError::Busy)
    }
}

/// All FAILED, CANCELLED and EXPIRED jobs of a flow, each behind those that it depends on: in the order of their numbers, but for
/// the jobs of a list's elements. They come first, since the job that has the list was submitted before them and waits for
/// them; what they depend on themselves is done.
async fn failed_jobs_of(store: &dyn Reads, flow: FlowId) -> Result<Vec<JobId>, CallError> {
    let (mut elements, mut others) = (Vec::new(), Vec::new());
    let mut query = FinishedQuery {
        flow: Some(flow),
        statuses: vec![FinalStatus::Failed, FinalStatus::Cancelled, FinalStatus::Expired],
        limit: 1_000,
        ..FinishedQuery::default()
    };
    loop {
        let page = store.list_finished(&query).await?;
        let ids: Vec<JobId> = page.jobs.iter().map(|record| record.head.id).collect();
        let outlines = isolate(&ids, |ids| store.outlines(ids)).await?;
        for (record, outline) in page.jobs.iter().zip(outlines) {
            // One whose specification is damaged cannot run again, which is found out when it is gathered.
            let is_element = outline.is_ok_and(|spec| spec.is_some_and(|spec| spec.gathered_by.is_some()));
            if is_element { &mut elements } else { &mut others }.push((record.head.number, record.head.id));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    others.sort_unstable();
    Ok(elements.into_iter().chain(others).map(|(_, id)| id).collect())
}

/// What is to come back, together with its dependents.
#[derive(Debug)]
enum Roots {
    /// Jobs that a caller named.
    Named(Vec<JobId>),
    /// Jobs that were found to have failed, and may have come back meanwhile.
    Found(Vec<JobId>),
    /// What ended UPSTREAM_FAILED in a flow because of jobs that are brought back already.
    LeftIn(FlowId),
}

impl Roots {
    fn jobs(&self) -> &[JobId] {
        match self {
            Self::Named(jobs) | Self::Found(jobs) => jobs,
            Self::LeftIn(_) => &[],
        }
    }

    /// Those that are unfinished.
    ///
    /// # Errors
    /// If one was named that has never ended. Whoever asks again after the answer was lost has brought it back before.
    fn unfinished(&self, core: &Core) -> Result<HashSet<JobId>, Refusal> {
        let never_ended = self.jobs().iter().find(|job| core.has_never_ended(**job));
        match (self, never_ended) {
            (Self::Named(_), Some(job)) => Err(Refusal::NotEnded(*job)),
            _ => Ok(self.jobs().iter().copied().filter(|job| core.job(*job).is_some()).collect()),
        }
    }
}

/// What a command needs to bring jobs back, and whether dependents were left out because there are too many.
async fn gather(
    store: &dyn Reads,
    as_of: Commit,
    roots: &Roots,
    unfinished: &HashSet<JobId>,
    dependents_max: usize,
) -> Result<(Retry, bool), CallError> {
    let jobs = roots.jobs();
    let strict = matches!(roots, Roots::Named(_));
    let mut ended = Vec::with_capacity(jobs.len());
    for (id, record) in jobs.iter().zip(isolate(jobs, |jobs| store.finished(jobs)).await?) {
        let record = match record {
            Ok(record) => record,
            Err(what) if strict => return Err(unreadable(*id, &what)),
            Err(_) => continue,
        };
        match record {
            None if unfinished.contains(id) => {}
            None if strict => return Err(Refusal::JobNotFound(*id).into()),
            None => {}
            Some(record) if record.end.status().lets_dependents_go_on() && strict => {
                return Err(Refusal::NotRetryable(*id).into());
            }
            Some(record) if record.end.status().lets_dependents_go_on() => {}
            Some(record) => ended.push(record),
        }
    }
    let mut named: BTreeMap<JobId, RevivableJob> = BTreeMap::new();
    for (record, job) in ended.iter().zip(revivable(store, &ended).await?) {
        match job {
            Ok(job) => drop(named.insert(record.head.id, job)),
            Err(what) if strict => return Err(unreadable(record.head.id, &what)),
            Err(_) => {}
        }
    }
    let (dependents, is_cut_short) = match roots {
        Roots::LeftIn(flow) => left_in(store, *flow, dependents_max).await?,
        // Dependents of those that came back with an earlier call may have been left.
        Roots::Named(_) | Roots::Found(_) => {
            let from = named.keys().chain(unfinished).copied().collect();
            gather_dependents(store, &named, from, dependents_max).await?
        }
    };

    let coming_back: HashSet<JobId> = named.keys().chain(dependents.keys()).copied().collect();
    let others: BTreeSet<JobId> = named
        .values()
        .chain(dependents.values())
        .flat_map(|job| &job.depends_on)
        .filter(|id| !coming_back.contains(id))
        .copied()
        .collect();
    let others: Vec<JobId> = others.into_iter().collect();
    let flows: BTreeSet<FlowId> =
        named.values().chain(dependents.values()).map(|job| job.head.flow).collect();
    let flows: Vec<FlowId> = flows.into_iter().collect();
    let retry = Retry {
        request: RequestId::default(),
        jobs: named.into_values().collect(),
        dependents: dependents.into_values().collect(),
        preconditions: Preconditions {
            as_of,
            finished: known_finished(store, &others, None).await?,
            ..Preconditions::default()
        },
        flows: store.flows(&flows).await?.into_iter().flatten().collect(),
        action: None,
    };
    Ok((retry, is_cut_short))
}

/// The jobs of a flow that ended UPSTREAM_FAILED, at most `max`; whether there are more.
async fn left_in(
    store: &dyn Reads,
    flow: FlowId,
    max: usize,
) -> Result<(BTreeMap<JobId, RevivableJob>, bool), CallError> {
    let mut found = BTreeMap::new();
    let mut query = FinishedQuery {
        flow: Some(flow),
        statuses: vec![FinalStatus::UpstreamFailed],
        limit: 1_000,
        ..FinishedQuery::default()
    };
    loop {
        let page = store.list_finished(&query).await?;
        for job in revivable(store, &page.jobs).await?.into_iter().flatten() {
            if found.len() == max {
                return Ok((found, true));
            }
            found.insert(job.head.id, job);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok((found, false)),
        }
    }
}

/// The jobs that ended UPSTREAM_FAILED and depend on those of `from`, directly or not, at most `max`; whether there are
/// more. Goes through those that are unfinished, which an earlier call may have brought back.
async fn gather_dependents(
    store: &dyn Reads,
    roots: &BTreeMap<JobId, RevivableJob>,
    from: Vec<JobId>,
    max: usize,
) -> Result<(BTreeMap<JobId, RevivableJob>, bool), CallError> {
    let mut found: BTreeMap<JobId, RevivableJob> = BTreeMap::new();
    let mut visited: HashSet<JobId> = from.iter().copied().collect();
    let mut waiting = from;
    while !waiting.is_empty() {
        let jobs = waiting.split_off(waiting.len().saturating_sub(JOBS_AT_ONCE));
        let mut after = None;
        loop {
            let page = store.dependents(&jobs, after, EDGES_AT_ONCE).await?;
            let dependents = page.iter().map(|edge| edge.dependent);
            let new: Vec<JobId> =
                dependents.filter(|id| !roots.contains_key(id) && visited.insert(*id)).collect();
            // Those that are damaged cannot come back, and the others can.
            let mut ended = Vec::new();
            for (id, record) in new.iter().zip(isolate(&new, |new| store.finished(new)).await?) {
                match record {
                    Ok(None) => waiting.push(*id),
                    Ok(Some(record)) if record.end.status() == FinalStatus::UpstreamFailed => {
                        ended.push(record);
                    }
                    Ok(Some(_)) | Err(_) => {}
                }
            }
            for job in revivable(store, &ended).await?.into_iter().flatten() {
                if found.len() == max {
                    return Ok((found, true));
                }
                waiting.push(job.head.id);
                found.insert(job.head.id, job);
            }
            if visited.len() > VISITED_MAX {
                return Ok((found, true));
            }
            after = page.last().copied();
            if page.len() < EDGES_AT_ONCE {
                break;
            }
        }
    }
    Ok((found, false))
}

fn unreadable(job: JobId, what: &Damage) -> CallError {
    CallError::Unreadable(format!("job {job}: {what}"))
}

/// From now on a job is tried again by these rules, as far as they say something.
fn follow(job: &mut RevivableJob, rules: &RetryPolicy) {
    let own = job.policy.as_deref().cloned().unwrap_or_default();
    job.policy = Some(Arc::new(Policy { retry: rules.clone().or(own.retry), ..own }));
}

/// Jobs as they can come back, but for those whose specifications are damaged.
async fn revivable(
    store: &dyn Reads,
    records: &[FinishedRecord],
) -> Result<Vec<Result<RevivableJob, Damage>>, CallError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<JobId> = records.iter().map(|record| record.head.id).collect();
    let outlines = isolate(&ids, |ids| store.outlines(ids)).await?;
    let mut policies = policies(store, records).await?;
    let jobs = records.iter().zip(outlines).map(|(record, outline)| {
        let spec = outline?.ok_or_else(|| Damage("its specification is missing".to_owned()))?;
        Ok(RevivableJob {
            head: spec.head,
            depends_on: spec.depends_on,
            evaluate: spec.evaluate,
            digest: spec.digest,
            policy: policies.remove(&record.head.id).transpose()?.flatten(),
            attempt: record.attempt,
            begins_at: spec.begins_at,
            attempts: attempts_of(record),
            status: record.end.status(),
            finish_number: record.finish_number,
        })
    });
    Ok(jobs.collect())
}

/// The policies of their own that jobs were submitted with; an empty one if all that they had was declared. What the scheduler
/// kept of them may be forgotten.
async fn policies(
    store: &dyn Reads,
    records: &[FinishedRecord],
) -> Result<HashMap<JobId, Result<Option<Arc<Policy>>, Damage>>, CallError> {
    let with_policy = records.iter().filter(|record| record.head.policy != PolicyId::default());
    let ids: Vec<JobId> = with_policy.map(|record| record.head.id).collect();
    let mut policies = HashMap::with_capacity(ids.len());
    // A specification may be large, so few are read at once.
    for ids in ids.chunks(SPECS_AT_ONCE) {
        for (id, spec) in ids.iter().zip(isolate(ids, |ids| store.specs(ids)).await?) {
            policies.insert(*id, spec.and_then(|spec| policy_of(*id, spec)));
        }
    }
    Ok(policies)
}

fn policy_of(id: JobId, spec: Option<SpecRecord>) -> Result<Option<Arc<Policy>>, Damage> {
    let Some(SpecRecord { body, .. }) = spec else { return Ok(None) };
    let spec = Spec::decode(id, body).map_err(|error| Damage(error.to_string()))?;
    let own = policy::of_job(&spec.into()).map_err(|error| Damage(format!("its policy: {error}")))?;
    Ok(Some(own.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
