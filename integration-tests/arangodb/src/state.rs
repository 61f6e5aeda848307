//! All that the server holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::counters::Counters;
use crate::error::{Failure, Outcome};
use crate::faults::Faults;
use crate::http::auth::User;
use crate::store::{Change, Collections, Database};
use crate::value::Value;

/// Name of the database that is always there.
pub(crate) const SYSTEM: &str = "_system";

/// How long a transaction may stand idle.
const TRANSACTION_IDLE_MAX: Duration = Duration::from_secs(60);

/// A result of which the rest is still to be fetched.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) database: Arc<str>,
    pub(crate) rows: Vec<Value>,
    /// How many rows were given, and how many with the batch before.
    pub(crate) given: usize,
    pub(crate) given_before: usize,
    pub(crate) batch: u64,
    pub(crate) batch_size: usize,
    pub(crate) count: bool,
    pub(crate) extra: Value,
    pub(crate) retry: bool,
    pub(crate) ttl: Duration,
    pub(crate) expires: Instant,
}

/// Collections that a statement or transaction has for writing, shared with others or alone.
#[derive(Debug)]
pub(crate) enum Guard {
    Shared { _held: OwnedRwLockReadGuard<()> },
    Exclusive { _held: OwnedRwLockWriteGuard<()> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionState {
    Running,
    Committed,
    Aborted,
}

impl TransactionState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        }
    }
}

/// A stream transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) database: Arc<str>,
    pub(crate) state: TransactionState,
    /// What it sees: the snapshot, with its own writes.
    pub(crate) collections: Collections,
    /// The last commit of the snapshot.
    pub(crate) seen: u64,
    pub(crate) read: BTreeSet<Arc<str>>,
    pub(crate) write: BTreeSet<Arc<str>>,
    pub(crate) implicit: bool,
    pub(crate) redo: Vec<Change>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) used: Instant,
}

impl Transaction {
    pub(crate) fn is_stale(&self) -> bool {
        self.state == TransactionState::Running && self.used.elapsed() > TRANSACTION_IDLE_MAX
    }
}

/// Data and sessions.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) databases: BTreeMap<Arc<str>, Database>,
    pub(crate) users: BTreeMap<String, User>,
    /// What tokens are signed with.
    pub(crate) secret: u64,
    pub(crate) cursors: HashMap<u64, Cursor>,
    pub(crate) transactions: BTreeMap<u64, Transaction>,
    last_id: u64,
}

impl Server {
    pub(crate) fn new(users: BTreeMap<String, User>) -> Self {
        let system = Database::new(1);
        let databases = BTreeMap::from([(Arc::from(SYSTEM), system)]);
        Self {
            databases,
            users,
            secret: 1,
            cursors: HashMap::new(),
            transactions: BTreeMap::new(),
            last_id: 100,
        }
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn database(&self, name: &str) -> Outcome<&Database> {
        self.databases.get(name).ok_or_else(|| no_database(name))
    }

    pub(crate) fn database_mut(&mut self, name: &str) -> Outcome<&mut Database> {
        self.databases.get_mut(name).ok_or_else(|| no_database(name))
    }

    /// Ends a transaction without its writes.
    pub(crate) fn abort(&mut self, id: u64) {
        if let Some(transaction) = self.transactions.get_mut(&id) {
            transaction.state = TransactionState::Aborted;
            transaction.guards.clear();
            transaction.redo.clear();
            transaction.collections.clear();
            let database = transaction.database.clone();
            self.unlock(&database, id);
        }
    }

    /// Gives back the keys that a transaction held.
    pub(crate) fn unlock(&mut self, database: &str, id: u64) {
        if let Some(database) = self.databases.get_mut(database) {
            database.locks.retain(|_, holder| *holder != id);
        }
    }
}

fn no_database(name: &str) -> Failure {
    Failure::new(1228, format!("database not found: {name}"))
}

type CollectionLocks = HashMap<(Arc<str>, Arc<str>), Arc<RwLock<()>>>;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: Mutex<Server>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) counters: Mutex<Counters>,
    /// What was asked for and is not known.
    pub(crate) unknown: Mutex<Vec<String>>,
    /// Locks of collections: database and name.
    collections: Mutex<CollectionLocks>,
    chance: Mutex<u64>,
}

/// What a panicking test leaves behind is still what it was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(users: BTreeMap<String, User>, faults: Faults, seed: u64) -> Self {
        Self {
            server: Mutex::new(Server::new(users)),
            faults: Mutex::new(faults),
            counters: Mutex::default(),
            unknown: Mutex::default(),
            collections: Mutex::default(),
            chance: Mutex::new(seed | 1),
        }
    }

    /// A number from 0 to 1 (xorshift).
    pub(crate) fn chance(&self) -> f64 {
        let mut state = lock(&self.chance);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn lock_of(&self, database: &Arc<str>, collection: &Arc<str>) -> Arc<RwLock<()>> {
        lock(&self.collections).entry((database.clone(), collection.clone())).or_default().clone()
    }

    /// Waits for the right to write to collections, always in the order of their names.
    pub(crate) async fn guards(
        &self,
        database: &Arc<str>,
        write: &BTreeSet<Arc<str>>,
        exclusive: &BTreeSet<Arc<str>>,
        longest: Duration,
    ) -> Outcome<Vec<Guard>> {
        let wait = async {
            let mut guards = Vec::new();
            for collection in write.union(exclusive) {
                let lock = self.lock_of(database, collection);
                guards.push(if exclusive.contains(collection) {
                    Guard::Exclusive { _held: lock.write_owned().await }
                } else {
                    Guard::Shared { _held: lock.read_owned().await }
                });
            }
            guards
        };
        tokio::time::timeout(longest, wait)
            .await
            .map_err(|_| Failure::new(18, "timeout waiting to lock a collection"))
    }
}
