//! A flow that was submitted: its results, and how it stands.

mod results;
mod submit;

use std::fmt;
use std::sync::Arc;

use mycelium_proto::v1::{self, JobStatus};

use self::results::Results;
use crate::client::{Mycelium, Retry};
use crate::elf::TaskOutputs;
use crate::error::{Error, FailedJob, JobFailure};
use crate::flow::{Flow, Job};
use crate::ids::{FlowId, JobId};
use crate::output::Output;

/// The most links from a job to the job that is to blame for it.
const CAUSES_MAX: usize = 128;
/// How many occurrences of a failure are searched for the one of a job.
const OCCURRENCES_MAX: u32 = 1_000;

impl Flow {
    /// Submits the jobs that were recorded since the last submission: all of them, or none if there is an error.
    ///
    /// When it returns they are durable. It is repeated while that may help, which is harmless. After an error, and
    /// when the future is dropped, the jobs stay recorded and can be submitted again.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`] if the recording has mistakes; [`Error::Refused`] if the broker refuses the jobs, with
    /// the reasons that the contract names for `SubmitJobs`; [`Error::Busy`] and [`Error::Unreachable`] once the
    /// patience of the handle is at its end; [`Error::NoBroker`] for a detached flow.
    pub async fn submit(&self) -> Result<Run, Error> {
        let mycelium = self.client().ok_or(Error::NoBroker)?;
        let mut submission = self.begin_submission().await?;
        submit::send(mycelium, self, &mut submission).await?;
        submission.commit();
        Ok(Run::new(mycelium.clone(), self.id()))
    }
}

impl Mycelium {
    /// Begins to record a flow. The name is for people: at most 255 bytes, not necessarily unique, and it may be
    /// empty.
    #[must_use]
    pub fn flow(&self, name: impl Into<String>) -> Flow {
        Flow::new(self.clone(), name)
    }

    /// A flow that was submitted, by this program or another.
    #[must_use]
    pub fn run(&self, flow_id: FlowId) -> Run {
        Run::new(self.clone(), flow_id)
    }
}

/// A flow that was submitted.
///
/// Results are waited for on one watch, which begins with the first of them and ends when the run is dropped. Outputs
/// that arrive before they are asked for are kept, up to 64 MiB; those beyond are fetched again. Large values, above
/// 64 KiB, are fetched when they are asked for.
pub struct Run {
    mycelium: Mycelium,
    flow_id: FlowId,
    results: Arc<Results>,
}

impl fmt::Debug for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Run").field("flow_id", &self.flow_id).finish_non_exhaustive()
    }
}

impl Run {
    fn new(mycelium: Mycelium, flow_id: FlowId) -> Self {
        let results = Results::new(mycelium.clone(), flow_id);
        Self { mycelium, flow_id, results }
    }

    /// The id of the flow.
    #[must_use]
    pub fn flow_id(&self) -> FlowId {
        self.flow_id
    }

    /// Waits for a job of the flow and returns its result, for as long as that takes. A broker that is away meanwhile
    /// is waited for too, but no longer at once than the handle's [patience](crate::Builder::patience) (30 s
    /// unless it was built otherwise). After that the jobs go on, and their results can be asked for again.
    ///
    /// # Errors
    /// [`Error::JobFailed`] if the job failed, was cancelled, or could not run because another did not end well;
    /// [`Error::JobSkipped`] if it was skipped; [`Error::Decode`] if what it returned is no `T`; [`Error::DamagedBlob`]
    /// if a large output is not what it was; [`Error::Busy`] and [`Error::Unreachable`] if the broker
    /// stays away for longer than the handle's patience; [`Error::Refused`] if the broker does not know the job.
    pub async fn result<T: Output>(&self, job: &Job<T>) -> Result<T, Error> {
        let job_id = job.id();
        let outputs = self.outputs(job_id).await?;
        T::from_outputs(outputs).map_err(|source| Error::Decode {
            what: format!("the result of job {job_id}"),
            source: Arc::new(source),
        })
    }

    /// As [`result`](Self::result), for a job with a condition: none if it was skipped.
    ///
    /// # Errors
    /// As [`result`](Self::result), but for [`Error::JobSkipped`].
    pub async fn maybe<T: Output>(&self, job: &Job<T>) -> Result<Option<T>, Error> {
        match self.result(job).await {
            Ok(result) => Ok(Some(result)),
            Err(Error::JobSkipped { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for a job of the flow and returns its outputs.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub async fn outputs(&self, job_id: JobId) -> Result<TaskOutputs, Error> {
        loop {
            let ended = self.results.wait(job_id).await?;
            match ended.status {
                JobStatus::Done => match ended.outputs {
                    Some(outputs) => return self.resolve(outputs).await,
                    None => {
                        let fetched = self.mycelium.outputs_unread(job_id).await?;
                        if fetched.status() == JobStatus::Done {
                            return self.resolve(fetched.outputs).await;
                        }
                        // A job that is DONE stays so, unless a broker was set back to an earlier store.
                        self.results.forget(job_id, ended.serial);
                    }
                },
                JobStatus::Skipped => {
                    let job = self.mycelium.job(job_id).await?;
                    if job.status() == JobStatus::Skipped {
                        return Err(Error::JobSkipped { job_id, elf: job.elf, task: job.task });
                    }
                    // A job that is SKIPPED stays so, unless a broker was set back to an earlier store.
                    self.results.forget(job_id, ended.serial);
                }
                JobStatus::Failed | JobStatus::UpstreamFailed | JobStatus::Cancelled => {
                    match self.explain(job_id, &ended.failure_message).await? {
                        Some(failure) => return Err(Error::JobFailed(Box::new(failure))),
                        // It was brought back meanwhile.
                        None => self.results.forget(job_id, ended.serial),
                    }
                }
                JobStatus::Unspecified | JobStatus::Pending | JobStatus::Ready | JobStatus::Running => {
                    self.results.forget(job_id, ended.serial);
                }
            }
        }
    }

    /// Outputs with their large values, which are read now.
    async fn resolve(&self, outputs: Vec<v1::Output>) -> Result<TaskOutputs, Error> {
        let retry = || Retry::new(self.mycelium.patience());
        self.mycelium.blobs().resolve_outputs(outputs, retry).await
    }

    /// Waits until all jobs of the flow are final, those added meanwhile too, and returns how many ended how. That
    /// jobs failed is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] and [`Error::Unreachable`] if the broker stays away for longer than the handle's patience.
    pub async fn wait(&self) -> Result<v1::JobCounts, Error> {
        let mut watch = self.mycelium.watch_jobs(v1::WatchJobsRequest {
            scope: Some(v1::watch_jobs_request::Scope::FlowId(self.flow_id.to_wire())),
            final_only: true,
            until_final: true,
            ..v1::WatchJobsRequest::default()
        });
        while watch.next().await?.is_some() {}
        self.counts().await
    }

    /// How many jobs of the flow stand where.
    ///
    /// # Errors
    /// As [`Mycelium::get_flow`].
    pub async fn counts(&self) -> Result<v1::JobCounts, Error> {
        let flow = Some(v1::get_flow_request::Flow::FlowId(self.flow_id.to_wire()));
        let answer =
            self.mycelium.get_flow(v1::GetFlowRequest { flow, ..v1::GetFlowRequest::default() }).await?;
        Ok(answer.flow.and_then(|flow| flow.counts).unwrap_or_default())
    }

    /// Where a job stands.
    ///
    /// # Errors
    /// As [`Mycelium::get_job`].
    pub async fn job_status(&self, job_id: JobId) -> Result<JobStatus, Error> {
        Ok(self.mycelium.job(job_id).await?.status())
    }

    /// Cancels all unfinished jobs of the flow, and returns how many that were.
    ///
    /// # Errors
    /// As [`Mycelium::cancel_jobs`].
    pub async fn cancel(&self) -> Result<u64, Error> {
        self.mycelium.cancel_flow(self.flow_id).await
    }

    /// How a job ended that has no result. None if it is not final, or DONE, by now.
    async fn explain(&self, job_id: JobId, message: &str) -> Result<Option<JobFailure>, Error> {
        let asked = self.mycelium.job(job_id).await?;
        let Some(job) = failed(job_id, &asked) else { return Ok(None) };
        let mut cause = None;
        let mut last = asked;
        for _ in 0..CAUSES_MAX {
            if last.status() != JobStatus::UpstreamFailed {
                break;
            }
            let Ok(cause_id) = JobId::try_from(last.cause_job_id.as_ref()) else { break };
            last = self.mycelium.job(cause_id).await?;
            match failed(cause_id, &last) {
                Some(failed) => cause = Some(failed),
                None => return Ok(None),
            }
        }
        let message = if cause.is_none() { message } else { "" };
        let failure = self.failure(&last, message).await?;
        Ok(Some(JobFailure { job, cause, failure }))
    }

    /// The failure of a job, with the messages of its own occurrence as far as that is known.
    async fn failure(&self, job: &v1::Job, message: &str) -> Result<Option<v1::Failure>, Error> {
        if job.failure_id.is_empty() {
            return Ok(None);
        }
        let request = v1::GetFailureRequest {
            failure_id: job.failure_id.clone(),
            page_size: OCCURRENCES_MAX,
            ..v1::GetFailureRequest::default()
        };
        let answer = self.mycelium.get_failure(request).await?;
        let Some(mut failure) = answer.failure.and_then(|group| group.failure) else { return Ok(None) };
        match answer.occurrences.into_iter().find(|occurrence| occurrence.job_id == job.job_id) {
            Some(occurrence) => {
                failure.message = occurrence.message;
                failure.details = occurrence.details;
                for (cause, message) in failure.causes.iter_mut().zip(occurrence.cause_messages) {
                    cause.message = message;
                }
            }
            None if !message.is_empty() => message.clone_into(&mut failure.message),
            None => {}
        }
        Ok(Some(failure))
    }
}

fn failed(job_id: JobId, job: &v1::Job) -> Option<FailedJob> {
    let status = job.status();
    match status {
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::UpstreamFailed => {
            Some(FailedJob { job_id, elf: job.elf.clone(), task: job.task.clone(), status })
        }
        JobStatus::Unspecified
        | JobStatus::Pending
        | JobStatus::Ready
        | JobStatus::Running
        | JobStatus::Done
        | JobStatus::Skipped => None,
    }
}
