//! `/_api/index`

use std::collections::BTreeSet;
use std::sync::Arc;

use super::auth::{Access, demand_collection};
use super::collections::is_name;
use super::request::{Answer, Request, bad_type, switch, text};
use super::{demand_admin, demand_writable, no_endpoint};
use crate::aql::explain::describe;
use crate::error::{Failure, Outcome};
use crate::state::{Shared, lock};
use crate::store::{Collection, Index, IndexKind, not_found};
use crate::value::Value;

/// How many attributes an index may store besides.
const STORED_MAX: usize = 32;

pub(super) fn route(shared: &Shared, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(if path.is_empty() { &["collection", "withStats", "withHidden"] } else { &[] })?;
    let named = request.query.get("collection").map(String::as_str);
    let name =
        path.first().copied().or(named).ok_or_else(|| Failure::new(1204, "collection name is missing"))?;
    match (request.method.as_str(), path) {
        ("GET", []) => {
            let server = lock(&shared.server);
            demand_collection(&server, &request.user, &request.database, name, Access::Read)?;
            let database = server.database(&request.database)?;
            let collection = database.collections.get(name).ok_or_else(|| not_found(name))?;
            let indexes: Vec<Value> =
                collection.indexes.iter().map(|index| describe(collection, index)).collect();
            let by_id = collection.indexes.iter().zip(&indexes);
            let identifiers = by_id.map(|(index, told)| (format!("{name}/{}", index.id), told.clone()));
            Ok(Answer::ok(
                200,
                [("indexes", Value::array(indexes.clone())), ("identifiers", Value::object(identifiers))],
            ))
        }
        ("GET", [_, id]) => {
            let server = lock(&shared.server);
            demand_collection(&server, &request.user, &request.database, name, Access::Read)?;
            let database = server.database(&request.database)?;
            let collection = database.collections.get(name).ok_or_else(|| not_found(name))?;
            let place = find(collection, id)?;
            Ok(Answer::told(200, &describe(collection, &collection.indexes[place])))
        }
        ("POST", []) => {
            demand_writable(shared)?;
            demand_admin(shared, request)?;
            create(shared, request, name)
        }
        ("DELETE", [_, id]) => {
            demand_writable(shared)?;
            demand_admin(shared, request)?;
            let mut server = lock(&shared.server);
            let database = server.database_mut(&request.database)?;
            let collection = database.collections.get_mut(name).ok_or_else(|| not_found(name))?;
            let place = find(collection, id)?;
            if !collection.indexes[place].is_made() {
                return Err(Failure::new(11, "forbidden").status(403));
            }
            let removed = Arc::make_mut(collection).indexes.remove(place);
            Ok(Answer::ok(200, [("id", Value::from(format!("{name}/{}", removed.id)))]))
        }
        _ => Err(no_endpoint(request)),
    }
}

/// By number or by name.
fn find(collection: &Collection, id: &str) -> Outcome<usize> {
    let found = collection.indexes.iter().position(|index| index.id.to_string() == id || *index.name == *id);
    found.ok_or_else(|| Failure::new(1212, "index not found"))
}

fn create(shared: &Shared, request: &Request, name: &str) -> Outcome<Answer> {
    let body = request.object(&[
        "type",
        "name",
        "fields",
        "unique",
        "sparse",
        "deduplicate",
        "estimates",
        "cacheEnabled",
        "storedValues",
        "inBackground",
        "id",
    ])?;
    match text(&body, "type")?.as_deref() {
        Some("persistent") => {}
        Some(other) => return Err(Failure::unknown(10, format!("index of type '{other}'"))),
        None => return Err(Failure::new(10, "index type missing")),
    }
    let fields = body.get("fields").and_then(Value::as_array).ok_or_else(|| bad_type("fields"))?;
    let fields: Option<Vec<&str>> = fields.iter().map(Value::as_str).collect();
    let fields = fields.filter(|fields| !fields.is_empty()).ok_or_else(|| bad_type("fields"))?;
    if let Some(field) =
        fields.iter().find(|field| field.contains('[') || field.split('.').any(str::is_empty))
    {
        return Err(Failure::unknown(10, format!("index over '{field}'")));
    }
    let is_id = |field: &&str| field.split('.').any(|name| name == "_id");
    if fields.iter().any(is_id) {
        return Err(Failure::new(10, "_id attribute cannot be indexed"));
    }
    let distinct: BTreeSet<&str> = fields.iter().copied().collect();
    if distinct.len() < fields.len() {
        return Err(Failure::new(10, "a field occurs twice"));
    }
    // Some clients send one that is empty.
    if text(&body, "id")?.is_some_and(|id| !id.is_empty()) {
        return Err(Failure::unknown(10, "attribute 'id' of body"));
    }
    switch(&body, "inBackground")?;
    let mut server = lock(&shared.server);
    let id = server.new_id();
    let database = server.database_mut(&request.database)?;
    let collection = database.collections.get_mut(name).ok_or_else(|| not_found(name))?;
    let chosen = text(&body, "name")?.filter(|name| !name.is_empty());
    if chosen.as_ref().is_some_and(|name| !is_name(name)) {
        return Err(Failure::new(1208, "illegal name of an index"));
    }
    let unique = switch(&body, "unique")?.unwrap_or_default();
    let mut index = Index::new(
        id,
        &chosen.clone().unwrap_or_else(|| Arc::from(format!("idx_{id}"))),
        IndexKind::Persistent,
        &fields,
        unique,
    );
    index.sparse = switch(&body, "sparse")?.unwrap_or_default();
    index.deduplicate = switch(&body, "deduplicate")?.unwrap_or(true);
    index.estimates = switch(&body, "estimates")?.unwrap_or(true);
    index.cache_enabled = switch(&body, "cacheEnabled")?.unwrap_or_default();
    if let Some(stored) = body.get("storedValues") {
        index.stored_values = stored.as_array().ok_or_else(|| bad_type("storedValues"))?.clone();
        let fits = |value: &Value| value.as_str().is_some_and(|path| !distinct.contains(path));
        if index.stored_values.len() > STORED_MAX || !index.stored_values.iter().all(fits) {
            return Err(bad_type("storedValues"));
        }
    }
    // An index is what it indexes and how; what it stores besides is no part of that.
    let same = |other: &&Index| {
        other.is_made()
            && other.fields == index.fields
            && other.unique == index.unique
            && other.sparse == index.sparse
    };
    if let Some(found) = collection.indexes.iter().find(same) {
        let told = describe(collection, found);
        return Ok(newly(200, &told, false));
    }
    if collection.indexes.iter().any(|other| other.name == index.name) {
        return Err(Failure::new(1207, format!("duplicate value: index name '{}' is taken", index.name)));
    }
    let told = describe(collection, &index);
    Arc::make_mut(collection).add_index(index)?;
    Ok(newly(201, &told, true))
}

fn newly(status: u16, told: &Value, new: bool) -> Answer {
    let told = told.as_object().into_iter().flatten().map(|(name, value)| (name.to_string(), value.clone()));
    let told = Value::object(told.chain([("isNewlyCreated".to_owned(), Value::Bool(new))]));
    Answer::told(status, &told)
}
