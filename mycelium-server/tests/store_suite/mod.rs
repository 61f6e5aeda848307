//! What the tests of stores share: a small world of jobs, and a writer that numbers its commits.

pub(crate) mod arango;
pub(crate) mod conformance;
pub(crate) mod folders;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::{End, Records, Revived};
use mycelium_core::ids::{
    Attempt, Build, Commit, ContentDigest, FailureId, FinishNumber, FlowId, FlowNumber, InstanceId, JobId,
    JobNumber, Revision, SessionId, SubmissionId, Timestamp, Token,
};
use mycelium_core::image::{
    AttemptEnd, Counters, FlowRecord, Image, JobHead, LiveJob, PastAttempt, Running, SubmissionRecord, Tries,
};
use mycelium_core::labels::Labels;
use mycelium_core::signature::Shape;
use mycelium_core::status::{ExpiredWhy, FinalCounts, FinalStatus};
use mycelium_server::store::faulty::Asked;
use mycelium_server::store::{
    Batch, Edge, EmbeddedStore, Error, FailureRecord, FaultyStore, FinishedPage, FinishedQuery,
    FinishedRecord, JobAfter, JobChange, Knowledge, Log, MemoryStore, NewFailure, OccurrenceRecord, Reads,
    SpecRecord, Storage,
};

pub(crate) fn job(number: u8) -> JobId {
    JobId::new([number; 16])
}

pub(crate) fn flow(number: u8) -> FlowId {
    FlowId::new([0xf0 | number; 16])
}

pub(crate) fn submission(number: u8) -> SubmissionId {
    SubmissionId::new([0xa0 | number; 16])
}

pub(crate) fn failure(number: u8) -> FailureId {
    FailureId::new([0xb0 | number; 16])
}

pub(crate) fn revision(number: u8) -> Revision {
    Revision::new([number; 32])
}

/// Two labels of which each has two values, and for every fifth none.
pub(crate) fn labels(number: u8) -> Labels {
    let labels = [("odd", number % 2), ("high", number / 2 % 2)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_string()));
    if number.is_multiple_of(5) { Labels::NONE } else { BTreeMap::from(labels).into() }
}

pub(crate) fn flow_record(number: u8, name: &str) -> FlowRecord {
    FlowRecord {
        id: flow(number),
        name: name.into(),
        labels: labels(number),
        number: FlowNumber(u64::from(number)),
        created_at: Timestamp(u64::from(number) * 1_000),
        on_behalf_of: (number % 2 == 1).then(|| Token { job: JobId::new([number; 16]), attempt: Attempt(3) }),
        finished: FinalCounts {
            done: 1,
            failed: 2,
            upstream_failed: 3,
            cancelled: u64::from(number),
            skipped: 0,
            expired: 4,
        },
        pinned: number.is_multiple_of(2),
        deleted_at: number.is_multiple_of(3).then_some(Timestamp(77)),
    }
}

pub(crate) fn submission_record(number: u8, sealed: bool) -> SubmissionRecord {
    SubmissionRecord { id: submission(number), flow: flow(1), next_part: 7, sealed }
}

/// Some were stored before shapes were, and some have no arguments.
pub(crate) fn shape(number: u8) -> Shape {
    match number % 3 {
        0 => Shape::UNKNOWN,
        names => Shape::of(["grams", "unit"].into_iter().take(usize::from(names) - 1).map(Into::into)),
    }
}

pub(crate) fn spec(number: u8, depends_on: &[u8]) -> SpecRecord {
    SpecRecord {
        head: JobHead {
            id: job(number),
            flow: flow(1),
            elf: "scale".into(),
            task: "task_weigh".into(),
            priority: -3,
            number: JobNumber(u64::from(number)),
            submitted_at: Timestamp(1_000 + u64::from(number)),
            shape: shape(number),
            ..JobHead::default()
        },
        digest: ContentDigest(u64::MAX - u64::from(number)),
        depends_on: depends_on.iter().copied().map(job).collect(),
        evaluate: false,
        gathered_by: None,
        begins_at: number.is_multiple_of(2).then_some(Timestamp(9_000)),
        body: Bytes::from(vec![number; 100]),
    }
}

pub(crate) fn live(number: u8) -> LiveJob {
    let SpecRecord { head, digest, .. } = spec(number, &[]);
    LiveJob {
        head,
        digest,
        waits_for: vec![],
        submission: None,
        attempt: Attempt(0),
        elves_lost: 0,
        elves_lost_alone: 0,
        beside: Vec::new(),
        evaluate: false,
        running: None,
        expires_at: Some(Timestamp(7_000)),
        queued_at: None,
        tries: Tries { failed: 1, failed_max: 3, not_before: Some(Timestamp(8_000)) },
        attempts: vec![attempt(1)],
    }
}

fn attempt(number: u32) -> PastAttempt {
    let (held, ended_at, how) = (running(), Timestamp(1_500), AttemptEnd::Failed);
    PastAttempt { number: Attempt(number), held, ended_at, how, failure: Some(FailureId::new([7; 16])) }
}

pub(crate) fn running() -> Running {
    Running {
        session: SessionId(9),
        instance: InstanceId::new([0xcc; 16]),
        revision: revision(0xdd),
        build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
        since: Timestamp(2_000),
        started: Some(Timestamp(2_500)),
    }
}

pub(crate) fn finished(number: u8, finish_number: u64, status: FinalStatus) -> FinishedRecord {
    FinishedRecord {
        head: spec(number, &[]).head,
        finish_number: FinishNumber(finish_number),
        end: match status {
            FinalStatus::Done => End::Done(()),
            FinalStatus::Failed => End::Failed(failure(1)),
            FinalStatus::UpstreamFailed => End::UpstreamFailed(job(99)),
            FinalStatus::Cancelled => End::Cancelled,
            FinalStatus::Skipped => End::Skipped,
            FinalStatus::Expired => End::Expired(ExpiredWhy::Queue),
        },
        finished_at: Timestamp(10_000 + finish_number),
        attempt: Attempt(2),
        elves_lost: 1,
        ran: Some(Running {
            session: SessionId(0x0e),
            instance: InstanceId::new([0xcc; 16]),
            revision: revision(0xdd),
            build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
            since: Timestamp(2_000),
            started: None,
        }),
        elements: None,
        attempts: vec![attempt(1)],
    }
}

pub(crate) fn finish(record: FinishedRecord) -> JobAfter {
    let outputs = Bytes::from(format!("outputs of {}", record.head.id));
    finish_with(record, outputs)
}

/// The end of a job that has these outputs if it is DONE.
pub(crate) fn finish_with(record: FinishedRecord, outputs: Bytes) -> JobAfter {
    let end = match record.end {
        End::Done(()) => End::Done(outputs),
        End::Failed(failure) => End::Failed(failure),
        End::UpstreamFailed(cause) => End::UpstreamFailed(cause),
        End::Cancelled => End::Cancelled,
        End::Skipped => End::Skipped,
        End::Expired(why) => End::Expired(why),
    };
    JobAfter::Finished(record.with_end(end))
}

pub(crate) fn revived(record: &FinishedRecord) -> Option<Revived> {
    Some(Revived { finish_number: record.finish_number, status: record.end.status() })
}

/// A change of an existing job.
pub(crate) fn change(number: u8, after: JobAfter) -> JobChange {
    JobChange { id: job(number), flow: flow(1), created: None, revived: None, after }
}

/// A new job, whose specification says the same of it as its record.
pub(crate) fn created(number: u8, depends_on: &[u8], after: JobAfter) -> JobChange {
    let spec = spec(number, depends_on);
    let head = match &after {
        JobAfter::Live(live) => live.head.clone(),
        JobAfter::Finished(finished) => finished.head.clone(),
        JobAfter::Evaluate | JobAfter::Dropped => spec.head.clone(),
    };
    JobChange { created: Some(SpecRecord { head, ..spec }), ..change(number, after) }
}

pub(crate) fn jobs(jobs: Vec<JobChange>) -> Batch {
    let records = Records { flows: vec![flow_record(1, "daily report")], ..Records::default() };
    Batch { jobs, records, ..Batch::default() }
}

pub(crate) fn seen(failure_number: u8, job_number: u8, at: u64, message: &str) -> NewFailure {
    NewFailure {
        id: failure(failure_number),
        body: Bytes::copy_from_slice(message.as_bytes()),
        occurrence: OccurrenceRecord {
            job: job(job_number),
            attempt: Attempt(1),
            at: Timestamp(at),
            message: message.to_owned(),
            details: "details".to_owned(),
            cause_messages: vec!["cause".to_owned()],
        },
        elf: "scale".into(),
        task: "task_weigh".into(),
    }
}

/// How a store is opened, again and again.
pub(crate) trait Kind: Debug {
    fn open(&mut self) -> Arc<dyn Storage>;

    /// Lets go of it.
    fn close(&mut self) {}

    /// Opens it once more while it is open, as another broker would; `None` if no other can get at it.
    fn open_beside(&self) -> Option<Result<Arc<dyn Storage>, Error>> {
        None
    }

    /// What whatever is behind the store was asked for; `None` if nothing is that could be asked.
    fn asked(&self) -> Option<Asked> {
        None
    }
}

/// Memory keeps nothing over a reopen, so there the same store is given again.
#[derive(Debug, Default)]
pub(crate) struct Memory(Arc<MemoryStore>);

impl Kind for Memory {
    fn open(&mut self) -> Arc<dyn Storage> {
        self.0.clone()
    }
}

#[derive(Debug)]
pub(crate) struct Embedded(tempfile::TempDir);

impl Default for Embedded {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Embedded {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Kind for Embedded {
    fn open(&mut self) -> Arc<dyn Storage> {
        Arc::new(EmbeddedStore::open(self.0.path()).unwrap())
    }

    fn open_beside(&self) -> Option<Result<Arc<dyn Storage>, Error>> {
        Some(EmbeddedStore::open(self.0.path()).map(|store| Arc::new(store) as Arc<dyn Storage>))
    }
}

/// A store behind another, which counts what it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Faulty<K> {
    behind: K,
    open: Option<Arc<FaultyStore>>,
}

impl<K: Kind> Kind for Faulty<K> {
    fn open(&mut self) -> Arc<dyn Storage> {
        let store = Arc::new(FaultyStore::new(self.behind.open()));
        self.open = Some(Arc::clone(&store));
        store
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn open_beside(&self) -> Option<Result<Arc<dyn Storage>, Error>> {
        self.behind.open_beside()
    }

    fn asked(&self) -> Option<Asked> {
        self.open.as_ref().map(|store| store.asked())
    }
}

/// A store and the numbers of its commits.
#[derive(Debug)]
pub(crate) struct World {
    kind: Box<dyn Kind>,
    store: Option<Arc<dyn Storage>>,
    knowledge: Knowledge,
    pub(crate) counters: Counters,
}

impl World {
    pub(crate) fn new(mut kind: impl Kind + 'static) -> Self {
        let store = Some(kind.open());
        Self { kind: Box::new(kind), store, knowledge: Knowledge::default(), counters: Counters::default() }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Storage> {
        self.store.as_ref().unwrap()
    }

    /// Opens the store once more, as another broker would.
    pub(crate) fn open_beside(&self) -> Option<Result<Arc<dyn Storage>, Error>> {
        self.kind.open_beside()
    }

    /// Makes sure that something takes just so many requests and keys, if they are counted.
    #[track_caller]
    pub(crate) fn takes<T>(&mut self, expected: Asked, something: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.kind.asked();
        let done = something(self);
        if let (Some(before), Some(after)) = (before, self.kind.asked()) {
            let taken = Asked {
                commits: after.commits - before.commits,
                reads: after.reads - before.reads,
                keys: after.keys - before.keys,
            };
            assert_eq!(taken, expected);
        }
        done
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.store().close().wait().unwrap();
        self.store = None;
        self.kind.close();
        self.store = Some(self.kind.open());
        self.knowledge = Knowledge::default();
    }

    pub(crate) fn commit(&mut self, batch: Batch) {
        self.try_commit(batch).unwrap();
    }

    pub(crate) fn try_commit(&mut self, mut batch: Batch) -> Result<(), Error> {
        batch.counters = Counters { commit: Commit(self.counters.commit.0 + 1), ..self.counters };
        let store = self.store.as_ref().unwrap();
        let prepared = futures::executor::block_on(self.knowledge.prepare(&**store, &mut batch));
        let committed = prepared.and_then(|()| store.commit(&batch).wait());
        committed.inspect_err(|_| self.knowledge = Knowledge::default())?;
        self.counters = batch.counters;
        Ok(())
    }

    /// Everything that a scheduler is rebuilt from, in a fixed order.
    pub(crate) fn load(&self) -> (Vec<LiveJob>, Image) {
        let mut jobs = Vec::new();
        let mut image = self.store().load(&mut |job| jobs.push(job)).wait().unwrap();
        jobs.sort_by_key(|job| job.head.id);
        image.flows.sort_by_key(|flow| flow.id);
        image.sessions.sort_by_key(|session| session.id);
        image.submissions.sort_by_key(|submission| submission.id);
        image.propagations.sort();
        image.deletions.sort_by_key(|deletion| deletion.flow);
        (jobs, image)
    }

    pub(crate) fn live_job(&self, number: u8) -> Option<LiveJob> {
        self.load().0.into_iter().find(|live| live.head.id == job(number))
    }

    pub(crate) fn finished_record(&self, number: u8) -> Option<FinishedRecord> {
        self.store().finished(&[job(number)]).wait().unwrap().remove(0)
    }

    pub(crate) fn outputs(&self, number: u8) -> Option<Bytes> {
        self.store().outputs(&[job(number)]).wait().unwrap().remove(0)
    }

    pub(crate) fn spec(&self, number: u8) -> Option<SpecRecord> {
        self.store().specs(&[job(number)]).wait().unwrap().remove(0)
    }

    pub(crate) fn failure_record(&self, number: u8) -> Option<FailureRecord> {
        self.store().failures(&[failure(number)]).wait().unwrap().remove(0)
    }

    /// All pages of a list, each checked for its bounds.
    pub(crate) fn pages(&self, query: &FinishedQuery) -> Vec<FinishedPage> {
        all_pages(&**self.store(), query)
    }

    /// The finish numbers of all jobs of a list.
    pub(crate) fn listed(&self, query: &FinishedQuery) -> Vec<u64> {
        let pages = self.pages(query);
        pages.iter().flat_map(|page| &page.jobs).map(|job| job.finish_number.0).collect()
    }
}

/// Those that wait for a job, beginning after one of them.
pub(crate) fn dependents(store: &dyn Reads, number: u8, after: Option<JobId>, limit: usize) -> Vec<JobId> {
    let after = after.map(|dependent| Edge { job: job(number), dependent });
    let edges = store.dependents(&[job(number)], after, limit).wait().unwrap();
    edges.into_iter().map(|edge| edge.dependent).collect()
}

/// All pages of a list, each checked for its bounds.
pub(crate) fn all_pages(store: &dyn Reads, query: &FinishedQuery) -> Vec<FinishedPage> {
    let mut pages = Vec::new();
    let mut after = query.after;
    loop {
        let page = store.list_finished(&FinishedQuery { after, ..query.clone() }).wait().unwrap();
        assert!(page.jobs.len() <= query.limit, "{page:?}");
        assert!(page.entries_read <= query.limit + 1, "{page:?}");
        let next = page.next;
        if let (Some(before), Some(next)) = (after, next) {
            assert!(next < before, "the list goes on: {page:?}");
        }
        pages.push(page);
        match next {
            Some(_) => after = next,
            None => return pages,
        }
    }
}
