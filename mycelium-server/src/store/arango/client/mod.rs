//! Requests to ArangoDB: over one pool of connections, by one thread, with tokens that are renewed and failures that say
//! whether a request was executed.
//!
//! Whoever asks may be a task of any runtime, or a thread that waits: requests are sent by a runtime of their own. What is
//! sent is put into text by whoever asks, and what is answered is read by them too.

mod backoff;
mod cursor;
pub(crate) mod driver;
mod failure;
mod login;
#[cfg(test)]
mod tests;
mod transport;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use self::backoff::Backoff;
pub(crate) use self::failure::{Failure, Kind};
use self::login::Session;
use self::transport::{Request, Transport};
use super::address::Address;
use crate::spawn::Joined;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one may take that creates a database, a collection, a graph or an index.
const CREATION_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// As many reads are under way at once.
const READS_MAX: usize = 48;
/// For how long a request is tried again that was certainly not executed: a leader that has gone is replaced by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of ArangoDB, and who we are there. Cheap to clone; all databases of one server share it.
#[derive(Debug, Clone)]
pub(crate) struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Arc<Transport>,
    session: Session,
    /// Room for reads. What writes never waits for what reads: of that there is little, and a lease has its time.
    reads: Arc<Semaphore>,
}

/// A database of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    server: Server,
    name: Arc<str>,
    patience: Duration,
}

/// A request to one endpoint of a database.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: Cow<'a, str>,
    query: &'a [(&'a str, &'a str)],
    body: Option<Result<Bytes, Failure>>,
    /// Whether it may be done twice, so that it is tried again also if the first may have been executed.
    repeatable: bool,
    timeout: Duration,
}

/// What a statement answered.
#[derive(Debug)]
pub(crate) struct Ran<T> {
    /// The rows, in order.
    pub(crate) rows: Vec<T>,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: impl Into<Cow<'a, str>>) -> Self {
        let repeatable = method == Method::GET;
        Self { method, path: path.into(), query: &[], body: None, repeatable, timeout: REQUEST_TIMEOUT }
    }

    /// Reads something. The path begins after that of the database: `_api/version`.
    pub(crate) fn get(path: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Does something, with a body of JSON.
    pub(crate) fn post(path: impl Into<Cow<'a, str>>, body: &impl Serialize) -> Self {
        Self { body: Some(json(body)), ..Self::new(Method::POST, path) }
    }

    /// Does something, without a body.
    pub(crate) fn post_nothing(path: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Removes something.
    pub(crate) fn delete(path: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// With parameters after the path.
    #[must_use]
    pub(crate) fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    /// It changes nothing, or may as well be done twice: it is tried again also if its outcome is unknown.
    #[must_use]
    pub(crate) fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// It creates a database, a collection, a graph or an index, which may take minutes.
    #[must_use]
    pub(crate) fn creates(self) -> Self {
        Self { timeout: CREATION_TIMEOUT, ..self }
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Failure::new(Kind::Refused, format!("a request cannot be put into JSON: {error}")))
}

impl Server {
    /// Makes ready for requests to a server; asks nothing. May block to read the file of certificates.
    ///
    /// # Errors
    /// [`Kind::Certificate`] if the file of certificates cannot be used.
    pub(crate) fn new(address: &Address) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Shared {
            transport: Arc::new(Transport::new(address)?),
            session: Session::new(address.login().cloned()),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        })))
    }

    /// The server in messages: its URL without user and password.
    pub(crate) fn shown(&self) -> &str {
        self.0.transport.shown()
    }

    /// Who logs in.
    pub(crate) fn user(&self) -> Option<&str> {
        self.0.session.user()
    }

    /// A database of this server. Whether it is there is not asked.
    pub(crate) fn database(&self, name: &str) -> Database {
        Database { server: self.clone(), name: name.into(), patience: PATIENCE }
    }

    /// The database that every server has.
    pub(crate) fn system(&self) -> Database {
        self.database("_system")
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] if the process is about to end.
    pub(crate) async fn sleep(&self, time: Duration) -> Result<(), Failure> {
        self.0.transport.sleep(time).await
    }

    /// Runs a task on the runtime of this server's requests. It goes on to its end if nobody waits for it; a panic is in
    /// the log under `name`.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Joined<T> {
        self.0.transport.spawn(name, work)
    }
}

impl Database {
    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is on.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The same, with another limit to how long a request is tried again. Zero: it is sent once.
    #[must_use]
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Calls an endpoint and reads its answer. Tries again for a while if it was certainly not executed, and also if that
    /// is unknown and it is [repeatable](Call::repeatable).
    ///
    /// # Errors
    /// A [`Failure`], which tells whether it may have been executed.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Failure> {
        let what = self.what(&call);
        let answer = self.answer(&call, &what, &mut self.backoff()).await?;
        read(&answer, &what)
    }

    /// What a call does, in messages.
    fn what(&self, call: &Call<'_>) -> String {
        format!("{} {} in {} at {}", call.method, call.path, self.name, self.server.shown())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(Instant::now() + self.patience)
    }

    /// Sends a call until it is answered with success, or no longer.
    async fn answer(&self, call: &Call<'_>, what: &str, backoff: &mut Backoff) -> Result<Bytes, Failure> {
        let Shared { transport, session, reads } = &*self.server.0;
        let mut url = transport.url(["_db", &self.name].into_iter().chain(call.path.split('/')))?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let request = Request {
            method: call.method.clone(),
            url,
            body: call.body.clone().transpose()?,
            timeout: call.timeout,
            answer_bytes_max: ANSWER_BYTES_MAX,
            authorization: None,
        };
        loop {
            let sent = {
                let _room = match call.repeatable {
                    // It is never closed.
                    true => reads.acquire().await.ok(),
                    false => None,
                };
                session.send(transport, &request, what).await
            };
            let failure = match sent {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let may_repeat = call.repeatable || failure.is_certainly_not_executed();
            let Some(pause) = failure.pace().filter(|_| may_repeat).and_then(|pace| backoff.next(pace))
            else {
                return Err(failure);
            };
            tracing::debug!(%failure, ?pause, "a request to ArangoDB is tried again");
            transport.sleep(pause).await?;
        }
    }
}

/// What an answer of success says. `what` was done.
fn read<T: DeserializeOwned>(answer: &[u8], what: &str) -> Result<T, Failure> {
    /// What almost every answer of ArangoDB has.
    #[derive(Deserialize)]
    struct Ours {
        #[expect(dead_code, reason = "only that it is there counts")]
        code: u16,
        error: bool,
    }
    serde_json::from_slice(answer).map_err(|error| match serde_json::from_slice::<Ours>(answer) {
        Ok(Ours { error: false, .. }) => {
            Failure::new(Kind::Unreadable, format!("{what}: the answer cannot be read: {error}"))
        }
        Ok(_) | Err(_) => Failure::foreign(what, 200, answer),
    })
}
