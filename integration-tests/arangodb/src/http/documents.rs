//! `/_api/document`: documents one by one, and batches of them, of which each element stands for itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::{Access, demand_collection};
use super::execute::{is_conflict, writes_only};
use super::request::{Answer, Request, failure_value};
use super::{demand_no_conflict, no_endpoint, transactions};
use crate::aql::ast::{Overwrite, WriteOptions};
use crate::aql::check::Uses;
use crate::aql::parser::overwrite_mode;
use crate::error::{Failure, Outcome};
use crate::state::{Shared, lock};
use crate::store::{Database, Session, Written, not_found};
use crate::value::Value;

/// How long a single document waits for its key. Batches do not wait.
const KEY_WAIT: Duration = Duration::from_secs(1);
const KEY_POLL: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Replace,
    Remove,
}

/// What is told of what was written.
struct Told {
    old: bool,
    new: bool,
    silent: bool,
    sync: bool,
}

pub(super) async fn route(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Outcome<Answer> {
    let [collection, key @ ..] = path else { return Err(no_endpoint(request)) };
    let collection: Arc<str> = Arc::from(*collection);
    let get = request.switch("onlyget")? == Some(true);
    match (request.method.as_str(), key) {
        ("GET" | "HEAD", [key]) => read_one(shared, request, &collection, key),
        ("PUT", []) if get => read_many(shared, request, &collection),
        ("POST", []) => write(shared, request, &collection, None, Verb::Insert).await,
        ("PATCH", []) => write(shared, request, &collection, None, Verb::Update).await,
        ("PUT", []) => write(shared, request, &collection, None, Verb::Replace).await,
        ("DELETE", []) => write(shared, request, &collection, None, Verb::Remove).await,
        ("PATCH", [key]) => write(shared, request, &collection, Some(key), Verb::Update).await,
        ("PUT", [key]) => write(shared, request, &collection, Some(key), Verb::Replace).await,
        ("DELETE", [key]) => write(shared, request, &collection, Some(key), Verb::Remove).await,
        _ => Err(no_endpoint(request)),
    }
}

fn missing() -> Failure {
    Failure::new(1202, "document not found")
}

/// Does something with the documents of a collection, by itself or as part of a transaction.
fn with<T>(
    shared: &Shared,
    request: &Request,
    uses: &Uses,
    act: impl FnOnce(&mut Session<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let refused = lock(&shared.faults).refused.clone();
    let act = |session: &mut Session<'_>| {
        session.refused = refused;
        act(session)
    };
    let mut server = lock(&shared.server);
    for name in uses.reads.union(&uses.writes) {
        let wanted = if uses.writes.contains(name) { Access::Write } else { Access::Read };
        if !server.database(&request.database)?.collections.contains_key(name) {
            return Err(not_found(name));
        }
        demand_collection(&server, &request.user, &request.database, name, wanted)?;
    }
    if let Some(id) = request.transaction()? {
        return transactions::with(&mut server, &request.database, id, uses, |session, _| act(session));
    }
    let id = server.new_id();
    let Database { collections, locks, commits, .. } = server.database_mut(&request.database)?;
    let mut session = Session::new(collections, locks, id, *commits + 1);
    match act(&mut session) {
        Ok(done) => {
            *commits += u64::from(!session.redo.is_empty());
            Ok(done)
        }
        Err(failure) => {
            session.undo_to(0)?;
            Err(failure)
        }
    }
}

fn reads_only(collection: &Arc<str>) -> Uses {
    Uses { reads: [collection.clone()].into(), ..Uses::default() }
}

fn read_one(shared: &Shared, request: &Request, collection: &Arc<str>, key: &str) -> Outcome<Answer> {
    request.only_query(&[])?;
    let found = with(shared, request, &reads_only(collection), |session| {
        Ok(session.collection(collection)?.get(key).map(|stored| stored.document.clone()))
    })?;
    let document = found.ok_or_else(missing)?;
    let revision = format!("\"{}\"", document.get("_rev").to_text());
    if request.header("if-none-match").is_some_and(|seen| seen == revision) {
        return Ok(Answer::page(304, "application/json", "").header("etag", revision));
    }
    if request.header("if-match").is_some_and(|wanted| wanted != revision) {
        return Err(Failure::new(1200, "conflict, _rev values do not match").status(412));
    }
    let mut answer = Answer::json(200, &document).header("etag", revision);
    if request.method == "HEAD" {
        answer.body.clear();
    }
    Ok(answer)
}

fn read_many(shared: &Shared, request: &Request, collection: &Arc<str>) -> Outcome<Answer> {
    request.only_query(&["onlyget", "ignoreRevs"])?;
    let Value::Array(wanted) = request.json()? else { return Err(Failure::new(600, "expecting an array")) };
    let found = with(shared, request, &reads_only(collection), |session| {
        let collection = session.collection(collection)?;
        let of = |wanted: &Value| {
            let key = if wanted.as_object().is_some() { wanted.get("_key") } else { wanted.clone() };
            let found = key.as_str().and_then(|key| collection.get(key));
            found.map_or_else(|| failure_value(&missing(), false), |stored| stored.document.clone())
        };
        Ok(wanted.iter().map(of).collect::<Vec<_>>())
    })?;
    Ok(with_error_codes(Answer::json(200, &Value::array(found.clone())), &found))
}

/// Tells how many elements failed with which number.
fn with_error_codes(answer: Answer, elements: &[Value]) -> Answer {
    let mut codes: BTreeMap<String, i64> = BTreeMap::new();
    for element in elements.iter().filter(|element| element.get("error").is_true()) {
        *codes.entry(element.get("errorNum").to_text().to_string()).or_default() += 1;
    }
    if codes.is_empty() {
        return answer;
    }
    let codes = Value::object(codes.into_iter().map(|(number, count)| (number, Value::Int(count))));
    answer.header("x-arango-error-codes", codes.to_json())
}

fn options(request: &Request, verb: Verb, is_4: bool) -> Outcome<(WriteOptions, Told)> {
    const COMMON: &[&str] = &["waitForSync", "returnOld", "silent", "refillIndexCaches", "overwrite"];
    let own: &[&str] = match verb {
        Verb::Insert => &["returnNew", "overwriteMode", "keepNull", "mergeObjects"],
        Verb::Update => &["returnNew", "keepNull", "mergeObjects", "ignoreRevs"],
        Verb::Replace => &["returnNew", "ignoreRevs", "onlyget"],
        Verb::Remove => &["ignoreRevs"],
    };
    request.only_query(&[COMMON, own].concat())?;
    // Of no meaning here, and sent by clients that send all of their options always.
    if verb != Verb::Insert && request.switch("overwrite")? == Some(true) {
        return Err(Failure::unknown(10, "query parameter 'overwrite' where nothing is inserted"));
    }
    let mut options = WriteOptions {
        keep_null: request.switch("keepNull")?.unwrap_or(true),
        merge_objects: request.switch("mergeObjects")?.unwrap_or(true),
        ignore_revs: request.switch("ignoreRevs")?.unwrap_or(true),
        ..WriteOptions::default()
    };
    if request.switch("overwrite")? == Some(true) {
        if is_4 {
            return Err(Failure::unknown(10, "query parameter 'overwrite', which is gone"));
        }
        options.overwrite = Overwrite::Replace;
    }
    if let Some(mode) = request.query.get("overwriteMode") {
        options.overwrite = overwrite_mode(mode).ok_or_else(|| Failure::unknown(10, "the overwriteMode"))?;
        // Whether nulls are kept by default is not what is documented, in some versions.
        if options.overwrite == Overwrite::Update && !request.query.contains_key("keepNull") {
            return Err(Failure::unknown(10, "overwriteMode=update without keepNull"));
        }
    }
    let told = Told {
        old: request.switch("returnOld")?.unwrap_or_default(),
        new: request.switch("returnNew")?.unwrap_or_default(),
        silent: request.switch("silent")?.unwrap_or_default(),
        sync: request.switch("waitForSync")?.unwrap_or_default(),
    };
    Ok((options, told))
}

async fn write(
    shared: &Arc<Shared>,
    request: &Request,
    collection: &Arc<str>,
    key: Option<&str>,
    verb: Verb,
) -> Outcome<Answer> {
    demand_no_conflict(shared, request)?;
    let (options, told) = options(request, verb, lock(&shared.faults).major() >= 4)?;
    let body = if verb == Verb::Remove && key.is_some() { Value::Null } else { request.json()? };
    let none = Default::default();
    let _guards = match request.transaction()? {
        Some(_) => Vec::new(),
        None => shared.guards(&request.database, &[collection.clone()].into(), &none, KEY_WAIT).await?,
    };
    let status = match (told.sync, verb) {
        (true, Verb::Remove) => 200,
        (true, _) => 201,
        (false, _) => 202,
    };
    if let (Value::Array(elements), None) = (&body, key) {
        if told.silent {
            return Err(Failure::unknown(10, "silent batches, of which errors cannot be told apart"));
        }
        let results: Vec<Value> = elements
            .iter()
            .map(|element| {
                let written = one(shared, request, collection, element, element, verb, &options);
                written.map_or_else(
                    |failure| failure_value(&failure, false),
                    |written| tell(&written, &told, verb),
                )
            })
            .collect();
        let unknown =
            results.iter().find(|r| r.get("errorMessage").to_text().starts_with("unknown to the double"));
        if let Some(unknown) = unknown {
            return Err(Failure::unknown(10, unknown.get("errorMessage").to_text().to_string()));
        }
        return Ok(with_error_codes(Answer::json(status, &Value::array(results.clone())), &results));
    }
    let target = match (key, request.header("if-match")) {
        (None, _) => body.clone(),
        (Some(key), None) => Value::str(key),
        (Some(key), Some(revision)) => {
            Value::object([("_key", Value::str(key)), ("_rev", Value::str(revision.trim_matches('"')))])
        }
    };
    let options =
        WriteOptions { ignore_revs: options.ignore_revs && request.header("if-match").is_none(), ..options };
    let start = Instant::now();
    let written = loop {
        match one(shared, request, collection, &target, &body, verb, &options) {
            Err(failure) if is_conflict(&failure) && failure.message.contains("_rev") => {
                return Err(failure.status(412));
            }
            Err(failure)
                if is_conflict(&failure)
                    && start.elapsed() < KEY_WAIT
                    && request.transaction()?.is_none() =>
            {
                tokio::time::sleep(KEY_POLL).await;
            }
            written => break written?,
        }
    };
    if told.silent {
        return Ok(Answer::json(status, &Value::object::<&str>([])));
    }
    let told = tell(&written, &told, verb);
    let place =
        format!("/_db/{}/_api/document/{collection}/{}", request.database, told.get("_key").to_text());
    let revision = format!("\"{}\"", told.get("_rev").to_text());
    Ok(Answer::json(status, &told).header("etag", revision).header("location", place))
}

fn one(
    shared: &Shared,
    request: &Request,
    collection: &Arc<str>,
    target: &Value,
    body: &Value,
    verb: Verb,
    options: &WriteOptions,
) -> Outcome<Written> {
    with(shared, request, &writes_only(collection), |session| match verb {
        Verb::Insert => {
            let written = session.insert(collection, body, options)?;
            // What was there already is told as it is.
            if written.new.is_null() {
                let key = body.get("_key").to_text();
                let found = session.collection(collection)?.get(&key).map(|stored| stored.document.clone());
                return Ok(Written { old: Value::Null, new: found.unwrap_or_default() });
            }
            Ok(written)
        }
        Verb::Update | Verb::Replace => {
            session.write(collection, target, body, verb == Verb::Replace, options)
        }
        Verb::Remove => session.remove(collection, target, options),
    })
}

fn tell(written: &Written, told: &Told, verb: Verb) -> Value {
    let document = if verb == Verb::Remove { &written.old } else { &written.new };
    let mut answer: Vec<(&str, Value)> =
        ["_id", "_key", "_rev"].into_iter().map(|name| (name, document.get(name))).collect();
    if verb != Verb::Remove && !written.old.is_null() {
        answer.push(("_oldRev", written.old.get("_rev")));
    }
    if told.old && !written.old.is_null() {
        answer.push(("old", written.old.clone()));
    }
    if told.new && verb != Verb::Remove {
        answer.push(("new", written.new.clone()));
    }
    Value::object(answer)
}
