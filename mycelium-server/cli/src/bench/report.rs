//! What a benchmark found.

use serde::Serialize;

/// The line that `--output json` prints.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// Who was measured: `mycelium`.
    pub(crate) peer: &'static str,
    pub(crate) workload: &'static str,
    /// How many jobs.
    pub(crate) n: u64,
    /// From the first submission to the last output.
    pub(crate) seconds: f64,
    pub(crate) per_s: f64,
    /// Milliseconds of one job (latency), one hop (chain) or one round (payload); null for others.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// The longest round (payload).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_ms: Option<f64>,
    /// Whether the broker says that what it acknowledges survives its death.
    pub(crate) durable: bool,
    /// Resident bytes that a waiting job adds to the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_job: Option<f64>,
    /// How long a broker takes to be ready again after SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_seconds: Option<f64>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(super) fn new(workload: &'static str, n: u64, seconds: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "numbers of jobs are far below 2^52")]
        let per_s = n as f64 / seconds;
        Self { peer: "mycelium", workload, n, seconds, per_s, ..Self::default() }
    }

    /// Takes median and 99th percentile from times in milliseconds.
    pub(super) fn with_times(mut self, mut times_ms: Vec<f64>) -> Self {
        times_ms.sort_by(f64::total_cmp);
        let at = |per_mille: usize| {
            times_ms.get((times_ms.len() * per_mille / 1_000).min(times_ms.len() - 1)).copied()
        };
        if !times_ms.is_empty() {
            self.p50_ms = at(500);
            self.p99_ms = at(990);
        }
        self
    }

    /// Name and value of each figure, for people.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("workload", self.workload.to_owned()),
            ("jobs", self.n.to_string()),
            ("seconds", format!("{:.3}", self.seconds)),
            ("jobs/s", format!("{:.0}", self.per_s)),
        ];
        let mut optional = |name, value: Option<f64>, digits: usize| {
            if let Some(value) = value {
                rows.push((name, format!("{value:.digits$}")));
            }
        };
        optional("p50 ms", self.p50_ms, 3);
        optional("p99 ms", self.p99_ms, 3);
        optional("max ms", self.max_ms, 3);
        optional("bytes/job", self.bytes_per_job, 0);
        optional("restart s", self.restart_seconds, 2);
        rows.push(("durable", self.durable.to_string()));
        rows.extend(self.notes.iter().map(|note| ("note", note.clone())));
        rows
    }
}
