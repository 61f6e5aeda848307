//! Copies what can be read of a damaged mycelium into a new folder that opens.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use fjall::{AbstractTree as _, Slice};
use mycelium_core::ids::{
    FinishNumber, FlowId, FlowNumber, JobId, JobNumber, PolicyId, SessionId, Timestamp,
};
use mycelium_core::image::{FlowRecord, LiveJob, SessionRecord, SubmissionRecord};
use mycelium_core::labels::Labels;
use mycelium_core::policy::PolicyRecord;

use super::BLOBS_FOLDER;
use super::check::{acknowledged, each_blob, read_file, tolerant, unreadable_jobs};
use super::codec::{self, Head};
use super::copy::{NewStore, parent_of};
use super::folder::Folder;
use super::keys::{self, catalog};
use super::look::look;
use super::opened;
use super::readable::{self, Lost};
use super::signposts::Behind;
use super::tables::Tables;
use crate::store::{Error, FinishedRecord, SpecRecord};

/// What became of a salvage.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// How many jobs are known in the new folder.
    pub jobs: usize,
    /// Those of which something could not be read, and what.
    pub unreadable: BTreeMap<JobId, String>,
    /// Blobs that are not what their names say, and were left out.
    pub blobs: Vec<String>,
    /// Stretches of the tables in which something is damaged. What was in them and is named nowhere else is not listed.
    pub gaps: usize,
    /// What is damaged in the journals, and what lists the files of tables, each with its file.
    pub damage: Vec<String>,
    /// Stretches of the journals that cannot be read. Each is one commit or more.
    pub journal_gaps: usize,
    /// How long those are together, in bytes.
    pub journal_gap_bytes: u64,
    /// The newest commit in the new folder.
    pub newest: u64,
    /// The newest commit that was acknowledged; `None` if the folder does not say so any more.
    pub acknowledged: Option<u64>,
    /// How many acknowledged commits are missing in the journals. The tables may have had parts of them.
    pub commits_lost: u64,
}

/// Copies what can be read of the mycelium in the folder `path` into the new data folder `data`, under a name that is not
/// there yet. `path` is left as it is.
///
/// # Errors
/// [`Error::InUse`] if a broker uses it; [`Error::Foreign`] if it is none; [`Error::Exists`] if the name is there; [`Error::Damaged`] if the
/// database cannot be opened at all; [`Error::Unavailable`].
pub fn salvage(path: &Path, data: &Path, name: &str) -> Result<Salvaged, Error> {
    let folder = Folder::open_existing(path)?;
    let store = folder.store();
    let acknowledged = acknowledged(&folder.mark())?.ok();
    let looked = look(&store)?;
    let opened = opened::open(&store, &looked, parent_of(data))?;
    let mut saved = Salvaged { acknowledged, damage: opened.damage.clone(), ..Salvaged::default() };
    let mut copy = NewStore::create(data, name)?;
    let taken = saved.take(&opened.tables, &mut copy);
    taken.map_err(|error| opened.copy.error_of_original(error))?;
    // The database asserts some of what it reads.
    let in_tables = catch_unwind(AssertUnwindSafe(|| newest_in_files(&opened.tables))).unwrap_or_default();
    drop(opened);
    mend(&mut copy)?;
    each_blob(&path.join(BLOBS_FOLDER), |path, digest| {
        let mut blob = copy.blob(digest)?;
        read_file(path, |bytes| blob.write(bytes))?;
        match blob.finish() {
            Err(Error::Damaged { what }) => saved.blobs.push(what),
            finished => finished?,
        }
        Ok(())
    })?;
    saved.newest = copy.finish()?.0;
    let journals = looked.journals;
    saved.damage.extend(journals.damage(Some(saved.newest), acknowledged));
    (saved.journal_gaps, saved.journal_gap_bytes) = journals.unreadable(Some(saved.newest) < acknowledged);
    saved.commits_lost = journals.missing(in_tables, saved.newest, acknowledged);
    Ok(saved)
}

/// The newest commit in the files of the tables, which the journals go on from. 0 if they have none, or it cannot be read.
fn newest_in_files(tables: &Tables) -> u64 {
    let table = &tables.catalog;
    let version = table.keyspace.tree.current_version();
    let key = Slice::from(catalog::COUNTERS);
    let heads = version.iter_tables().flat_map(|file| {
        let read = file.range::<(Bound<Slice>, Bound<Slice>)>((
            Bound::Included(key.clone()),
            Bound::Included(key.clone()),
        ));
        read.filter_map(|entry| table.decode::<Head>(&key, (), entry.ok()?.value).ok())
    });
    heads.map(|head| head.counters.commit.0).max().unwrap_or_default()
}

impl Salvaged {
    /// Copies what can be read of the tables.
    fn take(&mut self, tables: &Tables, copy: &mut NewStore) -> Result<(), Error> {
        let view = tables.view();
        let mut lost = Lost::default();
        for table in tables.all() {
            lost.add(readable::entries(&view, &table, |key, value| copy.put(table.name, key, value))?);
        }
        self.gaps = lost.gaps;
        (self.unreadable, self.jobs) = unreadable_jobs(&view)?;
        Ok(())
    }
}

/// What unfinished jobs need of others, so that a broker can start from them.
#[derive(Default)]
struct Needs {
    flows: BTreeSet<FlowId>,
    /// Jobs that name a session, a submission or a policy, which may be gone or be as it was before.
    jobs: Vec<LiveJob>,
    numbers: Numbers,
}

/// The highest numbers that records name.
#[derive(Default)]
struct Numbers {
    job: u64,
    flow: u64,
    finish: u64,
    session: u64,
    until: u64,
}

/// Makes good what a start relies on: that each job's flow is known, and its session, submission and policy if it names any,
/// and that no number is given out twice.
fn mend(copy: &mut NewStore) -> Result<(), Error> {
    let tables = copy.tables()?;
    let view = tables.view();
    let mut needs = Needs::default();
    for entry in view.scan(&tables.live, &[], None) {
        let (key, value) = entry?;
        let Some(id) = JobId::from_slice(&key) else { continue };
        let Ok(job) = tables.live.decode::<LiveJob>(&key, id, value) else { continue };
        needs.flows.insert(job.head.flow);
        needs.numbers.job = needs.numbers.job.max(job.head.number.0);
        if job.running.is_some() || job.submission.is_some() || job.head.policy != PolicyId::default() {
            needs.jobs.push(job);
        }
    }
    for entry in view.scan(&tables.specs, &[], None) {
        let (key, value) = entry?;
        let id = JobId::from_slice(&key).unwrap_or_default();
        if let Ok(spec) = tables.specs.decode::<SpecRecord>(&key, id, value) {
            needs.numbers.job = needs.numbers.job.max(spec.head.number.0);
        }
    }
    for entry in view.scan(&tables.finished, &[], None) {
        let (key, value) = entry?;
        let number = keys::finish_number(&key).unwrap_or(FinishNumber(0));
        needs.numbers.finish = needs.numbers.finish.max(number.0);
        if let Ok(record) = tables.finished.decode::<FinishedRecord>(&key, number, value) {
            needs.numbers.until = needs.numbers.until.max(record.finished_at.0);
        }
    }
    for entry in view.scan(&tables.catalog, catalog::flows().as_bytes(), None) {
        let (key, _) = entry?;
        let number = key.last_chunk::<8>().map_or(0, |number| u64::MAX - u64::from_be_bytes(*number));
        needs.numbers.flow = needs.numbers.flow.max(number);
    }
    let mut sessions = BTreeSet::new();
    for entry in view.scan(&tables.catalog, &[catalog::SESSION], None) {
        let (key, value) = entry?;
        let number = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
        let Some(id) = number.map(SessionId) else { continue };
        needs.numbers.session = needs.numbers.session.max(id.0);
        if tables.catalog.decode::<SessionRecord>(&key, id, value).is_ok() {
            sessions.insert(id);
        }
    }
    let mut policies = BTreeSet::new();
    for entry in view.scan(&tables.catalog, &[catalog::POLICY], None) {
        let (key, value) = entry?;
        let Some(id) = catalog::policy_of(&key) else { continue };
        if tables.catalog.decode::<PolicyRecord>(&key, id, value).is_ok() {
            policies.insert(id);
        }
    }
    let mut puts: Vec<(&'static str, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut buffer = Vec::new();
    for mut job in needs.jobs {
        let before = (job.running.is_some(), job.submission, job.head.policy);
        if !policies.contains(&job.head.policy) {
            // It goes by the one that is declared.
            job.head.policy = PolicyId::default();
        }
        job.running = job.running.filter(|running| sessions.contains(&running.session));
        if let Some(id) = job.submission {
            let key = catalog::submission(id);
            match tolerant(view.get::<SubmissionRecord>(&tables.catalog, key.as_bytes(), id))?.flatten() {
                None => job.submission = None,
                // Its jobs run: that it was sealed is lost.
                Some(record) if !record.sealed && (before.0 || job.attempt.0 > 0) => {
                    codec::encode(&SubmissionRecord { sealed: true, ..record }, &mut buffer, None);
                    puts.push(("catalog", key.into_bytes(), buffer.clone()));
                }
                Some(_) => {}
            }
        }
        if before != (job.running.is_some(), job.submission, job.head.policy) {
            codec::encode(&job, &mut buffer, None);
            puts.push(("live", job.head.id.as_bytes().to_vec(), buffer.clone()));
        }
    }
    for flow in needs.flows {
        let key = catalog::flow(flow);
        if view.get::<FlowRecord>(&tables.catalog, key.as_bytes(), flow)?.is_some() {
            continue;
        }
        needs.numbers.flow += 1;
        let record = FlowRecord {
            pinned: false,
            deleted_at: None,
            id: flow,
            name: Arc::from("salvaged"),
            labels: Labels::default(),
            number: FlowNumber(needs.numbers.flow),
            created_at: Timestamp(needs.numbers.until),
            finished: mycelium_core::status::FinalCounts::default(),
            on_behalf_of: None,
        };
        codec::encode(&record, &mut buffer, None);
        puts.push(("catalog", key.into_bytes(), buffer.clone()));
        for entry in catalog::flow_entries(&record) {
            puts.push(("catalog", entry.into_bytes(), flow.as_bytes().to_vec()));
        }
    }
    let numbers = &needs.numbers;
    let head = view.get::<Head>(&tables.catalog, catalog::COUNTERS, ())?;
    // Where the clock was set back is lost with it.
    let mut head = head.unwrap_or_else(|| Head {
        behind: vec![Behind { lowest: Timestamp(0), last: FinishNumber(numbers.finish) }],
        ..Head::default()
    });
    head.counters.job = head.counters.job.max(JobNumber(numbers.job));
    head.counters.flow = head.counters.flow.max(FlowNumber(numbers.flow));
    head.counters.finish = head.counters.finish.max(FinishNumber(numbers.finish));
    head.counters.session = head.counters.session.max(SessionId(numbers.session));
    head.finished_until = head.finished_until.max(Timestamp(numbers.until));
    codec::encode(&head, &mut buffer, None);
    puts.push(("catalog", catalog::COUNTERS.to_vec(), buffer));
    drop(view);
    for (table, key, value) in puts {
        copy.put(table, &key, &value)?;
    }
    Ok(())
}
