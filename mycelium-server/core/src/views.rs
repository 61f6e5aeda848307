//! What the answers to questions look like.

use std::sync::Arc;

use crate::ids::{
    Attempt, ContentDigest, FailureId, FlowId, FlowNumber, InstanceId, JobNumber, SessionId, Steady,
    SubmissionId, Timestamp, Token,
};
use crate::image::{Counters, FlowRecord, JobHead, PauseRecord, Running, Tries};
use crate::index::Slot;
use crate::labels::Labels;
use crate::status::Status;

/// An unfinished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// What it is.
    pub head: JobHead,
    /// Where it stands; never final.
    pub status: Status,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// Its newest attempt; 0 before the first.
    pub attempt: Attempt,
    /// How many of its attempts ended because their elf was lost.
    pub elves_lost: u32,
    /// How many jobs it still waits for. 0 while it is about to end UPSTREAM_FAILED.
    pub waiting_for: u32,
    /// If it has been expanded over a list since the core was made: into how many jobs.
    pub elements: Option<u32>,
    /// Who holds it, if it is ASSIGNED or RUNNING.
    pub running: Option<Running>,
    /// The submission it waits for to be sealed, if that is what it waits for.
    pub unsealed: Option<SubmissionId>,
    /// When it expires, if it has not ended by then, or not been started if it waits for that.
    pub expires_at: Option<Timestamp>,
    /// How often it was tried in vain, and until when it waits.
    pub tries: Tries,
}

/// Why an unfinished job is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It waits for other jobs. Which ones the store knows: those of its dependencies that are not finished.
    WaitsForJobs {
        /// How many.
        count: u32,
    },
    /// What decides how it goes on is being computed, or waits for that.
    Evaluating {
        /// Whether that is the list of what the jobs of its elements returned.
        is_gathering: bool,
    },
    /// It was expanded over a list, and waits for the jobs of its elements.
    WaitsForElements {
        /// How many there are.
        elements: u32,
        /// How many of them have not ended.
        unfinished: u32,
        /// Some of those, at most 100.
        jobs: Vec<JobView>,
    },
    /// A job that it depends on did not end done, and it ends UPSTREAM_FAILED within moments.
    UpstreamFailing,
    /// It is cancelled within moments, with its flow.
    Cancelling,
    /// Its submission has not been sealed.
    NotSealed {
        /// The submission.
        submission: SubmissionId,
    },
    /// It was handed back again and again without an outcome, and is offered anew only after a pause.
    HandedBack {
        /// How often, since the core was made, counted up to 255.
        times: u32,
        /// When it returns to its queue, by the shell's clock for intervals.
        until: Steady,
    },
    /// It does not begin before its moment.
    Delayed {
        /// That moment.
        until: Timestamp,
    },
    /// An attempt of it has failed, and it is tried again after a while.
    BackingOff {
        /// How many have failed.
        failed: u32,
        /// How many may.
        failed_max: u32,
        /// The failure of the latest of those, if that is still kept.
        failure: Option<FailureId>,
        /// When it is tried again.
        until: Timestamp,
    },
    /// It waits for a place in a process, and all places there are held by the attempts on whose behalf it was submitted,
    /// directly or not, or by others that have submitted jobs which wait in the same way: if these wait for them, all wait
    /// for ever.
    HeldByAncestors {
        /// Those that hold them, its own first and the nearest of these before, at most 64.
        attempts: Vec<Token>,
    },
    /// Somebody has paused it.
    Paused {
        /// The pauses that keep it, the widest first.
        pauses: Vec<PauseRecord>,
    },
    /// No connected instance offers its task.
    NoInstance {
        /// How many connected instances serve the elf, with other tasks.
        instances: u32,
    },
    /// Connected instances offer its task, and none of them takes its arguments.
    NoFittingInstance {
        /// How many offer it.
        instances: u32,
        /// Some of those, the oldest sessions first, at most 16.
        some: Vec<(SessionId, InstanceId)>,
    },
    /// Connected instances offer its task and take its arguments, and all their windows are full.
    NoFreeWindow {
        /// How many offer it.
        instances: u32,
        /// How many of those drain: they take no more jobs.
        draining: u32,
        /// How many jobs of the elf they may hold together; of one that keeps its free places for another job, as many as it
        /// holds.
        window: u64,
        /// How many they hold, cancelled ones that they have not let go of included.
        held: u64,
        /// How many jobs of its task that they take as well stand before it, counted up to 1,000.
        jobs_before: u32,
    },
    /// It may be what ended the processes that it was lost with, and waits for one in which that can be told.
    Suspected {
        /// In how many it can have been started.
        elves_lost: u32,
        /// Whether it waits for one that runs nothing else; if not, for one that runs no other such job.
        isolated: bool,
        /// How many connected instances offer its task.
        instances: u32,
        /// If one is kept for it: which, and how many attempts that one still holds.
        kept: Option<(InstanceId, u32)>,
    },
    /// An instance holds it.
    Held {
        /// Who, since when.
        running: Running,
        /// Whether its stream is open.
        connected: bool,
    },
}

/// A flow in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowView {
    /// Its record, with the counts of its finished jobs.
    pub record: FlowRecord,
    /// How many of its jobs are PENDING; those of unsealed submissions do not count.
    pub pending: u64,
    /// How many are READY.
    pub ready: u64,
    /// How many are ASSIGNED.
    pub assigned: u64,
    /// How many are RUNNING.
    pub running: u64,
}

impl FlowView {
    /// How many of its jobs have not ended; those of unsealed submissions do not count.
    pub fn n_unfinished(&self) -> u64 {
        let Self { record: _, pending, ready, assigned, running } = self;
        pending + ready + assigned + running
    }
}

/// An elf in memory: one that has unfinished jobs or instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfView {
    /// The sessions that serve it, oldest first.
    pub instances: Vec<InstanceView>,
    /// How many of its jobs are READY.
    pub ready: u64,
    /// How many are ASSIGNED.
    pub assigned: u64,
    /// How many are RUNNING.
    pub running: u64,
}

/// An elf at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ElfCounts<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many of its jobs are READY.
    pub ready: u64,
    /// How many of those are not to begin before a moment that is to come.
    pub delayed: u64,
    /// How many are ASSIGNED.
    pub assigned: u64,
    /// How many are RUNNING.
    pub running: u64,
    /// How many processes serve it whose stream is open.
    pub connected: u64,
    /// How many jobs of it those may hold together that do not drain.
    pub window: u64,
    /// How many all its processes hold, those that are over for their job and that they have not let go of included.
    pub held: u64,
}

/// A session that serves an elf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceView {
    /// The session.
    pub session: SessionId,
    /// The process.
    pub instance: InstanceId,
    /// Whether its stream is open.
    pub connected: bool,
    /// Whether it takes no more jobs, and leaves.
    pub draining: bool,
    /// How many jobs of the elf it may hold; 0 while it drains.
    pub window: u32,
    /// How many it holds, those that are over for their job and that it has not let go of included.
    pub held: u32,
    /// In how many of its places something goes on that is over for its job: as it says, and of what it holds.
    pub occupied: u32,
}

/// The core at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs PENDING; those of unsealed submissions do not count.
    pub pending: u64,
    /// Jobs READY.
    pub ready: u64,
    /// Jobs ASSIGNED.
    pub assigned: u64,
    /// Jobs RUNNING.
    pub running: u64,
    /// Jobs whose submission is not sealed.
    pub unsealed: u64,
    /// Sessions alive, their stream open or not.
    pub sessions: u64,
    /// Outcomes refused as stale since the core was made.
    pub outcomes_stale: u64,
    /// The numbers that only rise, as of the newest batch.
    pub counters: Counters,
}

/// Which unfinished jobs to list. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only those of this flow.
    pub flow: Option<FlowId>,
    /// Only those of this elf.
    pub elf: Option<Arc<str>>,
    /// Only those of this task.
    pub task: Option<Arc<str>>,
    /// Only those with one of these statuses; empty: any.
    pub statuses: Vec<Status>,
    /// Only those with all of these labels.
    pub labels: Labels,
}

/// Where to go on in [`revisions_tried`](crate::Core::revisions_tried).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriedCursor(pub(crate) Slot);

/// Where a list goes on: after this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// The number of its flow.
    pub flow: FlowNumber,
    /// Its number.
    pub job: JobNumber,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Where to go on; `None` if there are no more.
    pub next: Option<ListCursor>,
}
