//! Taking in new jobs.

use crate::command::{NewFlow, NewJob, Part, Submit};
use crate::deletions::Deletions;
use crate::effects::{Effects, End, Refusal, Reply, SpecRecord};
use crate::graph::Graph;
use crate::ids::{Clocks, Commit, FlowId, JobId, PolicyId, RequestId};
use crate::image::{FlowRecord, JobHead};
use crate::index::{FlowIdx, Slot, SubmissionIdx};
use crate::jobs::{Arrival, Ending, Job, State};

use crate::outbox::Outbox;
use crate::preconditions::Finished;
use crate::submissions::{Phase, Submission, Submissions};
use crate::suspicion::Suspicion;
use crate::work::Backlog;

use plan::{Dependency, Intake, Plan, Planner};

mod plan;
mod sealing;

/// Takes in submissions.
pub(crate) struct Submitting<'a> {
    pub(crate) graph: Graph<'a>,
    pub(crate) submissions: &'a mut Submissions,
    pub(crate) deletions: &'a Deletions,
    pub(crate) work: &'a mut Backlog,
    pub(crate) outbox: &'a mut Outbox,
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

impl Submitting<'_> {
    pub(crate) fn on_submit(&mut self, now: Clocks, submit: Submit, effects: &mut Effects) {
        let request = submit.request;
        let part = submit.part;
        let intake = match self.planner().intake(part, submit.flow, &submit.preconditions) {
            Ok(intake) => intake,
            Err(refusal) => return self.refuse_submit(request, part, refusal, effects),
        };
        if let Some(elements) = submit.elements
            && let Err(refusal) = self.graph.check_elements(elements)
        {
            return self.refuse_submit(request, part, refusal, effects);
        }
        match self.planner().plan(intake, &submit) {
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
            .filter(|_| refusal != Refusal::PreconditionsStale)
            .and_then(|part| self.submissions.find(part.submission))
            .filter(|&index| self.submissions[index].phase == Phase::Open);
        match open {
            Some(index) => self.begin_drop(index, Some((request, refusal))),
            None => effects.replies.push((request, Err(refusal))),
        }
    }

    fn planner(&self) -> Planner<'_> {
        let Graph { config, jobs, propagation, .. } = &self.graph;
        Planner { config, jobs, propagation, submissions: self.submissions, deletions: self.deletions }
    }

    fn take_in(&mut self, now: Clocks, intake: Intake, submit: Submit, plan: Plan, effects: &mut Effects) {
        let Submit { request, flow, new_flow, part, elements, jobs, preconditions } = submit;
        let Plan { order, dependencies, ranges, existing } = plan;
        let created = u32::try_from(order.len()).unwrap_or(u32::MAX);
        let reply = Reply::Submitted { created, existing };
        if intake == Intake::Repeat {
            effects.replies.push((request, Ok(reply)));
            return;
        }
        let elements = elements.map(|elements| {
            let ids: Vec<JobId> = jobs.iter().map(|job| job.head.id).collect();
            (elements, ids, Finished::new(&preconditions))
        });
        let flow = self.flow_for(now, flow, new_flow, preconditions.flow);
        let submission = match (intake, part) {
            (Intake::NextPart(index), _) => Some(index),
            (Intake::FirstPart, Some(part)) => {
                self.graph.jobs.begin_submission(flow);
                let (id, phase) = (part.submission, Phase::Open);
                Some(self.submissions.insert(Submission { id, flow, next_part: 0, phase, jobs: Vec::new() }))
            }
            (Intake::Whole | Intake::FirstPart | Intake::Repeat, _) => None,
        };

        let mut places = vec![Placed::Not; jobs.len()];
        let mut jobs: Vec<Option<NewJob>> = jobs.into_iter().map(Some).collect();
        self.graph.jobs.reserve(order.len());
        for index in order {
            let Some(job) = jobs[index].take() else { continue };
            let dependencies = &dependencies[ranges[index].clone()];
            let gathered_by = elements.as_ref().map(|(elements, ..)| elements.of);
            places[index] =
                self.take_in_job(now, (flow, submission), gathered_by, job, dependencies, &places);
        }

        if let Some((elements, ids, finished)) = elements {
            self.graph.link_elements(elements, &ids, &finished);
        }

        let Some((index, part)) = submission.zip(part) else {
            effects.replies.push((request, Ok(reply)));
            return;
        };
        self.submissions.take_part(index, part.index);
        if part.seal {
            self.begin_seal(index, request, reply);
        } else {
            self.await_part(now, index);
            effects.replies.push((request, Ok(reply)));
        }
    }

    /// The flow of a submission: the one that is there, or a new one.
    fn flow_for(&mut self, now: Clocks, id: FlowId, made: NewFlow, stored: Option<FlowRecord>) -> FlowIdx {
        let jobs = &mut self.graph.jobs;
        if let Some(flow) = jobs.find_flow(id) {
            return flow;
        }
        match stored.filter(|record| record.id == id) {
            Some(record) => jobs.insert_flow(record, Commit(0)),
            None => jobs.new_flow(id, made, now.wall),
        }
    }

    fn take_in_job(
        &mut self,
        now: Clocks,
        (flow, submission): (FlowIdx, Option<SubmissionIdx>),
        gathered_by: Option<JobId>,
        job: NewJob,
        dependencies: &[Dependency],
        places: &[Placed],
    ) -> Placed {
        let NewJob { head, depends_on, evaluate, digest, judged, policy, begins, spec } = job;
        let policy = self.graph.jobs.policies_mut().intern(policy.as_ref());
        let head = self.graph.jobs.number(JobHead { policy, ..head }, flow, now.wall);
        #[cfg(feature = "planted-bugs")]
        let head = match self.graph.config.leaves_out(crate::config::PlantedBug::ShapeNotAsked) {
            true => JobHead { shape: crate::signature::Shape::UNKNOWN, ..head },
            false => head,
        };
        let named = self.graph.jobs.use_of(&head, judged, Suspicion::None);
        let job = Job {
            evaluate: evaluate
                || dependencies.iter().any(|dependency| matches!(dependency, Dependency::Skipped)),
            ..Job::new(&head, digest, flow, named)
        };
        let head = JobHead { policy: PolicyId::default(), ..head };
        let begins_at = begins.moment(now.wall);
        let created = SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body: spec };

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
            // It depends on one that did not end done, and ends at once.
            let ending = Ending::unreported(End::UpstreamFailed(cause), None);
            self.graph.jobs.insert_finished(&job, created, now.wall, ending);
            return Placed::Ended(cause);
        }

        let is_waited_for = |dependency: &Dependency| match dependency {
            Dependency::Done | Dependency::Skipped => false,
            Dependency::New(_) | Dependency::Live(_) | Dependency::Ended { .. } => true,
        };
        let waits_for: Vec<JobId> = dependencies
            .iter()
            .zip(&created.depends_on)
            .filter(|(dependency, _)| is_waited_for(dependency))
            .map(|(_, id)| *id)
            .collect();
        let waiting = u32::try_from(waits_for.len()).expect("a job's dependencies are bounded");
        let created = Some(created);
        let slot =
            self.graph.jobs.insert(Arrival { job, created, revived: None, waits_for, attempts: Vec::new() });
        if let Some(not_before) = begins_at {
            self.graph.jobs.set_not_before(slot, not_before);
        }
        for dependency in dependencies {
            let on = match dependency {
                Dependency::Done | Dependency::Skipped => None,
                Dependency::Live(on) => Some(*on),
                Dependency::New(index) => match places[*index] {
                    Placed::At(on) => Some(on),
                    Placed::Not | Placed::Ended(_) => None,
                },
                Dependency::Ended { id, cause } => {
                    self.graph.propagation.await_seal(slot, *id, *cause);
                    None
                }
            };
            if let Some(on) = on {
                self.graph.jobs.add_dependent(on, slot);
            }
        }
        let state = match (submission, waiting) {
            (Some(submission), waiting) => State::Unsealed { submission, waiting },
            (None, 0) => self.graph.waited(slot),
            (None, waiting) => State::Pending { waiting },
        };
        if let Some(submission) = submission {
            self.submissions.add_job(submission, slot);
        }
        self.graph.jobs.enter_new(slot, state);
        Placed::At(slot)
    }
}

#[cfg(test)]
mod tests;
