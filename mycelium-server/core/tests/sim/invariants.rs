//! What must hold whatever happens: each promise has a name, and what finds it broken says which it is.

use std::cell::Cell;
use std::fmt::Arguments;

names! {
    /// A promise.
    Invariant {
        AcknowledgedIsKept: "a job whose submission was acknowledged is kept until it is deleted",
        OneOutcome: "one outcome of a job is accepted, and one more for each retry: that of who holds the attempt",
        DurableFirst: "nothing is dispatched before the store has it, and no attempt twice",
        FinalStays: "a final state changes only by a retry, of what did not end well",
        WindowsKept: "no process holds more jobs than its window takes, or than keep it busy",
        NothingEarly: "no timer fires early, by the store's clock or by the one that nobody sets",
        NothingLate: "no timer fires later than by a bound",
        EndsInTime: "without faults every job ends within a bound, and the core comes to rest",
        CountsAgree: "what is counted is what counting anew gives, and every index fits every other",
        ExplainsTruly: "whoever asks why an unfinished job is where it is hears a reason, and the reason is true",
        RecordsFit: "what a commit stores fits what the store has, and a rebuilt core has all of it",
        SessionsKept: "a session is over when its lease is or its elf has left, and nobody else takes it over",
        HeldStays: "what a process holds is its own until it gives it back, leaves, or is lost",
        RecallsFit: "recalled is what was not started, of those who give back, and no more than others can start",
        AttemptsCount: "every attempt is recorded, and a job is tried again as its policy and its failure say",
        OrderKept: "a job runs after all it depends on, and if its evaluation lets it",
        FitsItsElf: "a job goes to those who offer it and take its arguments, and not again to who has turned it down",
        PausedWaits: "what is paused is not assigned",
        DeletedUnused: "nothing unfinished comes of what was deleted",
        InnocentsLive: "a job ends with its elves only if it was alone with them",
        DrainKept: "an instance that is told to drain is told, and gets no more jobs",
        ActionsCount: "how far an action is is stored with what it does, and counts that once",
        WaitsTold: "who waits for what only its own end lets run is told",
    }
}

thread_local! {
    /// How often each was checked.
    static CHECKED: Cell<[u64; Invariant::ALL.len()]> = const { Cell::new([0; Invariant::ALL.len()]) };
}

impl Invariant {
    /// It is about to be checked.
    pub(crate) fn check(self) {
        let mut checked = CHECKED.get();
        checked[self as usize] += 1;
        CHECKED.set(checked);
    }

    /// How often each was checked since this was asked last, on this thread.
    pub(crate) fn take_checked() -> [u64; Self::ALL.len()] {
        CHECKED.replace([0; Self::ALL.len()])
    }

    /// Panics, and names it.
    #[track_caller]
    pub(crate) fn is_broken(self, how: Arguments<'_>) -> ! {
        panic!("{self:?} ({}): {how}", self.says())
    }
}

/// Panics with the name of the invariant and what follows, if that does not hold.
macro_rules! holds {
    ($invariant:ident, $holds:expr, $($how:tt)+) => {{
        $crate::sim::Invariant::$invariant.check();
        if !$holds {
            $crate::sim::Invariant::$invariant.is_broken(format_args!($($how)+));
        }
    }};
}

/// As `holds`, if two things are the same.
macro_rules! same {
    ($invariant:ident, $left:expr, $right:expr, $($how:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                holds!($invariant, left == right, "{}: {left:?}, and not {right:?}", format_args!($($how)+))
            }
        }
    };
}

/// Panics with the name of the invariant and what follows.
macro_rules! broken {
    ($invariant:ident, $($how:tt)+) => {
        $crate::sim::Invariant::$invariant.is_broken(format_args!($($how)+))
    };
}
