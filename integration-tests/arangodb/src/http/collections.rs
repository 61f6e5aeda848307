//! `/_api/collection`

use std::sync::Arc;

use super::auth::{Access, demand_collection};
use super::request::{Answer, Request, number, only, switch, text};
use super::{demand_admin, demand_changeable, demand_writable, no_endpoint};
use crate::error::{Failure, Outcome};
use crate::state::{Server, Shared, lock};
use crate::store::{Collection, Database, Kind, not_found};
use crate::value::Value;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Collections that every database has of its own, and that nobody may use here.
const SYSTEM_COLLECTIONS: &[&str] =
    &["_analyzers", "_aqlfunctions", "_frontend", "_graphs", "_jobs", "_queues"];

pub(super) fn route(shared: &Shared, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(match (request.method.as_str(), path) {
        ("GET", []) => &["excludeSystem"],
        ("POST", []) => &["waitForSyncReplication", "enforceReplicationFactor"],
        ("GET", [_, "count"]) => &["details"],
        ("PUT", [_, "truncate"]) => &["waitForSync", "compact"],
        _ => &[],
    })?;
    let major = lock(&shared.faults).major();
    match (request.method.as_str(), path) {
        ("GET", []) => {
            let server = lock(&shared.server);
            let database = server.database(&request.database)?;
            let user = server.users.get(&request.user);
            let may = |name: &str| user.is_some_and(|u| u.collection(&request.database, name) > Access::None);
            let own = database.collections.values().filter(|collection| may(&collection.name));
            let mut told: Vec<Value> = own.map(|collection| summary(collection, major)).collect();
            if request.switch("excludeSystem")? != Some(true) {
                let system = SYSTEM_COLLECTIONS.iter().filter(|name| may(name)).zip(1..);
                told.extend(
                    system.map(|(name, id)| summary(&Collection::new(name, id, Kind::Document), major)),
                );
            }
            Ok(Answer::result(200, Value::array(told)))
        }
        ("POST", []) => {
            demand_changeable(shared)?;
            create(shared, request, major)
        }
        ("GET", [name]) => told(shared, request, name, |collection| summary(collection, major)),
        ("GET", [name, "properties"]) => {
            told(shared, request, name, |collection| properties(collection, major))
        }
        ("GET", [name, "count"]) => told(shared, request, name, |collection| {
            with(&properties(collection, major), [("count", Value::count(collection.len()))])
        }),
        ("PUT", [name, "truncate"]) => {
            demand_writable(shared)?;
            let mut server = lock(&shared.server);
            demand_collection(&server, &request.user, &request.database, name, Access::Write)?;
            let database = server.database_mut(&request.database)?;
            database.commits += 1;
            let commit = database.commits;
            let collection = database.collections.get_mut(*name).ok_or_else(|| not_found(name))?;
            Arc::make_mut(collection).truncate(commit);
            Ok(Answer::told(200, &summary(collection, major)))
        }
        ("DELETE", [name]) => {
            demand_changeable(shared)?;
            demand_admin(shared, request)?;
            let mut server = lock(&shared.server);
            let database = server.database_mut(&request.database)?;
            if database.graphs.values().any(|graph| graph.collections().any(|used| *used == **name)) {
                return Err(Failure::new(1942, "must not drop collection while part of graph"));
            }
            let collection = database.collections.remove(*name).ok_or_else(|| not_found(name))?;
            Ok(Answer::ok(200, [("id", Value::from(collection.id.to_string()))]))
        }
        _ => Err(no_endpoint(request)),
    }
}

fn told(
    shared: &Shared,
    request: &Request,
    name: &str,
    tell: impl FnOnce(&Collection) -> Value,
) -> Outcome<Answer> {
    let server = lock(&shared.server);
    demand_collection(&server, &request.user, &request.database, name, Access::Read)?;
    let database = server.database(&request.database)?;
    Ok(Answer::told(200, &tell(database.collections.get(name).ok_or_else(|| not_found(name))?)))
}

fn with<const N: usize>(object: &Value, more: [(&str, Value); N]) -> Value {
    let known =
        object.as_object().into_iter().flatten().map(|(name, value)| (name.to_string(), value.clone()));
    Value::object(known.chain(more.map(|(name, value)| (name.to_owned(), value))))
}

fn summary(collection: &Collection, major: u32) -> Value {
    let told = Value::object([
        ("id", Value::from(collection.id.to_string())),
        ("name", Value::Str(collection.name.clone())),
        ("type", Value::Int(collection.kind.number())),
        ("isSystem", Value::Bool(collection.name.starts_with('_'))),
        ("globallyUniqueId", Value::from(format!("h0/{}", collection.id))),
    ]);
    // The last server that told whether collections are loaded is of 3.12.
    if major < 4 { with(&told, [("status", Value::Int(3))]) } else { told }
}

fn properties(collection: &Collection, major: u32) -> Value {
    let keys = Value::object([
        ("allowUserKeys", Value::Bool(true)),
        ("type", Value::str("traditional")),
        ("lastValue", Value::Int(0)),
    ]);
    let told = with(
        &summary(collection, major),
        [
            ("waitForSync", Value::Bool(collection.wait_for_sync)),
            ("cacheEnabled", Value::Bool(false)),
            ("keyOptions", keys),
            ("schema", Value::Null),
            ("computedValues", Value::Null),
            ("writeConcern", Value::Int(1)),
            ("usesRevisionsAsDocumentIds", Value::Bool(true)),
            ("syncByRevision", Value::Bool(true)),
            ("isSmartChild", Value::Bool(false)),
            ("internalValidatorType", Value::Int(0)),
            ("objectId", Value::from(collection.id.to_string())),
        ],
    );
    if major < 4 { with(&told, [("statusString", Value::str("loaded"))]) } else { told }
}

fn create(shared: &Shared, request: &Request, major: u32) -> Outcome<Answer> {
    let body = request.object(&[
        "name",
        "type",
        "waitForSync",
        "isSystem",
        "keyOptions",
        "numberOfShards",
        "replicationFactor",
        "writeConcern",
        "distributeShardsLike",
        "cacheEnabled",
        "schema",
    ])?;
    let name = text(&body, "name")?.unwrap_or_default();
    let kind = match number(&body, "type")? {
        None => Kind::Document,
        Some(2.0) => Kind::Document,
        Some(3.0) => Kind::Edge,
        Some(_) => return Err(Failure::new(10, "invalid collection type")),
    };
    if let Some(keys) = body.get("keyOptions") {
        let keys = keys.as_object().ok_or_else(|| Failure::new(10, "keyOptions must be an object"))?;
        only(keys, &["allowUserKeys", "type"], "keyOptions")?;
        if switch(keys, "allowUserKeys")? == Some(false)
            || text(keys, "type")?.is_some_and(|t| &*t != "traditional")
        {
            return Err(Failure::unknown(10, "generators of keys"));
        }
    }
    if body.get("schema").is_some_and(|schema| !schema.is_null()) {
        return Err(Failure::unknown(10, "schemas"));
    }
    demand_admin(shared, request)?;
    let mut server = lock(&shared.server);
    let collection = make(&mut server, &request.database, &name, kind)?;
    collection.wait_for_sync = switch(&body, "waitForSync")?.unwrap_or_default();
    Ok(Answer::told(200, &properties(collection, major)))
}

/// Collections and indexes may be called so.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// Makes a collection that is not there yet.
pub(super) fn make<'s>(
    server: &'s mut Server,
    database: &str,
    name: &str,
    kind: Kind,
) -> Outcome<&'s mut Collection> {
    if !is_name(name) {
        return Err(Failure::new(1208, format!("illegal name: {name}")));
    }
    let id = server.new_id();
    let Database { collections, .. } = server.database_mut(database)?;
    if collections.contains_key(name) {
        return Err(Failure::new(1207, "duplicate name"));
    }
    let made =
        collections.entry(Arc::from(name)).or_insert_with(|| Arc::new(Collection::new(name, id, kind)));
    Ok(Arc::make_mut(made))
}
