//! Cancels jobs.

use std::collections::HashSet;

use mycelium_core::command::{ActionStep, Cancel, Command, Preconditions, Scope};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{Commit, JobId, RequestId};

use super::handle::{Handle, unexpected};
use super::message::CallError;
use super::preconditions::{TRIES_MAX, known};
use crate::store::{self, Reads, isolate};

/// What became of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cancelled {
    pub(crate) cancelled: u64,
    pub(crate) already_final: u64,
    /// How many of those that were named cannot be told how they stand.
    pub(crate) unreadable: u64,
}

impl Handle {
    /// Cancels jobs. Those whose records are damaged are left out, unless the core knows them.
    pub(crate) async fn cancel(&self, scope: Scope) -> Result<Cancelled, CallError> {
        self.cancel_for(scope, None).await
    }

    /// As [`cancel`](Self::cancel), as a step of an action.
    pub(crate) async fn cancel_for(
        &self,
        mut scope: Scope,
        action: Option<ActionStep>,
    ) -> Result<Cancelled, CallError> {
        let mut unreadable = 0;
        for _ in 0..TRIES_MAX {
            let (preconditions, damaged) =
                scope_preconditions(&**self.store(), self.commit(), &scope).await?;
            if let Scope::Jobs(jobs) = &mut scope
                && !damaged.is_empty()
                && let left_out = self.not_unfinished(damaged).await?
                && !left_out.is_empty()
            {
                jobs.retain(|job| !left_out.contains(job));
                unreadable += left_out.len() as u64;
                tracing::warn!(unreadable, "jobs are not cancelled, because their records are damaged");
            }
            let request = RequestId::default();
            let cancel = Cancel { request, scope: scope.clone(), preconditions, action };
            match self.request(Command::Cancel(cancel), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Cancelled { cancelled, already_final }, _)) => {
                    return Ok(Cancelled { cancelled, already_final, unreadable });
                }
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }

    /// Those of some jobs that the core does not know as unfinished.
    async fn not_unfinished(&self, jobs: Vec<JobId>) -> Result<HashSet<JobId>, CallError> {
        self.query(move |core, _| jobs.into_iter().filter(|job| core.job(*job).is_none()).collect()).await
    }
}

/// What the store knows of those that are to be cancelled, and which of them it cannot read.
async fn scope_preconditions(
    store: &dyn Reads,
    as_of: Commit,
    scope: &Scope,
) -> Result<(Preconditions, Vec<JobId>), store::Error> {
    let jobs = match scope {
        Scope::Flow(flow) => {
            let flow = store.flows(&[*flow]).await?.pop().flatten();
            return Ok((Preconditions { as_of, flow, ..Preconditions::default() }, Vec::new()));
        }
        Scope::Jobs(jobs) => jobs,
    };
    let mut ended = Vec::with_capacity(jobs.len());
    let mut damaged = Vec::new();
    for (job, record) in jobs.iter().zip(isolate(jobs, |jobs| store.finished(jobs)).await?) {
        match record {
            Ok(record) => ended.extend(record),
            Err(_) => damaged.push(*job),
        }
    }
    let ids: Vec<JobId> = ended.iter().map(|record| record.head.id).collect();
    let outlines = isolate(&ids, |ids| store.outlines(ids)).await?;
    let mut finished = Vec::with_capacity(ended.len());
    for (record, outline) in ended.iter().zip(outlines) {
        match outline {
            Ok(outline) => finished.extend(outline.map(|outline| known(record, &outline))),
            Err(_) => damaged.push(record.head.id),
        }
    }
    Ok((Preconditions { as_of, finished, ..Preconditions::default() }, damaged))
}
