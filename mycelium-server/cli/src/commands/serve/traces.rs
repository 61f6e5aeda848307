//! Spans that leave the process, for the collector that the variables of OpenTelemetry name: `OTEL_EXPORTER_OTLP_ENDPOINT`, or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Without either nothing is exported.
//!
//! What cannot be exported is lost: a bounded number of spans waits (`OTEL_BSP_MAX_QUEUE_SIZE`), and nothing waits for them.

mod queue;
mod tls;
mod variables;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithTonicConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use self::queue::{Losses, Queue};
use crate::errors::Misuse;

/// The module of the broker that makes the spans which are exported. All others are for those who debug.
const TARGET: &str = "mycelium_server::trace";
/// What the broker is called, unless the variables of OpenTelemetry say otherwise.
const SERVICE: &str = "mycelium";
/// How long the end of the broker waits for spans to be exported.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Who exports spans, if they are to be exported.
pub(super) struct Traces {
    exporting: Option<Exporting>,
}

struct Exporting {
    provider: SdkTracerProvider,
    losses: Arc<Losses>,
}

impl Traces {
    /// What the environment asks for, if there are no [`problems`] with that. Must be called within a tokio runtime, which then
    /// has the connection.
    ///
    /// # Errors
    /// If it asks for what cannot be done.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint() else { return Ok(Self { exporting: None }) };
        let unusable = |why: &dyn fmt::Display| Misuse(format!("spans cannot be exported: {why}"));
        let mut exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
        if variables::is_secure(&endpoint) {
            let tls = tls::config(variable).map_err(|problems| unusable(&problems.join("; ")))?;
            exporter = exporter.with_tls_config(tls);
        }
        let exporter = exporter.build().map_err(|error| unusable(&error))?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let is_named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if !is_named {
            resource = resource.with_service_name(SERVICE);
        }
        let (queue, losses) = Queue::new(exporter, variables::queue_size(variable));
        let provider =
            SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource.build()).build();
        Ok(Self { exporting: Some(Exporting { provider, losses }) })
    }

    /// The layer that they come through; none if nothing is exported.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.exporting.as_ref()?.provider.tracer(SERVICE);
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        Some(spans.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO)))
    }

    /// Tells of spans that are lost, again and again.
    pub(super) async fn tell_always(&self) -> Infallible {
        match &self.exporting {
            Some(exporting) => exporting.losses.tell_always().await,
            None => std::future::pending().await,
        }
    }

    /// Exports what waits, for a while.
    pub(super) async fn flush(self) {
        let Some(Exporting { provider, losses }) = self.exporting else { return };
        // The thread that exports is waited for.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans may not have been exported");
        }
        losses.tell_the_rest();
    }
}

/// Everything that is wrong with the variables, and with the files that they name, if spans are to be exported.
pub(super) fn problems() -> Vec<String> {
    if endpoint().is_none() {
        return Vec::new();
    }
    let mut problems = variables::problems(variable);
    problems.extend(tls::config(variable).err().into_iter().flatten());
    problems
}

/// Where spans are to go, if they are.
fn endpoint() -> Option<String> {
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    variables::ENDPOINTS.iter().find_map(|name| variable(name)).filter(|_| !is_disabled)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}
