//! Checks a call that submits jobs, without changing anything.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::command::{NewJob, Part, Preconditions, Submit};
use crate::config::Config;
use crate::deletions::Deletions;
use crate::effects::Refusal;
use crate::ids::{FlowId, JobId};
use crate::index::{Slot, SubmissionIdx};
use crate::jobs::{Jobs, State};
use crate::preconditions::Finished;
use crate::propagation::Propagation;
use crate::status::FinalStatus;
use crate::submissions::{Phase, Submissions};

/// What is to become of the jobs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// They are a submission of their own.
    Whole,
    /// They begin a submission.
    FirstPart,
    /// They are the next part of this submission.
    NextPart(SubmissionIdx),
    /// They were taken before, and must all be there.
    Repeat,
}

/// What a new job depends on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dependency {
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
pub(super) struct Plan {
    /// The jobs to take in, as indexes into the call, each after those it depends on.
    pub(super) order: Vec<usize>,
    /// All dependencies of all jobs of the call.
    pub(super) dependencies: Vec<Dependency>,
    /// Where those of each job are.
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) existing: u32,
}

/// What a call is checked against.
pub(super) struct Planner<'a> {
    pub(super) config: &'a Config,
    pub(super) jobs: &'a Jobs,
    pub(super) propagation: &'a Propagation,
    pub(super) submissions: &'a Submissions,
    pub(super) deletions: &'a Deletions,
}

impl Planner<'_> {
    pub(super) fn intake(
        &self,
        part: Option<Part>,
        flow: FlowId,
        preconditions: &Preconditions,
    ) -> Result<Intake, Refusal> {
        if self.jobs.is_stale(preconditions.as_of) {
            return Err(Refusal::PreconditionsStale);
        }
        if self.deletions.has(flow) {
            return Err(Refusal::FlowDeleting(flow));
        }
        let Some(part) = part else { return Ok(Intake::Whole) };
        let out_of_order = |expected| Refusal::SubmissionOutOfOrder {
            submission: part.submission,
            index: part.index,
            expected,
        };
        if let Some(index) = self.submissions.find(part.submission) {
            let submission = &self.submissions[index];
            let is_of_flow = self.jobs.flow(submission.flow).id == flow;
            return match submission.phase {
                Phase::Open if part.index == submission.next_part && is_of_flow => {
                    Ok(Intake::NextPart(index))
                }
                Phase::Open | Phase::Sealing if part.index < submission.next_part => Ok(Intake::Repeat),
                Phase::Open => Err(out_of_order(Some(submission.next_part))),
                Phase::Sealing | Phase::Dropping => Err(out_of_order(None)),
            };
        }
        if self.submissions.is_sealed(part.submission) {
            return Ok(Intake::Repeat);
        }
        if self.submissions.is_stale(preconditions.as_of) {
            return Err(Refusal::PreconditionsStale);
        }
        match (preconditions.submission_sealed, part.index) {
            (true, _) => Ok(Intake::Repeat),
            (false, 0) => Ok(Intake::FirstPart),
            (false, _) => Err(out_of_order(None)),
        }
    }

    /// Checks a call without changing anything.
    pub(super) fn plan(&self, intake: Intake, submit: &Submit) -> Result<Plan, Refusal> {
        let finished = Finished::new(&submit.preconditions);
        let own = match intake {
            Intake::NextPart(index) => Some(index),
            Intake::Repeat => submit.part.and_then(|part| self.submissions.find(part.submission)),
            Intake::Whole | Intake::FirstPart => None,
        };

        let mut existing = 0;
        let mut is_new = Vec::with_capacity(submit.jobs.len());
        for job in &submit.jobs {
            let is_there = self.is_there(job, submit.flow, own, &finished)?;
            existing += u32::from(is_there);
            is_new.push(!is_there);
        }
        if intake == Intake::Repeat && is_new.contains(&true) {
            let Some(Part { submission, index, .. }) = submit.part else {
                return Err(Refusal::FlowNotFound(submit.flow));
            };
            return Err(Refusal::SubmissionOutOfOrder { submission, index, expected: None });
        }

        // A stub takes in nothing new. What is there of it is answered as for every flow.
        let is_stub = match self.jobs.find_flow(submit.flow) {
            Some(flow) => self.jobs.flow(flow).deleted_at.is_some(),
            None => submit.preconditions.flow.as_ref().is_some_and(|flow| flow.deleted_at.is_some()),
        };
        if is_stub && is_new.contains(&true) {
            return Err(Refusal::FlowDeleted(submit.flow));
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
                        None => self.dependency(id, own, &finished)?,
                    };
                    is_ordered &= !matches!(dependency, Dependency::New(place) if place >= index);
                    dependencies.push(dependency);
                }
            }
            ranges.push(begin..dependencies.len());
        }

        let new: Vec<usize> = places_in_order(&places);
        let order = if is_ordered { new } else { topological_order(submit, new, &dependencies, &ranges)? };
        let unfinished = self.jobs.len() as u64;
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
        own: Option<SubmissionIdx>,
        finished: &Finished,
    ) -> Result<bool, Refusal> {
        let (there_flow, there_digest) = if let Some(slot) = self.jobs.find(&job.head.id) {
            let there = &self.jobs[slot];
            if let State::Unsealed { submission, .. } = there.state {
                match self.submissions[submission].phase {
                    // It may still vanish with the other submission, and so cannot be promised here.
                    Phase::Open if own != Some(submission) => {
                        return Err(Refusal::ContentDiffers(job.head.id));
                    }
                    // It is about to vanish: to be asked again.
                    Phase::Dropping => return Err(Refusal::PreconditionsStale),
                    Phase::Open | Phase::Sealing => {}
                }
            }
            (self.jobs.flow_of(there).id, there.digest)
        } else if let Some(recent) = self.jobs.recents().get(&job.head.id) {
            (self.jobs.flow(recent.flow).id, recent.digest)
        } else if let Some(known) = finished.find(&job.head.id) {
            (known.flow, known.digest)
        } else {
            return Ok(false);
        };
        if there_flow == flow && there_digest == job.digest {
            Ok(true)
        } else {
            Err(Refusal::ContentDiffers(job.head.id))
        }
    }

    /// Whether a job may come from a finished one of that flow.
    fn check_origin(&self, job: JobId, flow: FlowId, is_stub: bool) -> Result<(), Refusal> {
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::DeletedOriginTaken) {
            return Ok(());
        }
        self.deletions.check_origin(job, flow, is_stub)
    }

    /// What is known of a job that a new one depends on.
    fn dependency(
        &self,
        id: &JobId,
        own: Option<SubmissionIdx>,
        finished: &Finished,
    ) -> Result<Dependency, Refusal> {
        if let Some(slot) = self.jobs.find(id) {
            let unfinished = match self.jobs[slot].state {
                State::Unsealed { submission, .. }
                    if own != Some(submission) && self.submissions[submission].phase != Phase::Sealing =>
                {
                    None
                }
                // It will end because of the walk under way.
                State::UpstreamFailing => {
                    let cause = self.propagation.cause().unwrap_or(*id);
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
            return unfinished.ok_or(Refusal::JobNotFound(*id));
        }
        let (status, cause) = match self.jobs.recents().get(id) {
            Some(recent) => {
                let flow = self.jobs.flow(recent.flow);
                self.check_origin(*id, flow.id, flow.deleted_at.is_some())?;
                (recent.status, recent.cause)
            }
            None => {
                let known = finished.find(id).ok_or(Refusal::JobNotFound(*id))?;
                self.check_origin(*id, known.flow, known.is_stub)?;
                (known.status, *id)
            }
        };
        Ok(match status {
            FinalStatus::Done => Dependency::Done,
            FinalStatus::Skipped => Dependency::Skipped,
            FinalStatus::Failed
            | FinalStatus::UpstreamFailed
            | FinalStatus::Cancelled
            | FinalStatus::Expired => {
                Dependency::Ended { id: *id, cause: self.jobs.cause_to_name(*id, cause) }
            }
        })
    }
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
