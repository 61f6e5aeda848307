//! Everything that is due at some moment, in one table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::ids::{Clocks, Steady, Timestamp};
use crate::index::{SessionIdx, Slot, SubmissionIdx};
use crate::invariants::{InvariantViolation, check};

/// What is timed. Each has one moment at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// The lease of a session runs out.
    Lease(SessionIdx),
    /// Assignments of a session that its last stream has not confirmed go back to their queues.
    Unconfirmed(SessionIdx),
    /// It is looked for jobs that wait for their own ancestors.
    Waits,
    /// The pause of a job that was handed back again and again is over.
    Pause(Slot),
    /// A job does not wait for its moment any more.
    Delay(Slot),
    /// A job has not been started in time.
    Queue(Slot),
    /// A job has not ended in time.
    Total(Slot),
    /// An attempt has run for longer than it may, and its process has not ended it.
    Run(Slot),
    /// A submission has waited too long for its next part.
    Idle(SubmissionIdx),
}

impl TimerKey {
    fn is_lease(self) -> bool {
        match self {
            Self::Lease(_) => true,
            Self::Unconfirmed(_)
            | Self::Waits
            | Self::Pause(_)
            | Self::Delay(_)
            | Self::Queue(_)
            | Self::Total(_)
            | Self::Run(_)
            | Self::Idle(_) => false,
        }
    }

    /// Whether any number of these may be due at one moment.
    pub(crate) fn is_of_job_deadline(self) -> bool {
        matches!(self, Self::Delay(_) | Self::Queue(_) | Self::Total(_) | Self::Run(_))
    }

    /// Whether the time in which the shell stood still does not count for it.
    fn stands_still(self) -> bool {
        match self {
            Self::Lease(_)
            | Self::Unconfirmed(_)
            | Self::Waits
            | Self::Pause(_)
            | Self::Run(_)
            | Self::Idle(_) => true,
            Self::Delay(_) | Self::Queue(_) | Self::Total(_) => false,
        }
    }
}

/// Keys, each with a moment by the same clock.
#[derive(Debug, Default)]
struct Table {
    by_time: BTreeSet<(Steady, TimerKey)>,
    by_key: BTreeMap<TimerKey, Steady>,
}

impl Table {
    fn first(&self) -> Option<Steady> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Says whether it was not there.
    fn set(&mut self, key: TimerKey, at: Steady) -> bool {
        let before = self.by_key.insert(key, at);
        if before == Some(at) {
            return false;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key));
        }
        self.by_time.insert((at, key));
        before.is_none()
    }

    /// Says whether it was there.
    fn cancel(&mut self, key: TimerKey) -> bool {
        let Some(at) = self.by_key.remove(&key) else { return false };
        self.by_time.remove(&(at, key))
    }

    fn due(&self, now: Steady) -> impl Iterator<Item = TimerKey> {
        self.by_time.iter().take_while(move |(at, _)| *at <= now).map(|&(_, key)| key)
    }
}

/// The moments at which something is due. For most of it they are moments by a clock that leaves out the time in which the
/// shell stood still: it could hear nobody then, so that time counts for nobody's lease.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By the clock that leaves out that time.
    attended: Table,
    /// By the shell's clock.
    other: Table,
    /// How many of them are leases.
    leases: usize,
    #[cfg(feature = "planted-bugs")]
    planted: Option<PlantedBug>,
    /// How long the shell has stood still, all in all. A stall is one addition, however much is timed.
    stood_still: Duration,
}

impl Timers {
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "it has the bugs that are planted")
    )]
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            #[cfg(feature = "planted-bugs")]
            planted: config.planted,
            ..Self::default()
        }
    }

    /// The shell stood still for so long.
    pub(crate) fn stall(&mut self, by: Duration) {
        self.stood_still += by;
    }

    /// What the shell's clocks show, with the time left out in which it stood still.
    pub(crate) fn attended(&self, now: Clocks) -> Clocks {
        Clocks { steady: now.steady.before(self.stood_still), ..now }
    }

    /// When the first is due, by the shell's clock.
    pub(crate) fn next_deadline(&self) -> Option<Steady> {
        let attended = self.attended.first().map(|at| at.after(self.stood_still));
        attended.into_iter().chain(self.other.first()).min()
    }

    /// When this one is due, by the shell's clock.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Steady> {
        match key.stands_still() {
            true => self.attended.by_key.get(&key).map(|at| at.after(self.stood_still)),
            false => self.other.by_key.get(&key).copied(),
        }
    }

    /// It is due then, by the attended clock, and not when it was before.
    pub(crate) fn set(&mut self, key: TimerKey, at: Steady) {
        let is_new = match key.stands_still() {
            true => self.attended.set(key, at),
            false => self.other.set(key, at.after(self.stood_still)),
        };
        self.leases += usize::from(is_new && key.is_lease());
    }

    /// It is due when that moment of the wall clock comes, as the clocks stand to each other now; unless it is timed already: as
    /// much is to pass as there was when it was first waited for, whatever somebody has set the wall clock to since.
    pub(crate) fn set_at(&mut self, now: Clocks, key: TimerKey, moment: Timestamp) {
        let is_timed = self.deadline(key).is_some();
        #[cfg(feature = "planted-bugs")]
        let is_timed = is_timed && self.planted != Some(PlantedBug::TimedAnew);
        #[cfg(feature = "planted-bugs")]
        let moment = match self.planted {
            Some(PlantedBug::FiresLate) => moment.after(Duration::from_secs(30)),
            _ => moment,
        };
        if !is_timed {
            self.set(key, now.steady.after(moment.since(now.wall)));
        }
    }

    /// It is due then, unless it is due before.
    pub(crate) fn set_earlier(&mut self, key: TimerKey, at: Steady) {
        let before = self.deadline(key).map(|before| before.before(self.stood_still));
        self.set(key, before.map_or(at, |before| at.min(before)));
    }

    /// It is not due any more.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        let was_there = match key.stands_still() {
            true => self.attended.cancel(key),
            false => self.other.cancel(key),
        };
        self.leases -= usize::from(was_there && key.is_lease());
    }

    /// What is due by now, in order; of that which stands still with the shell.
    pub(crate) fn due(&self, now: Steady) -> impl Iterator<Item = TimerKey> {
        self.attended.due(now)
    }

    /// Takes out the first that is due by now, by the attended clock.
    pub(crate) fn pop_due(&mut self, now: Steady) -> Option<TimerKey> {
        let other = self.other.due(now.after(self.stood_still)).next();
        let key = self.attended.due(now).next().or(other)?;
        self.cancel(key);
        Some(key)
    }

    /// How many leases there are.
    pub(crate) fn leases(&self) -> usize {
        self.leases
    }

    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        for table in [&self.attended, &self.other] {
            let (by_time, by_key) = (table.by_time.len(), table.by_key.len());
            let say = || format!("{by_time} of {by_key}");
            check(by_time == by_key, "every timer is kept by its moment", say)?;
        }
        Ok(())
    }

    /// All that is timed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = TimerKey> {
        self.attended.by_key.keys().chain(self.other.by_key.keys()).copied()
    }
}
