//! A flow that was submitted: its results, and how it stands.

mod results;
mod slow;
mod submit;

use std::fmt;
use std::sync::Arc;

use mycelium_proto::reason;
use mycelium_proto::v1::{self, JobStatus};
use tracing::Instrument as _;

use self::results::Results;
use self::slow::SlowWaits;
use crate::call::TaskOutputs;
use crate::client::Mycelium;
use crate::error::{Error, FailedJob, JobFailure};
use crate::flow::{Flow, Job, Recording};
use crate::ids::{FlowId, JobId};
use crate::output::Output;
use crate::retry::Retry;

/// The most links from a job to the job that is to blame for it.
const CAUSES_MAX: usize = 128;
/// How many occurrences of a failure are searched for the one of a job, and how many are asked for at once: a broker that
/// does not answer with the job's own may have large ones, and no limit for a page of them.
const OCCURRENCES_MAX: u32 = 1_000;
const OCCURRENCES_PER_PAGE: u32 = 50;

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
        let submitted = async {
            let mut submission = self.begin_submission().await?;
            submit::send(mycelium, self, &mut submission).await?;
            submission.commit();
            Ok(Run::new(mycelium.clone(), self.id(), Some(Arc::clone(self.recording()))))
        };
        submitted.instrument(tracing::info_span!("submit", flow_id = %self.id())).await
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
        Run::new(self.clone(), flow_id, None)
    }
}

/// A flow that was submitted.
///
/// Results are waited for on one watch, which begins with the first of them and ends when the run is dropped. Outputs
/// that arrive before they are asked for are kept, up to 64 MiB; those beyond are fetched again. Large values, above
/// 64 KiB, are fetched when they are asked for.
///
/// Waits have no end of their own, because jobs may take long. One that takes longer than 5 s is logged, with
/// the reason ([`Mycelium::why`]).
pub struct Run {
    mycelium: Mycelium,
    flow_id: FlowId,
    /// Of the flow that this program has submitted, if it is such a one.
    recording: Option<Arc<Recording>>,
    results: Arc<Results>,
    slow: SlowWaits,
}

impl fmt::Debug for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Run").field("flow_id", &self.flow_id).finish_non_exhaustive()
    }
}

impl Run {
    fn new(mycelium: Mycelium, flow_id: FlowId, recording: Option<Arc<Recording>>) -> Self {
        let results = Results::new(mycelium.clone(), flow_id);
        let slow = SlowWaits::new(mycelium.clone(), flow_id);
        Self { mycelium, flow_id, recording, results, slow }
    }

    /// The id of the flow.
    #[must_use]
    pub fn flow_id(&self) -> FlowId {
        self.flow_id
    }

    /// Waits for a job of the flow and returns its result, for as long as that takes. A broker that is unavailable meanwhile
    /// is waited for too, but no longer at once than the handle's [patience](crate::Builder::patience) (30 s
    /// unless it was built otherwise). After that the jobs go on, and their results can be asked for again.
    ///
    /// # Errors
    /// [`Error::JobFailed`] if the job failed, was cancelled, or could not run because another did not end well;
    /// [`Error::JobSkipped`] if it was skipped; [`Error::Decode`] if what it returned is no `T`; [`Error::DamagedBlob`]
    /// if a large output is not what it was; [`Error::Busy`] and [`Error::Unreachable`] if the broker
    /// stays unavailable for longer than the handle's patience; [`Error::Refused`] if the broker does not know the job, or its
    /// flow; and at once [`Error::JobOfAnotherFlow`], and [`Error::JobNotSubmitted`] for a job that was recorded after
    /// the flow was submitted.
    pub async fn result<T: Output>(&self, job: &Job<T>) -> Result<T, Error> {
        let (job_id, flow_id) = (job.id(), job.recorded().flow_id());
        if flow_id != self.flow_id {
            return Err(Error::JobOfAnotherFlow { job_id, flow_id, asked: self.flow_id });
        }
        if !job.recorded().is_submitted() {
            return Err(Error::JobNotSubmitted { job_id });
        }
        let outputs = self.wait_for_outputs(job_id).await?;
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
        if !self.results.has_end(job_id) {
            // The watch of the flow would never report a job of another flow.
            let job = Box::pin(self.mycelium.job(job_id)).await?;
            match FlowId::try_from(job.flow_id.as_ref()) {
                Ok(flow_id) if flow_id == self.flow_id => {}
                Ok(flow_id) => return Err(Error::JobOfAnotherFlow { job_id, flow_id, asked: self.flow_id }),
                Err(_) => {
                    return Err(Error::Protocol {
                        message: format!("job {job_id} came back without its flow"),
                    });
                }
            }
        }
        self.wait_for_outputs(job_id).await
    }

    async fn wait_for_outputs(&self, job_id: JobId) -> Result<TaskOutputs, Error> {
        let slow = self.slow.tell_of_job(job_id);
        tokio::pin!(slow);
        loop {
            let ended = tokio::select! {
                biased;
                ended = self.results.wait(job_id) => ended?,
                gone = &mut slow => return Err(gone),
            };
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
                JobStatus::Failed | JobStatus::UpstreamFailed | JobStatus::Cancelled | JobStatus::Expired => {
                    // Apart, so that the futures of those who wait for results stay small.
                    match Box::pin(self.explain(job_id, &ended.failure_message)).await? {
                        Some(failure) => return Err(Error::JobFailed(Box::new(failure))),
                        // It was brought back meanwhile.
                        None => self.results.forget(job_id, ended.serial),
                    }
                }
                JobStatus::Unspecified
                | JobStatus::Pending
                | JobStatus::Ready
                | JobStatus::Assigned
                | JobStatus::Running => {
                    self.results.forget(job_id, ended.serial);
                }
            }
        }
    }

    /// Outputs with their large values, which are read now.
    async fn resolve(&self, outputs: Vec<v1::NamedOutput>) -> Result<TaskOutputs, Error> {
        let retry = || Retry::new(self.mycelium.patience());
        self.mycelium.blobs().resolve_outputs(outputs, retry).await
    }

    /// Waits until all jobs of the flow are final, those added meanwhile too, and returns how many ended how. That
    /// jobs failed is no error. Of a flow without jobs that is true at once.
    ///
    /// # Errors
    /// [`Error::Busy`] and [`Error::Unreachable`] if the broker stays unavailable for longer than the handle's patience;
    /// [`Error::Refused`] with FLOW_NOT_FOUND if it does not know the flow.
    pub async fn wait(&self) -> Result<v1::JobCounts, Error> {
        let counts = self.counts().await?;
        if counts.pending + counts.ready + counts.running == 0 {
            return Ok(counts);
        }
        tokio::select! {
            biased;
            ended = self.watch_to_the_end() => ended?,
            gone = self.slow.tell_of_flow() => return Err(gone),
        }
        self.counts().await
    }

    async fn watch_to_the_end(&self) -> Result<(), Error> {
        let mut watch = self.mycelium.watch_jobs(v1::WatchJobsRequest {
            scope: Some(v1::watch_jobs_request::Scope::FlowId(self.flow_id.to_wire())),
            final_only: true,
            until_final: true,
            ..v1::WatchJobsRequest::default()
        });
        while watch.next().await?.is_some() {}
        Ok(())
    }

    /// How many jobs of the flow stand where.
    ///
    /// # Errors
    /// As [`Mycelium::get_flow`].
    pub async fn counts(&self) -> Result<v1::JobCounts, Error> {
        let flow = Some(v1::get_flow_request::Flow::FlowId(self.flow_id.to_wire()));
        match self.mycelium.get_flow(v1::GetFlowRequest { flow, ..v1::GetFlowRequest::default() }).await {
            Ok(answer) => Ok(answer.flow.and_then(|flow| flow.counts).unwrap_or_default()),
            Err(error) if self.is_of_nothing(&error) => Ok(v1::JobCounts::default()),
            Err(error) => Err(error),
        }
    }

    /// Whether the broker does not know the flow because no job of it was submitted: a flow without jobs is no mistake.
    fn is_of_nothing(&self, error: &Error) -> bool {
        error.reason() == Some(reason::FLOW_NOT_FOUND)
            && self.recording.as_ref().is_some_and(|recording| !recording.has_submitted())
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
        match self.mycelium.cancel_flow(self.flow_id).await {
            Err(error) if self.is_of_nothing(&error) => Ok(0),
            cancelled => cancelled,
        }
    }

    /// How a job ended that has no result. None if it is not final, or DONE, by now.
    async fn explain(&self, job_id: JobId, message: &str) -> Result<Option<JobFailure>, Error> {
        let request = v1::GetJobRequest { job_id: job_id.to_wire(), ..v1::GetJobRequest::default() };
        let answer = self.mycelium.get_job(request).await?;
        let asked = answer.job.unwrap_or_default();
        let Some(job) = failed(job_id, &asked) else { return Ok(None) };
        match self.explain_failed(job.clone(), asked, answer.root_cause, answer.failure, message).await? {
            Some(failure) => Ok(Some(failure)),
            // What was to blame was brought back, and the job with it; unless it could not.
            None => {
                let job = failed(job_id, &self.mycelium.job(job_id).await?);
                Ok(job.map(|job| JobFailure { job, cause: None, failure: None }))
            }
        }
    }

    /// As [`explain`](Self::explain). None if what was to blame was brought back.
    async fn explain_failed(
        &self,
        job: FailedJob,
        asked: v1::Job,
        root_cause: Option<v1::Job>,
        failure: Option<v1::Failure>,
        message: &str,
    ) -> Result<Option<JobFailure>, Error> {
        if let Some(root) = &root_cause
            && let Ok(root_id) = JobId::try_from(root.job_id.as_ref())
        {
            return Ok(failed(root_id, root).map(|cause| JobFailure { job, cause: Some(cause), failure }));
        }
        if failure.is_some() {
            return Ok(Some(JobFailure { job, cause: None, failure }));
        }
        self.explain_step_by_step(job, asked, message).await
    }

    /// As [`explain`](Self::explain), with a broker of an earlier version, which does not say what is to blame.
    async fn explain_step_by_step(
        &self,
        job: FailedJob,
        asked: v1::Job,
        message: &str,
    ) -> Result<Option<JobFailure>, Error> {
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
        let mut found = None;
        let mut failure = None;
        let mut page_token = String::new();
        for _ in 0..OCCURRENCES_MAX / OCCURRENCES_PER_PAGE {
            let request = v1::GetFailureRequest {
                failure_id: job.failure_id.clone(),
                page_size: OCCURRENCES_PER_PAGE,
                page_token,
                ..v1::GetFailureRequest::default()
            };
            let answer = self.mycelium.get_failure(request).await?;
            failure = answer.failure.and_then(|group| group.failure);
            found = answer.occurrences.into_iter().find(|occurrence| occurrence.job_id == job.job_id);
            page_token = answer.next_page_token;
            if found.is_some() || page_token.is_empty() {
                break;
            }
        }
        let Some(mut failure) = failure else { return Ok(None) };
        match found {
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
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Expired | JobStatus::UpstreamFailed => {
            Some(FailedJob { job_id, elf: job.elf.clone(), task: job.task.clone(), status })
        }
        JobStatus::Unspecified
        | JobStatus::Pending
        | JobStatus::Ready
        | JobStatus::Assigned
        | JobStatus::Running
        | JobStatus::Done
        | JobStatus::Skipped => None,
    }
}
