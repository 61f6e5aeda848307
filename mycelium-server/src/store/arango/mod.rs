//! The store in ArangoDB: one database for a mycelium, in which people can look at its graph and ask about it.
//!
//! A commit is one statement, whose first part takes the fence: the number of the newest commit, under the epoch of the
//! broker that owns the mycelium. Whoever has been deposed, or repeats what was written already, takes it in vain and
//! writes nothing.

pub(crate) mod address;
mod check;
pub(crate) mod client;
mod commit;
mod databases;
mod documents;
mod erase;
mod lease;
mod lists;
mod load;
mod log;
mod reads;
mod recent;
mod schema;
mod statements;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mycelium_core::ids::Commit;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

pub use address::{Address, BadAddress, BadEnvironment, database_of, mycelium_of};
pub use check::{Extent, Finding, FindingKind, Lease, Report, Usage, check};
pub(crate) use databases::Databases;
pub use schema::init;

use self::client::{Call, Database, Kind, Server};
use self::documents::records;
use self::lease::Lease as OwnLease;
use self::recent::Recent;
use self::statements::COMMIT;
use self::sweep::Leftovers;
use super::{Batch, Error};
use crate::report;

/// How long one call of the log may try: whoever waits for it is told that the store is away, and it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a commit whose outcome is unknown is repeated before that is found out by starting again.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// The pause before such a commit is repeated.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// How a mycelium in ArangoDB is opened.
#[derive(Debug, Clone)]
pub struct ArangoOptions {
    /// Where values are kept that are too large to travel inline.
    pub blobs: PathBuf,
    /// How long the mycelium stays that of a broker that does not renew its lease. Default: 15 s.
    pub lease: Duration,
}

/// A mycelium in a database of ArangoDB.
#[derive(Debug)]
pub struct ArangoStore {
    database: Database,
    /// The same, for calls that are not to be tried for long.
    log: Database,
    lease: OwnLease,
    /// The number of the newest commit.
    newest: AtomicU64,
    recent: Recent,
    /// Whether the lease could not be taken when it was loaded last, since the server takes no changes.
    only_reads: AtomicBool,
    leftovers: Arc<Leftovers>,
    /// Held by who writes: a commit, or the removal of what commits have left.
    writing: Arc<Mutex<()>>,
    options: ArangoOptions,
}

impl ArangoStore {
    /// Opens a mycelium that is there, and takes its lease: this process is its broker from then on.
    ///
    /// # Errors
    /// [`Error::InUse`] if another broker holds the lease and renews it; [`Error::Unavailable`].
    pub(crate) async fn open(server: &Server, database: &str, options: ArangoOptions) -> Result<Self, Error> {
        let store = Self::new(server, database, options);
        store.own().await?;
        Ok(store)
    }

    /// Opens the mycelium of that name at a server, of which nobody else need know, and takes its lease: this process is
    /// its broker from then on.
    ///
    /// # Errors
    /// [`Error::InUse`] if another broker holds the lease and renews it; [`Error::Unavailable`]; [`Error::Refused`] if it is
    /// no name of a mycelium.
    pub async fn open_at(address: &Address, mycelium: &str, options: ArangoOptions) -> Result<Self, Error> {
        Self::open(&Server::new(address)?, &named(mycelium)?, options).await
    }

    fn new(server: &Server, database: &str, options: ArangoOptions) -> Self {
        let database = server.database(database);
        let log = database.with_patience(PATIENCE);
        Self {
            lease: OwnLease::new(log.clone(), options.lease),
            database,
            log,
            newest: AtomicU64::new(0),
            recent: Recent::default(),
            only_reads: AtomicBool::new(false),
            leftovers: Arc::default(),
            writing: Arc::default(),
            options,
        }
    }

    /// Takes the lease, and takes note of the newest commit.
    async fn own(&self) -> Result<(), Error> {
        self.lease.acquire().await?;
        let newest = self.lease.newest_commit().await?;
        self.newest.store(newest.0, Ordering::Release);
        self.recent.clear();
        self.only_reads.store(false, Ordering::Release);
        Ok(())
    }

    /// Stores a batch that was put into text.
    async fn store(&self, batch: &Batch, epoch: u64, variables: &RawValue) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        if self.leftovers.are_in_the_way_of(batch) {
            self.leftovers.sweep(&self.log, epoch).await?;
        }
        self.lease.check()?;
        let commit = batch.counters.commit;
        let newest = self.newest.load(Ordering::Acquire);
        if newest.checked_add(1) != Some(commit.0) {
            return Err(Error::OutOfOrder { last: Commit(newest), given: commit });
        }
        // Of what is removed nobody knows any more that it was there.
        let mut may_be_stored = erase::erase(&self.log, epoch, batch).await?;
        let until = Instant::now() + COMMIT_PATIENCE;
        loop {
            match self.log.run_over::<bool>(&COMMIT, &variables, batch.revisions.len()).await {
                Ok(ran) if ran.rows.first() == Some(&true) => break,
                // It took the fence in vain.
                Ok(_) => {
                    self.lease.judge(commit, may_be_stored).await?;
                    break;
                }
                Err(failure)
                    if failure.is_unknown() && failure.kind() != Kind::ReadOnly && Instant::now() < until =>
                {
                    tracing::warn!(%commit, failure = %report::Report(&failure), "nobody knows whether a commit was stored; it is repeated");
                    may_be_stored = true;
                    self.log.server().sleep(COMMIT_PAUSE).await?;
                }
                // A try before may have been stored.
                Err(failure) => return Err(unknown_if(may_be_stored, failure.into())),
            }
        }
        self.newest.store(commit.0, Ordering::Release);
        self.recent.note(batch);
        self.leftovers.note(batch, records::ended(batch));
        Ok(())
    }

    /// Removes what commits have left, beside those that come, once it has become much.
    fn tidy_up(&self) {
        if !self.leftovers.are_many() {
            return;
        }
        let (leftovers, writing) = (Arc::clone(&self.leftovers), Arc::clone(&self.writing));
        let (database, epoch) = (self.log.clone(), self.lease.epoch());
        // Nobody waits for it; what is not removed now is removed later.
        drop(self.log.server().spawn("the removal of leftovers", async move {
            let _writing = writing.lock().await;
            if let Err(error) = leftovers.sweep(&database, epoch).await {
                tracing::warn!(error = %report::Report(&error), "what commits have left could not be removed");
            }
        }));
    }
}

/// Removes a mycelium with all that is stored of it, but for the values that are kept beside the database. One that is not
/// there is no error.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn remove(address: &Address, mycelium: &str) -> Result<(), Error> {
    let (server, database) = (Server::new(address)?, named(mycelium)?);
    let drop = Call::delete(format!("_api/database/{database}")).creates();
    match server.system().call::<IgnoredAny>(drop).await {
        Err(failure) if failure.kind() != Kind::NotThere => Err(failure.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn named(mycelium: &str) -> Result<String, Error> {
    let refused = || Error::Refused { what: format!("`{mycelium}` is no name of a mycelium") };
    database_of(mycelium).ok_or_else(refused)
}

/// The error, not certain any more if an earlier try may have done it.
fn unknown_if(may_be_stored: bool, error: Error) -> Error {
    match error {
        Error::Unavailable { what, source, .. } if may_be_stored => {
            Error::Unavailable { what, certainly_not_applied: false, source }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests;
