//! `/_api/cursor`

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::execute::{execute, prepare};
use super::no_endpoint;
use super::request::{Answer, Request, bad_type, number, only, switch, text};
use crate::aql::exec::{Limits, Stats};
use crate::error::{Failure, Outcome};
use crate::state::{Cursor, Shared, lock};
use crate::value::{Object, Value};

const BATCH_SIZE: usize = 1_000;

/// How long a cursor lives unless its request says so: on a single server, and on a coordinator.
const TTL: Duration = Duration::from_secs(30);
const TTL_COORDINATOR: Duration = Duration::from_secs(600);

pub(super) async fn route(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(&[])?;
    match (request.method.as_str(), path) {
        ("POST", []) => create(shared, request).await,
        ("POST", [id]) => next(shared, request, id, None),
        ("POST", [id, batch]) => next(shared, request, id, Some(batch)),
        // Gone in 4.x.
        ("PUT", [id]) if lock(&shared.faults).major() < 4 => next(shared, request, id, None),
        ("DELETE", [id]) => {
            let number = cursor_number(id)?;
            let mut server = lock(&shared.server);
            drop_stale(&mut server.cursors);
            match server.cursors.remove(&number) {
                Some(_) => Ok(Answer::ok(202, [("id", Value::str(*id))])),
                None => Err(no_cursor()),
            }
        }
        _ => Err(no_endpoint(request)),
    }
}

fn no_cursor() -> Failure {
    Failure::new(1600, "cursor not found")
}

fn cursor_number(id: &str) -> Outcome<u64> {
    id.parse().map_err(|_| no_cursor())
}

fn drop_stale(cursors: &mut std::collections::HashMap<u64, Cursor>) {
    let now = Instant::now();
    cursors.retain(|_, cursor| cursor.expires > now);
}

/// What a request for a cursor asks for, beside its statement.
struct Wanted {
    query: Arc<str>,
    binds: Arc<Object>,
    count: bool,
    batch_size: usize,
    ttl: Option<Duration>,
    memory: Option<usize>,
    max_runtime: Option<Duration>,
    fail_on_warning: bool,
    full_count: bool,
    retry: bool,
}

/// What the value of an option is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Whole,
    Number,
    /// A switch that is only taken when it is off: what it does is not done here.
    Off,
    /// An object, looked at by itself.
    Object,
    /// Whether the statement is profiled: a switch or a level, only taken when it is off.
    Profile,
    /// Not taken at all.
    Refused,
}

/// What a body may have beside its statement.
const BODY: &[(&str, Kind)] = &[
    ("count", Kind::Switch),
    ("batchSize", Kind::Whole),
    ("ttl", Kind::Number),
    ("memoryLimit", Kind::Whole),
    ("bindVars", Kind::Object),
    ("options", Kind::Object),
    // An option, which some clients send here as well, where the server does not look at it.
    ("allowRetry", Kind::Off),
];

/// The options that are documented for 3.12.
const OPTIONS: &[(&str, Kind)] = &[
    ("fullCount", Kind::Switch),
    ("fillBlockCache", Kind::Switch),
    ("maxNumberOfPlans", Kind::Whole),
    ("maxNodesPerCallstack", Kind::Whole),
    ("maxWarningCount", Kind::Whole),
    ("failOnWarning", Kind::Switch),
    ("allowRetry", Kind::Switch),
    ("stream", Kind::Switch),
    ("cache", Kind::Off),
    ("usePlanCache", Kind::Off),
    ("spillOverThresholdMemoryUsage", Kind::Whole),
    ("spillOverThresholdNumRows", Kind::Whole),
    ("optimizer", Kind::Object),
    ("profile", Kind::Profile),
    ("satelliteSyncWait", Kind::Number),
    ("maxRuntime", Kind::Number),
    ("maxDNFConditionMembers", Kind::Whole),
    ("maxTransactionSize", Kind::Whole),
    ("intermediateCommitSize", Kind::Refused),
    ("intermediateCommitCount", Kind::Refused),
    ("skipInaccessibleCollections", Kind::Off),
    ("allowDirtyReads", Kind::Off),
];

/// Refuses attributes that are not in the table, and values of another kind than it says.
fn check(object: &Object, table: &[(&str, Kind)], what: &str) -> Outcome<()> {
    for (name, value) in object {
        let kind = table.iter().find(|(known, _)| *known == &**name).map(|(_, kind)| *kind);
        let fits = match kind {
            None | Some(Kind::Refused) => {
                return Err(Failure::unknown(10, format!("attribute '{name}' of {what}")));
            }
            Some(Kind::Switch) => matches!(value, Value::Bool(_)),
            Some(Kind::Whole) => matches!(value, Value::Int(number) if *number >= 0),
            Some(Kind::Number) => value.is_number(),
            Some(Kind::Object) => value.as_object().is_some(),
            Some(Kind::Off) if *value == Value::Bool(true) => {
                return Err(Failure::unknown(10, format!("attribute '{name}' of {what}")));
            }
            Some(Kind::Off) => matches!(value, Value::Bool(_)),
            Some(Kind::Profile) => matches!(value, Value::Bool(false) | Value::Int(0)),
        };
        if !fits {
            return Err(Failure::unknown(10, format!("the value of '{name}' of {what}")));
        }
    }
    Ok(())
}

fn wanted(request: &Request) -> Outcome<Wanted> {
    let names: Vec<&str> = BODY.iter().map(|(name, _)| *name).chain(["query"]).collect();
    let body = request.object(&names)?;
    let query = text(&body, "query")?.unwrap_or_default();
    let rest = body.iter().filter(|(name, _)| &***name != "query");
    check(&rest.map(|(name, value)| (name.clone(), value.clone())).collect(), BODY, "body")?;
    let Value::Object(binds) = body.get("bindVars").cloned().unwrap_or(Value::Object(Arc::default())) else {
        return Err(bad_type("bindVars"));
    };
    let batch_size = number(&body, "batchSize")?.map_or(BATCH_SIZE, |size| size as usize);
    if batch_size == 0 {
        return Err(Failure::new(10, "batchSize must not be 0"));
    }
    let options = body.get("options").and_then(Value::as_object).cloned().unwrap_or_default();
    check(&options, OPTIONS, "options")?;
    if let Some(optimizer) = options.get("optimizer").and_then(Value::as_object) {
        only(optimizer, &["rules"], "optimizer")?;
    }
    let seconds = |time: f64| (time > 0.0).then(|| Duration::from_secs_f64(time));
    let wanted = Wanted {
        query,
        binds,
        count: switch(&body, "count")?.unwrap_or_default(),
        batch_size,
        ttl: number(&body, "ttl")?.and_then(seconds),
        memory: number(&body, "memoryLimit")?.filter(|memory| *memory > 0.0).map(|memory| memory as usize),
        max_runtime: number(&options, "maxRuntime")?.and_then(seconds),
        fail_on_warning: switch(&options, "failOnWarning")?.unwrap_or_default(),
        full_count: switch(&options, "fullCount")?.unwrap_or_default(),
        retry: switch(&options, "allowRetry")?.unwrap_or_default(),
    };
    if switch(&options, "stream")? == Some(true) && (wanted.count || wanted.full_count) {
        return Err(Failure::new(10, "cannot use 'count' or 'fullCount' option for a streaming query"));
    }
    Ok(wanted)
}

async fn create(shared: &Arc<Shared>, request: &Request) -> Outcome<Answer> {
    let wanted = wanted(request)?;
    lock(&shared.counters).statement(&wanted.query);
    let prepared = prepare(shared, request, &wanted.query, &wanted.binds)?;
    let (clock_ahead_ms, is_4, refused, intermediate_commits, coordinator) = {
        let faults = lock(&shared.faults);
        let coordinator = faults.role == "COORDINATOR";
        let is_4 = faults.major() >= 4;
        (faults.clock_ahead_ms, is_4, faults.refused.clone(), faults.intermediate_commits, coordinator)
    };
    let start = Instant::now();
    let limits = Limits {
        memory: wanted.memory,
        deadline: wanted.max_runtime.map(|time| start + time),
        fail_on_warning: wanted.fail_on_warning,
        full_count: wanted.full_count,
        clock_ahead_ms,
        is_4,
        held: if wanted.memory.is_some() { wanted.binds.values().map(Value::bytes).sum() } else { 0 },
        refused,
    };
    let ran = execute(shared, request, &prepared, &limits, wanted.max_runtime).await?;
    let bytes: usize = if wanted.memory.is_some() { ran.result.iter().map(Value::bytes).sum() } else { 0 };
    if wanted.memory.is_some_and(|memory| bytes > memory) && prepared.uses.writes.is_empty() {
        return Err(Failure::new(32, "AQL: query would use more memory than allowed"));
    }
    let warnings = ran.warnings.iter().map(|(number, message)| {
        Value::object([("code", Value::Int(i64::from(*number))), ("message", Value::str(message))])
    });
    let extra = Value::object([
        ("warnings", Value::array(warnings.collect())),
        ("stats", stats(&ran.stats, start.elapsed(), intermediate_commits)),
    ]);
    let mut cursor = Cursor {
        database: request.database.clone(),
        rows: ran.result,
        given: 0,
        given_before: 0,
        batch: 0,
        batch_size: wanted.batch_size,
        count: wanted.count,
        extra,
        retry: wanted.retry,
        ttl: wanted.ttl.unwrap_or(if coordinator { TTL_COORDINATOR } else { TTL }),
        expires: Instant::now(),
    };
    let mut server = lock(&shared.server);
    drop_stale(&mut server.cursors);
    let id = server.new_id();
    let answer = batch(&mut cursor, id, 201);
    if cursor.given < cursor.rows.len() {
        cursor.expires = Instant::now() + cursor.ttl;
        server.cursors.insert(id, cursor);
    }
    Ok(answer)
}

fn stats(stats: &Stats, time: Duration, intermediate_commits: i64) -> Value {
    let mut told = vec![
        ("writesExecuted", Value::Int(stats.writes_executed)),
        ("writesIgnored", Value::Int(stats.writes_ignored)),
        ("documentLookups", Value::Int(0)),
        ("seeks", Value::Int(0)),
        ("scannedFull", Value::Int(stats.scanned_full)),
        ("scannedIndex", Value::Int(stats.scanned_index)),
        ("cursorsCreated", Value::Int(0)),
        ("cursorsRearmed", Value::Int(0)),
        ("cacheHits", Value::Int(0)),
        ("cacheMisses", Value::Int(0)),
        ("filtered", Value::Int(stats.filtered)),
        ("httpRequests", Value::Int(0)),
        ("executionTime", Value::double(time.as_secs_f64())),
        ("peakMemoryUsage", Value::count(stats.peak_memory)),
        ("intermediateCommits", Value::Int(intermediate_commits)),
    ];
    told.extend(stats.full_count.map(|count| ("fullCount", Value::Int(count))));
    Value::object(told)
}

/// Gives the next rows of a cursor.
fn batch(cursor: &mut Cursor, id: u64, status: u16) -> Answer {
    let end = (cursor.given + cursor.batch_size).min(cursor.rows.len());
    let rows = cursor.rows[cursor.given..end].to_vec();
    cursor.given_before = cursor.given;
    cursor.given = end;
    cursor.batch += 1;
    let more = end < cursor.rows.len();
    let mut told = vec![("result", Value::array(rows)), ("hasMore", Value::Bool(more))];
    if more || cursor.retry {
        told.push(("id", Value::from(id.to_string())));
    }
    if more {
        told.push(("nextBatchId", Value::from((cursor.batch + 1).to_string())));
    }
    if cursor.count {
        told.push(("count", Value::count(cursor.rows.len())));
    }
    told.push(("cached", Value::Bool(false)));
    // Documented for the first batch alone, though servers have told it with others as well.
    if cursor.batch == 1 {
        told.push(("extra", cursor.extra.clone()));
    }
    Answer::ok(status, told)
}

fn next(shared: &Shared, request: &Request, id: &str, wanted: Option<&str>) -> Outcome<Answer> {
    let number = cursor_number(id)?;
    let mut server = lock(&shared.server);
    drop_stale(&mut server.cursors);
    let cursor = server.cursors.get_mut(&number).ok_or_else(no_cursor)?;
    if cursor.database != request.database {
        return Err(no_cursor());
    }
    if let Some(wanted) = wanted {
        let wanted: u64 = wanted.parse().map_err(|_| no_cursor())?;
        // Only the batch that was given last can be had again, and only where that was asked for.
        if wanted == cursor.batch && cursor.retry {
            cursor.given = cursor.given_before;
            cursor.batch -= 1;
        } else if wanted != cursor.batch + 1 || cursor.given == cursor.rows.len() {
            return Err(no_cursor());
        }
    } else if cursor.given == cursor.rows.len() {
        return Err(no_cursor());
    }
    cursor.expires = Instant::now() + cursor.ttl;
    let answer = batch(cursor, number, 200);
    if cursor.given == cursor.rows.len() && !cursor.retry {
        server.cursors.remove(&number);
    }
    Ok(answer)
}
