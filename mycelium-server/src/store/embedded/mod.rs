//! The store that a broker uses unless told otherwise: a database in a local folder, no other service.
//!
//! A commit is one write batch of the database, synced before [`commit`](Store::commit) returns; its number is written
//! with it, and into a high-water mark (`mark.rs`) outside the database's journal. A store whose newest commit is older
//! than its mark has lost something it had acknowledged, and is not opened: what can be read of it is looked at before
//! (`look.rs`), because the database destroys what is behind damage when it opens.

mod check;
mod codec;
mod copy;
mod damage;
mod folder;
mod journal;
mod keys;
mod lists;
mod look;
mod mark;
mod message;
mod opened;
mod private_copy;
mod readable;
mod salvage;
mod signposts;
mod snapshot;
mod tables;
mod versions;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use fjall::PersistMode;
use mycelium_core::ids::{FailureId, FlowId, JobId, Revision, SessionId, SubmissionId};
use mycelium_core::image::{FlowRecord, Image, LiveJob, SessionRecord, Settling, SubmissionRecord};

pub use self::check::{Checked, check};
pub use self::copy::{NewBlob, NewStore};
pub use self::salvage::{Salvaged, salvage};

use self::codec::{EndRecord, Head, Names, Outputs};
use self::folder::{Folder, unavailable};
use self::keys::{catalog, index};
use self::mark::HighWaterMark;
use self::snapshot::Snapshots;
use self::tables::{Tables, View, damaged};
use self::write::Writes;
use super::{
    Batch, BlobDigest, BlobUse, ElfRecord, Error, FailureCursor, FailureRecord, FinishedPage, FinishedQuery,
    FinishedRecord, FlowPage, FlowQuery, Listed, OCCURRENCES_SEARCHED, OccurrenceRecord, RevisionCursor,
    RevisionRecord, SpecRecord, Store, StoreSnapshot, cursor,
};

/// The mycelium in a data folder that is checked or copied.
const MYCELIUM: &str = "default";
/// Where blobs are, in the folder of a mycelium.
const BLOBS_FOLDER: &str = "blobs";

/// A store in a local folder.
pub struct EmbeddedStore {
    /// The open database; `None` while it could not be opened again after a write that failed. Dropped before the
    /// folder, whose lock guards it.
    tables: RwLock<Option<Tables>>,
    writer: Mutex<Writer>,
    snapshots: Snapshots,
    folder: Folder,
}

/// What the one writer knows.
struct Writer {
    /// What the newest commit wrote.
    head: Head,
    mark: HighWaterMark,
    /// What damage keeps the database from merging its tables, in words. It is then opened without the threads that
    /// would, and end with it all that is written; and what they do beside is done by hand, for as long as there is room.
    damage: Option<String>,
    /// Whether a write failed. The database may then know less than its journal, so nothing is written until it has
    /// been opened again.
    has_failed: bool,
}

impl EmbeddedStore {
    /// Opens the store in `folder`, and makes it if the folder is empty or not there.
    ///
    /// # Errors
    /// - [`Error::InUse`]: another process has it open, and did not let go of it within half a second.
    /// - [`Error::Foreign`]: it is no folder, holds something else, or a format of another version. It is left as it
    ///   is.
    /// - [`Error::Damaged`]: something that was acknowledged is missing or unreadable. The message says what.
    /// - [`Error::Unavailable`]: it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let folder = Folder::open(folder, |new| {
            let tables = Tables::create(&new.store())?;
            tables.db.persist(PersistMode::SyncAll).map_err(tables::commit_error)?;
            HighWaterMark::create(&new.mark())
                .map_err(|error| unavailable(&new.mark(), "cannot make the file", error))?;
            Ok(())
        })?;
        let (tables, writer) = open(&folder, None)?;
        let snapshots = Snapshots::default();
        Ok(Self { tables: RwLock::new(Some(tables)), writer: Mutex::new(writer), snapshots, folder })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A writer that panicked has not said how far it came.
        self.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            writer.has_failed = true;
            writer
        })
    }

    /// Opens the database again after a write that failed.
    fn reopen(&self, writer: &mut Writer) -> Result<(), Error> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: it has a lock of its own.
        self.snapshots.end_all();
        *tables = None;
        let (opened, reread) = open(&self.folder, writer.damage.clone())?;
        *tables = Some(opened);
        *writer = reread;
        Ok(())
    }

    /// An error of a commit, with what the store lacks: the database says of most commits that an earlier write failed,
    /// and not why.
    fn with_lack(&self, error: Error) -> Error {
        let Error::Unavailable { what, certainly_not_applied, .. } = &error else { return error };
        match (error.lack(), self.folder.probe()) {
            (None, Err(Error::Unavailable { source, what: probed, .. })) => Error::Unavailable {
                what: format!("{what}: {probed}"),
                certainly_not_applied: *certainly_not_applied,
                source,
            },
            _ => error,
        }
    }

    fn read<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let tables = self.tables();
        read(&opened(&tables)?.view())
    }

    fn tables(&self) -> RwLockReadGuard<'_, Option<Tables>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn opened(tables: &Option<Tables>) -> Result<&Tables, Error> {
    tables.as_ref().ok_or_else(|| must_reopen("it could not be opened again after a write that failed"))
}

/// An error of a store that goes on without merging its tables.
fn while_damaged(error: Error, damage: &str) -> Error {
    let help = "tables are not merged any more; stop the broker soon, and save the rest with `mycelium store salvage`";
    match error {
        Error::Damaged { what } => damaged(format!("{damage}: {what}; {help}")),
        Error::Unavailable { what, certainly_not_applied, source } => {
            Error::Unavailable { what: format!("{damage}: {help} ({what})"), certainly_not_applied, source }
        }
        error => error,
    }
}

fn must_reopen(what: &str) -> Error {
    Error::Unavailable { what: what.to_owned(), certainly_not_applied: true, source: None }
}

/// Opens the database in a folder that is ours, and checks that nothing acknowledged is missing.
fn open(folder: &Folder, damage: Option<String>) -> Result<(Tables, Writer), Error> {
    let path = folder.mark();
    let (mark, acknowledged) = match HighWaterMark::open(&path) {
        Ok((mark, Some(acknowledged))) => (mark, acknowledged),
        Ok((_, None)) => {
            return Err(damaged(format!("the high-water mark {} is unreadable", path.display())));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(format!("the high-water mark {} is missing", path.display())));
        }
        Err(error) => return Err(unavailable(&path, "cannot open the file", error)),
    };
    look::before_opening(&folder.store(), acknowledged.0)?;
    let tables = match damage {
        None => Tables::open(&folder.store())?,
        Some(_) => Tables::open_to_look(&folder.store())?,
    };
    let head = tables.view().get::<Head>(&tables.catalog, catalog::COUNTERS, ())?.unwrap_or_default();
    let last = head.counters.commit;
    if last < acknowledged {
        return Err(damaged(format!(
            "the journal in {} ends at commit {last}, and commits up to {acknowledged} were acknowledged",
            folder.store().display()
        )));
    }
    mark.raise(last).map_err(|error| unavailable(&path, "cannot write the file", error))?;
    Ok((tables, Writer { head, mark, damage, has_failed: false }))
}

/// The version of what is in a data folder, as copies say it of themselves.
pub const FORMAT_VERSION: u32 = folder::FORMAT_VERSION;

impl Store for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn load(&self, each: &mut dyn FnMut(LiveJob)) -> Result<Image, Error> {
        let mut writer = self.writer();
        if writer.has_failed {
            match self.folder.probe() {
                // It could not be opened again. What is open still has all that was acknowledged.
                Err(error) if error.lack().is_some() && self.tables().is_some() => {}
                Ok(()) | Err(_) => self.reopen(&mut writer)?,
            }
        }
        let counters = writer.head.counters;
        self.read(|view| {
            let mut image = Image { counters, ..Image::default() };
            let (flows, submissions) = load_jobs(view, each)?;
            let table = &view.tables.catalog;
            for id in flows {
                let key = catalog::flow(id);
                let flow = view.get(table, key.as_bytes(), id)?;
                image.flows.push(table.expect(
                    key.as_bytes(),
                    flow,
                    "jobs are of this flow, and it is missing",
                )?);
            }
            for id in submissions {
                let key = catalog::submission(id);
                let record = view.get(table, key.as_bytes(), id)?;
                let why = "jobs came with this submission, and it is missing";
                image.submissions.push(table.expect(key.as_bytes(), record, why)?);
            }
            for entry in view.scan(table, &[catalog::SESSION], None) {
                let (key, value) = entry?;
                let number = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
                let id = SessionId(table.expect(&key, number, "the key is no session")?);
                image.sessions.push(table.decode::<SessionRecord>(&key, id, value)?);
            }
            for entry in view.scan(table, &[catalog::SETTLING], None) {
                let (key, _) = entry?;
                let cause = table.expect(&key, catalog::settling_cause(&key), "the key is no job")?;
                image.settling.push(Settling { cause });
            }
            Ok(image)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut writer = self.writer();
        if writer.has_failed {
            return Err(must_reopen(
                "an earlier write failed, and nothing is written until the store is loaded again",
            ));
        }
        let (last, given) = (writer.head.counters.commit, batch.counters.commit);
        if Some(given.0) != last.0.checked_add(1) {
            return Err(Error::OutOfOrder { last, given });
        }
        let tables = self.tables();
        let tables = opened(&tables)?;
        if let Some(damage) = &writer.damage {
            tables.write_out_by_hand().map_err(|error| while_damaged(error, damage))?;
        }
        let (write, head) = Writes::of(tables, batch, &writer.head)?;
        writer.has_failed = true;
        if let Err(error) = write.commit() {
            let error = self.with_lack(tables::commit_error(error));
            // The threads that merge tables end at the first damage that they meet, and all writing with them.
            if writer.damage.is_none() && error.is_certainly_not_applied() && error.lack().is_none() {
                writer.damage = tables.damage();
            }
            return Err(match &writer.damage {
                Some(damage) => while_damaged(error, damage),
                None => error,
            });
        }
        writer.mark.raise(given).map_err(|error| Error::Unavailable {
            what: format!("cannot write the high-water mark: {error}"),
            certainly_not_applied: false,
            source: Some(Box::new(error)),
        })?;
        writer.head = head;
        writer.has_failed = false;
        Ok(())
    }

    fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<SpecRecord>>, Error> {
        self.read(|view| ids.iter().map(|id| view.get(&view.tables.specs, id.as_bytes(), *id)).collect())
    }

    fn unfinished(&self, ids: &[JobId]) -> Result<Vec<Option<LiveJob>>, Error> {
        self.read(|view| ids.iter().map(|id| view.get(&view.tables.live, id.as_bytes(), *id)).collect())
    }

    fn finished(&self, ids: &[JobId]) -> Result<Vec<Option<FinishedRecord>>, Error> {
        self.read(|view| {
            let record = |id: &JobId| {
                let Some(end) = view.get::<EndRecord>(&view.tables.ends, id.as_bytes(), ())? else {
                    return Ok(None);
                };
                let table = &view.tables.finished;
                let key = keys::finished(end.finish_number);
                let record = view.get(table, &key, end.finish_number)?;
                table.expect(&key, record, "a job leads here, and there is no record").map(Some)
            };
            ids.iter().map(record).collect()
        })
    }

    fn outputs(&self, ids: &[JobId]) -> Result<Vec<Option<Bytes>>, Error> {
        self.read(|view| {
            let outputs = |id: &JobId| {
                let end = view.get::<EndRecord>(&view.tables.ends, id.as_bytes(), ())?;
                match end.map(|end| end.outputs) {
                    None | Some(Outputs::None) => Ok(None),
                    Some(Outputs::Here(outputs)) => Ok(Some(outputs)),
                    Some(Outputs::Apart) => {
                        let table = &view.tables.outputs;
                        let outputs = view.get_raw(table, id.as_bytes())?;
                        let why = "the job is done, and its outputs are missing";
                        table
                            .expect(id.as_bytes(), outputs, why)
                            .map(|outputs| Some(Bytes::from_owner(outputs)))
                    }
                }
            };
            ids.iter().map(outputs).collect()
        })
    }

    fn list_finished(&self, query: &FinishedQuery) -> Result<FinishedPage, Error> {
        self.read(|view| lists::page(view, query))
    }

    fn dependents(&self, job: JobId, after: Option<JobId>, limit: usize) -> Result<Vec<JobId>, Error> {
        self.read(|view| {
            let table = &view.tables.index;
            let after = after.map(|after| index::dependent(job, after));
            let dependent = |entry: Result<(fjall::Slice, _), Error>| {
                let (key, _) = entry?;
                table.expect(&key, index::dependent_of(&key), "the key is too short")
            };
            view.scan(table, index::dependents(job).as_bytes(), after).take(limit).map(dependent).collect()
        })
    }

    fn blob_uses(
        &self,
        blob: BlobDigest,
        after: Option<&BlobUse>,
        limit: usize,
    ) -> Result<Vec<BlobUse>, Error> {
        self.read(|view| {
            let table = &view.tables.index;
            let used = |entry: Result<(fjall::Slice, _), Error>| {
                let (key, _) = entry?;
                table.expect(&key, index::blob_use_of(blob, &key), "it is not the use of a blob")
            };
            let uses = view.scan(table, index::blob_uses(blob).as_bytes(), after.map(index::blob_use));
            uses.take(limit).map(used).collect()
        })
    }

    fn flow(&self, id: FlowId) -> Result<Option<FlowRecord>, Error> {
        self.read(|view| view.get(&view.tables.catalog, catalog::flow(id).as_bytes(), id))
    }

    fn flow_named(&self, name: &str) -> Result<Option<FlowRecord>, Error> {
        let query = FlowQuery { name: Some(name.to_owned()), limit: 1, ..FlowQuery::default() };
        let page = self.list_flows(&query)?;
        match page.damaged.into_iter().next() {
            // It may be the one.
            Some(what) => Err(Error::Damaged { what }),
            None => Ok(page.flows.into_iter().next()),
        }
    }

    fn list_flows(&self, query: &FlowQuery) -> Result<FlowPage, Error> {
        let listed = self.read(|view| {
            let table = &view.tables.catalog;
            let list = match (&query.name, query.labels.iter().next()) {
                (Some(name), _) => catalog::flows_named(name),
                (None, Some(label)) => catalog::flows_labelled(label),
                (None, None) => catalog::flows(),
            };
            let after = query.after.map(|after| list.clone().at_place(&cursor::descending(after.0)));
            let flow = |key: &[u8], value: fjall::Slice| {
                let id = table.expect(key, FlowId::from_slice(&value), "the value is no flow")?;
                let flow = view.get(table, catalog::flow(id).as_bytes(), id)?;
                table.expect(key, flow, "the flow is missing")
            };
            lists::listed(view, table, list.as_bytes(), after, query.read_max(), flow)
        })?;
        Ok(query.page(listed))
    }

    fn submission(&self, id: SubmissionId) -> Result<Option<SubmissionRecord>, Error> {
        self.read(|view| view.get(&view.tables.catalog, catalog::submission(id).as_bytes(), id))
    }

    fn elf(&self, name: &str) -> Result<Option<ElfRecord>, Error> {
        if name.len() > keys::NAME_BYTES_MAX {
            return Ok(None);
        }
        self.read(|view| view.get(&view.tables.catalog, catalog::elf(name).as_bytes(), ()))
    }

    fn list_elves(&self, after: Option<&str>, limit: usize) -> Result<Vec<ElfRecord>, Error> {
        self.read(|view| {
            let table = &view.tables.catalog;
            let elf = |entry| {
                let (key, value): (fjall::Slice, _) = entry?;
                table.decode(&key, (), value)
            };
            view.scan(table, catalog::elves().as_bytes(), after.map(catalog::elf))
                .take(limit)
                .map(elf)
                .collect()
        })
    }

    fn list_revisions(
        &self,
        elf: &str,
        after: Option<&RevisionCursor>,
        limit: usize,
    ) -> Result<Vec<(RevisionCursor, RevisionRecord)>, Error> {
        self.read(|view| {
            let table = &view.tables.catalog;
            let list = catalog::revisions(elf);
            let after = after.map(|after| catalog::revision_at(elf, after));
            let revision = |entry| {
                let (key, _): (fjall::Slice, fjall::Slice) = entry?;
                let place = key.get(list.as_bytes().len()..).unwrap_or_default();
                let named = cursor::task_and_revision(place);
                let (task, revision) = table.expect(&key, named, "the key is no revision")?;
                let record = view.get(table, catalog::revision(elf, task, revision).as_bytes(), ())?;
                let record = table.expect(&key, record, "the revision is missing")?;
                Ok((RevisionCursor(place.to_vec()), record))
            };
            view.scan(table, list.as_bytes(), after).take(limit).map(revision).collect()
        })
    }

    fn revision(&self, elf: &str, task: &str, revision: Revision) -> Result<Option<RevisionRecord>, Error> {
        let key = catalog::revision(elf, task, revision);
        self.read(|view| view.get(&view.tables.catalog, key.as_bytes(), ()))
    }

    fn failure(&self, id: FailureId) -> Result<Option<FailureRecord>, Error> {
        self.read(|view| view.get(&view.tables.catalog, catalog::failure(id).as_bytes(), id))
    }

    fn list_failures(
        &self,
        after: Option<&FailureCursor>,
        limit: usize,
    ) -> Result<Listed<(FailureCursor, FailureRecord)>, Error> {
        self.read(|view| {
            let table = &view.tables.catalog;
            let failure = |key: &[u8], _| {
                let id = table.expect(key, catalog::failure_of(key), "the key is no failure")?;
                let record = view.get::<FailureRecord>(table, catalog::failure(id).as_bytes(), id)?;
                let record = table.expect(key, record, "the failure is missing")?;
                Ok((cursor::failure(record.last_seen, id), record))
            };
            let after = after.map(catalog::failure_at);
            lists::listed(view, table, catalog::failures().as_bytes(), after, limit, failure)
        })
    }

    fn occurrence_of(&self, id: FailureId, job: JobId) -> Result<Option<OccurrenceRecord>, Error> {
        let found = self.read(|view| {
            let table = &view.tables.catalog;
            let key = catalog::occurrence_of(id, job);
            let Some(number) = view.get_raw(table, key.as_bytes())? else { return Ok(None) };
            let number = <[u8; 8]>::try_from(&*number).ok().map(u64::from_be_bytes);
            let number = table.expect(key.as_bytes(), number, "the value is no number")?;
            view.get(table, catalog::occurrence(id, number).as_bytes(), ())
        })?;
        if found.is_some() {
            return Ok(found);
        }
        // Stored by a version that wrote no such key.
        const PAGE: usize = 16;
        let mut after = None;
        for _ in 0..OCCURRENCES_SEARCHED / PAGE {
            let page = self.list_occurrences(id, after, PAGE)?;
            after = page.last().map(|(number, _)| *number);
            if let Some((_, occurrence)) = page.into_iter().find(|(_, occurrence)| occurrence.job == job) {
                return Ok(Some(occurrence));
            }
            if after.is_none() {
                break;
            }
        }
        Ok(None)
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, OccurrenceRecord)>, Error> {
        self.read(|view| {
            let table = &view.tables.catalog;
            let list = catalog::occurrences(id);
            let after = after.map(|after| catalog::occurrence(id, after));
            let occurrence = |entry| {
                let (key, value): (fjall::Slice, _) = entry?;
                let number = table.expect(&key, catalog::occurrence_number(&key), "the key is too short")?;
                Ok((number, table.decode(&key, (), value)?))
            };
            view.scan(table, list.as_bytes(), after).take(limit).map(occurrence).collect()
        })
    }

    fn check_writable(&self) -> Result<(), Error> {
        let writer = self.writer();
        if writer.has_failed {
            self.folder.probe()?;
            return Err(must_reopen("an earlier write failed, and the store was not loaded again"));
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, Error> {
        Ok(Box::new(self.snapshots.take(opened(&self.tables())?)?))
    }

    fn blobs_folder(&self) -> Option<PathBuf> {
        Some(self.folder.path().join(BLOBS_FOLDER))
    }

    fn close(&self) -> Result<(), Error> {
        let writer = self.writer();
        if writer.has_failed {
            // What was acknowledged is durable, and nothing else is to be.
            return Ok(());
        }
        let tables = self.tables();
        opened(&tables)?.db.persist(PersistMode::SyncAll).map_err(tables::commit_error)?;
        writer.mark.sync().map_err(|error| unavailable(&self.folder.mark(), "cannot sync the file", error))
    }
}

/// Hands over all unfinished jobs; returns the flows and submissions that they are of.
fn load_jobs(
    view: &View<'_>,
    each: &mut dyn FnMut(LiveJob),
) -> Result<(BTreeSet<FlowId>, BTreeSet<SubmissionId>), Error> {
    let table = &view.tables.live;
    let (mut flows, mut submissions) = (BTreeSet::new(), BTreeSet::new());
    let mut names = Names::default();
    for entry in view.scan(table, &[], None) {
        let (key, value) = entry?;
        let id = table.expect(&key, JobId::from_slice(&key), "the key is no job")?;
        let mut job: LiveJob = table.decode(&key, id, value)?;
        names.share(&mut job.head.elf);
        names.share(&mut job.head.task);
        flows.insert(job.head.flow);
        submissions.extend(job.submission);
        each(job);
    }
    Ok((flows, submissions))
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}
