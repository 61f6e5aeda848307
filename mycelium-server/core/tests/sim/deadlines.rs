//! Jobs that are to be started, or to end, in time.

use std::collections::BTreeMap;
use std::time::Duration;

use mycelium_core::effects::{Effects, End, JobRecord};
use mycelium_core::ids::{JobId, Timestamp};
use mycelium_core::policy::Timeouts;
use mycelium_core::status::ExpiredWhy;

use super::evaluator::{Kind, kind};
use super::store::Store;

/// Since when each job is there, or back.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeMap<JobId, u64>);

/// What a job says of how long things may take. Most say nothing; one with a list has no time of its own.
pub(crate) fn timeouts(id: JobId) -> Timeouts {
    let (queue, total) = (Some(Duration::from_secs(4)), Some(Duration::from_secs(25)));
    match id.as_bytes()[12] % 24 {
        _ if kind(id) == Kind::List => Timeouts::default(),
        0 => Timeouts { queue, ..Timeouts::default() },
        1 => Timeouts { total, ..Timeouts::default() },
        2 => Timeouts { queue, total, ..Timeouts::default() },
        _ => Timeouts::default(),
    }
}

impl Deadlines {
    /// Nothing expires before its time, and nothing for want of a start that was started.
    pub(crate) fn nothing_expires_early(&mut self, before: &Store, effects: &Effects, now: u64) {
        for write in &effects.jobs {
            if write.created.is_some() || write.revived.is_some() {
                self.0.insert(write.id, now);
            }
            let JobRecord::Finished(finished) = &write.after else { continue };
            let End::Expired(why) = finished.end else { continue };
            let says = timeouts(write.id);
            let live = before.live.get(&write.id);
            let (time, since) = match why {
                ExpiredWhy::Total => (says.total, None),
                ExpiredWhy::Queue => (says.queue, live.and_then(|live| live.queued_at)),
            };
            let time = time.unwrap_or_else(|| panic!("job {} has no such time: {why:?}", write.id));
            let begun = self.0.get(&write.id).copied().unwrap_or_else(|| panic!("{} is not there", write.id));
            let over = Timestamp(begun).max(since.unwrap_or_default()).after(time);
            assert!(over.0 <= now, "job {} expired {} us early: {why:?}", write.id, over.0 - now);
            let started = live.and_then(|live| live.running?.started).filter(|_| why == ExpiredWhy::Queue);
            assert_eq!(started, None, "job {} was started in time", write.id);
        }
    }
}
