//! What is told to those who ask why a job is where it is, held against what the store has.

use std::collections::BTreeSet;

use mycelium_core::Explanation;
use mycelium_core::ids::{Clocks, JobId, SessionId, Steady};
use mycelium_core::image::{AttemptEnd, LiveJob};
use mycelium_core::status::{FinalStatus, Status};

use super::super::client::{ELVES, tasks};
use super::super::deadlines::{Timer, timeouts};
use super::super::evaluator::{Kind, element, elements_of, kind};
use super::super::seen::Seen;
use super::super::versions;
use super::World;
use super::pauses::targets;

impl World {
    /// Holds what the core says of every unfinished job against what is stored.
    pub(super) fn explain(&mut self, now: Clocks) {
        let stood_still_until = Some(Steady(self.stalled_until.min(self.now)));
        let live = std::mem::take(&mut self.store.live);
        for (&id, job) in &live {
            let Some(view) = self.core.job(id) else { broken!(RecordsFit, "the core has lost job {id}") };
            let deadlines = &mut self.oracle.deadlines;
            let ends_at_once =
                matches!(self.core.explain(id), Some(Explanation::Cancelling | Explanation::UpstreamFailing));
            if view.unsealed.is_none() && !ends_at_once {
                deadlines.waits(id, Timer::Total, job.expires_at, now, stood_still_until);
                let starts_by = job.queued_at.zip(timeouts(id).queue).map(|(at, queue)| at.after(queue));
                // What a process holds ends when that gives it back.
                let stood_still_until = stood_still_until.filter(|_| job.running.is_none());
                deadlines.waits(id, Timer::Queue, starts_by, now, stood_still_until);
            }
            match view.tries.not_before {
                Some(_) if view.status != Status::Ready => {}
                Some(_) if ends_at_once => {}
                Some(moment) => deadlines.waits(id, Timer::Delay, Some(moment), now, stood_still_until),
                None if self.oracle.tries.started_by_hand.contains(&id) => {
                    deadlines.begun_by_hand(id);
                    deadlines.note_come(id, job.tries.not_before, now);
                }
                None if deadlines.has_waited(id, now) => self.outcome.seen.see(Seen::Begun),
                None => deadlines.note_come(id, job.tries.not_before, now),
            }
        }
        self.store.live = live;
        for (id, job) in &self.store.live {
            self.explains_truly(*id, job, now);
        }
    }

    fn explains_truly(&self, id: JobId, live: &LiveJob, now: Clocks) {
        let Some(why) = self.core.explain(id) else { broken!(ExplainsTruly, "nobody knows why of job {id}") };
        let mut could_run = false;
        let is_true = match &why {
            Explanation::WaitsForJobs { count } => {
                let on = self.store.specs[&id].depends_on.iter();
                let to_come = on.filter(|on| self.is_to_come(**on)).count();
                *count > 0 && *count as usize == to_come
            }
            Explanation::Evaluating { is_gathering } => match kind(id) {
                Kind::List => true,
                Kind::Condition => !is_gathering,
                Kind::Plain => !is_gathering && self.depends_on(id, |status| status == FinalStatus::Skipped),
            },
            Explanation::WaitsForElements { elements, unfinished, jobs } => {
                let are_live = jobs.iter().all(|job| self.store.live.contains_key(&job.head.id));
                let is_list = kind(id) == Kind::List && *elements == elements_of(id);
                is_list
                    && are_live
                    && jobs.len() <= *unfinished as usize
                    && (*unfinished > 0 || self.core.has_work())
            }
            Explanation::UpstreamFailing => self.has_failed_upstream(id),
            Explanation::Cancelling => self.oracle.flows_cancelled.contains(&live.head.flow),
            Explanation::NotSealed { submission } => {
                let record = self.store.submissions.get(submission);
                let is_sealed = record.is_some_and(|record| record.sealed);
                // What is sealed is let go in pieces.
                live.submission == Some(*submission) && (!is_sealed || self.core.has_work())
            }
            Explanation::HandedBack { times, .. } => {
                could_run = true;
                let last = live.attempts.last().map(|last| last.how);
                *times > 1 && matches!(last, Some(AttemptEnd::HandedBack | AttemptEnd::NotHeld))
            }
            Explanation::Delayed { until } => {
                could_run = true;
                live.tries.not_before == Some(*until) && live.tries.failed == 0
            }
            Explanation::BackingOff { failed, until, .. } => {
                could_run = true;
                let counted = self.oracle.tries.failed.get(&id).copied().unwrap_or_default();
                live.tries.not_before == Some(*until) && counted == *failed && *failed > 0
            }
            Explanation::HeldByAncestors { attempts } => {
                let runs = |live: &LiveJob| live.running.is_some();
                !attempts.is_empty()
                    && attempts.iter().all(|attempt| {
                        let live = self.store.live.get(&attempt.job).filter(|live| runs(live));
                        live.is_some_and(|live| live.attempt == attempt.attempt)
                    })
            }
            Explanation::Paused { pauses } => {
                let of_job = targets(&live.head);
                let is_one = |target| of_job.contains(target) && self.store.pauses.contains_key(target);
                !pauses.is_empty() && pauses.iter().all(|pause| is_one(&pause.target))
            }
            Explanation::NoInstance { .. } => {
                could_run = true;
                self.may_run(live, now) && self.offering(live).next().is_none()
            }
            Explanation::NoFittingInstance { some, .. } => {
                could_run = true;
                let none_takes_all = self.offering(live).all(|(_, version)| version != versions::TAKES_ALL);
                let fits = |session: &SessionId| {
                    self.offering(live)
                        .any(|(other, version)| other == *session && versions::takes(version, id))
                };
                let none_fits = some.iter().all(|(session, _)| !fits(session));
                self.may_run(live, now) && none_takes_all && none_fits
            }
            Explanation::NoFreeWindow { instances, draining, window, held, jobs_before } => {
                could_run = true;
                let is_full =
                    held >= window || draining == instances || *jobs_before > 0 || self.core.has_work();
                self.may_run(live, now) && *instances > 0 && is_full
            }
            Explanation::Suspected { elves_lost, .. } => {
                could_run = true;
                self.may_run(live, now) && *elves_lost == live.elves_lost && *elves_lost > 0
            }
            Explanation::Held { running, .. } => {
                live.running.map(|running| running.session) == Some(running.session)
            }
        };
        holds!(
            ExplainsTruly,
            is_true,
            "of job {id} it is said that {why:?}; sessions {:?}, {live:?}",
            ELVES.map(|elf| self.core.elf(elf))
        );
        if could_run {
            let pause = targets(&live.head).into_iter().find(|target| self.store.pauses.contains_key(target));
            same!(ExplainsTruly, pause, None, "job {id} is paused, and it is said that {why:?}");
        }
    }

    /// Whether a job has not ended, or what its end means for others is not through.
    fn is_to_come(&self, job: JobId) -> bool {
        self.store.live.contains_key(&job)
            || self.store.propagations.iter().any(|propagation| propagation.cause == job)
    }

    /// Whether a job that one depends on did not end well, or one that such a job depends on, and so on.
    fn has_failed_upstream(&self, job: JobId) -> bool {
        let mut seen = BTreeSet::from([job]);
        let mut next = vec![job];
        while let Some(job) = next.pop() {
            let elements = if kind(job) == Kind::List { elements_of(job) } else { 0 };
            let elements = (0..elements).map(|index| element(job, index));
            let on = self.store.specs.get(&job).into_iter().flat_map(|spec| spec.depends_on.iter().copied());
            for on in on.chain(elements) {
                match self.store.finished.get(&on).map(|end| end.end.status()) {
                    Some(status) if !status.lets_dependents_go_on() => return true,
                    Some(_) => {}
                    None => next.extend(seen.insert(on).then_some(on)),
                }
            }
        }
        false
    }

    fn depends_on(&self, job: JobId, how: impl Fn(FinalStatus) -> bool) -> bool {
        let ends = self.store.specs[&job].depends_on.iter().filter_map(|on| self.store.finished.get(on));
        ends.into_iter().any(|end| how(end.end.status()))
    }

    /// Whether nothing is stored that keeps a job from running.
    fn may_run(&self, live: &LiveJob, now: Clocks) -> bool {
        let id = live.head.id;
        let waits = live.tries.not_before.is_some_and(|moment| {
            moment > now.wall && !self.oracle.deadlines.has_come(id, Timer::Delay, moment)
        });
        live.running.is_none() && !waits
    }

    /// The sessions with open streams that offer the task of a job, and as which version.
    fn offering(&self, live: &LiveJob) -> impl Iterator<Item = (SessionId, u8)> {
        self.of_session.iter().filter_map(move |(session, stream)| {
            let stream = self.streams.get(stream)?;
            let is_there = self.store.sessions.contains_key(&session.0);
            let is_its_elf = *live.head.elf == *ELVES[self.processes[stream.process].elf];
            let offers = tasks(stream.process).contains(&&*live.head.task);
            (is_there && is_its_elf && offers).then_some((*session, stream.version))
        })
    }
}
