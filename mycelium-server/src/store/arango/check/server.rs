//! Whether a server is one that mycelium works with: what is asked before a store is opened, and of every look at one.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::client::{Call, Database, Failure, Kind, Server};
use super::finding::{init, shown};
use super::license::{self, License, Usage};
use super::version::Version;
use super::{Finding, FindingKind};

/// A server that mycelium works with, as far as can be told without a look into the database.
#[derive(Debug)]
pub(in super::super) struct Checked {
    /// Whether the database is there.
    pub(in super::super) is_there: bool,
    /// Whether the server is a coordinator of a cluster. Else it is alone.
    pub(in super::super) is_cluster: bool,
    /// As the server tells it, if it does.
    pub(super) version: Option<String>,
    pub(super) usage: Option<Usage>,
    /// What is worth a note.
    pub(in super::super) notes: Vec<Finding>,
}

#[derive(Deserialize)]
struct ToldVersion {
    server: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct ToldRole {
    role: String,
}

#[derive(Deserialize)]
struct ToldMode {
    mode: String,
}

/// Asks whether mycelium works with a server, and with this database of it if that is there: whether it is available,
/// who we are, its version, its role, how the database is spread, and what its licence allows.
///
/// # Errors
/// The first thing that speaks against it.
pub(in super::super) async fn server(database: &Database) -> Result<Checked, Finding> {
    let server = database.server();
    let unavailable = availability(server).await?;
    let (told, base) = match version(database).await {
        Err(failure) if failure.kind() == Kind::NotThere => {
            let system = server.system().with_patience(Duration::ZERO);
            (version(&system).await.map_err(|failure| missing(database, failure))?, system)
        }
        told => (told.map_err(|failure| may_not(database, failure))?, database.clone()),
    };
    let is_there = base.name() == database.name();
    if told.server.as_deref() != Some("arango") {
        let line =
            format!("what answers at {} does not call itself ArangoDB; check the address", server.shown());
        return Err(Finding::new(FindingKind::NotArango, line));
    }
    let is_cluster = role(&base).await?;
    let mut notes = Vec::new();
    let version = told.version.as_deref().map(|text| (text, Version::parse(text)));
    match version {
        Some((text, Some(version))) => {
            if let Some(why) = version.refusal(is_cluster) {
                let line = format!(
                    "mycelium does not work with ArangoDB {text} at {}: {why}; use 3.12.5 or newer",
                    server.shown()
                );
                return Err(Finding::new(FindingKind::Version, line));
            }
        }
        Some((text, None)) => notes.push(hidden(server, &format!("says `{text}`"))),
        None => notes.push(hidden(server, "hides it from this user (--server.harden)")),
    }
    if is_there {
        notes.extend(sharding(database, is_cluster).await?);
    }
    let usage = license(&base, &mut notes).await?;
    if let Some(failure) = unavailable {
        return Err(why_unavailable(&base, failure).await);
    }
    Ok(Checked { is_there, is_cluster, version: told.version, usage, notes })
}

/// Whether the server is there and takes requests. One that says it is not available may be asked why.
async fn availability(server: &Server) -> Result<Option<Failure>, Finding> {
    // No rights are needed for it, nor a database. It is not waited for: somebody looks on.
    let system = server.system().with_patience(Duration::ZERO);
    match system.call::<IgnoredAny>(Call::get("_admin/server/availability")).await {
        Ok(_) => Ok(None),
        Err(failure) if failure.kind() == Kind::Unreadable => {
            let line = format!(
                "what answers at {} is not ArangoDB; check the address, and what stands before it ({failure})",
                server.shown()
            );
            Err(Finding::new(FindingKind::NotArango, line))
        }
        // The server itself says something.
        Err(failure) if failure.error_num().is_some() && !failure.is_of_login() => Ok(Some(failure)),
        Err(failure) => Err(failure.into()),
    }
}

async fn version(database: &Database) -> Result<ToldVersion, Failure> {
    database.call(Call::get("_api/version")).await
}

/// What is said if the user cannot even use the database.
fn may_not(database: &Database, failure: Failure) -> Finding {
    if !is_for_want_of_rights(&failure) {
        return failure.into();
    }
    let Some(user) = database.server().user() else {
        let line = format!(
            "ArangoDB at {} asks for a user and a password; set MYCELIUM_STORE_USER and MYCELIUM_STORE_PASSWORD",
            database.server().shown()
        );
        return Finding::new(FindingKind::Login, line);
    };
    let line = format!(
        "user `{user}` may not use {}; grant `ro` on the database and `rw` on its collections, or use another user",
        shown(database)
    );
    Finding::new(FindingKind::Rights, line)
}

/// What is said if the database is not there, and the user may not use the one that is always there.
fn missing(database: &Database, failure: Failure) -> Finding {
    if !is_for_want_of_rights(&failure) {
        return failure.into();
    }
    let line = format!(
        "{} is not there, and the user may not create it; run as a user who may administrate `_system`: {}",
        shown(database),
        init(database)
    );
    Finding::new(FindingKind::Missing, line)
}

/// Whether somebody who is logged in, or need not be, may not do something. Servers answer 401 to some of it.
fn is_for_want_of_rights(failure: &Failure) -> bool {
    matches!(failure.kind(), Kind::NotAllowed | Kind::NotLoggedIn) && !failure.is_of_login()
}

fn hidden(server: &Server, what: &str) -> Finding {
    let line = format!(
        "the version of ArangoDB at {} is not known: it {what}; 3.12.5 or newer is needed",
        server.shown()
    );
    Finding::new(FindingKind::HiddenVersion, line)
}

/// Whether the server is a coordinator. Else it is alone.
async fn role(database: &Database) -> Result<bool, Finding> {
    let told: ToldRole = database.call(Call::get("_admin/server/role")).await?;
    match told.role.as_str() {
        "SINGLE" => Ok(false),
        "COORDINATOR" => Ok(true),
        role => {
            let line = format!(
                "the server at {} has the role {role}; give the address of a coordinator or of a single server",
                database.server().shown()
            );
            Err(Finding::new(FindingKind::Role, line))
        }
    }
}

/// Makes sure that all of a database is on one server, as it is if the server is alone. Returns what is worth a note.
///
/// # Errors
/// If it is not: what a statement writes would not be written as a whole.
pub(in super::super) async fn sharding(
    database: &Database,
    is_cluster: bool,
) -> Result<Option<Finding>, Finding> {
    #[derive(Deserialize)]
    struct Told {
        result: Current,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Current {
        sharding: Option<String>,
        replication_factor: Option<serde_json::Value>,
        write_concern: Option<u64>,
    }
    if !is_cluster {
        return Ok(None);
    }
    let Told { result: current } = database.call(Call::get("_api/database/current")).await?;
    if current.sharding.as_deref() != Some("single") {
        let line = format!(
            "{} is spread over several servers (sharding `{}`), where a write may be done in part; use one that was made \
             with `\"sharding\": \"single\"`, as this makes it for a mycelium of another name: mycelium store init {}",
            shown(database),
            current.sharding.unwrap_or_default(),
            database.server().shown(),
        );
        return Err(Finding::new(FindingKind::Sharding, line));
    }
    let is_written_twice = current.write_concern.is_none_or(|copies| copies > 1);
    Ok((!is_written_twice).then(|| {
        let factor = current.replication_factor.map_or_else(|| "?".to_owned(), |factor| factor.to_string());
        let line = format!(
            "{} has replicationFactor {factor} and writeConcern 1: what was written last may be lost with one server; 3 \
             and 2 are better",
            shown(database)
        );
        Finding::new(FindingKind::Copies, line)
    }))
}

async fn license(database: &Database, notes: &mut Vec<Finding>) -> Result<Option<Usage>, Finding> {
    let server = database.server().shown();
    match database.call::<License>(Call::get("_admin/license")).await {
        Ok(license) => {
            if let Some(finding) = license.finding(server) {
                if finding.kind.is_problem() {
                    return Err(finding);
                }
                notes.push(finding);
            }
            Ok(license.usage())
        }
        Err(failure)
            if matches!(
                failure.kind(),
                Kind::NotThere | Kind::NotAllowed | Kind::NotLoggedIn | Kind::Unreadable | Kind::Refused
            ) =>
        {
            notes.push(license::untold(server, &failure.to_string()));
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Why a server says that it is not available, although it answers.
async fn why_unavailable(database: &Database, failure: Failure) -> Finding {
    let server = database.server().shown();
    match database.call::<ToldMode>(Call::get("_admin/server/mode")).await {
        Ok(told) if told.mode == "readonly" => {
            let line = format!(
                "ArangoDB at {server} takes no writes: it was set to be read-only; set its mode to `default`"
            );
            Finding::new(FindingKind::ReadOnly, line)
        }
        _ => {
            let line = format!(
                "ArangoDB at {server} is not available: it starts, stops, or has too much to do ({failure})"
            );
            Finding::new(FindingKind::Unavailable, line)
        }
    }
}
