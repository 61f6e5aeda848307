//! What can be asked. The shell asks between a commit and the next command, so that what shows is durable.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use super::Core;

use crate::command::Hello;
use crate::ids::{Clocks, EvaluationNumber, FlowId, JobId, Revision, SessionId, Timestamp, Token};
use crate::image::{ActionRecord, Counters, DeletionRecord, PastAttempt, PauseRecord, Tries};
use crate::index::{FlowIdx, Slot};
use crate::jobs::{Declaration, Elf, Job, State, Unfinished};
use crate::policy::Policy;
use crate::sessions::{Offer, Session};
use crate::status::Status;
use crate::suspicion::Suspicion;
use crate::timers::TimerKey;
use crate::views::{
    Counts, ElfCounts, ElfView, Explanation, FlowView, InstanceView, JobView, ListCursor, ListFilter,
    ListPage, TriedCursor,
};
use crate::waits::Places;

/// How far [`Explanation::NoFreeWindow::jobs_before`] counts.
const JOBS_BEFORE_MAX: usize = 1_000;

/// How many sessions [`Explanation::NoFittingInstance`] names.
const UNFIT_SHOWN_MAX: usize = 16;

/// How many jobs [`Explanation::WaitsForElements`] names.
const ELEMENTS_SHOWN_MAX: usize = 100;

impl Core {
    /// The newest number of an evaluation. The core that takes this one's place is to begin after it
    /// ([`Config::evaluations_after`](crate::Config)).
    pub fn last_evaluation(&self) -> EvaluationNumber {
        self.evaluations.last()
    }

    /// The session that a `Hello` would resume if it were applied now.
    pub fn resumes(&self, hello: &Hello) -> Option<SessionId> {
        let (secret, required) = (hello.secret, self.config.secrets_required || hello.needs_secret);
        hello.resume.filter(|&id| self.sessions.to_resume(id, hello.instance, secret, required).is_some())
    }

    /// How much longer an unfinished job is not to begin. None if that is not so.
    pub fn delayed_for(&self, now: Clocks, job: JobId) -> Option<Duration> {
        let not_before = self.jobs.tries(self.jobs.find(&job)?).not_before?;
        Some(not_before.since(now.wall))
    }

    /// The sessions whose lease the next [`finish_batch`](Self::finish_batch) at `now` ends, unless it is renewed before.
    pub fn leases_over(&self, now: Clocks) -> Vec<SessionId> {
        let due = self.timers.due(self.timers.attended(now).steady);
        due.filter_map(|key| match key {
            TimerKey::Lease(session) => Some(self.sessions[session].id),
            TimerKey::Unconfirmed(_)
            | TimerKey::Waits
            | TimerKey::Pause(_)
            | TimerKey::Delay(_)
            | TimerKey::Queue(_)
            | TimerKey::Total(_)
            | TimerKey::Run(_)
            | TimerKey::Idle(_) => None,
        })
        .collect()
    }

    /// The sessions that are alive, oldest first.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.ids().collect()
    }

    /// The flows that are being deleted.
    pub fn deletions(&self) -> Vec<DeletionRecord> {
        self.deletions.iter().collect()
    }

    /// The actions under way, and the latest that are over.
    pub fn actions(&self) -> Vec<ActionRecord> {
        self.actions.iter().cloned().collect()
    }

    /// What is paused.
    pub fn pauses(&self) -> Vec<PauseRecord> {
        self.jobs.pauses().iter().cloned().collect()
    }

    /// Of these flows, those that have unfinished jobs, or submissions that are not sealed.
    pub fn unfinished_among(&self, flows: &[FlowId]) -> Vec<FlowId> {
        let is_unfinished =
            |id: &&FlowId| self.jobs.find_flow(**id).is_some_and(|flow| !self.jobs.flow(flow).is_through());
        flows.iter().filter(is_unfinished).copied().collect()
    }

    /// The job, if it is unfinished. Jobs of unsealed submissions show as PENDING.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        Some(self.view(&self.jobs[self.jobs.find(&id)?]))
    }

    /// Whether the job is unfinished and was never brought back, as far as is known: so that there is nothing to repeat in
    /// bringing it back. Of a job with attempts that were over when the core began this is not known.
    pub fn has_never_ended(&self, id: JobId) -> bool {
        self.jobs.find(&id).is_some_and(|slot| !self.jobs.has_come_back(slot))
    }

    /// The policy of its own that the job has, if it is unfinished and has one.
    pub fn policy(&self, id: JobId) -> Option<&Policy> {
        self.jobs.policy(&self.jobs[self.jobs.find(&id)?])
    }

    /// The attempts of the job that are over, the latest [`ATTEMPTS_KEPT`](crate::image::ATTEMPTS_KEPT), in the order of
    /// their numbers, if it is unfinished. The one under way is in its [view](Self::job).
    pub fn attempts(&self, id: JobId) -> Option<Vec<PastAttempt>> {
        Some(self.jobs.attempts(self.jobs.find(&id)?).to_vec())
    }

    /// Of which revisions attempts of unfinished jobs were that are over. Looks at `limit` jobs; where to go on comes with
    /// it, if there are more. What is over meanwhile may be missing.
    pub fn revisions_tried(
        &self,
        after: Option<TriedCursor>,
        limit: usize,
    ) -> (BTreeSet<Revision>, Option<TriedCursor>) {
        let mut revisions = BTreeSet::new();
        let mut tried = self.jobs.attempts_after(after.map(|TriedCursor(slot)| slot));
        let mut last = None;
        for (slot, attempts) in tried.by_ref().take(limit.max(1)) {
            revisions.extend(attempts.iter().map(|attempt| attempt.held.revision));
            last = Some(TriedCursor(slot));
        }
        (revisions, tried.next().and(last))
    }

    /// Why the job is where it is, if it is unfinished.
    pub fn explain(&self, id: JobId) -> Option<Explanation> {
        let slot = self.jobs.find(&id)?;
        let job = &self.jobs[slot];
        Some(match job.state {
            State::Vacant => return None,
            State::Unsealed { submission, .. } => {
                Explanation::NotSealed { submission: self.submissions[submission].id }
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::Ready { .. }
                if self.jobs.is_cancelling(job) =>
            {
                Explanation::Cancelling
            }
            State::Pending { waiting } => Explanation::WaitsForJobs { count: waiting },
            State::Evaluating { .. } => {
                let expansion = self.evaluations.expansion(slot);
                let is_gathering = expansion.is_some_and(|expansion| expansion.elements.is_some());
                Explanation::Evaluating { is_gathering }
            }
            State::Gathering => self.explain_gathering(slot)?,
            State::UpstreamFailing => Explanation::UpstreamFailing,
            State::Ready { .. } if self.jobs.is_paused(job) => {
                Explanation::Paused { pauses: self.jobs.pauses_of(job) }
            }
            State::Ready { .. } => match self.timers.deadline(TimerKey::Pause(slot)) {
                Some(until) => Explanation::HandedBack { times: u32::from(job.handed_back), until },
                None => self
                    .explain_delayed(slot)
                    .or_else(|| self.held_by_ancestors(slot))
                    .unwrap_or_else(|| self.explain_ready(slot, job)),
            },
            State::Running { session, assign, .. } => match self.held_by_ancestors(slot) {
                Some(waits) => waits,
                None => Explanation::Held {
                    running: self.sessions.running(session, assign)?,
                    connected: self.sessions[session].is_connected,
                },
            },
        })
    }

    fn places(&self) -> Places<'_> {
        Places { jobs: &self.jobs, sessions: &self.sessions }
    }

    fn held_by_ancestors(&self, slot: Slot) -> Option<Explanation> {
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::WaitNotFound) {
            return None;
        }
        Some(Explanation::HeldByAncestors { attempts: self.places().held_by_ancestors(slot)? })
    }

    fn explain_delayed(&self, slot: Slot) -> Option<Explanation> {
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::DelayNotExplained) {
            return None;
        }
        let Tries { failed, failed_max, not_before } = self.jobs.tries(slot);
        let until = not_before?;
        if failed == 0 {
            return Some(Explanation::Delayed { until });
        }
        let failure = self.jobs.attempts(slot).iter().rev().find_map(|attempt| attempt.failure);
        Some(Explanation::BackingOff { failed, failed_max, failure, until })
    }

    fn explain_gathering(&self, slot: Slot) -> Option<Explanation> {
        let expansion = self.evaluations.expansion(slot)?;
        let jobs = expansion.jobs.iter().filter_map(|&edge| self.jobs.follow(edge));
        Some(Explanation::WaitsForElements {
            elements: expansion.elements?,
            unfinished: expansion.unfinished,
            jobs: jobs.take(ELEMENTS_SHOWN_MAX).map(|job| self.view(job)).collect(),
        })
    }

    fn explain_ready(&self, slot: Slot, job: &Job) -> Explanation {
        let (names, queue) = (self.jobs.names(), self.jobs.queue_of(job));
        let elf = names.task(queue.task).elf;
        let mut serving = 0;
        let mut unfit = Vec::new();
        let (mut instances, mut draining, mut window, mut held) = (0, 0, 0, 0);
        for &session in self.jobs.elf(elf).sessions.values() {
            let session = &self.sessions[session];
            let Some(offer) = session.offers.get(&elf) else { continue };
            let Some(declared) = offer.declared.as_ref().filter(|_| session.is_connected) else { continue };
            serving += 1;
            let declaration = names.declaration(declared.declaration);
            if declaration.takes(queue.task, &queue.kind) {
                instances += 1;
                draining += u32::from(session.is_draining);
                // For a suspect a session is kept perhaps, and places are not what that waits for.
                let keeps = queue.kind.suspicion == Suspicion::None
                    && self.keeps_its_places(session, offer, declaration);
                let limit = if keeps { offer.limit().min(offer.held) } else { offer.limit() };
                window += if session.is_draining { 0 } else { u64::from(limit) };
                held += u64::from(offer.held);
            } else if declaration.signature(queue.task).is_some() {
                unfit.push((session.id, session.instance));
            }
        }
        if instances > 0 && held < window && queue.kind.suspicion != Suspicion::None {
            return self.explain_suspect(slot, job, instances);
        }
        if instances > 0 {
            let jobs_before = self.jobs_before(slot, job);
            return Explanation::NoFreeWindow { instances, draining, window, held, jobs_before };
        }
        if unfit.is_empty() {
            return Explanation::NoInstance { instances: serving };
        }
        let instances = u32::try_from(unfit.len()).unwrap_or(u32::MAX);
        unfit.truncate(UNFIT_SHOWN_MAX);
        Explanation::NoFittingInstance { instances, some: unfit }
    }

    /// Whether a session gives no place to a job that stands in a queue: it is kept for another, or busy, and what is next there
    /// goes only where it begins at once.
    fn keeps_its_places(&self, session: &Session, offer: &Offer, declaration: &Declaration) -> bool {
        let is_next_to_begin_at_once = || {
            let next = declaration.heads.iter();
            let next = next.filter_map(|(_, queue)| self.jobs.names().queue(*queue).ready.first());
            next.into_iter().any(|(_, slot)| self.jobs.must_begin_at_once(*slot))
        };
        session.kept_for.is_some()
            || (offer.free_slot.is_some_and(|free| free.is_busy) && is_next_to_begin_at_once())
    }

    fn explain_suspect(&self, slot: Slot, job: &Job, instances: u32) -> Explanation {
        let kept = self.sessions.kept_for(self.jobs.edge_to(slot)).map(|session| &self.sessions[session]);
        let n_held = |session: &Session| u32::try_from(session.held.len()).unwrap_or(u32::MAX);
        Explanation::Suspected {
            elves_lost: job.elves_lost.into(),
            isolated: self.jobs.queue_of(job).kind.suspicion == Suspicion::Isolated,
            instances,
            kept: kept.map(|session| (session.instance, n_held(session))),
        }
    }

    /// How many ready jobs of its task stand before a job, in the queues that somebody takes who takes it.
    fn jobs_before(&self, slot: Slot, job: &Job) -> u32 {
        let queue = self.jobs.queue_of(job);
        let of_task = self.jobs.task_of(job).queues.values().map(|other| self.jobs.names().queue(*other));
        let shared = of_task
            .take(JOBS_BEFORE_MAX)
            .filter(|other| other.takers.iter().any(|taker| queue.takers.contains(taker)));
        let before = shared.flat_map(|other| other.ready.range(..job.place(slot)));
        u32::try_from(before.take(JOBS_BEFORE_MAX).count()).unwrap_or(u32::MAX)
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
            let flow = self.jobs.find_flow(id);
            if flow.is_none_or(|flow| self.list_flow(flow, after, &mut scan, &mut page)) {
                page.next = None;
            }
            return page;
        }
        for flow in self.jobs.flows().newest_first(after.map(|cursor| cursor.flow)) {
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
        flow: FlowIdx,
        after: Option<ListCursor>,
        scan: &mut Scan<'_>,
        page: &mut ListPage,
    ) -> bool {
        let flow = self.jobs.flow(flow);
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
            let job = &self.jobs[slot];
            if self.matches(job, scan.filter) {
                page.jobs.push(self.view(job));
            }
        }
        true
    }

    fn matches(&self, job: &Job, filter: &ListFilter) -> bool {
        let task = self.jobs.task_of(job);
        let has_status = |status| filter.statuses.is_empty() || filter.statuses.contains(&status);
        filter.elf.as_ref().is_none_or(|elf| *elf == self.jobs.elf(task.elf).name)
            && filter.task.as_ref().is_none_or(|name| *name == task.name)
            && self.jobs.names().traits().labels(job.traits).contain(&filter.labels)
            && job.status().is_some_and(has_status)
    }

    /// The flow, if it is in memory: it has unfinished jobs, or some that finished not long ago. Else the store has
    /// it as it is.
    pub fn flow(&self, id: FlowId) -> Option<FlowView> {
        let flow = self.jobs.flow(self.jobs.find_flow(id)?);
        let Unfinished { pending, ready, assigned, running, .. } = flow.counts;
        Some(FlowView { record: flow.record(), pending, ready, assigned, running })
    }

    /// The elf, if it has unfinished jobs or sessions that serve it.
    pub fn elf(&self, name: &str) -> Option<ElfView> {
        let index = self.jobs.names().find_elf(name)?;
        let elf = self.jobs.elf(index);
        let instances = elf
            .sessions
            .values()
            .filter_map(|&session| {
                let session = &self.sessions[session];
                let offer = session.offers.get(&index)?;
                let let_go =
                    session.cancelled_in_flight.values().filter_map(|assign| session.held.get(assign));
                let let_go = let_go.filter(|held| held.elf == index && held.started.is_some()).count();
                let let_go = u32::try_from(let_go).unwrap_or(u32::MAX);
                Some(InstanceView {
                    session: session.id,
                    instance: session.instance,
                    connected: session.is_connected,
                    draining: session.is_draining,
                    window: if session.is_draining { 0 } else { offer.limit() },
                    held: offer.held,
                    occupied: offer.window.occupied.saturating_add(let_go),
                })
            })
            .collect();
        Some(ElfView { instances, ready: elf.ready, assigned: elf.assigned, running: elf.running })
    }

    /// All elves that have unfinished jobs or processes, in no order.
    pub fn elves(&self) -> impl Iterator<Item = ElfCounts<'_>> {
        let names = self.jobs.names();
        names.elves().map(move |(index, elf)| {
            let Elf { name, ready, assigned, running, .. } = elf;
            let queues = elf.tasks.values().flat_map(|task| names.task(*task).queues.values());
            let queued: u64 = queues.map(|queue| names.queue(*queue).ready.len() as u64).sum();
            let mut counts = ElfCounts {
                name,
                ready: *ready,
                delayed: ready.saturating_sub(queued),
                assigned: *assigned,
                running: *running,
                ..Default::default()
            };
            for session in elf.sessions.values().map(|&session| &self.sessions[session]) {
                let Some(offer) = session.offers.get(&index) else { continue };
                counts.held += u64::from(offer.held);
                if session.is_connected {
                    counts.connected += 1;
                    counts.window += if session.is_draining { 0 } else { u64::from(offer.limit()) };
                }
            }
            counts
        })
    }

    /// How many unfinished jobs there are, those of unsealed submissions included.
    pub fn n_unfinished(&self) -> u64 {
        self.jobs.len() as u64
    }

    /// The core at a glance.
    pub fn status(&self) -> Counts {
        let Unfinished { pending, ready, assigned, running, unsealed } = self.jobs.counts();
        Counts {
            pending,
            ready,
            assigned,
            running,
            unsealed,
            sessions: self.sessions.len() as u64,
            outcomes_stale: self.outcomes_stale,
            counters: Counters { session: self.sessions.last(), ..self.jobs.counters() },
        }
    }

    /// The elf and the task of an attempt that a session holds, so that its outputs can be checked against the
    /// declaration before they are applied. `None` if it does not hold it: then its outcome changes nothing.
    pub fn token_task(&self, session: SessionId, token: Token) -> Option<(&str, &str)> {
        let session = self.sessions.find(session)?;
        let (slot, _) = self.jobs.held_by(&self.config, session, token)?;
        let task = self.jobs.task_of(&self.jobs[slot]);
        Some((&self.jobs.elf(task.elf).name, &task.name))
    }

    /// The flow of an attempt that a session holds. `None` if it does not hold it: then what it says of it changes nothing.
    pub fn token_flow(&self, session: SessionId, token: Token) -> Option<FlowId> {
        let session = self.sessions.find(session)?;
        let (slot, _) = self.jobs.held_by(&self.config, session, token)?;
        Some(self.jobs.flow(self.jobs[slot].flow).id)
    }

    fn view(&self, job: &Job) -> JobView {
        let expansion = if job.evaluate {
            self.jobs.find(&job.id).and_then(|slot| self.evaluations.expansion(slot))
        } else {
            None
        };
        let (mut waiting_for, mut unsealed, mut running) = (0, None, None);
        match job.state {
            State::Unsealed { submission, waiting } => {
                (waiting_for, unsealed) = (waiting, Some(self.submissions[submission].id));
            }
            State::Pending { waiting } => waiting_for = waiting,
            State::Gathering => waiting_for = expansion.map_or(0, |expansion| expansion.unfinished),
            State::Running { session, assign, .. } => running = self.sessions.running(session, assign),
            State::Vacant | State::Evaluating { .. } | State::UpstreamFailing | State::Ready { .. } => {}
        }
        JobView {
            head: self.jobs.head(job),
            status: job.status().unwrap_or(Status::Pending),
            digest: job.digest,
            attempt: job.attempt,
            elves_lost: job.elves_lost.into(),
            waiting_for,
            elements: expansion.and_then(|expansion| expansion.elements),
            running,
            unsealed,
            expires_at: self.expires_at(job),
            tries: self.jobs.find(&job.id).map(|slot| self.jobs.tries(slot)).unwrap_or_default(),
        }
    }
}

impl Core {
    fn expires_at(&self, job: &Job) -> Option<Timestamp> {
        self.jobs.policy(job)?;
        let slot = self.jobs.find(&job.id)?;
        self.jobs.starts_by(slot).into_iter().chain(self.jobs.ends_by(slot)).min()
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
