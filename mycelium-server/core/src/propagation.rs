//! How failures spread: the walks through the jobs that depend on one that ended otherwise than done or skipped.
//!
//! Those jobs end UPSTREAM_FAILED, dependents before what they depend on. That order is what makes it safe to stop
//! anywhere: of a job that is no longer unfinished, and that no propagation names, all dependents have been dealt with,
//! so a core that is rebuilt may take it to be done or skipped. Only the job at the root breaks that rule while its
//! propagation is under way, and therefore one that outlives its batch is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use crate::config::Config;
use crate::effects::Records;
use crate::ids::JobId;
use crate::image::PropagationRecord;
use crate::index::Slot;
use crate::invariants::{InvariantViolation, check};
use crate::jobs::Edge;

/// A walk through the dependents of one job, depth first.
#[derive(Debug)]
struct Walk {
    /// The job that ended, under which the propagation is stored.
    failed: JobId,
    /// The job to name as the cause.
    cause: JobId,
    /// From the root to where the walk is.
    stack: Vec<Frame>,
}

impl Walk {
    fn new(failed: JobId, cause: JobId, edges: Vec<Edge>) -> Self {
        Self { failed, cause, stack: vec![Frame { job: None, edges, next: 0 }] }
    }
}

/// One job on the way, with its dependents.
#[derive(Debug)]
struct Frame {
    /// The job, which ends once its dependents have; `None` at the root.
    job: Option<Slot>,
    edges: Vec<Edge>,
    next: usize,
}

/// What is under way because of one job.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    /// How many walks, and jobs that wait to be sealed, belong to it.
    pieces: u64,
    /// Whether the store has it.
    is_stored: bool,
}

/// What a walk does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// It comes to a job.
    Visit {
        /// The job.
        edge: Edge,
        /// The job that it depends on; `None` if that is the one at the root.
        from: Option<Slot>,
        /// The job at the root.
        failed: JobId,
        /// The job to name as the cause.
        cause: JobId,
    },
    /// It leaves a job, which ends; `None`: the root.
    Leave {
        /// The job.
        job: Option<Slot>,
        /// The job to name as the cause.
        cause: JobId,
    },
}

/// All propagation of failures that is under way.
#[derive(Debug, Default)]
pub(crate) struct Propagation {
    /// Only the first has jobs that are failing: one is walked to its end before the next begins.
    walks: VecDeque<Walk>,
    open: BTreeMap<JobId, Open>,
    /// Those of which the batch has changed something.
    touched: BTreeSet<JobId>,
    /// Jobs that wait for one that did not end done, and whose submission is not sealed, each with the cause to name:
    /// they fail when it is, and vanish if it is dropped.
    unsealed: BTreeMap<(Slot, JobId), JobId>,
}

impl Propagation {
    /// Begins to end the dependents of a job that has ended.
    pub(crate) fn begin(&mut self, failed: JobId, cause: JobId, edges: Vec<Edge>) {
        if edges.is_empty() {
            return;
        }
        self.open_piece(failed);
        self.walks.push_back(Walk::new(failed, cause, edges));
    }

    /// Goes on with one that the store has.
    pub(crate) fn restore(&mut self, failed: JobId, edges: Vec<Edge>) {
        self.open.insert(failed, Open { pieces: 1, is_stored: true });
        self.walks.push_back(Walk::new(failed, failed, edges));
    }

    /// Whether a walk is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.walks.is_empty()
    }

    /// The cause that the walk names whose jobs are failing now.
    pub(crate) fn cause(&self) -> Option<JobId> {
        self.walks.front().map(|walk| walk.cause)
    }

    /// The next step; `None` if no walk is left.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let walk = self.walks.front_mut()?;
            let (failed, cause) = (walk.failed, walk.cause);
            let Some(frame) = walk.stack.last_mut() else {
                self.walks.pop_front();
                self.close_piece(failed);
                continue;
            };
            if let Some(&edge) = frame.edges.get(frame.next) {
                frame.next += 1;
                return Some(Step::Visit { edge, from: frame.job, failed, cause });
            }
            let job = frame.job;
            walk.stack.pop();
            return Some(Step::Leave { job, cause });
        }
    }

    /// The walk goes on through the dependents of a job, which ends after them.
    pub(crate) fn descend(&mut self, job: Slot, edges: Vec<Edge>) {
        if let Some(walk) = self.walks.front_mut() {
            walk.stack.push(Frame { job: Some(job), edges, next: 0 });
        }
    }

    /// An unsealed job waits for one that did not end done.
    pub(crate) fn await_seal(&mut self, job: Slot, failed: JobId, cause: JobId) {
        if self.unsealed.insert((job, failed), cause).is_none() {
            self.open_piece(failed);
        }
    }

    /// The job is sealed, or vanishes with its submission. Returns which that did not end done it waits for, each with
    /// the cause to name; for each, [`close_piece`](Self::close_piece) is due.
    pub(crate) fn take_unsealed(&mut self, job: Slot) -> Vec<(JobId, JobId)> {
        let from = (job, JobId::new([0; 16]));
        let to = (job, JobId::new([u8::MAX; 16]));
        let range = (Bound::Included(from), Bound::Included(to));
        let taken: Vec<_> =
            self.unsealed.range(range).map(|(&(_, failed), &cause)| (failed, cause)).collect();
        for (failed, _) in &taken {
            self.unsealed.remove(&(job, *failed));
        }
        taken
    }

    /// A job is brought back. Returns the unsealed jobs that wait for it, and no longer are about to fail.
    pub(crate) fn take_unsealed_dependents(&mut self, failed: JobId) -> Vec<Slot> {
        if !self.open.contains_key(&failed) {
            return Vec::new();
        }
        let dependents: Vec<Slot> =
            self.unsealed.keys().filter(|(_, on)| *on == failed).map(|&(job, _)| job).collect();
        for &job in &dependents {
            self.unsealed.remove(&(job, failed));
            self.close_piece(failed);
        }
        dependents
    }

    fn open_piece(&mut self, failed: JobId) {
        self.open.entry(failed).or_default().pieces += 1;
        self.touched.insert(failed);
    }

    /// A walk is over, or a job does not wait to be sealed any more.
    pub(crate) fn close_piece(&mut self, failed: JobId) {
        if let Some(open) = self.open.get_mut(&failed) {
            open.pieces -= 1;
            self.touched.insert(failed);
        }
    }

    /// Emits those that outlive their first batch, and takes back those that have ended.
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "it has the bugs that are planted")
    )]
    pub(crate) fn emit(&mut self, config: &Config, records: &mut Records) {
        for cause in std::mem::take(&mut self.touched) {
            let Some(open) = self.open.get_mut(&cause) else { continue };
            if open.pieces == 0 {
                if open.is_stored {
                    records.propagations_ended.push(PropagationRecord { cause });
                }
                self.open.remove(&cause);
            } else if !open.is_stored {
                #[cfg(feature = "planted-bugs")]
                if config.leaves_out(crate::config::PlantedBug::PropagationNotStored) {
                    continue;
                }
                open.is_stored = true;
                records.propagations_begun.push(PropagationRecord { cause });
            }
        }
    }

    /// Checks what takes no time to check, when all has been emitted.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let is_over = self.walks.is_empty() && self.unsealed.is_empty();
        check(is_over == self.open.is_empty(), "a propagation is over when nothing of it is left", || {
            format!("{:?}", self.open.keys())
        })
    }

    /// Checks that as many pieces are counted as there are.
    pub(crate) fn check(&self) -> Result<(), InvariantViolation> {
        let mut pieces: BTreeMap<JobId, u64> = BTreeMap::new();
        let failed = self.walks.iter().map(|walk| walk.failed);
        for failed in failed.chain(self.unsealed.keys().map(|&(_, failed)| failed)) {
            *pieces.entry(failed).or_default() += 1;
        }
        for (failed, open) in &self.open {
            let counted = pieces.remove(failed).unwrap_or_default();
            check(counted == open.pieces, "propagations count their pieces", || {
                format!("{failed}: counted {counted}, kept {}", open.pieces)
            })?;
        }
        check(pieces.is_empty(), "every propagation is kept", || format!("{pieces:?}"))
    }

    /// All edges that are still to be walked.
    pub(crate) fn edges(&self) -> impl Iterator<Item = Edge> {
        let frames = self.walks.iter().flat_map(|walk| &walk.stack);
        frames.flat_map(|frame| frame.edges.get(frame.next..).unwrap_or_default()).copied()
    }

    /// The jobs that end when the walk comes back to them.
    pub(crate) fn failing(&self) -> impl Iterator<Item = Slot> {
        self.walks.front().into_iter().flat_map(|walk| &walk.stack).filter_map(|frame| frame.job)
    }

    /// The unsealed jobs that wait for one that did not end done, once for each of those.
    pub(crate) fn unsealed(&self) -> impl Iterator<Item = Slot> {
        self.unsealed.keys().map(|&(job, _)| job)
    }
}
