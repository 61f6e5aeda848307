//! Long waits are logged with their reason, so that nobody waits unknowingly for an elf that never connects.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mycelium_proto::reason;
use mycelium_proto::v1::{self, JobStatus};

use crate::client::{Mycelium, describe_reason};
use crate::error::Error;
use crate::ids::{FlowId, JobId};

/// After how long a wait is logged.
const SLOW_MIN: Duration = Duration::from_secs(5);
/// How many waits of a run are looked into: thousands may begin at the same moment, for the same reason.
const LOOKS_MAX: u32 = 32;

/// The waits of one run.
pub(super) struct SlowWaits {
    mycelium: Mycelium,
    flow_id: FlowId,
    looks: AtomicU32,
    /// Elves and reasons that were logged. Bounded by the looks.
    told: Mutex<HashSet<(String, Option<std::mem::Discriminant<v1::wait_reason::Kind>>)>>,
}

impl SlowWaits {
    pub(super) fn new(mycelium: Mycelium, flow_id: FlowId) -> Self {
        Self { mycelium, flow_id, looks: AtomicU32::new(0), told: Mutex::default() }
    }

    /// Tells in a while why a job is not finished. Ends only if the wait for it has no end: with that error.
    pub(super) async fn tell_of_job(&self, job_id: JobId) -> Error {
        self.in_a_while(|| self.look_at(job_id)).await
    }

    /// The same of the flow, by one of its unfinished jobs.
    pub(super) async fn tell_of_flow(&self) -> Error {
        self.in_a_while(|| async {
            match self.unfinished_job().await? {
                Some(job_id) => self.look_at(job_id).await,
                None => Ok(()),
            }
        })
        .await
    }

    async fn in_a_while<Look: Future<Output = Result<(), Error>>>(
        &self,
        look: impl FnOnce() -> Look,
    ) -> Error {
        tokio::time::sleep(SLOW_MIN).await;
        if self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX {
            // Few come here, and all waits would have to have room for it.
            match Box::pin(look()).await {
                Err(error) if is_not_there(&error) => return error,
                // If the broker does not answer, the wait itself reports it.
                Err(error) => tracing::debug!(error = %error, "cannot find out why a wait is long"),
                Ok(()) => {}
            }
        } else {
            // It does not count, or the number would come round to where it began.
            self.looks.fetch_sub(1, Ordering::Relaxed);
        }
        std::future::pending().await
    }

    async fn look_at(&self, job_id: JobId) -> Result<(), Error> {
        let request = v1::ExplainJobRequest { job_id: job_id.to_wire(), ..v1::ExplainJobRequest::default() };
        let answer = self.mycelium.explain_job(request).await?;
        let (job, reason) = (answer.job.unwrap_or_default(), answer.reason.unwrap_or_default());
        let kind = reason.kind.as_ref().map(std::mem::discriminant);
        // Its end is on its way.
        if matches!(reason.kind, Some(v1::wait_reason::Kind::Ended(_))) {
            return Ok(());
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert((job.elf.clone(), kind)) {
            tracing::warn!(
                flow_id = %self.flow_id,
                %job_id,
                elf = job.elf,
                task = job.task,
                why = describe_reason(&job, &reason),
                "a job has been waited for for {} s",
                SLOW_MIN.as_secs()
            );
        }
        Ok(())
    }

    /// An unfinished job of the flow: rather one that waits for its elf than one that waits for such a one.
    async fn unfinished_job(&self) -> Result<Option<JobId>, Error> {
        for status in [JobStatus::Ready, JobStatus::Running, JobStatus::Assigned, JobStatus::Pending] {
            let request = v1::ListJobsRequest {
                flow_id: self.flow_id.to_wire(),
                statuses: vec![status.into()],
                page_size: 1,
                ..v1::ListJobsRequest::default()
            };
            let jobs = self.mycelium.list_jobs(request).await?.jobs;
            if let Some(job) = jobs.first() {
                return Ok(JobId::try_from(job.job_id.as_ref()).ok());
            }
        }
        Ok(None)
    }
}

/// Whether the broker does not know what is waited for, so that the wait would never end.
fn is_not_there(error: &Error) -> bool {
    matches!(error.reason(), Some(reason::JOB_NOT_FOUND | reason::FLOW_NOT_FOUND))
}
