//! A store as the broker has one: it applies effects as one commit, and holds them to their promises.

use std::collections::{BTreeMap, BTreeSet};

use mycelium_core::command::{KnownFinished, Preconditions, RevivableJob};
use mycelium_core::effects::{Effects, End, FinishedJob, JobRecord};
use mycelium_core::ids::{ActionId, ContentDigest, FlowId, JobId, PolicyId, SubmissionId, Timestamp};
use mycelium_core::image::{
    ActionRecord, Counters, DeletionRecord, DeletionStage, FlowRecord, Image, LiveJob, PauseRecord,
    PauseTarget, PropagationRecord, SessionRecord, SubmissionRecord,
};
use mycelium_core::policy::{Policy, PolicyRecord};
use mycelium_core::status::{FinalCounts, FinalStatus};

use super::client::policy;
use super::evaluator::{Kind, element, elements_of, kind};

/// The jobs of the elements of a job's list.
fn elements(job: JobId) -> impl Iterator<Item = JobId> {
    let elements = if kind(job) == Kind::List { elements_of(job) } else { 0 };
    (0..elements).map(move |index| element(job, index))
}

/// What never changes of a job.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) flow: FlowId,
    pub(crate) depends_on: Vec<JobId>,
    pub(crate) digest: ContentDigest,
    pub(crate) begins_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    pub(crate) counters: Counters,
    pub(crate) specs: BTreeMap<JobId, Spec>,
    pub(crate) live: BTreeMap<JobId, LiveJob>,
    pub(crate) finished: BTreeMap<JobId, FinishedJob>,
    pub(crate) flows: BTreeMap<FlowId, FlowRecord>,
    pub(crate) sessions: BTreeMap<u64, SessionRecord>,
    pub(crate) submissions: BTreeMap<SubmissionId, SubmissionRecord>,
    pub(crate) propagations: BTreeSet<PropagationRecord>,
    pub(crate) deletions: BTreeMap<FlowId, DeletionStage>,
    /// Jobs that were deleted.
    pub(crate) erased: BTreeSet<JobId>,
    /// Jobs of stubs.
    pub(crate) values_gone: BTreeSet<JobId>,
    pub(crate) policies: BTreeMap<PolicyId, Policy>,
    pub(crate) pauses: BTreeMap<PauseTarget, PauseRecord>,
    pub(crate) actions: BTreeMap<ActionId, ActionRecord>,
}

impl Store {
    /// Applies a batch, all of it.
    pub(crate) fn commit(&mut self, effects: &Effects, digests: &BTreeMap<JobId, ContentDigest>) {
        let Some(counters) = effects.counters else {
            holds!(
                RecordsFit,
                effects.jobs.is_empty() && effects.records.flows.is_empty(),
                "records without a commit"
            );
            return;
        };
        same!(RecordsFit, counters.commit.0, self.counters.commit.0 + 1, "commits are numbered without gaps");
        let after = |counters: &Counters| (counters.job, counters.finish, counters.flow, counters.session);
        let (before, after) = (after(&self.counters), after(&counters));
        let only_rise =
            before.0 <= after.0 && before.1 <= after.1 && before.2 <= after.2 && before.3 <= after.3;
        holds!(RecordsFit, only_rise, "numbers only rise: {after:?} after {before:?}");
        self.counters = counters;
        let mut seen = BTreeSet::new();
        for write in &effects.jobs {
            holds!(RecordsFit, seen.insert(write.id), "job {} is written twice in one commit", write.id);
            self.write_job(write, digests);
        }
        for record in &effects.records.flows {
            self.flows.insert(record.id, record.clone());
        }
        for record in &effects.records.sessions_opened {
            let before = self.sessions.insert(record.id.0, record.clone());
            same!(RecordsFit, before, None, "a session is opened once");
        }
        for id in &effects.records.sessions_ended {
            holds!(
                RecordsFit,
                self.sessions.remove(&id.0).is_some(),
                "session {id} ended without having been opened"
            );
        }
        for id in &effects.records.submissions_dropped {
            self.submissions.remove(id);
        }
        for record in &effects.records.submissions {
            self.submissions.insert(record.id, *record);
        }
        for propagation in &effects.records.propagations_begun {
            holds!(RecordsFit, self.propagations.insert(*propagation), "a propagation begins once");
        }
        for propagation in &effects.records.propagations_ended {
            holds!(RecordsFit, self.propagations.remove(propagation), "a propagation that ends has begun");
        }
        for PolicyRecord { id, policy } in &effects.records.policies {
            holds!(
                RecordsFit,
                self.policies.insert(*id, policy.clone()).is_none(),
                "policy {id} is made twice"
            );
        }
        for id in &effects.records.policies_dropped {
            holds!(
                RecordsFit,
                self.policies.remove(id).is_some(),
                "policy {id} is dropped and was never made"
            );
        }
        self.check_policies(effects);
        for record in &effects.records.deletions {
            self.deletions.insert(record.flow, record.stage);
        }
        for flow in &effects.records.deletions_ended {
            holds!(RecordsFit, self.deletions.remove(flow).is_some(), "a deletion that ends has begun");
        }
        for record in &effects.records.flows_removed {
            let of_flow = |spec: &Spec| spec.flow == record.id;
            holds!(RecordsFit, !self.specs.values().any(of_flow), "flow {} goes before its jobs", record.id);
            self.flows.remove(&record.id);
        }
        for record in &effects.records.pauses {
            self.pauses.insert(record.target.clone(), record.clone());
        }
        for target in &effects.records.pauses_ended {
            self.pauses.remove(target);
        }
        for record in &effects.records.actions {
            self.actions.insert(record.id, record.clone());
        }
        for id in &effects.records.actions_forgotten {
            self.actions.remove(id);
        }
        self.check_upstream_causes(effects);
    }

    /// A finished job of a flow that is being deleted goes.
    pub(crate) fn erase(&mut self, job: JobId) {
        holds!(FinalStays, self.finished.remove(&job).is_some(), "job {job} is deleted and has not finished");
        self.specs.remove(&job);
        self.erased.insert(job);
    }

    /// What a job that is not finished depends on is there, with its values.
    pub(crate) fn nothing_unfinished_comes_of_what_was_deleted(&self) {
        for id in self.live.keys() {
            for on in &self.specs[id].depends_on {
                let is_there = self.specs.contains_key(on) && !self.values_gone.contains(on);
                holds!(DeletedUnused, is_there, "job {id} depends on {on}, which was deleted");
            }
        }
    }

    /// Every unfinished job that was written has the policy it was submitted with.
    fn check_policies(&self, effects: &Effects) {
        for write in &effects.jobs {
            let id = &write.id;
            let Some(live) = self.live.get(id) else { continue };
            let policy = self.policies.get(&live.head.policy);
            same!(RecordsFit, policy, super::client::policy(*id).as_deref(), "policy of job {id}");
        }
    }

    fn write_job(
        &mut self,
        write: &mycelium_core::effects::JobWrite,
        digests: &BTreeMap<JobId, ContentDigest>,
    ) {
        let id = write.id;
        let before = self.live.remove(&id);
        let was_live = before.is_some();
        let was_finished = self.finished.remove(&id);
        match &write.created {
            Some(created) => {
                holds!(
                    RecordsFit,
                    !was_live && was_finished.is_none(),
                    "job {id} is created though it is there"
                );
                let digest = digests.get(&id).copied().unwrap_or_default();
                let depends_on = created.depends_on.clone();
                let begins_at = created.begins_at;
                self.specs.insert(id, Spec { flow: write.flow, depends_on, digest, begins_at });
            }
            None => holds!(RecordsFit, self.specs.contains_key(&id), "job {id} was never created"),
        }
        match (&was_finished, &write.revived) {
            (Some(before), Some(revived)) => {
                same!(
                    FinalStays,
                    before.finish_number,
                    revived.finish_number,
                    "job {id} is revived from what it was"
                );
                same!(FinalStays, before.end.status(), revived.status, "job {id} is revived");
                let is_final = revived.status.lets_dependents_go_on();
                holds!(FinalStays, !is_final, "job {id} was {:?} and is revived", revived.status);
            }
            (Some(before), None) => {
                broken!(FinalStays, "job {id} ended {:?} and changes without a retry", before.end)
            }
            (None, Some(_)) => broken!(FinalStays, "job {id} is revived and was not finished"),
            (None, None) => {}
        }
        match &write.after {
            JobRecord::Live(live) => {
                same!(RecordsFit, live.head.id, id, "a record is of its job");
                self.live.insert(id, live.clone());
            }
            JobRecord::Evaluate => {
                let Some(live) = before else { broken!(RecordsFit, "job {id} is amended, and has ended") };
                self.live.insert(id, LiveJob { evaluate: true, ..live });
            }
            JobRecord::Finished(finished) => {
                self.finished.insert(id, finished.clone());
            }
            JobRecord::Dropped => {
                holds!(FinalStays, was_live, "only unfinished jobs are dropped");
                self.specs.remove(&id);
            }
        }
    }

    /// The cause of a job that ended UPSTREAM_FAILED did not end done.
    fn check_upstream_causes(&self, effects: &Effects) {
        for write in &effects.jobs {
            if let JobRecord::Finished(FinishedJob { end: End::UpstreamFailed(cause), .. }) = &write.after {
                let status = self.finished.get(cause).map(|cause| cause.end.status());
                holds!(
                    OrderKept,
                    status.is_some_and(|status| !status.lets_dependents_go_on()),
                    "job {} failed because of {cause}, which is {status:?}",
                    write.id
                );
            }
        }
    }

    pub(crate) fn image(&self) -> (Image, Vec<LiveJob>) {
        let image = Image {
            counters: self.counters,
            flows: self.flows.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            submissions: self.submissions.values().copied().collect(),
            propagations: self.propagations.iter().copied().collect(),
            policies: self
                .policies
                .iter()
                .map(|(id, policy)| PolicyRecord { id: *id, policy: policy.clone() })
                .collect(),
            deletions: self.deletions.iter().map(|(&flow, &stage)| DeletionRecord { flow, stage }).collect(),
            pauses: self.pauses.values().cloned().collect(),
            actions: self.actions.values().cloned().collect(),
        };
        (image, self.live.values().cloned().collect())
    }

    pub(crate) fn preconditions(
        &self,
        jobs: impl IntoIterator<Item = JobId>,
        flow: Option<FlowId>,
    ) -> Preconditions {
        let finished = jobs.into_iter().filter_map(|id| {
            let spec = self.specs.get(&id)?;
            let status = self.finished.get(&id)?.end.status();
            let is_stub = self.flows.get(&spec.flow).is_some_and(|flow| flow.deleted_at.is_some());
            Some(KnownFinished { id, flow: spec.flow, status, digest: spec.digest, is_stub })
        });
        Preconditions {
            as_of: self.counters.commit,
            finished: finished.collect(),
            flow: flow.and_then(|flow| self.flows.get(&flow).cloned()),
            submission_sealed: false,
        }
    }

    pub(crate) fn revivable(&self, id: JobId) -> Option<RevivableJob> {
        let finished = self.finished.get(&id)?;
        let spec = self.specs.get(&id)?;
        Some(RevivableJob {
            head: finished.head.clone(),
            depends_on: spec.depends_on.clone(),
            evaluate: kind(id) != Kind::Plain,
            digest: spec.digest,
            policy: policy(id),
            begins_at: spec.begins_at,
            attempt: finished.attempt,
            attempts: finished.all_attempts(),
            status: finished.end.status(),
            finish_number: finished.finish_number,
        })
    }

    /// The jobs that ended UPSTREAM_FAILED and depend on these, directly or not.
    pub(crate) fn upstream_failed_dependents(&self, roots: &[JobId]) -> Vec<JobId> {
        let mut reached: BTreeSet<JobId> = roots.iter().copied().collect();
        let mut found = Vec::new();
        loop {
            let before = found.len();
            for (id, spec) in &self.specs {
                let is_upstream_failed = self
                    .finished
                    .get(id)
                    .is_some_and(|finished| finished.end.status() == FinalStatus::UpstreamFailed);
                if is_upstream_failed
                    && !reached.contains(id)
                    && spec.depends_on.iter().copied().chain(elements(*id)).any(|on| reached.contains(&on))
                {
                    reached.insert(*id);
                    found.push(*id);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// The counts of every flow are those of its finished jobs.
    pub(crate) fn check_flow_counts(&self) {
        let mut counted: BTreeMap<FlowId, FinalCounts> = BTreeMap::new();
        for (id, finished) in &self.finished {
            let flow = self.specs[id].flow;
            *counted.entry(flow).or_default().get_mut(finished.end.status()) += 1;
        }
        for (id, record) in self.flows.iter().filter(|(id, _)| !self.deletions.contains_key(id)) {
            same!(
                CountsAgree,
                record.finished,
                counted.remove(id).unwrap_or_default(),
                "counts of flow {id}"
            );
        }
        counted.retain(|flow, _| !self.deletions.contains_key(flow));
        holds!(CountsAgree, counted.is_empty(), "flows that have jobs are gone: {counted:?}");
    }
}
