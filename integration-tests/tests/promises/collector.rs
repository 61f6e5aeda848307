//! A collector of spans, as OpenTelemetry has them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Keeps what is exported to it, each span with the service that it is of.
#[derive(Clone, Default)]
pub(super) struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    /// Held by who keeps it from answering.
    pub(super) answering: Arc<tokio::sync::Mutex<()>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        drop(self.answering.lock().await);
        for of_resource in request.into_inner().resource_spans {
            let service = service(of_resource.resource.as_ref());
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.lock().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
    match name.and_then(|name| name.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}

impl Collector {
    /// One that listens, until the runtime of the test ends, and its URL.
    pub(super) async fn start() -> anyhow::Result<(Self, String)> {
        let (collector, address) = Self::serve(Server::builder()).await?;
        Ok((collector, format!("http://{address}")))
    }

    /// The same by TLS.
    pub(super) async fn start_secured(tls: ServerTlsConfig) -> anyhow::Result<(Self, String)> {
        let (collector, address) = Self::serve(Server::builder().tls_config(tls)?).await?;
        Ok((collector, format!("https://{address}")))
    }

    async fn serve(mut server: Server) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (collector, address) = (Self::default(), listener.local_addr()?);
        let serve = server
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        Ok((collector, address))
    }

    /// Those of this name so far.
    pub(super) fn named(&self, name: &str) -> Vec<Span> {
        self.lock().iter().map(|(_, span)| span).filter(|span| span.name == name).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, Span)>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All spans so far, by service and name; waits for something durable by what they hang on, too. There is one of each.
    pub(super) fn by_name(&self) -> anyhow::Result<BTreeMap<String, Span>> {
        let spans = self.lock();
        let name = |(service, span): &(String, Span)| format!("{service}: {}", span.name);
        let mut found = BTreeMap::new();
        for of in spans.iter() {
            let parent = spans.iter().find(|(_, parent)| parent.span_id == of.1.parent_span_id);
            let name = match parent {
                Some(parent) if of.1.name == "commit" => format!("{} of {}", name(of), name(parent)),
                Some(_) | None => name(of),
            };
            ensure!(found.insert(name.clone(), of.1.clone()).is_none(), "there are two of {name}");
        }
        Ok(found)
    }
}

/// What a span says of itself under this key.
pub(super) fn attribute(span: &Span, key: &str) -> Option<Value> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.clone()
}
