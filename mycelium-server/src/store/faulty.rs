//! A store for tests of what stands on a store: it fails when it is told to.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::ids::{FailureId, FlowId, JobId, SubmissionId};
use mycelium_core::image::{FlowRecord, Image, LiveJob, SubmissionRecord};
use tokio::sync::oneshot;

use super::{
    Answer, Batch, BlobDigest, BlobUse, CheckpointRecord, Edge, ElfRecord, Error, FailureCursor,
    FailureRecord, FinishedPage, FinishedQuery, FinishedRecord, FlowPage, FlowQuery, Listed, Log,
    OccurrenceRecord, Outline, Reads, RevisionCursor, RevisionKey, RevisionRecord, SpecRecord, Storage,
    StoreSnapshot,
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
    /// Another broker has taken the store over.
    Fenced,
    /// The store panics: a defect.
    Panic,
}

/// How a read fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFault {
    /// It cannot be read now.
    Unavailable,
    /// What is stored cannot be right.
    Damaged,
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
    /// Which occurrences of failures there are in it.
    Occurrences,
}

/// What a store was asked for: each call is one request to a store that is far away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many commits.
    pub commits: usize,
    /// How many reads. A read is one call, of however many keys.
    pub reads: usize,
    /// How many keys all reads named, those that take many keys a call.
    pub keys: usize,
}

/// Wraps a store. As with a real one, nothing is written after a failed commit until the store is loaded again.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
    /// Told when a commit arrives at a hold, and when the hold ends.
    hold_changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The fate of the next commits; `None` lets one pass.
    plan: VecDeque<Option<Fault>>,
    /// The fate of the next reads; `None` lets one pass.
    read_plan: VecDeque<Option<ReadFault>>,
    /// Whether nothing can be read or written.
    is_unavailable: bool,
    /// Whether loads never end.
    loads_hang: bool,
    /// Whether there is no space for commits.
    is_full: bool,
    /// Records that cannot be read.
    damaged: HashSet<(JobId, JobRecord)>,
    /// What it was asked for, those calls that failed among them.
    asked: Asked,
    /// After how many reads the one comes that is held; it is told that it has come, and waited for.
    read_hold: Option<(usize, oneshot::Sender<()>, oneshot::Receiver<()>)>,
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

/// A read that is held, or will be. Dropped, it lets go.
#[derive(Debug)]
pub struct HeldRead {
    comes: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl HeldRead {
    /// Waits until the store has read what is asked, and lets the answer be held for as long as `meanwhile` takes.
    pub async fn during<T>(self, meanwhile: impl Future<Output = T>) -> T {
        let Self { comes, release } = self;
        // Whoever asked may have gone without an answer.
        let _came = comes.await;
        let done = meanwhile.await;
        let _let_go = release.send(());
        done
    }
}

impl FaultyStore {
    /// Wraps `inner`; without further orders, every call passes.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Mutex::default(), hold_changed: Condvar::new() }
    }

    /// Lets the commit fail that comes after `passing` more that pass, counted from the last that was planned.
    pub fn fail_commit_after(&self, passing: usize, fault: Fault) {
        let mut state = self.state();
        state.plan.extend(std::iter::repeat_n(None, passing));
        state.plan.push_back(Some(fault));
    }

    /// Lets the read fail that comes after `passing` more that pass, counted from the last that was planned. A read is one
    /// call, of however many keys; those that a commit is prepared with are among them.
    pub fn fail_read_after(&self, passing: usize, fault: ReadFault) {
        let mut state = self.state();
        state.read_plan.extend(std::iter::repeat_n(None, passing));
        state.read_plan.push_back(Some(fault));
    }

    /// Holds the read that comes after `passing` more: what it answers is what is stored then, and it answers when it is
    /// let go.
    pub fn hold_read_after(&self, passing: usize) -> HeldRead {
        let (came, comes) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.state().read_hold = Some((passing, came, released));
        HeldRead { comes, release }
    }

    /// What it was asked for, those calls that failed among them.
    pub fn asked(&self) -> Asked {
        self.state().asked
    }

    /// How many reads there were, those that failed among them. A read is one call, of however many keys.
    pub fn reads(&self) -> usize {
        self.asked().reads
    }

    /// How many commits have a fate that they have not met yet.
    pub fn planned(&self) -> usize {
        self.state().plan.len()
    }

    /// Makes the store unavailable, or available again: meanwhile every call fails.
    pub fn set_unavailable(&self, is_unavailable: bool) {
        self.state().is_unavailable = is_unavailable;
    }

    /// Lets no load end any more, as with a server that does not answer.
    pub fn hang_loads(&self) {
        self.state().loads_hang = true;
    }

    /// Fills the disk, or makes space: while it is full, commits fail, and everything can be read.
    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Damages a record of a job: whoever reads it, alone or with others, is told so.
    pub fn damage(&self, job: [u8; 16], record: JobRecord) {
        self.state().damaged.insert((JobId::new(job), record));
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

    /// Lets a read of so many keys through, unless it is to fail, and notes it.
    fn passing<'a, T: Send + 'static>(
        &'a self,
        keys: usize,
        read: impl FnOnce(&'a dyn Storage) -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        let mut state = self.state();
        state.asked.reads += 1;
        state.asked.keys += keys;
        let (panics, fault) = (state.reads_panic, state.read_plan.pop_front().flatten());
        let hold = match &mut state.read_hold {
            Some((passing @ 1.., ..)) => {
                *passing -= 1;
                None
            }
            hold => hold.take(),
        };
        drop(state);
        assert!(!panics, "planned: a panic");
        let failed = match fault {
            None => self.reachable(),
            Some(ReadFault::Unavailable) => Err(unavailable("planned: a read", true)),
            Some(ReadFault::Damaged) => Err(Error::Damaged { what: "planned: a read".to_owned() }),
        };
        let answer = match failed {
            Ok(inner) => read(inner),
            Err(error) => Answer::ready(Err(error)),
        };
        let Some((_, came, released)) = hold else { return answer };
        Answer::coming(async move {
            let answer = answer.await;
            // If the test has gone, nobody holds it.
            let _test_is_over = came.send(()).is_err() || released.await.is_err();
            answer
        })
    }

    /// As [`passing`](Self::passing), of jobs some of whose records may be damaged.
    fn of_jobs<'a, T: Send + 'static>(
        &'a self,
        jobs: &[JobId],
        record: JobRecord,
        read: impl FnOnce(&'a dyn Storage) -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        let state = self.state();
        let damaged = jobs.iter().find(|job| state.damaged.contains(&(**job, record)));
        drop(state);
        match damaged {
            None => self.passing(jobs.len(), read),
            Some(job) => {
                let what = format!("planned: job {job}, file planned.table");
                Answer::ready(Err(Error::Damaged { what }))
            }
        }
    }

    /// The answer of the wrapped store, if the commit passes.
    fn commit_or_fail<'a>(&'a self, batch: &'a Batch) -> Result<Answer<'a, ()>, Error> {
        self.state().asked.commits += 1;
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
            None => Ok(inner.commit(batch)),
            Some(Fault::NotApplied) => Err(unavailable("planned: not applied", true)),
            Some(Fault::UncertainNotApplied) => Err(unavailable("planned: uncertain", false)),
            Some(Fault::Fenced) => Err(Error::Fenced { what: "planned".to_owned() }),
            Some(Fault::Panic) => panic!("planned: a panic"),
            Some(Fault::UncertainApplied) => {
                inner.commit(batch).wait()?;
                Err(unavailable("planned: uncertain", false))
            }
        }
    }

    fn reachable(&self) -> Result<&dyn Storage, Error> {
        if self.state().is_unavailable {
            Err(unavailable("planned: nobody answers", true))
        } else {
            Ok(&*self.inner)
        }
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

impl Storage for FaultyStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    fn blobs_folder(&self) -> Option<PathBuf> {
        if self.state().has_no_blobs { None } else { self.inner.blobs_folder() }
    }
}

impl Log for FaultyStore {
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image> {
        let inner = match self.reachable() {
            Ok(inner) => inner,
            Err(error) => return Answer::ready(Err(error)),
        };
        let hangs = self.state().loads_hang;
        Answer::coming(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let image = inner.load(each).await?;
            let mut state = self.state();
            state.has_failed &= state.is_full;
            Ok(image)
        })
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        match self.commit_or_fail(batch) {
            Ok(passes) => passes,
            Err(error) => Answer::ready(Err(error)),
        }
    }

    fn needs_known(&self) -> bool {
        self.inner.needs_known()
    }

    fn reclaim(&self) -> Answer<'_, ()> {
        self.inner.reclaim()
    }

    fn check_owner(&self) -> Result<(), Error> {
        self.inner.check_owner()
    }

    fn check_writable(&self) -> Answer<'_, ()> {
        let state = self.state();
        if state.is_full {
            return Answer::ready(Err(full()));
        }
        if state.has_failed {
            return Answer::ready(Err(unavailable("the store was not loaded again", true)));
        }
        drop(state);
        match self.reachable() {
            Ok(inner) => inner.check_writable(),
            Err(error) => Answer::ready(Err(error)),
        }
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner.close()
    }
}

impl Reads for FaultyStore {
    fn specs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<SpecRecord>>> {
        self.of_jobs(ids, JobRecord::Spec, |inner| inner.specs(ids))
    }

    fn outlines<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Outline>>> {
        self.of_jobs(ids, JobRecord::Spec, |inner| inner.outlines(ids))
    }

    fn unfinished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<LiveJob>>> {
        self.passing(ids.len(), |inner| inner.unfinished(ids))
    }

    fn finished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<FinishedRecord>>> {
        self.of_jobs(ids, JobRecord::End, |inner| inner.finished(ids))
    }

    fn outputs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.of_jobs(ids, JobRecord::Outputs, |inner| inner.outputs(ids))
    }

    fn list_finished<'a>(&'a self, query: &'a FinishedQuery) -> Answer<'a, FinishedPage> {
        self.passing(0, |inner| inner.list_finished(query))
    }

    fn dependents<'a>(
        &'a self,
        jobs: &'a [JobId],
        after: Option<Edge>,
        limit: usize,
    ) -> Answer<'a, Vec<Edge>> {
        self.passing(jobs.len(), |inner| inner.dependents(jobs, after, limit))
    }

    fn flows<'a>(&'a self, ids: &'a [FlowId]) -> Answer<'a, Vec<Option<FlowRecord>>> {
        self.passing(ids.len(), |inner| inner.flows(ids))
    }

    fn flow_named<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FlowRecord>> {
        self.passing(1, |inner| inner.flow_named(name))
    }

    fn list_flows<'a>(&'a self, query: &'a FlowQuery) -> Answer<'a, FlowPage> {
        self.passing(0, |inner| inner.list_flows(query))
    }

    fn submissions<'a>(&'a self, ids: &'a [SubmissionId]) -> Answer<'a, Vec<Option<SubmissionRecord>>> {
        self.passing(ids.len(), |inner| inner.submissions(ids))
    }

    fn list_submissions(
        &self,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Answer<'_, Vec<SubmissionRecord>> {
        self.passing(0, |inner| inner.list_submissions(after, limit))
    }

    fn elves<'a>(&'a self, names: &'a [Arc<str>]) -> Answer<'a, Vec<Option<ElfRecord>>> {
        self.passing(names.len(), |inner| inner.elves(names))
    }

    fn list_elves<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<ElfRecord>> {
        self.passing(0, |inner| inner.list_elves(after, limit))
    }

    fn revisions<'a>(&'a self, named: &'a [RevisionKey]) -> Answer<'a, Vec<Option<RevisionRecord>>> {
        self.passing(named.len(), |inner| inner.revisions(named))
    }

    fn list_revisions<'a>(
        &'a self,
        elf: &'a str,
        after: Option<&'a RevisionCursor>,
        limit: usize,
    ) -> Answer<'a, Vec<(RevisionCursor, RevisionRecord)>> {
        self.passing(0, |inner| inner.list_revisions(elf, after, limit))
    }

    fn failures<'a>(&'a self, ids: &'a [FailureId]) -> Answer<'a, Vec<Option<FailureRecord>>> {
        self.passing(ids.len(), |inner| inner.failures(ids))
    }

    fn list_failures<'a>(
        &'a self,
        after: Option<&'a FailureCursor>,
        limit: usize,
    ) -> Answer<'a, Listed<(FailureCursor, FailureRecord)>> {
        self.passing(0, |inner| inner.list_failures(after, limit))
    }

    fn occurrences_of<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
    ) -> Answer<'a, Vec<Option<OccurrenceRecord>>> {
        self.passing(of.len(), |inner| inner.occurrences_of(of))
    }

    fn occurrences_in<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
        limit: usize,
    ) -> Answer<'a, Vec<(FailureId, JobId, u64)>> {
        let jobs: Vec<JobId> = of.iter().map(|(_, job)| *job).collect();
        self.of_jobs(&jobs, JobRecord::Occurrences, |inner| inner.occurrences_in(of, limit))
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<(u64, OccurrenceRecord)>> {
        self.passing(0, |inner| inner.list_occurrences(id, after, limit))
    }

    fn blob_uses<'a>(
        &'a self,
        blobs: &'a [BlobDigest],
        after: Option<BlobUse>,
        limit: usize,
    ) -> Answer<'a, Vec<BlobUse>> {
        self.passing(blobs.len(), |inner| inner.blob_uses(blobs, after, limit))
    }

    fn list_blob_uses(&self, after: Option<BlobUse>, limit: usize) -> Answer<'_, Vec<BlobUse>> {
        self.passing(0, |inner| inner.list_blob_uses(after, limit))
    }

    fn checkpoints<'a>(&'a self, jobs: &'a [JobId]) -> Answer<'a, Vec<Option<CheckpointRecord>>> {
        self.passing(jobs.len(), |inner| inner.checkpoints(jobs))
    }

    fn list_checkpoints(&self, after: Option<JobId>, limit: usize) -> Answer<'_, Vec<JobId>> {
        self.passing(0, |inner| inner.list_checkpoints(after, limit))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn StoreSnapshot>> {
        self.passing(0, |inner| inner.snapshot())
    }
}
