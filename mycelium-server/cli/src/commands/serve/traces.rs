//! Spans that leave the process, for the collector that the variables of OpenTelemetry name: `OTEL_EXPORTER_OTLP_ENDPOINT`, or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Without either nothing is exported.
//!
//! What cannot be exported is lost: a bounded number of spans waits (`OTEL_BSP_MAX_QUEUE_SIZE`), and nothing waits for them.

use std::sync::Mutex;
use std::time::Duration;
use std::{env, sync};

use anyhow::{Context as _, bail};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// The module of the broker that makes the spans which are exported. All others are for those who debug.
const TARGET: &str = "mycelium_server::trace";
/// What the broker is called, unless the variables of OpenTelemetry say otherwise.
const SERVICE: &str = "mycelium";
/// How long the end of the broker waits for spans to be exported.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Who exports spans, if they are to be exported.
pub(super) struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// What the environment asks for. Must be called within a tokio runtime, which then has the connection.
    ///
    /// # Errors
    /// If it asks for what cannot be done.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let asked = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let is_asked = asked.iter().any(|name| variable(name).is_some());
        let is_disabled = variable("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if !is_asked || is_disabled {
            return Ok(Self { provider: None });
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match variable(name) {
                Some(protocol) if protocol != "grpc" => {
                    bail!("{name}: spans are exported by grpc, and not by {protocol}")
                }
                Some(_) => break,
                None => {}
            }
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build();
        let exporter = exporter.context("cannot export spans as OTEL_EXPORTER_OTLP_ENDPOINT says")?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let is_named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if !is_named {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Telling { exporter, failing: Mutex::default() })
            .with_resource(resource.build())
            .build();
        Ok(Self { provider: Some(provider) })
    }

    /// The layer that they come through; none if nothing is exported.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.provider.as_ref()?.tracer(SERVICE);
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        Some(spans.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO)))
    }

    /// Exports what waits, for a while.
    pub(super) async fn flush(self) {
        let Some(provider) = self.provider else { return };
        // The thread that exports is waited for.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans may not have been exported");
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// An exporter that says when it begins to fail, and when it goes again: without it nobody would know.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    /// How many spans were lost since it failed; 0 if it does not.
    failing: Mutex<usize>,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        let mut lost = self.failing.lock().unwrap_or_else(sync::PoisonError::into_inner);
        match &exported {
            Ok(()) if *lost > 0 => {
                tracing::warn!(lost = std::mem::take(&mut *lost), "spans are exported again");
            }
            Ok(()) => {}
            Err(error) => {
                if *lost == 0 {
                    tracing::warn!(%error, "spans cannot be exported, and are lost until they can");
                }
                *lost += spans;
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
