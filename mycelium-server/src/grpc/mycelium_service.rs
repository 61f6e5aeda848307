//! `MyceliumService`: finds the mycelium, and hands each request to the module that serves it.

use std::pin::Pin;

use futures::Stream;
use mycelium_proto::v1;
use mycelium_proto::v1::mycelium_service_server::MyceliumService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Mycelia, convert, operations, submit, watch};
use crate::broker::{Handle, StoreState};
use crate::error::Error;
use crate::queries::{elves, graph, jobs, lineage, list};
use crate::transport;

/// Serves those who orchestrate and watch.
#[derive(Debug, Clone)]
pub(crate) struct MyceliumServer {
    mycelia: Mycelia,
    drain: CancellationToken,
}

impl MyceliumServer {
    /// A server whose streams end when `drain` is cancelled.
    pub(crate) fn new(mycelia: Mycelia, drain: CancellationToken) -> Self {
        Self { mycelia, drain }
    }
}

/// Writes unary methods that do nothing but find the mycelium and call a function.
macro_rules! unary {
    ($($method:ident($request:ident) -> $response:ident = $function:path;)+) => {
        #[tonic::async_trait]
        impl MyceliumService for MyceliumServer {
            type WatchJobsStream =
                Pin<Box<dyn Stream<Item = Result<v1::WatchJobsResponse, Status>> + Send>>;

            async fn watch_jobs(
                &self,
                request: Request<v1::WatchJobsRequest>,
            ) -> Result<Response<Self::WatchJobsStream>, Status> {
                let peer = transport::address_of(request.extensions());
                let request = request.into_inner();
                let handle = self.mycelia.get(&request.mycelium)?.clone();
                let stream = watch::watch(handle, self.drain.clone(), peer, request).await?;
                Ok(Response::new(Box::pin(stream)))
            }

            async fn submit_jobs(
                &self,
                request: Request<v1::SubmitJobsRequest>,
            ) -> Result<Response<v1::SubmitJobsResponse>, Status> {
                let peer = transport::address_of(request.extensions());
                let request = request.into_inner();
                let handle = self.mycelia.get(&request.mycelium)?;
                Ok(Response::new(submit::submit(handle, peer, request).await?))
            }

            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                let request = request.into_inner();
                let handle = self.mycelia.get(&request.mycelium)?;
                Ok(Response::new($function(handle, request).await?))
            })+
        }
    };
}

unary! {
    get_job(GetJobRequest) -> GetJobResponse = jobs::get_job;
    list_jobs(ListJobsRequest) -> ListJobsResponse = list::list_jobs;
    get_outputs(GetOutputsRequest) -> GetOutputsResponse = jobs::get_outputs;
    get_flow(GetFlowRequest) -> GetFlowResponse = list::get_flow;
    list_flows(ListFlowsRequest) -> ListFlowsResponse = list::list_flows;
    get_graph(GetGraphRequest) -> GetGraphResponse = graph::get_graph;
    cancel_jobs(CancelJobsRequest) -> CancelJobsResponse = jobs::cancel;
    retry_jobs(RetryJobsRequest) -> RetryJobsResponse = jobs::retry;
    get_lineage(GetLineageRequest) -> GetLineageResponse = lineage::get_lineage;
    explain_job(ExplainJobRequest) -> ExplainJobResponse = jobs::explain;
    list_elves(ListElvesRequest) -> ListElvesResponse = elves::list_elves;
    get_elf(GetElfRequest) -> GetElfResponse = elves::get_elf;
    list_revisions(ListRevisionsRequest) -> ListRevisionsResponse = elves::list_revisions;
    get_revision(GetRevisionRequest) -> GetRevisionResponse = elves::get_revision;
    list_failures(ListFailuresRequest) -> ListFailuresResponse = list::list_failures;
    get_failure(GetFailureRequest) -> GetFailureResponse = list::get_failure;
    get_status(GetStatusRequest) -> GetStatusResponse = get_status;
    list_operations(ListOperationsRequest) -> ListOperationsResponse = operations::list_operations;
}

async fn get_status(handle: &Handle, _request: v1::GetStatusRequest) -> Result<v1::GetStatusResponse, Error> {
    let (counts, commit) = handle.query(|core, commit| (core.status(), commit)).await?;
    Ok(v1::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: handle.store().kind().to_owned(),
        durable: handle.store().is_durable(),
        started_at: Some(convert::timestamp(handle.clock().started_at())),
        commit: commit.0,
        unfinished: Some(v1::JobCounts {
            pending: counts.pending,
            ready: counts.ready,
            running: counts.running,
            ..v1::JobCounts::default()
        }),
        sessions: u32::try_from(counts.sessions).unwrap_or(u32::MAX),
        process_id: std::process::id(),
        outcomes_stale: counts.outcomes_stale,
        store_problem: match handle.store_state().borrow().store {
            StoreState::Full => "disk full".to_owned(),
            StoreState::ReadOnly => "read-only".to_owned(),
            // Who is away answers nobody.
            StoreState::Writable | StoreState::Away => String::new(),
        },
    })
}
