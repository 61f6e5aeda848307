//! Databases in memory: documents, indexes, graphs, and the rules for those who write at the same time.

mod collection;
mod document;
mod index;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) use self::collection::{Collection, Kind};
pub(crate) use self::document::{check_key, split_id};
pub(crate) use self::index::{Index, IndexKind, Path};
pub(crate) use self::session::{Change, Session, Written, apply, not_found};
use crate::value::Value;

pub(crate) type Collections = BTreeMap<Arc<str>, Arc<Collection>>;

/// Keys that transactions hold until they end: collection and key, and the number of the transaction.
pub(crate) type Locks = HashMap<(Arc<str>, Arc<str>), u64>;

#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) id: u64,
    pub(crate) collections: Collections,
    pub(crate) graphs: BTreeMap<Arc<str>, Graph>,
    /// Options that it was made with, which a cluster tells.
    pub(crate) replication_factor: i64,
    pub(crate) write_concern: i64,
    pub(crate) sharding: Arc<str>,
    /// Number of the last commit.
    pub(crate) commits: u64,
    pub(crate) locks: Locks,
}

impl Database {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            collections: Collections::new(),
            graphs: BTreeMap::new(),
            replication_factor: 1,
            write_concern: 1,
            sharding: Arc::from(""),
            commits: 0,
            locks: Locks::new(),
        }
    }
}

/// A named graph.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) definitions: Vec<EdgeDefinition>,
    pub(crate) orphans: Vec<Arc<str>>,
    pub(crate) revision: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EdgeDefinition {
    pub(crate) collection: Arc<str>,
    pub(crate) from: Vec<Arc<str>>,
    pub(crate) to: Vec<Arc<str>>,
}

impl Graph {
    /// Every collection of the graph, some perhaps twice.
    pub(crate) fn collections(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        let edges = self.definitions.iter().flat_map(|definition| {
            definition.from.iter().chain(&definition.to).chain([&definition.collection])
        });
        edges.chain(&self.orphans).cloned()
    }
}
