//! A store for tests of what stands on a store: it fails when it is told to.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::ids::{FailureId, FlowId, JobId, Revision, SubmissionId};
use mycelium_core::image::{FlowRecord, Image, LiveJob, SubmissionRecord};

use super::{
    Batch, BlobDigest, BlobUse, ElfRecord, Error, FailureCursor, FailureRecord, FinishedPage, FinishedQuery,
    FinishedRecord, FlowPage, FlowQuery, Listed, OccurrenceRecord, RevisionCursor, RevisionRecord,
    SpecRecord, Store, StoreSnapshot,
};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The batch is not stored, and the error says so.
    NotApplied,
    /// The batch is not stored, and the error leaves that open.
    UncertainNotApplied,
    /// The batch is stored, and the error leaves that open.
    UncertainApplied,
    /// The store panics: a defect.
    Panic,
}

/// What is stored of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobRecord {
    /// Its specification.
    Spec,
    /// How it ended.
    End,
    /// What it returned.
    Outputs,
}

/// Wraps a store. As with a real one, nothing is written after a failed commit until the store is loaded again.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
    /// Told when a commit arrives at a hold, and when the hold ends.
    hold_changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The fate of the next commits; `None` lets one pass.
    plan: VecDeque<Option<Fault>>,
    /// Whether nothing can be read or written.
    is_away: bool,
    /// Whether there is no space for commits.
    is_full: bool,
    /// Records that cannot be read.
    damaged: HashSet<(JobId, JobRecord)>,
    /// Whether reads panic.
    reads_panic: bool,
    /// Whether it names no folder for blobs.
    has_no_blobs: bool,
    /// How many bytes of specifications each commit has brought.
    spec_bytes: Vec<usize>,
    has_failed: bool,
    /// How long each commit takes at least.
    pause: Duration,
    /// Whether commits wait, and how many do.
    is_held: bool,
    held: usize,
}

impl FaultyStore {
    /// Wraps `inner`; without further orders, every call passes.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default(), hold_changed: Condvar::new() }
    }

    /// Lets the commit fail that comes after `passing` more that pass, counted from the last that was planned.
    pub fn fail_commit_after(&self, passing: usize, fault: Fault) {
        let mut state = self.state();
        state.plan.extend(std::iter::repeat_n(None, passing));
        state.plan.push_back(Some(fault));
    }

    /// How many commits have a fate that they have not met yet.
    pub fn planned(&self) -> usize {
        self.state().plan.len()
    }

    /// Takes the store away, or brings it back: while it is away, every call fails.
    pub fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    /// Fills the disk, or makes space: while it is full, commits fail, and everything can be read.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Damages a record of a job: whoever reads it, alone or with others, is told so.
    pub fn damage(&self, job: [u8; 16], record: JobRecord) {
        self.state().damaged.insert((JobId::new(job), record));
    }

    fn sound(&self, jobs: &[JobId], record: JobRecord) -> Result<(), Error> {
        let state = self.state();
        match jobs.iter().find(|job| state.damaged.contains(&(**job, record))) {
            None => Ok(()),
            Some(job) => Err(Error::Damaged { what: format!("planned: job {job}, file planned.table") }),
        }
    }

    /// Lets reads panic, or no longer.
    pub fn set_reads_panic(&self, reads_panic: bool) {
        self.state().reads_panic = reads_panic;
    }

    /// Lets it name no folder for blobs, as a store that knows nothing of them.
    pub fn forget_blobs_folder(&self) {
        self.state().has_no_blobs = true;
    }

    /// How many bytes of specifications each commit has brought.
    pub fn spec_bytes(&self) -> Vec<usize> {
        self.state().spec_bytes.clone()
    }

    /// Lets each commit take so much time at least, as on a slow disk.
    pub fn set_pause(&self, pause: Duration) {
        self.state().pause = pause;
    }

    /// Lets commits wait before they do anything, until [`release_commits`](Self::release_commits).
    pub fn hold_commits(&self) {
        self.state().is_held = true;
    }

    /// Blocks until a commit waits.
    pub fn wait_for_held_commit(&self) {
        let _held = self
            .hold_changed
            .wait_while(self.state(), |state| state.held == 0)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Lets the commits go on that wait, and those to come.
    pub fn release_commits(&self) {
        self.state().is_held = false;
        self.hold_changed.notify_all();
    }

    fn pass_hold(&self) {
        let mut state = self.state();
        state.held += 1;
        self.hold_changed.notify_all();
        let mut state = self
            .hold_changed
            .wait_while(state, |state| state.is_held)
            .unwrap_or_else(PoisonError::into_inner);
        state.held -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a read.
    fn present(&self) -> Result<&dyn Store, Error> {
        let panics = self.state().reads_panic;
        assert!(!panics, "planned: a panic");
        self.reachable()
    }

    fn reachable(&self) -> Result<&dyn Store, Error> {
        if self.state().is_away { Err(unavailable("it is away", true)) } else { Ok(&*self.inner) }
    }
}

fn full() -> Error {
    Error::Unavailable {
        what: "planned: full".to_owned(),
        certainly_not_applied: true,
        source: Some(Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull))),
    }
}

fn unavailable(what: &str, certainly_not_applied: bool) -> Error {
    Error::Unavailable { what: what.to_owned(), certainly_not_applied, source: None }
}

impl Store for FaultyStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    fn load(&self, each: &mut dyn FnMut(LiveJob)) -> Result<Image, Error> {
        let image = self.reachable()?.load(each)?;
        let mut state = self.state();
        state.has_failed &= state.is_full;
        Ok(image)
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.pass_hold();
        let pause = self.state().pause;
        std::thread::sleep(pause);
        let inner = self.reachable()?;
        let fault = {
            let mut state = self.state();
            if state.is_full {
                state.has_failed = true;
                return Err(full());
            }
            if state.has_failed {
                return Err(unavailable("an earlier write failed, and the store was not loaded again", true));
            }
            let fault = state.plan.pop_front().flatten();
            state.has_failed = fault.is_some();
            let specs = batch.jobs.iter().filter_map(|job| job.created.as_ref());
            state.spec_bytes.push(specs.map(|created| created.body.len()).sum());
            fault
        };
        match fault {
            None => inner.commit(batch),
            Some(Fault::NotApplied) => Err(unavailable("planned: not applied", true)),
            Some(Fault::UncertainNotApplied) => Err(unavailable("planned: uncertain", false)),
            Some(Fault::Panic) => panic!("planned: a panic"),
            Some(Fault::UncertainApplied) => {
                inner.commit(batch)?;
                Err(unavailable("planned: uncertain", false))
            }
        }
    }

    fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<SpecRecord>>, Error> {
        self.sound(ids, JobRecord::Spec)?;
        self.present()?.specs(ids)
    }

    fn unfinished(&self, ids: &[JobId]) -> Result<Vec<Option<LiveJob>>, Error> {
        self.present()?.unfinished(ids)
    }

    fn finished(&self, ids: &[JobId]) -> Result<Vec<Option<FinishedRecord>>, Error> {
        self.sound(ids, JobRecord::End)?;
        self.present()?.finished(ids)
    }

    fn outputs(&self, ids: &[JobId]) -> Result<Vec<Option<Bytes>>, Error> {
        self.sound(ids, JobRecord::Outputs)?;
        self.present()?.outputs(ids)
    }

    fn list_finished(&self, query: &FinishedQuery) -> Result<FinishedPage, Error> {
        self.present()?.list_finished(query)
    }

    fn dependents(&self, job: JobId, after: Option<JobId>, limit: usize) -> Result<Vec<JobId>, Error> {
        self.present()?.dependents(job, after, limit)
    }

    fn blob_uses(
        &self,
        blob: BlobDigest,
        after: Option<&BlobUse>,
        limit: usize,
    ) -> Result<Vec<BlobUse>, Error> {
        self.present()?.blob_uses(blob, after, limit)
    }

    fn flow(&self, id: FlowId) -> Result<Option<FlowRecord>, Error> {
        self.present()?.flow(id)
    }

    fn flow_named(&self, name: &str) -> Result<Option<FlowRecord>, Error> {
        self.present()?.flow_named(name)
    }

    fn list_flows(&self, query: &FlowQuery) -> Result<FlowPage, Error> {
        self.present()?.list_flows(query)
    }

    fn submission(&self, id: SubmissionId) -> Result<Option<SubmissionRecord>, Error> {
        self.present()?.submission(id)
    }

    fn elf(&self, name: &str) -> Result<Option<ElfRecord>, Error> {
        self.present()?.elf(name)
    }

    fn list_elves(&self, after: Option<&str>, limit: usize) -> Result<Vec<ElfRecord>, Error> {
        self.present()?.list_elves(after, limit)
    }

    fn list_revisions(
        &self,
        elf: &str,
        after: Option<&RevisionCursor>,
        limit: usize,
    ) -> Result<Vec<(RevisionCursor, RevisionRecord)>, Error> {
        self.present()?.list_revisions(elf, after, limit)
    }

    fn revision(&self, elf: &str, task: &str, revision: Revision) -> Result<Option<RevisionRecord>, Error> {
        self.present()?.revision(elf, task, revision)
    }

    fn failure(&self, id: FailureId) -> Result<Option<FailureRecord>, Error> {
        self.present()?.failure(id)
    }

    fn list_failures(
        &self,
        after: Option<&FailureCursor>,
        limit: usize,
    ) -> Result<Listed<(FailureCursor, FailureRecord)>, Error> {
        self.present()?.list_failures(after, limit)
    }

    fn occurrence_of(&self, id: FailureId, job: JobId) -> Result<Option<OccurrenceRecord>, Error> {
        self.present()?.occurrence_of(id, job)
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, OccurrenceRecord)>, Error> {
        self.present()?.list_occurrences(id, after, limit)
    }

    fn check_writable(&self) -> Result<(), Error> {
        let state = self.state();
        if state.is_full {
            return Err(full());
        }
        if state.has_failed {
            return Err(unavailable("the store was not loaded again", true));
        }
        drop(state);
        self.present()?.check_writable()
    }

    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, Error> {
        self.present()?.snapshot()
    }

    fn blobs_folder(&self) -> Option<PathBuf> {
        if self.state().has_no_blobs { None } else { self.inner.blobs_folder() }
    }

    fn close(&self) -> Result<(), Error> {
        self.inner.close()
    }
}
