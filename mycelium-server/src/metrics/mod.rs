//! What a broker counts for those who look after it, and how it is told: numbers alone, of which none names a job, a flow or
//! what they hold.
//!
//! - `counted` is all there is: each metric with its name, its unit and what it means; `docs/metrics.md` has the same table.
//! - `counting` counts what the owner of a core has stored, a batch at a time; `queue` tells how long jobs have waited for a
//!   process.
//! - `shown` is what others show of themselves for as long as a mycelium is open; `look` reads it when somebody asks.
//! - `names` bounds the values of labels that clients choose.
//!
//! A broker without an admin listener counts nothing.

mod counted;
mod counting;
mod look;
mod names;
mod queue;
mod shown;

use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use counted::Counted;
use names::Names;

pub(crate) use counting::Counting;
pub(crate) use look::Sources;
pub(crate) use shown::{Shown, Sizes};

/// How many elves, and how many mycelia, have their names in labels; all others are `other` together.
const NAMES_MAX: usize = 200;

/// What a broker counts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    counted: Counted,
    elves: Names,
    mycelia: Names,
    reasons: Names,
}

/// The metrics of a broker, once somebody wants them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switch(Arc<OnceLock<Metrics>>);

impl Switch {
    /// Counts from now on.
    pub(crate) fn turn_on(&self, metrics: Metrics) {
        // One that counts already goes on.
        let _on_already = self.0.set(metrics);
    }

    /// `None` while nobody wants them.
    pub(crate) fn on(&self) -> Option<&Metrics> {
        self.0.get()
    }
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As OpenMetrics 1.0 has it.
    OpenMetrics,
    /// As Prometheus has had it before.
    Prometheus,
}

impl Format {
    /// The one that whoever sends this `Accept` takes: that of Prometheus, unless the other is named.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            Some(_) | None => Self::Prometheus,
        }
    }

    /// Its `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("mycelium");
        let counted = Counted::register(&mut registry);
        let names = || Names::new(NAMES_MAX);
        let inner = Inner { registry, counted, elves: names(), mycelia: names(), reasons: names() };
        Self { inner: Arc::new(inner) }
    }

    /// A call was refused for a reason of the contract.
    pub(crate) fn refused(&self, reason: &str) {
        let label = self.inner.reasons.label(reason);
        self.inner.counted.refused.get_or_create(&[("reason", label)]).inc();
    }

    /// All that was counted, and what was seen at the last look.
    ///
    /// # Errors
    /// If it cannot be written, which no metric here gives a reason for.
    pub(crate) fn write(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut written = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut written, &self.inner.registry)?,
            Format::Prometheus => prometheus_text::encode(&mut written, &self.inner.registry)?,
        }
        Ok(written)
    }

    fn of_elf(&self, elf: &str) -> OfElf {
        let label = [("elf", self.inner.elves.label(elf))];
        OfElf {
            queue: self.inner.counted.queue_seconds.get_or_create_owned(&label),
            run: self.inner.counted.run_seconds.get_or_create_owned(&label),
        }
    }
}

/// What is counted of an elf, or of all those without a name of their own.
#[derive(Debug, Clone)]
struct OfElf {
    queue: Histogram,
    run: Histogram,
}

/// What is counted of a mycelium, or of all those without a name of their own.
#[derive(Debug)]
struct OfMycelium {
    submitted: Counter,
    /// In the order of [`FinalStatus::ALL`](mycelium_core::status::FinalStatus::ALL).
    ended: [Counter; 6],
    attempts: Counter,
    backoffs: Counter,
    evaluations: Counter,
    sessions_opened: Counter,
    /// Those that said goodbye, and those that were lost.
    sessions_ended: [Counter; 2],
    outcomes_stale: Counter,
    defects: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_prometheus_unless_the_other_is_asked_for() {
        assert_eq!(Format::accepted(None), Format::Prometheus);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        let of_prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted(Some(of_prometheus)), Format::OpenMetrics);
    }

    #[test]
    fn reasons_are_counted_and_both_formats_end_as_they_should() {
        let metrics = Metrics::new();
        metrics.refused("BROKER_BUSY");
        metrics.refused("BROKER_BUSY");
        let prometheus = metrics.write(Format::Prometheus).unwrap();
        assert!(prometheus.contains("\nmycelium_refused_total{reason=\"BROKER_BUSY\"} 2\n"), "{prometheus}");
        assert!(!prometheus.contains("# EOF"), "{prometheus}");
        assert!(metrics.write(Format::OpenMetrics).unwrap().ends_with("# EOF\n"));
    }
}
