//! All metrics of a broker. Their names, units and labels stay as they are: dashboards and alerts name them.

use std::sync::Arc;

use mycelium_core::status::FinalStatus;
use mycelium_proto::limits::PROTOCOL_VERSION;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Metrics, OfMycelium};

/// Names and values of labels.
pub(super) type Labels<const N: usize> = [(&'static str, Arc<str>); N];
pub(super) type Counters<const N: usize> = Family<Labels<N>, Counter>;
pub(super) type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The bounds of buckets for how long jobs take, in seconds.
const JOB_SECONDS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0];
/// The same for commits.
const COMMIT_SECONDS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// The bounds of buckets for how many jobs a commit changes.
const COMMIT_JOBS: [f64; 8] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

/// What the store can lack.
const STORE_ERRORS: [&str; 4] = ["unavailable", "full", "read_only", "refused"];

/// All metrics: those that are counted as things happen, and those that are read when somebody asks.
#[derive(Debug)]
pub(super) struct Counted {
    submitted: Counters<1>,
    ended: Counters<2>,
    attempts: Counters<1>,
    backoffs: Counters<1>,
    evaluations: Counters<1>,
    sessions_opened: Counters<1>,
    sessions_ended: Counters<2>,
    outcomes_stale: Counters<1>,
    defects: Counters<1>,
    pub(super) store_errors: Counters<2>,
    pub(super) refused: Counters<1>,
    pub(super) queue_seconds: Histograms<1>,
    pub(super) run_seconds: Histograms<1>,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_jobs: Histogram,

    pub(super) ready: Gauge,
    pub(super) mycelia: Gauges<1>,
    pub(super) jobs: Gauges<2>,
    pub(super) sessions: Gauges<1>,
    pub(super) streams: Gauges<1>,
    pub(super) watches: Gauges<1>,
    pub(super) messages: Gauges<1>,
    pub(super) elf_jobs: Gauges<2>,
    pub(super) elf_sessions: Gauges<1>,
    pub(super) window_jobs: Gauges<1>,
    pub(super) held_jobs: Gauges<1>,
    pub(super) store_writable: Gauges<1>,
    pub(super) store_bytes: Gauges<1>,
    pub(super) store_limit: Gauge,
    pub(super) blobs: Gauges<1>,
    pub(super) blob_bytes: Gauges<1>,
    pub(super) budget_bytes: Gauges<1>,
    pub(super) budget_limit: Gauges<1>,
    pub(super) connections: Gauge,
    pub(super) connections_limit: Gauge,
    pub(super) calls: Gauge,
    pub(super) calls_limit: Gauge,
}

impl Counted {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let build =
            [("version", env!("CARGO_PKG_VERSION").to_owned()), ("protocol", PROTOCOL_VERSION.to_string())];
        registry.register(
            "build",
            "The version of the broker, and the newest protocol it speaks",
            Info::new(build),
        );
        let mut to = To(registry);
        Self {
            submitted: to.counters("jobs_submitted", "Jobs that were submitted, and stored"),
            ended: to.counters("jobs_ended", "Jobs that have ended, by how"),
            attempts: to.counters("attempts", "Attempts that were given to a process"),
            backoffs: to.counters(
                "backoffs",
                "Attempts that have failed and whose jobs are tried again after a pause",
            ),
            evaluations: to
                .counters("evaluations", "Conditions and lists that were given out to be computed"),
            sessions_opened: to.counters("sessions_opened", "Sessions of processes that were opened"),
            sessions_ended: to.counters("sessions_ended", "Sessions that are over, by how"),
            outcomes_stale: to
                .counters("outcomes_stale", "Outcomes of attempts that were not under way any more"),
            defects: to.counters(
                "defects",
                "How often the scheduler contradicted itself and began again from the store",
            ),
            store_errors: to.counters("store_errors", "Commits that have failed, by what the store lacked"),
            refused: to.counters("refused", "Calls that were refused, by the reason of the contract"),
            queue_seconds: to.histograms(
                "job_queue",
                "How long jobs waited for a process, from when they were READY and might begin",
            ),
            run_seconds: to.histograms("job_run", "How long attempts ran that returned or failed"),
            commit_seconds: to.histogram(
                "commit",
                "How long commits took",
                Some(Unit::Seconds),
                &COMMIT_SECONDS,
            ),
            commit_jobs: to.histogram(
                "commit_jobs",
                "How many jobs a commit has changed",
                None,
                &COMMIT_JOBS,
            ),

            ready: to.gauge("ready", "1 if the broker takes jobs, as /readyz says it"),
            mycelia: to.gauges("mycelia", "Mycelia, by whether they are open"),
            jobs: to.gauges("jobs", "Unfinished jobs, by where they stand"),
            sessions: to.gauges("sessions", "Sessions of processes, connected or not"),
            streams: to.gauges("streams", "Streams of processes that are connected"),
            watches: to.gauges("watches", "Watches of jobs"),
            messages: to.gauges("scheduler_messages", "Requests and reports that wait for the scheduler"),
            elf_jobs: to
                .gauges("elf_jobs", "Jobs of an elf that wait for a process or are in the hands of one"),
            elf_sessions: to.gauges("elf_sessions", "Processes that are connected and serve an elf"),
            window_jobs: to.gauges("elf_window_jobs", "How many jobs of an elf connected processes may hold"),
            held_jobs: to.gauges("elf_held_jobs", "How many of those places are taken"),
            store_writable: to.gauges("store_writable", "1 if the store takes changes"),
            store_bytes: to.sizes("store", "What the store takes on disk, with its large values"),
            store_limit: to.size(
                "store_alarm",
                "How large a store may become before the log warns of it; 0: it never does",
            ),
            blobs: to.gauges("blobs", "Large values"),
            blob_bytes: to.sizes("blob", "What large values have together"),
            budget_bytes: to.sizes("budget", "What is taken of the memory that kinds of messages share"),
            budget_limit: to.sizes("budget_limit", "How much memory kinds of messages may take"),
            connections: to.gauge("connections", "Connections to the broker's port"),
            connections_limit: to.gauge("connections_limit", "How many connections there may be"),
            calls: to.gauge("calls", "Calls under way, with streams and watches"),
            calls_limit: to.gauge("calls_limit", "How many calls may be under way"),
        }
    }
}

/// Where metrics are registered.
struct To<'a>(&'a mut Registry);

impl To<'_> {
    fn counters<const N: usize>(&mut self, name: &str, help: &str) -> Counters<N> {
        let counters = Counters::default();
        self.0.register(name, help, counters.clone());
        counters
    }

    fn gauges<const N: usize>(&mut self, name: &str, help: &str) -> Gauges<N> {
        let gauges = Gauges::default();
        self.0.register(name, help, gauges.clone());
        gauges
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.0.register(name, help, gauge.clone());
        gauge
    }

    fn sizes(&mut self, name: &str, help: &str) -> Gauges<1> {
        let sizes = Gauges::default();
        self.0.register_with_unit(name, help, Unit::Bytes, sizes.clone());
        sizes
    }

    fn size(&mut self, name: &str, help: &str) -> Gauge {
        let size = Gauge::default();
        self.0.register_with_unit(name, help, Unit::Bytes, size.clone());
        size
    }

    fn histograms(&mut self, name: &str, help: &str) -> Histograms<1> {
        let histograms = Histograms::new_with_constructor(|| Histogram::new(JOB_SECONDS));
        self.0.register_with_unit(name, help, Unit::Seconds, histograms.clone());
        histograms
    }

    fn histogram(&mut self, name: &str, help: &str, unit: Option<Unit>, bounds: &[f64]) -> Histogram {
        let histogram = Histogram::new(bounds.iter().copied());
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, histogram.clone()),
            None => self.0.register(name, help, histogram.clone()),
        }
        histogram
    }
}

impl Metrics {
    pub(super) fn counted(&self) -> &Counted {
        &self.inner.counted
    }

    pub(super) fn of_mycelium(&self, name: &str) -> OfMycelium {
        let counted = self.counted();
        let mycelium = ("mycelium", self.inner.mycelia.label(name));
        let of = |counters: &Counters<1>| counters.get_or_create_owned(std::array::from_ref(&mycelium));
        let ended = |status: FinalStatus| {
            let labels = [mycelium.clone(), ("status", Arc::from(status_name(status)))];
            counted.ended.get_or_create_owned(&labels)
        };
        let sessions_ended =
            |how| counted.sessions_ended.get_or_create_owned(&[("how", Arc::from(how)), mycelium.clone()]);
        for kind in STORE_ERRORS {
            // Where nothing stands, a first one is no increase.
            let labels = [("kind", Arc::from(kind)), mycelium.clone()];
            drop(counted.store_errors.get_or_create(&labels));
        }
        OfMycelium {
            submitted: of(&counted.submitted),
            ended: FinalStatus::ALL.map(ended),
            attempts: of(&counted.attempts),
            backoffs: of(&counted.backoffs),
            evaluations: of(&counted.evaluations),
            sessions_opened: of(&counted.sessions_opened),
            sessions_ended: ["goodbye", "lost"].map(sessions_ended),
            outcomes_stale: of(&counted.outcomes_stale),
            defects: of(&counted.defects),
        }
    }
}

fn status_name(status: FinalStatus) -> &'static str {
    match status {
        FinalStatus::Done => "done",
        FinalStatus::Failed => "failed",
        FinalStatus::UpstreamFailed => "upstream_failed",
        FinalStatus::Cancelled => "cancelled",
        FinalStatus::Expired => "expired",
        FinalStatus::Skipped => "skipped",
    }
}
