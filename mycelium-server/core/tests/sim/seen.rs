//! What has happened in a run, so that a simulation in which something never happens does not pass.

use mycelium_core::effects::{Effects, End, FailedBy, FinishedJob, JobRecord};
use mycelium_core::status::ExpiredWhy;

names! {
    /// Something that happens.
    Seen {
        CommitFailed: "a commit failed, or the broker died before it",
        CommitUncertain: "a commit was applied, and nobody learned of it",
        SetForwards: "the wall clock was set forwards by an hour",
        SetBack: "the wall clock was set back by an hour",
        Stalled: "the broker stood still",
        StreamCut: "a stream broke",
        HoleToElf: "nothing reached an elf any more on its stream",
        HoleToBroker: "nothing reached the broker any more on a stream",
        HoleBothWays: "nothing reached anybody any more on a stream",
        StreamEndedByShell: "the shell ended a stream for a reason of its own",
        StreamEndedUnconfirmed: "the shell ended a stream on which nothing was confirmed",
        ElfKilled: "the process of an elf died",
        ElfLeft: "an elf said goodbye",
        HandedOver: "a process gave its session to another",
        StrangerCame: "somebody without the secret said hello in the place of another",
        WindowSet: "a window was set",
        MessageLost: "a message of the broker was lost",
        ReplyLost: "the answer to a client was lost",
        Asked: "a client asked",
        AskedAgain: "a client asked again",
        CommandTwice: "a command of a client came again, late",
        OutcomeTwice: "an outcome came again, late",
        ArgumentsLate: "the arguments of a job took longer to compute",
        Unfit: "the arguments of a job did not fit",
        Recalled: "an attempt was recalled",
        Notified: "an attempt was told that it may wait for itself",
        DrainAsked: "an instance was to drain",
        Drained: "an instance that was told to drain has left",
        ActionBegun: "an action on many jobs began",
        ActionStep: "an action came further",
        ActionEnded: "an action was over",
        Paused: "something was paused",
        FlowRemoved: "a flow was deleted",
        FlowStubbed: "a flow was deleted but for its edges",
        DeletionGivenUp: "a deletion was given up",
        Begun: "a job had to wait for its moment",
        TriedAgain: "a job was tried again",
        TimedOut: "an attempt was ended by time",
        Silent: "an attempt was ended that had not said how far it is",
        Revived: "a job was brought back by hand",
        Done: "a job was done",
        Skipped: "a job was skipped",
        Failed: "a job failed",
        LostWithElves: "a job ended with its elves",
        UpstreamFailed: "a job failed with another",
        Cancelled: "a job was cancelled",
        ExpiredInQueue: "a job was not started in time",
        ExpiredInTotal: "a job did not end in time",
        Gathered: "a job with a list was done",
    }
}

/// How often each has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts([u64; Seen::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Seen::ALL.len()])
    }
}

impl Counts {
    pub(crate) fn see(&mut self, seen: Seen) {
        self.0[seen as usize] += 1;
    }

    /// What a commit comes to.
    pub(crate) fn see_effects(&mut self, effects: &Effects) {
        for failed in &effects.failed {
            self.see(Seen::TriedAgain);
            match failed.by {
                FailedBy::TimedOut(_) => self.see(Seen::TimedOut),
                FailedBy::Silent(_) => self.see(Seen::Silent),
                FailedBy::Reported(_) | FailedBy::ElvesLost(_) => {}
            }
        }
        for write in &effects.jobs {
            if write.revived.is_some() {
                self.see(Seen::Revived);
            }
            let JobRecord::Finished(FinishedJob { end, elements, .. }) = &write.after else { continue };
            self.see(match end {
                End::Done(_) if elements.is_some() => Seen::Gathered,
                End::Done(_) => Seen::Done,
                End::Failed(FailedBy::Reported(_)) => Seen::Failed,
                End::Failed(FailedBy::TimedOut(_)) => Seen::TimedOut,
                End::Failed(FailedBy::Silent(_)) => Seen::Silent,
                End::Failed(FailedBy::ElvesLost(_)) => Seen::LostWithElves,
                End::UpstreamFailed(_) => Seen::UpstreamFailed,
                End::Cancelled => Seen::Cancelled,
                End::Expired(ExpiredWhy::Queue) => Seen::ExpiredInQueue,
                End::Expired(ExpiredWhy::Total) => Seen::ExpiredInTotal,
                End::Skipped => Seen::Skipped,
            });
        }
    }

    pub(crate) fn of(&self, seen: Seen) -> u64 {
        self.0[seen as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}
