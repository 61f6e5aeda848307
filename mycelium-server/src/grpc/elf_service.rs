//! `ElfService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use mycelium_proto::v1;
use mycelium_proto::v1::elf_service_server::ElfService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::connect::connect;
use super::door::pass_of;
use crate::mycelia::Mycelia;
use crate::transport;

/// Serves elves.
#[derive(Debug, Clone)]
pub(crate) struct ElfServer {
    mycelia: Mycelia,
    drain: CancellationToken,
}

impl ElfServer {
    /// A server whose streams end when `drain` is cancelled.
    pub(crate) fn new(mycelia: Mycelia, drain: CancellationToken) -> Self {
        Self { mycelia, drain }
    }
}

#[tonic::async_trait]
impl ElfService for ElfServer {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let brought = transport::bytes_brought(request.extensions());
        let pass = Arc::clone(pass_of(request.extensions())?);
        let (mycelia, drain) = (self.mycelia.clone(), self.drain.clone());
        let stream = connect(mycelia, drain, brought, pass, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
