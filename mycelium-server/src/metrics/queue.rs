//! How long jobs wait for a process, from when they are READY and may begin to ASSIGNED.
//!
//! The core does not keep since when a job is READY: ten million of them wait in one broker. So it is noted here, of as many
//! as there is room for. When more wait, a part of all jobs is timed that is chosen by their ids, until none waits any more.

use std::collections::HashMap;
use std::time::Duration;

use mycelium_core::effects::Change;
use mycelium_core::ids::{JobId, Steady};
use mycelium_core::status::Status;

/// Of how many jobs it is known since when they wait: 300 KB.
const TIMED_MAX: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Queue {
    since: HashMap<JobId, Steady>,
    /// Jobs are timed whose last byte has none of these bits.
    left_out: u8,
    /// Whether all are timed that were not left out: one that is not known here has not waited.
    is_complete: bool,
}

impl Queue {
    /// Nothing is known of the jobs that are READY now.
    pub(super) fn begin(&mut self, ready: u64) {
        *self = Self { is_complete: ready == 0, ..Self::default() };
    }

    /// A job is given to a process: how long it has waited, if it is one of those that are timed.
    pub(super) fn assigned(&mut self, job: JobId, now: Steady) -> Option<Duration> {
        if !self.times(job) {
            return None;
        }
        match self.since.remove(&job) {
            Some(since) => Some(now.since(since)),
            None => self.is_complete.then_some(Duration::ZERO),
        }
    }

    /// What has changed in a batch, after its assignments, and how many jobs are READY after it. `from`: when a job that is READY
    /// may begin.
    pub(super) fn changed(&mut self, changes: &[Change], ready: u64, from: impl Fn(JobId) -> Steady) {
        if ready == 0 {
            self.since.clear();
            (self.left_out, self.is_complete) = (0, true);
            return;
        }
        for change in changes {
            if change.status == Status::Ready {
                if self.times(change.job) {
                    self.since.entry(change.job).or_insert_with(|| from(change.job));
                }
            } else if !self.since.is_empty() {
                self.since.remove(&change.job);
            }
        }
        while self.since.len() > TIMED_MAX && self.left_out != u8::MAX {
            self.left_out = self.left_out << 1 | 1;
            let left_out = self.left_out;
            self.since.retain(|job, _| is_timed(*job, left_out));
        }
        if self.since.len() > TIMED_MAX {
            // Ids that were chosen so: nothing more is timed until none waits.
            *self = Self { left_out: u8::MAX, ..Self::default() };
        }
    }

    fn times(&self, job: JobId) -> bool {
        is_timed(job, self.left_out)
    }
}

fn is_timed(job: JobId, left_out: u8) -> bool {
    job.as_bytes().last().is_none_or(|last| last & left_out == 0)
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::{Attempt, FlowId};

    use super::*;

    fn job(number: u32) -> JobId {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        JobId::new(bytes)
    }

    fn change(job: JobId, status: Status) -> Change {
        Change { job, flow: FlowId::new([0; 16]), status, attempt: Attempt(1), end: None }
    }

    fn at(seconds: u64) -> Steady {
        Steady(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn who_waits_is_timed_and_who_did_not_wait_has_waited_for_nothing() {
        let mut queue = Queue::default();
        queue.begin(0);
        assert_eq!(queue.assigned(job(1), at(1)), Some(Duration::ZERO));
        queue.changed(&[change(job(1), Status::Assigned), change(job(2), Status::Ready)], 1, |_| at(1));
        queue.changed(&[change(job(2), Status::Ready)], 1, |_| at(3));
        assert_eq!(queue.assigned(job(2), at(5)), Some(Duration::from_secs(4)));
        queue.changed(&[change(job(2), Status::Assigned)], 0, |_| at(5));
        assert!(queue.since.is_empty());
    }

    #[test]
    fn who_is_not_to_begin_yet_waits_from_then_on() {
        let mut queue = Queue::default();
        queue.begin(0);
        let ready = [change(job(1), Status::Ready), change(job(2), Status::Ready)];
        queue.changed(&ready, 2, |_| at(3_600));
        assert_eq!(queue.assigned(job(1), at(3_601)), Some(Duration::from_secs(1)));
        assert_eq!(queue.assigned(job(2), at(5)), Some(Duration::ZERO), "it was told to begin sooner");
    }

    #[test]
    fn of_those_that_waited_before_nothing_is_said() {
        let mut queue = Queue::default();
        queue.begin(2);
        assert_eq!(queue.assigned(job(1), at(1)), None);
        queue.changed(&[change(job(1), Status::Assigned), change(job(3), Status::Ready)], 2, |_| at(1));
        assert_eq!(queue.assigned(job(3), at(2)), Some(Duration::from_secs(1)), "this one came later");
        queue.changed(&[change(job(3), Status::Assigned)], 0, |_| at(2));
        assert_eq!(queue.assigned(job(4), at(2)), Some(Duration::ZERO), "all of them are gone");
    }

    #[test]
    fn of_many_a_part_is_timed_until_none_waits() {
        let mut queue = Queue::default();
        queue.begin(0);
        let n = u32::try_from(TIMED_MAX).unwrap() * 3;
        let ready: Vec<Change> = (0..n).map(|number| change(job(number), Status::Ready)).collect();
        queue.changed(&ready, n.into(), |_| at(1));
        assert!(queue.since.len() <= TIMED_MAX, "{}", queue.since.len());
        let timed = (0..n).filter_map(|number| queue.assigned(job(number), at(2))).collect::<Vec<_>>();
        assert_eq!((timed.len(), timed[0]), (TIMED_MAX * 3 / 4, Duration::from_secs(1)));
        let same_end = |number: u32| change(job(number << 8), Status::Ready);
        queue.changed(&(0..n).map(same_end).collect::<Vec<_>>(), n.into(), |_| at(2));
        assert!(queue.since.is_empty(), "ids that were chosen take no more memory");
        queue.changed(&[], 0, |_| at(3));
        assert_eq!(queue.assigned(job(1), at(3)), Some(Duration::ZERO));
    }
}
