//! The example `tracing`: one trace from the submission of a flow to the span of its task, through a broker that exports its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use integration_tests::{BrokerProcess, example, must, until};
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
use tonic::{Request, Response, Status};

/// Keeps what is exported to it, each span with the service that it is of.
#[derive(Clone, Default)]
pub(super) struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
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
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let collector = Self::default();
        let serve = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        Ok((collector, url))
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

const SUBMIT_JOBS: &str = "mycelium: /mycelium.v1.MyceliumService/SubmitJobs";

/// The spans of a run of the example, and the id of its trace.
async fn run(broker: &BrokerProcess, url: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("MYCELIUM_URL", &broker.url())];
    let ended = example::run_with("tracing", folder.path(), &variables).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let text = ended.stdout.trim_end();
    let trace = text.strip_prefix("12 loaves take 10800 g of flour, in trace ").context("its line")?;
    Ok(trace.to_owned())
}

/// Makes sure that each span hangs on the one before it, and all are of the trace.
fn is_chain(spans: &BTreeMap<String, Span>, trace: &str, names: &[&str]) -> anyhow::Result<()> {
    let mut parent = Vec::new();
    for name in names {
        let span = spans.get(*name).with_context(|| format!("{name} is missing among {:?}", spans.keys()))?;
        let of: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(of == trace, "{name} is in another trace");
        ensure!(span.parent_span_id == parent, "{name} hangs on another: {spans:#?}");
        ensure!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        parent.clone_from(&span.span_id);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_submission_through_the_broker_to_what_the_task_does() -> anyhow::Result<()>
{
    let (collector, url) = Collector::start().await?;
    let broker = BrokerProcess::start_with(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await?;
    let trace = run(&broker, &url).await?;
    // What it has not exported it exports now.
    broker.stop().await?;
    let spans = must(
        "the spans",
        until("all spans", async || {
            let spans = collector.by_name()?;
            Ok((spans.len() >= 9).then_some(spans))
        }),
    )
    .await??;
    let submit = ["bakery: order", "bakery: submit"];
    let commit = format!("mycelium: commit of {SUBMIT_JOBS}");
    is_chain(&spans, &trace, &[&submit[..], &[SUBMIT_JOBS, &commit]].concat())?;
    is_chain(
        &spans,
        &trace,
        &[&submit[..], &["mycelium: attempt", "bakery: attempt", "bakery: knead"]].concat(),
    )?;
    for of_attempt in ["mycelium: dispatch", "mycelium: commit of mycelium: attempt"] {
        is_chain(&spans, &trace, &[&submit[..], &["mycelium: attempt", of_attempt]].concat())?;
    }
    ensure!(spans.len() == 9, "{:?}", spans.keys());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_variable_a_broker_exports_nothing_and_passes_the_trace_on() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let broker = BrokerProcess::start(&[]).await?;
    let trace = run(&broker, &url).await?;
    broker.stop().await?;
    let spans = collector.by_name()?;
    is_chain(&spans, &trace, &["bakery: order", "bakery: submit", "bakery: attempt", "bakery: knead"])?;
    ensure!(spans.len() == 4, "{:?}", spans.keys());
    Ok(())
}
