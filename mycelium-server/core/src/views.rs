//! What can be asked. The shell asks between a commit and the next command, so that what shows is durable.

use std::ops::Bound;
use std::sync::Arc;

use crate::core::Core;
use crate::ids::{
    Attempt, ContentDigest, FlowId, FlowNumber, InstanceId, JobId, JobNumber, SessionId, Steady,
    SubmissionId, Token,
};
use crate::image::{Counters, FlowRecord, JobHead, Running};
use crate::slab::{Job, Slot, State};
use crate::status::Status;

/// How far [`Explanation::NoFreeWindow::jobs_before`] counts.
const JOBS_BEFORE_MAX: usize = 1_000;

/// How many jobs [`Explanation::WaitsForElements`] names.
const ELEMENTS_SHOWN_MAX: usize = 100;

/// An unfinished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// What it is.
    pub head: JobHead,
    /// Where it stands; never final.
    pub status: Status,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// Its newest attempt; 0 before the first.
    pub attempt: Attempt,
    /// How many of its attempts ended because their elf was lost.
    pub elves_lost: u32,
    /// How many jobs it still waits for. 0 while it is about to end UPSTREAM_FAILED.
    pub waiting_for: u32,
    /// If it has been expanded over a list since the core was made: into how many jobs.
    pub elements: Option<u32>,
    /// Who holds it, if it is running.
    pub running: Option<Running>,
    /// The submission it waits for to be sealed, if that is what it waits for.
    pub unsealed: Option<SubmissionId>,
}

/// Why an unfinished job is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It waits for other jobs. Which ones the store knows: those of its dependencies that are not finished.
    WaitsForJobs {
        /// How many.
        count: u32,
    },
    /// What decides how it goes on is being computed, or waits for that.
    Evaluating {
        /// Whether that is the list of what the jobs of its elements returned.
        is_gathering: bool,
    },
    /// It was expanded over a list, and waits for the jobs of its elements.
    WaitsForElements {
        /// How many there are.
        elements: u32,
        /// How many of them have not ended.
        unfinished: u32,
        /// Some of those, at most 100.
        jobs: Vec<JobView>,
    },
    /// A job that it depends on did not end done, and it ends UPSTREAM_FAILED within moments.
    Settling,
    /// It is cancelled within moments, with its flow.
    Cancelling,
    /// Its submission has not been sealed.
    NotSealed {
        /// The submission.
        submission: SubmissionId,
    },
    /// It was handed back again and again without an outcome, and is offered anew only after a pause.
    HandedBack {
        /// How often, since the core was made, counted up to 255.
        times: u32,
        /// When it returns to its queue, by the shell's clock for intervals.
        until: Steady,
    },
    /// No connected instance offers its task.
    NoInstance {
        /// How many connected instances serve the elf, with other tasks.
        instances: u32,
    },
    /// Connected instances offer its task, and all their windows are full.
    NoFreeWindow {
        /// How many offer it.
        instances: u32,
        /// How many jobs of the elf they may hold together.
        window: u64,
        /// How many they hold, cancelled ones that they have not let go of included.
        held: u64,
        /// How many jobs stand before it in its task's queue, counted up to 1,000.
        jobs_before: u32,
    },
    /// An instance holds it.
    Held {
        /// Who, since when.
        running: Running,
        /// Whether its stream is open.
        connected: bool,
    },
}

/// A flow in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowView {
    /// Its record, with the counts of its finished jobs.
    pub record: FlowRecord,
    /// How many of its jobs are PENDING; those of unsealed submissions do not count.
    pub pending: u64,
    /// How many are READY.
    pub ready: u64,
    /// How many are RUNNING.
    pub running: u64,
}

/// An elf in memory: one that has unfinished jobs or instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfView {
    /// The sessions that serve it, oldest first.
    pub instances: Vec<InstanceView>,
    /// How many of its jobs are READY.
    pub ready: u64,
    /// How many are RUNNING.
    pub running: u64,
}

/// A session that serves an elf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceView {
    /// The session.
    pub session: SessionId,
    /// The process.
    pub instance: InstanceId,
    /// Whether its stream is open.
    pub connected: bool,
    /// How many jobs of the elf it may hold; 0 while it drains.
    pub window: u32,
    /// How many it holds, cancelled ones that it has not let go of included.
    pub held: u32,
}

/// The core at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs PENDING; those of unsealed submissions do not count.
    pub pending: u64,
    /// Jobs READY.
    pub ready: u64,
    /// Jobs RUNNING.
    pub running: u64,
    /// Jobs whose submission is not sealed.
    pub unsealed: u64,
    /// Sessions alive, their stream open or not.
    pub sessions: u64,
    /// Outcomes refused as stale since the core was made.
    pub outcomes_stale: u64,
    /// The numbers that only rise, as of the newest batch.
    pub counters: Counters,
}

/// Which unfinished jobs to list. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only those of this flow.
    pub flow: Option<FlowId>,
    /// Only those of this elf.
    pub elf: Option<Arc<str>>,
    /// Only those of this task.
    pub task: Option<Arc<str>>,
    /// Only those with one of these statuses; empty: any.
    pub statuses: Vec<Status>,
}

/// Where a list goes on: after this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// The number of its flow.
    pub flow: FlowNumber,
    /// Its number.
    pub job: JobNumber,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Where to go on; `None` if there are no more.
    pub next: Option<ListCursor>,
}

impl Core {
    /// The job, if it is unfinished. Jobs of unsealed submissions show as PENDING.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        Some(self.view(&self.slab[self.slab.find(&id)?]))
    }

    /// Why the job is where it is, if it is unfinished.
    pub fn explain(&self, id: JobId) -> Option<Explanation> {
        let slot = self.slab.find(&id)?;
        let job = &self.slab[slot];
        Some(match job.state {
            State::Vacant => return None,
            State::Unsealed { submission, .. } => {
                Explanation::NotSealed { submission: self.submissions.arena[submission].id }
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Ready { .. }
                if self.flows.arena[job.flow].is_cancelling(job.number) =>
            {
                Explanation::Cancelling
            }
            State::Pending { waiting } => Explanation::WaitsForJobs { count: waiting },
            State::Evaluating { .. } => {
                let expansion = self.expansions.get(&slot);
                let is_gathering = expansion.is_some_and(|expansion| expansion.elements.is_some());
                Explanation::Evaluating { is_gathering }
            }
            State::Gathering => self.explain_gathering(slot)?,
            State::Doomed => Explanation::Settling,
            State::Ready { .. } => match self.pauses.until.get(&slot) {
                Some(&until) => Explanation::HandedBack {
                    times: u32::from(job.handed_back),
                    until: until.after(self.stood_still),
                },
                None => self.explain_ready(slot, job),
            },
            State::Running { session, .. } => Explanation::Held {
                running: self.running(job)?,
                connected: self.sessions.arena[session].is_connected,
            },
        })
    }

    fn explain_gathering(&self, slot: Slot) -> Option<Explanation> {
        let expansion = self.expansions.get(&slot)?;
        let jobs = expansion.jobs.iter().filter_map(|&edge| self.slab.follow(edge));
        Some(Explanation::WaitsForElements {
            elements: expansion.elements?,
            unfinished: expansion.unfinished,
            jobs: jobs.take(ELEMENTS_SHOWN_MAX).map(|job| self.view(job)).collect(),
        })
    }

    fn explain_ready(&self, slot: Slot, job: &Job) -> Explanation {
        let task = &self.names.tasks[job.task];
        let mut serving = 0;
        let (mut instances, mut window, mut held) = (0, 0, 0);
        for &session in self.names.elves[task.elf].sessions.values() {
            let session = &self.sessions.arena[session];
            let Some(offer) = session.offers.get(&task.elf) else { continue };
            if !session.is_connected || !offer.is_offered {
                continue;
            }
            serving += 1;
            if offer.tasks.contains_key(&job.task) {
                instances += 1;
                window += if session.is_draining { 0 } else { u64::from(offer.window.jobs) };
                held += u64::from(offer.held);
            }
        }
        if instances == 0 {
            return Explanation::NoInstance { instances: serving };
        }
        let place = (std::cmp::Reverse(job.priority), job.number, slot);
        let jobs_before = task.queue.range(..place).take(JOBS_BEFORE_MAX).count();
        let jobs_before = u32::try_from(jobs_before).unwrap_or(u32::MAX);
        Explanation::NoFreeWindow { instances, window, held, jobs_before }
    }

    /// Lists unfinished jobs, newest flow first and within a flow the newest submitted first; jobs of unsealed
    /// submissions are left out. Looks at `scan_max` jobs at most (and at least one), so that a page may hold fewer
    /// than `limit` jobs and still have a next one.
    pub fn list_unfinished(
        &self,
        filter: &ListFilter,
        after: Option<ListCursor>,
        limit: usize,
        scan_max: usize,
    ) -> ListPage {
        let mut page = ListPage::default();
        let mut scan = Scan { filter, left: scan_max.max(1), limit: limit.max(1) };
        if let Some(id) = filter.flow {
            let flow = self.flows.find(id);
            if flow.is_none_or(|flow| self.list_flow(flow, after, &mut scan, &mut page)) {
                page.next = None;
            }
            return page;
        }
        let newest = after.map_or(Bound::Unbounded, |cursor| Bound::Included(cursor.flow));
        for &flow in self.flows.by_number.range((Bound::Unbounded, newest)).rev().map(|(_, flow)| flow) {
            if !self.list_flow(flow, after, &mut scan, &mut page) {
                return page;
            }
        }
        page.next = None;
        page
    }

    /// Says whether the flow was listed to its end.
    fn list_flow(
        &self,
        flow: u32,
        after: Option<ListCursor>,
        scan: &mut Scan<'_>,
        page: &mut ListPage,
    ) -> bool {
        let flow = &self.flows.arena[flow];
        let below = match after {
            Some(cursor) if cursor.flow < flow.number => return true,
            Some(cursor) if cursor.flow == flow.number => Bound::Excluded((cursor.job, Slot::MIN)),
            Some(_) | None => Bound::Unbounded,
        };
        for &(number, slot) in flow.jobs.range((Bound::Unbounded, below)).rev() {
            if scan.left == 0 || page.jobs.len() == scan.limit {
                return false;
            }
            scan.left -= 1;
            page.next = Some(ListCursor { flow: flow.number, job: number });
            let job = &self.slab[slot];
            if self.matches(job, scan.filter) {
                page.jobs.push(self.view(job));
            }
        }
        true
    }

    fn matches(&self, job: &Job, filter: &ListFilter) -> bool {
        let task = &self.names.tasks[job.task];
        let has_status = |status| filter.statuses.is_empty() || filter.statuses.contains(&status);
        filter.elf.as_ref().is_none_or(|elf| *elf == self.names.elves[task.elf].name)
            && filter.task.as_ref().is_none_or(|name| *name == task.name)
            && Self::status_shown(job).is_some_and(has_status)
    }

    /// The flow, if it is in memory: it has unfinished jobs, or some that finished not long ago. Else the store has
    /// it as it is.
    pub fn flow(&self, id: FlowId) -> Option<FlowView> {
        let flow = &self.flows.arena[self.flows.find(id)?];
        Some(FlowView {
            record: flow.record(),
            pending: flow.pending,
            ready: flow.ready,
            running: flow.running,
        })
    }

    /// The elf, if it has unfinished jobs or sessions that serve it.
    pub fn elf(&self, name: &str) -> Option<ElfView> {
        let index = self.names.find_elf(name)?;
        let elf = &self.names.elves[index];
        let instances = elf
            .sessions
            .values()
            .filter_map(|&session| {
                let session = &self.sessions.arena[session];
                let offer = session.offers.get(&index)?;
                Some(InstanceView {
                    session: session.id,
                    instance: session.instance,
                    connected: session.is_connected,
                    window: if session.is_draining { 0 } else { offer.window.jobs },
                    held: offer.held,
                })
            })
            .collect();
        Some(ElfView { instances, ready: elf.ready, running: elf.running })
    }

    /// The core at a glance.
    pub fn status(&self) -> Counts {
        Counts {
            pending: self.counts.pending,
            ready: self.counts.ready,
            running: self.counts.running,
            unsealed: self.counts.unsealed,
            sessions: self.sessions.arena.len() as u64,
            outcomes_stale: self.outcomes_stale,
            counters: self.counters,
        }
    }

    /// The elf and the task of an attempt that a session holds, so that its outputs can be checked against the
    /// declaration before they are applied. `None` if it does not hold it: then its outcome changes nothing.
    pub fn token_task(&self, session: SessionId, token: Token) -> Option<(&str, &str)> {
        let session = *self.sessions.by_id.get(&session)?;
        let (slot, _) = self.held_by(session, token)?;
        let task = &self.names.tasks[self.slab[slot].task];
        Some((&self.names.elves[task.elf].name, &task.name))
    }

    fn view(&self, job: &Job) -> JobView {
        let expansion = if job.evaluate {
            self.slab.find(&job.id).and_then(|slot| self.expansions.get(&slot))
        } else {
            None
        };
        let (waiting_for, unsealed) = match job.state {
            State::Unsealed { submission, waiting } => (waiting, Some(self.submissions.arena[submission].id)),
            State::Pending { waiting } => (waiting, None),
            State::Gathering => (expansion.map_or(0, |expansion| expansion.unfinished), None),
            State::Vacant
            | State::Evaluating { .. }
            | State::Doomed
            | State::Ready { .. }
            | State::Running { .. } => (0, None),
        };
        JobView {
            head: self.head(job),
            status: Self::status_shown(job).unwrap_or(Status::Pending),
            digest: job.digest,
            attempt: job.attempt,
            elves_lost: job.elves_lost,
            waiting_for,
            elements: expansion.and_then(|expansion| expansion.elements),
            running: self.running(job),
            unsealed,
        }
    }
}

/// What a page may still take.
struct Scan<'a> {
    filter: &'a ListFilter,
    left: usize,
    limit: usize,
}

#[cfg(test)]
mod tests;
