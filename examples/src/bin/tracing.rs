//! One trace, from where a flow is submitted to what its task does in another process, in a collector of OpenTelemetry.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 cargo run --bin tracing
//! ```
//!
//! With a broker that runs (`--url`), and was started with the same variable, its spans are part of the trace.

use std::io::{self, Write as _};

use clap::Parser;
use elf_runtime::{Mycelium, machine_elf};
use mycelium_server::RunningBroker;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

#[derive(Parser)]
struct Options {
    /// The URL of a broker that runs. Without it the example brings its own.
    #[arg(long, env = "MYCELIUM_URL")]
    url: Option<String>,
}

struct Baker;

/// Bakes.
#[machine_elf]
impl Baker {
    /// Bakes so many loaves.
    async fn task_bake(&self, loaves: u64) -> u64 {
        // It runs within the span of its attempt: what it does is part of the trace of whoever has asked for it.
        knead(loaves).await
    }
}

/// A span of the task's own.
#[tracing::instrument]
async fn knead(loaves: u64) -> u64 {
    loaves * 900
}

/// What every program does that takes part in traces, whether it submits or serves: the runtime's feature `otel` passes them on.
fn export_spans() -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("bakery").build())
        .build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("bakery"));
    tracing_subscriber::registry().with(spans.with_filter(LevelFilter::INFO)).init();
    Ok(provider)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let provider = export_spans()?;
    let url = options.url.filter(|url| !url.is_empty());
    let broker = match &url {
        Some(_) => None,
        None => Some(mycelium_examples::broker(None).await?),
    };
    let url = url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();
    let mycelium = Mycelium::connect(url).await?;
    let worker = mycelium.serve().elf("baker", Baker);
    let mut outcome = Ok(());
    let order = Box::pin(order(&mycelium).instrument(tracing::info_span!("order")));
    worker.run_until(async { outcome = order.await }).await?;
    if let Some(broker) = broker {
        broker.stop().await?;
    }
    // What waits is exported.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    outcome
}

async fn order(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("order");
    let flour = Baker::tasks(&flow, "baker").task_bake(12);
    let run = flow.submit().await?;
    let grams = run.result(&flour).await?;
    let trace = tracing::Span::current().context().span().span_context().trace_id();
    writeln!(io::stdout(), "12 loaves take {grams} g of flour, in trace {trace}")?;
    Ok(())
}
