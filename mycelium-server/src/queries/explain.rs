//! Why a job is where it is.

use std::sync::Arc;
use std::time::Duration;

use mycelium_core::ids::{FailureId, InstanceId, JobId, SessionId, SubmissionId, Timestamp, Token};
use mycelium_core::image::{PauseRecord, Running};
use mycelium_core::{Explanation, JobView};

use super::jobs::{Job, find};
use super::specs;
use crate::broker::{CallError, Handle, Process};
use crate::documents::{Failure, Spec, cut_message};
use crate::store::isolate;

/// How many of the jobs that a job waits for are named.
const WAITS_FOR_SHOWN_MAX: usize = 100;
/// How much is told of what an instance lacks to take a job.
const LACKS_SHOWN_MAX: usize = 8;
const LACK_BYTES_MAX: usize = 256;

/// Why a job is where it is.
#[derive(Debug)]
pub(crate) enum Reason {
    /// It has ended.
    Ended,
    /// It waits for other jobs: how many, and some of them.
    WaitsForJobs { count: u32, jobs: Vec<JobView> },
    /// What decides how it goes on is being computed, or waits for that.
    Evaluating(Evaluated),
    /// It was expanded over a list, and waits for the jobs of its elements, of which some are named.
    WaitsForElements { elements: u32, unfinished: u32, jobs: Vec<JobView> },
    /// Its submission has not been sealed.
    NotSealed { submission: SubmissionId },
    /// It was handed back again and again without an outcome, and is offered anew only after a pause.
    HandedBack { times: u32, until: Timestamp },
    /// Somebody has paused it.
    Paused { pauses: Vec<PauseRecord> },
    /// It does not begin before its moment.
    Delayed { until: Timestamp },
    /// An attempt of it has failed, and it is tried again after a while.
    BackingOff { failed: u32, failed_max: u32, until: Timestamp, failure: Option<LastFailure> },
    /// It waits for a place, and these attempts, on whose behalf it was submitted, hold all there are.
    HeldByAncestors { attempts: Vec<Token> },
    /// No connected instance offers its task.
    NoInstance { elf_known: bool, instances: u32 },
    /// Connected instances offer its task, and none of them takes its arguments: how many, and some of them.
    NoFittingInstance { instances: u32, unfit: Vec<Unfit> },
    /// Connected instances offer its task, and all their windows are full.
    NoFreeWindow {
        instances: u32,
        /// How many of them take no more jobs.
        draining: u32,
        window: u64,
        held: u64,
        jobs_before: u32,
        /// For how long the tasks of one of them have stood still, if they do.
        late_by: Option<Duration>,
    },
    /// It may be what ended the processes that it was lost with. `kept`: the instance that is kept for it, and how many
    /// attempts that one still holds.
    Suspected { elves_lost: u32, isolated: bool, instances: u32, kept: Option<(InstanceId, u32)> },
    /// An instance holds it.
    Held {
        running: Running,
        connected: bool,
        /// For how long its tasks have stood still, if they do.
        late_by: Option<Duration>,
    },
}

/// The failure of an attempt whose job is tried again.
#[derive(Debug)]
pub(crate) struct LastFailure {
    pub(crate) id: FailureId,
    /// Its type; empty if its record cannot be read.
    pub(crate) kind: String,
    /// The first part of its message.
    pub(crate) message: String,
}

/// An instance that does not take a job.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) session: SessionId,
    pub(crate) instance: InstanceId,
    pub(crate) process: Option<Process>,
    /// What it lacks, for people.
    pub(crate) lacks: Vec<String>,
}

/// What is computed to decide how a job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evaluated {
    Condition,
    /// The list that it is run over.
    Elements,
    /// The list of what the jobs for its elements returned.
    Outputs,
}

/// How much is told of the message of a failure, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;

async fn last_failure(handle: &Handle, job: JobId, id: FailureId) -> Result<Option<LastFailure>, CallError> {
    let (group, of) = ([id], [(id, job)]);
    let (groups, occurrences) = futures::try_join!(
        isolate(&group, |ids| handle.store().failures(ids)),
        isolate(&of, |of| handle.store().occurrences_of(of)),
    )?;
    // What is damaged is named by its id all the same.
    let record = groups.into_iter().next().and_then(|record| record.ok().flatten());
    let failure = record.and_then(|record| Failure::decode(record.id, record.body).ok());
    let occurrence = occurrences.into_iter().next().and_then(|occurrence| occurrence.ok().flatten());
    let mut message = occurrence.map(|occurrence| occurrence.message).unwrap_or_default();
    cut_message(&mut message, MESSAGE_BYTES_MAX);
    let kind = failure.map(|failure| failure.kind().to_owned()).unwrap_or_default();
    Ok(Some(LastFailure { id, kind, message }))
}

/// A job, and why it is where it is.
pub(crate) async fn explain(handle: &Handle, id: JobId) -> Result<(Job, Reason), CallError> {
    let explained = handle.query(move |core, _| core.job(id).zip(core.explain(id))).await?;
    let Some((view, explanation)) = explained else {
        return Ok((find(handle, id).await?, Reason::Ended));
    };
    let reason = match explanation {
        Explanation::WaitsForJobs { count } => {
            Reason::WaitsForJobs { count, jobs: waited_for(handle, id).await? }
        }
        // About to end: what it waited for tells why.
        Explanation::UpstreamFailing | Explanation::Cancelling => {
            Reason::WaitsForJobs { count: view.waiting_for, jobs: waited_for(handle, id).await? }
        }
        Explanation::Evaluating { is_gathering: true } => Reason::Evaluating(Evaluated::Outputs),
        Explanation::Evaluating { is_gathering: false } => Reason::Evaluating(decided_by(handle, id).await?),
        Explanation::WaitsForElements { elements, unfinished, jobs } => {
            Reason::WaitsForElements { elements, unfinished, jobs }
        }
        Explanation::NotSealed { submission } => Reason::NotSealed { submission },
        Explanation::HandedBack { times, until } => {
            let now = handle.clock().now();
            let left = u64::try_from(until.since(now.steady).as_micros()).unwrap_or(u64::MAX);
            Reason::HandedBack { times, until: Timestamp(now.wall.0.saturating_add(left)) }
        }
        Explanation::Paused { pauses } => Reason::Paused { pauses },
        Explanation::Delayed { until } => Reason::Delayed { until },
        Explanation::BackingOff { failed, failed_max, failure, until } => {
            let failure = match failure {
                Some(failure) => last_failure(handle, id, failure).await?,
                None => None,
            };
            Reason::BackingOff { failed, failed_max, until, failure }
        }
        Explanation::HeldByAncestors { attempts } => Reason::HeldByAncestors { attempts },
        Explanation::NoInstance { instances } => {
            Reason::NoInstance { elf_known: handle.registry().is_known(&view.head.elf), instances }
        }
        Explanation::NoFittingInstance { instances, some } => {
            Reason::NoFittingInstance { instances, unfit: unfit(handle, &view, some).await? }
        }
        Explanation::NoFreeWindow { instances, draining, window, held, jobs_before } => {
            let late_by = late_by_of_elf(handle, view.head.elf.clone()).await?;
            Reason::NoFreeWindow { instances, draining, window, held, jobs_before, late_by }
        }
        Explanation::Suspected { elves_lost, isolated, instances, kept } => {
            Reason::Suspected { elves_lost, isolated, instances, kept }
        }
        Explanation::Held { running, connected } => {
            Reason::Held { running, connected, late_by: late_by(handle, running.session) }
        }
    };
    Ok((Job::Unfinished(view), reason))
}

/// What each of these sessions lacks to take a job.
async fn unfit(
    handle: &Handle,
    view: &JobView,
    sessions: Vec<(SessionId, InstanceId)>,
) -> Result<Vec<Unfit>, CallError> {
    let spec = judged_spec(handle, view.head.id).await?;
    let lacks = |session| {
        let signatures = handle.registry().session(session).unwrap_or_default();
        let task = signatures.get(&*view.head.elf).and_then(|elf| elf.task(&view.head.task));
        let misfits =
            task.zip(spec.as_ref()).map(|(task, spec)| task.misfits(spec.message())).unwrap_or_default();
        let texts = misfits.into_iter().take(LACKS_SHOWN_MAX).map(|(field, problem)| {
            let mut text = format!("{field}: {problem}");
            cut_message(&mut text, LACK_BYTES_MAX);
            text
        });
        texts.collect()
    };
    let unfit = sessions.into_iter().map(|(session, instance)| Unfit {
        session,
        instance,
        process: handle.processes().get(session),
        lacks: lacks(session),
    });
    Ok(unfit.collect())
}

/// The specification of a job that declarations are held against: for the element of a list, that of the job that has it,
/// since what is computed of the list is not judged. `None` if it cannot be read.
async fn judged_spec(handle: &Handle, id: JobId) -> Result<Option<Spec>, CallError> {
    let Some(spec) = specs::spec(&**handle.store(), id).await? else { return Ok(None) };
    match spec.element_of() {
        None => Ok(Some(spec)),
        Some(list) => specs::spec(&**handle.store(), list).await,
    }
}

/// For how long the tasks of a session have stood still, if they do.
fn late_by(handle: &Handle, session: SessionId) -> Option<Duration> {
    handle.processes().get(session)?.late_by
}

/// The same of the sessions that serve an elf now: the longest.
async fn late_by_of_elf(handle: &Handle, elf: Arc<str>) -> Result<Option<Duration>, CallError> {
    let view = handle.query(move |core, _| core.elf(&elf)).await?;
    let instances = view.into_iter().flat_map(|view| view.instances);
    let connected = instances.filter(|instance| instance.connected);
    Ok(connected.filter_map(|instance| late_by(handle, instance.session)).max())
}

async fn decided_by(handle: &Handle, id: JobId) -> Result<Evaluated, CallError> {
    let spec = specs::spec(&**handle.store(), id).await?;
    let has_list = spec.is_some_and(|spec| spec.has_list());
    Ok(if has_list { Evaluated::Elements } else { Evaluated::Condition })
}

/// Some of the jobs that a job waits for.
async fn waited_for(handle: &Handle, id: JobId) -> Result<Vec<JobView>, CallError> {
    let spec = handle.store().outlines(&[id]).await?.pop().flatten();
    let depends_on = spec.map(|spec| spec.depends_on).unwrap_or_default();
    let unfinished = handle.query(move |core, _| {
        depends_on.iter().filter_map(|on| core.job(*on)).take(WAITS_FOR_SHOWN_MAX).collect::<Vec<_>>()
    });
    unfinished.await
}
