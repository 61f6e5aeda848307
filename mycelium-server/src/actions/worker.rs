//! Works actions off, one after the other.

use std::time::Duration;

use mycelium_core::command::{ActionStep, ActionTo, Scope};
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, JobId};
use mycelium_core::image::{ActionKind, ActionRecord};
use tokio_util::sync::CancellationToken;

use super::plan::{Asked, Plan, Step, Units};
use super::{change, moved};
use crate::broker::{CallError, Fate, Handle};
use crate::defect;
use crate::report::Report;

/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(5);

/// Does what actions ask for, until told to stop.
pub(crate) async fn run_actions(handle: Handle, stop: CancellationToken) {
    loop {
        let worked = defect::catch_async("actions on many jobs", work_off(&handle, &stop)).await;
        let pause = match worked.unwrap_or_else(|defect| Err(defect.into())) {
            Ok(()) => None,
            Err(CallError::Stopping) => return,
            Err(error) => {
                // A defect is in the log already. What is left is durable, and gone on with.
                if !matches!(error, CallError::Defect(_)) {
                    tracing::warn!(error = %Report(&error), "an action is broken off, and goes on later");
                }
                Some(PAUSE)
            }
        };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => handle.actions_begun().notified().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = again => {}
        }
    }
}

/// Works off all actions that are under way, the oldest first.
async fn work_off(handle: &Handle, stop: &CancellationToken) -> Result<(), CallError> {
    loop {
        let actions = handle.query(|core, _| core.actions()).await?;
        let under_way = actions.into_iter().filter(|action| action.ended_at.is_none());
        let Some(action) = under_way.min_by_key(|action| (action.began_at, action.id)) else { return Ok(()) };
        let is_done = run(handle, stop, &action).await?;
        if !is_done {
            return Ok(());
        }
        let (action, _) = change(handle, action.id, ActionTo::Ended).await?;
        let ActionRecord { id, done, refused, .. } = action;
        tracing::info!(action = %id, done, refused, "an action is over");
    }
}

/// Goes on with an action. Says whether that was all.
async fn run(handle: &Handle, stop: &CancellationToken, action: &ActionRecord) -> Result<bool, CallError> {
    let asked = match Asked::try_from(action) {
        Ok(asked) => asked,
        Err(error) => {
            // It was checked when it began: by another version, which reads other filters.
            tracing::warn!(action = %action.id, error = %Report(&error), "an action cannot be read, and is given up");
            return Ok(true);
        }
    };
    let mut plan = Plan::of(asked, action.upto);
    if action.total.is_none() {
        let Some(total) = count(handle, stop, &mut plan).await? else { return Ok(false) };
        change(handle, action.id, ActionTo::Counted(total)).await?;
    }
    let mut place = if action.kind == ActionKind::Cancel { 0 } else { action.place };
    loop {
        if stop.is_cancelled() {
            return Ok(false);
        }
        let Step { units, next } = plan.step(handle, place).await?;
        // Where it was, if this was all.
        let step = ActionStep { id: action.id, place: next.unwrap_or(place), done: 0, refused: 0 };
        match units {
            Units::Jobs(jobs) if jobs.is_empty() => moved(handle, step).await?,
            Units::Jobs(jobs) if action.kind == ActionKind::Cancel => cancel(handle, jobs, step).await?,
            Units::Jobs(jobs) => retry(handle, jobs, step, place).await?,
            Units::Flows { whole, partly } => delete(handle, &whole, partly, step).await?,
        }
        match next {
            None => return Ok(true),
            Some(next) => place = next,
        }
    }
}

/// How many jobs or flows an action is about; `None` if the broker stops meanwhile.
async fn count(handle: &Handle, stop: &CancellationToken, plan: &mut Plan) -> Result<Option<u64>, CallError> {
    let (mut total, mut place) = (0, 0);
    while !stop.is_cancelled() {
        let Step { units, next } = plan.step(handle, place).await?;
        total += units.len();
        match next {
            None => return Ok(Some(total)),
            Some(next) => place = next,
        }
    }
    Ok(None)
}

/// Brings jobs back that were found at a place.
async fn retry(handle: &Handle, jobs: Vec<JobId>, step: ActionStep, place: u64) -> Result<(), CallError> {
    match handle.retry_for(jobs.clone(), step).await {
        Ok(true) => return Ok(()),
        Ok(false) => return moved(handle, step).await,
        Err(error) if is_of_one(&error) => {}
        Err(error) => return Err(error),
    }
    // One of them cannot be brought back, and keeps the others: each by itself. Should the broker end meanwhile, those that
    // are back are counted already, and not found again.
    let mut refused = 0;
    for job in jobs {
        match handle.retry_for(vec![job], ActionStep { place, ..step }).await {
            Ok(_) => {}
            Err(error) if is_of_one(&error) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    moved(handle, ActionStep { refused, ..step }).await
}

/// Whether it says something of one job, and nothing of the others.
fn is_of_one(error: &CallError) -> bool {
    match error {
        CallError::Refused(Refusal::BacklogFull { .. } | Refusal::PreconditionsStale) => false,
        CallError::Refused(_) | CallError::Unreadable(_) => true,
        CallError::Read(error) => error.is_damage(),
        _ => false,
    }
}

async fn cancel(handle: &Handle, jobs: Vec<JobId>, step: ActionStep) -> Result<(), CallError> {
    let mut jobs = jobs;
    loop {
        match handle.cancel_for(Scope::Jobs(jobs.clone()), Some(step)).await {
            Ok(_) => return Ok(()),
            // Its flow was deleted meanwhile.
            Err(CallError::Refused(Refusal::JobNotFound(gone))) if jobs.contains(&gone) => {
                jobs.retain(|job| *job != gone);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn delete(handle: &Handle, flows: &[FlowId], partly: u64, step: ActionStep) -> Result<(), CallError> {
    let judged = if flows.is_empty() { Vec::new() } else { handle.delete_flows(flows, false).await? };
    if judged.iter().any(|judged| judged.fate == Fate::TooMany) {
        // Those that are under way go first.
        return Err(CallError::Busy);
    }
    let is_deleted = |fate| matches!(fate, Fate::Whole | Fate::Stub);
    let deleted = judged.iter().filter(|judged| is_deleted(judged.fate)).count() as u64;
    let refused = judged.len() as u64 - deleted + partly;
    moved(handle, ActionStep { done: deleted, refused, ..step }).await
}
