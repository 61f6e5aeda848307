//! What can be set.

use std::time::Duration;

use crate::ids::EvaluationNumber;

/// The limits and durations of a core.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a session lives without a sign of life. Default: 30 s.
    pub lease: Duration,
    /// How much of its lease a session keeps at most when its stream breaks. Default: 6 s.
    pub lease_after_reset: Duration,
    /// Whether a session that was opened without a secret cannot be resumed. Default: false.
    pub secrets_required: bool,
    /// How many of a job's attempts may end because their elf was lost while nothing else ran there; with the last one the
    /// job ends FAILED. Default: 2.
    pub elves_lost_max: u32,
    /// How much longer than it may an attempt runs, or reports nothing, before the core ends it: its process ends it before,
    /// if it can. Default: 15 s.
    pub run_margin: Duration,
    /// How many unfinished jobs there may be, those of unsealed submissions included. Default: 10,000,000.
    pub unfinished_max: u64,
    /// How long a submission of several parts is kept without a further part. Default: 10 minutes.
    pub submission_idle_max: Duration,
    /// How many finished jobs are remembered, so that a repeated outcome is recognised and a submission that refers
    /// to them need not ask the store. Default: 65,536.
    pub finished_kept: usize,
    /// How many jobs one batch ends because of others, cancels, seals or drops at most; what is left is done in the next ones.
    /// A batch assigns at most four times as many. Default: 4,096; 0 is taken as 1.
    pub step_max: usize,
    /// How many evaluations are in the shell's hands at most; the other jobs that need one wait. Default: 256; 0 is
    /// taken as 1.
    pub evaluations_max: usize,
    /// Evaluations are numbered upwards from the one after this, so that the result of one that an earlier core of the
    /// same shell handed out is not taken for one of this core's. Default: 0.
    pub evaluations_after: EvaluationNumber,
    /// Seeds the hash of job ids. Without effect on what the core does. Default: 0; give something an attacker
    /// cannot know.
    pub hash_seed: u64,
    /// The guard to leave out.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<PlantedBug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            lease_after_reset: Duration::from_secs(6),
            secrets_required: false,
            elves_lost_max: 2,
            run_margin: Duration::from_secs(15),
            unfinished_max: 10_000_000,
            submission_idle_max: Duration::from_secs(10 * 60),
            finished_kept: 65_536,
            step_max: 4_096,
            evaluations_max: 256,
            evaluations_after: EvaluationNumber(0),
            hash_seed: 0,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

impl Config {
    /// How much one batch does of what is done in pieces.
    pub(crate) fn step_max(&self) -> usize {
        self.step_max.max(1)
    }

    /// How many evaluations are in the shell's hands at most.
    pub(crate) fn evaluations_max(&self) -> usize {
        self.evaluations_max.max(1)
    }
}

/// A guard of the scheduler that a test leaves out, to prove that the simulation finds its loss.
#[cfg(feature = "planted-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// An outcome is accepted for whichever attempt runs, on whichever session: attempts no longer fence.
    OutcomeNotFenced,
    /// The propagation of a failure that spans several commits is not stored, so that a restart forgets it.
    PropagationNotStored,
    /// The slot of a cancelled attempt in its instance's window is freed before the instance has released it.
    CancelledSlotFreedAtOnce,
    /// What an elf has told to be started does not count when it is lost.
    StartsDoNotCount,
    /// A stall of the shell moves no lease.
    StallCountsForLeases,
    /// Suspects run beside each other and beside everything else.
    SuspectsTogether,
    /// A job ends because it was lost often enough, whatever ran beside it.
    InnocentEnded,
    /// A job goes to whoever offers its task, whatever arguments it has.
    ShapeNotAsked,
    /// The values of a job's arguments are never held against a declaration that came later.
    ValuesNotJudged,
    /// A job goes back to a declaration that has turned it down.
    RefusalForgotten,
    /// A process that is gone ends the session that another stream has resumed since.
    GoneThoughResumed,
    /// What is not confirmed goes back to the queue although its elf has come back with it.
    UnconfirmedThoughResumed,
    /// With what is not confirmed, what has been confirmed goes back too.
    ConfirmedGivenAway,
    /// What is recalled is given to others before its elf has answered.
    RecalledGivenAway,
    /// What has been started is recalled.
    StartedRecalled,
    /// Every elf is taken to know of recalls.
    RecallNotAsked,
    /// More is recalled than those who have nothing to do can start.
    RecalledTooMuch,
    /// A session is given one job more than its window takes.
    WindowExceeded,
    /// A session is given as much as if its jobs took no time.
    PaceNotMeasured,
    /// Nobody is told of attempts that wait for themselves, unless they ask.
    WaitNotTold,
    /// Attempts that wait for themselves are not found.
    WaitNotFound,
    /// Jobs expire a second before their time.
    ExpiresEarly,
    /// An attempt is ended by the core at half of the time that it may run.
    RunEndedEarly,
    /// What attempts report does not count, so that they are ended for want of it.
    ReportsUnheard,
    /// The outcome of an attempt that the core has ended by time is taken.
    OverrunTaken,
    /// Jobs begin, or are tried again, a second before their moment.
    BeginsEarly,
    /// Attempts that have failed are not counted.
    FailuresNotCounted,
    /// A job is tried again whatever its failure says.
    AdviceNotTaken,
    /// A stream that the shell has ended shortens the lease as one that broke.
    LeaseShortenedByShell,
    /// A job is taken in that depends on one whose flow is being deleted, or is a stub.
    DeletedOriginTaken,
    /// What was read before a flow was deleted is taken for what is there.
    DeletionNotFenced,
    /// Jobs of a paused flow are assigned.
    PausedPlaced,
    /// Pauses are not stored, so that a restart forgets them.
    PauseNotStored,
    /// What is submitted and waits for others is not stored.
    SubmissionNotStored,
    /// That a job has gone to a process is not stored.
    DispatchNotStored,
    /// A job that is done is brought back by a retry.
    DoneRetried,
    /// A job that was brought back counts as finished too.
    RevivedStillCounts,
    /// Jobs expire, begin, and are tried again half a minute after their time.
    FiresLate,
    /// What a job waits for is set anew by the wall clock whenever the job moves.
    TimedAnew,
    /// An instance that is told to drain is given more.
    DrainedPlaced,
    /// How far an action is is not stored with what it does.
    ActionStepNotStored,
    /// A step of an action counts twice.
    ActionStepTwice,
    /// What waits for a moment is said to wait for a place.
    DelayNotExplained,
    /// A job of which one that it depends on was skipped runs, whether it needs that or not.
    SkippedNotEvaluated,
    /// What left its queue while its flow was paused does not come back when that is resumed.
    ResumedNotQueued,
}

#[cfg(feature = "planted-bugs")]
impl Config {
    /// Whether this guard is left out.
    pub(crate) fn leaves_out(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}
