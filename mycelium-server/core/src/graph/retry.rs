//! Bringing finished jobs back.

use std::collections::BTreeMap;

use crate::actions::Actions;
use crate::command::{Retry, RevivableJob};
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::deletions::Deletions;
use crate::effects::{Effects, Refusal, Reply, Revived};
use crate::graph::Graph;
use crate::ids::{Clocks, Commit, JobId};
use crate::image::{FlowRecord, JobHead};
use crate::index::Slot;
use crate::jobs::{Arrival, Job, State};
use crate::preconditions::Finished;
use crate::signature::Judged;
use crate::status::FinalStatus;
use crate::suspicion::Suspicion;

/// The jobs that may come back, and how they hang together.
struct Candidates {
    jobs: Vec<RevivableJob>,
    /// How many of them, from the front, were named.
    named: usize,
    by_id: BTreeMap<JobId, usize>,
}

impl Graph<'_> {
    pub(crate) fn on_retry(
        &mut self,
        now: Clocks,
        retry: Retry,
        deletions: &Deletions,
        actions: &mut Actions,
        effects: &mut Effects,
    ) {
        let (request, action) = (retry.request, retry.action);
        let answer = self.retry(now, retry, deletions);
        if let Ok(Reply::Retried { retried, .. }) = &answer {
            #[cfg(feature = "planted-bugs")]
            let retried =
                &(retried * if self.config.leaves_out(PlantedBug::ActionStepTwice) { 2 } else { 1 });
            actions.step(action, *retried);
        }
        effects.replies.push((request, answer));
    }

    fn retry(&mut self, now: Clocks, retry: Retry, deletions: &Deletions) -> Result<Reply, Refusal> {
        let finished = Finished::new(&retry.preconditions);
        self.check_preconditions_of_retry(&retry)?;
        let candidates = self.candidates(&retry)?;
        let mut back = self.which_come_back(&candidates, &finished)?;
        for &index in &back {
            let job = &candidates.jobs[index];
            self.check_origins(job, &retry.flows, &finished, deletions)?;
            let flow = job.head.flow;
            if self.jobs.find_flow(flow).is_none() && !retry.flows.iter().any(|record| record.id == flow) {
                return Err(Refusal::FlowNotFound(flow));
            }
        }
        let unfinished = self.jobs.len() as u64;
        if unfinished + back.len() as u64 > self.config.unfinished_max && !back.is_empty() {
            return Err(Refusal::BacklogFull { unfinished, limit: self.config.unfinished_max });
        }

        // In the order of their numbers a job comes after those it depends on.
        back.sort_unstable_by_key(|&index| candidates.jobs[index].head.number);
        for record in retry.flows {
            let is_needed = back.iter().any(|&index| candidates.jobs[index].head.flow == record.id);
            if is_needed && self.jobs.find_flow(record.id).is_none() {
                self.jobs.insert_flow(record, Commit(0));
            }
        }
        let retried = back.iter().filter(|&&index| index < candidates.named).count() as u64;
        let revived = back.len() as u64 - retried;
        for index in back {
            self.bring_back(now, &candidates.jobs[index], &finished);
        }
        Ok(Reply::Retried { retried, revived })
    }

    /// What is about to fail or to be cancelled cannot be told apart from what has been: the caller asks again when that is
    /// over. The same goes for a dependent that ended after the store was asked for dependents.
    fn check_preconditions_of_retry(&self, retry: &Retry) -> Result<(), Refusal> {
        let as_of = retry.preconditions.as_of;
        let all = || retry.jobs.iter().chain(&retry.dependents);
        let is_cancelling = |job: &RevivableJob| {
            self.jobs.find_flow(job.head.flow).is_some_and(|flow| self.jobs.flow(flow).cancels > 0)
        };
        if self.jobs.is_stale(as_of) || self.propagation.is_under_way() || all().any(is_cancelling) {
            return Err(Refusal::PreconditionsStale);
        }
        let mut named: Vec<JobId> = all().map(|job| job.head.id).collect();
        named.sort_unstable();
        let has_upstream_failed = retry.jobs.iter().any(|job| job.status == FinalStatus::UpstreamFailed);
        for recent in self.jobs.recents().newest_first().take_while(|recent| recent.commit > as_of) {
            let is_missing = recent.status == FinalStatus::UpstreamFailed
                && (has_upstream_failed || named.binary_search(&recent.cause).is_ok())
                && named.binary_search(&recent.id).is_err();
            if is_missing {
                return Err(Refusal::PreconditionsStale);
            }
        }
        Ok(())
    }

    /// The jobs that are finished, as the core knows them or else as the store had them.
    fn candidates(&self, retry: &Retry) -> Result<Candidates, Refusal> {
        let mut candidates = Candidates { jobs: Vec::new(), named: 0, by_id: BTreeMap::new() };
        let named = retry.jobs.iter().map(|job| (job, true));
        let dependents = retry.dependents.iter().map(|job| (job, false));
        for (job, is_named) in named.chain(dependents) {
            if self.jobs.find(&job.head.id).is_some() || candidates.by_id.contains_key(&job.head.id) {
                continue;
            }
            if let Some(recent) = self.jobs.recents().get(&job.head.id)
                && (recent.finish_number != job.finish_number || recent.status != job.status)
            {
                return Err(Refusal::PreconditionsStale);
            }
            let is_done = job.status.lets_dependents_go_on();
            #[cfg(feature = "planted-bugs")]
            let is_done = is_done && !self.config.leaves_out(PlantedBug::DoneRetried);
            if is_done {
                if is_named {
                    return Err(Refusal::NotRetryable(job.head.id));
                }
                continue;
            }
            candidates.by_id.insert(job.head.id, candidates.jobs.len());
            candidates.jobs.push(job.clone());
            candidates.named += usize::from(is_named);
        }
        Ok(candidates)
    }

    /// Those of the candidates all of whose dependencies are unfinished, done or skipped, or come back too. Begins with all and
    /// strikes out, so that the order does not matter.
    fn which_come_back(&self, candidates: &Candidates, finished: &Finished) -> Result<Vec<usize>, Refusal> {
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); candidates.jobs.len()];
        let mut comes_back = vec![true; candidates.jobs.len()];
        let mut struck = Vec::new();
        for (index, job) in candidates.jobs.iter().enumerate() {
            for id in &job.depends_on {
                if let Some(&on) = candidates.by_id.get(id) {
                    dependents[on].push(index);
                } else if self.jobs.find(id).is_none()
                    && !self.ended_as(id, finished)?.lets_dependents_go_on()
                    && comes_back[index]
                {
                    comes_back[index] = false;
                    struck.push(index);
                }
            }
        }
        while let Some(index) = struck.pop() {
            for &dependent in &dependents[index] {
                if std::mem::replace(&mut comes_back[dependent], false) {
                    struck.push(dependent);
                }
            }
        }
        Ok((0..candidates.jobs.len()).filter(|&index| comes_back[index]).collect())
    }

    /// Whether the values of a job are there, and of those that it depends on.
    fn check_origins(
        &self,
        job: &RevivableJob,
        flows: &[FlowRecord],
        finished: &Finished,
        deletions: &Deletions,
    ) -> Result<(), Refusal> {
        let is_stub = match self.jobs.find_flow(job.head.flow) {
            Some(flow) => self.jobs.flow(flow).deleted_at.is_some(),
            None => flows.iter().any(|flow| flow.id == job.head.flow && flow.deleted_at.is_some()),
        };
        deletions.check_origin(job.head.id, job.head.flow, is_stub)?;
        for id in &job.depends_on {
            if let Some(recent) = self.jobs.recents().get(id) {
                let flow = self.jobs.flow(recent.flow);
                deletions.check_origin(*id, flow.id, flow.deleted_at.is_some())?;
            } else if let Some(known) = finished.find(id) {
                deletions.check_origin(*id, known.flow, known.is_stub)?;
            }
        }
        Ok(())
    }

    fn ended_as(&self, id: &JobId, finished: &Finished) -> Result<FinalStatus, Refusal> {
        let status = match self.jobs.recents().get(id) {
            Some(recent) => recent.status,
            None => finished.find(id).ok_or(Refusal::JobNotFound(*id))?.status,
        };
        Ok(status)
    }

    fn bring_back(&mut self, now: Clocks, job: &RevivableJob, finished: &Finished) {
        let Some(flow) = self.jobs.find_flow(job.head.flow) else { return };
        self.jobs.forget_finished(&job.head.id, flow, job.status);
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(PlantedBug::RevivedStillCounts) {
            self.jobs.count_finished(flow, job.status);
        }
        let depends_on_skipped =
            job.depends_on.iter().any(|id| self.ended_as(id, finished) == Ok(FinalStatus::Skipped));
        let policy = self.jobs.policies_mut().intern(job.policy.as_ref());
        let head = JobHead { policy, ..job.head.clone() };
        let named = self.jobs.use_of(&head, Judged::NOT, Suspicion::None);
        let on: Vec<(JobId, Slot)> =
            job.depends_on.iter().filter_map(|id| Some((*id, self.jobs.find(id)?))).collect();
        let slot = self.jobs.insert(Arrival {
            job: Job {
                attempt: job.attempt,
                evaluate: job.evaluate || depends_on_skipped,
                ..Job::new(&head, job.digest, flow, named)
            },
            created: None,
            revived: Some(Revived { finish_number: job.finish_number, status: job.status }),
            waits_for: on.iter().map(|(id, _)| *id).collect(),
            attempts: job.attempts.clone(),
        });
        if let Some(not_before) = job.begins_at.filter(|moment| *moment > now.wall) {
            self.jobs.set_not_before(slot, not_before);
        }
        let waiting = u32::try_from(on.len()).expect("a job's dependencies are bounded");
        on.into_iter().for_each(|(_, on)| self.jobs.add_dependent(on, slot));
        let state = if waiting == 0 { self.waited(slot) } else { State::Pending { waiting } };
        self.jobs.enter_new(slot, state);
        self.link_unsealed_dependents(slot);
    }
}

#[cfg(test)]
mod tests;
