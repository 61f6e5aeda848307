//! A broker that does what a test tells it, on a port of its own. Its functions panic where something is wrong, at once.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it fails at once where something is wrong"
)]

mod blobs;
mod elf_stream;
mod service;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use elf_runtime::{FlowId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_proto::v1::blob_service_server::BlobServiceServer;
use mycelium_proto::v1::elf_service_server::ElfServiceServer;
use mycelium_proto::v1::mycelium_service_server::MyceliumServiceServer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::wait::{DEADLINE, within};

pub use blobs::BlobScript;
pub use elf_stream::{ElfStream, assignment, token};
pub use service::{Handler, Script, Watch, refusal};

/// See the [module](self).
#[derive(Debug)]
pub struct FakeBroker {
    address: SocketAddr,
    streams: mpsc::Receiver<ElfStream>,
    runtime: Option<Runtime>,
    script: Arc<Mutex<Script>>,
}

impl FakeBroker {
    /// Starts on a free port.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts on an address that a broker had before.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::start_scripted(address, Script::default()).await
    }

    /// As `start_at`, and knows from the first moment how to answer calls.
    pub async fn start_scripted(address: SocketAddr, script: Script) -> Self {
        // On a runtime of its own, so that stopping it breaks all connections at once.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake-broker")
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.spawn(TcpListener::bind(address)).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let (accept, streams) = mpsc::channel(16);
        let script = Arc::new(Mutex::new(script));
        let elves = service::Service { accept, script: Arc::clone(&script) };
        let calls = service::Calls(Arc::clone(&script));
        let blobs = blobs::BlobCalls(Arc::clone(&script));
        let server = Server::builder()
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024)
            .tcp_nodelay(true)
            .add_service(ElfServiceServer::new(elves).max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
            .add_service(
                MyceliumServiceServer::new(calls).max_decoding_message_size(limits::MESSAGE_BYTES_MAX),
            )
            .add_service(BlobServiceServer::new(blobs).max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Self { address, streams, runtime: Some(runtime), script }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of this broker, which gives up after the deadline of the tests.
    pub fn client(&self) -> Mycelium {
        Mycelium::builder(self.url()).patience(DEADLINE).connect_lazy().unwrap()
    }

    /// Says how calls are answered.
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap())
    }

    /// Answers for every job that it is one of this flow.
    pub fn knows_jobs_of(&self, flow_id: FlowId) {
        let flow_id = bytes::Bytes::copy_from_slice(flow_id.as_bytes());
        self.script(|script| {
            script.get_job = Some(Box::new(move |request: v1::GetJobRequest| {
                let job = v1::Job { job_id: request.job_id, flow_id: flow_id.clone(), ..v1::Job::default() };
                Ok(v1::GetJobResponse { job: Some(job), ..v1::GetJobResponse::default() })
            }));
        });
    }

    /// The next stream that a worker opens.
    pub async fn accept(&mut self) -> ElfStream {
        within("a stream of a worker", self.streams.recv()).await.unwrap()
    }

    /// Whether a worker has opened a stream that was not accepted yet.
    pub fn has_stream(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Stops listening, and waits until the port is free.
    pub async fn stop(self) -> SocketAddr {
        let address = self.address;
        drop(self);
        within("the port to be free", async {
            while TcpListener::bind(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        address
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
