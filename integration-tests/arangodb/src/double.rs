//! The server as a test holds it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::counters::Counters;
use crate::faults::Faults;
use crate::http::auth::{Access, User};
use crate::http::{accept, connection};
use crate::state::{Shared, TransactionState, lock};

/// Name of the user that may do everything.
pub const ROOT: &str = "root";

/// A server in the process of the test, on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Double {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<std::convert::Infallible>,
}

impl Double {
    /// Starts an empty server, on which [`ROOT`] has this password.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(password: &str) -> std::io::Result<Self> {
        Self::start_with(password, Faults::default(), 0).await
    }

    /// Starts an empty server with faults. Those by chance are the same for the same seed and requests.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start_with(password: &str, faults: Faults, seed: u64) -> std::io::Result<Self> {
        Self::start_at(0, password, faults, seed).await
    }

    /// The same, on that port of this machine; 0: any that is free.
    ///
    /// # Errors
    /// The port cannot be had.
    pub async fn start_at(port: u16, password: &str, faults: Faults, seed: u64) -> std::io::Result<Self> {
        let root = User {
            password: password.to_owned(),
            databases: BTreeMap::from([("*".to_owned(), Access::Write)]),
            collections: BTreeMap::new(),
        };
        let users = BTreeMap::from([(ROOT.to_owned(), root)]);
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(users, faults, seed));
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, address, task })
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the server, without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves a connection that the test accepted itself, as one that it encrypts.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        connection(self.shared.clone(), stream).await;
    }

    /// What goes wrong, to look at and to change. Not to be held across an `.await`.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.shared.faults)
    }

    /// What was asked for until now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.shared.counters).clone()
    }

    /// Counts from nothing again.
    pub fn reset_counters(&self) {
        let mut counters = lock(&self.shared.counters);
        *counters = Counters { writing: counters.writing, ..Counters::default() };
    }

    /// What was asked for that the double does not know, so that a server may have answered otherwise. Tests that
    /// trust its answers end with a look at this.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        lock(&self.shared.unknown).clone()
    }

    /// Fails the test if the double met something that it does not know.
    ///
    /// # Panics
    /// If it did.
    #[track_caller]
    pub fn assert_known(&self) {
        let unknown = self.unknown();
        assert!(unknown.is_empty(), "the double met what it does not know:\n{}", unknown.join("\n"));
    }

    /// Tokens that were given until now are worth nothing, as after their time.
    pub fn expire_tokens(&self) {
        lock(&self.shared.server).secret += 1;
    }

    /// What a restart of the server does to its clients: tokens, cursors and transactions are gone.
    pub fn restart(&self) {
        let mut server = lock(&self.shared.server);
        server.secret += 1;
        server.cursors.clear();
        let running: Vec<u64> = server
            .transactions
            .iter()
            .filter(|(_, t)| t.state == TransactionState::Running)
            .map(|(id, _)| *id)
            .collect();
        running.into_iter().for_each(|id| server.abort(id));
        server.transactions.clear();
    }

    /// Makes a user, or gives him another password.
    pub fn add_user(&self, name: &str, password: &str) {
        lock(&self.shared.server).users.entry(name.to_owned()).or_default().password = password.to_owned();
    }

    /// Lets a user use a database that much. Either may be `*`.
    pub fn grant_database(&self, user: &str, database: &str, access: Access) {
        if let Some(user) = lock(&self.shared.server).users.get_mut(user) {
            user.databases.insert(database.to_owned(), access);
        }
    }

    /// Lets a user use a collection that much; `*` for all of which nothing is said.
    pub fn grant_collection(&self, user: &str, database: &str, collection: &str, access: Access) {
        if let Some(user) = lock(&self.shared.server).users.get_mut(user) {
            user.collections.insert((database.to_owned(), collection.to_owned()), access);
        }
    }

    /// All documents of a collection as JSON, in the order of their keys; none where there is no such collection.
    #[must_use]
    pub fn documents(&self, database: &str, collection: &str) -> Option<Vec<serde_json::Value>> {
        let server = lock(&self.shared.server);
        let collection = server.databases.get(database)?.collections.get(collection)?;
        let documents = collection.by_key().filter_map(|(_, place)| collection.at(place));
        documents.map(|document| serde_json::from_str(&document.to_json()).ok()).collect()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}
