//! How a batch becomes one write of the database.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fjall::{OwnedWriteBatch, PersistMode, UserKey};
use mycelium_core::effects::FinishedJob;
use mycelium_core::ids::{FailureId, FinishNumber, FlowId, JobId, Timestamp};
use mycelium_core::image::LiveJob;
use mycelium_core::status::FinalStatus;

use super::codec::{self, EndRecord, Head, Outputs, Record};
use super::keys::{self, NAME_BYTES_MAX, catalog, index};
use super::tables::{Table, Tables, View, damaged};
use crate::store::record::{Stored, split_outputs};
use crate::store::{
    Batch, ElfRecord, Error, FailureRecord, FinishedRecord, JobAfter, JobChange, NewFailure, RevisionRecord,
    SpecRecord, cursor,
};

/// Outputs up to this size, in bytes, are stored with the end of their job, which saves a key.
pub(super) const OUTPUTS_HERE_BYTES_MAX: usize = 1024;
/// Every so many finish numbers, a signpost is set from the time to the number.
const SIGNPOST_DISTANCE: u64 = 256;

/// A write that is put together.
pub(super) struct Writes<'a> {
    tables: &'a Tables,
    /// The store before the batch.
    view: View<'a>,
    write: OwnedWriteBatch,
    /// Used for each record in turn.
    buffer: Vec<u8>,
}

impl<'a> Writes<'a> {
    /// Puts together what makes a batch durable. Returns it with the head that it writes.
    pub(super) fn of(
        tables: &'a Tables,
        batch: &Batch,
        before: Head,
    ) -> Result<(OwnedWriteBatch, Head), Error> {
        check_names(batch)?;
        // A job takes five entries when it ends, its way there up to three.
        let write = OwnedWriteBatch::with_capacity(tables.db.clone(), 6 * batch.jobs.len() + 8);
        let mut writes = Self { tables, view: tables.view(), write, buffer: Vec::with_capacity(1024) };
        for change in &batch.jobs {
            writes.change_job(change)?;
        }
        let finished_until = writes.set_signposts(&batch.jobs, before.finished_until)?;
        writes.write_catalog(batch)?;
        writes.see_failures(&batch.failures)?;
        let head = Head { counters: batch.counters, finished_until };
        writes.put_at(&tables.catalog, catalog::COUNTERS, &head);
        // Not SyncData: the journal grows, and its length has to be durable with it.
        Ok((writes.write.durability(Some(PersistMode::SyncAll)), head))
    }

    /// What was read of the store before the batch; `None` if it is damaged. What a batch only looks up must not keep
    /// it, and all that comes after it, from being stored.
    fn readable<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Err(Error::Damaged { what }) => {
                tracing::error!(what, "a damaged record is passed over by a commit");
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn put(&mut self, table: &Table, key: impl Into<UserKey>, record: &impl Record) {
        codec::encode(record, &mut self.buffer);
        self.write.insert(&table.keyspace, key, self.buffer.as_slice());
    }

    fn put_at(&mut self, table: &Table, key: &[u8], record: &impl Record) {
        self.put(table, key, record);
    }

    fn change_job(&mut self, change: &JobChange) -> Result<(), Error> {
        let tables = self.tables;
        let id = change.id.as_bytes();
        if let Some(revived) = &change.revived {
            self.revive(change.id, revived.finish_number)?;
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
                match Self::readable(self.view.get::<LiveJob>(&tables.live, id, change.id))? {
                    Some(Some(job)) => self.put(&tables.live, id, &LiveJob { evaluate: true, ..job }),
                    Some(None) => {
                        return Err(damaged(format!(
                            "job {} is to be evaluated, and is not among the unfinished ones",
                            change.id
                        )));
                    }
                    // It stays as it is: the job ends in this process, or the next start names it.
                    None => {}
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
                self.drop_spec(change.id)?;
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

    fn drop_spec(&mut self, job: JobId) -> Result<(), Error> {
        let tables = self.tables;
        let spec = Self::readable(self.view.get::<SpecRecord>(&tables.specs, job.as_bytes(), job))?;
        let Some(Some(spec)) = spec else {
            // The entries that lead to a damaged one stay, and lead to a job that is not known.
            self.write.remove(&tables.specs.keyspace, job.as_bytes());
            return Ok(());
        };
        for dependency in spec.depends_on {
            self.write.remove(&tables.index.keyspace, index::dependent(dependency, job).into_bytes());
        }
        if let Some(list) = spec.gathered_by {
            self.write.remove(&tables.index.keyspace, index::dependent(job, list).into_bytes());
        }
        self.write.remove(&tables.specs.keyspace, job.as_bytes());
        Ok(())
    }

    fn finish(&mut self, job: JobId, finished: &FinishedJob<Stored>) {
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
        for entry in
            list_entries(record.head.flow, &record.head.elf, record.end.status(), record.finish_number)
        {
            self.write.insert(&tables.index.keyspace, entry.into_bytes(), b"");
        }
    }

    /// Undoes [`finish`](Self::finish).
    fn revive(&mut self, job: JobId, number: FinishNumber) -> Result<(), Error> {
        let tables = self.tables;
        let key = keys::finished(number);
        let record = self.view.get::<FinishedRecord>(&tables.finished, &key, number)?;
        let end = self.view.get::<EndRecord>(&tables.ends, job.as_bytes(), ())?;
        let (Some(record), Some(end)) = (record, end) else {
            return Err(damaged(format!("job {job} is to be revived, and is not among the finished ones")));
        };
        match end.outputs {
            Outputs::None | Outputs::Here(_) => {}
            Outputs::Apart => self.write.remove(&tables.outputs.keyspace, job.as_bytes()),
        }
        self.write.remove(&tables.ends.keyspace, job.as_bytes());
        self.write.remove(&tables.finished.keyspace, key);
        for entry in list_entries(record.head.flow, &record.head.elf, record.end.status(), number) {
            self.write.remove(&tables.index.keyspace, entry.into_bytes());
        }
        Ok(())
    }

    /// Sets signposts from times to finish numbers, by which a list bounded in time finds where to begin and end.
    ///
    /// Invariant: at a signpost (t, n), no job with a number up to n finished after t, and none with a number from n
    /// on finished before t. Should the clock have been set back between two runs of the broker, the signposts that
    /// this makes wrong go, and none are set until it has caught up.
    fn set_signposts(&mut self, jobs: &[JobChange], mut until: Timestamp) -> Result<Timestamp, Error> {
        let tables = self.tables;
        let mut finishes: Vec<_> = jobs
            .iter()
            .filter_map(|change| match &change.after {
                JobAfter::Finished(finished) => Some((finished.finish_number, finished.finished_at)),
                JobAfter::Live(_) | JobAfter::Evaluate | JobAfter::Dropped => None,
            })
            .collect();
        finishes.sort_unstable();
        let mut new: Vec<(Timestamp, FinishNumber)> = Vec::new();
        for (number, at) in finishes {
            if at < until {
                new.retain(|(signpost, _)| *signpost <= at);
                let begin = index::time(Timestamp(at.0.saturating_add(1)), FinishNumber(0));
                for entry in self.view.scan(&tables.index, &index::times(), Some(begin)) {
                    self.write.remove(&tables.index.keyspace, entry?.0);
                }
            } else {
                until = at;
                if number.0.is_multiple_of(SIGNPOST_DISTANCE) {
                    new.push((at, number));
                }
            }
        }
        for (at, number) in new {
            self.write.insert(&tables.index.keyspace, index::time(at, number).into_bytes(), b"");
        }
        Ok(until)
    }

    fn write_catalog(&mut self, batch: &Batch) -> Result<(), Error> {
        let tables = self.tables;
        let table = &tables.catalog;
        for flow in &batch.records.flows {
            let key = catalog::flow(flow.id);
            if !Self::readable(self.view.contains(table, key.as_bytes()))?.unwrap_or(true) {
                for list in [catalog::flows(None), catalog::flows(Some(&flow.name))] {
                    let entry = list.at_flow(flow.number).into_bytes();
                    self.write.insert(&table.keyspace, entry, flow.id.as_bytes().as_slice());
                }
            }
            self.put(table, key.into_bytes(), flow);
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
        for settling in &batch.records.settling_begun {
            self.write.insert(&table.keyspace, catalog::settling(settling.cause).into_bytes(), b"");
        }
        for settling in &batch.records.settling_ended {
            self.write.remove(&table.keyspace, catalog::settling(settling.cause).into_bytes());
        }
        // Several instances may have described an elf that is not stored yet: the first of them saw it first.
        let mut first_seen: HashMap<&str, Timestamp> = HashMap::new();
        for elf in &batch.elves {
            let key = catalog::elf(&elf.name);
            let first_seen = match first_seen.entry(&elf.name) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let known = Self::readable(self.view.get::<ElfRecord>(table, key.as_bytes(), ()))?;
                    *new.insert(known.flatten().map_or(elf.first_seen, |known| known.first_seen))
                }
            };
            self.put(table, key.into_bytes(), &ElfRecord { first_seen, ..elf.clone() });
        }
        self.keep_revisions(&batch.revisions)
    }

    fn keep_revisions(&mut self, revisions: &[RevisionRecord]) -> Result<(), Error> {
        let table = &self.tables.catalog;
        let mut new = HashMap::new();
        for record in revisions {
            let key = catalog::revision(&record.elf, &record.task, record.revision);
            if !Self::readable(self.view.contains(table, key.as_bytes()))?.unwrap_or(false) {
                new.entry(key.into_bytes()).or_insert(record);
            }
        }
        for (key, record) in new {
            let place = cursor::revision(record.first_seen, &record.task, record.revision);
            let entry = catalog::revision_at(&record.elf, &place).into_bytes();
            self.write.insert(&table.keyspace, entry, b"");
            self.put(table, key, record);
        }
        Ok(())
    }

    fn see_failures(&mut self, seen: &[NewFailure]) -> Result<(), Error> {
        let table = &self.tables.catalog;
        // What was stored of each, and what is now: one failure may be seen several times in a batch.
        let mut failures: HashMap<FailureId, (Option<FailureRecord>, FailureRecord)> = HashMap::new();
        for seen in seen {
            let (stored, known) = match failures.remove(&seen.id) {
                Some((stored, known)) => (stored, Some(known)),
                None => {
                    // A damaged one is counted anew.
                    let stored = self.view.get(table, catalog::failure(seen.id).as_bytes(), seen.id);
                    let stored = Self::readable(stored)?.flatten();
                    (stored.clone(), stored)
                }
            };
            let record = seen.counted_on(known.as_ref());
            let key = catalog::occurrence(seen.id, record.occurrences).into_bytes();
            self.put(table, key, &seen.occurrence);
            let leads_to_it = catalog::occurrence_of(seen.id, seen.occurrence.job).into_bytes();
            let number = record.occurrences.to_be_bytes();
            self.write.insert(&table.keyspace, leads_to_it, number.as_slice());
            failures.insert(seen.id, (stored, record));
        }
        for (id, (stored, record)) in failures {
            if let Some(stored) = stored {
                let entry = catalog::failure_at(&cursor::failure(stored.last_seen, id));
                self.write.remove(&table.keyspace, entry.into_bytes());
            }
            let entry = catalog::failure_at(&cursor::failure(record.last_seen, id));
            self.write.insert(&table.keyspace, entry.into_bytes(), b"");
            self.put(table, catalog::failure(id).into_bytes(), &record);
        }
        Ok(())
    }
}

/// The entries of a finished job in the lists. One that is DONE, as most are, stands in few: lists by other statuses
/// have entries of their own, so that the few of them are found among the many.
fn list_entries(
    flow: FlowId,
    elf: &str,
    status: FinalStatus,
    number: FinishNumber,
) -> impl Iterator<Item = keys::Key> {
    let rare = match status {
        FinalStatus::Done => None,
        FinalStatus::Failed | FinalStatus::UpstreamFailed | FinalStatus::Cancelled | FinalStatus::Skipped => {
            Some([
                index::of_status(status),
                index::of_flow(flow, Some(status)),
                index::of_elf(elf, Some(status)),
            ])
        }
    };
    let always = [index::of_flow(flow, None), index::of_elf(elf, None)];
    always.into_iter().chain(rare.into_iter().flatten()).map(move |list| list.at(number))
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
    match finished.chain(flows).chain(elves).chain(revisions).find(|name| name.len() > NAME_BYTES_MAX) {
        None => Ok(()),
        Some(name) => Err(Error::Refused {
            what: format!("a name has {} bytes, at most {NAME_BYTES_MAX} fit", name.len()),
        }),
    }
}
