//! `/_api/transaction`: stream transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::{Access, demand_collection};
use super::execute::commit;
use super::request::{Answer, Request, bad_type, number, only, switch};
use super::{demand_writable, no_endpoint};
use crate::aql::check::Uses;
use crate::error::{Failure, Outcome};
use crate::state::{Server, Shared, Transaction, TransactionState, lock};
use crate::store::{Graph, Session, not_found};
use crate::value::Value;

const LOCK_TIMEOUT_SECONDS: f64 = 900.0;

pub(super) async fn route(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(&[])?;
    match (request.method.as_str(), path) {
        ("POST", ["begin"]) => begin(shared, request).await,
        ("GET", []) => {
            let server = lock(&shared.server);
            let running = server.transactions.iter().filter(|(_, transaction)| {
                transaction.state == TransactionState::Running && transaction.database == request.database
            });
            let told = running.map(|(id, transaction)| {
                Value::object([
                    ("id", Value::from(id.to_string())),
                    ("state", Value::str(transaction.state.name())),
                ])
            });
            Ok(Answer::json(200, &Value::object([("transactions", Value::array(told.collect()))])))
        }
        ("GET", [id]) => {
            let mut server = lock(&shared.server);
            let number = find(&mut server, &request.database, id)?;
            let state =
                server.transactions.get(&number).map_or("aborted", |transaction| transaction.state.name());
            Ok(told(200, id, state))
        }
        ("PUT", [id]) => finish(shared, request, id, true),
        ("DELETE", [id]) => finish(shared, request, id, false),
        _ => Err(no_endpoint(request)),
    }
}

fn told(status: u16, id: &str, state: &str) -> Answer {
    Answer::result(status, Value::object([("id", Value::str(id)), ("status", Value::str(state))]))
}

/// The names of collections: one, or many.
fn names(value: Option<&Value>) -> Outcome<BTreeSet<Arc<str>>> {
    match value {
        None => Ok(BTreeSet::new()),
        Some(Value::Str(name)) => Ok(BTreeSet::from([name.clone()])),
        Some(Value::Array(names)) => {
            let names: Option<_> = names.iter().map(|name| name.as_str().map(Arc::from)).collect();
            names.ok_or_else(|| bad_type("collections"))
        }
        Some(_) => Err(bad_type("collections")),
    }
}

async fn begin(shared: &Arc<Shared>, request: &Request) -> Outcome<Answer> {
    let body = request.object(&[
        "collections",
        "waitForSync",
        "allowImplicit",
        "lockTimeout",
        "maxTransactionSize",
        "skipFastLockRound",
    ])?;
    let collections = body.get("collections").and_then(Value::as_object);
    let collections =
        collections.ok_or_else(|| Failure::new(10, "missing/invalid collections definition"))?;
    only(collections, &["read", "write", "exclusive"], "collections")?;
    let [read, write, exclusive] = ["read", "write", "exclusive"].map(|kind| names(collections.get(kind)));
    let (read, write, exclusive) = (read?, write?, exclusive?);
    switch(&body, "waitForSync")?;
    let implicit = switch(&body, "allowImplicit")?.unwrap_or(true);
    let timeout = number(&body, "lockTimeout")?.unwrap_or(LOCK_TIMEOUT_SECONDS);
    if !write.is_empty() || !exclusive.is_empty() {
        demand_writable(shared)?;
    }
    {
        let server = lock(&shared.server);
        let database = server.database(&request.database)?;
        for (names, wanted) in [(&read, Access::Read), (&write, Access::Write), (&exclusive, Access::Write)] {
            for name in names {
                if !database.collections.contains_key(name) {
                    return Err(not_found(name));
                }
                demand_collection(&server, &request.user, &request.database, name, wanted)?;
            }
        }
    }
    let wait = if timeout > 0.0 { Duration::from_secs_f64(timeout) } else { Duration::MAX };
    let guards = shared.guards(&request.database, &write, &exclusive, wait).await?;
    let mut server = lock(&shared.server);
    let id = server.new_id();
    let database = server.database(&request.database)?;
    let transaction = Transaction {
        database: request.database.clone(),
        state: TransactionState::Running,
        collections: database.collections.clone(),
        seen: database.commits,
        read,
        write: write.union(&exclusive).cloned().collect(),
        implicit,
        redo: Vec::new(),
        guards,
        used: Instant::now(),
    };
    server.transactions.insert(id, transaction);
    Ok(told(201, &id.to_string(), "running"))
}

/// The number of a transaction that is known. One that stood idle for too long is aborted.
fn find(server: &mut Server, database: &str, id: &str) -> Outcome<u64> {
    let missing = || Failure::new(1655, format!("transaction '{id}' not found"));
    let number = id.parse().map_err(|_| missing())?;
    let transaction =
        server.transactions.get(&number).filter(|transaction| *transaction.database == *database);
    if transaction.ok_or_else(missing)?.is_stale() {
        server.abort(number);
    }
    Ok(number)
}

fn finish(shared: &Shared, request: &Request, id: &str, commits: bool) -> Outcome<Answer> {
    let mut server = lock(&shared.server);
    let number = find(&mut server, &request.database, id)?;
    let Some(transaction) = server.transactions.get_mut(&number) else { return Err(no_endpoint(request)) };
    match (transaction.state, commits) {
        (TransactionState::Committed, true) => return Ok(told(200, id, "committed")),
        (TransactionState::Aborted, false) => return Ok(told(200, id, "aborted")),
        (TransactionState::Committed | TransactionState::Aborted, _) => {
            return Err(Failure::new(1653, format!("transaction is already {}", transaction.state.name())));
        }
        (TransactionState::Running, false) => {
            server.abort(number);
            return Ok(told(200, id, "aborted"));
        }
        (TransactionState::Running, true) => {}
    }
    let redo = std::mem::take(&mut transaction.redo);
    let committed = if redo.is_empty() { Ok(()) } else { commit(&mut server, &request.database, &redo) };
    server.abort(number);
    committed?;
    if let Some(transaction) = server.transactions.get_mut(&number) {
        transaction.state = TransactionState::Committed;
    }
    Ok(told(200, id, "committed"))
}

/// Does something as part of a transaction. What fails leaves the transaction as it was.
pub(super) fn with<T>(
    server: &mut Server,
    database: &Arc<str>,
    id: u64,
    uses: &Uses,
    act: impl FnOnce(&mut Session<'_>, &BTreeMap<Arc<str>, Graph>) -> Outcome<T>,
) -> Outcome<T> {
    find(server, database, &id.to_string())?;
    let Server { databases, transactions, .. } = server;
    let missing = || Failure::new(1655, format!("transaction '{id}' not found"));
    let transaction = transactions.get_mut(&id).ok_or_else(missing)?;
    if transaction.state != TransactionState::Running {
        return Err(Failure::new(1654, format!("transaction is {}", transaction.state.name())));
    }
    let undeclared = uses.writes.iter().find(|name| !transaction.write.contains(*name)).or_else(|| {
        let declared =
            |name: &&Arc<str>| transaction.read.contains(*name) || transaction.write.contains(*name);
        uses.reads.iter().find(|name| !transaction.implicit && !declared(name))
    });
    if let Some(name) = undeclared {
        return Err(Failure::new(1652, format!("unregistered collection used in transaction: {name}")));
    }
    let database = databases.get_mut(database).ok_or_else(missing)?;
    transaction.used = Instant::now();
    let mut session = Session::new(&mut transaction.collections, &database.locks, id, database.commits + 1);
    session.snapshot = Some((&database.collections, transaction.seen));
    match act(&mut session, &database.graphs) {
        Ok(done) => {
            let (redo, touched) = (session.redo, session.touched);
            transaction.redo.extend(redo);
            database.locks.extend(touched.into_iter().map(|place| (place, id)));
            Ok(done)
        }
        Err(failure) => {
            session.undo_to(0)?;
            Err(failure)
        }
    }
}
