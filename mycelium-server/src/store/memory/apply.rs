//! What a batch does to the maps.

use bytes::Bytes;
use mycelium_core::ids::{FinishNumber, JobId};

use super::Tables;
use crate::store::record::split_outputs;
use crate::store::{
    Batch, Edges, ElfRecord, Erased, FailureRecord, JobAfter, JobChange, NewFailure, SpecRecord,
};

impl Tables {
    pub(super) fn apply(&mut self, batch: &Batch) {
        self.counters = batch.counters;
        batch.jobs.iter().for_each(|change| self.change_job(change));
        self.flows.extend(batch.records.flows.iter().map(|flow| (flow.id, flow.clone())));
        self.sessions
            .extend(batch.records.sessions_opened.iter().map(|session| (session.id, session.clone())));
        for id in &batch.records.sessions_ended {
            self.sessions.remove(id);
        }
        self.submissions
            .extend(batch.records.submissions.iter().map(|submission| (submission.id, *submission)));
        self.blob_uses.extend(&batch.blob_uses_begun);
        for used in &batch.blob_uses_ended {
            self.blob_uses.remove(used);
        }
        self.checkpoints.extend(batch.checkpoints.iter().map(|record| (record.job, record.clone())));
        for job in &batch.checkpoints_removed {
            self.checkpoints.remove(job);
        }
        for id in &batch.records.submissions_dropped {
            self.submissions.remove(id);
        }
        self.propagations.extend(&batch.records.propagations_begun);
        for propagation in &batch.records.propagations_ended {
            self.propagations.remove(propagation);
        }
        self.policies.extend(batch.records.policies.iter().map(|record| (record.id, record.policy.clone())));
        for id in &batch.records.policies_dropped {
            self.policies.remove(id);
        }
        self.deletions.extend(batch.records.deletions.iter().map(|record| (record.flow, record.stage)));
        for flow in &batch.records.deletions_ended {
            self.deletions.remove(flow);
        }
        self.actions.extend(batch.records.actions.iter().map(|action| (action.id, action.clone())));
        for id in &batch.records.actions_forgotten {
            self.actions.remove(id);
        }
        let pauses = batch.records.pauses.iter();
        self.pauses.extend(pauses.map(|pause| (pause.target.clone(), pause.clone())));
        for target in &batch.records.pauses_ended {
            self.pauses.remove(target);
        }
        for flow in &batch.records.flows_removed {
            self.flows.remove(&flow.id);
        }
        batch.erased.iter().for_each(|erased| self.erase(erased));
        for (failure, job, number) in &batch.occurrences_removed {
            self.occurrences.remove(&(*failure, *number));
            self.occurrences_of.remove(&(*failure, *job));
        }
        for (failure, _) in &batch.failures_removed {
            self.failures.remove(failure);
        }
        batch.failures.iter().for_each(|failure| self.see_failure(failure));
        for swept in &batch.elves_swept {
            for (task, revision, _) in &swept.revisions {
                self.revisions.remove(&(swept.name.clone(), task.clone(), *revision));
            }
            if swept.whole {
                self.elves.remove(&swept.name);
            }
        }
        for elf in &batch.elves {
            let first_seen = self.elves.get(&elf.name).map_or(elf.first_seen, |known| known.first_seen);
            self.elves.insert(elf.name.clone(), ElfRecord { first_seen, ..elf.clone() });
        }
        for record in &batch.revisions {
            let key = (record.elf.clone(), record.task.clone(), record.revision);
            self.revisions.entry(key).or_insert_with(|| record.clone());
        }
    }

    fn change_job(&mut self, change: &JobChange) {
        if let Some(created) = &change.created {
            let edges = created.depends_on.iter().map(|dependency| (*dependency, change.id));
            self.dependents.extend(edges);
            self.dependents.extend(created.gathered_by.map(|list| (change.id, list)));
            self.specs.insert(change.id, created.clone());
        }
        if let Some(revived) = &change.revived {
            self.finish_numbers.remove(&change.id);
            self.outputs.remove(&change.id);
            self.unlist(revived.finish_number);
        }
        match &change.after {
            JobAfter::Live(job) => {
                self.live.insert(change.id, job.clone());
            }
            JobAfter::Evaluate => {
                if let Some(job) = self.live.get_mut(&change.id) {
                    job.evaluate = true;
                }
            }
            JobAfter::Finished(finished) => {
                let (record, outputs) = split_outputs(finished);
                self.live.remove(&change.id);
                self.finish_numbers.insert(change.id, record.finish_number);
                self.finished_of_flow.insert((record.head.flow, record.finish_number));
                self.finished_of_elf.insert((record.head.elf.clone(), record.finish_number));
                self.finished.insert(record.finish_number, record);
                if let Some(outputs) = outputs {
                    self.outputs.insert(change.id, outputs.clone());
                }
            }
            JobAfter::Dropped => {
                self.live.remove(&change.id);
                if let Some(SpecRecord { depends_on, gathered_by, .. }) = self.specs.remove(&change.id) {
                    self.remove_edges(change.id, &Edges { depends_on, gathered_by });
                }
            }
        }
    }

    fn erase(&mut self, erased: &Erased) {
        let id = erased.head.id;
        if let Some(stub) = &erased.stub {
            self.specs.insert(id, stub.clone());
            self.outputs.entry(id).and_modify(Bytes::clear);
            return;
        }
        self.outputs.remove(&id);
        self.specs.remove(&id);
        self.remove_edges(id, &erased.edges);
        self.finish_numbers.remove(&id);
        self.unlist(erased.finish_number);
    }

    /// Removes what leads to a job, and from it to what gathers it.
    fn remove_edges(&mut self, job: JobId, edges: &Edges) {
        for dependency in &edges.depends_on {
            self.dependents.remove(&(*dependency, job));
        }
        if let Some(list) = edges.gathered_by {
            self.dependents.remove(&(job, list));
        }
    }

    /// Removes the record of a finished job, from every list.
    fn unlist(&mut self, number: FinishNumber) {
        if let Some(record) = self.finished.remove(&number) {
            self.finished_of_flow.remove(&(record.head.flow, record.finish_number));
            self.finished_of_elf.remove(&(record.head.elf, record.finish_number));
        }
    }

    fn see_failure(&mut self, seen: &NewFailure) {
        let counted = seen.counted_on(self.failures.get(&seen.id).map(FailureRecord::seen));
        self.occurrences.insert((seen.id, counted.occurrences), seen.occurrence.clone());
        self.occurrences_of.insert((seen.id, seen.occurrence.job), counted.occurrences);
        self.failures.insert(seen.id, seen.record(counted));
    }
}
