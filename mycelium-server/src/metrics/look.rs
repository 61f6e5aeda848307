//! What is read when somebody asks: what the parts of a broker show of themselves. Nothing here reads a store or waits for a
//! disk, and the owners of cores are asked one question a second at most, and not waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use mycelium_core::Core;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use super::counted::Gauges;
use crate::broker::{Handle, Limits, StoreState};
use crate::mycelia::Mycelia;
use crate::transport::Transport;

/// How often the owner of a core is asked for its elves at most.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How long its answer is waited for. What it said before stands in its place, for one that is busy.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// What there is to look at.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) mycelia: Mycelia,
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) store_size_alarm: u64,
    elves: Mutex<BTreeMap<Arc<str>, Asked>>,
}

/// What the owner of a core has said of its elves.
#[derive(Debug, Clone)]
struct Asked {
    at: Instant,
    elves: Vec<OfElf>,
}

/// The jobs and the processes of an elf, or of several under one label.
#[derive(Debug, Clone, Default)]
struct OfElf {
    label: Arc<str>,
    jobs: [u64; 3],
    sessions: u64,
    window: u64,
    held: u64,
}

impl Sources {
    pub(crate) fn new(mycelia: Mycelia, limits: Limits, transport: Transport, store_size_alarm: u64) -> Self {
        Self { mycelia, limits, transport, store_size_alarm, elves: Mutex::default() }
    }
}

impl Metrics {
    /// Notes whether the broker takes jobs.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.counted().ready.set(is_ready.into());
    }

    /// Looks at what shows itself. For one at a time: what was seen before goes first.
    pub(crate) async fn look(&self, sources: &Sources) {
        let open = sources.limits.open();
        let elves = join_all(open.iter().map(|(name, handle)| self.elves_of(sources, name, handle))).await;
        let names = open.iter().map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>();
        self.asked(sources).retain(|name, _| names.contains(name));
        self.clear();
        let counted = self.counted();
        let n_mycelia = sources.mycelia.len();
        add(&counted.mycelia, &[("state", Arc::from("open"))], open.len() as u64);
        add(&counted.mycelia, &[("state", Arc::from("closed"))], n_mycelia.saturating_sub(open.len()) as u64);
        for (name, handle) in &open {
            self.look_at(name, handle);
        }
        for of in elves.iter().flatten() {
            self.look_at_elf(of);
        }
        put(&counted.store_limit, sources.store_size_alarm);
        let usage = sources.transport.usage();
        put(&counted.connections, usage.connections.0);
        put(&counted.connections_limit, usage.connections.1);
        put(&counted.calls, usage.calls.0);
        put(&counted.calls_limit, usage.calls.1);
        let of_watches = sources.limits.watches().usage();
        for (budget, (taken, limit)) in
            [("receiving", usage.receiving), ("answers", usage.answers)].into_iter().chain(of_watches)
        {
            add(&counted.budget_bytes, &[("budget", Arc::from(budget))], taken);
            add(&counted.budget_limit, &[("budget", Arc::from(budget))], limit);
        }
    }

    /// What is not there any more is not told of.
    fn clear(&self) {
        let counted = self.counted();
        counted.jobs.clear();
        counted.elf_jobs.clear();
        for gauges in [
            &counted.mycelia,
            &counted.sessions,
            &counted.streams,
            &counted.watches,
            &counted.messages,
            &counted.elf_sessions,
            &counted.window_jobs,
            &counted.held_jobs,
            &counted.store_writable,
            &counted.store_bytes,
            &counted.blobs,
            &counted.blob_bytes,
            &counted.budget_bytes,
            &counted.budget_limit,
        ] {
            gauges.clear();
        }
    }

    fn look_at(&self, name: &str, handle: &Handle) {
        let (counted, shown, usage) = (self.counted(), handle.shown(), handle.usage());
        let mycelium = || ("mycelium", self.inner.mycelia.label(name));
        for (status, count) in shown.jobs() {
            add(&counted.jobs, &[mycelium(), ("status", Arc::from(status))], count);
        }
        add(&counted.sessions, &[mycelium()], shown.sessions());
        add(&counted.streams, &[mycelium()], usage.streams);
        add(&counted.watches, &[mycelium()], usage.watches);
        add(&counted.messages, &[mycelium()], usage.messages);
        let is_writable = handle.store_state().borrow().store == StoreState::Writable;
        add(&counted.store_writable, &[mycelium()], is_writable.into());
        let sizes = shown.sizes();
        if let Some(bytes) = sizes.store_bytes {
            add(&counted.store_bytes, &[mycelium()], bytes);
        }
        if let Some((blobs, bytes)) = sizes.blobs {
            add(&counted.blobs, &[mycelium()], blobs);
            add(&counted.blob_bytes, &[mycelium()], bytes);
        }
    }

    fn look_at_elf(&self, of: &OfElf) {
        let counted = self.counted();
        let elf = || ("elf", Arc::clone(&of.label));
        for (status, count) in ["ready", "assigned", "running"].into_iter().zip(of.jobs) {
            add(&counted.elf_jobs, &[elf(), ("status", Arc::from(status))], count);
        }
        add(&counted.elf_sessions, &[elf()], of.sessions);
        add(&counted.window_jobs, &[elf()], of.window);
        add(&counted.held_jobs, &[elf()], of.held);
    }

    /// The elves of a mycelium, as its owner has said last: now, if it was not asked just before.
    async fn elves_of(&self, sources: &Sources, name: &Arc<str>, handle: &Handle) -> Vec<OfElf> {
        let before = self.asked(sources).get(name).cloned();
        if let Some(before) = &before
            && before.at.elapsed() < ASKED_EVERY
        {
            return before.elves.clone();
        }
        let metrics = self.clone();
        let question = handle.query(move |core, _| metrics.elves_in(core));
        let answered = tokio::time::timeout(ANSWERED_WITHIN, question).await;
        let elves = match answered {
            Ok(Ok(elves)) => elves,
            // It is busy, or has no store to begin from.
            Ok(Err(_)) | Err(_) => before.map(|before| before.elves).unwrap_or_default(),
        };
        let asked = Asked { at: Instant::now(), elves: elves.clone() };
        self.asked(sources).insert(Arc::clone(name), asked);
        elves
    }

    fn asked<'a>(&self, sources: &'a Sources) -> MutexGuard<'a, BTreeMap<Arc<str>, Asked>> {
        sources.elves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elves_in(&self, core: &Core) -> Vec<OfElf> {
        let mut elves = BTreeMap::<Arc<str>, OfElf>::new();
        for elf in core.elves() {
            let label = self.inner.elves.label(elf.name);
            let of = elves.entry(Arc::clone(&label)).or_insert_with(|| OfElf { label, ..OfElf::default() });
            for (sum, count) in of.jobs.iter_mut().zip([elf.ready, elf.assigned, elf.running]) {
                *sum += count;
            }
            of.sessions += elf.connected;
            of.window += elf.window;
            of.held += elf.held;
        }
        elves.into_values().collect()
    }
}

/// Adds to what was cleared before: several mycelia, or elves, may share a label.
fn add<const N: usize>(gauges: &Gauges<N>, labels: &[(&'static str, Arc<str>); N], value: u64) {
    gauges.get_or_create(labels).inc_by(as_gauge(value));
}

fn put(gauge: &Gauge, value: u64) {
    gauge.set(as_gauge(value));
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
