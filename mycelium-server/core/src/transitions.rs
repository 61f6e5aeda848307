//! How a job goes from one state to the next: counts, queues and records change here and nowhere else.

use crate::core::Core;
use crate::effects::{End, FinishedJob, Ran};
use crate::ids::{Clocks, FinishNumber, JobId, SessionId};
use crate::names::Place;
use crate::recent::Recent;
use crate::slab::{Edge, Job, Slot, State};
use crate::status::FinalStatus;
use std::cmp::Reverse;

/// Why a job ends, with what the record needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) end: End,
    /// Who held it when it ended.
    pub(crate) ran: Option<Ran>,
    /// The session whose report ended it; 0 if none did.
    pub(crate) settled_by: SessionId,
}

impl Ending {
    /// Not by a report.
    pub(crate) fn unreported(end: End, ran: Option<Ran>) -> Self {
        Self { end, ran, settled_by: SessionId(0) }
    }
}

fn place_of(slot: Slot, job: &Job) -> Place {
    (Reverse(job.priority), job.number, slot)
}

impl Core {
    /// Moves a job to another state, with all that hangs on it: its touch, the counts, its place in the queue and in
    /// the list of its flow.
    pub(crate) fn set_state(&mut self, slot: Slot, next: State) {
        self.touch(slot);
        let before = std::mem::replace(&mut self.slab[slot].state, next);
        self.leave(slot, before);
        self.enter(slot, next);
    }

    fn leave(&mut self, slot: Slot, state: State) {
        let job = &self.slab[slot];
        let flow = &mut self.flows.arena[job.flow];
        match state {
            State::Vacant => return,
            State::Unsealed { .. } => {
                flow.unsealed -= 1;
                self.counts.unsealed -= 1;
                return;
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Doomed => {
                flow.pending -= 1;
                self.counts.pending -= 1;
            }
            State::Ready { queued } => {
                flow.ready -= 1;
                self.counts.ready -= 1;
                let elf = self.names.elf_of(job.task);
                self.names.elves[elf].ready -= 1;
                if queued {
                    self.names.dequeue(job.task, place_of(slot, job));
                } else {
                    self.pauses.remove(slot);
                }
            }
            State::Running { .. } => {
                flow.running -= 1;
                self.counts.running -= 1;
                let elf = self.names.elf_of(job.task);
                self.names.elves[elf].running -= 1;
            }
        }
        if job.state == State::Vacant {
            flow.jobs.remove(&(job.number, slot));
        }
    }

    fn enter(&mut self, slot: Slot, state: State) {
        let job = &self.slab[slot];
        let flow = &mut self.flows.arena[job.flow];
        match state {
            State::Vacant => {}
            State::Unsealed { .. } => {
                flow.unsealed += 1;
                self.counts.unsealed += 1;
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Doomed => {
                flow.pending += 1;
                self.counts.pending += 1;
            }
            State::Ready { queued } => {
                flow.ready += 1;
                self.counts.ready += 1;
                let elf = self.names.elf_of(job.task);
                self.names.elves[elf].ready += 1;
                if queued && self.names.enqueue(job.task, place_of(slot, job)) {
                    self.dirty.insert(elf);
                }
            }
            State::Running { .. } => {
                flow.running += 1;
                self.counts.running += 1;
                let elf = self.names.elf_of(job.task);
                self.names.elves[elf].running += 1;
            }
        }
    }

    /// Takes in a job whose state is still [`State::Vacant`], to be entered next with
    /// [`enter_new`](Self::enter_new).
    pub(crate) fn enter_new(&mut self, slot: Slot, state: State) {
        self.slab[slot].state = state;
        self.enter(slot, state);
        self.list_if_shown(slot);
    }

    /// Puts a job that shows into the list of its flow.
    pub(crate) fn list_if_shown(&mut self, slot: Slot) {
        let job = &self.slab[slot];
        if Self::status_shown(job).is_some() {
            self.flows.arena[job.flow].jobs.insert((job.number, slot));
        }
    }

    /// One of the jobs that this one waits for was skipped: whether it needs its outputs is evaluated before it goes on.
    fn dependency_skipped(&mut self, edge: Edge) {
        if let Some(job) = self.slab.follow(edge)
            && !job.evaluate
        {
            self.slab[edge.slot].evaluate = true;
            self.touch_flag(edge.slot);
        }
        self.dependency_done(edge);
    }

    /// One of the jobs that this one waits for has ended, and is no reason for it to end.
    pub(crate) fn dependency_done(&mut self, edge: Edge) {
        let Some(job) = self.slab.follow(edge) else { return };
        match job.state {
            State::Pending { waiting: 1 } if job.evaluate => self.evaluate(edge.slot),
            State::Pending { waiting: 1 } => self.set_state(edge.slot, State::Ready { queued: true }),
            // Only a status that shows is worth a touch.
            State::Pending { waiting } => {
                self.slab[edge.slot].state = State::Pending { waiting: waiting - 1 };
            }
            State::Unsealed { submission, waiting } => {
                self.slab[edge.slot].state = State::Unsealed { submission, waiting: waiting - 1 };
            }
            State::Evaluating { .. } | State::Gathering => self.element_ended(edge.slot),
            State::Doomed => {}
            State::Vacant | State::Ready { .. } | State::Running { .. } => {
                debug_assert!(false, "job {} waits for nothing", job.id);
            }
        }
    }

    /// Ends a job. Whoever holds an attempt of it must have been seen to before.
    pub(crate) fn finish(&mut self, now: Clocks, slot: Slot, ending: Ending) {
        self.touch_record(slot);
        self.set_state(slot, State::Vacant);
        let mut job = self.slab.remove(slot);
        let dependents = std::mem::take(&mut job.dependents);
        // Only what was evaluated can have been expanded.
        let expansion = if job.evaluate { self.expansions.remove(&slot) } else { None };
        let mut record = self.finished_record(now, &job, ending);
        record.elements = expansion.and_then(|expansion| expansion.elements);
        let touch = job.touch as usize;
        self.batch.touched[touch].now = crate::batch::Now::Finished(Box::new(record));
        self.names.unuse_task(job.task);
        self.remember(&job, ending);

        match ending.end.status() {
            FinalStatus::Done => dependents.into_iter().for_each(|edge| self.dependency_done(edge)),
            FinalStatus::Skipped => dependents.into_iter().for_each(|edge| self.dependency_skipped(edge)),
            FinalStatus::Failed | FinalStatus::Cancelled => {
                self.settle_dependents(job.id, job.id, dependents);
            }
            // Its dependents ended before it did: that is the order of settling.
            FinalStatus::UpstreamFailed => {}
        }
    }

    pub(crate) fn finished_record(&mut self, now: Clocks, job: &Job, ending: Ending) -> FinishedJob {
        self.counters.finish = FinishNumber(self.counters.finish.0 + 1);
        FinishedJob {
            head: self.head(job),
            finish_number: self.counters.finish,
            end: ending.end,
            finished_at: now.wall,
            attempt: job.attempt,
            elves_lost: job.elves_lost,
            ran: ending.ran,
            elements: None,
        }
    }

    /// Counts a job that has just been given its finish number, and keeps it in mind.
    pub(crate) fn remember(&mut self, job: &Job, ending: Ending) {
        let status = ending.end.status();
        let commit = self.commit_next();
        let flow = &mut self.flows.arena[job.flow];
        *flow.finished.get_mut(status) += 1;
        flow.recent += 1;
        self.flows.touch(job.flow, commit);
        self.recents.push(Recent {
            id: job.id,
            flow: job.flow,
            digest: job.digest,
            status,
            cause: cause_of(job.id, ending.end),
            attempt: job.attempt,
            settled_by: ending.settled_by,
            finish_number: self.counters.finish,
            commit,
        });
    }

    /// Forgets finished jobs beyond what is to be remembered, and then flows.
    pub(crate) fn forget(&mut self) {
        while self.recents.len() > self.config.finished_kept {
            let Some(popped) = self.recents.pop() else { break };
            if let Some(recent) = popped {
                self.forgotten = self.forgotten.max(recent.commit);
                self.flows.arena[recent.flow].recent -= 1;
                self.flows.may_be_idle(recent.flow);
            }
        }
        self.forgotten = self.forgotten.max(self.flows.forget_idle());
    }
}

/// The job to name in those that end because of this one.
fn cause_of(id: JobId, end: End) -> JobId {
    match end {
        End::UpstreamFailed(cause) => cause,
        End::Done(_) | End::Failed(_) | End::Cancelled | End::Skipped => id,
    }
}
