//! `/_api/gharial`: named graphs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::request::{Answer, Request, bad_type, only, switch, text};
use super::{collections, demand_admin, demand_writable, no_endpoint};
use crate::error::{Failure, Outcome};
use crate::state::{Server, Shared, lock};
use crate::store::{EdgeDefinition, Graph, Kind, check_key};
use crate::value::{Object, Value};

pub(super) fn route(shared: &Shared, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(&["waitForSync", "dropCollections"])?;
    match (request.method.as_str(), path) {
        ("GET", []) => {
            let server = lock(&shared.server);
            let graphs = &server.database(&request.database)?.graphs;
            let told = graphs.iter().map(|(name, graph)| describe(name, graph));
            Ok(Answer::ok(200, [("graphs", Value::array(told.collect()))]))
        }
        ("GET", [name]) => {
            let server = lock(&shared.server);
            let graph =
                server.database(&request.database)?.graphs.get(*name).ok_or_else(|| not_found(name))?;
            Ok(Answer::ok(200, [("graph", describe(name, graph))]))
        }
        ("GET", [name, kind @ ("vertex" | "edge")]) => {
            let server = lock(&shared.server);
            let graph =
                server.database(&request.database)?.graphs.get(*name).ok_or_else(|| not_found(name))?;
            let edges: Vec<_> = graph.definitions.iter().map(|d| d.collection.clone()).collect();
            let mut names: Vec<Arc<str>> = if *kind == "edge" {
                edges
            } else {
                graph.collections().filter(|name| !edges.contains(name)).collect()
            };
            names.sort();
            names.dedup();
            Ok(Answer::ok(200, [("collections", Value::array(names.into_iter().map(Value::Str).collect()))]))
        }
        ("POST", []) => {
            demand_writable(shared)?;
            demand_admin(shared, request)?;
            create(shared, request)
        }
        ("DELETE", [name]) => {
            demand_writable(shared)?;
            demand_admin(shared, request)?;
            if request.switch("dropCollections")? == Some(true) {
                return Err(Failure::unknown(10, "dropping the collections of a graph"));
            }
            let mut server = lock(&shared.server);
            let removed = server.database_mut(&request.database)?.graphs.remove(*name);
            removed.ok_or_else(|| not_found(name))?;
            Ok(Answer::ok(202, [("removed", Value::Bool(true))]))
        }
        _ => Err(no_endpoint(request)),
    }
}

fn not_found(name: &str) -> Failure {
    Failure::new(1924, format!("graph '{name}' not found"))
}

fn names(names: &[Arc<str>]) -> Value {
    Value::array(names.iter().cloned().map(Value::Str).collect())
}

fn describe(name: &str, graph: &Graph) -> Value {
    let definitions = graph.definitions.iter().map(|definition| {
        Value::object([
            ("collection", Value::Str(definition.collection.clone())),
            ("from", names(&definition.from)),
            ("to", names(&definition.to)),
        ])
    });
    Value::object([
        ("_key", Value::str(name)),
        ("_id", Value::from(format!("_graphs/{name}"))),
        ("_rev", graph.revision.clone()),
        ("edgeDefinitions", Value::array(definitions.collect())),
        ("orphanCollections", names(&graph.orphans)),
        ("name", Value::str(name)),
    ])
}

fn list(object: &Object, name: &str) -> Outcome<Vec<Arc<str>>> {
    let Some(values) = object.get(name) else { return Ok(Vec::new()) };
    let texts: Option<Vec<Arc<str>>> = values
        .as_array()
        .and_then(|values| values.iter().map(|value| value.as_str().map(Arc::from)).collect());
    texts
        .map(|mut texts| {
            texts.sort();
            texts
        })
        .ok_or_else(|| bad_type(name))
}

fn create(shared: &Shared, request: &Request) -> Outcome<Answer> {
    let body = request.object(&[
        "name",
        "edgeDefinitions",
        "orphanCollections",
        "isSmart",
        "isDisjoint",
        "options",
    ])?;
    if switch(&body, "isSmart")?.or(switch(&body, "isDisjoint")?) == Some(true) {
        return Err(Failure::unknown(10, "smart graphs"));
    }
    if let Some(options) = body.get("options") {
        let options = options.as_object().ok_or_else(|| bad_type("options"))?;
        only(options, &["numberOfShards", "replicationFactor", "writeConcern"], "options")?;
    }
    let name = text(&body, "name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Failure::new(1922, "missing graph name"))?;
    check_key(&Value::Str(name.clone()))?;
    let mut definitions = Vec::new();
    for definition in body.get("edgeDefinitions").and_then(Value::as_array).into_iter().flatten() {
        let malformed = || Failure::new(1923, "malformed edge definition");
        let definition = definition.as_object().ok_or_else(malformed)?;
        only(definition, &["collection", "from", "to"], "edge definition")?;
        let collection = text(definition, "collection")?.ok_or_else(malformed)?;
        let (from, to) = (list(definition, "from")?, list(definition, "to")?);
        if from.is_empty() || to.is_empty() {
            return Err(malformed());
        }
        definitions.push(EdgeDefinition { collection, from, to });
    }
    let edges: BTreeSet<&str> = definitions.iter().map(|definition| &*definition.collection).collect();
    if edges.len() < definitions.len() {
        return Err(Failure::new(1920, "multi use of edge collection in edge def"));
    }
    let orphans = list(&body, "orphanCollections")?;
    let mut server = lock(&shared.server);
    let graphs = &server.database(&request.database)?.graphs;
    if graphs.contains_key(&name) {
        return Err(Failure::new(1925, format!("graph '{name}' already exists")));
    }
    for other in graphs.values().flat_map(|graph| &graph.definitions) {
        if definitions
            .iter()
            .any(|definition| definition.collection == other.collection && definition != other)
        {
            return Err(Failure::new(
                1921,
                format!("{} collection is used in another graph", other.collection),
            ));
        }
    }
    let graph = Graph { definitions, orphans, revision: Value::from(format!("_g{}", server.new_id())) };
    ensure_collections(&mut server, &request.database, &graph)?;
    let told = describe(&name, &graph);
    server.database_mut(&request.database)?.graphs.insert(name, graph);
    let status = if request.switch("waitForSync")? == Some(true) { 201 } else { 202 };
    Ok(Answer::ok(status, [("graph", told)]))
}

/// Makes the collections of a graph that are not there.
fn ensure_collections(server: &mut Server, database: &str, graph: &Graph) -> Outcome<()> {
    let edges: Vec<Arc<str>> =
        graph.definitions.iter().map(|definition| definition.collection.clone()).collect();
    for name in graph.collections() {
        let kind = if edges.contains(&name) { Kind::Edge } else { Kind::Document };
        match server.database(database)?.collections.get(&name) {
            None => drop(collections::make(server, database, &name, kind)?.len()),
            Some(found) if kind == Kind::Edge && found.kind != Kind::Edge => {
                return Err(Failure::new(1218, format!("{name} is no edge collection")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
