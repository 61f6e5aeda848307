//! The calls of `MyceliumService`, as the contract defines them.

use mycelium_proto::v1;

use super::log_reader::LogReader;
use super::mycelium::Mycelium;
use super::watch::JobWatch;
use crate::error::Error;
use crate::ids::{FlowId, JobId};
use crate::retry::Retry;
use crate::transport::RawClient;

/// A request that names its mycelium.
pub(crate) trait NamesMycelium {
    /// The field.
    fn mycelium(&mut self) -> &mut String;
}

macro_rules! calls {
    ($($(#[$docs:meta])* $call:ident($request:ident) -> $response:ident;)*) => {
        $(
            impl NamesMycelium for v1::$request {
                fn mycelium(&mut self) -> &mut String {
                    &mut self.mycelium
                }
            }
        )*

        impl Mycelium {
            $(
                $(#[$docs])*
                ///
                /// If the request does not name a mycelium, it is the handle's. Repeated while that may help.
                ///
                /// # Errors
                /// [`Error::Refused`] with the reasons that the contract names for this call; [`Error::Busy`] and
                /// [`Error::Unreachable`] once patience is at its end.
                pub async fn $call(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    let call = |mut client: RawClient, request| async move {
                        client.$call(request).await
                    };
                    let request = self.in_mycelium(request);
                    self.call(|| request.clone(), call).await
                }
            )*
        }
    };
}

calls! {
    /// Adds jobs to a flow; [`Flow::submit`](crate::Flow::submit) is the high-level form.
    submit_jobs(SubmitJobsRequest) -> SubmitJobsResponse;
    /// One job as it stands, with the values it was given if asked for.
    get_job(GetJobRequest) -> GetJobResponse;
    /// Jobs by flow, elf, task, status and time, in pages.
    list_jobs(ListJobsRequest) -> ListJobsResponse;
    /// Outputs of jobs, for the first of them if all would be too much for one message. Large values are named and not
    /// read.
    get_outputs(GetOutputsRequest) -> GetOutputsResponse;
    /// A flow, and how its jobs stand.
    get_flow(GetFlowRequest) -> GetFlowResponse;
    /// Flows, newest first, in pages.
    list_flows(ListFlowsRequest) -> ListFlowsResponse;
    /// Jobs and the edges between them: of a flow, or around one job.
    get_graph(GetGraphRequest) -> GetGraphResponse;
    /// Cancels jobs, or all unfinished jobs of a flow.
    cancel_jobs(CancelJobsRequest) -> CancelJobsResponse;
    /// Retries failed and cancelled jobs, with the jobs that waited for them.
    retry_jobs(RetryJobsRequest) -> RetryJobsResponse;
    /// Lets jobs begin at once that wait for their moment.
    start_jobs(StartJobsRequest) -> StartJobsResponse;
    /// Deletes flows with their jobs, or says what would become of them.
    delete_flows(DeleteFlowsRequest) -> DeleteFlowsResponse;
    /// Deletes the flows that are made of these jobs.
    delete_jobs(DeleteJobsRequest) -> DeleteJobsResponse;
    /// Keeps flows from being deleted, or no longer.
    pin_flows(PinFlowsRequest) -> PinFlowsResponse;
    /// Pauses a task, an elf, a flow or the whole mycelium.
    pause(PauseRequest) -> PauseResponse;
    /// Ends a pause.
    resume(ResumeRequest) -> ResumeResponse;
    /// All pauses there are.
    list_pauses(ListPausesRequest) -> ListPausesResponse;
    /// Tells a process to leave.
    drain_instance(DrainInstanceRequest) -> DrainInstanceResponse;
    /// Retries, cancels or deletes all jobs that a filter names, in the background.
    start_action(StartActionRequest) -> StartActionResponse;
    /// The actions under way, and those that are over.
    list_actions(ListActionsRequest) -> ListActionsResponse;
    /// The lineage of a result: what it was computed from, or what was computed from it, in pages.
    get_lineage(GetLineageRequest) -> GetLineageResponse;
    /// Why a job is in its state.
    explain_job(ExplainJobRequest) -> ExplainJobResponse;
    /// The attempts of a job: who ran it when, and how each ended.
    list_attempts(ListAttemptsRequest) -> ListAttemptsResponse;
    /// All elves ever seen, by name, in pages.
    list_elves(ListElvesRequest) -> ListElvesResponse;
    /// One elf with its tasks, docs, signatures, sources and instances.
    get_elf(GetElfRequest) -> GetElfResponse;
    /// Every revision of an elf and its tasks, newest first, in pages.
    list_revisions(ListRevisionsRequest) -> ListRevisionsResponse;
    /// One revision, with its source.
    get_revision(GetRevisionRequest) -> GetRevisionResponse;
    /// Failures, equal ones as one, last seen first, in pages.
    list_failures(ListFailuresRequest) -> ListFailuresResponse;
    /// One failure and its latest occurrences, in pages.
    get_failure(GetFailureRequest) -> GetFailureResponse;
    /// Creates a mycelium, unless it exists.
    create_mycelium(CreateMyceliumRequest) -> CreateMyceliumResponse;
    /// Deletes a mycelium with all that is in it.
    delete_mycelium(DeleteMyceliumRequest) -> DeleteMyceliumResponse;
    /// The broker and this mycelium at a glance.
    get_status(GetStatusRequest) -> GetStatusResponse;
    /// The operations that values may use, with what each takes and gives.
    list_operations(ListOperationsRequest) -> ListOperationsResponse;
}

impl NamesMycelium for v1::ReadLogsRequest {
    fn mycelium(&mut self) -> &mut String {
        &mut self.mycelium
    }
}

impl NamesMycelium for v1::WatchJobsRequest {
    fn mycelium(&mut self) -> &mut String {
        &mut self.mycelium
    }
}

impl Mycelium {
    /// The mycelia of the broker by name, in pages. Repeated while that may help.
    ///
    /// # Errors
    /// As the other calls.
    pub async fn list_mycelia(
        &self,
        request: v1::ListMyceliaRequest,
    ) -> Result<v1::ListMyceliaResponse, Error> {
        let call = |mut client: RawClient, request| async move { client.list_mycelia(request).await };
        self.call(|| request.clone(), call).await
    }

    /// Who changed what: the latest calls that change something, last first, in pages. Repeated while that may help.
    ///
    /// # Errors
    /// As the other calls.
    pub async fn list_audit(&self, request: v1::ListAuditRequest) -> Result<v1::ListAuditResponse, Error> {
        let call = |mut client: RawClient, request| async move { client.list_audit(request).await };
        self.call(|| request.clone(), call).await
    }

    /// Fills in the handle's mycelium where a request names none.
    pub(crate) fn in_mycelium<Req: NamesMycelium>(&self, mut request: Req) -> Req {
        let mycelium = request.mycelium();
        if mycelium.is_empty() {
            self.name_on_wire().clone_into(mycelium);
        }
        request
    }

    /// The state of jobs, then each change. The watch survives cuts of the connection and restarts of the broker.
    ///
    /// Nothing is sent before the first message is awaited. If the request does not name a mycelium, it is the
    /// handle's.
    pub fn watch_jobs(&self, request: v1::WatchJobsRequest) -> JobWatch {
        JobWatch::new(self.clone(), self.in_mycelium(request))
    }

    /// Begins to read what an attempt of a job has logged.
    ///
    /// # Errors
    /// As [`call`](Self::get_job), with the reasons that the contract names for `ReadLogs`.
    pub async fn read_logs(&self, request: v1::ReadLogsRequest) -> Result<LogReader, Error> {
        let request = self.in_mycelium(request);
        let stream = self.calls().read_logs(request).await?;
        Ok(LogReader::new(stream))
    }

    /// Cancels all unfinished jobs of a flow, and returns how many that were.
    ///
    /// # Errors
    /// As [`cancel_jobs`](Self::cancel_jobs).
    pub async fn cancel_flow(&self, flow_id: FlowId) -> Result<u64, Error> {
        let scope = Some(v1::cancel_jobs_request::Scope::FlowId(flow_id.to_wire()));
        let request = v1::CancelJobsRequest { mycelium: String::new(), scope };
        Ok(self.cancel_jobs(request).await?.jobs_cancelled)
    }

    /// The outputs of one job, or how it stands if it is not DONE. Large values are read, so that all are inline.
    ///
    /// # Errors
    /// As [`get_outputs`](Self::get_outputs); [`Error::DamagedBlob`] if a large value is not what it was.
    pub async fn outputs(&self, job_id: JobId) -> Result<v1::JobOutputs, Error> {
        let mut answer = self.outputs_unread(job_id).await?;
        let outputs = std::mem::take(&mut answer.outputs);
        let outputs = self.blobs().resolve_outputs(outputs, || Retry::new(self.patience())).await?;
        answer.outputs = outputs.into_inline().outputs;
        Ok(answer)
    }

    /// As [`outputs`](Self::outputs), but large values are named and not read, as the broker answers.
    ///
    /// # Errors
    /// As [`get_outputs`](Self::get_outputs).
    pub async fn outputs_unread(&self, job_id: JobId) -> Result<v1::JobOutputs, Error> {
        let request = v1::GetOutputsRequest { mycelium: String::new(), job_ids: vec![job_id.to_wire()] };
        let answer = self.get_outputs(request).await?;
        answer.jobs.into_iter().next().ok_or_else(|| Error::Protocol {
            message: format!("GetOutputs of job {job_id} came back without the job"),
        })
    }

    /// One job as it stands.
    ///
    /// # Errors
    /// As [`get_job`](Self::get_job).
    pub async fn job(&self, job_id: JobId) -> Result<v1::Job, Error> {
        let request = v1::GetJobRequest { job_id: job_id.to_wire(), ..v1::GetJobRequest::default() };
        let answer = self.get_job(request).await?;
        answer.job.ok_or_else(|| Error::Protocol {
            message: format!("GetJob of {job_id} came back without the job"),
        })
    }
}
