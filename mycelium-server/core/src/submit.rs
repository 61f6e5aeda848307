//! Taking in new jobs.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::batch::{Now, Stored, Touched};
use crate::command::{Facts, FinishedFact, NewJob, Part, Submit};
use crate::core::Core;
use crate::effects::{Effects, End, Refusal, Reply, SpecRecord};
use crate::ids::{Clocks, FlowId, FlowNumber, JobId, JobNumber, RequestId};
use crate::image::{FlowRecord, JobHead};
use crate::slab::{Job, Slot, State};
use crate::status::{FinalCounts, FinalStatus};
use crate::submissions::{Phase, Submission};
use crate::transitions::Ending;

/// What the store said, ordered so that a job is found fast.
pub(crate) struct FinishedFacts(Vec<FinishedFact>);

impl FinishedFacts {
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut finished = facts.finished.clone();
        finished.sort_unstable_by_key(|fact| fact.id);
        Self(finished)
    }

    pub(crate) fn find(&self, id: &JobId) -> Option<&FinishedFact> {
        let index = self.0.binary_search_by_key(id, |fact| fact.id).ok()?;
        self.0.get(index)
    }
}

/// What is to become of the jobs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// They are a submission of their own.
    Whole,
    /// They begin a submission.
    FirstPart,
    /// They are the next part of this submission.
    NextPart(u32),
    /// They were taken before, and must all be there.
    Repeat,
}

/// What a new job depends on.
#[derive(Debug, Clone, Copy)]
enum Dependency {
    /// A job of the same call.
    New(usize),
    /// An unfinished job.
    Live(Slot),
    /// A job that is done.
    Done,
    /// A job that was skipped.
    Skipped,
    /// A job that ended otherwise, and the cause to name.
    Ended { id: JobId, cause: JobId },
}

/// A call that has passed all checks.
struct Plan {
    /// The jobs to take in, as indexes into the call, each after those it depends on.
    order: Vec<usize>,
    /// All dependencies of all jobs of the call.
    dependencies: Vec<Dependency>,
    /// Where those of each job are.
    ranges: Vec<Range<usize>>,
    existing: u32,
}

impl Core {
    pub(crate) fn on_submit(&mut self, now: Clocks, submit: Submit, effects: &mut Effects) {
        let request = submit.request;
        let part = submit.part;
        let intake = match self.intake(part, submit.flow, &submit.facts) {
            Ok(intake) => intake,
            Err(refusal) => return self.refuse_submit(request, part, refusal, effects),
        };
        if let Some(elements) = submit.elements
            && let Err(refusal) = self.check_elements(elements)
        {
            return self.refuse_submit(request, part, refusal, effects);
        }
        match self.plan(intake, &submit) {
            Ok(plan) => self.take_in(now, intake, submit, plan, effects),
            Err(refusal) => self.refuse_submit(request, part, refusal, effects),
        }
    }

    /// Refuses a call. If it was a part of an open submission, the submission is dropped, and the answer goes out
    /// when nothing is left of it: then all its ids are free again.
    fn refuse_submit(
        &mut self,
        request: RequestId,
        part: Option<Part>,
        refusal: Refusal,
        effects: &mut Effects,
    ) {
        let open = part
            .filter(|_| refusal != Refusal::FactsStale)
            .and_then(|part| self.submissions.by_id.get(&part.submission).copied())
            .filter(|&index| matches!(self.submissions.arena[index].phase, Phase::Open { .. }));
        match open {
            Some(index) => self.begin_drop(index, Some((request, refusal))),
            None => effects.replies.push((request, Err(refusal))),
        }
    }

    fn intake(&self, part: Option<Part>, flow: FlowId, facts: &Facts) -> Result<Intake, Refusal> {
        if facts.as_of < self.forgotten {
            return Err(Refusal::FactsStale);
        }
        let Some(part) = part else { return Ok(Intake::Whole) };
        let out_of_order = |expected| Refusal::SubmissionOutOfOrder {
            submission: part.submission,
            index: part.index,
            expected,
        };
        if let Some(&index) = self.submissions.by_id.get(&part.submission) {
            let submission = &self.submissions.arena[index];
            let is_of_flow = self.flows.arena[submission.flow].id == flow;
            return match submission.phase {
                Phase::Open { .. } if part.index == submission.next_part && is_of_flow => {
                    Ok(Intake::NextPart(index))
                }
                Phase::Open { .. } | Phase::Sealing if part.index < submission.next_part => {
                    Ok(Intake::Repeat)
                }
                Phase::Open { .. } => Err(out_of_order(Some(submission.next_part))),
                Phase::Sealing | Phase::Dropping => Err(out_of_order(None)),
            };
        }
        if self.submissions.is_sealed(part.submission) {
            return Ok(Intake::Repeat);
        }
        if facts.as_of < self.submissions.forgotten {
            return Err(Refusal::FactsStale);
        }
        match (facts.submission_sealed, part.index) {
            (true, _) => Ok(Intake::Repeat),
            (false, 0) => Ok(Intake::FirstPart),
            (false, _) => Err(out_of_order(None)),
        }
    }

    /// Checks a call without changing anything.
    fn plan(&self, intake: Intake, submit: &Submit) -> Result<Plan, Refusal> {
        let facts = FinishedFacts::new(&submit.facts);
        let own = match intake {
            Intake::NextPart(index) => Some(index),
            Intake::Repeat => {
                submit.part.and_then(|part| self.submissions.by_id.get(&part.submission).copied())
            }
            Intake::Whole | Intake::FirstPart => None,
        };

        let mut existing = 0;
        let mut is_new = Vec::with_capacity(submit.jobs.len());
        for job in &submit.jobs {
            let is_there = self.is_there(job, submit.flow, own, &facts)?;
            existing += u32::from(is_there);
            is_new.push(!is_there);
        }
        if intake == Intake::Repeat && is_new.contains(&true) {
            let Some(Part { submission, index, .. }) = submit.part else {
                return Err(Refusal::FlowNotFound(submit.flow));
            };
            return Err(Refusal::SubmissionOutOfOrder { submission, index, expected: None });
        }

        let places = places_of(&submit.jobs, &is_new, &mut existing)?;
        let mut dependencies = Vec::new();
        let mut ranges = Vec::with_capacity(submit.jobs.len());
        let mut is_ordered = true;
        for (index, job) in submit.jobs.iter().enumerate() {
            let begin = dependencies.len();
            if is_new[index] {
                for id in &job.depends_on {
                    let dependency = match find_place(&places, id) {
                        Some(place) => Dependency::New(place),
                        None => self.dependency(id, own, &facts).ok_or(Refusal::JobNotFound(*id))?,
                    };
                    is_ordered &= !matches!(dependency, Dependency::New(place) if place >= index);
                    dependencies.push(dependency);
                }
            }
            ranges.push(begin..dependencies.len());
        }

        let new: Vec<usize> = places_in_order(&places);
        let order = if is_ordered { new } else { topological_order(submit, new, &dependencies, &ranges)? };
        let unfinished = self.slab.len() as u64;
        if unfinished + order.len() as u64 > self.config.unfinished_max && !order.is_empty() {
            return Err(Refusal::BacklogFull { unfinished, limit: self.config.unfinished_max });
        }
        Ok(Plan { order, dependencies, ranges, existing })
    }

    /// Whether a job of the call is there already, with the same content.
    fn is_there(
        &self,
        job: &NewJob,
        flow: FlowId,
        own: Option<u32>,
        facts: &FinishedFacts,
    ) -> Result<bool, Refusal> {
        let (there_flow, there_digest) = if let Some(slot) = self.slab.find(&job.head.id) {
            let there = &self.slab[slot];
            if let State::Unsealed { submission, .. } = there.state {
                match self.submissions.arena[submission].phase {
                    // It may still vanish with the other submission, and so cannot be promised here.
                    Phase::Open { .. } if own != Some(submission) => {
                        return Err(Refusal::ContentDiffers(job.head.id));
                    }
                    // It is about to vanish: to be asked again.
                    Phase::Dropping => return Err(Refusal::FactsStale),
                    Phase::Open { .. } | Phase::Sealing => {}
                }
            }
            (self.flows.arena[there.flow].id, there.digest)
        } else if let Some(recent) = self.recents.get(&job.head.id) {
            (self.flows.arena[recent.flow].id, recent.digest)
        } else if let Some(fact) = facts.find(&job.head.id) {
            (fact.flow, fact.digest)
        } else {
            return Ok(false);
        };
        if there_flow == flow && there_digest == job.digest {
            Ok(true)
        } else {
            Err(Refusal::ContentDiffers(job.head.id))
        }
    }

    /// What is known of a job that a new one depends on. `None`: nothing.
    fn dependency(&self, id: &JobId, own: Option<u32>, facts: &FinishedFacts) -> Option<Dependency> {
        if let Some(slot) = self.slab.find(id) {
            return match self.slab[slot].state {
                State::Unsealed { submission, .. }
                    if own != Some(submission)
                        && self.submissions.arena[submission].phase != Phase::Sealing =>
                {
                    None
                }
                // It will end because of what is being settled now: only that walk dooms jobs.
                State::Doomed => {
                    let cause = self.settles.front().map_or(*id, |settle| settle.cause);
                    Some(Dependency::Ended { id: *id, cause })
                }
                State::Vacant => None,
                State::Unsealed { .. }
                | State::Pending { .. }
                | State::Evaluating { .. }
                | State::Gathering
                | State::Ready { .. }
                | State::Running { .. } => Some(Dependency::Live(slot)),
            };
        }
        let (status, cause) = match self.recents.get(id) {
            Some(recent) => (recent.status, recent.cause),
            None => (facts.find(id)?.status, *id),
        };
        Some(match status {
            FinalStatus::Done => Dependency::Done,
            FinalStatus::Skipped => Dependency::Skipped,
            FinalStatus::Failed | FinalStatus::UpstreamFailed | FinalStatus::Cancelled => {
                Dependency::Ended { id: *id, cause: self.cause_to_name(*id, cause) }
            }
        })
    }

    fn take_in(&mut self, now: Clocks, intake: Intake, submit: Submit, plan: Plan, effects: &mut Effects) {
        let Submit { request, flow, flow_name, part, elements, jobs, facts } = submit;
        let Plan { order, dependencies, ranges, existing } = plan;
        let created = u32::try_from(order.len()).unwrap_or(u32::MAX);
        let reply = Reply::Submitted { created, existing };
        if intake == Intake::Repeat {
            effects.replies.push((request, Ok(reply)));
            return;
        }
        let elements = elements.map(|elements| {
            let ids: Vec<JobId> = jobs.iter().map(|job| job.head.id).collect();
            (elements, ids, FinishedFacts::new(&facts))
        });
        let flow = self.flow_for(now, flow, flow_name, facts.flow);
        let submission = match (intake, part) {
            (Intake::NextPart(index), _) => Some(index),
            (Intake::FirstPart, Some(part)) => Some(self.insert_submission(Submission {
                id: part.submission,
                flow,
                next_part: 0,
                phase: Phase::Open { idle_until: now.steady.after(self.config.submission_idle_max) },
                jobs: Vec::new(),
            })),
            (Intake::Whole | Intake::FirstPart | Intake::Repeat, _) => None,
        };

        let mut places = vec![Placed::Not; jobs.len()];
        let mut jobs: Vec<Option<NewJob>> = jobs.into_iter().map(Some).collect();
        self.slab.reserve(order.len());
        for index in order {
            let Some(job) = jobs[index].take() else { continue };
            let dependencies = &dependencies[ranges[index].clone()];
            let gathered_by = elements.as_ref().map(|(elements, ..)| elements.of);
            places[index] =
                self.take_in_job(now, (flow, submission), gathered_by, job, dependencies, &places);
        }

        if let Some((elements, ids, facts)) = elements {
            self.link_elements(elements, &ids, &facts);
        }

        let Some((index, part)) = submission.zip(part) else {
            effects.replies.push((request, Ok(reply)));
            return;
        };
        self.submissions.arena[index].next_part = part.index.saturating_add(1);
        if part.seal {
            self.begin_seal(index, request, reply);
        } else {
            let idle_until = now.steady.after(self.config.submission_idle_max);
            self.submissions.set_phase(index, Phase::Open { idle_until });
            self.touch_submission(index);
            effects.replies.push((request, Ok(reply)));
        }
    }

    /// The flow of a submission: the one that is there, or a new one.
    fn flow_for(
        &mut self,
        now: Clocks,
        id: FlowId,
        name: std::sync::Arc<str>,
        stored: Option<FlowRecord>,
    ) -> u32 {
        if let Some(flow) = self.flows.find(id) {
            return flow;
        }
        if let Some(record) = stored.filter(|record| record.id == id) {
            return self.flows.insert(record, crate::ids::Commit(0));
        }
        let number = FlowNumber(self.counters.flow.0 + 1);
        self.counters.flow = number;
        let finished = FinalCounts::default();
        let commit = self.commit_next();
        let flow = self.flows.insert(FlowRecord { id, name, number, created_at: now.wall, finished }, commit);
        self.flows.touch(flow, commit);
        flow
    }

    fn take_in_job(
        &mut self,
        now: Clocks,
        (flow, submission): (u32, Option<u32>),
        gathered_by: Option<JobId>,
        job: NewJob,
        dependencies: &[Dependency],
        places: &[Placed],
    ) -> Placed {
        let NewJob { head, depends_on, evaluate, digest, spec } = job;
        self.counters.job = JobNumber(self.counters.job.0 + 1);
        let flow_id = self.flows.arena[flow].id;
        let head = JobHead { flow: flow_id, number: self.counters.job, submitted_at: now.wall, ..head };
        let task = self.names.use_task_of(&head);
        let mut job = Job {
            evaluate: evaluate
                || dependencies.iter().any(|dependency| matches!(dependency, Dependency::Skipped)),
            ..Job::new(&head, digest, flow, task)
        };
        let created = SpecRecord { head, digest, depends_on, evaluate, gathered_by, body: spec };

        let ended = dependencies.iter().find_map(|dependency| match dependency {
            Dependency::Ended { cause, .. } => Some(*cause),
            Dependency::New(index) => match places[*index] {
                Placed::Ended(cause) => Some(cause),
                Placed::Not | Placed::At(_) => None,
            },
            Dependency::Live(_) | Dependency::Done | Dependency::Skipped => None,
        });
        if submission.is_none()
            && let Some(cause) = ended
        {
            self.take_in_ended(now, &job, created, cause);
            return Placed::Ended(cause);
        }

        job.touch = u32::try_from(self.batch.touched.len()).expect("a batch is bounded");
        let slot = self.slab.insert(job);
        let mut waiting = 0;
        let mut waits_for = Vec::new();
        for (dependency, id) in dependencies.iter().zip(&created.depends_on) {
            let on = match dependency {
                Dependency::Done | Dependency::Skipped => continue,
                Dependency::Live(on) => Some(*on),
                Dependency::New(index) => match places[*index] {
                    Placed::At(on) => Some(on),
                    Placed::Not | Placed::Ended(_) => None,
                },
                Dependency::Ended { id, cause } => {
                    self.park(slot, *id, *cause);
                    None
                }
            };
            if let Some(on) = on {
                self.slab.add_dependent(on, slot);
            }
            waiting += 1;
            waits_for.push(*id);
        }
        self.batch.touched.push(Touched {
            id: created.head.id,
            flow: flow_id,
            before: None,
            created: Some(created),
            revived: None,
            waits_for,
            stored: Stored::Record,
            now: Now::Live(slot),
        });
        let state = match (submission, waiting) {
            (Some(submission), waiting) => State::Unsealed { submission, waiting },
            (None, 0) => self.waited(slot),
            (None, waiting) => State::Pending { waiting },
        };
        if let Some(submission) = submission {
            self.submissions.arena[submission].jobs.push(slot);
        }
        self.enter_new(slot, state);
        Placed::At(slot)
    }

    /// Takes in a job that depends on one that did not end done: it ends at once.
    fn take_in_ended(&mut self, now: Clocks, job: &Job, created: SpecRecord, cause: JobId) {
        let ending = Ending::unreported(End::UpstreamFailed(cause), None);
        let record = self.finished_record(now, job, ending);
        self.batch.touched.push(Touched {
            id: job.id,
            flow: self.flows.arena[job.flow].id,
            before: None,
            created: Some(created),
            revived: None,
            waits_for: Vec::new(),
            stored: Stored::Record,
            now: Now::Finished(Box::new(record)),
        });
        self.names.unuse_task(job.task);
        self.remember(job, ending);
    }
}

/// What has become of a job of the call.
#[derive(Debug, Clone, Copy)]
enum Placed {
    /// Not taken in: it was there.
    Not,
    /// Taken in.
    At(Slot),
    /// Ended at once, because of this job.
    Ended(JobId),
}

/// The new jobs by id, each with its index in the call. Of two with one id the first counts.
fn places_of(jobs: &[NewJob], is_new: &[bool], existing: &mut u32) -> Result<Vec<(JobId, usize)>, Refusal> {
    let mut places: Vec<(JobId, usize)> =
        (0..jobs.len()).filter(|&index| is_new[index]).map(|index| (jobs[index].head.id, index)).collect();
    places.sort_unstable();
    let mut differing = None;
    places.dedup_by(|later, earlier| {
        let is_same_id = later.0 == earlier.0;
        if is_same_id {
            *existing += 1;
            if jobs[later.1].digest != jobs[earlier.1].digest {
                differing = Some(later.0);
            }
        }
        is_same_id
    });
    match differing {
        Some(id) => Err(Refusal::ContentDiffers(id)),
        None => Ok(places),
    }
}

fn find_place(places: &[(JobId, usize)], id: &JobId) -> Option<usize> {
    let index = places.binary_search_by_key(id, |(id, _)| *id).ok()?;
    places.get(index).map(|&(_, place)| place)
}

fn places_in_order(places: &[(JobId, usize)]) -> Vec<usize> {
    let mut order: Vec<usize> = places.iter().map(|&(_, index)| index).collect();
    order.sort_unstable();
    order
}

/// The new jobs, each after those it depends on, and otherwise in the order of the call.
fn topological_order(
    submit: &Submit,
    new: Vec<usize>,
    dependencies: &[Dependency],
    ranges: &[Range<usize>],
) -> Result<Vec<usize>, Refusal> {
    let new_dependencies = |index: usize| {
        dependencies[ranges[index].clone()].iter().filter_map(|dependency| match dependency {
            Dependency::New(place) => Some(*place),
            Dependency::Live(_) | Dependency::Done | Dependency::Skipped | Dependency::Ended { .. } => None,
        })
    };
    let mut waiting = vec![0_usize; submit.jobs.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); submit.jobs.len()];
    for &index in &new {
        for on in new_dependencies(index) {
            waiting[index] += 1;
            dependents[on].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = new.iter().copied().filter(|&index| waiting[index] == 0).collect();
    let mut order = Vec::with_capacity(new.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &dependent in &dependents[index] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                ready.insert(dependent);
            }
        }
    }
    if order.len() == new.len() {
        return Ok(order);
    }
    // Each job left over waits for another one left over: whoever walks along that comes into a circle.
    let mut at = new.into_iter().find(|&index| waiting[index] > 0).unwrap_or_default();
    for _ in 0..submit.jobs.len() {
        at = new_dependencies(at).find(|&on| waiting[on] > 0).unwrap_or(at);
    }
    Err(Refusal::DependencyCycle(submit.jobs[at].head.id))
}

#[cfg(test)]
mod tests;
