//! The HTTP interface.

mod admin;
pub(crate) mod auth;
mod collections;
mod cursors;
mod databases;
mod documents;
mod execute;
mod explain;
mod graphs;
mod indexes;
mod request;
mod serve;
mod transactions;

use std::sync::Arc;

use self::auth::{Access, demand_database};
use self::request::{Answer, Request};
pub(crate) use self::serve::{accept, connection};
use crate::error::{Failure, Outcome};
use crate::state::{SYSTEM, Shared, lock};

/// Carries out a request of somebody who may use its database.
async fn route(shared: &Arc<Shared>, request: &Request) -> Outcome<Answer> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let method = request.method.as_str();
    match (method, path.as_slice()) {
        ("GET", []) if lock(&shared.faults).major() < 4 => {
            let place = format!("/_db/{SYSTEM}/_admin/aardvark/index.html");
            Ok(Answer::page(301, "text/html", "").header("location", place))
        }
        ("POST", ["_open", "auth"]) => auth::log_in(shared, request),
        ("GET", ["_api", "version"]) => admin::version(shared, request),
        ("GET", ["_admin", "server", what]) => admin::server(shared, request, what),
        ("GET", ["_admin", "license"]) => admin::license(shared, request),
        (_, ["_api", "user", ..]) => auth::users(shared, request),
        (_, ["_api", "database", rest @ ..]) => databases::route(shared, request, rest),
        (_, ["_api", "collection", rest @ ..]) => collections::route(shared, request, rest),
        (_, ["_api", "index", rest @ ..]) => indexes::route(shared, request, rest),
        (_, ["_api", "gharial", rest @ ..]) => graphs::route(shared, request, rest),
        (_, ["_api", "document", rest @ ..]) => documents::route(shared, request, rest).await,
        (_, ["_api", "cursor", rest @ ..]) => cursors::route(shared, request, rest).await,
        ("POST", ["_api", "explain"]) => explain::explain(shared, request),
        (_, ["_api", "transaction", rest @ ..]) => transactions::route(shared, request, rest).await,
        _ => Err(no_endpoint(request)),
    }
}

/// Nobody needs to log in for these.
fn is_open(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(path.as_slice(), [] | ["_open", "auth"] | ["_admin", "server", "availability"])
}

/// The endpoint of a request, without the names and numbers in its path.
fn endpoint(request: &Request) -> String {
    const WORDS: &[&str] = &[
        "_open",
        "_api",
        "_admin",
        "auth",
        "version",
        "server",
        "availability",
        "role",
        "mode",
        "license",
        "user",
        "database",
        "current",
        "collection",
        "properties",
        "count",
        "truncate",
        "index",
        "gharial",
        "vertex",
        "edge",
        "document",
        "cursor",
        "explain",
        "transaction",
        "begin",
    ];
    let words = request.path.iter().map(|part| {
        let word = if WORDS.contains(&part.as_str()) { part } else { "{}" };
        format!("/{word}")
    });
    format!("{} {}", request.method, words.collect::<String>())
}

/// Nothing of that name is known here.
pub(crate) fn no_endpoint(request: &Request) -> Failure {
    Failure::unknown(404, format!("endpoint {} /{}", request.method, request.path.join("/")))
}

/// Demands the rights of an administrator of the request's database.
fn demand_admin(shared: &Shared, request: &Request) -> Outcome<()> {
    demand_database(&lock(&shared.server), &request.user, &request.database, Access::Write)
}

/// What every write is refused with while the server only reads.
fn demand_writable(shared: &Shared) -> Outcome<()> {
    if lock(&shared.faults).read_only { Err(Failure::new(1004, "read-only")) } else { Ok(()) }
}

/// The same for databases and collections, which a server that only reads neither makes nor drops.
fn demand_changeable(shared: &Shared) -> Outcome<()> {
    if lock(&shared.faults).read_only { Err(auth::forbidden()) } else { Ok(()) }
}

/// What writes of documents are refused with besides.
fn demand_no_conflict(shared: &Shared, request: &Request) -> Outcome<()> {
    demand_writable(shared)?;
    if request.conflicts { Err(Failure::conflict("somebody's")) } else { Ok(()) }
}
