//! The services of jobs and elves, answering as the script says.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use mycelium_proto::v1;
use mycelium_proto::v1::elf_service_server::ElfService;
use mycelium_proto::v1::mycelium_service_server::MyceliumService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{BlobScript, ElfStream};

/// Answers one call.
pub type Handler<Req, Resp> = Box<dyn FnMut(Req) -> Result<Resp, Status> + Send>;
/// What a watch sends.
pub type Watch = BoxStream<'static, Result<v1::WatchJobsResponse, Status>>;

/// A refusal as brokers make it.
pub fn refusal(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, mycelium_proto::reason::DOMAIN, HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "refused by the test", details)
}

pub(super) struct Service {
    pub(super) accept: mpsc::Sender<ElfStream>,
    pub(super) script: Arc<Mutex<Script>>,
}

#[tonic::async_trait]
impl ElfService for Service {
    type ConnectStream = ReceiverStream<Result<v1::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if let Some(refusal) = self.script.lock().unwrap().refuse_connect.take() {
            return Err(refusal);
        }
        let (outbound, responses) = mpsc::channel(64);
        let stream = ElfStream {
            inbound: request.into_inner(),
            outbound,
            sequence: 0,
            windows: Vec::new(),
            starts: Vec::new(),
            outcomes: VecDeque::new(),
            received: 0,
            confirmed: 0,
        };
        self.accept.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

pub(super) struct Calls(pub(super) Arc<Mutex<Script>>);

macro_rules! script {
    ($($call:ident($request:ident) -> $response:ident;)*) => {
        /// How calls are answered. A call without an answer is UNIMPLEMENTED.
        #[derive(Default)]
        pub struct Script {
            /// The refusal of the next stream.
            pub refuse_connect: Option<Status>,
            /// What it makes of blobs.
            pub blobs: BlobScript,
            /// Answers `watch_jobs`.
            pub watch_jobs: Option<Handler<v1::WatchJobsRequest, Watch>>,
            $(#[doc = concat!("Answers `", stringify!($call), "`.")]
            pub $call: Option<Handler<v1::$request, v1::$response>>,)*
        }

        impl fmt::Debug for Script {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Script").field("blobs", &self.blobs).finish_non_exhaustive()
            }
        }

        #[tonic::async_trait]
        impl MyceliumService for Calls {
            type WatchJobsStream = Watch;

            async fn watch_jobs(
                &self,
                request: Request<v1::WatchJobsRequest>,
            ) -> Result<Response<Watch>, Status> {
                match &mut self.0.lock().unwrap().watch_jobs {
                    Some(answer) => answer(request.into_inner()).map(Response::new),
                    None => Err(Status::unimplemented("watch_jobs")),
                }
            }

            type ReadLogsStream = futures::stream::Empty<Result<v1::ReadLogsResponse, Status>>;

            async fn read_logs(
                &self,
                _request: Request<v1::ReadLogsRequest>,
            ) -> Result<Response<Self::ReadLogsStream>, Status> {
                Err(Status::unimplemented("read_logs"))
            }

            $(
                async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                    match &mut self.0.lock().unwrap().$call {
                        Some(answer) => answer(request.into_inner()).map(Response::new),
                        None => Err(Status::unimplemented(stringify!($call))),
                    }
                }
            )*
        }
    };
}

script! {
    submit_jobs(SubmitJobsRequest) -> SubmitJobsResponse;
    get_job(GetJobRequest) -> GetJobResponse;
    list_jobs(ListJobsRequest) -> ListJobsResponse;
    get_outputs(GetOutputsRequest) -> GetOutputsResponse;
    get_flow(GetFlowRequest) -> GetFlowResponse;
    list_flows(ListFlowsRequest) -> ListFlowsResponse;
    get_graph(GetGraphRequest) -> GetGraphResponse;
    cancel_jobs(CancelJobsRequest) -> CancelJobsResponse;
    retry_jobs(RetryJobsRequest) -> RetryJobsResponse;
    start_jobs(StartJobsRequest) -> StartJobsResponse;
    delete_flows(DeleteFlowsRequest) -> DeleteFlowsResponse;
    delete_jobs(DeleteJobsRequest) -> DeleteJobsResponse;
    pin_flows(PinFlowsRequest) -> PinFlowsResponse;
    pause(PauseRequest) -> PauseResponse;
    resume(ResumeRequest) -> ResumeResponse;
    list_pauses(ListPausesRequest) -> ListPausesResponse;
    drain_instance(DrainInstanceRequest) -> DrainInstanceResponse;
    start_action(StartActionRequest) -> StartActionResponse;
    list_actions(ListActionsRequest) -> ListActionsResponse;
    get_lineage(GetLineageRequest) -> GetLineageResponse;
    explain_job(ExplainJobRequest) -> ExplainJobResponse;
    list_attempts(ListAttemptsRequest) -> ListAttemptsResponse;
    list_elves(ListElvesRequest) -> ListElvesResponse;
    get_elf(GetElfRequest) -> GetElfResponse;
    list_revisions(ListRevisionsRequest) -> ListRevisionsResponse;
    get_revision(GetRevisionRequest) -> GetRevisionResponse;
    list_failures(ListFailuresRequest) -> ListFailuresResponse;
    get_failure(GetFailureRequest) -> GetFailureResponse;
    create_mycelium(CreateMyceliumRequest) -> CreateMyceliumResponse;
    list_mycelia(ListMyceliaRequest) -> ListMyceliaResponse;
    list_audit(ListAuditRequest) -> ListAuditResponse;
    delete_mycelium(DeleteMyceliumRequest) -> DeleteMyceliumResponse;
    get_status(GetStatusRequest) -> GetStatusResponse;
    list_operations(ListOperationsRequest) -> ListOperationsResponse;
}
