//! What goes wrong on demand, and what the server tells of itself.

use std::collections::VecDeque;
use std::time::Duration;

/// One thing that goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 in the form of the server: its queue is full.
    Unavailable,
    /// 503 of a proxy, as plain text.
    ProxyUnavailable,
    /// A page of a proxy with status 200.
    Html,
    /// 409 with number 1200, as if another had the key.
    Conflict,
    /// The connection ends before the request is looked at.
    DropBefore,
    /// The connection ends when the request has been carried out.
    DropAfter,
    /// A refusal with this number, in the form of the server.
    Refuse(u32),
}

/// How often, from 0 to 1, a request for data meets each fault.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Of [`Fault::Unavailable`].
    pub unavailable: f64,
    /// Of [`Fault::ProxyUnavailable`].
    pub proxy_unavailable: f64,
    /// Of [`Fault::Conflict`], for statements that write.
    pub conflict: f64,
    /// Of [`Fault::DropBefore`].
    pub drop_before: f64,
    /// Of [`Fault::DropAfter`].
    pub drop_after: f64,
}

/// What `/_admin/license` tells.
#[derive(Clone, Debug)]
pub struct License {
    /// `good`, `limit-reached`, `read-only` or `shutdown`.
    pub status: String,
    /// Data stored, in bytes.
    pub bytes_used: u64,
    /// Data that may be stored, in bytes.
    pub bytes_limit: u64,
}

impl Default for License {
    fn default() -> Self {
        Self { status: "good".to_owned(), bytes_used: 366_555, bytes_limit: 107_374_182_400 }
    }
}

/// What goes wrong, and what the server tells of itself. Changes count from the next request on.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Faults of the next requests for data, one each, before any by chance.
    pub next: VecDeque<Fault>,
    /// Faults by chance, of requests for data.
    pub rates: Rates,
    /// Time added to every request.
    pub latency: Duration,
    /// Time between the run of a statement and its commit, in which it holds the keys that it wrote.
    pub slow_commit: Duration,
    /// Every write is refused with number 1004, and the server is not available.
    pub read_only: bool,
    /// Connections end without an answer.
    pub down: bool,
    /// Every answer is a page of a proxy.
    pub html: bool,
    /// The server is starting: every answer is 503 with number 38, or 503 where somebody asks whether it is available.
    pub starting: bool,
    /// Whether somebody must log in. Without it there is nowhere to log in, and everybody is [`crate::ROOT`].
    pub authentication: bool,
    /// What statements tell of intermediate commits, of which there never are any.
    pub intermediate_commits: i64,
    /// None: a server without that endpoint.
    pub license: Option<License>,
    /// What `/_api/version` tells; from 4 on the server is one of that version in what it takes as well.
    pub version: String,
    /// What `/_admin/server/role` tells.
    pub role: String,
    /// None: databases do not tell how they are sharded, as on a single server.
    pub sharding: Option<String>,
    /// The header `Server`, which can be left out.
    pub server_header: Option<String>,
    /// How long a new token is valid, in whole seconds.
    pub token_life: Duration,
    /// How far the server's clock is ahead, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Plans lack their nodes.
    pub plan_without_nodes: bool,
    /// `/_api/version` does not tell the version to those who are not administrators.
    pub hardened: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            next: VecDeque::new(),
            rates: Rates::default(),
            latency: Duration::ZERO,
            slow_commit: Duration::ZERO,
            read_only: false,
            down: false,
            html: false,
            starting: false,
            authentication: true,
            intermediate_commits: 0,
            license: Some(License::default()),
            version: "3.12.5".to_owned(),
            role: "SINGLE".to_owned(),
            sharding: None,
            server_header: Some("ArangoDB".to_owned()),
            token_life: Duration::from_secs(3_600),
            clock_ahead_ms: 0,
            plan_without_nodes: false,
            hardened: false,
        }
    }
}

impl Faults {
    /// The first part of the version.
    pub(crate) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
    }

    /// The fault of a request for data. `writes` is only asked where it matters; `chance` gives numbers from 0 to 1.
    pub(crate) fn draw(
        &mut self,
        writes: impl FnOnce() -> bool,
        mut chance: impl FnMut() -> f64,
    ) -> Option<Fault> {
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        let rates = &self.rates;
        let faults = [
            (rates.unavailable, Fault::Unavailable),
            (rates.proxy_unavailable, Fault::ProxyUnavailable),
            (if rates.conflict > 0.0 && writes() { rates.conflict } else { 0.0 }, Fault::Conflict),
            (rates.drop_before, Fault::DropBefore),
            (rates.drop_after, Fault::DropAfter),
        ];
        faults.into_iter().find(|(rate, _)| *rate > 0.0 && chance() < *rate).map(|(_, fault)| fault)
    }
}
