//! The mycelia on a server as a broker keeps them: each in a database of its own.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::address::Address;
use super::check::{self, Finding, FindingKind};
use super::client::{Call, Database, Kind, Server};
use super::lease::{self, Lease};
use super::schema::{self, RECORDS};
use super::{ArangoOptions, ArangoStore};
use crate::report::Report;
use crate::store::Error;

/// How long requests are tried again that were certainly not executed. Somebody waits for the mycelium.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server on which a broker keeps its mycelia. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Databases {
    server: Server,
    lease: Duration,
}

impl Databases {
    /// Asks nothing of the server yet. May block to read a file of certificates.
    ///
    /// # Errors
    /// [`Error::Unfit`] if that file cannot be used.
    pub(crate) fn new(address: &Address, lease: Duration) -> Result<Self, Error> {
        let server = Server::new(address).map_err(Finding::from)?;
        Ok(Self { server, lease })
    }

    /// The server in messages.
    pub(crate) fn shown(&self) -> &str {
        self.server.shown()
    }

    /// The names of the mycelia that the user can see, in order.
    ///
    /// # Errors
    /// [`Error::Unfit`], [`Error::Unavailable`].
    pub(crate) async fn names(&self) -> Result<Vec<String>, Error> {
        Ok(check::mycelia(&self.server).await?)
    }

    /// Makes sure that a mycelium is there with all that it needs, and creates what is missing if the user may. Returns what
    /// it calls itself: no other mycelium has the same, not even one that takes its place.
    ///
    /// # Errors
    /// [`Error::Unfit`] with what stands in the way, [`Error::Unavailable`].
    pub(crate) async fn make(&self, name: &str) -> Result<String, Error> {
        self.ensure(name, true).await
    }

    /// As [`make`](Self::make) one that has to be there, and creates nothing.
    ///
    /// # Errors
    /// As [`make`](Self::make); [`Error::Unfit`] if it is not there, or something of it is not.
    pub(crate) async fn find(&self, name: &str) -> Result<String, Error> {
        self.ensure(name, false).await
    }

    async fn ensure(&self, name: &str, may_create: bool) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Format {
            mycelium: String,
        }
        let database = self.database(name)?;
        for note in schema::ensure(&database, may_create).await? {
            tracing::warn!(mycelium = name, "{note}");
        }
        let format = database.call::<Format>(Call::get(format!("_api/document/{RECORDS}/format"))).await?;
        Ok(format.mycelium)
    }

    /// A mycelium that is there, once it is ours.
    ///
    /// # Errors
    /// [`Error::InUse`] if another broker has it, [`Error::Unavailable`].
    pub(crate) async fn take(&self, name: &str, options: ArangoOptions) -> Result<ArangoStore, Error> {
        ArangoStore::open(&self.server, self.database(name)?.name(), options).await
    }

    /// Drops the database of a mycelium, unless another broker has it. Nothing is done if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`] if another broker has it; [`Error::Unfit`] if the user may not; [`Error::Unavailable`].
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let database = self.database(name)?;
        let lease = Lease::new(database.clone(), self.lease);
        match lease::state(&database).await {
            Ok(Some(_)) => lease.acquire().await?,
            // Its making was broken off.
            Ok(None) => {}
            Err(failure) if failure.kind() == Kind::NotThere => {}
            Err(failure) => return Err(failure.into()),
        }
        let drop = Call::delete(format!("_api/database/{}", database.name())).creates().repeatable();
        let system = self.server.system().with_patience(PATIENCE);
        match system.call::<IgnoredAny>(drop).await {
            Err(failure) if failure.kind() == Kind::NotThere => Ok(()),
            Err(failure) => {
                // The next broker need not wait for its end.
                if let Err(error) = lease.release().await {
                    tracing::warn!(error = %Report(&error), "a lease could not be given up");
                }
                Err(Finding::from(failure).into())
            }
            Ok(_) => Ok(()),
        }
    }

    fn database(&self, name: &str) -> Result<Database, Error> {
        Ok(check::database(&self.server, name)?.with_patience(PATIENCE))
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        let Finding { kind, line } = finding;
        match kind {
            FindingKind::Unreachable | FindingKind::Unavailable | FindingKind::ReadOnly => {
                Self::Unavailable { what: line, certainly_not_applied: true, source: None }
            }
            _ => Self::Unfit { what: line },
        }
    }
}
