//! `MyceliumService`: finds the mycelium, and hands each request to the module that serves it.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use mycelium_proto::v1;
use mycelium_proto::v1::mycelium_service_server::MyceliumService;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span};

use super::door::pass_of;
use super::{
    about, actions, audit, drain, jobs, mycelia, operations, pauses, read_logs, reads, submit, watch,
};
use crate::audit::Audit;
use crate::mycelia::Mycelia;
use crate::{trace, transport};

/// What the span of a submission is named, as those of other calls are.
const SUBMIT: &str = "/mycelium.v1.MyceliumService/SubmitJobs";

/// Serves those who orchestrate and watch.
#[derive(Debug, Clone)]
pub(crate) struct MyceliumServer {
    mycelia: Mycelia,
    audit: Audit,
    drain: CancellationToken,
}

impl MyceliumServer {
    /// A server whose streams end when `drain` is cancelled.
    pub(crate) fn new(mycelia: Mycelia, audit: Audit, drain: CancellationToken) -> Self {
        Self { mycelia, audit, drain }
    }
}

/// Writes unary methods that do nothing but find the mycelium and call a function. Of those that change something, with what
/// they are about and how many things they have changed, for the audit, and whether they only ask what would be.
macro_rules! unary {
    ($($method:ident($request:ident) -> $response:ident = $function:path $(, about $about:path, counting $count:expr)? $(, unless $asks:ident)?;)+) => {
        #[tonic::async_trait]
        impl MyceliumService for MyceliumServer {
            type WatchJobsStream =
                Pin<Box<dyn Stream<Item = Result<v1::WatchJobsResponse, Status>> + Send>>;

            async fn watch_jobs(
                &self,
                request: Request<v1::WatchJobsRequest>,
            ) -> Result<Response<Self::WatchJobsStream>, Status> {
                let peer = transport::address_of(request.extensions());
                let pass = Arc::clone(pass_of(request.extensions())?);
                let request = request.into_inner();
                let drain = self.drain.clone();
                if let Some(handle) = self.mycelia.find(pass.to(&request.mycelium)?).await? {
                    return Ok(Response::new(Box::pin(watch::watch(handle, drain, peer, request).await?)));
                }
                let mycelia = self.mycelia.clone();
                if !request.may_come {
                    let nothing = mycelia.read(pass.to(&request.mycelium)?).await?;
                    return Ok(Response::new(Box::pin(watch::watch(nothing, drain, peer, request).await?)));
                }
                // The flow may come, and its mycelium with it.
                let stream = futures::stream::once(async move {
                    let handle = mycelia.come(pass.to(&request.mycelium)?).await?;
                    Ok::<_, Status>(watch::watch(handle, drain, peer, request).await?)
                });
                Ok(Response::new(Box::pin(stream.try_flatten())))
            }

            type ReadLogsStream = ReceiverStream<Result<v1::ReadLogsResponse, Status>>;

            async fn read_logs(
                &self,
                request: Request<v1::ReadLogsRequest>,
            ) -> Result<Response<Self::ReadLogsStream>, Status> {
                let peer = transport::address_of(request.extensions());
                let pass = Arc::clone(pass_of(request.extensions())?);
                let request = request.into_inner();
                let handle = self.mycelia.read(pass.to(&request.mycelium)?).await?;
                Ok(Response::new(read_logs::read_logs(handle, self.drain.clone(), peer, request).await?))
            }

            async fn submit_jobs(
                &self,
                request: Request<v1::SubmitJobsRequest>,
            ) -> Result<Response<v1::SubmitJobsResponse>, Status> {
                let peer = transport::address_of(request.extensions());
                let of_call = trace::of_headers(request.metadata().as_ref());
                let pass = Arc::clone(pass_of(request.extensions())?);
                let mut request = request.into_inner();
                pass.counts(request.jobs.len() as u64);
                pass.is_about(&about::submission(&request));
                // Whoever does not say with the call in which span it is may say so with the jobs.
                let span = match &of_call {
                    None => trace::of_call(request.trace.as_ref(), SUBMIT, peer),
                    Some(_) => Span::none(),
                };
                pass.is_in(&span);
                request.trace = request.trace.or(of_call);
                let submitted = async {
                    let permitted = pass.to(&request.mycelium)?;
                    pass.covers(&request.mycelium, request.jobs.iter().map(|job| job.elf.as_str()))?;
                    let handle = self.mycelia.enter(permitted).await?;
                    submit::submit(&handle, peer, request).await
                };
                Ok(Response::new(submitted.instrument(span).await?))
            }

            async fn list_audit(
                &self,
                request: Request<v1::ListAuditRequest>,
            ) -> Result<Response<v1::ListAuditResponse>, Status> {
                Ok(Response::new(audit::list(&self.audit, request.into_inner()).await?))
            }

            async fn create_mycelium(
                &self,
                request: Request<v1::CreateMyceliumRequest>,
            ) -> Result<Response<v1::CreateMyceliumResponse>, Status> {
                let pass = Arc::clone(pass_of(request.extensions())?);
                Ok(Response::new(mycelia::create(&self.mycelia, &pass, request.into_inner()).await?))
            }

            async fn list_mycelia(
                &self,
                request: Request<v1::ListMyceliaRequest>,
            ) -> Result<Response<v1::ListMyceliaResponse>, Status> {
                let pass = pass_of(request.extensions())?;
                Ok(Response::new(mycelia::list(&self.mycelia, pass, request.get_ref())?))
            }

            async fn delete_mycelium(
                &self,
                request: Request<v1::DeleteMyceliumRequest>,
            ) -> Result<Response<v1::DeleteMyceliumResponse>, Status> {
                let pass = Arc::clone(pass_of(request.extensions())?);
                Ok(Response::new(mycelia::delete(&self.mycelia, &pass, request.into_inner()).await?))
            }

            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                let pass = Arc::clone(pass_of(request.extensions())?);
                let request = request.into_inner();
                $(pass.asks_only(request.$asks);)?
                $(pass.is_about(&$about(&request));)?
                let handle = self.mycelia.read(pass.to(&request.mycelium)?).await?;
                let answer = $function(&handle, request).await?;
                $(
                    let count: fn(&v1::$response) -> u64 = $count;
                    pass.counts(count(&answer));
                )?
                Ok(Response::new(answer))
            })+
        }
    };
}

unary! {
    get_job(GetJobRequest) -> GetJobResponse = reads::get_job;
    list_jobs(ListJobsRequest) -> ListJobsResponse = reads::list_jobs;
    get_outputs(GetOutputsRequest) -> GetOutputsResponse = reads::get_outputs;
    get_flow(GetFlowRequest) -> GetFlowResponse = reads::get_flow;
    list_flows(ListFlowsRequest) -> ListFlowsResponse = reads::list_flows;
    get_graph(GetGraphRequest) -> GetGraphResponse = reads::get_graph;
    cancel_jobs(CancelJobsRequest) -> CancelJobsResponse = jobs::cancel_jobs, about about::cancelled, counting |answer| answer.jobs_cancelled;
    retry_jobs(RetryJobsRequest) -> RetryJobsResponse = jobs::retry_jobs, about about::retried, counting |answer| answer.jobs_retried;
    start_jobs(StartJobsRequest) -> StartJobsResponse = jobs::start_jobs, about about::started, counting |answer| answer.jobs_started;
    delete_flows(DeleteFlowsRequest) -> DeleteFlowsResponse = jobs::delete_flows, about about::deleted_flows, counting |answer| jobs::deleted(&answer.flows), unless dry_run;
    delete_jobs(DeleteJobsRequest) -> DeleteJobsResponse = jobs::delete_jobs, about about::deleted_jobs, counting |answer| jobs::deleted(&answer.flows), unless dry_run;
    pin_flows(PinFlowsRequest) -> PinFlowsResponse = jobs::pin_flows, about about::pinned, counting |answer| answer.changed;
    pause(PauseRequest) -> PauseResponse = pauses::pause, about about::paused, counting |answer| u64::from(answer.is_new);
    resume(ResumeRequest) -> ResumeResponse = pauses::resume, about about::resumed, counting |answer| u64::from(answer.pause.is_some());
    list_pauses(ListPausesRequest) -> ListPausesResponse = pauses::list_pauses;
    drain_instance(DrainInstanceRequest) -> DrainInstanceResponse = drain::drain_instance, about about::drained, counting |answer| u64::from(answer.told);
    start_action(StartActionRequest) -> StartActionResponse = actions::start_action, about about::action, counting actions::known, unless dry_run;
    list_actions(ListActionsRequest) -> ListActionsResponse = actions::list_actions;
    get_lineage(GetLineageRequest) -> GetLineageResponse = reads::get_lineage;
    explain_job(ExplainJobRequest) -> ExplainJobResponse = reads::explain_job;
    list_attempts(ListAttemptsRequest) -> ListAttemptsResponse = reads::list_attempts;
    list_elves(ListElvesRequest) -> ListElvesResponse = reads::list_elves;
    get_elf(GetElfRequest) -> GetElfResponse = reads::get_elf;
    list_revisions(ListRevisionsRequest) -> ListRevisionsResponse = reads::list_revisions;
    get_revision(GetRevisionRequest) -> GetRevisionResponse = reads::get_revision;
    list_failures(ListFailuresRequest) -> ListFailuresResponse = reads::list_failures;
    get_failure(GetFailureRequest) -> GetFailureResponse = reads::get_failure;
    get_status(GetStatusRequest) -> GetStatusResponse = reads::get_status;
    list_operations(ListOperationsRequest) -> ListOperationsResponse = operations::list_operations;
}
