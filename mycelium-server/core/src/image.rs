//! What the core keeps in the store and is rebuilt from.

use std::sync::Arc;

use crate::ids::{
    ActionId, Attempt, Build, Commit, ContentDigest, FailureId, FinishNumber, FlowId, FlowNumber, InstanceId,
    JobId, JobNumber, PolicyId, Revision, SecretDigest, SessionId, SubmissionId, Timestamp, Token,
};
use crate::labels::Labels;
use crate::policy::PolicyRecord;
use crate::signature::Shape;
use crate::status::FinalCounts;

/// The numbers that only rise, stored with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The commit that stored them.
    pub commit: Commit,
    /// The newest job number given out.
    pub job: JobNumber,
    /// The newest flow number given out.
    pub flow: FlowNumber,
    /// The newest finish number given out.
    pub finish: FinishNumber,
    /// The newest session given out.
    pub session: SessionId,
}

/// What a job is from its submission on, whatever becomes of it. Every record of a job begins with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobHead {
    /// Its id.
    pub id: JobId,
    /// Its flow.
    pub flow: FlowId,
    /// Its elf.
    pub elf: Arc<str>,
    /// Its task.
    pub task: Arc<str>,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// Its labels.
    pub labels: Labels,
    /// The policy of its own by which it is retried and timed out; 0 if it has none. Of a finished job it may have been
    /// dropped.
    pub policy: PolicyId,
    /// Its place in the order of submission; 0 until the core has taken it in.
    pub number: JobNumber,
    /// When it was submitted; 0 until the core has taken it in.
    pub submitted_at: Timestamp,
    /// The names of its arguments.
    pub shape: Shape,
}

/// An unfinished job, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveJob {
    /// What it is.
    pub head: JobHead,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// The jobs it depended on when this was written, and that were not done then. Those that are no longer among
    /// the unfinished jobs are done or skipped now: had one ended otherwise, this job would have ended with it,
    /// or the store would hold an intent to do so ([`Image::propagations`]). The jobs that one with a list was expanded
    /// into are not among them: it is evaluated again.
    pub waits_for: Vec<JobId>,
    /// The submission it came with, if that had several parts and was not sealed when this was written. If
    /// [`Image::submissions`] does not have it, it was being dropped, and so is this job.
    pub submission: Option<SubmissionId>,
    /// Its newest attempt; 0 before the first.
    pub attempt: Attempt,
    /// How many of its attempts ended because their elf was lost.
    pub elves_lost: u32,
    /// In how many of those nothing else ran there.
    pub elves_lost_alone: u32,
    /// Jobs that can have been running beside it in those, the latest [`BESIDE_KEPT`].
    pub beside: Vec<JobId>,
    /// Whether it is evaluated when all it waits for has ended, before anything else: it has a condition or a list to
    /// be run over, or a job that it depends on was skipped.
    pub evaluate: bool,
    /// The attempt in an instance's hands, if one is.
    pub running: Option<Running>,
    /// Attempts before that one, the latest [`ATTEMPTS_KEPT`], in the order of their numbers.
    pub attempts: Vec<PastAttempt>,
    /// By when it is to have ended, or expires, if it is.
    pub expires_at: Option<Timestamp>,
    /// Since when it waits to be started, if it waits for that and is to be started in time.
    pub queued_at: Option<Timestamp>,
    /// How often it was tried in vain, and until when it waits.
    pub tries: Tries,
}

/// How often an unfinished job was tried in vain, and until when it waits before it is tried, or tried again. Of most jobs there
/// is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// How many of its attempts have failed since it was submitted, or brought back by hand.
    pub failed: u32,
    /// How many may, as it was when the last of those failed; 0 if none has.
    pub failed_max: u32,
    /// Before which moment it does not stand in its queue.
    pub not_before: Option<Timestamp>,
}

/// An attempt in an instance's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The session that holds it; 0 in records of jobs that finished before sessions were kept with them.
    pub session: SessionId,
    /// The process.
    pub instance: InstanceId,
    /// The task's revision there.
    pub revision: Revision,
    /// The program there.
    pub build: Build,
    /// When it was handed out.
    pub since: Timestamp,
    /// When it was started, as far as that is known; not before `since`. In records of before it was stored: `since`.
    pub started: Option<Timestamp>,
}

/// How many jobs are kept that ran beside one that was lost with its elf: the latest.
pub const BESIDE_KEPT: usize = 8;

/// How many attempts are kept of a job: the latest.
pub const ATTEMPTS_KEPT: usize = 16;

/// An attempt that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastAttempt {
    /// Its number.
    pub number: Attempt,
    /// Who held it.
    pub held: Running,
    /// When it was over.
    pub ended_at: Timestamp,
    /// How.
    pub how: AttemptEnd,
    /// With which failure, if it failed and its job was to be tried again.
    pub failure: Option<FailureId>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The task returned.
    Returned,
    /// It failed, its arguments could not be computed, or its outputs did not fit the task's declaration.
    Failed,
    /// Its job was cancelled.
    Cancelled,
    /// Its instance gave it back without an outcome, or said goodbye.
    HandedBack,
    /// Its instance did not have it: it never arrived, or was dropped.
    NotHeld,
    /// Its elf was lost, and can have started it.
    ElfLost,
    /// Its elf was lost, and cannot have started it.
    ElfLostBefore,
    /// Its time, or that of its job, was over.
    TimedOut,
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its id.
    pub id: FlowId,
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its place in the order of flows.
    pub number: FlowNumber,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many of its jobs have ended how.
    pub finished: FinalCounts,
    /// The attempt during which it was submitted, if a task has submitted it.
    pub on_behalf_of: Option<Token>,
    /// Whether it is not to be deleted.
    pub pinned: bool,
    /// When its values were deleted, if it is a stub: what is left of a flow that others came from.
    pub deleted_at: Option<Timestamp>,
}

/// A flow that is being deleted. From the commit that stores it until it is done or given up, nothing new comes to the flow
/// or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionRecord {
    /// The flow. It has no unfinished jobs.
    pub flow: FlowId,
    /// How far it is.
    pub stage: DeletionStage,
}

/// How far the deletion of a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeletionStage {
    /// It is looked for what uses the flow. All of the flow is there, and the deletion may be given up.
    Checking,
    /// All of it goes. Some may be gone already.
    Removing,
    /// A stub of it stays. Some values may be gone already.
    Stubbing,
}

/// What can be paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseTarget {
    /// All jobs.
    Mycelium,
    /// The jobs of an elf.
    Elf(Arc<str>),
    /// The jobs of a task of an elf.
    Task {
        /// The elf.
        elf: Arc<str>,
        /// The task.
        task: Arc<str>,
    },
    /// The jobs of a flow.
    Flow(FlowId),
}

/// A pause: until it is over, no job of its target is assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRecord {
    /// What is paused.
    pub target: PauseTarget,
    /// Since when.
    pub since: Timestamp,
    /// Who asked for it.
    pub by: Arc<str>,
    /// Why; empty if they did not say.
    pub reason: Arc<str>,
}

/// What an action does with the jobs that a filter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// It brings them back.
    Retry,
    /// It cancels them.
    Cancel,
    /// It deletes the flows that are made of them.
    Delete,
}

/// An action on many jobs, under way or over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRecord {
    /// Its id.
    pub id: ActionId,
    /// What it does.
    pub kind: ActionKind,
    /// With which jobs, as it was asked for.
    pub filter: Arc<str>,
    /// The flow that the filter names, if it names one.
    pub flow: Option<FlowId>,
    /// The failure that the filter names, if it names one.
    pub failure: Option<FailureId>,
    /// Who asked for it.
    pub by: Arc<str>,
    /// When.
    pub began_at: Timestamp,
    /// Jobs that finished later, by their finish number, are not touched; if it cancels: jobs that were submitted later, by
    /// their number.
    pub upto: u64,
    /// Where it goes on, in the order in which it goes through the jobs; 0: at the beginning.
    pub place: u64,
    /// How many jobs or flows there were to begin with, once they are counted.
    pub total: Option<u64>,
    /// With how many it is done.
    pub done: u64,
    /// How many were refused.
    pub refused: u64,
    /// When it was over, if it is.
    pub ended_at: Option<Timestamp>,
}

/// A session that was not over when the store last heard of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number.
    pub id: SessionId,
    /// The process.
    pub instance: InstanceId,
    /// The digest of its secret, if it has one.
    pub secret: Option<SecretDigest>,
}

/// A submission of several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionRecord {
    /// Its id.
    pub id: SubmissionId,
    /// Its flow.
    pub flow: FlowId,
    /// The next part expected.
    pub next_part: u32,
    /// Whether it is sealed; else its jobs wait.
    pub sealed: bool,
}

/// A job that did not end done, and whose dependents have not all ended yet: the propagation may span several
/// commits, and this tells a restarted core to go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropagationRecord {
    /// The job that ended.
    pub cause: JobId,
}

/// What a core is rebuilt from, but for the jobs, which are handed over one by one.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The numbers that only rise.
    pub counters: Counters,
    /// The flows of all unfinished jobs, at least.
    pub flows: Vec<FlowRecord>,
    /// The sessions.
    pub sessions: Vec<SessionRecord>,
    /// The submissions that unfinished jobs name ([`LiveJob::submission`]), at least, and all that are not sealed.
    pub submissions: Vec<SubmissionRecord>,
    /// The propagations of failures under way.
    pub propagations: Vec<PropagationRecord>,
    /// The policies of unfinished jobs, at least, and the newest.
    pub policies: Vec<PolicyRecord>,
    /// The flows that are being deleted.
    pub deletions: Vec<DeletionRecord>,
    /// The pauses.
    pub pauses: Vec<PauseRecord>,
    /// The actions under way, and the latest that are over.
    pub actions: Vec<ActionRecord>,
}
