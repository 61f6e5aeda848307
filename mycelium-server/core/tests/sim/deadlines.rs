//! Jobs that are to be started, or to end, in time, and those that wait for a moment.
//!
//! Moments are stored, and are those of the wall clock, which somebody may set. Nothing happens before its moment by that
//! clock, nor before as much time as there was to go has passed by the clock that nobody sets, while the broker runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mycelium_core::effects::{Effects, End, FailedBy, JobRecord, Verdict};
use mycelium_core::ids::{Clocks, JobId, Steady, Timestamp, Token};
use mycelium_core::policy::Timeouts;
use mycelium_core::status::ExpiredWhy;

use super::evaluator::{Kind, kind};
use super::store::Store;

/// How much longer than it may an attempt runs before the broker ends it.
pub(crate) const RUN_MARGIN: Duration = Duration::from_millis(500);
/// How late something may be, after the broker stood still.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How much later if the wall clock was set back, and forwards again.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Delay,
    Queue,
    Total,
}

/// A moment that is waited for.
#[derive(Debug, Clone, Copy)]
struct Due {
    moment: Timestamp,
    /// When it comes if nobody sets the clock.
    at: Steady,
}

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// What is waited for since the broker began.
    due: BTreeMap<(JobId, Timer), Due>,
    /// When each attempt was started by the process that runs it.
    started: BTreeMap<Token, u64>,
    /// When each has last said how far it is.
    reported: BTreeMap<Token, u64>,
    /// Those that the broker has ended by time.
    overrun: BTreeSet<Token>,
    /// Moments that have come since the broker began.
    has_come: BTreeSet<(JobId, Timer, Timestamp)>,
    /// When the wall clock was set last.
    set_at: Option<Steady>,
}

/// What a job says of how long things may take. Most say nothing; one with a list has no time of its own.
pub(crate) fn timeouts(id: JobId) -> Timeouts {
    let (queue, total) = (Some(Duration::from_secs(4)), Some(Duration::from_secs(25)));
    match id.as_bytes()[12] % 24 {
        _ if kind(id) == Kind::List => Timeouts::default(),
        0 => Timeouts { queue, ..Timeouts::default() },
        1 => Timeouts { total, ..Timeouts::default() },
        2 => Timeouts { queue, total, ..Timeouts::default() },
        3..6 => Timeouts { run: Some(Duration::from_secs(2)), ..Timeouts::default() },
        6 => Timeouts { progress: Some(Duration::from_secs(2)), ..Timeouts::default() },
        _ => Timeouts::default(),
    }
}

impl Deadlines {
    /// Nothing expires before its time, and nothing for want of a start that was started.
    pub(crate) fn nothing_expires_early(&mut self, before: &Store, effects: &Effects, now: Clocks) {
        for failed in &effects.failed {
            self.is_overrun(Token { job: failed.job, attempt: failed.attempt }, failed.by, now.steady);
        }
        for write in &effects.jobs {
            let says = timeouts(write.id);
            if let JobRecord::Live(live) = &write.after
                && (write.created.is_some() || write.revived.is_some())
            {
                let ends_by = says.total.map(|total| now.wall.after(total));
                same!(NothingEarly, live.expires_at, ends_by, "when job {} is to end", write.id);
            }
            let JobRecord::Finished(finished) = &write.after else { continue };
            if let End::Failed(by) = finished.end {
                self.is_overrun(Token { job: write.id, attempt: finished.attempt }, by, now.steady);
            }
            let End::Expired(why) = finished.end else {
                self.forget(write.id);
                continue;
            };
            let live = before.live.get(&write.id);
            let (timer, moment) = match why {
                ExpiredWhy::Total => (Timer::Total, live.and_then(|live| live.expires_at)),
                ExpiredWhy::Queue => {
                    let queued_at = live.and_then(|live| live.queued_at);
                    (Timer::Queue, queued_at.zip(says.queue).map(|(at, queue)| at.after(queue)))
                }
            };
            let Some(moment) = moment else {
                broken!(NothingEarly, "job {} has no such time: {why:?}", write.id)
            };
            self.is_not_early(write.id, timer, moment, now);
            let started = live.and_then(|live| live.running?.started).filter(|_| why == ExpiredWhy::Queue);
            same!(NothingEarly, started, None, "job {} was started in time", write.id);
            self.forget(write.id);
        }
    }

    fn is_not_early(&self, job: JobId, timer: Timer, moment: Timestamp, now: Clocks) {
        if self.has_come.contains(&(job, timer, moment)) {
            return;
        }
        let early = moment.since(now.wall);
        holds!(NothingEarly, early.is_zero(), "{timer:?} of job {job} is {early:?} early by the wall clock");
        let due = self.due.get(&(job, timer)).filter(|due| due.moment == moment);
        let early = due.map(|due| due.at.since(now.steady)).unwrap_or_default();
        holds!(NothingEarly, early.is_zero(), "{timer:?} of job {job} is {early:?} early");
    }

    /// At the end of a batch a job waits for this moment, or for none. The broker stood still until then, the last time that it
    /// did; none: that nothing may come of the moment yet, however late it is.
    pub(crate) fn waits(
        &mut self,
        job: JobId,
        timer: Timer,
        moment: Option<Timestamp>,
        now: Clocks,
        stood_still_until: Option<Steady>,
    ) {
        let Some(moment) = moment else { return };
        let at = now.steady.after(moment.since(now.wall));
        let due = self.due.entry((job, timer)).or_insert(Due { moment, at });
        if due.moment != moment {
            *due = Due { moment, at };
        }
        if timer != Timer::Delay && due.at <= now.steady && moment <= now.wall {
            self.has_come.insert((job, timer, moment));
        }
        let Some(stood_still_until) = stood_still_until else { return };
        let (late_max, set_at) = match self.set_at {
            Some(set_at) => (LATE_MAX + LOOKS_AGAIN_AFTER, set_at),
            None => (LATE_MAX, Steady(0)),
        };
        let has_come = now.steady.before(now.wall.since(moment));
        let since = due.at.max(has_come).max(stood_still_until).max(set_at);
        let late = if moment <= now.wall { now.steady.since(since) } else { Duration::ZERO };
        holds!(NothingLate, late <= late_max, "{timer:?} of job {job} is {late:?} late");
    }

    /// At the end of a batch a job waits for no moment. Says whether it has waited for one.
    pub(crate) fn has_waited(&mut self, job: JobId, now: Clocks) -> bool {
        let Some(due) = self.due.get(&(job, Timer::Delay)).copied() else { return false };
        self.is_not_early(job, Timer::Delay, due.moment, now);
        self.due.remove(&(job, Timer::Delay));
        self.has_come.insert((job, Timer::Delay, due.moment));
        true
    }

    /// A job waits for no moment, and what is stored of it is that it waits for one that has come.
    pub(crate) fn note_come(&mut self, job: JobId, moment: Option<Timestamp>, now: Clocks) {
        if let Some(moment) = moment.filter(|moment| *moment <= now.wall) {
            self.has_come.insert((job, Timer::Delay, moment));
        }
    }

    /// What is stored of a job is that it waits for that moment, and now that it does not.
    pub(crate) fn need_not_wait(&self, job: JobId, moment: Timestamp, now: Clocks) {
        self.is_not_early(job, Timer::Delay, moment, now);
    }

    /// Whether a moment has come that a job waited for.
    pub(crate) fn has_come(&self, job: JobId, timer: Timer, moment: Timestamp) -> bool {
        self.has_come.contains(&(job, timer, moment))
    }

    /// A job waits for its moment no more, whether that has come or not.
    pub(crate) fn begun_by_hand(&mut self, job: JobId) {
        self.due.remove(&(job, Timer::Delay));
    }

    fn forget(&mut self, job: JobId) {
        for timer in [Timer::Delay, Timer::Queue, Timer::Total] {
            self.due.remove(&(job, timer));
        }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_clock(&mut self, now: Steady) {
        self.set_at = Some(now);
    }

    /// The broker begins anew: it knows no more than what is stored.
    pub(crate) fn begin_anew(&mut self) {
        self.due.clear();
        self.has_come.clear();
    }

    /// A process starts an attempt.
    pub(crate) fn begins(&mut self, token: Token, now: u64) {
        self.started.insert(token, now);
    }

    /// An attempt says how far it is.
    pub(crate) fn reports(&mut self, token: Token, now: u64) {
        self.reported.insert(token, now);
    }

    /// Nothing is ended by time before its time and the margin are over, by the clock of the process that runs it: since it
    /// was started, or has said something.
    fn is_overrun(&mut self, token: Token, by: FailedBy, now: Steady) {
        let says = timeouts(token.job);
        let (has, time, since) = match by {
            FailedBy::TimedOut(run) => (says.run, run, &self.started),
            FailedBy::Silent(within) if self.reported.contains_key(&token) => {
                (says.progress, within, &self.reported)
            }
            FailedBy::Silent(within) => (says.progress, within, &self.started),
            FailedBy::Reported(_) | FailedBy::ElvesLost(_) => return,
        };
        same!(NothingEarly, has, Some(time), "the time that {token:?} has");
        let Some(since) = since.get(&token) else {
            broken!(NothingEarly, "{token:?} was ended by time, and never begun")
        };
        let early = Steady(*since).after(time + RUN_MARGIN).since(now);
        holds!(NothingEarly, early.is_zero(), "{token:?} was ended by time {early:?} early");
        self.overrun.insert(token);
    }

    /// What comes of an attempt that was ended by time is not taken.
    pub(crate) fn what_is_late_changes_nothing(&self, token: Token, verdict: Verdict) {
        let is_taken = matches!(verdict, Verdict::Recorded | Verdict::Refused);
        let is_over = self.overrun.contains(&token);
        holds!(OneOutcome, !(is_taken && is_over), "{token:?} is taken after its time: {verdict:?}");
    }
}
