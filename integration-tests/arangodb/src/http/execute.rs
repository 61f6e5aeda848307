//! Statements: checked, run, and committed, alone or as part of a transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::{Access, demand_collection};
use super::request::Request;
use super::{demand_no_conflict, transactions};
use crate::aql::ast::Statement;
use crate::aql::check::{self, Uses};
use crate::aql::exec::{self, Limits, Ran, killed};
use crate::aql::parser;
use crate::error::{Failure, Outcome};
use crate::state::{Server, Shared, lock};
use crate::store::{Change, Database, Session, apply, not_found};
use crate::value::Object;

/// How long a statement waits for collections that others have for themselves, unless it says so.
const LOCK_TIMEOUT: Duration = Duration::from_secs(900);

/// A statement that may run.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) statement: Statement,
    pub(super) uses: Uses,
}

/// Parses and checks a statement for whoever asks.
pub(super) fn prepare(shared: &Shared, request: &Request, text: &str, binds: &Object) -> Outcome<Prepared> {
    let (is_4, in_cluster) = {
        let faults = lock(&shared.faults);
        (faults.major() >= 4, faults.role == "COORDINATOR")
    };
    let statement = parser::parse(text, binds, is_4)?;
    let server = lock(&shared.server);
    let database = server.database(&request.database)?;
    let uses = check::check(&statement, &database.graphs, in_cluster)?;
    for name in uses.reads.union(&uses.writes) {
        if !database.collections.contains_key(name) {
            return Err(not_found(name));
        }
        let wanted = if uses.writes.contains(name) { Access::Write } else { Access::Read };
        demand_collection(&server, &request.user, &request.database, name, wanted)?;
    }
    Ok(Prepared { statement, uses })
}

/// Runs a statement and commits it, or leaves it to its transaction.
pub(super) async fn execute(
    shared: &Arc<Shared>,
    request: &Request,
    prepared: &Prepared,
    limits: &Limits,
    max_runtime: Option<Duration>,
) -> Outcome<Ran> {
    if !prepared.uses.writes.is_empty() {
        demand_no_conflict(shared, request)?;
    }
    if let Some(id) = request.transaction()? {
        return in_transaction(shared, request, prepared, limits, id);
    }
    if prepared.uses.writes.is_empty() {
        let mut server = lock(&shared.server);
        let database = server.database_mut(&request.database)?;
        return run(database, prepared, limits, 0).map(|(ran, ..)| ran);
    }
    lock(&shared.counters).writes();
    let ran = write(shared, request, prepared, limits, max_runtime).await;
    let mut counters = lock(&shared.counters);
    counters.writing -= 1;
    counters.commits += u64::from(ran.is_ok());
    ran
}

/// What a statement gave, wrote, and locked.
type Run = (Ran, Vec<Change>, Vec<(Arc<str>, Arc<str>)>);

/// Runs a statement on the collections as they are. What it wrote stands there, unless it failed.
fn run(database: &mut Database, prepared: &Prepared, limits: &Limits, own: u64) -> Outcome<Run> {
    let Database { collections, graphs, locks, commits, .. } = database;
    let mut session = Session::new(collections, locks, own, *commits + 1);
    match exec::run(&prepared.statement, &mut session, graphs, limits) {
        Ok(ran) => Ok((ran, session.redo, session.touched)),
        Err(failure) => {
            session.undo_to(0)?;
            Err(failure)
        }
    }
}

async fn write(
    shared: &Arc<Shared>,
    request: &Request,
    prepared: &Prepared,
    limits: &Limits,
    max_runtime: Option<Duration>,
) -> Outcome<Ran> {
    let uses = &prepared.uses;
    let wait = max_runtime.unwrap_or(LOCK_TIMEOUT);
    let _guards = shared.guards(&request.database, &uses.writes, &uses.exclusive, wait).await?;
    let slow = lock(&shared.faults).slow_commit;
    let (id, ran, redo) = {
        let mut server = lock(&shared.server);
        let id = server.new_id();
        let database = server.database_mut(&request.database)?;
        if slow.is_zero() {
            let (ran, ..) = run(database, prepared, limits, id)?;
            database.commits += 1;
            return Ok(ran);
        }
        hold(database, prepared, limits, id)?
    };
    // Others see nothing of it, and cannot have its keys, until it commits.
    let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let late = left.is_some_and(|left| left < slow);
    tokio::time::sleep(left.map_or(slow, |left| left.min(slow))).await;
    let mut server = lock(&shared.server);
    let committed = if late { Err(killed()) } else { commit(&mut server, &request.database, &redo) };
    server.unlock(&request.database, id);
    committed.map(|()| ran)
}

/// Runs a statement, takes back what it wrote, and holds the keys.
fn hold(
    database: &mut Database,
    prepared: &Prepared,
    limits: &Limits,
    id: u64,
) -> Outcome<(u64, Ran, Vec<Change>)> {
    let Database { collections, graphs, locks, commits, .. } = database;
    let mut session = Session::new(collections, locks, id, *commits + 1);
    let ran = exec::run(&prepared.statement, &mut session, graphs, limits);
    let redo = session.redo.clone();
    session.undo_to(0)?;
    let touched = std::mem::take(&mut session.touched);
    let ran = ran?;
    locks.extend(touched.into_iter().map(|place| (place, id)));
    Ok((id, ran, redo))
}

/// Writes what a transaction wrote, all of it or nothing.
pub(super) fn commit(server: &mut Server, database: &str, redo: &[Change]) -> Outcome<()> {
    let database = server.database_mut(database)?;
    let commit = database.commits + 1;
    let mut undo: Vec<Change> = Vec::new();
    for change in redo {
        let collection =
            database.collections.get(&change.collection).ok_or_else(|| not_found(&change.collection))?;
        let stored = collection.get(&change.key);
        undo.push(Change {
            document: stored.map(|stored| stored.document.clone()),
            commit: collection.last_commit(&change.key),
            ..change.clone()
        });
        let change = Change { commit, ..change.clone() };
        if let Err(failure) = apply(&mut database.collections, &change) {
            undo.pop();
            for change in undo.iter().rev() {
                apply(&mut database.collections, change)?;
            }
            return Err(failure);
        }
    }
    database.commits = commit;
    Ok(())
}

fn in_transaction(
    shared: &Shared,
    request: &Request,
    prepared: &Prepared,
    limits: &Limits,
    id: u64,
) -> Outcome<Ran> {
    let mut server = lock(&shared.server);
    let statement = &prepared.statement;
    transactions::with(&mut server, &request.database, id, &prepared.uses, |session, graphs| {
        exec::run(statement, session, graphs, limits)
    })
}

/// A statement that only writes one collection, for documents that come one by one.
pub(super) fn writes_only(collection: &Arc<str>) -> Uses {
    Uses { writes: BTreeSet::from([collection.clone()]), ..Uses::default() }
}

/// The refusal of a wait that took too long.
pub(super) fn is_conflict(failure: &Failure) -> bool {
    failure.number == 1200
}
