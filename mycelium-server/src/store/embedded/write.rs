//! How a batch becomes one write of the database. Nothing is read for it: what is stored before comes with the batch
//! ([`Batch::known`]).

use std::collections::HashMap;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode, UserKey};
use mycelium_core::effects::{FinishedJob, Revived};
use mycelium_core::ids::{FailureId, FinishNumber, FlowNumber, JobId};
use mycelium_core::image::{JobHead, LiveJob, PauseTarget};
use mycelium_core::status::FinalStatus;

use super::codec::{self, EndRecord, Head, Outputs, Record};
use super::keys::{self, NAME_BYTES_MAX, catalog, index};
use super::tables::{Table, Tables};
use super::words::Numbering;
use crate::store::record::{Encoded, split_outputs};
use crate::store::{
    Batch, Edges, ElfRecord, Erased, Error, JobAfter, JobChange, Known, NewFailure, RevisionRecord, Seen,
    SpecRecord, SweptElf, cursor,
};

/// Outputs up to this size, in bytes, are stored with the end of their job, which saves a key.
pub(super) const OUTPUTS_HERE_BYTES_MAX: usize = 1024;

/// A write that is put together.
pub(super) struct Writes<'a> {
    tables: &'a Tables,
    /// What the store holds before the batch.
    known: &'a Known,
    write: OwnedWriteBatch,
    words: Numbering<'a>,
    /// Used for each record in turn.
    buffer: Vec<u8>,
}

impl<'a> Writes<'a> {
    /// Puts together what makes a batch durable. Returns it with the head that it writes.
    pub(super) fn of(
        tables: &'a Tables,
        batch: &'a Batch,
        before: &Head,
    ) -> Result<(OwnedWriteBatch, Head), Error> {
        check_names(batch)?;
        // A job takes five entries when it ends, its way there up to three.
        let write = OwnedWriteBatch::with_capacity(tables.db.clone(), 6 * batch.jobs.len() + 8);
        let words = Numbering::of(&tables.words);
        let buffer = Vec::with_capacity(1024);
        let mut writes = Self { tables, known: &batch.known, write, words, buffer };
        for change in &batch.jobs {
            writes.change_job(change)?;
        }
        writes.write_catalog(batch, before.counters.flow);
        writes.write_checkpoints(batch);
        writes.write_deletions(batch);
        writes.forget_failures(batch);
        writes.see_failures(&batch.failures);
        let mut head = Head { counters: batch.counters, ..before.clone() };
        head.note_finished(&batch.jobs, tables, &mut writes.write);
        writes.put_at(&tables.catalog, catalog::COUNTERS, &head);
        writes.words.write(&mut writes.write);
        // Not SyncData: the journal grows, and its length has to be durable with it.
        Ok((writes.write.durability(Some(PersistMode::SyncAll)), head))
    }

    fn put(&mut self, table: &Table, key: impl Into<UserKey>, record: &impl Record) {
        codec::encode(record, &mut self.buffer, Some(&mut self.words));
        self.write.insert(&table.keyspace, key, self.buffer.as_slice());
    }

    fn put_at(&mut self, table: &Table, key: &[u8], record: &impl Record) {
        self.put(table, key, record);
    }

    fn change_job(&mut self, change: &JobChange) -> Result<(), Error> {
        let tables = self.tables;
        let id = change.id.as_bytes();
        if let Some(revived) = &change.revived {
            self.revive(change, revived)?;
        }
        if let Some(created) = &change.created
            && !matches!(change.after, JobAfter::Dropped)
        {
            self.create(change.id, created);
        }
        // Spares a tombstone for what cannot be there.
        let may_be_live = change.created.is_none() && change.revived.is_none();
        match &change.after {
            JobAfter::Live(job) => self.put(&tables.live, id, job),
            JobAfter::Evaluate => {
                // One that cannot be read stays as it is.
                if let Some(job) = self.known.waiting.get(&change.id) {
                    self.put(&tables.live, id, &LiveJob { evaluate: true, ..job.clone() });
                }
            }
            JobAfter::Finished(finished) => {
                if may_be_live {
                    self.write.remove(&tables.live.keyspace, id);
                }
                self.finish(change.id, finished);
            }
            JobAfter::Dropped => {
                if may_be_live {
                    self.write.remove(&tables.live.keyspace, id);
                }
                self.drop_spec(change.id);
            }
        }
        Ok(())
    }

    fn create(&mut self, job: JobId, spec: &SpecRecord) {
        let tables = self.tables;
        self.put(&tables.specs, job.as_bytes(), spec);
        for dependency in &spec.depends_on {
            let edge = index::dependent(*dependency, job).into_bytes();
            self.write.insert(&tables.index.keyspace, edge, b"");
        }
        if let Some(list) = spec.gathered_by {
            let edge = index::dependent(job, list).into_bytes();
            self.write.insert(&tables.index.keyspace, edge, b"");
        }
    }

    fn drop_spec(&mut self, job: JobId) {
        if let Some(edges) = self.known.edges.get(&job) {
            self.remove_edges(job, edges);
        }
        self.write.remove(&self.tables.specs.keyspace, job.as_bytes());
    }

    fn finish(&mut self, job: JobId, finished: &FinishedJob<Encoded>) {
        let tables = self.tables;
        let (record, outputs) = split_outputs(finished);
        let outputs = match outputs {
            None => Outputs::None,
            Some(outputs) if outputs.len() <= OUTPUTS_HERE_BYTES_MAX => Outputs::Here(outputs.clone()),
            Some(outputs) => {
                self.write.insert(&tables.outputs.keyspace, job.as_bytes(), outputs.as_ref());
                Outputs::Apart
            }
        };
        let end = EndRecord { finish_number: record.finish_number, outputs };
        self.put(&tables.ends, job.as_bytes(), &end);
        self.put(&tables.finished, keys::finished(record.finish_number), &record);
        for entry in list_entries(&record.head, record.end.status(), record.finish_number) {
            self.write.insert(&tables.index.keyspace, entry.into_bytes(), b"");
        }
    }

    /// Undoes [`finish`](Self::finish).
    fn revive(&mut self, change: &JobChange, revived: &Revived) -> Result<(), Error> {
        let tables = self.tables;
        let job = change.id;
        let head = match &change.after {
            JobAfter::Live(live) => &live.head,
            JobAfter::Finished(finished) => &finished.head,
            JobAfter::Evaluate | JobAfter::Dropped => {
                return Err(Error::Refused {
                    what: format!("job {job} is revived, and has no record after that"),
                });
            }
        };
        if revived.status == FinalStatus::Done {
            self.write.remove(&tables.outputs.keyspace, job.as_bytes());
        }
        self.write.remove(&tables.ends.keyspace, job.as_bytes());
        self.write.remove(&tables.finished.keyspace, keys::finished(revived.finish_number));
        for entry in list_entries(head, revived.status, revived.finish_number) {
            self.write.remove(&tables.index.keyspace, entry.into_bytes());
        }
        Ok(())
    }

    fn write_checkpoints(&mut self, batch: &Batch) {
        let tables = self.tables;
        for record in &batch.checkpoints {
            self.put(&tables.outputs, keys::checkpoint(record.job), record);
            self.write.insert(&tables.index.keyspace, index::checkpoint(record.job).into_bytes(), b"");
        }
        for job in &batch.checkpoints_removed {
            self.write.remove(&tables.outputs.keyspace, keys::checkpoint(*job));
            self.write.remove(&tables.index.keyspace, index::checkpoint(*job).into_bytes());
        }
    }

    fn write_deletions(&mut self, batch: &Batch) {
        let table = &self.tables.catalog;
        for record in &batch.records.deletions {
            let stage = [catalog::stage_tag(record.stage)];
            self.write.insert(&table.keyspace, catalog::deletion(record.flow).into_bytes(), stage.as_slice());
        }
        for flow in &batch.records.deletions_ended {
            self.write.remove(&table.keyspace, catalog::deletion(*flow).into_bytes());
        }
        for flow in &batch.records.flows_removed {
            for entry in catalog::flow_entries(flow) {
                self.write.remove(&table.keyspace, entry.into_bytes());
            }
            self.write.remove(&table.keyspace, catalog::flow(flow.id).into_bytes());
        }
        batch.erased.iter().for_each(|erased| self.erase(erased));
    }

    fn erase(&mut self, erased: &Erased) {
        let tables = self.tables;
        let Erased { head, finish_number, status, outputs_bytes, edges, stub } = erased;
        let (id, finish_number) = (head.id.as_bytes(), *finish_number);
        if *outputs_bytes > OUTPUTS_HERE_BYTES_MAX {
            self.write.remove(&tables.outputs.keyspace, id);
        }
        if let Some(stub) = stub {
            self.put(&tables.specs, id, stub);
            let outputs = match status {
                FinalStatus::Done => Outputs::Here(Bytes::new()),
                FinalStatus::Failed
                | FinalStatus::UpstreamFailed
                | FinalStatus::Cancelled
                | FinalStatus::Skipped
                | FinalStatus::Expired => Outputs::None,
            };
            self.put(&tables.ends, id, &EndRecord { finish_number, outputs });
            return;
        }
        self.write.remove(&tables.specs.keyspace, id);
        self.remove_edges(head.id, edges);
        self.write.remove(&tables.ends.keyspace, id);
        self.write.remove(&tables.finished.keyspace, keys::finished(finish_number));
        for entry in list_entries(head, *status, finish_number) {
            self.write.remove(&tables.index.keyspace, entry.into_bytes());
        }
    }

    /// Removes what leads to a job, and from it to what gathers it.
    fn remove_edges(&mut self, job: JobId, edges: &Edges) {
        let index = &self.tables.index;
        let to_it = edges.depends_on.iter().map(|dependency| index::dependent(*dependency, job));
        let from_it = edges.gathered_by.map(|list| index::dependent(job, list));
        for edge in to_it.chain(from_it) {
            self.write.remove(&index.keyspace, edge.into_bytes());
        }
    }

    /// Flows numbered above `flow` are new.
    fn write_catalog(&mut self, batch: &Batch, flow: FlowNumber) {
        let tables = self.tables;
        let table = &tables.catalog;
        for record in &batch.records.flows {
            if record.number > flow {
                for entry in catalog::flow_entries(record) {
                    self.write.insert(&table.keyspace, entry.into_bytes(), record.id.as_bytes().as_slice());
                }
            }
            self.put(table, catalog::flow(record.id).into_bytes(), record);
        }
        for session in &batch.records.sessions_opened {
            self.put(table, catalog::session(session.id).into_bytes(), session);
        }
        for id in &batch.records.sessions_ended {
            self.write.remove(&table.keyspace, catalog::session(*id).into_bytes());
        }
        for submission in &batch.records.submissions {
            self.put(table, catalog::submission(submission.id).into_bytes(), submission);
        }
        for used in &batch.blob_uses_begun {
            self.write.insert(&tables.index.keyspace, index::blob_use(used).into_bytes(), b"");
        }
        for used in &batch.blob_uses_ended {
            self.write.remove(&tables.index.keyspace, index::blob_use(used).into_bytes());
        }
        for id in &batch.records.submissions_dropped {
            self.write.remove(&table.keyspace, catalog::submission(*id).into_bytes());
        }
        for propagation in &batch.records.propagations_begun {
            self.write.insert(&table.keyspace, catalog::propagation(propagation.cause).into_bytes(), b"");
        }
        for propagation in &batch.records.propagations_ended {
            self.write.remove(&table.keyspace, catalog::propagation(propagation.cause).into_bytes());
        }
        for policy in &batch.records.policies {
            self.put(table, catalog::policy(policy.id).into_bytes(), policy);
        }
        for id in &batch.records.policies_dropped {
            self.write.remove(&table.keyspace, catalog::policy(*id).into_bytes());
        }
        for action in &batch.records.actions {
            self.put(table, catalog::action(action.id).into_bytes(), action);
        }
        for id in &batch.records.actions_forgotten {
            self.write.remove(&table.keyspace, catalog::action(*id).into_bytes());
        }
        for pause in &batch.records.pauses {
            self.put(table, catalog::pause(&pause.target).into_bytes(), pause);
        }
        for target in &batch.records.pauses_ended {
            self.write.remove(&table.keyspace, catalog::pause(target).into_bytes());
        }
        // Several instances may have described an elf that is not stored yet: the first of them saw it first.
        let mut seen = HashMap::new();
        for elf in &batch.elves {
            let known = self.known.elves.get(&elf.name).copied();
            let first_seen = *seen.entry(&elf.name).or_insert(known.unwrap_or(elf.first_seen));
            self.put(table, catalog::elf(&elf.name).into_bytes(), &ElfRecord { first_seen, ..elf.clone() });
        }
        self.keep_revisions(&batch.revisions);
        self.sweep_elves(&batch.elves_swept);
    }

    fn sweep_elves(&mut self, elves: &[SweptElf]) {
        let table = &self.tables.catalog.keyspace;
        for SweptElf { name, last_seen: _, revisions, whole } in elves {
            for (task, revision, first_seen) in revisions {
                let place = cursor::revision(*first_seen, task, *revision);
                self.write.remove(table, catalog::revision_at(name, &place).into_bytes());
                self.write.remove(table, catalog::revision(name, task, *revision).into_bytes());
            }
            if *whole {
                self.write.remove(table, catalog::elf(name).into_bytes());
            }
        }
    }

    fn keep_revisions(&mut self, revisions: &[RevisionRecord]) {
        let table = &self.tables.catalog;
        let mut new = HashMap::new();
        for record in revisions {
            let named = (record.elf.clone(), record.task.clone(), record.revision);
            if !self.known.revisions.contains(&named) {
                new.entry(named).or_insert(record);
            }
        }
        for record in new.into_values() {
            let place = cursor::revision(record.first_seen, &record.task, record.revision);
            let entry = catalog::revision_at(&record.elf, &place).into_bytes();
            self.write.insert(&table.keyspace, entry, b"");
            let key = catalog::revision(&record.elf, &record.task, record.revision);
            self.put(table, key.into_bytes(), record);
        }
    }

    fn forget_failures(&mut self, batch: &Batch) {
        let table = &self.tables.catalog.keyspace;
        for (failure, job, number) in &batch.occurrences_removed {
            self.write.remove(table, catalog::occurrence(*failure, *number).into_bytes());
            self.write.remove(table, catalog::occurrence_in(*failure, *job, *number).into_bytes());
            self.write.remove(table, catalog::occurrences_in(*failure, *job).into_bytes());
        }
        for (id, _) in &batch.failures_removed {
            self.write.remove(table, catalog::failure(*id).into_bytes());
            if let Some(known) = self.known.failures.get(id) {
                let entry = catalog::failure_at(&cursor::failure(known.last, *id));
                self.write.remove(table, entry.into_bytes());
            }
        }
    }

    fn see_failures(&mut self, failures: &[NewFailure]) {
        let table = &self.tables.catalog;
        // One failure may be seen several times in a batch; the last is the latest.
        let mut latest: HashMap<FailureId, (&NewFailure, Seen)> = HashMap::new();
        for failure in failures {
            let known = latest.get(&failure.id).map(|(_, seen)| *seen);
            let known = known.or_else(|| self.known.failures.get(&failure.id).copied());
            let seen = failure.counted_on(known);
            let key = catalog::occurrence(failure.id, seen.occurrences).into_bytes();
            self.put(table, key, &failure.occurrence);
            let leads_to_it = catalog::occurrence_in(failure.id, failure.occurrence.job, seen.occurrences);
            self.write.insert(&table.keyspace, leads_to_it.into_bytes(), b"");
            latest.insert(failure.id, (failure, seen));
        }
        for (id, (failure, seen)) in latest {
            if let Some(known) = self.known.failures.get(&id) {
                let entry = catalog::failure_at(&cursor::failure(known.last, id));
                self.write.remove(&table.keyspace, entry.into_bytes());
            }
            let entry = catalog::failure_at(&cursor::failure(seen.last, id));
            self.write.insert(&table.keyspace, entry.into_bytes(), b"");
            self.put(table, catalog::failure(id).into_bytes(), &failure.record(seen));
        }
    }
}

/// The entries of a finished job in the lists. One that is DONE, as most are, stands in few: lists by other statuses
/// have entries of their own, so that the few of them are found among the many.
fn list_entries(
    head: &JobHead,
    status: FinalStatus,
    number: FinishNumber,
) -> impl Iterator<Item = keys::Key> {
    let JobHead { flow, elf, labels, .. } = head;
    let flow = *flow;
    let rare = match status {
        FinalStatus::Done => None,
        FinalStatus::Failed
        | FinalStatus::UpstreamFailed
        | FinalStatus::Cancelled
        | FinalStatus::Expired
        | FinalStatus::Skipped => Some([
            index::of_status(status),
            index::of_flow(flow, Some(status)),
            index::of_elf(elf, Some(status)),
        ]),
    };
    let always = [index::of_flow(flow, None), index::of_elf(elf, None)];
    let labelled = labels.iter().map(index::of_label);
    always.into_iter().chain(rare.into_iter().flatten()).chain(labelled).map(move |list| list.at(number))
}

/// Checks the names that go into keys.
fn check_names(batch: &Batch) -> Result<(), Error> {
    let finished = batch.jobs.iter().filter_map(|change| match &change.after {
        JobAfter::Finished(finished) => Some(&finished.head.elf),
        JobAfter::Live(_) | JobAfter::Evaluate | JobAfter::Dropped => None,
    });
    let flows = batch.records.flows.iter().map(|flow| &flow.name);
    let elves = batch.elves.iter().map(|elf| &elf.name);
    let revisions = batch.revisions.iter().flat_map(|revision| [&revision.elf, &revision.task]);
    let pauses = batch.records.pauses.iter().flat_map(|pause| match &pause.target {
        PauseTarget::Mycelium | PauseTarget::Flow(_) => [None, None],
        PauseTarget::Elf(elf) => [Some(elf), None],
        PauseTarget::Task { elf, task } => [Some(elf), Some(task)],
    });
    let names = finished.chain(flows).chain(elves).chain(revisions).chain(pauses.flatten());
    match { names }.find(|name| name.len() > NAME_BYTES_MAX) {
        None => Ok(()),
        Some(name) => Err(Error::Refused {
            what: format!("a name has {} bytes, at most {NAME_BYTES_MAX} fit", name.len()),
        }),
    }
}
