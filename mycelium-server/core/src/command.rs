//! What happens to the core: what came from outside, already decoded and bounded by the shell.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{
    AssignNumber, Attachment, Attempt, Build, Commit, ContentDigest, EvaluationNumber, FinishNumber, FlowId,
    InstanceId, JobId, RequestId, Revision, SecretDigest, SessionId, SubmissionId, Timestamp, Token,
};
use crate::image::{FlowRecord, JobHead, PastAttempt};
use crate::labels::Labels;
use crate::policy::Policy;
use crate::signature::{Judged, Signature};
use crate::status::FinalStatus;

mod action;
mod deletion;
mod drain;
mod outcome;
mod pause;

pub use action::{Action, ActionStep, ActionTo};
pub use deletion::{Delete, DeletionTo, Deletions, Pin};
pub use drain::Drain;
pub use outcome::{Advice, Failed, FailureClass, Outcome, OutcomeResult};
pub use pause::{Pause, Resume};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Command {
    /// Jobs were submitted.
    Submit(Submit),
    /// Jobs are to be cancelled.
    Cancel(Cancel),
    /// Jobs that wait for a moment are to begin at once.
    StartNow(StartNow),
    /// Finished jobs are to be brought back.
    Retry(Retry),
    /// Flows are to be deleted.
    Delete(Delete),
    /// Deletions of flows have come further.
    Deletions(Deletions),
    /// Flows are to be kept from being deleted, or no longer.
    Pin(Pin),
    /// Something is to be paused.
    Pause(Pause),
    /// Something is to be resumed.
    Resume(Resume),
    /// An instance is to drain.
    Drain(Drain),
    /// An action on many jobs begins, or comes further.
    Action(Action),
    /// An instance said hello.
    Hello(Hello),
    /// The stream of a session closed; the session lives on until its lease runs out.
    StreamClosed {
        /// The session.
        session: SessionId,
        /// How it ended.
        end: StreamEnd,
    },
    /// The process of a session is gone, as the shell has seen, and it has no stream: nobody will resume it.
    ProcessGone {
        /// The session.
        session: SessionId,
    },
    /// An instance said how many jobs it will hold for an elf.
    SetWindow {
        /// Its session.
        session: SessionId,
        /// The elf.
        elf: Arc<str>,
        /// The most jobs it will hold.
        window: Window,
    },
    /// An instance gave a sign of life.
    Heartbeat {
        /// Its session.
        session: SessionId,
        /// Every attempt it holds, outcomes not yet acknowledged included.
        held: Vec<Token>,
        /// The highest assignment that is known to have reached it.
        received: AssignNumber,
    },
    /// An instance has started attempts. Those that it does not hold, or has told of before, change nothing.
    Starts {
        /// Its session.
        session: SessionId,
        /// The attempts, and when they were started.
        starts: Vec<Start>,
    },
    /// Attempts have reported how far they are. Those that the instance does not hold change nothing.
    Reports {
        /// The session of their instance.
        session: SessionId,
        /// The attempts.
        tokens: Vec<Token>,
    },
    /// An instance reported what became of attempts.
    Outcomes {
        /// Its session.
        session: SessionId,
        /// What became of them.
        outcomes: Vec<Outcome>,
    },
    /// The arguments of an assigned attempt could not be computed, so it was never sent.
    ArgumentsFailed {
        /// The session it was assigned to.
        session: SessionId,
        /// The attempt.
        token: Token,
        /// The failure, held by the shell.
        failure: Attachment,
    },
    /// The arguments of an assigned attempt do not fit what the instance declares, so it was never sent. The job goes back
    /// uncounted, and not to that declaration again.
    Unfit {
        /// The session it was assigned to.
        session: SessionId,
        /// The attempt.
        token: Token,
    },
    /// The arguments of assigned attempts take longer to compute: they are delayed, and what was assigned after them is
    /// sent before them.
    ArgumentsDelayed {
        /// The session they were assigned to.
        session: SessionId,
        /// The attempts.
        tokens: Vec<Token>,
    },
    /// The arguments of attempts that were delayed are there. Answered with [`Send::Ready`](crate::effects::Send).
    ArgumentsReady {
        /// The session they were assigned to.
        session: SessionId,
        /// The attempts.
        tokens: Vec<Token>,
    },
    /// Evaluations came to something.
    Evaluated {
        /// To what.
        evaluated: Vec<Evaluated>,
    },
    /// A message of an instance has arrived and is not applied yet: the instance is alive.
    Heard {
        /// Its session.
        session: SessionId,
    },
    /// The shell stood still, for a pause of its process or while its disk hung: it heard nobody, so all leases and the
    /// idle time of unsealed submissions move by so much.
    Stalled {
        /// How long; not more than has passed since the command before.
        by: Duration,
    },
    /// An instance takes no more jobs.
    Draining {
        /// Its session.
        session: SessionId,
    },
    /// An instance ended its session.
    Goodbye {
        /// Its session.
        session: SessionId,
    },
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// It broke, or its elf closed it without a goodbye. Whoever is alive comes back soon.
    Broken,
    /// The shell has ended it, for a reason of its own, which says nothing of its elf.
    ByShell,
    /// The shell has ended it because what was assigned is not confirmed by an elf that confirms, or that is silent.
    Unconfirmed {
        /// The highest assignment that is known to have reached it.
        received: AssignNumber,
    },
}

/// Jobs to be added to a flow.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Where the reply goes.
    pub request: RequestId,
    /// The flow.
    pub flow: FlowId,
    /// What it is, used if it is made now.
    pub new_flow: NewFlow,
    /// Which part of which submission it is; `None` if it is a submission of its own.
    pub part: Option<Part>,
    /// Set if they are jobs for elements of a list.
    pub elements: Option<Elements>,
    /// The jobs. Each id at most once.
    pub jobs: Vec<NewJob>,
    /// What the store knows of the flow and of jobs that the core may have forgotten.
    pub preconditions: Preconditions,
}

/// What a flow is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewFlow {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// The attempt during which it is submitted, if a task submits it.
    pub on_behalf_of: Option<Token>,
}

/// A part of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The submission.
    pub submission: SubmissionId,
    /// The part's number, from 0.
    pub index: u32,
    /// Whether it is the last.
    pub seal: bool,
}

/// For which elements of which list jobs are submitted. They come in order from the first, in one call or several, all
/// of them during one evaluation of the job that has the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// The job that has the list.
    pub of: JobId,
    /// The evaluation, under way.
    pub number: EvaluationNumber,
    /// The index of the first job's element, from 0.
    pub first: u32,
}

/// A job as the core sees it.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What it is. The core sets flow, number, moment and policy.
    pub head: JobHead,
    /// The jobs it depends on, each once.
    pub depends_on: Vec<JobId>,
    /// Whether it has a condition or a list to be run over.
    pub evaluate: bool,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// How the signatures of its task that the shell knows have judged the values of its arguments.
    pub judged: Judged,
    /// The policy of its own, if it has one.
    pub policy: Option<Arc<Policy>>,
    /// When it may begin, if it is to wait for that.
    pub begins: Begins,
    /// Its specification, held by the shell.
    pub spec: Attachment,
}

/// When a job may begin. If both are there, the later counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begins {
    /// Not before this moment.
    pub at: Option<Timestamp>,
    /// Not before it has been there for so long.
    pub after: Option<Duration>,
}

impl Begins {
    /// The moment that a job has to wait for which is submitted now, if it has to.
    pub(crate) fn moment(self, now: Timestamp) -> Option<Timestamp> {
        let after = self.after.map(|after| now.after(after));
        self.at.max(after).filter(|moment| *moment > now)
    }
}

/// What the store said, for commands that touch jobs or flows which the core may have forgotten.
///
/// The shell asks the store before it sends the command. The core refuses preconditions that are too old with
/// [`Refusal::PreconditionsStale`](crate::effects::Refusal::PreconditionsStale): then the shell asks again.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// The newest commit that the store had completed when it was asked.
    pub as_of: Commit,
    /// Of the jobs that the command names, those that the store has as finished.
    pub finished: Vec<KnownFinished>,
    /// The flow that the command names, if the store has it.
    pub flow: Option<FlowRecord>,
    /// The submission that the command names, if the store has it and it was sealed.
    pub submission_sealed: bool,
}

/// A finished job, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFinished {
    /// The job.
    pub id: JobId,
    /// The flow it belongs to.
    pub flow: FlowId,
    /// How it ended.
    pub status: FinalStatus,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// Whether its values have been deleted: its flow is a stub.
    pub is_stub: bool,
}

/// Jobs to cancel.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Where the reply goes.
    pub request: RequestId,
    /// Which jobs.
    pub scope: Scope,
    /// What the store knows of them.
    pub preconditions: Preconditions,
    /// The action that this is a step of.
    pub action: Option<ActionStep>,
}

/// Some jobs, or all unfinished ones of a flow.
#[derive(Debug, Clone)]
pub enum Scope {
    /// All unfinished jobs of a flow.
    Flow(FlowId),
    /// These jobs.
    Jobs(Vec<JobId>),
}

/// Jobs that wait for a moment, and are not to wait for it any more. Those that wait for other jobs too keep it.
#[derive(Debug, Clone)]
pub struct StartNow {
    /// Where the reply goes.
    pub request: RequestId,
    /// The jobs.
    pub jobs: Vec<JobId>,
    /// What the store knows of them.
    pub preconditions: Preconditions,
}

/// Finished jobs to bring back.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Where the reply goes.
    pub request: RequestId,
    /// The jobs that were named, each FAILED, CANCELLED, EXPIRED or UPSTREAM_FAILED in the store.
    pub jobs: Vec<RevivableJob>,
    /// The jobs that ended UPSTREAM_FAILED and depend on those, directly or not.
    pub dependents: Vec<RevivableJob>,
    /// What the store knows of the other jobs that all these depend on, and of their flows.
    pub preconditions: Preconditions,
    /// The flows of all these jobs, as the store has them.
    pub flows: Vec<FlowRecord>,
    /// The action that this is a step of.
    pub action: Option<ActionStep>,
}

/// A finished job with what the core needs to take it back.
#[derive(Debug, Clone)]
pub struct RevivableJob {
    /// What it is. It gets back its old place in the order of submission.
    pub head: JobHead,
    /// The jobs it depends on.
    pub depends_on: Vec<JobId>,
    /// Whether it has a condition or a list to be run over.
    pub evaluate: bool,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// The policy that it is to have of its own, if any: that of its head may be forgotten.
    pub policy: Option<Arc<Policy>>,
    /// The moment before which it is not to begin, if it has one. What is brought back waits for it, if it is still to come.
    pub begins_at: Option<Timestamp>,
    /// Its last attempt; the next one is higher.
    pub attempt: Attempt,
    /// Its attempts, as far as they are kept.
    pub attempts: Vec<PastAttempt>,
    /// How it ended.
    pub status: FinalStatus,
    /// Its number in the order of finishing, under which the store has indexed it.
    pub finish_number: FinishNumber,
}

/// An instance that opens a session, or resumes one.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Where the reply goes.
    pub request: RequestId,
    /// The process.
    pub instance: InstanceId,
    /// The program that it runs.
    pub build: Build,
    /// The session to go on with.
    pub resume: Option<SessionId>,
    /// The digest of the secret that it shows, if it shows one: what it has to be to resume a session that has one.
    pub secret: Option<SecretDigest>,
    /// The digest of the secret that the session gets if a new one is opened; `None`: none.
    pub secret_new: Option<SecretDigest>,
    /// The elves it serves, each once.
    pub elves: Vec<ElfOffer>,
    /// The attempts it holds.
    pub held: Vec<Token>,
    /// Whether it tells of the attempts that it starts; one that does not is taken to start them when they are assigned.
    pub tells_starts: bool,
    /// Whether it gives back what is recalled.
    pub knows_recall: bool,
    /// Whether it knows what it is to do when it is told to drain.
    pub knows_drain: bool,
    /// Its instance has to show the secret of the session that it resumes: one without a secret is not resumed, whatever the
    /// configuration says. Of those who say who they are, each is to have its own sessions.
    pub needs_secret: bool,
}

/// What an instance offers for one elf.
#[derive(Debug, Clone)]
pub struct ElfOffer {
    /// The elf.
    pub elf: Arc<str>,
    /// Its tasks, each once.
    pub tasks: Vec<TaskOffer>,
    /// How many jobs it will hold.
    pub window: Window,
}

/// A task that an instance offers.
#[derive(Debug, Clone)]
pub struct TaskOffer {
    /// The task.
    pub task: Arc<str>,
    /// Its revision there.
    pub revision: Revision,
    /// What it takes there.
    pub signature: Arc<Signature>,
    /// The policy that is declared for it there, if any.
    pub policy: Option<Arc<Policy>>,
}

/// How many jobs an instance will hold for an elf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The most it will hold, those not started included.
    pub jobs: u32,
    /// How many it runs at once, starting them in the order of assignment; 0 if not known.
    pub concurrency: u32,
    /// In how many of those places something goes on that is over, and that it cannot stop.
    pub occupied: u32,
}

impl Window {
    /// How many it can run at once as it stands; `None` if that is not known.
    pub(crate) fn places(self) -> Option<u32> {
        let known = Some(self.concurrency).filter(|concurrency| *concurrency > 0);
        known.map(|concurrency| concurrency.saturating_sub(self.occupied))
    }
}

#[cfg(feature = "planted-bugs")]
impl Window {
    /// Under this configuration.
    pub(crate) fn as_if(self, config: &crate::Config) -> Self {
        let more = u32::from(config.leaves_out(crate::PlantedBug::WindowExceeded) && self.jobs > 0);
        Self { jobs: self.jobs + more, concurrency: self.concurrency + more, ..self }
    }
}

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluated {
    /// The job.
    pub job: JobId,
    /// The evaluation.
    pub number: EvaluationNumber,
    /// To what.
    pub result: EvaluationResult,
}

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationResult {
    /// The job is to run.
    Run,
    /// It is skipped.
    Skip,
    /// It could not be computed; the failure is held by the shell.
    Failed(Attachment),
    /// The list was computed, and the jobs for its elements have all been submitted.
    Expanded {
        /// How many there are.
        elements: u32,
    },
    /// The list of what the jobs for its elements returned, held by the shell: the job's outputs.
    Gathered(Attachment),
    /// It could not be done now, and is to be tried again.
    Again,
}

/// An attempt that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The attempt.
    pub token: Token,
    /// How long ago.
    pub ago: Duration,
}
