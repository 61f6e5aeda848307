//! Actions on all jobs that a filter names: they are retried, cancelled or deleted in the background, a bounded step at a
//! time, and a broker that starts goes on where the one before it was.
//!
//! Jobs that come to fit the filter after the action began are left alone: it goes through those that had finished then, or had
//! been submitted, by their numbers. A job that was brought back is no longer among them, so none is brought back twice.

mod plan;
mod worker;

use std::sync::Arc;

use mycelium_core::command::{Action, ActionStep, ActionTo, Command};
use mycelium_core::effects::Reply;
use mycelium_core::ids::{ActionId, FlowId, JobId, RequestId};
use mycelium_core::image::{ActionKind, ActionRecord};

pub(crate) use plan::Asked;
use plan::{Plan, Step, Units};
pub(crate) use worker::run_actions;

use crate::broker::{CallError, Handle, unexpected};
use crate::error::Error;

/// As many jobs are named of those that an action would be about.
const SHOWN_MAX: usize = 100;
/// A dry run counts up to here.
const COUNTED_MAX: u64 = 100_000;
/// And looks at so many pages.
const PAGES_MAX: usize = 400;

/// What an action would do.
#[derive(Debug, Default)]
pub(crate) struct DryRun {
    /// With how many jobs, or flows.
    pub(crate) count: u64,
    /// Whether there are more, or it took too long to find out.
    pub(crate) is_more: bool,
    /// The first of the jobs.
    pub(crate) jobs: Vec<JobId>,
    /// The first of the flows.
    pub(crate) flows: Vec<FlowId>,
}

/// Begins an action. Returns whether it was not there before. What it does goes on after the answer.
pub(crate) async fn begin(
    handle: &Handle,
    id: ActionId,
    asked: Asked,
    by: Arc<str>,
) -> Result<(ActionRecord, bool), Error> {
    let Asked { kind, filter, flow, failure, query: _ } = asked;
    let to = ActionTo::Begun { kind, filter, flow, failure, by };
    let begun = change(handle, id, to).await?;
    handle.actions_begun().notify_one();
    Ok(begun)
}

/// Says what an action would do, and does nothing.
pub(crate) async fn dry_run(handle: &Handle, asked: Asked) -> Result<DryRun, Error> {
    let counters = handle.query(|core, _| core.status().counters).await?;
    let upto = match asked.kind {
        ActionKind::Retry | ActionKind::Delete => counters.finish.0,
        ActionKind::Cancel => counters.job.0,
    };
    let mut plan = Plan::of(asked, upto);
    let mut found = DryRun::default();
    let mut place = 0;
    for _ in 0..PAGES_MAX {
        let Step { units, next } = plan.step(handle, place).await?;
        found.count += units.len();
        match units {
            Units::Jobs(jobs) => found.jobs.extend(jobs),
            Units::Flows { whole, partly: _ } => found.flows.extend(whole),
        }
        found.jobs.truncate(SHOWN_MAX);
        found.flows.truncate(SHOWN_MAX);
        match next {
            None => return Ok(found),
            Some(next) => place = next,
        }
        if found.count >= COUNTED_MAX {
            break;
        }
    }
    Ok(DryRun { is_more: true, ..found })
}

/// Stores what becomes of an action.
async fn change(handle: &Handle, id: ActionId, to: ActionTo) -> Result<(ActionRecord, bool), CallError> {
    let action = Action { request: RequestId::default(), id, to };
    match handle.request(Command::Action(action), Vec::new()).await? {
        (Reply::Action { action, is_new }, _) => Ok((action, is_new)),
        (other, _) => Err(unexpected(&other)),
    }
}

/// Stores how far an action is.
async fn moved(handle: &Handle, step: ActionStep) -> Result<(), CallError> {
    change(handle, step.id, ActionTo::Moved(step)).await.map(drop)
}
