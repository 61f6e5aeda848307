//! Signposts lead from a moment to a place in the list of finished jobs, so that a list bounded in time begins and ends
//! near what it is asked for.
//!
//! Finish numbers only rise, and the clock may be set back. A signpost (t, n) is set when the job numbered n finishes at
//! t, and none before it finished later; so no job up to n finished after t. Jobs behind it finished at t or later, but
//! for the stretches in which the clock was behind: these are noted beside the numbers of the store ([`Behind`]). Nothing
//! that is written is ever taken back, so a commit needs to know no more than the newest moment so far.

use std::ops::Bound;

use fjall::OwnedWriteBatch;
use mycelium_core::ids::{FinishNumber, Timestamp};

use super::codec::Head;
use super::keys::{catalog, index};
use super::tables::{Tables, View, end_of};
use crate::store::{Error, FinishedQuery, JobAfter, JobChange};

/// Every so many finish numbers, a signpost is set from the time to the number.
const DISTANCE: u64 = 256;
/// How many stretches are told apart. Two that are taken for one only make lists begin earlier than they need to.
const STRETCHES_MAX: usize = 16;

/// A stretch of jobs that finished when the clock was behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// The earliest moment in it.
    pub(super) lowest: Timestamp,
    /// The number of its last job.
    pub(super) last: FinishNumber,
}

impl Head {
    /// Notes the moments at which the jobs of a batch finished, and sets signposts to them.
    pub(super) fn note_finished(&mut self, jobs: &[JobChange], tables: &Tables, write: &mut OwnedWriteBatch) {
        let mut finishes: Vec<_> = jobs
            .iter()
            .filter_map(|change| match &change.after {
                JobAfter::Finished(finished) => Some((finished.finish_number, finished.finished_at)),
                JobAfter::Live(_) | JobAfter::Evaluate | JobAfter::Dropped => None,
            })
            .collect();
        finishes.sort_unstable();
        for (number, at) in finishes {
            if at < self.finished_until {
                self.note_behind(number, at);
                continue;
            }
            self.finished_until = at;
            if number.0.is_multiple_of(DISTANCE) {
                write.insert(&tables.index.keyspace, index::time(at, number).into_bytes(), b"");
            }
        }
    }

    fn note_behind(&mut self, number: FinishNumber, at: Timestamp) {
        if let Some(stretch) = self.behind.last_mut()
            && stretch.last.0.checked_add(1) == Some(number.0)
        {
            stretch.last = number;
            stretch.lowest = stretch.lowest.min(at);
            return;
        }
        self.behind.push(Behind { lowest: at, last: number });
        if self.behind.len() > STRETCHES_MAX {
            let oldest = self.behind.remove(0);
            if let Some(next) = self.behind.first_mut() {
                next.lowest = next.lowest.min(oldest.lowest);
            }
        }
    }

    /// A number from which on nothing finished before a moment, if that holds from `number` on but for the time that the
    /// clock was behind; `None` if it may be behind now.
    fn nothing_before(&self, moment: Timestamp, number: FinishNumber) -> Option<FinishNumber> {
        let behind = self.behind.iter().filter(|stretch| stretch.lowest < moment && stretch.last >= number);
        match behind.map(|stretch| stretch.last).max() {
            None => Some(number),
            // The next job may belong to it.
            Some(last) if last >= self.counters.finish => None,
            Some(last) => Some(FinishNumber(last.0.saturating_add(1))),
        }
    }
}

/// Finish numbers between which all jobs lie that can fit, both exclusive.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The newer one, at which the list begins.
    pub(super) begin: Option<FinishNumber>,
    /// The older one, at which it ends.
    pub(super) end: Option<FinishNumber>,
}

impl Bounds {
    /// Whether no number lies between them.
    pub(super) fn are_empty(self) -> bool {
        match (self.begin, self.end) {
            (Some(begin), Some(end)) => begin.0 <= end.0.saturating_add(1),
            (None, _) | (_, None) => false,
        }
    }
}

/// Finds where to begin and end. Reads up to two signposts, which are no entries of the list.
pub(super) fn bounds(view: &View<'_>, query: &FinishedQuery) -> Result<Bounds, Error> {
    let table = &view.tables.index;
    let number = |key: &[u8]| table.expect(key, index::time_number(key), "the key is too short");
    let mut begin = query.after;
    if let Some(before) = query.finished_before {
        // From the first signpost at `before` or later on, nothing finished earlier.
        let from = Bound::Included(index::time(before, FinishNumber(0)).into_bytes());
        if let Some(signpost) = view.range(table, from, end_of(&index::times())).next() {
            let signpost = number(&signpost?.0)?;
            let head = view.get::<Head>(&view.tables.catalog, catalog::COUNTERS, ())?.unwrap_or_default();
            if let Some(number) = head.nothing_before(before, signpost) {
                begin = Some(begin.map_or(number, |begin| begin.min(number)));
            }
        }
    }
    let mut end = None;
    if let Some(from @ Timestamp(1..)) = query.finished_from {
        // Up to the last signpost before `from`, nothing finished later.
        let all = Bound::Included(index::times());
        let to = Bound::Excluded(index::time(from, FinishNumber(0)).into_bytes());
        if let Some(signpost) = view.range(table, all, to).next_back() {
            end = Some(number(&signpost?.0)?);
        }
    }
    Ok(Bounds { begin, end })
}

#[cfg(test)]
mod tests {
    use mycelium_core::image::Counters;

    use super::*;

    fn behind(stretches: &[(u64, u64)], finish: u64) -> Head {
        let counters = Counters { finish: FinishNumber(finish), ..Counters::default() };
        let mut head = Head { counters, ..Head::default() };
        stretches.iter().for_each(|(number, at)| head.note_behind(FinishNumber(*number), Timestamp(*at)));
        head
    }

    #[test]
    fn a_list_begins_behind_the_stretches_that_matter() {
        let head = behind(&[(10, 500), (11, 400), (12, 450), (40, 900)], 100);
        assert_eq!(head.behind.len(), 2);
        let begins = |moment, number| head.nothing_before(Timestamp(moment), FinishNumber(number));
        assert_eq!(begins(400, 5), Some(FinishNumber(5)), "nothing in them is earlier");
        assert_eq!(begins(401, 5), Some(FinishNumber(13)));
        assert_eq!(begins(901, 5), Some(FinishNumber(41)));
        assert_eq!(begins(901, 41), Some(FinishNumber(41)), "they are over");
        let now = behind(&[(10, 500)], 10);
        assert_eq!(now.nothing_before(Timestamp(501), FinishNumber(5)), None, "the next may be earlier too");
    }

    #[test]
    fn a_clock_that_is_set_back_again_and_again_takes_no_more_room() {
        let stretches: Vec<_> = (1..100).map(|time| (10 * time, 1_000 - time)).collect();
        let head = behind(&stretches, 2_000);
        assert_eq!(head.behind.len(), STRETCHES_MAX);
        // Whatever is taken together leaves nothing out.
        for (number, at) in stretches {
            let begin = head.nothing_before(Timestamp(at + 1), FinishNumber(1));
            assert!(begin > Some(FinishNumber(number)), "{begin:?} leaves out {number}");
        }
    }
}
