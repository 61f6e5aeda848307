//! Spans that leave the process, for the collector that the variables of OpenTelemetry name: `OTEL_EXPORTER_OTLP_ENDPOINT`, or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Without either nothing is exported.
//!
//! What cannot be exported is lost: a bounded number of spans waits (`OTEL_BSP_MAX_QUEUE_SIZE`), and nothing waits for them.

use std::sync::Mutex;
use std::time::Duration;
use std::{env, sync};

use hyper::Uri;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::errors::Misuse;

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
        let problems = problems(variable);
        if !problems.is_empty() {
            return Err(Misuse(format!("invalid settings: {}", problems.join("; "))).into());
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build();
        let exporter = exporter.map_err(|error| Misuse(format!("spans cannot be exported: {error}")))?;
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

/// What is wrong with the variables. The library takes its defaults for what it cannot read, and says so in a log that is not
/// there yet.
fn problems(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const SAMPLERS: [&str; 3] = ["always_on", "always_off", "traceidratio"];
    let of_traces =
        |name: &str| [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
    let mut problems = Vec::new();
    let mut check = |name: &str, is_right: &dyn Fn(&str) -> bool, what: &str| {
        if let Some(value) = variable(name).filter(|value| !is_right(value.trim())) {
            problems.push(format!("{name}: `{value}` {what}"));
        }
    };
    let is_url = |value: &str| {
        let url = value.parse::<Uri>();
        url.is_ok_and(|url| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https")))
    };
    let is_number = |value: &str| value.parse::<u64>().is_ok();
    for name in of_traces("ENDPOINT") {
        check(&name, &is_url, "is no URL, such as http://127.0.0.1:4317");
    }
    // That of traces wins over the one of all.
    let [protocol, of_all] = of_traces("PROTOCOL");
    let protocol = if variable(&protocol).is_some() { protocol } else { of_all };
    check(&protocol, &|value| value == "grpc", "is not spoken: spans are exported by grpc");
    let numbers = ["SCHEDULE_DELAY", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "EXPORT_TIMEOUT"];
    let numbers = numbers.map(|name| format!("OTEL_BSP_{name}"));
    for name in of_traces("TIMEOUT").iter().chain(&numbers) {
        check(name, &is_number, "is no number");
    }
    let is_sampler = |value: &str| SAMPLERS.contains(&value.strip_prefix("parentbased_").unwrap_or(value));
    check("OTEL_TRACES_SAMPLER", &is_sampler, "is no sampler, such as parentbased_traceidratio");
    problems
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_cannot_be_used_are_told_of_all_at_once() {
        let told = |given: &[(&str, &str)]| {
            let found =
                |name: &str| given.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
            problems(found)
        };
        let right = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ];
        assert_eq!(told(&right), [""; 0]);
        let wrong = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
        ];
        let told = told(&wrong);
        assert_eq!(told.len(), wrong.len(), "{told:?}");
        for ((name, value), problem) in wrong.iter().zip(&told) {
            assert!(problem.starts_with(&format!("{name}: `{value}` is ")), "{problem}");
        }
    }
}
