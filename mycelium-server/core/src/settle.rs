//! What becomes of the jobs that wait for one that ended otherwise than done or skipped.
//!
//! They end UPSTREAM_FAILED, dependents before what they depend on. That order is what makes it safe to stop
//! anywhere: of a job that is no longer unfinished, and that no settling names, all dependents have been dealt with,
//! so a core that is rebuilt may take it to be done or skipped. Only the job at the root breaks that rule while its settling is
//! under way, and therefore a settling that outlives its batch is stored.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::core::Core;
use crate::effects::{Effects, End};
use crate::ids::{Clocks, JobId};
use crate::image::Settling;
use crate::slab::{Edge, Slot, State};
use crate::transitions::Ending;

/// A settling under way: a walk through the dependents of one job, depth first.
#[derive(Debug)]
pub(crate) struct Settle {
    /// The job that ended, under which the settling is stored.
    pub(crate) key: JobId,
    /// The job to name as the cause.
    pub(crate) cause: JobId,
    /// From the root to where the walk is.
    pub(crate) stack: Vec<Frame>,
}

/// One job on the way, with its dependents.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The job, which ends once its dependents have; `None` at the root.
    pub(crate) job: Option<Slot>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) next: usize,
}

/// What is open of the settling of one job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Open {
    /// How many walks and parked jobs belong to it.
    pub(crate) pieces: u64,
    /// Whether the store has it.
    pub(crate) is_stored: bool,
}

/// Jobs that wait for one that did not end done, and whose submission is not sealed: they are settled when it is,
/// and vanish if it is dropped.
pub(crate) type Parked = BTreeMap<(Slot, JobId), JobId>;

impl Core {
    /// Begins to settle the dependents of a job that has ended.
    pub(crate) fn settle_dependents(&mut self, key: JobId, cause: JobId, edges: Vec<Edge>) {
        if edges.is_empty() {
            return;
        }
        self.open_settling(key);
        let stack = vec![Frame { job: None, edges, next: 0 }];
        self.settles.push_back(Settle { key, cause, stack });
    }

    /// Goes on with the settlings, as far as the budget allows.
    pub(crate) fn go_on_settling(&mut self, now: Clocks, budget: &mut usize) {
        while *budget > 0 {
            let Some(settle) = self.settles.front_mut() else { return };
            let (key, cause) = (settle.key, settle.cause);
            let Some(frame) = settle.stack.last_mut() else {
                self.settles.pop_front();
                self.close_settling(key);
                continue;
            };
            *budget -= 1;
            if let Some(&edge) = frame.edges.get(frame.next) {
                frame.next += 1;
                self.visit(edge, key, cause);
            } else if let Some(frame) = settle.stack.pop()
                && let Some(slot) = frame.job
            {
                self.finish(now, slot, Ending::unreported(End::UpstreamFailed(cause), None));
            }
        }
    }

    /// The walk comes to a job.
    fn visit(&mut self, edge: Edge, key: JobId, cause: JobId) {
        let Some(job) = self.slab.follow(edge) else { return };
        match job.state {
            // It is about to be cancelled itself, after the jobs of its elements.
            State::Evaluating { .. } | State::Gathering if self.is_cancelling_elements(edge.slot) => {
                self.element_ended(edge.slot);
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering => {
                self.set_state(edge.slot, State::Doomed);
                let edges = std::mem::take(&mut self.slab[edge.slot].dependents);
                if let Some(settle) = self.settles.front_mut() {
                    settle.stack.push(Frame { job: Some(edge.slot), edges, next: 0 });
                }
            }
            State::Unsealed { .. } => {
                // It waits for the job whose dependents are being visited: the one on top of the stack.
                let on_top = self.settles.front().and_then(|settle| settle.stack.last()?.job);
                let failed = on_top.map_or(key, |slot| self.slab[slot].id);
                self.park(edge.slot, failed, cause);
            }
            State::Vacant | State::Doomed | State::Ready { .. } | State::Running { .. } => {}
        }
    }

    /// The job to name as the cause in those that depend on `failed`, which ended because of `cause`. That one may have
    /// been brought back since, while `failed` was not, because it depends on another that did not end done: then it
    /// is `failed` itself.
    pub(crate) fn cause_to_name(&self, failed: JobId, cause: JobId) -> JobId {
        let is_still_true =
            self.recents.get(&cause).is_some_and(|recent| !recent.status.lets_dependents_go_on());
        if is_still_true { cause } else { failed }
    }

    /// Keeps in mind that an unsealed job waits for one that did not end done.
    pub(crate) fn park(&mut self, slot: Slot, failed: JobId, cause: JobId) {
        if self.parked.insert((slot, failed), cause).is_none() {
            self.open_settling(failed);
        }
    }

    /// The submission of a job is sealed: if it was parked, it is settled now.
    pub(crate) fn settle_parked(&mut self, slot: Slot) {
        for (key, cause) in self.take_parked(slot) {
            let cause = self.cause_to_name(key, cause);
            let edges = vec![self.slab.edge_to(slot)];
            self.settle_dependents(key, cause, edges);
            self.close_settling(key);
        }
    }

    /// A job vanishes with its submission.
    pub(crate) fn drop_parked(&mut self, slot: Slot) {
        for (key, _) in self.take_parked(slot) {
            self.close_settling(key);
        }
    }

    fn take_parked(&mut self, slot: Slot) -> Vec<(JobId, JobId)> {
        let from = (slot, JobId::new([0; 16]));
        let to = (slot, JobId::new([u8::MAX; 16]));
        let range = (Bound::Included(from), Bound::Included(to));
        let parked: Vec<_> = self.parked.range(range).map(|(&(_, key), &cause)| (key, cause)).collect();
        for (key, _) in &parked {
            self.parked.remove(&(slot, *key));
        }
        parked
    }

    /// A job is brought back: unsealed jobs that were parked because of it wait for it again.
    pub(crate) fn unpark_dependents(&mut self, slot: Slot) {
        let id = self.slab[slot].id;
        if !self.settlings.contains_key(&id) {
            return;
        }
        let dependents: Vec<Slot> =
            self.parked.keys().filter(|(_, key)| *key == id).map(|(dependent, _)| *dependent).collect();
        for dependent in dependents {
            self.parked.remove(&(dependent, id));
            self.slab.add_dependent(slot, dependent);
            self.close_settling(id);
        }
    }

    fn open_settling(&mut self, key: JobId) {
        self.settlings.entry(key).or_default().pieces += 1;
        self.settlings_touched.insert(key);
    }

    pub(crate) fn close_settling(&mut self, key: JobId) {
        if let Some(open) = self.settlings.get_mut(&key) {
            open.pieces -= 1;
            self.settlings_touched.insert(key);
        }
    }

    /// Emits the settlings that outlive their first batch, and takes back those that have ended.
    pub(crate) fn emit_settlings(&mut self, effects: &mut Effects) {
        for cause in std::mem::take(&mut self.settlings_touched) {
            let Some(open) = self.settlings.get_mut(&cause) else { continue };
            if open.pieces == 0 {
                if open.is_stored {
                    effects.records.settling_ended.push(Settling { cause });
                }
                self.settlings.remove(&cause);
            } else if !open.is_stored {
                #[cfg(feature = "planted-bugs")]
                if self.config.leaves_out(crate::config::PlantedBug::SettlingNotStored) {
                    continue;
                }
                open.is_stored = true;
                effects.records.settling_begun.push(Settling { cause });
            }
        }
    }
}
