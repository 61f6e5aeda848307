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
    /// 409 with number 1200, as if another had the key; nothing to what only reads.
    Conflict,
    /// The connection ends before the request is looked at.
    DropBefore,
    /// The connection ends when the request has been carried out.
    DropAfter,
    /// A refusal with this number, in the form of the server.
    Refuse(u32),
    /// The same refusal of a request that was carried out all the same, as by a cluster that lost sight of it.
    RefuseAfter(u32),
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
    /// Of [`Fault::Refuse`] with 1429: too few replicas take part.
    pub write_concern: f64,
    /// Of [`Fault::RefuseAfter`] with 1457: a cluster gave up waiting.
    pub cluster_timeout: f64,
}

impl Rates {
    /// Each fault of a single server that often.
    #[must_use]
    pub fn each(rate: f64) -> Self {
        Self {
            unavailable: rate,
            proxy_unavailable: rate,
            conflict: rate,
            drop_before: rate,
            drop_after: rate,
            ..Self::default()
        }
    }
}

/// Documents that the server refuses for good, as it does those that break its rules: their statement fails as a whole,
/// of a batch of documents only they do.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The collection that they are written to.
    pub collection: String,
    /// What is wrong with them.
    pub what: Refused,
    /// The number that they are refused with, as 1216 (too large) or 1620 (against a schema).
    pub number: u32,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// An attribute of the top level, as `_key`, has this value.
    Value(String, serde_json::Value),
    /// It is longer than this as JSON, in bytes, with what the server adds.
    Longer(usize),
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
    /// Documents that are refused for good.
    pub refused: Vec<Refusal>,
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
    /// None: a server without that endpoint. Before 3.12.5 the Community Edition tells nothing of its licence there.
    pub license: Option<License>,
    /// What `/_api/version` tells; from 4 on the server is one of that version in what it takes as well.
    pub version: String,
    /// What `/_admin/server/role` tells.
    pub role: String,
    /// How all databases are sharded, whatever they were made with. None: as they were made on a coordinator, and on a
    /// single server they do not tell.
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
            refused: Vec::new(),
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
    /// A coordinator of a cluster; a database that is sharded `single` lies on one server, one that is `flexible` on many.
    #[must_use]
    pub fn cluster(sharding: &str) -> Self {
        Self { role: "COORDINATOR".to_owned(), sharding: Some(sharding.to_owned()), ..Self::default() }
    }

    /// A server of that version.
    #[must_use]
    pub fn of_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// The first part of the version.
    pub(crate) fn major(&self) -> u32 {
        self.version_parts()[0]
    }

    /// The server is of that version or of one after it.
    pub(crate) fn is_since(&self, version: [u32; 3]) -> bool {
        self.version_parts() >= version
    }

    fn version_parts(&self) -> [u32; 3] {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or_default());
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    /// How a database is sharded that was made with these words; none on a single server.
    pub(crate) fn sharding_of(&self, made: &str) -> Option<String> {
        let own = || (self.role == "COORDINATOR").then(|| made.to_owned());
        self.sharding.clone().or_else(own)
    }

    /// The fault of a request for data. `chance` gives numbers from 0 to 1.
    pub(crate) fn draw(&mut self, mut chance: impl FnMut() -> f64) -> Option<Fault> {
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        let rates = &self.rates;
        let faults = [
            (rates.unavailable, Fault::Unavailable),
            (rates.proxy_unavailable, Fault::ProxyUnavailable),
            (rates.conflict, Fault::Conflict),
            (rates.drop_before, Fault::DropBefore),
            (rates.drop_after, Fault::DropAfter),
            (rates.write_concern, Fault::Refuse(1429)),
            (rates.cluster_timeout, Fault::RefuseAfter(1457)),
        ];
        faults.into_iter().find(|(rate, _)| *rate > 0.0 && chance() < *rate).map(|(_, fault)| fault)
    }
}
