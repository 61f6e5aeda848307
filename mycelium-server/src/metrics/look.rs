//! What is read when somebody asks: what the parts of a broker show of themselves. Nothing here reads a store or waits for a
//! disk, and the owners of cores are asked one question a second at most, and not waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use mycelium_core::Core;
use prometheus_client::metrics::gauge::Gauge;

use super::counted::Gauges;
use super::{Metrics, Sizes};
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
    seen: Mutex<BTreeMap<Arc<str>, Seen>>,
}

/// What was seen last of a mycelium. It stays while it is closed, for nothing changes meanwhile: jobs that wait in it for an
/// elf that is not there are still waiting.
#[derive(Debug, Clone)]
struct Seen {
    jobs: [(&'static str, u64); 5],
    sizes: Sizes,
    /// What the owner of the core has said of its elves, and when.
    elves: Vec<OfElf>,
    asked_at: Instant,
}

/// The jobs and the processes of an elf, or of several under one label.
#[derive(Debug, Clone, Default)]
struct OfElf {
    label: Arc<str>,
    jobs: [u64; 4],
    sessions: u64,
    window: u64,
    held: u64,
}

impl Sources {
    pub(crate) fn new(mycelia: Mycelia, limits: Limits, transport: Transport, store_size_alarm: u64) -> Self {
        Self { mycelia, limits, transport, store_size_alarm, seen: Mutex::default() }
    }
}

impl Metrics {
    /// Notes whether the broker takes jobs.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.counted().ready.set(is_ready.into());
    }

    /// Looks at what shows itself. For one at a time: what was seen before goes first.
    pub(crate) async fn look(&self, sources: &Sources) {
        let open: BTreeMap<_, _> = sources.limits.open().into_iter().collect();
        join_all(open.iter().map(|(name, handle)| self.see(sources, name, handle))).await;
        let there = sources.mycelia.list(None, usize::MAX, |_| true);
        let there: BTreeSet<Arc<str>> = there.into_iter().map(|listed| listed.name).collect();
        self.clear();
        let counted = self.counted();
        add(&counted.mycelia, &[("state", Arc::from("open"))], open.len() as u64);
        add(
            &counted.mycelia,
            &[("state", Arc::from("closed"))],
            there.len().saturating_sub(open.len()) as u64,
        );
        for (name, handle) in &open {
            self.look_at(name, handle);
        }
        let mut seen = lock(sources);
        seen.retain(|name, _| there.contains(name) || open.contains_key(name));
        for (name, seen) in &*seen {
            self.look_at_seen(name, seen, open.contains_key(name));
        }
        self.inner.elves.release(&seen.values().flat_map(|seen| &seen.elves).map(|of| &*of.label).collect());
        drop(seen);
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
        add(&counted.sessions, &[mycelium()], shown.sessions());
        add(&counted.streams, &[mycelium()], usage.streams);
        add(&counted.watches, &[mycelium()], usage.watches);
        add(&counted.messages, &[mycelium()], usage.messages);
        let is_writable = handle.store_state().borrow().store == StoreState::Writable;
        add(&counted.store_writable, &[mycelium()], is_writable.into());
    }

    fn look_at_seen(&self, name: &str, seen: &Seen, is_open: bool) {
        let (counted, sizes) = (self.counted(), seen.sizes);
        let mycelium = || ("mycelium", self.inner.mycelia.label(name));
        for (status, count) in seen.jobs {
            add(&counted.jobs, &[mycelium(), ("status", Arc::from(status))], count);
        }
        for of in &seen.elves {
            self.look_at_elf(of, is_open);
        }
        if let Some(bytes) = sizes.store_bytes {
            add(&counted.store_bytes, &[mycelium()], bytes);
        }
        if let Some((blobs, bytes)) = sizes.blobs {
            add(&counted.blobs, &[mycelium()], blobs);
            add(&counted.blob_bytes, &[mycelium()], bytes);
        }
    }

    fn look_at_elf(&self, of: &OfElf, is_open: bool) {
        let counted = self.counted();
        let elf = || ("elf", Arc::clone(&of.label));
        for (status, count) in ["ready", "delayed", "assigned", "running"].into_iter().zip(of.jobs) {
            add(&counted.elf_jobs, &[elf(), ("status", Arc::from(status))], count);
        }
        // Whoever is connected keeps a mycelium open.
        let connected = |count| if is_open { count } else { 0 };
        add(&counted.elf_sessions, &[elf()], connected(of.sessions));
        add(&counted.window_jobs, &[elf()], connected(of.window));
        add(&counted.held_jobs, &[elf()], connected(of.held));
    }

    /// Sees how an open mycelium is now. Its owner is asked for its elves unless it was asked just before.
    async fn see(&self, sources: &Sources, name: &Arc<str>, handle: &Handle) {
        let before = lock(sources).get(name).map(|seen| (seen.asked_at, seen.elves.clone()));
        let (asked_at, elves) = match before {
            Some((asked_at, elves)) if asked_at.elapsed() < ASKED_EVERY => (asked_at, elves),
            before => {
                let metrics = self.clone();
                let question = handle.query(move |core, _| metrics.elves_in(core));
                let elves = match tokio::time::timeout(ANSWERED_WITHIN, question).await {
                    Ok(Ok(elves)) => elves,
                    // It is busy, or has no store to begin from.
                    Ok(Err(_)) | Err(_) => before.map(|(_, elves)| elves).unwrap_or_default(),
                };
                (Instant::now(), elves)
            }
        };
        let (jobs, sizes) = (handle.shown().jobs(), handle.shown().sizes());
        lock(sources).insert(Arc::clone(name), Seen { jobs, sizes, elves, asked_at });
    }

    fn elves_in(&self, core: &Core) -> Vec<OfElf> {
        let mut elves = BTreeMap::<Arc<str>, OfElf>::new();
        for elf in core.elves() {
            // Jobs can be for an elf that never was.
            let label = match elf.connected {
                0 => self.inner.elves.claim(elf.name),
                _ => self.inner.elves.label(elf.name),
            };
            let of = elves.entry(Arc::clone(&label)).or_insert_with(|| OfElf { label, ..OfElf::default() });
            for (sum, count) in
                of.jobs.iter_mut().zip([elf.ready - elf.delayed, elf.delayed, elf.assigned, elf.running])
            {
                *sum += count;
            }
            of.sessions += elf.connected;
            of.window += elf.window;
            of.held += elf.held;
        }
        elves.into_values().collect()
    }
}

fn lock(sources: &Sources) -> MutexGuard<'_, BTreeMap<Arc<str>, Seen>> {
    sources.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
