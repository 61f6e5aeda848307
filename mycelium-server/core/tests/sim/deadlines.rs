//! Jobs that are to be started, or to end, in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mycelium_core::effects::{Effects, End, FailedBy, JobRecord, Verdict};
use mycelium_core::ids::{JobId, Timestamp, Token};
use mycelium_core::policy::Timeouts;
use mycelium_core::status::ExpiredWhy;

use super::evaluator::{Kind, kind};
use super::store::Store;

/// How much longer than it may an attempt runs before the broker ends it.
pub(crate) const RUN_MARGIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Since when each job is there, or back.
    there: BTreeMap<JobId, u64>,
    /// When each attempt was started by the process that runs it.
    started: BTreeMap<Token, u64>,
    /// Those that the broker has ended by time.
    overrun: BTreeSet<Token>,
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
        _ => Timeouts::default(),
    }
}

impl Deadlines {
    /// Nothing expires before its time, and nothing for want of a start that was started.
    pub(crate) fn nothing_expires_early(&mut self, before: &Store, effects: &Effects, now: u64) {
        for write in &effects.jobs {
            if write.created.is_some() || write.revived.is_some() {
                self.there.insert(write.id, now);
            }
            let JobRecord::Finished(finished) = &write.after else { continue };
            if let End::Failed(FailedBy::TimedOut(run)) = finished.end {
                self.is_overrun(Token { job: write.id, attempt: finished.attempt }, run, now);
            }
            let End::Expired(why) = finished.end else { continue };
            let says = timeouts(write.id);
            let live = before.live.get(&write.id);
            let (time, since) = match why {
                ExpiredWhy::Total => (says.total, None),
                ExpiredWhy::Queue => (says.queue, live.and_then(|live| live.queued_at)),
            };
            let time = time.unwrap_or_else(|| panic!("job {} has no such time: {why:?}", write.id));
            let begun =
                self.there.get(&write.id).copied().unwrap_or_else(|| panic!("{} is not there", write.id));
            let over = Timestamp(begun).max(since.unwrap_or_default()).after(time);
            assert!(over.0 <= now, "job {} expired {} us early: {why:?}", write.id, over.0 - now);
            let started = live.and_then(|live| live.running?.started).filter(|_| why == ExpiredWhy::Queue);
            assert_eq!(started, None, "job {} was started in time", write.id);
        }
    }

    /// A process starts an attempt.
    pub(crate) fn begins(&mut self, token: Token, now: u64) {
        self.started.insert(token, now);
    }

    /// Nothing is ended by time before its time and the margin are over, by the clock of the process that runs it.
    fn is_overrun(&mut self, token: Token, run: Duration, now: u64) {
        assert_eq!(timeouts(token.job).run, Some(run), "job {} has another time", token.job);
        let began = self.started.get(&token).copied();
        let began = began.unwrap_or_else(|| panic!("{token:?} was ended by time, and never begun"));
        let over = Timestamp(began).after(run + RUN_MARGIN);
        assert!(over.0 <= now, "{token:?} was ended by time {} us early", over.0 - now);
        self.overrun.insert(token);
    }

    /// What comes of an attempt that was ended by time is not taken.
    pub(crate) fn what_is_late_changes_nothing(&self, token: Token, verdict: Verdict) {
        let is_taken = matches!(verdict, Verdict::Recorded | Verdict::Refused);
        assert!(
            !(is_taken && self.overrun.contains(&token)),
            "{token:?} is taken after its time: {verdict:?}"
        );
    }
}
