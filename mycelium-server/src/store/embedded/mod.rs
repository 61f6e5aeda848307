//! The store that a broker uses unless told otherwise: a database in a local folder, no other service.
//!
//! A commit is one write batch of the database, synced before [`commit`](Log::commit) answers; its number is written
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
mod reads;
mod reclaim;
mod salvage;
mod signposts;
mod snapshot;
mod tables;
mod versions;
mod words;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use fjall::PersistMode;
use mycelium_core::ids::{FlowId, JobId, SessionId, SubmissionId};
use mycelium_core::image::{ActionRecord, Image, LiveJob, PauseRecord, PropagationRecord, SessionRecord};
use mycelium_core::policy::PolicyRecord;

pub use self::check::{Checked, check, check_unused};
pub use self::copy::{NewBlob, NewStore, check_absent};
pub use self::salvage::{Salvaged, salvage};
pub use crate::data_dir::{Stored, stored_in};
pub use crate::name::DEFAULT;

use self::codec::Head;
use self::folder::{Folder, unavailable};
pub(crate) use self::folder::{holds_store, is_store_folder};
use self::keys::catalog;
use self::mark::HighWaterMark;
use self::snapshot::Snapshots;
use self::tables::{Tables, View, damaged};
use self::write::Writes;
use super::names::Names;
use super::{Answer, Batch, Error, Log, Storage};

/// Where blobs are, in the folder of a mycelium.
const BLOBS_FOLDER: &str = "blobs";

/// A store in a local folder.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// The open database; `None` while it could not be opened again after a write that failed. Dropped before the
    /// folder, whose lock guards it.
    tables: RwLock<Option<Tables>>,
    writer: Mutex<Writer>,
    snapshots: Snapshots,
    folder: Folder,
    /// Whether the latest read took longer than memory takes.
    is_slow: AtomicBool,
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
        let mut folder = Folder::open(folder, |new| {
            Tables::create(&new.store())?;
            HighWaterMark::create(&new.mark())
                .map_err(|error| unavailable(&new.mark(), "cannot make the file", error))?;
            Ok(())
        })?;
        let (tables, writer) = open(&folder, None)?;
        folder.raise_format()?;
        let snapshots = Snapshots::default();
        let inner = Inner {
            tables: RwLock::new(Some(tables)),
            writer: Mutex::new(writer),
            snapshots,
            folder,
            is_slow: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
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
    tables.words.load(&tables.view())?;
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
/// The oldest version that is read; copies of it become copies of [`FORMAT_VERSION`].
pub const OLDEST_FORMAT_VERSION: u32 = folder::OLDEST_FORMAT_VERSION;

impl Inner {
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
            for entry in view.scan(table, &[catalog::PROPAGATION], None) {
                let (key, _) = entry?;
                let cause = table.expect(&key, catalog::propagation_cause(&key), "the key is no job")?;
                image.propagations.push(PropagationRecord { cause });
            }
            for entry in view.scan(table, &[catalog::POLICY], None) {
                let (key, value) = entry?;
                let id = table.expect(&key, catalog::policy_of(&key), "the key is no policy")?;
                image.policies.push(table.decode::<PolicyRecord>(&key, id, value)?);
            }
            for entry in view.scan(table, &[catalog::DELETION], None) {
                let (key, value) = entry?;
                let deletion = catalog::deletion_of(&key, &value);
                image.deletions.push(table.expect(&key, deletion, "it is no deletion of a flow")?);
            }
            for entry in view.scan(table, &[catalog::ACTION], None) {
                let (key, value) = entry?;
                let id = table.expect(&key, catalog::action_of(&key), "the key is no action")?;
                image.actions.push(table.decode::<ActionRecord>(&key, id, value)?);
            }
            for entry in view.scan(table, &[catalog::PAUSE], None) {
                let (key, value) = entry?;
                image.pauses.push(table.decode::<PauseRecord>(&key, (), value)?);
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

    fn check_writable(&self) -> Result<(), Error> {
        let writer = self.writer();
        if writer.has_failed {
            self.folder.probe()?;
            return Err(must_reopen("an earlier write failed, and the store was not loaded again"));
        }
        Ok(())
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

impl Storage for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn blobs_folder(&self) -> Option<PathBuf> {
        Some(self.inner.folder.path().join(BLOBS_FOLDER))
    }
}

impl Log for EmbeddedStore {
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image> {
        Answer::ready(self.inner.load(each))
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        Answer::ready(self.inner.commit(batch))
    }

    fn check_writable(&self) -> Answer<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Answer::blocking(move || inner.check_writable())
    }

    fn reclaim(&self) -> Answer<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Answer::blocking(move || inner.reclaim())
    }

    fn close(&self) -> Answer<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Answer::blocking(move || inner.close())
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
        f.debug_struct("EmbeddedStore").field("folder", &self.inner.folder.path()).finish_non_exhaustive()
    }
}
